//! What the daemons use over time, and whether it grew.

use std::{fs, fs::File, io::Write, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};

use crate::{report, rig::Rig};

/// How much more of something the last third may use than the first, as a share.
const GROWTH_SHARE_MAX: f64 = 0.5;
/// Growth below these amounts is no growth: buffers that fill once, a table that holds what was measured.
const GROWTH_PSS_MB_MIN: f64 = 40.0;
/// The same for worker and updater. A worker takes some 11 MB when its first jobs come, as its buffers fill.
const GROWTH_IDLE_PSS_MB_MIN: f64 = 20.0;
/// The same for open files and channels.
const GROWTH_COUNT_MIN: f64 = 10.0;

/// Whose use is sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Broker,
    Aggregator,
    /// The worker that no fault kills.
    Worker,
    Updater,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    role: Role,
    /// Proportional set size of the process, in MB (10^6 bytes).
    pss_mb: f64,
    open_files: f64,
    /// Channels of the whole broker.
    channels: f64,
}

/// All samples, also as lines of a CSV file.
#[derive(Debug)]
pub(crate) struct Samples {
    csv: File,
    updater: Option<u32>,
    taken: Vec<Sample>,
}

impl Samples {
    /// Begins the file; `updater` is the process id of one, if there is one.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub(crate) fn create(path: &Path, updater: Option<u32>) -> Result<Self> {
        let mut csv = File::create(path).with_context(|| format!("failed to create {}", path.display()))?;
        writeln!(csv, "elapsed_s,role,pid,pss_mb,open_files,broker_channels")?;
        Ok(Self { csv, updater, taken: Vec::new() })
    }

    /// Looks at the broker, the aggregator, the first worker and the updater.
    ///
    /// # Errors
    ///
    /// If one is gone, or the file cannot be written.
    pub(crate) fn take(&mut self, rig: &Rig, elapsed: Duration) -> Result<()> {
        let node = rig.world.node()?;
        let channels = node.evaluate("length(rabbit_channel:list()).")?.parse().context("a number of channels")?;
        let broker = node.pid().context("the broker is down")?;
        let worker = *rig.fleet.pids().first().context("there is no worker")?;
        let daemons = [(Role::Broker, broker), (Role::Aggregator, rig.aggregator.pid()?), (Role::Worker, worker)];
        for (role, pid) in daemons.into_iter().chain(self.updater.map(|pid| (Role::Updater, pid))) {
            let sample = Sample { role, pss_mb: pss_mb(pid)?, open_files: open_files(pid)?, channels };
            self.taken.push(sample);
            let Sample { pss_mb, open_files, .. } = sample;
            writeln!(self.csv, "{},{role:?},{pid},{pss_mb:.1},{open_files},{channels}", elapsed.as_secs())?;
        }
        Ok(())
    }

    /// Compares what follows with nothing that came before, as buffers fill with the first work. The file goes on.
    pub(crate) fn begin_anew(&mut self) {
        self.taken.clear();
    }

    /// Prints the medians of the first and of the last third; names what grew too much.
    pub(crate) fn print_growth(&self) -> Vec<&'static str> {
        let mut table = report::plain();
        table.set_header(["what", "first third", "last third", "growth"]);
        let mut grown = Vec::new();
        let of = |role: Role, read: fn(&Sample) -> f64| -> Vec<f64> {
            self.taken.iter().filter(|sample| sample.role == role).map(read).collect()
        };
        let series: [(&str, Vec<f64>, f64); 9] = [
            // Brokers die meanwhile and begin small again.
            ("broker PSS, MB", of(Role::Broker, |sample| sample.pss_mb), f64::INFINITY),
            ("aggregator PSS, MB", of(Role::Aggregator, |sample| sample.pss_mb), GROWTH_PSS_MB_MIN),
            ("worker PSS, MB", of(Role::Worker, |sample| sample.pss_mb), GROWTH_IDLE_PSS_MB_MIN),
            ("updater PSS, MB", of(Role::Updater, |sample| sample.pss_mb), GROWTH_IDLE_PSS_MB_MIN),
            ("broker open files", of(Role::Broker, |sample| sample.open_files), GROWTH_COUNT_MIN),
            ("aggregator open files", of(Role::Aggregator, |sample| sample.open_files), GROWTH_COUNT_MIN),
            ("worker open files", of(Role::Worker, |sample| sample.open_files), GROWTH_COUNT_MIN),
            ("updater open files", of(Role::Updater, |sample| sample.open_files), GROWTH_COUNT_MIN),
            ("broker channels", of(Role::Broker, |sample| sample.channels), GROWTH_COUNT_MIN),
        ];
        for (what, values, least) in series.into_iter().filter(|(_, values, _)| !values.is_empty()) {
            let Growth { first, last, too_much } = growth(&values, least);
            grown.extend(too_much.then_some(what));
            let growth = format!("{:+.1}{}", last - first, if too_much { " GROWS" } else { "" });
            table.add_row([what.to_owned(), format!("{first:.1}"), format!("{last:.1}"), growth]);
        }
        println!("{table}");
        grown
    }
}

/// How much something grew.
struct Growth {
    /// Median of the first third.
    first: f64,
    /// Median of the last third.
    last: f64,
    too_much: bool,
}

/// Growth up to `allowed` is never too much.
fn growth(values: &[f64], allowed: f64) -> Growth {
    let third = values.len().div_ceil(3);
    let first = median(&values[..third]);
    let last = median(&values[values.len() - third..]);
    Growth { first, last, too_much: last - first > allowed && last > first * (1.0 + GROWTH_SHARE_MAX) }
}

/// Shows the judge of growth a leak, and what is none.
///
/// # Errors
///
/// If it overlooks the one, or accuses the other.
pub(crate) fn check_the_judge_of_growth() -> Result<()> {
    const SAMPLES: u32 = 30;
    let series = |of: fn(u32) -> f64| (0..SAMPLES).map(of).collect::<Vec<_>>();
    let cases = [
        ("open files that leak", series(|at| 20.0 + 2.0 * f64::from(at)), true),
        ("a leak that begins late", series(|at| if at < SAMPLES / 2 { 20.0 } else { 60.0 }), true),
        ("what stays as it is", series(|at| 20.0 + f64::from(at % 3)), false),
        ("a little more of little", series(|at| 2.0 + 0.3 * f64::from(at)), false),
        ("a little more of much", series(|at| 200.0 + 2.0 * f64::from(at)), false),
        ("a peak at the end", series(|at| if at < SAMPLES - 3 { 20.0 } else { 200.0 }), false),
    ];
    for (what, values, is_leak) in cases {
        let found = growth(&values, GROWTH_COUNT_MIN).too_much;
        ensure!(found == is_leak, "the judge of growth is blind: it says {found} of {what}");
    }
    Ok(())
}

/// 0 of nothing.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// The only honest measure where libraries are shared between processes.
fn pss_mb(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).with_context(|| format!("{path} has no Pss"))?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().with_context(|| format!("{path}: {line}"))?;
    Ok(kib * 1_024.0 / 1e6)
}

fn open_files(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/fd");
    Ok(fs::read_dir(&path).with_context(|| format!("failed to read {path}"))?.count() as f64)
}
