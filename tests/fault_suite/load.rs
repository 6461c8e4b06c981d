//! The client's side: jobs are published with confirms, and what was confirmed is written down.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use anyhow::{Context as _, Result};
use broker::{AmqpUrl, BrokerError, Outgoing, Patience, Publisher};
use futures_util::future::join_all;
use messages::{Encoded, Job, JobId, Origin, RunId, RunRef, RunSubmitted, Timestamp, encode};
use tokio::{runtime::Handle, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use topology::names;
use uuid::Uuid;

use crate::{
    jobs::{self, Work},
    limits::CONFIRM_MAX,
    lock,
    verdict::{Expected, Ledger},
};

/// Slices in which a part is published over its time.
const SLICES: u32 = 20;

/// A run under way, published part by part.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) run: RunRef,
    runtime: Handle,
    publisher: Publisher,
    ledger: Arc<Mutex<Ledger>>,
    parts: Vec<JoinHandle<Result<()>>>,
    random: fastrand::Rng,
}

impl Load {
    /// Connects and announces a run of this many jobs.
    ///
    /// # Errors
    ///
    /// What the broker says.
    pub(crate) fn start(runtime: &Handle, url: &AmqpUrl, jobs_total: usize, mut random: fastrand::Rng) -> Result<Self> {
        let run = run_ref(RunId::from(Uuid::from_u128(random.u128(..))), jobs_total);
        let publisher = runtime.block_on(async {
            let publisher = connect(url).await?;
            publisher.publish(announcement(&run)?).await.context("the run was not announced")?;
            anyhow::Ok(publisher)
        })?;
        let runtime = runtime.clone();
        Ok(Self { run, runtime, publisher, ledger: Arc::default(), parts: Vec::new(), random })
    }

    /// Makes jobs, with ids that follow from the seed.
    pub(crate) fn jobs(&mut self, count: usize, work: &Work) -> Vec<Job> {
        jobs::job_ids(&mut self.random, count).into_iter().map(|id| jobs::job(&self.run, id, work)).collect()
    }

    /// Publishes jobs while the caller goes on, evenly over the time `spread`; what the broker confirms is written
    /// down as it comes.
    pub(crate) fn publish_in_background(&mut self, jobs: Vec<Job>, expected: Expected, spread: Duration) {
        let (publisher, ledger) = (self.publisher.clone(), Arc::clone(&self.ledger));
        self.expect(jobs.iter().map(|job| job.job_id.to_string()), expected);
        self.parts.push(self.runtime.spawn(async move {
            let slices = jobs.chunks(jobs.len().div_ceil(SLICES as usize).max(1)).enumerate().map(|(number, slice)| {
                let (publisher, ledger) = (&publisher, &ledger);
                async move {
                    tokio::time::sleep(spread * u32::try_from(number)? / SLICES).await;
                    publish(publisher, ledger, slice).await
                }
            });
            join_all(slices).await.into_iter().collect()
        }));
    }

    /// Publishes jobs and waits for their confirms.
    ///
    /// # Errors
    ///
    /// If one is refused.
    pub(crate) fn publish(&mut self, jobs: &[Job], expected: Expected) -> Result<()> {
        self.expect(jobs.iter().map(|job| job.job_id.to_string()), expected);
        self.runtime.block_on(publish(&self.publisher, &self.ledger, jobs))
    }

    /// Publishes any message; writes nothing down.
    ///
    /// # Errors
    ///
    /// If it was not stored.
    pub(crate) fn publish_raw(&self, outgoing: Outgoing) -> Result<(), BrokerError> {
        self.runtime.block_on(self.publisher.publish(outgoing))
    }

    /// Publishes a message that no worker can read, and that belongs to no run, to a lane.
    ///
    /// # Errors
    ///
    /// If it was not stored.
    pub(crate) fn publish_poison(&mut self, message_id: String, message: Encoded, expected: Expected) -> Result<()> {
        self.expect(std::iter::once(message_id.clone()), expected);
        let key = jobs::job(&self.run, JobId::new(), &Work::Nothing).routing_key();
        self.publish_raw(Outgoing::new(names::JOBS, key, message_id.clone(), message).attempt(1))?;
        self.ledger().confirmed.insert(message_id);
        Ok(())
    }

    /// Writes down what must become of messages that somebody publishes.
    pub(crate) fn expect(&self, ids: impl Iterator<Item = String>, expected: Expected) {
        self.ledger().expected.extend(ids.map(|id| (id, expected)));
    }

    /// Writes down that the broker confirmed messages to somebody.
    pub(crate) fn confirm(&self, ids: impl Iterator<Item = String>) {
        self.ledger().confirmed.extend(ids);
    }

    /// Waits until every part is confirmed.
    ///
    /// # Errors
    ///
    /// If one is not within [`CONFIRM_MAX`].
    pub(crate) fn wait_for_confirms(&mut self) -> Result<()> {
        let parts = std::mem::take(&mut self.parts);
        self.runtime.block_on(async {
            for part in join_all(parts).await {
                part.context("a publishing task panicked")??;
            }
            Ok(())
        })
    }

    /// What was confirmed so far.
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }
}

/// A publisher with the harness's patience.
///
/// # Errors
///
/// What the broker says.
pub(crate) async fn connect(url: &AmqpUrl) -> Result<Publisher, BrokerError> {
    Publisher::start(url, "fault suite", Patience::For(CONFIRM_MAX), CancellationToken::new()).await
}

/// The run that a job refers to.
pub(crate) fn run_ref(run_id: RunId, jobs_total: usize) -> RunRef {
    let jobs_total = u32::try_from(jobs_total).unwrap_or(u32::MAX);
    RunRef { run_id, suite: "faults".to_owned(), jobs_total, origin: Origin::Client }
}

/// A job as clients publish it.
///
/// # Errors
///
/// If it is too large.
pub(crate) fn outgoing(job: &Job) -> Result<Outgoing> {
    Ok(Outgoing::new(names::JOBS, job.routing_key(), job.job_id.to_string(), encode(job)?).attempt(1))
}

fn announcement(run: &RunRef) -> Result<Outgoing> {
    let news = RunSubmitted {
        run_id: run.run_id,
        suite: run.suite.clone(),
        origin: run.origin,
        submitted_at: Timestamp::now(),
        jobs_total: run.jobs_total,
        only_job: None,
        needs: Vec::new(),
        configurations: Vec::new(),
        due_at: None,
        git_commit: None,
        git_branch: None,
        command_line: None,
    };
    Ok(Outgoing::new(names::RESULTS, "", run.run_id.to_string(), encode(&news)?))
}

async fn publish(publisher: &Publisher, ledger: &Mutex<Ledger>, jobs: &[Job]) -> Result<()> {
    let publishing = jobs.iter().map(|job| async move {
        let message_id = job.job_id.to_string();
        publisher.publish(outgoing(job)?).await.with_context(|| format!("job {message_id} was not confirmed"))?;
        lock(ledger).confirmed.insert(message_id);
        anyhow::Ok(())
    });
    join_all(publishing).await.into_iter().collect()
}
