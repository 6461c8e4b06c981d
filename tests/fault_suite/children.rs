//! Processes of the suite's own that are there to be killed or to be in the way.

use std::path::Path;

use anyhow::{Context as _, Result};
use futures_util::future::join_all;
use messages::{JobId, RunId, RunRef};
use store::Store;
use testkit::AugurProcess;

use crate::{
    jobs::{self, Work},
    load::{connect, outgoing, run_ref},
    world::World,
};

/// How a submitting child gets its order: the URL may hold a password, so nothing goes by the command line.
const URL: &str = "FAULT_SUITE_URL";
const RUN: &str = "FAULT_SUITE_RUN";
const JOBS_TOTAL: &str = "FAULT_SUITE_JOBS_TOTAL";
const SEED: &str = "FAULT_SUITE_SEED";
const JOBS: &str = "FAULT_SUITE_JOBS";

/// What a client submits. The same order gives the same job ids.
#[derive(Debug)]
pub(crate) struct SubmitOrder {
    pub(crate) url: String,
    pub(crate) run: RunRef,
    pub(crate) seed: u64,
    pub(crate) jobs: usize,
}

impl SubmitOrder {
    /// The ids of its jobs.
    pub(crate) fn job_ids(&self) -> Vec<JobId> {
        jobs::job_ids(&mut fastrand::Rng::with_seed(self.seed), self.jobs)
    }

    fn from_environment() -> Result<Self> {
        let variable = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set"));
        let run_id: RunId = variable(RUN)?.parse()?;
        Ok(Self {
            url: variable(URL)?,
            run: run_ref(run_id, variable(JOBS_TOTAL)?.parse()?),
            seed: variable(SEED)?.parse()?,
            jobs: variable(JOBS)?.parse()?,
        })
    }
}

/// Starts a client; it says `publishing` when it begins and `confirmed` when all is stored.
///
/// # Errors
///
/// If it cannot be started.
pub(crate) fn submit_child(world: &World, order: &SubmitOrder) -> Result<AugurProcess> {
    let program = std::env::current_exe()?;
    let (run, total) = (order.run.run_id.to_string(), order.run.jobs_total.to_string());
    let (seed, jobs) = (order.seed.to_string(), order.jobs.to_string());
    let environment = [(URL, order.url.as_str()), (RUN, &run), (JOBS_TOTAL, &total), (SEED, &seed), (JOBS, &jobs)];
    world.spawn("client", &program, &["--submit-child"], &environment)
}

/// Starts a process that holds a database; it says `holding` once it does, and lets go when it is killed.
///
/// # Errors
///
/// If it cannot be started.
pub(crate) fn hold_child(world: &World, database: &Path) -> Result<AugurProcess> {
    let path = database.to_str().context("the database's path is no text")?;
    world.spawn("holder", &std::env::current_exe()?, &["--hold-database", path], &[])
}

/// Is the client.
///
/// # Errors
///
/// If a job was not confirmed.
pub(crate) fn submit() -> Result<()> {
    let order = SubmitOrder::from_environment()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let publisher = connect(&order.url.parse()?).await?;
        let jobs: Vec<_> = order.job_ids().into_iter().map(|id| jobs::job(&order.run, id, &Work::Nothing)).collect();
        eprintln!("publishing {} jobs", jobs.len());
        let publishing = jobs.iter().map(|job| async { anyhow::Ok(publisher.publish(outgoing(job)?).await?) });
        join_all(publishing).await.into_iter().collect::<Result<Vec<()>>>()?;
        eprintln!("confirmed {} jobs", jobs.len());
        Ok(())
    })
}

/// Is the process that holds a database, until it is killed.
///
/// # Errors
///
/// If the database cannot be opened.
pub(crate) fn hold(database: &Path) -> Result<()> {
    let _held = Store::open(database)?;
    eprintln!("holding {}", database.display());
    loop {
        // Until somebody kills it; the signal is its only end.
        std::thread::park();
    }
}
