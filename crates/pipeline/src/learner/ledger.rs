//! What was proposed and has not been measured yet, in a file, so that neither another command nor a learner that starts
//! again proposes it too.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
};

use messages::{Configuration, JobResult, Status, Timestamp};
use planner::Withheld;

use crate::PipelineError;

/// File beside the releases.
const LEDGER_FILE: &str = "proposed.tsv";
/// File that is locked while that one is changed, which is another file after each change.
const LOCK_FILE: &str = "proposed.lock";
/// How long a proposal that was not measured is waited for, and one that gave nothing is left alone, in seconds.
const WITHHELD_S: i64 = 24 * 3_600;

/// By configuration the last state of a proposal, and when that began.
type Entries = BTreeMap<String, (i64, Withheld)>;

/// Proposals by their configuration, each with its last state and when that began.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    /// What began before is too old to matter, in seconds.
    oldest_s: i64,
    entries: Entries,
}

impl Ledger {
    /// Reads the ledger of a releases directory, without what is too old to matter at `now`.
    ///
    /// # Errors
    ///
    /// [`PipelineError::File`] if it is there and cannot be read.
    pub fn open(releases_directory: &Path, now: Timestamp) -> Result<Self, PipelineError> {
        let path = releases_directory.join(LEDGER_FILE);
        let oldest_s = now.as_seconds() - WITHHELD_S;
        Ok(Self { entries: read(&path, oldest_s)?, path, oldest_s })
    }

    /// What is not to be proposed, by its configuration's text.
    pub fn withheld(&self) -> HashMap<String, Withheld> {
        self.entries.iter().map(|(configuration, (_, why))| (configuration.clone(), *why)).collect()
    }

    /// Notes what became of configurations and writes the file, whole or not at all, with what others noted since it was
    /// opened.
    ///
    /// # Errors
    ///
    /// [`PipelineError::File`] if it cannot be locked, read or written.
    pub fn note<'a>(
        &mut self,
        configurations: impl IntoIterator<Item = &'a Configuration>,
        what: Withheld,
        now: Timestamp,
    ) -> Result<(), PipelineError> {
        self.change(|entries| {
            entries.extend(configurations.into_iter().map(|of| (of.to_string(), (now.as_seconds(), what))));
        })
    }

    /// Takes configurations out again, because no job is to measure them after all, and writes the file.
    ///
    /// # Errors
    ///
    /// As [`Self::note`].
    pub fn forget<'a>(
        &mut self,
        configurations: impl IntoIterator<Item = &'a Configuration>,
    ) -> Result<(), PipelineError> {
        self.change(|entries| {
            for of in configurations {
                entries.remove(&of.to_string());
            }
        })
    }

    /// Notes how the job of a proposal ended. What failed, and what nothing may be learned from, is left alone for a
    /// while; what was cancelled may be proposed again; a measurement to be learned from changes nothing, because it is
    /// about to appear in the training table.
    ///
    /// # Errors
    ///
    /// As [`Self::note`].
    pub fn note_end(&mut self, result: &JobResult, now: Timestamp) -> Result<(), PipelineError> {
        let Some(benchmark) = result.job.spec.benchmark() else { return Ok(()) };
        let of = [&benchmark.configuration];
        match result.status() {
            Status::Passed if store::accept(result).is_ok() => Ok(()),
            Status::Passed => self.note(of, Withheld::Untrusted, now),
            Status::Failed | Status::Error => self.note(of, Withheld::Failed, now),
            Status::Cancelled => self.forget(of),
        }
    }

    /// Changes what the file says now, which another command or learner may have changed since it was read.
    fn change(&mut self, change: impl FnOnce(&mut Entries)) -> Result<(), PipelineError> {
        let failed = |action, path: PathBuf| move |source| PipelineError::File { action, path, source };
        let directory = self.path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(directory).map_err(failed("create", directory.to_owned()))?;
        let lock = directory.join(LOCK_FILE);
        // Freed at the end, or by the kernel; whoever holds it reads and writes a small file.
        let _held = locked(&lock).map_err(failed("lock", lock))?;
        self.entries = read(&self.path, self.oldest_s)?;
        change(&mut self.entries);
        self.replace(directory).map_err(failed("write", self.path.clone()))
    }

    fn replace(&self, directory: &Path) -> std::io::Result<()> {
        let mut new = tempfile::NamedTempFile::new_in(directory)?;
        for (configuration, (since, what)) in &self.entries {
            writeln!(new, "{since}\t{}\t{configuration}", word(*what))?;
        }
        new.persist(&self.path).map(drop).map_err(|error| error.error)
    }
}

/// Reads what is not too old; nothing where there is no file yet.
fn read(path: &Path, oldest_s: i64) -> Result<Entries, PipelineError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(source) => return Err(PipelineError::File { action: "read", path: path.to_owned(), source }),
    };
    Ok(text.lines().filter_map(parse).filter(|(_, (since, _))| *since >= oldest_s).collect())
}

/// Waits for a lock and takes it.
fn locked(path: &Path) -> std::io::Result<File> {
    // Never truncated: it has no content, and another process may hold it.
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
    file.lock()?;
    Ok(file)
}

const fn word(what: Withheld) -> &'static str {
    match what {
        Withheld::Queued => "queued",
        Withheld::Failed => "failed",
        Withheld::Untrusted => "untrusted",
    }
}

/// Reads a line; one that is no entry is no entry.
fn parse(line: &str) -> Option<(String, (i64, Withheld))> {
    let mut cells = line.splitn(3, '\t');
    let since = cells.next()?.parse().ok()?;
    let found = cells.next()?;
    let states = [Withheld::Queued, Withheld::Failed, Withheld::Untrusted];
    let what = states.into_iter().find(|what| word(*what) == found)?;
    Some((cells.next()?.to_owned(), (since, what)))
}

#[cfg(test)]
mod tests {
    use messages::{BenchmarkOutcome, Conditions, FailureKind, Mark, Outcome};
    use testkit::builders;

    use super::*;

    fn configuration(batch_size: u32) -> Configuration {
        Configuration { batch_size, ..builders::configuration() }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn the_last_state_counts_until_it_is_old() {
        let directory = tempfile::tempdir().expect("a directory");
        let open = |now| Ledger::open(directory.path(), at(now)).expect("readable");
        let mut ledger = open(1_000_000);
        assert!(ledger.withheld().is_empty());
        ledger.note([&configuration(1), &configuration(2)], Withheld::Queued, at(1_000_000)).expect("written");
        ledger.note([&configuration(2)], Withheld::Failed, at(1_000_100)).expect("written");
        let expected =
            [(configuration(1).to_string(), Withheld::Queued), (configuration(2).to_string(), Withheld::Failed)];
        assert_eq!(open(1_000_200).withheld(), expected.clone().into());
        assert_eq!(open(1_000_050 + WITHHELD_S).withheld(), expected[1..].iter().cloned().collect());
        assert!(open(1_000_101 + WITHHELD_S).withheld().is_empty());
    }

    /// A failed submission kept its batch from being proposed for a day.
    #[test]
    fn what_no_job_measures_may_be_proposed_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let open = || Ledger::open(directory.path(), at(1_000_000)).expect("readable");
        open().note([&configuration(1), &configuration(2)], Withheld::Queued, at(1_000_000)).expect("written");
        open().forget([&configuration(1), &configuration(3)]).expect("written");
        assert_eq!(open().withheld(), [(configuration(2).to_string(), Withheld::Queued)].into());
    }

    /// Of two that noted at once the later one won, and what the other had noted was proposed again.
    #[test]
    fn of_two_that_note_at_once_neither_loses_what_the_other_noted() {
        let directory = tempfile::tempdir().expect("a directory");
        let open = || Ledger::open(directory.path(), at(1_000_000)).expect("readable");
        let (mut learner, mut command) = (open(), open());
        std::thread::scope(|scope| {
            for (ledger, sizes) in [(&mut learner, 1..=50), (&mut command, 51..=100)] {
                scope.spawn(move || {
                    for size in sizes {
                        ledger.note([&configuration(size)], Withheld::Queued, at(1_000_000)).expect("written");
                    }
                });
            }
        });
        assert_eq!(open().withheld().len(), 100);
    }

    #[test]
    fn the_end_of_its_job_decides_what_becomes_of_a_proposal() {
        let directory = tempfile::tempdir().expect("a directory");
        let passed = builders::job_result();
        let configuration = passed.job.spec.benchmark().expect("a benchmark").configuration.clone();
        let after = |outcome: Outcome| {
            let mut ledger = Ledger::open(directory.path(), at(1_000_000)).expect("readable");
            ledger.note([&configuration], Withheld::Queued, at(1_000_000)).expect("written");
            ledger.note_end(&JobResult { outcome, ..passed.clone() }, at(1_000_000)).expect("written");
            ledger.withheld().remove(&configuration.to_string())
        };
        let changed = |change: fn(&mut BenchmarkOutcome)| {
            let Outcome::Benchmark(mut measured) = passed.outcome.clone() else { panic!("a benchmark") };
            change(&mut measured);
            Outcome::Benchmark(measured)
        };
        assert_eq!(after(passed.outcome.clone()), Some(Withheld::Queued));
        let marked = |measured: &mut BenchmarkOutcome| {
            let mark = Some(Mark::Throttled("hot".to_owned()));
            measured.conditions = Some(Conditions { mark, ..Conditions::default() });
        };
        assert_eq!(after(changed(marked)), Some(Withheld::Untrusted));
        assert_eq!(after(changed(|measured| measured.load_ms = 0.0)), Some(Withheld::Untrusted), "quarantined");
        let failed = |kind| after(builders::failed_result(kind).outcome);
        assert_eq!(failed(FailureKind::InvalidJob), Some(Withheld::Failed));
        assert_eq!(failed(FailureKind::Cancelled), None);
    }

    #[test]
    fn lines_that_are_no_entries_are_left_out() {
        assert_eq!(parse("12\tqueued\ta b"), Some(("a b".to_owned(), (12, Withheld::Queued))));
        assert_eq!(parse("12\tuntrusted\ta b"), Some(("a b".to_owned(), (12, Withheld::Untrusted))));
        for line in ["", "x\tqueued\ta", "12\tlost\ta", "12\tqueued"] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
