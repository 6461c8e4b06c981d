//! Why no live worker takes certain jobs, for people.

use messages::Requirements;
use store::WorkerRow;

/// Workers that a reason names; the others are counted.
const NAMED_MAX: usize = 5;

/// Says why none of these live workers can take jobs of this kind; `None` if one can.
pub(super) fn why_none_takes(platform: &str, wanted: &Requirements, live: &[WorkerRow]) -> Option<String> {
    let takes = |worker: &&WorkerRow| !worker.draining && worker.platforms.iter().any(|taken| taken == platform);
    let lacking: Vec<(&str, Option<String>)> =
        live.iter().filter(takes).map(|worker| (worker.worker_id.as_str(), wanted.unmet_by(&worker.offer()))).collect();
    if lacking.iter().any(|(_, lack)| lack.is_none()) {
        return None;
    }
    if lacking.is_empty() {
        let others = live.iter().map(|worker| {
            let draining = if worker.draining { "; draining" } else { "" };
            format!("{} ({}{draining})", worker.worker_id, worker.platforms.join(", "))
        });
        let others = named(others, ", ");
        let live = if others.is_empty() { "none is live".to_owned() } else { format!("live: {others}") };
        return Some(format!("no live worker takes {platform}; {live}"));
    }
    let lacks = lacking.iter().map(|(worker, lack)| format!("{worker}: {}", lack.as_deref().unwrap_or_default()));
    Some(format!("no live worker for {platform} has {} ({})", in_words(wanted), named(lacks, "; ")))
}

/// What is asked for; empty if nothing is.
pub(super) fn in_words(wanted: &Requirements) -> String {
    let memory = wanted.memory_mb_min.map(|mb| format!("{mb} MB of memory"));
    let device_memory = wanted.device_memory_mb_min.map(|mb| format!("{mb} MB of device memory"));
    let browser = wanted.browser.as_ref().map(|name| format!("browser {name}"));
    let tags = wanted.tags.iter().map(|tag| format!("tag {tag}"));
    memory.into_iter().chain(device_memory).chain(browser).chain(tags).collect::<Vec<_>>().join(", ")
}

/// The first few, and how many more there are.
fn named(all: impl ExactSizeIterator<Item = String>, separator: &str) -> String {
    let more = all.len().saturating_sub(NAMED_MAX);
    let mut named: Vec<String> = all.take(NAMED_MAX).collect();
    if more > 0 {
        named.push(format!("and {more} more"));
    }
    named.join(separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(id: &str, platforms: &[&str], tags: &[&str]) -> WorkerRow {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        WorkerRow {
            worker_id: id.to_owned(),
            host: "host".to_owned(),
            pid: 1,
            version: "0.1.0".to_owned(),
            started_at: String::new(),
            last_seen_at: String::new(),
            platforms: owned(platforms),
            memory_mb: Some(16_000),
            device_memory_mb: None,
            browsers: Vec::new(),
            tags: owned(tags),
            concurrency: 1,
            draining: false,
            running: Vec::new(),
            jobs_done: 0,
        }
    }

    fn tagged(tag: &str) -> Requirements {
        Requirements { tags: vec![tag.to_owned()], ..Requirements::default() }
    }

    #[test]
    fn one_that_has_everything_is_enough() {
        let live = [worker("host:1", &["cpu"], &[]), worker("host:2", &["cuda", "cpu"], &["lab"])];
        assert_eq!(why_none_takes("cpu", &tagged("lab"), &live), None);
        assert_eq!(why_none_takes("cpu", &Requirements::default(), &live), None);
    }

    #[test]
    fn a_missing_platform_is_told_with_those_that_there_are() {
        let nothing = Requirements::default();
        let draining = WorkerRow { draining: true, ..worker("host:2", &["cuda"], &[]) };
        for (live, reason) in [
            (vec![], "no live worker takes cuda; none is live"),
            (vec![worker("host:1", &["cpu"], &[])], "no live worker takes cuda; live: host:1 (cpu)"),
            (
                vec![worker("host:1", &["cpu", "wasm"], &[]), draining],
                "no live worker takes cuda; live: host:1 (cpu, wasm), host:2 (cuda; draining)",
            ),
        ] {
            assert_eq!(why_none_takes("cuda", &nothing, &live).as_deref(), Some(reason));
        }
    }

    #[test]
    fn what_each_worker_lacks_is_told() {
        let live = [worker("host:1", &["cpu"], &[]), worker("host:2", &["cpu"], &["quiet"])];
        assert_eq!(
            why_none_takes("cpu", &tagged("lab"), &live[..1]).as_deref(),
            Some("no live worker for cpu has tag lab (host:1: no tag lab)")
        );
        let wanted =
            Requirements { memory_mb_min: Some(32_000), browser: Some("firefox".to_owned()), ..tagged("quiet") };
        assert_eq!(
            why_none_takes("cpu", &wanted, &live).as_deref(),
            Some(
                "no live worker for cpu has 32000 MB of memory, browser firefox, tag quiet (host:1: 16000 MB of memory, \
                 32000 wanted, no browser firefox, no tag quiet; host:2: 16000 MB of memory, 32000 wanted, no browser \
                 firefox)"
            )
        );
    }

    #[test]
    fn a_large_fleet_is_not_listed_whole() {
        let live: Vec<_> = (1..=7).map(|n| worker(&format!("host:{n}"), &["cpu"], &[])).collect();
        let reason = why_none_takes("cuda", &Requirements::default(), &live).expect("no cuda");
        assert!(reason.ends_with("host:5 (cpu), and 2 more"), "{reason}");
    }
}
