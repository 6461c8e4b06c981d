//! What the aggregator has counted, as it says so itself, and how long after a fault it counted again.

use std::{
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use messages::RunId;
use serde::Deserialize;
use tokio::{runtime::Handle, sync::watch, task::JoinHandle};

use crate::{
    limits::{ANSWER_MAX, ASK_AGAIN, LONG_POLL_MAX, UNDER_WAY_MAX},
    lock,
};

/// Follows one run by long polls, through every restart of the aggregator.
#[derive(Debug)]
pub(crate) struct Progress {
    counts: watch::Receiver<Counts>,
    faults: Arc<Mutex<Faults>>,
    runtime: Handle,
    asking: JoinHandle<()>,
}

/// Faults after which nothing was counted yet, and recoveries so far.
#[derive(Debug, Default)]
struct Faults {
    open: Vec<(Instant, u64)>,
    recoveries: Vec<Duration>,
    injected: usize,
}

impl Faults {
    /// This many are counted now: every fault at which it were fewer is over.
    fn recovered(&mut self, done: u64, now: Instant) {
        let (over, open): (Vec<_>, Vec<_>) = self.open.drain(..).partition(|(_, before)| done > *before);
        self.open = open;
        self.recoveries.extend(over.into_iter().map(|(at, _)| now.saturating_duration_since(at)));
    }
}

/// What is read of the API's answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
struct Counts {
    done: u64,
    dead: u64,
}

impl Progress {
    /// Begins to ask the API at `api`.
    ///
    /// # Errors
    ///
    /// If the HTTP client cannot be made.
    pub(crate) fn start(runtime: &Handle, api: &str, run: RunId) -> Result<Self> {
        let client = reqwest::Client::builder().timeout(LONG_POLL_MAX + ANSWER_MAX).no_proxy().build()?;
        let (news, counts) = watch::channel(Counts::default());
        let faults = Arc::new(Mutex::new(Faults::default()));
        let address = format!("{api}/api/runs/{run}/wait");
        let asking = runtime.spawn(ask(client, address, news, Arc::clone(&faults)));
        Ok(Self { counts, faults, runtime: runtime.clone(), asking })
    }

    /// Jobs counted so far.
    pub(crate) fn done(&self) -> u64 {
        self.counts.borrow().done
    }

    /// Jobs counted as dead now.
    pub(crate) fn dead(&self) -> u64 {
        self.counts.borrow().dead
    }

    /// Notes that a fault happens now; its recovery ends with the next result that is counted.
    pub(crate) fn note_fault(&self) {
        self.note_fault_since(Instant::now());
    }

    /// Notes a fault that began at `began` and lasts, after which nothing can be counted but what was under way: the
    /// recovery ends with the first result beyond that.
    pub(crate) fn note_lasting_fault(&self, began: Instant) {
        thread::sleep(UNDER_WAY_MAX);
        self.note_fault_since(began);
    }

    fn note_fault_since(&self, began: Instant) {
        let mut faults = lock(&self.faults);
        faults.injected += 1;
        faults.open.push((began, self.done()));
    }

    /// Faults noted, and the recoveries of those after which something was left to be counted.
    pub(crate) fn faults(&self) -> (usize, Vec<Duration>) {
        let faults = lock(&self.faults);
        (faults.injected, faults.recoveries.clone())
    }

    /// Waits until this many jobs are counted.
    ///
    /// # Errors
    ///
    /// If nothing new is counted for as long as `stall_max`.
    pub(crate) fn wait_for(&self, jobs: u64, stall_max: Duration) -> Result<()> {
        let mut counts = self.counts.clone();
        self.runtime.block_on(async {
            loop {
                let so_far = counts.borrow_and_update().done;
                if so_far >= jobs {
                    return Ok(());
                }
                match tokio::time::timeout(stall_max, counts.changed()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => bail!("nobody asks the aggregator any more"),
                    Err(_) => bail!("{so_far} of {jobs} jobs are counted, none for {} s", stall_max.as_secs()),
                }
            }
        })
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.asking.abort();
    }
}

async fn ask(client: reqwest::Client, address: String, news: watch::Sender<Counts>, faults: Arc<Mutex<Faults>>) {
    loop {
        let seen = *news.borrow();
        let query = [("seen", seen.done), ("timeout_s", LONG_POLL_MAX.as_secs())];
        let answer = async {
            let response = client.get(&address).query(&query).send().await?.error_for_status()?;
            response.json::<Counts>().await
        };
        let Ok(counts) = answer.await else {
            // It is down, or does not know the run yet.
            tokio::time::sleep(ASK_AGAIN).await;
            continue;
        };
        if counts == seen {
            // A run whose jobs are all counted, or of which one is dead, is answered at once.
            tokio::time::sleep(ASK_AGAIN).await;
            continue;
        }
        let now = Instant::now();
        lock(&faults).recovered(counts.done, now);
        if news.send(counts).is_err() {
            return;
        }
    }
}
