//! A batch on its way: submitted, followed, and given up where nobody is left to measure it.

use std::collections::{BTreeMap, BTreeSet};

use messages::{JobId, JobResult, JobSpec, Origin, Status};
use planner::Withheld;
use tokio::sync::watch;
use tracing::{info, warn};

use super::{Learner, Planned, Roster, Target, waiting};
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
        self.note(planned.configurations(), Withheld::Queued)?;
        submit(&self.publisher, &submission).await?;
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
                        forget(&open, result.job.job_id);
                        if result.status() != Status::Passed {
                            self.note_failed(&result)?;
                        } else if is_unmarked(&result) {
                            measured.insert(result.job.job_id);
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
        if !unserved.is_empty() {
            let left = progress.total - progress.done;
            let reasons: Vec<&str> = unserved.values().map(String::as_str).collect();
            warn!(%run_id, left, reasons = reasons.join("; "), "nobody measures the rest of the proposals; going on");
        }
        self.unserved.extend(unserved);
        self.report.measured += progress.passed;
        Ok(measured)
    }

    fn note_failed(&self, result: &JobResult) -> Result<(), PipelineError> {
        warn!(job_id = %result.job.job_id, case = result.job.case, "proposal was not measured");
        match &result.job.spec {
            JobSpec::Benchmark(spec) => self.note([&spec.configuration], Withheld::Failed),
            JobSpec::Web(spec) => self.note([&spec.benchmark.configuration], Withheld::Failed),
            JobSpec::Test(_) => Ok(()),
        }
    }

    fn note_dead(&self, job: &DeadJob, planned: &Planned) -> Result<(), PipelineError> {
        let name = job.name();
        warn!(job_id = %job.job_id, case = name, "proposal became a dead letter");
        self.note(planned.configurations().filter(|of| of.to_string() == name), Withheld::Failed)
    }
}

fn forget(open: &watch::Sender<OpenJobs>, job_id: JobId) {
    open.send_modify(|open| {
        open.remove(&job_id);
    });
}

/// Whether predictors may learn from it: it was neither throttled nor disturbed.
fn is_unmarked(result: &JobResult) -> bool {
    let conditions = result.outcome.benchmark().and_then(|outcome| outcome.conditions.as_ref());
    conditions.is_none_or(|conditions| conditions.mark.is_none())
}
