//! Producers: publish a run and its jobs, cancel them.

use broker::{BrokerError, Outgoing, Publisher, WINDOW_MESSAGES_MAX};
use futures_util::{StreamExt, stream};
use messages::{Cancel, CancelTarget, Job, JobId, JobSpec, Origin, RunId, RunRef, RunSubmitted, Timestamp, encode};
use topology::names;

use crate::{Case, CaseSpec, PipelineError, Suite};

/// Where and how a run was asked for, without secrets.
#[derive(Debug, Clone, Default)]
pub struct RunContext {
    /// Commit of the work tree.
    pub git_commit: Option<String>,
    /// Branch of the work tree.
    pub git_branch: Option<String>,
    /// The command that asked.
    pub command_line: Option<String>,
}

/// A run with its jobs, made but not yet published, so that whoever waits for it can subscribe first.
#[derive(Debug, Clone)]
pub struct Submission {
    /// The news of the run.
    pub run: RunSubmitted,
    /// Its jobs.
    pub jobs: Vec<Job>,
}

impl Submission {
    /// Gives a run id to a suite and a job id to each of its cases.
    pub fn new(suite: Suite, origin: Origin, context: RunContext) -> Self {
        let run_id = RunId::new();
        let submitted_at = Timestamp::now();
        let jobs_total = u32::try_from(suite.cases.len()).unwrap_or(u32::MAX);
        let run_ref = RunRef { run_id, suite: suite.name.clone(), jobs_total, origin };
        let jobs = suite.cases.into_iter().map(|case| job(case, &run_ref, submitted_at)).collect();
        let run = RunSubmitted {
            run_id,
            suite: suite.name,
            origin,
            submitted_at,
            jobs_total,
            git_commit: context.git_commit,
            git_branch: context.git_branch,
            command_line: context.command_line,
        };
        Self { run, jobs }
    }
}

fn job(case: Case, run: &RunRef, submitted_at: Timestamp) -> Job {
    Job {
        job_id: JobId::new(),
        run: run.clone(),
        platform: case.platform(),
        case: case.name,
        priority: case.priority,
        submitted_at,
        timeout_ms: u64::try_from(case.timeout.as_millis()).unwrap_or(Job::TIMEOUT_MS_LIMIT),
        spec: match case.spec {
            CaseSpec::Test { test, .. } => JobSpec::Test(test),
            CaseSpec::Benchmark(benchmark) => JobSpec::Benchmark(benchmark),
        },
    }
}

/// Publishes a run: first the news of it on the result stream, then its jobs, all confirmed by the broker.
///
/// # Errors
///
/// [`PipelineError::Broker`] if the run could not be announced (nothing was submitted then),
/// [`PipelineError::Incomplete`] if some jobs were not confirmed.
pub async fn submit(publisher: &Publisher, submission: &Submission) -> Result<(), PipelineError> {
    let run_id = submission.run.run_id;
    let announcement = Outgoing {
        exchange: names::RESULTS.to_owned(),
        routing_key: String::new(),
        message_id: run_id.to_string(),
        attempt: None,
        message: encode(&submission.run)?,
    };
    publisher.publish(announcement).await.map_err(PipelineError::broker("submission"))?;
    let total = submission.jobs.len();
    let mut answers =
        stream::iter(&submission.jobs).map(|job| publish_job(publisher, job)).buffer_unordered(WINDOW_MESSAGES_MAX);
    let (mut confirmed, mut failure) = (0, None);
    while let Some(answer) = answers.next().await {
        match answer? {
            Ok(()) => confirmed += 1,
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    match failure {
        None => Ok(()),
        Some(source) => Err(PipelineError::Incomplete { run_id, confirmed, total, source }),
    }
}

async fn publish_job(publisher: &Publisher, job: &Job) -> Result<Result<(), BrokerError>, PipelineError> {
    let outgoing = Outgoing {
        exchange: names::JOBS.to_owned(),
        routing_key: job.routing_key(),
        message_id: job.job_id.to_string(),
        attempt: Some(1),
        message: encode(job)?,
    };
    Ok(publisher.publish(outgoing).await)
}

/// Asks all workers to end a job or a run.
///
/// # Errors
///
/// [`PipelineError::Broker`] if the order could not be published.
pub async fn cancel(publisher: &Publisher, target: CancelTarget) -> Result<(), PipelineError> {
    let outgoing = Outgoing {
        exchange: names::CONTROL.to_owned(),
        routing_key: String::new(),
        message_id: uuid::Uuid::now_v7().to_string(),
        attempt: None,
        message: encode(&Cancel { target, requested_at: Timestamp::now() })?,
    };
    publisher.publish(outgoing).await.map_err(PipelineError::broker("cancel order"))
}
