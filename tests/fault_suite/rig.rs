//! A row's whole set-up, and the course that most rows take: publish a part, inject a fault, go on, judge.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use broker::AmqpUrl;

use crate::{
    daemons::{Aggregator, Fleet, FleetOptions},
    evidence,
    jobs::Work,
    limits::STALL_MAX,
    load::Load,
    progress::Progress,
    row::{Outcome, Trial},
    samples::Samples,
    verdict::{Expected, judge},
    world::{Broker, World},
};

/// How long the publishing of a part takes: longer than the wait for its fault, so that some of it comes before the
/// fault and the rest while it lasts.
pub(crate) const PART_SPREAD: Duration = Duration::from_millis(600);
/// The random wait between the beginning of a part and its fault, from nothing to this.
const FAULT_AFTER_MAX: Duration = Duration::from_millis(400);

/// Memory that the database may use in rows that look at memory, in MB, the least that may be set: DuckDB keeps what it
/// can of its file in memory, which would look like a leak.
const DATABASE_MEMORY_MB: u32 = 128;

/// How a row is set up.
#[derive(Debug, Default)]
pub(crate) struct Setup {
    pub(crate) fleet: FleetOptions,
    /// Settings of all daemons, as environment variables.
    pub(crate) environment: Vec<(&'static str, String)>,
    /// Where daemons and client find the broker, if not directly.
    pub(crate) through: Option<String>,
    /// Fail points of the aggregator, may be empty.
    pub(crate) aggregator_failpoints: String,
}

impl Setup {
    /// With little memory for the database, for rows that look at memory.
    pub(crate) fn watched(mut self) -> Self {
        self.environment.push(("AUGUR_AGGREGATOR__DATABASE_MEMORY_MB", DATABASE_MEMORY_MB.to_string()));
        self
    }
}

/// Everything that a row works with. The daemons are dropped before their broker.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) aggregator: Aggregator,
    pub(crate) fleet: Fleet,
    pub(crate) progress: Progress,
    pub(crate) load: Load,
    pub(crate) random: fastrand::Rng,
    /// What a row itself found to be wrong.
    pub(crate) unexpected: Vec<String>,
    pub(crate) world: World,
}

impl Rig {
    /// Starts everything for `trial.amount.jobs` jobs.
    ///
    /// # Errors
    ///
    /// If something does not start.
    pub(crate) fn new(trial: &Trial, broker: Broker, setup: Setup) -> Result<Self> {
        Self::in_directory(&trial.directory, broker, setup, trial.amount.jobs, trial.random())
    }

    /// The same for any number of jobs.
    ///
    /// # Errors
    ///
    /// If something does not start.
    pub(crate) fn in_directory(
        directory: &Path,
        broker: Broker,
        setup: Setup,
        jobs: usize,
        mut random: fastrand::Rng,
    ) -> Result<Self> {
        let mut world = World::new(directory, broker)?;
        for (variable, value) in setup.environment {
            world.set(variable, value);
        }
        let mut client_url = world.url.clone();
        if let Some(through) = setup.through {
            client_url = through.parse::<AmqpUrl>()?;
            world.set("AUGUR_AMQP_URL", through);
        }
        let mut aggregator = Aggregator::default();
        aggregator.start(&world, &setup.aggregator_failpoints)?;
        let handle = world.runtime.handle().clone();
        let load = Load::start(&handle, &client_url, jobs, random.fork())?;
        let progress = Progress::start(&handle, &world.api, load.run.run_id)?;
        let fleet = Fleet::start(&world, setup.fleet)?;
        Ok(Self { aggregator, fleet, progress, load, random, unexpected: Vec::new(), world })
    }

    /// Publishes the jobs in one part per fault, and injects each fault at a random moment while its part is under
    /// way. What `inject` breaks it also mends.
    ///
    /// # Errors
    ///
    /// What `inject` says.
    pub(crate) fn under_load(
        &mut self,
        trial: &Trial,
        mut inject: impl FnMut(&mut Self, usize) -> Result<()>,
    ) -> Result<()> {
        let faults = trial.amount.faults;
        for (number, jobs) in parts(trial.amount.jobs, faults).into_iter().enumerate() {
            self.publish_nothing(jobs);
            self.pause(FAULT_AFTER_MAX);
            inject(self, number).with_context(|| format!("fault {} of {faults}", number + 1))?;
        }
        Ok(())
    }

    /// Waits until everything that was published is counted. For rows whose faults last: after every other one, so that
    /// the next strikes into the recovery as often as not.
    ///
    /// # Errors
    ///
    /// If that does not happen.
    pub(crate) fn recover_after_odd(&mut self, number: usize) -> Result<()> {
        if number.is_multiple_of(2) {
            return Ok(());
        }
        self.load.wait_for_confirms()?;
        if let Err(stalled) = self.wait_for_results() {
            // The row goes on to its end, where the judge names the jobs.
            self.note_stall(&stalled);
        }
        Ok(())
    }

    /// Notes that results do not come, and where they may be.
    pub(crate) fn note_stall(&mut self, stalled: &anyhow::Error) {
        self.unexpected.push(format!("{stalled:#}"));
        let left = self.world.queues_with_messages().unwrap_or_else(|error| format!("{error:#}"));
        self.unexpected.push(format!("left in queues (ready, unacknowledged, consumers, leader): {left}"));
    }

    /// Notes whose memory, files or channels grew, in a row whose setup is [`Setup::watched`].
    pub(crate) fn note_growth(&mut self, samples: &Samples) {
        let grown = samples.print_growth();
        // The broker is not ours, and keeps an index of what is queued in memory.
        let ours = grown.into_iter().filter(|what| !what.starts_with("broker"));
        self.unexpected.extend(ours.map(|what| format!("{what}: it grew")));
    }

    /// Publishes jobs that do nothing while the row goes on.
    pub(crate) fn publish_nothing(&mut self, count: usize) {
        let jobs = self.load.jobs(count, &Work::Nothing);
        self.load.publish_in_background(jobs, Expected::Passed, PART_SPREAD);
    }

    /// Waits for a random time up to `longest`: when a fault happens is the one thing here that time decides.
    pub(crate) fn pause(&mut self, longest: Duration) {
        let micros = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
        std::thread::sleep(Duration::from_micros(self.random.u64(0..=micros)));
    }

    /// Waits until every confirmed job is where it must be, stops all daemons in good order, and judges.
    ///
    /// # Errors
    ///
    /// If the evidence cannot be read.
    pub(crate) fn finish(mut self) -> Result<Outcome> {
        self.load.wait_for_confirms()?;
        if let Err(stalled) = self.wait_for_results() {
            // The judge names the jobs.
            self.note_stall(&stalled);
        }
        for stopped in [self.fleet.stop(), self.aggregator.stop()] {
            self.unexpected.extend(stopped.err().map(|error| format!("{error:#}")));
        }
        let (faults, recoveries) = self.progress.faults();
        let evidence = evidence::gather(&self.world, self.load.run.run_id)?;
        let mut verdict = judge(&self.load.ledger(), &evidence);
        verdict.unexpected.append(&mut self.unexpected);
        Ok(Outcome { verdict, faults, recoveries })
    }

    /// Waits until all confirmed jobs that can pass are counted.
    ///
    /// # Errors
    ///
    /// If none is for [`STALL_MAX`].
    pub(crate) fn wait_for_results(&self) -> Result<()> {
        self.progress.wait_for(self.results_expected(), STALL_MAX)
    }

    /// How many jobs must be counted, of those that were confirmed.
    pub(crate) fn results_expected(&self) -> u64 {
        let ledger = self.load.ledger();
        let counts = |id: &&String| ledger.expected.get(*id) == Some(&Expected::Passed);
        ledger.confirmed.iter().filter(counts).count() as u64
    }
}

/// Ends a row whose faults did not happen as they should.
///
/// # Errors
///
/// If there were none.
pub(crate) fn ensure_faults(outcome: Outcome) -> Result<Outcome> {
    ensure!(outcome.faults > 0, "no fault happened: the row proves nothing");
    Ok(outcome)
}

/// Splits `jobs` into `count` parts that differ by one at most; one part if `count` is 0.
pub(crate) fn parts(jobs: usize, count: usize) -> Vec<usize> {
    let count = count.max(1);
    (0..count).map(|part| jobs * (part + 1) / count - jobs * part / count).collect()
}
