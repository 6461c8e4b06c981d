//! `augur browsers status`: the pool that runs on this machine, as it says itself.

use std::{io, time::Duration};

use anyhow::{Context as _, anyhow, bail};
use browsers::Address;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    context::Context,
    exit::Exit,
    output::{self, Format},
};

/// Longest wait for the pool's answer; it comes from memory.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What of the pool's status a person wants to see.
#[derive(Debug, Deserialize)]
struct Shown {
    pid: u32,
    uptime_s: f64,
    sessions: Vec<Session>,
    breakers: Vec<Breaker>,
    speeds: Vec<Speed>,
    missing: Vec<(String, String)>,
    waiting: usize,
    running: usize,
    memory_mb: f64,
    memory_mb_max: f64,
    counters: Counters,
}

#[derive(Debug, Deserialize)]
struct Session {
    browser: String,
    state: String,
    pid: Option<i32>,
    jobs: u32,
    memory_mb: f64,
    tabs: Vec<Tab>,
}

#[derive(Debug, Deserialize)]
struct Tab {
    platform: Option<String>,
    busy: bool,
}

#[derive(Debug, Deserialize)]
struct Breaker {
    browser: String,
    platform: String,
    state: String,
    opened: u64,
}

#[derive(Debug, Deserialize)]
struct Speed {
    family: String,
    browser: String,
    platform: String,
    relative_time: f64,
    models: usize,
    jobs: u64,
}

#[derive(Debug, Deserialize)]
struct Counters {
    jobs_done: u64,
    jobs_failed: u64,
    sessions_started: u64,
    sessions_recycled: u64,
    held_beyond_ms_max: u64,
    watchdog_ended: u64,
    poisoned: u64,
    reaped: u64,
    recoveries: Vec<(String, u64)>,
}

pub(super) async fn run(format: Format, context: &Context) -> anyhow::Result<Exit> {
    let status = ask(context).await?;
    match format {
        Format::Json => output::print(&serde_json::to_string_pretty(&status)?)?,
        Format::Table => {
            let shown = Shown::deserialize(&status).context("the pool's status is of another version of augur")?;
            output::print(&text(&shown))?;
        }
    }
    Ok(Exit::Done)
}

/// Asks the pool whose address lies in the state directory.
async fn ask(context: &Context) -> anyhow::Result<Value> {
    let path = context.state_directory()?.join("browsers").join(Address::FILE);
    let address = match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice::<Address>(&bytes)
            .with_context(|| format!("failed to understand {}", path.display()))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("no browser pool runs with this state directory; `augur browsers start` starts one")
        }
        Err(error) => return Err(error).with_context(|| format!("failed to read {}", path.display())),
    };
    let client = reqwest::Client::builder().timeout(ANSWER_MAX).no_proxy().build()?;
    let answer = client.get(&address.status_url).send().await.and_then(reqwest::Response::error_for_status);
    let answer = answer.map_err(|error| {
        anyhow!(error)
            .context(format!("the browser pool (pid {}) does not answer; it may have been killed", address.pid))
    })?;
    Ok(answer.json().await?)
}

fn text(shown: &Shown) -> String {
    let mut table = output::table(["browser", "state", "pid", "jobs", "memory MB", "tabs"]);
    for session in &shown.sessions {
        table.add_row([
            session.browser.clone(),
            session.state.clone(),
            output::text(session.pid),
            session.jobs.to_string(),
            output::number(Some(session.memory_mb)),
            session.tabs.iter().map(tab).collect::<Vec<_>>().join(", "),
        ]);
    }
    let open = shown.breakers.iter().filter(|breaker| breaker.state != "closed" || breaker.opened > 0);
    let breakers = open.map(|Breaker { browser, platform, state, opened }| {
        format!("breaker of {platform} in {browser}: {state}, opened {opened} times")
    });
    let missing = shown.missing.iter().map(|(browser, reason)| format!("{browser}: {reason}"));
    let counters = &shown.counters;
    let taken = counters.recoveries.iter().filter(|(_, times)| *times > 0);
    let taken: Vec<String> = taken.map(|(rung, times)| format!("{rung} {times}")).collect();
    let mut lines = vec![
        format!(
            "pool {} up {:.0} s: {} running, {} waiting, {} of {} MB",
            shown.pid,
            shown.uptime_s,
            shown.running,
            shown.waiting,
            output::number(Some(shown.memory_mb)),
            output::number(Some(shown.memory_mb_max))
        ),
        format!(
            "jobs: {} done, {} failed, {} ended by the watchdog, {} poison",
            counters.jobs_done, counters.jobs_failed, counters.watchdog_ended, counters.poisoned
        ),
        format!(
            "browsers: {} started, {} recycled; {} processes left by an earlier pool ended",
            counters.sessions_started, counters.sessions_recycled, counters.reaped
        ),
        format!("slots: held for at most {} ms beyond a job's timeout", counters.held_beyond_ms_max),
        format!("recoveries: {}", if taken.is_empty() { "none".to_owned() } else { taken.join(", ") }),
    ];
    lines.extend(breakers);
    lines.extend(missing);
    if !shown.sessions.is_empty() {
        lines.push(table.to_string());
    }
    if !shown.speeds.is_empty() {
        lines.push("learned from jobs here, and what decides between browsers where a job names none:".to_owned());
        lines.push(speeds(&shown.speeds).to_string());
    }
    lines.join("\n")
}

/// What each place takes for the models of a family, the fastest first.
fn speeds(speeds: &[Speed]) -> comfy_table::Table {
    let mut table = output::table(["family", "browser", "platform", "time", "models", "jobs"]);
    for Speed { family, browser, platform, relative_time, models, jobs } in speeds {
        let time = format!("{relative_time:.2} ×");
        table.add_row([family, browser, platform, &time, &models.to_string(), &jobs.to_string()]);
    }
    table
}

/// A tab in few words.
fn tab(tab: &Tab) -> String {
    let platform = tab.platform.as_deref().unwrap_or("empty");
    if tab.busy { format!("{platform} (busy)") } else { platform.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_says_how_it_is() {
        let status = serde_json::json!({
            "pid": 42, "uptime_s": 61.4, "waiting": 2, "running": 1, "memory_mb": 512.0, "memory_mb_max": 4000.0,
            "browsers": [], "capabilities": [],
            "speeds": [{"family": "bert", "browser": "firefox", "platform": "wasm", "relative_time": 1.42,
                        "models": 2, "jobs": 9}],
            "missing": [["edge", "it is not installed"]],
            "sessions": [{"id": 1, "browser": "firefox", "state": "busy", "pid": 7, "jobs": 3, "memory_mb": 512.0,
                          "tabs": [{"model": "m", "platform": "wasm", "busy": true}]}],
            "breakers": [
                {"browser": "firefox", "platform": "webgpu", "state": "open", "failures": 0, "trial_in_ms": 9, "opened": 1},
                {"browser": "firefox", "platform": "wasm", "state": "closed", "failures": 0, "trial_in_ms": null, "opened": 0}
            ],
            "counters": {"jobs_done": 3, "jobs_failed": 1, "sessions_started": 2, "sessions_recycled": 0,
                         "probes": 6, "held_beyond_ms_max": 12, "watchdog_ended": 1, "poisoned": 0, "reaped": 0, "recoveries": [["new tab", 1], ["reload", 0]]},
        });
        let shown = Shown::deserialize(&status).expect("a status");
        let text = text(&shown);
        for part in [
            "pool 42 up 61 s: 1 running, 2 waiting, 512.0 of 4000 MB",
            "jobs: 3 done, 1 failed, 1 ended by the watchdog, 0 poison",
            "slots: held for at most 12 ms beyond a job's timeout",
            "recoveries: new tab 1",
            "breaker of webgpu in firefox: open, opened 1 times",
            "edge: it is not installed",
            "wasm (busy)",
            "1.42 ×",
        ] {
            assert!(text.contains(part), "`{part}` is not in\n{text}");
        }
        assert!(!text.contains("breaker of wasm"), "{text}");
    }
}
