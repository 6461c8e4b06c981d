//! Runs a benchmark job: checks it, finds its model, waits for the device, and has a child process measure.

use std::{
    num::NonZero,
    os::unix::process::ExitStatusExt,
    process::{Command, ExitStatus},
    sync::Arc,
    time::Duration,
};

use crate::{
    BENCHMARK_SUBCOMMAND, RunnerSettings,
    child::is_out_of_memory,
    device_wait::device_lease,
    failure::{FailureExt, ONNXRUNTIME_REMEDY, chain, failure},
    marks::{self, Allowed},
    model::{Models, PreparedModel, prepare},
    process::{self, Dialogue, Ending, Finished, Limits, ProcessError, signal_name},
    protocol::{Answer, BenchmarkRequest, Measured, Request, Stop, StoppingRule, Usual},
    runner::Attempt,
};
use hardware::LeaseMode;
use messages::{
    Backend, BenchmarkOutcome, BenchmarkSpec, Device, Failure, FailureKind, Job, LatencySummary, Platform, Progress,
    StopReason,
};
use nix::sys::signal::Signal;

/// Longest wait for a processor that is as fast as usual, in milliseconds: neighbours that share its cores were seen to
/// do so for up to 10 s.
const CALM_WAIT_MS_MAX: u64 = 10_000;
/// How many times as long as usual the threads may take to see what the others write. Within a ring of all threads their
/// order decides up to twice the usual; two that share no cache while they usually do took five times as long.
const HANDOFF_TIMES_MAX: f64 = 3.0;
/// At most one part of so many of a job's timeout is spent on that wait.
const CALM_WAIT_PARTS: u64 = 10;

/// Measures the job's configuration.
pub(crate) async fn run(
    settings: &RunnerSettings,
    models: &Arc<Models>,
    device: Option<&Device>,
    job: &Job,
    spec: &BenchmarkSpec,
    attempt: &Attempt<'_>,
) -> Result<BenchmarkOutcome, Failure> {
    check(job, spec)?;
    check_available(device, spec)?;
    let Some(library) = settings.onnxruntime_library.clone() else {
        let failed = failure(FailureKind::Unavailable, "this worker has no ONNX Runtime");
        return Err(failed.suggest(ONNXRUNTIME_REMEDY));
    };
    let PreparedModel { path, costs, inputs } = prepare(models, &spec.configuration).await?;
    let usual = usual(settings, device, job, spec);
    let request = Request::Benchmark(BenchmarkRequest {
        library,
        model: path,
        threads: spec.configuration.threads as usize,
        inputs,
        warmup_iterations: spec.warmup_iterations,
        stopping: StoppingRule {
            iterations_min: spec.iterations_min,
            iterations_max: spec.iterations_max,
            median_interval_pct: spec.median_interval_pct,
            duration_ms_max: spec.duration_ms_max,
        },
        usual,
    });
    let lease = device_lease(&settings.lease_directory, job.platform, LeaseMode::Exclusive, attempt.cancel).await?;
    let measured = measure(settings, &request, Duration::from_millis(job.timeout_ms), attempt).await?;
    drop(lease);
    let Measured { iterations_ms, stop, load_ms, memory_peak_mb, power_w, backend_version, seen } = measured;
    let allowed = Allowed {
        waited_pct_max: settings.waited_pct_max,
        arithmetic_pct_min: settings.arithmetic_pct_min,
        handoff_ns_max: usual.and_then(|usual| usual.handoff_ns_max),
        threads: spec.configuration.threads as usize,
        processors: std::thread::available_parallelism().map_or(1, NonZero::get),
    };
    let conditions = marks::conditions(&seen, &iterations_ms, &allowed);
    let Some(latency_ms) = LatencySummary::from_iterations(iterations_ms) else {
        return Err(failure(FailureKind::BackendError, "the benchmark child timed no iteration"));
    };
    Ok(BenchmarkOutcome {
        throughput_items_per_second: f64::from(spec.configuration.batch_size) * 1e3 / latency_ms.p50,
        latency_ms,
        memory_peak_mb,
        power_w,
        load_ms,
        warmup_iterations: spec.warmup_iterations,
        stop: match stop {
            Stop::Converged => StopReason::Converged,
            Stop::IterationLimit => StopReason::IterationLimit,
            Stop::TimeLimit => StopReason::TimeLimit,
        },
        backend_version,
        costs,
        conditions: Some(conditions),
    })
}

/// What the benchmark's threads do by the device's measured peak, which is that of all hardware threads.
fn usual(settings: &RunnerSettings, device: Option<&Device>, job: &Job, spec: &BenchmarkSpec) -> Option<Usual> {
    let device = device.filter(|_| settings.arithmetic_pct_min > 0.0)?;
    let (threads, all) = (spec.configuration.threads, device.hardware_threads?);
    let gflops = device.peak_fp32_gflops? * f64::from(threads) / f64::from(all);
    let wait_ms_max = CALM_WAIT_MS_MAX.min(job.timeout_ms / CALM_WAIT_PARTS);
    // Fewer threads may run on any of the cores, near each other or far apart.
    let handoff_ns_max = settings.handoff_ns.filter(|_| threads == all).map(|usual| HANDOFF_TIMES_MAX * usual);
    let pct_min = settings.arithmetic_pct_min;
    // More threads than processors wait for each other.
    (threads <= all).then_some(Usual { gflops, pct_min, handoff_ns_max, wait_ms_max })
}

/// Refuses what no machine could measure.
fn check(job: &Job, spec: &BenchmarkSpec) -> Result<(), Failure> {
    let invalid = |message: String| Err(failure(FailureKind::InvalidJob, message));
    if let Err(error) = spec.configuration.validate() {
        return invalid(chain(&error));
    }
    check_iterations(job, spec)
}

/// Refuses what makes no sense on any platform.
pub(crate) fn check_iterations(job: &Job, spec: &BenchmarkSpec) -> Result<(), Failure> {
    let invalid = |message: String| Err(failure(FailureKind::InvalidJob, message));
    let limit = BenchmarkSpec::ITERATIONS_LIMIT;
    if spec.configuration.platform != job.platform {
        return invalid(format!("a job for {} measures on {}", job.platform, spec.configuration.platform));
    }
    if spec.iterations_min == 0 || spec.iterations_min > spec.iterations_max || spec.iterations_max > limit {
        let (min, max) = (spec.iterations_min, spec.iterations_max);
        return invalid(format!("{min} to {max} iterations are asked for; 1 to {limit} are possible"));
    }
    if spec.warmup_iterations > limit {
        return invalid(format!("{} warm-ups are asked for; at most {limit} are possible", spec.warmup_iterations));
    }
    if !spec.median_interval_pct.is_finite() || spec.median_interval_pct <= 0.0 {
        return invalid(format!("median_interval_pct is {}; a positive number is possible", spec.median_interval_pct));
    }
    Ok(())
}

/// Refuses what this machine or this build cannot measure.
fn check_available(device: Option<&Device>, spec: &BenchmarkSpec) -> Result<(), Failure> {
    let unavailable = |message: String| Err(failure(FailureKind::Unavailable, message));
    let configuration = &spec.configuration;
    if configuration.backend != Backend::Onnxruntime {
        return unavailable(format!(
            "backend {} is run by the browser pool, not by this worker",
            configuration.backend
        ));
    }
    match configuration.platform {
        Platform::Cpu => {}
        Platform::Cuda => return unavailable("this build has ONNX Runtime's CPU provider only, not CUDA".to_owned()),
        other => return unavailable(format!("platform {other} is not supported by this build of the runner")),
    }
    if device.is_none() {
        return unavailable(format!("this worker was given no {} device", configuration.platform));
    }
    Ok(())
}

/// Has a child do the request.
async fn measure(
    settings: &RunnerSettings,
    request: &Request,
    timeout: Duration,
    attempt: &Attempt<'_>,
) -> Result<Measured, Failure> {
    let mut line = serde_json::to_vec(request)
        .map_err(|error| failure(FailureKind::Machine, format!("failed to write the child's request: {error}")))?;
    line.push(b'\n');
    let mut command = Command::new(&settings.executable);
    command.arg(BENCHMARK_SUBCOMMAND);
    let limits = Limits {
        timeout,
        cancel: attempt.cancel,
        output_tail_bytes_max: settings.output_tail_bytes_max,
        memory_bytes_max: settings.child_memory_mb_max.map(|mb| mb.saturating_mul(1_000_000)),
        progress: &|report| (attempt.progress)(Progress { done: report.iterations_done, total: report.iterations_max }),
    };
    let oom_kills_before = hardware::oom_kill_count();
    let finished = process::run(command, Dialogue::Request(line), &limits).await.map_err(|error| match error {
        ProcessError::Start(error) => {
            failure(FailureKind::Machine, format!("failed to start `{}`: {error}", settings.executable.display()))
        }
        ProcessError::Lost(error) => failure(FailureKind::Machine, format!("lost sight of the benchmark: {error}")),
    })?;
    let Finished { ending, answer, output_tail } = finished;
    let status = match ending {
        Ending::Exited(status) => status,
        Ending::TimedOut => {
            let message = format!("the benchmark ran longer than {} ms and was ended", timeout.as_millis());
            return Err(failure(FailureKind::TimedOut, message).with_output(output_tail));
        }
        Ending::Cancelled => {
            return Err(failure(FailureKind::Cancelled, "cancelled while measuring").with_output(output_tail));
        }
    };
    match serde_json::from_slice(&answer) {
        Ok(Answer::Benchmark(measured)) => Ok(*measured),
        Ok(Answer::Failed { kind, message, suggestion }) => {
            Err(Answer::into_failure(&kind, message, suggestion).with_output(output_tail))
        }
        Ok(Answer::Probe { .. }) | Err(_) => {
            let oom_killed = hardware::oom_kill_count() > oom_kills_before;
            Err(death(status, &output_tail, oom_killed, settings.child_memory_mb_max).with_output(output_tail))
        }
    }
}

/// Why a child ended without an answer.
fn death(status: ExitStatus, output_tail: &str, oom_killed: bool, memory_mb_max: Option<u64>) -> Failure {
    let signal = status.signal().map(signal_name);
    if status.signal() == Some(Signal::SIGKILL as i32) && oom_killed {
        let failed = failure(FailureKind::OutOfMemory, "the kernel killed the benchmark: out of memory");
        return failed.suggest("use a smaller batch, a smaller model or a machine with more memory");
    }
    if is_out_of_memory(output_tail) {
        let limit = memory_mb_max.map_or_else(String::new, |mb| format!(" of the {mb} MB that the settings allow"));
        return failure(FailureKind::OutOfMemory, format!("the benchmark ran out{limit} of memory"))
            .suggest("use a smaller batch, or raise the worker's memory limit for jobs");
    }
    let how = match (signal, status.code()) {
        (Some(signal), _) => format!("died of {signal}"),
        (None, Some(code)) => format!("ended with exit code {code}"),
        (None, None) => "ended".to_owned(),
    };
    failure(FailureKind::Crashed, format!("the benchmark's process {how} without an answer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn died(wait_status: i32, output_tail: &str, oom_killed: bool) -> (FailureKind, String) {
        let failed = death(ExitStatus::from_raw(wait_status), output_tail, oom_killed, Some(100));
        (failed.kind, failed.message)
    }

    #[test]
    fn deaths_are_told_apart() {
        let message = |text: &str| text.to_owned();
        assert_eq!(
            died(9, "", true),
            (FailureKind::OutOfMemory, message("the kernel killed the benchmark: out of memory"))
        );
        assert_eq!(
            died(9, "", false),
            (FailureKind::Crashed, message("the benchmark's process died of SIGKILL without an answer"))
        );
        assert_eq!(
            died(11, "", true),
            (FailureKind::Crashed, message("the benchmark's process died of SIGSEGV without an answer"))
        );
        assert_eq!(
            died(3 << 8, "", false),
            (FailureKind::Crashed, message("the benchmark's process ended with exit code 3 without an answer"))
        );
        assert_eq!(died(6, "what():  std::bad_alloc", false).0, FailureKind::OutOfMemory);
    }
}
