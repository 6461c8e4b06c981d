//! A batch on its way: submitted, followed, and given up where nobody is left to measure it.

use std::collections::{BTreeMap, BTreeSet};

use messages::{JobId, Origin, Timestamp};
use planner::Withheld;
use tokio::sync::watch;
use tracing::{info, warn};

use super::{Learner, Ledger, Planned, Roster, Target, waiting};
use crate::{DeadJob, PipelineError, RunContext, RunFollower, RunNews, Submission, client::submit};

/// The jobs of a batch that have not ended, and where they are to run.
type OpenJobs = BTreeMap<JobId, Target>;

impl Learner {
    /// Submits a batch and waits for its end, or until no worker has lived for long that would take any of what is left.
    /// Gives the jobs whose measurements are to be learned from.
    pub(super) async fn measure(
        &mut self,
        roster: &impl Roster,
        planned: &Planned,
    ) -> Result<BTreeSet<JobId>, PipelineError> {
        let suite = planned.to_suite("active-learning", self.settings.search.priority);
        let submission = Submission::new(suite, Origin::Learner, RunContext::default());
        let (run_id, total) = (submission.run.run_id, submission.jobs.len());
        let mut follower = RunFollower::start(&self.url, &submission.run, self.settings.patience, &self.stop).await?;
        self.submit(planned, &submission).await?;
        let release_id = planned.release.as_ref().map(|release| release.manifest.release_id.to_string());
        info!(%run_id, jobs = total, release_id, "proposals submitted");
        self.report.runs.push(run_id);
        self.report.jobs += total;
        self.report.expected_seconds += planned.proposals.iter().map(|proposal| proposal.expected_seconds).sum::<f64>();
        let all: OpenJobs = submission.jobs.iter().map(|job| (job.job_id, Target::of(job))).collect();
        let (open, still_open) = watch::channel(all.clone());
        let mut measured = BTreeSet::new();
        let following = async {
            while let Some(news) = follower.next().await {
                match news {
                    RunNews::Ended(result) => {
                        let job_id = result.job.job_id;
                        forget(&open, job_id);
                        self.ledger()?.note_end(&result, Timestamp::now())?;
                        match store::accept(&result) {
                            Ok(_) => {
                                measured.insert(job_id);
                            }
                            Err(reason) => {
                                let (status, case) = (result.status().as_str(), &result.job.case);
                                warn!(%job_id, case, status, %reason, "proposal gave nothing to learn from");
                            }
                        }
                    }
                    RunNews::Dead(job) => {
                        forget(&open, job.job_id);
                        self.note_dead(&job, planned)?;
                    }
                    RunNews::Replayed(job_id) => {
                        open.send_modify(|open| open.extend(all.get(&job_id).map(|target| (job_id, target.clone()))));
                    }
                    RunNews::Cancelled => info!(%run_id, "run is being cancelled"),
                    RunNews::Retried(_) => {}
                }
            }
            Ok::<_, PipelineError>(BTreeMap::new())
        };
        let abandoned = waiting::until_abandoned(roster, still_open, self.settings.worker_wait_max);
        let unserved = tokio::select! {
            biased;
            ended = following => ended?,
            unserved = abandoned => unserved,
        };
        let progress = follower.progress();
        if progress.cancelled {
            // Those that nobody is left to end.
            let left = submission.jobs.iter().filter(|job| open.borrow().contains_key(&job.job_id));
            self.ledger()?.forget(left.filter_map(|job| Some(&job.spec.benchmark()?.configuration)))?;
        }
        if !unserved.is_empty() {
            let left = progress.total - progress.done;
            let reasons: Vec<&str> = unserved.values().map(String::as_str).collect();
            warn!(%run_id, left, reasons = reasons.join("; "), "nobody measures the rest of the proposals; going on");
        }
        self.unserved.extend(unserved);
        self.report.measured += progress.passed;
        Ok(measured)
    }

    /// Submits a batch. It is noted before, so that nobody proposes it meanwhile, or after a crash.
    async fn submit(&self, planned: &Planned, submission: &Submission) -> Result<(), PipelineError> {
        self.ledger()?.note(planned.configurations(), Withheld::Queued, Timestamp::now())?;
        let submitted = submit(&self.publisher, submission).await;
        if submitted.as_ref().is_err_and(|error| !error.is_partly_submitted()) {
            self.ledger()?.forget(planned.configurations())?;
        }
        submitted
    }

    fn note_dead(&self, job: &DeadJob, planned: &Planned) -> Result<(), PipelineError> {
        let name = job.name();
        warn!(job_id = %job.job_id, case = name, "proposal became a dead letter");
        let of_job = planned.configurations().filter(|of| of.to_string() == name);
        self.ledger()?.note(of_job, Withheld::Failed, Timestamp::now())
    }

    fn ledger(&self) -> Result<Ledger, PipelineError> {
        Ledger::open(&self.settings.releases_directory, Timestamp::now())
    }
}

fn forget(open: &watch::Sender<OpenJobs>, job_id: JobId) {
    open.send_modify(|open| {
        open.remove(&job_id);
    });
}
