//! Which workers live and what became of jobs, as the aggregator knows it.

use std::collections::HashSet;

use messages::{Platform, Timestamp};
use pipeline::{Roster, Target};
use planner::{Barred, Incompatible, Withheld};
use store::{IncompatibleRow, ResultRow, WithheldRows, WorkerRow};
use tracing::warn;

use crate::api::Api;

/// A worker that was not heard of for this long, in seconds, is taken for gone; heartbeats come every 5.
const SILENT_S_MAX: i64 = 30;
/// Results that are looked through for what the updater may not have learned of yet, the latest; the aggregator's own
/// limit.
const RESULTS_MAX: usize = 1_000;

/// Asks the aggregator.
pub(crate) struct ApiRoster(pub(crate) Api);

impl Roster for ApiRoster {
    async fn unserved(&self, target: &Target) -> Option<String> {
        match self.0.get::<Vec<WorkerRow>>("/api/workers").await {
            Ok(workers) => why_unserved(&workers, target, Timestamp::now()),
            Err(error) => {
                warn!(%error, "whether a worker takes the jobs is not known");
                None
            }
        }
    }

    async fn web_places(&self) -> Vec<(Platform, String)> {
        match self.0.get::<Vec<WorkerRow>>("/api/workers").await {
            Ok(workers) => web_places(&workers, Timestamp::now()),
            Err(error) => {
                warn!(%error, "which browsers there are is not known");
                Vec::new()
            }
        }
    }

    async fn barred(&self) -> Barred {
        let known = async {
            let withheld: WithheldRows = self.0.get("/api/withheld").await?;
            let workers: Vec<WorkerRow> = self.0.get("/api/workers").await?;
            let results: Vec<ResultRow> = self.0.get(&format!("/api/results?limit={RESULTS_MAX}")).await?;
            anyhow::Ok((withheld, workers, results))
        };
        match known.await {
            Ok((withheld, workers, results)) => barred(withheld, &workers, &results),
            Err(error) => {
                warn!(%error, "what waits, runs or failed elsewhere is not known");
                Barred::default()
            }
        }
    }
}

/// What waits, runs on these workers, was measured just now, or failed a short while ago, and what devices refuse.
fn barred(withheld: WithheldRows, workers: &[WorkerRow], results: &[ResultRow]) -> Barred {
    let running = workers.iter().flat_map(|worker| &worker.running).map(|job| job.case.clone());
    let queued = withheld.queued.into_iter().chain(running).map(|configuration| (configuration, Withheld::Queued));
    let failed = withheld.failed.into_iter().chain(withheld.dead);
    let failed = failed.map(|configuration| (configuration, Withheld::Failed));
    let learned_from = results.iter().filter(|row| row.accepted == Some(true));
    Barred {
        configurations: queued.chain(failed).collect(),
        incompatible: withheld.incompatible.into_iter().filter_map(incompatible).collect::<HashSet<_>>(),
        measured: learned_from.filter_map(|row| Some((row.device.clone()?, text(row)?))).collect(),
    }
}

/// `None` for a platform that this build does not know, and so does not propose.
fn incompatible(row: IncompatibleRow) -> Option<Incompatible> {
    Some(Incompatible { model: row.model, platform: row.platform.parse().ok()?, device: row.device })
}

/// A benchmark's configuration as it is written everywhere.
fn text(row: &ResultRow) -> Option<String> {
    let of = |name: &str, size: Option<u32>| size.map_or_else(String::new, |size| format!(" {name} {size}"));
    let browser = row.browser.as_ref().map_or_else(String::new, |browser| format!(" {browser}"));
    Some(format!(
        "{} {} {} batch {}{}{} threads {}{browser}",
        row.model.as_ref()?,
        row.platform,
        row.precision.as_ref()?,
        row.batch_size?,
        of("sequence", row.sequence_length),
        of("image", row.image_size),
        row.threads?
    ))
}

/// Every browser of these workers, with every platform for browsers that its worker takes.
fn web_places(workers: &[WorkerRow], now: Timestamp) -> Vec<(Platform, String)> {
    let mut places = Vec::new();
    for worker in live(workers, now).into_iter().filter(|worker| !worker.draining) {
        let platforms = Platform::WEB.into_iter().filter(|web| worker.platforms.iter().any(|of| of == web.as_str()));
        places.extend(platforms.flat_map(|platform| worker.browsers.iter().map(move |of| (platform, of.clone()))));
    }
    places.sort();
    places.dedup();
    places
}

fn live(workers: &[WorkerRow], now: Timestamp) -> Vec<&WorkerRow> {
    // All moments are written alike, so that texts compare as moments do.
    let since = Timestamp::from_micros(now.as_micros() - SILENT_S_MAX * 1_000_000).to_string();
    workers.iter().filter(|worker| worker.last_seen_at >= since).collect()
}

/// Says why none of these workers takes jobs of a target; `None` if one does.
fn why_unserved(workers: &[WorkerRow], target: &Target, now: Timestamp) -> Option<String> {
    let Target { platform, browser } = target;
    let live = live(workers, now);
    let takes = |worker: &&WorkerRow| {
        !worker.draining
            && worker.platforms.iter().any(|of| of == platform.as_str())
            && browser.as_ref().is_none_or(|browser| worker.browsers.contains(browser))
    };
    if live.iter().any(takes) {
        return None;
    }
    let others: Vec<String> =
        live.iter().map(|worker| format!("{} ({})", worker.worker_id, worker.platforms.join(", "))).collect();
    let others = if others.is_empty() { "none is live".to_owned() } else { format!("live: {}", others.join(", ")) };
    let within = browser.as_ref().map_or_else(String::new, |browser| format!(" in {browser}"));
    Some(format!("no live worker takes {platform}{within}; {others}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(platform: &str, last_seen_s: i64, draining: bool) -> WorkerRow {
        WorkerRow {
            worker_id: format!("host:{last_seen_s}"),
            host: "host".to_owned(),
            pid: 1,
            version: "0.1.0".to_owned(),
            started_at: String::new(),
            last_seen_at: Timestamp::from_micros(last_seen_s * 1_000_000).to_string(),
            platforms: vec![platform.to_owned()],
            memory_mb: None,
            device_memory_mb: None,
            browsers: Vec::new(),
            tags: Vec::new(),
            concurrency: 1,
            draining,
            running: Vec::new(),
            jobs_done: 0,
        }
    }

    fn check(workers: &[WorkerRow], expected: Option<&str>) {
        check_target(workers, &Target { platform: Platform::Cpu, browser: None }, expected);
    }

    fn check_target(workers: &[WorkerRow], target: &Target, expected: Option<&str>) {
        let now = Timestamp::from_micros(1_000 * 1_000_000);
        assert_eq!(why_unserved(workers, target, now).as_deref(), expected);
    }

    #[test]
    fn what_is_queued_failed_or_was_measured_lately_is_withheld_by_the_name_that_a_proposal_has() {
        let row: ResultRow = serde_json::from_value(serde_json::json!({
            "job_id": "j", "run_id": "r", "case": "c", "kind": "benchmark", "status": "passed", "platform": "cpu",
            "priority": "low", "attempt": 1, "worker_id": "w", "device": "Test CPU", "submitted_at": "", "started_at": "",
            "finished_at": "", "queue_wait_s": 0.0, "duration_s": 0.0, "accepted": true,
            "model": "bert-tiny", "model_sha256": null, "backend": "onnxruntime", "precision": "fp32", "batch_size": 4,
            "sequence_length": 128, "threads": 2, "predictions": []
        }))
        .expect("a row");
        let barred = |row: &ResultRow| {
            let [queued, dead, failed] = ["queued", "dead", "failed"].map(|name| vec![name.to_owned()]);
            let rows = WithheldRows { queued, dead, failed, incompatible: Vec::new() };
            super::barred(rows, &[], std::slice::from_ref(row))
        };
        let Barred { configurations, measured, .. } = barred(&row);
        let why = [("queued", Withheld::Queued), ("dead", Withheld::Failed), ("failed", Withheld::Failed)];
        assert_eq!(configurations, why.map(|(name, why)| (name.to_owned(), why)).into());
        let name = "bert-tiny cpu fp32 batch 4 sequence 128 threads 2".to_owned();
        assert_eq!(measured, [("Test CPU".to_owned(), name)].into(), "the updater may not have it yet");
        let not_trusted = ResultRow { accepted: Some(false), ..row };
        assert_eq!(barred(&not_trusted).measured, HashSet::new());
    }

    #[test]
    fn live_workers_have_browsers() {
        let browsing = |last_seen_s: i64, platforms: &[&str], browsers: &[&str]| WorkerRow {
            platforms: platforms.iter().map(|name| (*name).to_owned()).collect(),
            browsers: browsers.iter().map(|name| (*name).to_owned()).collect(),
            ..worker("cpu", last_seen_s, false)
        };
        let workers = [
            worker("cpu", 990, false),
            browsing(990, &["wasm", "webgpu"], &["firefox"]),
            browsing(995, &["wasm"], &["firefox", "chromium"]),
            browsing(900, &["webnn"], &["edge"]),
        ];
        let expected = [(Platform::Wasm, "chromium"), (Platform::Wasm, "firefox"), (Platform::Webgpu, "firefox")];
        let mut found = web_places(&workers, Timestamp::from_micros(1_000 * 1_000_000));
        found.sort_by_key(|(platform, browser)| (platform.to_string(), browser.clone()));
        assert_eq!(found, expected.map(|(platform, browser)| (platform, browser.to_owned())));
    }

    #[test]
    fn only_a_live_worker_of_the_platform_serves_it() {
        check(&[worker("cpu", 990, false)], None);
        check(&[], Some("no live worker takes cpu; none is live"));
        check(&[worker("cpu", 900, false)], Some("no live worker takes cpu; none is live"));
        check(&[worker("cuda", 995, false)], Some("no live worker takes cpu; live: host:995 (cuda)"));
        check(&[worker("cpu", 995, true)], Some("no live worker takes cpu; live: host:995 (cpu)"));
    }

    #[test]
    fn only_a_worker_with_the_browser_serves_what_names_one() {
        let worker = WorkerRow { browsers: vec!["firefox".to_owned()], ..worker("wasm", 990, false) };
        let within = |browser: &str| Target { platform: Platform::Wasm, browser: Some(browser.to_owned()) };
        check_target(std::slice::from_ref(&worker), &within("firefox"), None);
        check_target(
            &[worker],
            &within("chromium"),
            Some("no live worker takes wasm in chromium; live: host:990 (wasm)"),
        );
    }
}
