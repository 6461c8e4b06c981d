//! Producers: publish a run and its jobs, cancel them, let a quarantined measurement count.

use std::collections::{BTreeMap, HashSet};

use broker::{BrokerError, Outgoing, Publisher, WINDOW_MESSAGES_MAX};
use futures_util::{StreamExt, stream};
use messages::{
    Cancel, CancelTarget, Dispatch, Job, JobId, JobSpec, Need, Origin, Platform, QuarantineLifted, Requirements, RunId,
    RunRef, RunSubmitted, Timestamp, encode,
};
use topology::names;

use crate::{
    Case, CaseSpec, PipelineError, Suite,
    delivery::{outgoing_record, outgoing_submitted},
};

/// Where, when and how a run was asked for, without secrets.
#[derive(Debug, Clone, Default)]
pub struct RunContext {
    /// The run's id, for whoever may have to submit the same run again after a crash: its jobs then have the same ids
    /// each time. A new one if absent.
    pub run_id: Option<RunId>,
    /// No job of it is started before this moment.
    pub due_at: Option<Timestamp>,
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
    ///
    /// A case with a unique key has the id that follows from the key; with a run id in the context, every other case
    /// has the one that follows from run id and name; else it is new.
    pub fn new(suite: Suite, origin: Origin, context: RunContext) -> Self {
        let submitted_at = Timestamp::now();
        let jobs_total = u32::try_from(suite.cases.len()).unwrap_or(u32::MAX);
        let run_id = context.run_id.unwrap_or_else(RunId::new);
        let run_ref = RunRef { run_id, suite: suite.name.clone(), jobs_total, origin };
        let (needs, configurations) = (needs(&suite.cases), configurations(&suite.cases));
        let job = |case: Case| {
            let job_id = match (&case.unique_key, context.run_id) {
                (Some(key), _) => JobId::from_key(key),
                (None, Some(run_id)) => JobId::from_key(&format!("{run_id}/{}", case.name)),
                (None, None) => JobId::new(),
            };
            job(job_id, case, &run_ref, submitted_at, context.due_at)
        };
        let jobs: Vec<Job> = suite.cases.into_iter().map(job).collect();
        let only_job = if let [job] = jobs.as_slice() { Some(job.job_id) } else { None };
        let run = RunSubmitted {
            run_id,
            suite: suite.name,
            origin,
            submitted_at,
            jobs_total,
            only_job,
            needs,
            configurations,
            due_at: context.due_at,
            git_commit: context.git_commit,
            git_branch: context.git_branch,
            command_line: context.command_line,
        };
        Self { run, jobs }
    }
}

/// What the cases ask of workers, each need once, in order.
fn needs(cases: &[Case]) -> Vec<Need> {
    let mut counts: BTreeMap<(Platform, &Requirements), u32> = BTreeMap::new();
    for case in cases {
        *counts.entry((case.platform(), &case.requirements)).or_default() += 1;
    }
    counts
        .into_iter()
        .map(|((platform, requirements), jobs)| Need { platform, requirements: requirements.clone(), jobs })
        .collect()
}

/// What the cases measure, each configuration once, as far as an announcement has room.
fn configurations(cases: &[Case]) -> Vec<String> {
    let mut seen = HashSet::new();
    let measured = cases.iter().filter_map(|case| Some(case.spec.benchmark()?.configuration.to_string()));
    measured.filter(|text| seen.insert(text.clone())).take(RunSubmitted::CONFIGURATIONS_MAX).collect()
}

fn job(job_id: JobId, case: Case, run: &RunRef, submitted_at: Timestamp, due_at: Option<Timestamp>) -> Job {
    Job {
        job_id,
        run: run.clone(),
        platform: case.platform(),
        case: case.name,
        priority: case.priority,
        submitted_at,
        timeout_ms: u64::try_from(case.timeout.as_millis()).unwrap_or(Job::TIMEOUT_MS_LIMIT),
        dispatch: Dispatch {
            attempts_max: case.attempts_max,
            due_at,
            requirements: case.requirements,
            ..Dispatch::default()
        },
        spec: match case.spec {
            CaseSpec::Test { test, .. } => JobSpec::Test(test),
            CaseSpec::Benchmark(benchmark) => JobSpec::Benchmark(benchmark),
            CaseSpec::Web(web) => JobSpec::Web(web),
        },
    }
}

/// Publishes a run: first the news of it on the result stream, then its jobs, all confirmed by the broker.
///
/// Submitting the same submission again, after an error or by whoever comes after a crash, changes nothing that is
/// already there: runs and jobs count once by their ids.
///
/// # Errors
///
/// [`PipelineError::Broker`] if the run could not be announced (nothing was submitted then),
/// [`PipelineError::Incomplete`] if some jobs were not confirmed.
pub async fn submit(publisher: &Publisher, submission: &Submission) -> Result<(), PipelineError> {
    let run_id = submission.run.run_id;
    let announcement = outgoing_record(run_id.to_string(), &submission.run)?;
    publisher.publish(announcement).await.map_err(PipelineError::broker("submission"))?;
    let total = submission.jobs.len();
    // Each job is encoded when there is room in the window, so that a large suite is not held twice.
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
    Ok(publisher.publish(outgoing_submitted(job)?).await)
}

/// Asks all workers to end a job or a run, and tells the result stream so.
///
/// # Errors
///
/// [`PipelineError::Broker`] if the order could not be published; giving it again does no harm.
pub async fn cancel(publisher: &Publisher, target: CancelTarget) -> Result<(), PipelineError> {
    let order = Cancel { target, requested_at: Timestamp::now() };
    let message_id = uuid::Uuid::now_v7().to_string();
    // The stream keeps it first: an order that workers obey must be in the history.
    let record = outgoing_record(message_id.clone(), &order)?;
    let control = Outgoing::new(names::CONTROL, String::new(), message_id, encode(&order)?);
    for outgoing in [record, control] {
        publisher.publish(outgoing).await.map_err(PipelineError::broker("cancel order"))?;
    }
    Ok(())
}

/// Tells the result stream that a quarantined measurement is to be learned from after all.
///
/// # Errors
///
/// [`PipelineError::Broker`] if that could not be published; saying it again does no harm.
pub async fn lift_quarantine(publisher: &Publisher, job_id: JobId) -> Result<(), PipelineError> {
    let lifted = QuarantineLifted { job_id, lifted_at: Timestamp::now() };
    let record = outgoing_record(uuid::Uuid::now_v7().to_string(), &lifted)?;
    publisher.publish(record).await.map_err(PipelineError::broker("end of a quarantine"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use messages::{BenchmarkSpec, Configuration, Priority, TestSpec};
    use testkit::builders;

    use super::*;

    fn case(name: &str, tag: Option<&str>, unique_key: Option<&str>) -> Case {
        Case {
            name: name.to_owned(),
            priority: Priority::Normal,
            timeout: Duration::from_mins(1),
            attempts_max: 2,
            requirements: Requirements {
                tags: tag.into_iter().map(str::to_owned).collect(),
                ..Requirements::default()
            },
            unique_key: unique_key.map(str::to_owned),
            spec: CaseSpec::Test { platform: Platform::Cpu, test: TestSpec::default() },
        }
    }

    fn submission(cases: Vec<Case>, context: RunContext) -> Submission {
        Submission::new(Suite { name: "s".to_owned(), path: String::new(), cases }, Origin::Client, context)
    }

    fn ids(submission: &Submission) -> Vec<JobId> {
        submission.jobs.iter().map(|job| job.job_id).collect()
    }

    #[test]
    fn each_need_is_named_once() {
        let cases = vec![case("a", None, None), case("b", Some("lab"), None), case("c", None, None)];
        let due_at = Some(Timestamp::from_micros(7));
        let submission = submission(cases, RunContext { due_at, ..RunContext::default() });
        let needs: Vec<_> =
            submission.run.needs.iter().map(|need| (need.requirements.tags.join(","), need.jobs)).collect();
        assert_eq!(needs, [(String::new(), 2), ("lab".to_owned(), 1)]);
        assert_eq!(submission.run.due_at, due_at);
        assert!(submission.jobs.iter().all(|job| job.dispatch.due_at == due_at && job.dispatch.attempts_max == 2));
    }

    #[test]
    fn each_configuration_is_told_once_and_not_more_than_there_is_room_for() {
        let benchmark = |batch_size| {
            let configuration = Configuration { batch_size, ..builders::batch_grid([1], 1.0).remove(0).configuration };
            let spec = CaseSpec::Benchmark(Box::new(BenchmarkSpec::usual(configuration)));
            Case { spec, ..case(&batch_size.to_string(), None, None) }
        };
        let told = |sizes: &[u32]| {
            let cases = sizes.iter().copied().map(benchmark).chain([case("a test", None, None)]).collect();
            submission(cases, RunContext::default()).run.configurations
        };
        let text = |batch_size| benchmark(batch_size).spec.benchmark().expect("one").configuration.to_string();
        assert_eq!(told(&[8, 1, 8]), [text(8), text(1)]);
        let many: Vec<u32> = (1..=3_000).collect();
        assert_eq!(told(&many).len(), RunSubmitted::CONFIGURATIONS_MAX);
    }

    #[test]
    fn the_same_key_is_the_same_job_and_a_run_can_be_made_again() {
        let cases = || vec![case("a", None, Some("nightly/a")), case("b", None, None)];
        let [first, second] =
            [RunContext::default(), RunContext::default()].map(|context| submission(cases(), context));
        assert_ne!(first.run.run_id, second.run.run_id);
        assert_eq!(ids(&first)[0], ids(&second)[0]);
        assert_ne!(ids(&first)[1], ids(&second)[1]);
        let again = || RunContext { run_id: Some(first.run.run_id), ..RunContext::default() };
        let [third, fourth] = [again(), again()].map(|context| submission(cases(), context));
        assert_eq!(ids(&third), ids(&fourth));
        assert_ne!(ids(&third)[0], ids(&third)[1]);
    }
}
