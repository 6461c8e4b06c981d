//! Submitting a run and waiting for it, with a progress bar.

use broker::{AmqpUrl, Patience, Publisher};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use messages::{JobResult, Metric, Outcome, Status};
use pipeline::{RunContext, RunFollower, Submission};
use tokio_util::sync::CancellationToken;

use crate::output;

/// Publishes a run; with `wait`, follows it to its end and returns its results in the order of their arrival.
pub(crate) async fn submit(
    url: &AmqpUrl,
    submission: &Submission,
    wait: bool,
    patience: Patience,
) -> anyhow::Result<Vec<JobResult>> {
    let stop = CancellationToken::new();
    let _stop_in_the_end = stop.clone().drop_guard();
    let (run_id, total) = (submission.run.run_id, submission.jobs.len());
    let follower = if wait { Some(RunFollower::start(url, run_id, total, patience, &stop).await?) } else { None };
    let publisher = Publisher::start(url, "augur submit", patience, stop.clone()).await?;
    pipeline::submit(&publisher, submission).await?;
    let Some(mut follower) = follower else { return Ok(Vec::new()) };
    eprintln!("run {run_id}: {total} jobs submitted");
    let bar = bar(total as u64);
    let mut results = Vec::with_capacity(total);
    while let Some(result) = follower.next().await {
        bar.set_message(result.job.case.clone());
        bar.inc(1);
        results.push(result);
    }
    bar.finish_and_clear();
    Ok(results)
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
    }
}

/// Jobs that did not pass, with their reasons, as a table on stdout.
pub(crate) fn print_failures(results: &[JobResult]) -> anyhow::Result<()> {
    let failed: Vec<_> = results.iter().filter(|result| result.status() != Status::Passed).collect();
    if failed.is_empty() {
        return Ok(());
    }
    let mut table = output::table(["case", "status", "reason"]);
    for result in failed {
        table.add_row([result.job.case.clone(), result.status().to_string(), reason(&result.outcome)]);
    }
    output::print(&table.to_string())
}

fn reason(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Failed(failure) => {
            let hint = failure.suggestion.as_ref().map(|text| format!(" ({text})")).unwrap_or_default();
            format!("{}: {}{hint}", failure.kind, failure.message)
        }
        Outcome::Test(test) => {
            let failed = test.cases.iter().filter(|case| case.message.is_some()).count();
            format!("exit code {}, {failed} of {} cases failed", output::text(test.exit_code), test.cases.len())
        }
        Outcome::Benchmark(_) => String::new(),
    }
}

/// What was predicted of each measured job beside what was measured.
pub(crate) fn predicted_against_measured(results: &[JobResult]) -> comfy_table::Table {
    let mut table =
        output::table(["configuration", "metric", "predicted", "90 % interval", "measured", "error", "inside"]);
    for result in results {
        let messages::JobSpec::Benchmark(spec) = &result.job.spec else { continue };
        let (Some(prediction), Outcome::Benchmark(measured)) = (&spec.prediction, &result.outcome) else { continue };
        for predicted in &prediction.metrics {
            let truth = match predicted.metric {
                Metric::LatencyMs => Some(measured.latency_ms.p50),
                Metric::ThroughputItemsPerSecond => Some(measured.throughput_items_per_second),
                Metric::MemoryPeakMb => measured.memory_peak_mb,
                Metric::PowerW => measured.power_w,
                Metric::LoadMs => Some(measured.load_ms),
            };
            let error = truth.map(|truth| format!("{:+.1} %", (predicted.value / truth - 1.0) * 100.0));
            let inside =
                truth.map(|truth| if (predicted.lower..=predicted.upper).contains(&truth) { "yes" } else { "no" });
            table.add_row([
                spec.configuration.to_string(),
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
