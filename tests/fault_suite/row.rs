//! One row of the table: what it is, one trial of it, and what came of that.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::verdict::Verdict;

/// A kind of fault and how to inject it.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// What happens, for people.
    pub(crate) fault: &'static str,
    pub(crate) full: Amount,
    pub(crate) quick: Amount,
    pub(crate) node: Node,
    pub(crate) run: fn(&Trial) -> Result<Outcome>,
}

/// Whose node a row of the quick size runs on. At full size each has its own and the machine to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Node {
    /// Its own, or a cluster: such a row waits for nodes most of the time, and may run beside any other.
    Own,
    /// One for all that share; these come one after the other.
    Shared,
}

/// How much of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Amount {
    pub(crate) jobs: usize,
    pub(crate) faults: usize,
}

impl Amount {
    pub(crate) const fn new(jobs: usize, faults: usize) -> Self {
        Self { jobs, faults }
    }
}

/// One run of a row.
#[derive(Debug)]
pub(crate) struct Trial {
    pub(crate) row: &'static Row,
    pub(crate) amount: Amount,
    pub(crate) is_full: bool,
    pub(crate) seed: u64,
    /// Logs, settings, databases; removed after a clean run.
    pub(crate) directory: PathBuf,
}

/// What a row found.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    pub(crate) faults: usize,
    /// From each fault to the next counted result.
    pub(crate) recoveries: Vec<Duration>,
}

/// How a trial ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) row: &'static Row,
    pub(crate) outcome: Result<Outcome>,
    pub(crate) wall: Duration,
    /// Where its logs are, if they were kept.
    pub(crate) logs: PathBuf,
}

impl Trial {
    /// Makes its directory under cargo's directory for tests; whatever an earlier trial left there is removed.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub(crate) fn new(row: &'static Row, is_full: bool, seed: u64) -> Result<Self> {
        let amount = if is_full { row.full } else { row.quick };
        let directory = scratch_directory(row.name)?;
        Ok(Self { row, amount, is_full, seed, directory })
    }

    /// Random numbers of this row, the same for the same seed.
    pub(crate) fn random(&self) -> fastrand::Rng {
        let name = self.row.name.bytes().fold(0, |hash: u64, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)));
        fastrand::Rng::with_seed(self.seed ^ name)
    }

    /// `full` at full size, else `quick`.
    pub(crate) fn pick<T>(&self, full: T, quick: T) -> T {
        if self.is_full { full } else { quick }
    }

    /// Runs it to its end, keeping the logs of all but clean runs.
    pub(crate) fn run(self) -> Finished {
        eprintln!("{}: {} jobs, {} faults", self.row.name, self.amount.jobs, self.amount.faults);
        let started = Instant::now();
        let outcome = (self.row.run)(&self);
        let wall = started.elapsed();
        if outcome.as_ref().is_ok_and(|outcome| outcome.verdict.is_clean())
            && let Err(error) = std::fs::remove_dir_all(&self.directory)
        {
            eprintln!("{}: failed to remove {}: {error}", self.row.name, self.directory.display());
        }
        Finished { row: self.row, outcome, wall, logs: self.directory }
    }
}

/// An empty directory of this process's own for `name`.
pub(crate) fn scratch_directory(name: &str) -> Result<PathBuf> {
    let base = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("fault_suite");
    let directory = base.join(format!("{name}-{}", std::process::id()));
    std::fs::create_dir_all(&directory).with_context(|| format!("failed to create {}", directory.display()))?;
    Ok(directory)
}
