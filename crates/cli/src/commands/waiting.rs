//! Submitting a run and waiting for it, with a progress bar.

use std::time::Duration;

use broker::{AmqpUrl, Publisher};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use messages::{JobId, JobResult, Metric, Outcome, RunId, Status};
use pipeline::{DeadJob, RunContext, RunFollower, RunNews, Submission};
use tokio_util::sync::CancellationToken;

use super::run::{self, Waited};
use crate::{context::Context, output};

/// What stands for a status where a job is a dead letter.
pub(crate) const DEAD: &str = "dead";

/// Wait before an aggregator that does not answer is asked again.
const AGGREGATOR_WAIT: Duration = Duration::from_secs(30);

/// How the jobs of a run that was waited for ended, in that order.
#[derive(Debug, Default)]
pub(crate) struct Endings {
    /// Those with a result.
    pub(crate) results: Vec<JobResult>,
    /// Dead letters.
    pub(crate) dead: Vec<DeadJob>,
    /// Jobs of a cancelled run that no live worker can take, and so none answers.
    pub(crate) unreached: u32,
}

impl Endings {
    /// How many were measured or passed.
    pub(crate) fn passed(&self) -> usize {
        self.results.iter().filter(|result| result.status() == Status::Passed).count()
    }

    fn take(&mut self, news: RunNews) {
        match news {
            RunNews::Ended(result) => {
                self.forget_dead(result.job.job_id);
                self.results.push(*result);
            }
            RunNews::Dead(job) => self.dead.push(job),
            RunNews::Replayed(job_id) => self.forget_dead(job_id),
            RunNews::Retried(_) | RunNews::Cancelled => {}
        }
    }

    fn forget_dead(&mut self, job_id: JobId) {
        self.dead.retain(|dead| dead.job_id != job_id);
    }
}

/// Publishes a run; with `wait`, follows it to its end, or until it is cancelled and nobody is left to end the rest.
pub(crate) async fn submit(
    context: &Context,
    url: &AmqpUrl,
    submission: &Submission,
    wait: bool,
) -> anyhow::Result<Endings> {
    let patience = Context::command_patience();
    let stop = CancellationToken::new();
    let _stop_in_the_end = stop.clone().drop_guard();
    let (run_id, total) = (submission.run.run_id, submission.jobs.len());
    let follower = if wait { Some(RunFollower::start(url, &submission.run, patience, &stop).await?) } else { None };
    let publisher = Publisher::start(url, "augur submit", patience, stop.clone()).await?;
    pipeline::submit(&publisher, submission).await?;
    let mut endings = Endings::default();
    let Some(mut follower) = follower else { return Ok(endings) };
    match submission.run.only_job {
        Some(job_id) => eprintln!("run {run_id}: job {job_id} submitted"),
        None => eprintln!("run {run_id}: {total} jobs submitted"),
    }
    let bar = bar(total as u64);
    let cancelled = CancellationToken::new();
    let following = async {
        while let Some(news) = follower.next().await {
            bar.set_message(message(&news));
            bar.set_position(follower.progress().done as u64);
            if news == RunNews::Cancelled {
                cancelled.cancel();
            }
            endings.take(news);
        }
        None
    };
    let abandoned = tokio::select! {
        biased;
        none = following => none,
        abandoned = until_abandoned(context, run_id, &cancelled, &bar) => Some(abandoned),
    };
    bar.finish_and_clear();
    if let Some(abandoned) = abandoned {
        abandoned.explain();
        endings.unreached = abandoned.unreached();
    }
    Ok(endings)
}

/// Waits until a run is cancelled, and then until no live worker can take what is left of it.
///
/// The stream that tells of a run's jobs does not tell of workers; the aggregator knows them.
async fn until_abandoned(context: &Context, run_id: RunId, cancelled: &CancellationToken, bar: &ProgressBar) -> Waited {
    cancelled.cancelled().await;
    let mut is_told = false;
    loop {
        match run::wait_showing(context, run_id, bar).await {
            Ok(abandoned @ Waited::Abandoned { .. }) => return abandoned,
            // Whoever follows the stream hears of it too.
            Ok(Waited::Ended(_)) => std::future::pending().await,
            Err(error) => {
                if !std::mem::replace(&mut is_told, true) {
                    bar.suspend(|| {
                        eprintln!("the run is cancelled; who could end its jobs is not known yet: {error:#}");
                    });
                }
                tokio::time::sleep(AGGREGATOR_WAIT).await;
            }
        }
    }
}

/// What a progress bar says of news.
fn message(news: &RunNews) -> String {
    match news {
        RunNews::Ended(result) => result.job.case.clone(),
        RunNews::Dead(job) => format!("{} became a dead letter", job.name()),
        RunNews::Retried(attempt) => format!("attempt {} of {} failed", attempt.attempt, attempt.job.case),
        RunNews::Replayed(job_id) => format!("job {job_id} was sent back from the dead letters"),
        RunNews::Cancelled => "the run is cancelled; queued jobs end when a worker meets them".to_owned(),
    }
}

/// A progress bar on stderr, if that is a terminal.
pub(crate) fn bar(total: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} (about {eta} left) {wide_msg}")
        .expect("a valid template");
    bar.set_style(style);
    bar.enable_steady_tick(std::time::Duration::from_millis(250));
    bar
}

/// Where a run was submitted from; the command without values that could be secret.
pub(crate) fn run_context(command_line: String) -> RunContext {
    let git = |arguments: &[&str]| {
        let output =
            std::process::Command::new("git").args(arguments).stderr(std::process::Stdio::null()).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        (output.status.success() && !text.is_empty()).then_some(text)
    };
    RunContext {
        git_commit: git(&["rev-parse", "HEAD"]),
        git_branch: git(&["rev-parse", "--abbrev-ref", "HEAD"]),
        command_line: Some(command_line),
        ..RunContext::default()
    }
}

/// Jobs that did not pass, with their reasons, as a table on stdout.
pub(crate) fn print_failures(endings: &Endings) -> anyhow::Result<()> {
    let failed = endings.results.iter().filter(|result| result.status() != Status::Passed);
    let mut table = output::table(["case", "status", "attempts", "reason"]);
    for result in failed {
        let (case, status) = (result.job.case.clone(), result.status().to_string());
        table.add_row([case, status, result.attempt.to_string(), reason(&result.outcome)]);
    }
    for job in &endings.dead {
        let reason = failure_text(&job.reason, &job.message, job.suggestion.as_deref());
        table.add_row([job.name(), DEAD.to_owned(), job.attempt.to_string(), reason]);
    }
    if table.is_empty() { Ok(()) } else { output::print(&table.to_string()) }
}

fn failure_text(kind: &str, message: &str, suggestion: Option<&str>) -> String {
    let hint = suggestion.map(|text| format!(" ({text})")).unwrap_or_default();
    format!("{kind}: {message}{hint}")
}

fn reason(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Failed(failure) => {
            failure_text(failure.kind.as_str(), &failure.message, failure.suggestion.as_deref())
        }
        Outcome::Test(test) => {
            let failed = test.cases.iter().filter(|case| case.message.is_some()).count();
            format!("exit code {}, {failed} of {} cases failed", output::text(test.exit_code), test.cases.len())
        }
        Outcome::Benchmark(_) | Outcome::Web(_) => String::new(),
    }
}

/// What was predicted of each measured job beside what was measured, unless another device measured it.
pub(crate) fn predicted_against_measured(results: &[JobResult]) -> comfy_table::Table {
    let mut table =
        output::table(["configuration", "metric", "predicted", "90 % interval", "measured", "error", "inside"]);
    for result in results {
        let prediction = result.job.spec.benchmark().and_then(|spec| spec.prediction.as_ref());
        let (Some(prediction), Some(measured)) = (prediction, result.outcome.benchmark()) else { continue };
        if result.device.as_ref().is_some_and(|device| !prediction.is_of(device)) {
            continue;
        }
        let configuration = result.configuration().map(|configuration| configuration.to_string());
        for predicted in &prediction.metrics {
            let truth = match predicted.metric {
                Metric::LatencyMs => Some(measured.latency_ms.p50),
                Metric::ThroughputItemsPerSecond => Some(measured.throughput_items_per_second),
                Metric::MemoryPeakMb => measured.memory_peak_mb,
                Metric::PowerW => measured.power_w,
                Metric::LoadMs => result.outcome.load_ms(),
            };
            let error = truth.map(|truth| format!("{:+.1} %", (predicted.value / truth - 1.0) * 100.0));
            let inside =
                truth.map(|truth| if (predicted.lower..=predicted.upper).contains(&truth) { "yes" } else { "no" });
            table.add_row([
                output::text(configuration.as_ref()),
                predicted.metric.to_string(),
                output::number(Some(predicted.value)),
                format!("{} – {}", output::number(Some(predicted.lower)), output::number(Some(predicted.upper))),
                output::number(truth),
                output::text(error),
                output::text(inside),
            ]);
        }
    }
    table
}
