//! Flags about a job's way to its worker: when, how often, to whom.

use std::time::Duration;

use clap::Args;
use messages::{Dispatch, Requirements, Timestamp};

use crate::moments;

/// When jobs may begin and how often they are tried.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct DispatchArguments {
    /// Begins no earlier than this long from now, e.g. 90s, 15m, 2h, 7d.
    #[arg(long, value_name = "DURATION", value_parser = moments::delay, conflicts_with = "at")]
    delay: Option<Duration>,
    /// Begins no earlier than this moment, e.g. 2026-11-22T08:00:00Z; at once if that is past.
    #[arg(long, value_name = "MOMENT", value_parser = moments::at)]
    at: Option<Timestamp>,
    /// Attempts before a job becomes a dead letter, 1 to 20.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(Dispatch::ATTEMPTS_LIMIT)))]
    pub(crate) attempts: Option<u32>,
}

impl DispatchArguments {
    /// The moment before which nothing may begin, counted from now.
    pub(crate) fn due_at(&self) -> Option<Timestamp> {
        self.delay.map(moments::after).or(self.at)
    }
}

/// What a job asks of its worker.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct RequirementArguments {
    /// Memory that the worker's machine must have, in MB (10^6 bytes).
    #[arg(long, value_name = "MB")]
    require_memory_mb: Option<u64>,
    /// Memory that the worker's device must have, in MB (10^6 bytes).
    #[arg(long, value_name = "MB")]
    require_device_memory_mb: Option<u64>,
    /// A browser that the worker must have, e.g. firefox.
    #[arg(long, value_name = "BROWSER")]
    require_browser: Option<String>,
    /// A word that the worker's settings must give it; may be repeated.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
}

impl RequirementArguments {
    pub(crate) fn requirements(&self) -> Requirements {
        Requirements {
            memory_mb_min: self.require_memory_mb,
            device_memory_mb_min: self.require_device_memory_mb,
            browser: self.require_browser.clone(),
            tags: self.tags.clone(),
        }
    }
}

/// Requirements in few words, for a cell of a table; empty if there are none.
pub(crate) fn requirements_text(wanted: &Requirements) -> String {
    let memory = wanted.memory_mb_min.map(|mb| format!("memory {mb} MB"));
    let device_memory = wanted.device_memory_mb_min.map(|mb| format!("device memory {mb} MB"));
    let browser = wanted.browser.as_ref().map(|name| format!("browser {name}"));
    let tags = wanted.tags.iter().map(|tag| format!("tag {tag}"));
    [memory, device_memory, browser].into_iter().flatten().chain(tags).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Flags {
        #[command(flatten)]
        dispatch: DispatchArguments,
        #[command(flatten)]
        requirements: RequirementArguments,
    }

    fn parse(flags: &[&str]) -> Result<Flags, String> {
        Flags::try_parse_from([&["test"], flags].concat()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_delay_counts_from_now_and_a_moment_is_itself() {
        let before = Timestamp::now();
        let due = parse(&["--delay", "10m"]).expect("a delay").dispatch.due_at().expect("a moment");
        assert!((600.0..660.0).contains(&due.seconds_since(before)), "{due}");
        let due = parse(&["--at", "2026-11-22T08:00:00Z"]).expect("a moment").dispatch.due_at();
        assert_eq!(due.map(Timestamp::as_seconds), Some(1_795_334_400));
        assert_eq!(parse(&[]).expect("no flags").dispatch.due_at(), None);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (flags, expected) in [
            (["--delay", "soon"], "no duration"),
            (["--at", "tomorrow"], "no moment"),
            (["--attempts", "0"], "1..=20"),
            (["--attempts", "21"], "1..=20"),
        ] {
            let error = parse(&flags).expect_err("impossible");
            assert!(error.contains(expected), "{error}");
        }
        assert!(parse(&["--delay", "1m", "--at", "2026-11-22T08:00:00Z"]).is_err(), "either, not both");
    }

    #[test]
    fn requirements_are_named_in_few_words() {
        let flags = ["--require-memory-mb", "2000", "--require-browser", "firefox", "--tag", "lab", "--tag", "quiet"];
        let wanted = parse(&flags).expect("requirements").requirements.requirements();
        assert_eq!(requirements_text(&wanted), "memory 2000 MB, browser firefox, tag lab, tag quiet");
        assert_eq!(requirements_text(&Requirements::default()), "");
    }
}
