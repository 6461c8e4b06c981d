//! One tab: its page, and the talk with it about one request at a time.

mod batches;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use messages::{Progress, StopReason, StoppingRule};
use thirtyfour::WindowHandle;
use tokio::time;

use crate::{
    OutputTensor,
    protocol::{Cause, Command, Done, Failed, LoadCommand, ProbeCommand, Probed, Report, RunCommand},
    server::{Incoming, TabLink},
};
use batches::Batches;

/// The phase in which iterations are timed.
const TIMED: &str = "timed";

/// An open tab.
#[derive(Debug)]
pub(crate) struct Tab {
    pub(crate) handle: WindowHandle,
    link: TabLink,
    /// Longest time between two reports of a tab that works.
    silence_max: Duration,
}

/// Why a talk came to nothing.
#[derive(Debug)]
pub(crate) enum TabEnd {
    /// The page is gone.
    Gone,
    /// Nothing was heard for too long.
    Silent,
    /// The page says that it failed.
    Failed(Failed),
}

/// What a job is at, for whoever must say where it was ended.
#[derive(Debug, Clone)]
pub(crate) struct Step(Arc<Mutex<String>>);

/// What a run measured.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) done: Done,
    pub(crate) iterations_ms: Vec<f64>,
    pub(crate) stop: StopReason,
    pub(crate) outputs: Vec<OutputTensor>,
}

impl Step {
    pub(crate) fn new(step: &str) -> Self {
        Self(Arc::new(Mutex::new(step.to_owned())))
    }

    pub(crate) fn set(&self, step: &str) {
        step.clone_into(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn get(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Tab {
    pub(crate) fn new(handle: WindowHandle, link: TabLink, silence_max: Duration) -> Self {
        Self { handle, link, silence_max }
    }

    /// Waits until a page has its Worker and listens. Has no end of its own: a page that does not come up says nothing.
    pub(crate) async fn ready(&mut self) -> Result<(), TabEnd> {
        while let Some(incoming) = self.link.reports.recv().await {
            if matches!(incoming.report, Report::Ready { .. }) {
                // The page opens its stream and starts its Worker side by side.
                let listens = self.link.presence.wait_for(|presence| presence.is_there).await.is_ok();
                return if listens { Ok(()) } else { Err(TabEnd::Gone) };
            }
        }
        Err(TabEnd::Gone)
    }

    /// Forgets what an earlier page or request has said.
    pub(crate) fn forget_reports(&mut self) {
        while self.link.reports.try_recv().is_ok() {}
    }

    /// Whether the page is there.
    pub(crate) fn is_there(&self) -> bool {
        self.link.presence.borrow().is_there
    }

    /// Counts nodes by provider in a Worker of its own, which is gone afterwards.
    pub(crate) async fn verify(&mut self, load: LoadCommand, step: &Step) -> Result<BTreeMap<String, u32>, TabEnd> {
        let job = load.job.clone();
        let found = self.aside(Command::Verify(load), &job, step, |report| match report {
            Report::Verified { nodes, .. } => Some(nodes),
            _ => None,
        });
        found.await
    }

    /// Computes a tiny graph in a Worker of its own, which is gone afterwards.
    pub(crate) async fn probe(&mut self, probe: ProbeCommand, step: &Step) -> Result<Probed, TabEnd> {
        let job = probe.load.job.clone();
        let found = self.aside(Command::Probe(probe), &job, step, |report| match report {
            Report::Probed(probed) => Some(probed),
            _ => None,
        });
        found.await
    }

    /// Measures.
    pub(crate) async fn run(
        &mut self,
        mut run: RunCommand,
        rule: StoppingRule,
        step: &Step,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Measured, TabEnd> {
        let mut batches = Batches::new(rule);
        let mut outputs = Vec::new();
        let job = run.load.job.clone();
        run.iterations_first = batches.more();
        self.send(Command::Run(run))?;
        loop {
            let Incoming { report, more } = self.next_about(&job).await?;
            match report {
                Report::Phase { phase, .. } => {
                    step.set(&phase);
                    if phase == TIMED {
                        progress(Progress { done: 0, total: rule.iterations_max });
                    }
                }
                Report::Iterations { ms, ended_ms, .. } => {
                    batches.add(&ms, &ended_ms);
                    progress(Progress { done: batches.done(), total: rule.iterations_max });
                    if more.send(batches.more()).is_err() {
                        tracing::debug!(job, "a page does not wait for the answer to its report");
                    }
                }
                Report::Output { name, element, dims, bytes, .. } => {
                    outputs.push(OutputTensor { name, element, dims, bytes });
                }
                Report::Done(done) => {
                    let (iterations_ms, why) = batches.finish();
                    return Ok(Measured { done, iterations_ms, stop: why, outputs });
                }
                Report::Failed(failed) => return Err(TabEnd::Failed(failed)),
                Report::Ready { .. } | Report::Verified { .. } | Report::Probed(_) | Report::AsideEnded { .. } => {}
            }
        }
    }

    /// Sends something to a Worker of its own and waits for its answer and its end.
    async fn aside<T>(
        &mut self,
        command: Command,
        job: &str,
        step: &Step,
        answer: impl Fn(Report) -> Option<T>,
    ) -> Result<T, TabEnd> {
        self.send(command)?;
        let mut found = None;
        let mut failed = None;
        loop {
            match self.next_about(job).await?.report {
                Report::Phase { phase, .. } => step.set(&phase),
                // A Worker that died says nothing more, not even that it ended.
                Report::Failed(failure) if failure.cause == Cause::Worker => return Err(TabEnd::Failed(failure)),
                Report::Failed(failure) => failed = Some(failure),
                Report::AsideEnded { .. } => {
                    return found.ok_or_else(|| failed.map_or(TabEnd::Gone, TabEnd::Failed));
                }
                report => found = answer(report).or(found),
            }
        }
    }

    fn send(&mut self, command: Command) -> Result<(), TabEnd> {
        self.forget_reports();
        if self.link.send(command) { Ok(()) } else { Err(TabEnd::Gone) }
    }

    /// The next report about `job`; others are late ones about earlier requests.
    async fn next_about(&mut self, job: &str) -> Result<Incoming, TabEnd> {
        loop {
            let incoming = self.next().await?;
            match incoming.report.job() {
                Some(about) if about == job => return Ok(incoming),
                Some(_) => {}
                // A Worker that dies without anything to do leaves a tab that can do nothing.
                None => {
                    if let Report::Failed(failed) = incoming.report {
                        return Err(TabEnd::Failed(failed));
                    }
                }
            }
        }
    }

    async fn next(&mut self) -> Result<Incoming, TabEnd> {
        tokio::select! {
            // What was said before the page went still counts.
            biased;
            incoming = self.link.reports.recv() => incoming.ok_or(TabEnd::Gone),
            _ = self.link.presence.wait_for(|presence| !presence.is_there) => Err(TabEnd::Gone),
            () = time::sleep(self.silence_max) => Err(TabEnd::Silent),
        }
    }
}
