//! Results on the wire.

use serde::{Deserialize, Serialize};

use super::{
    Invalid,
    conditions::ConditionsV1,
    device::{DeviceV1, GraphCostsV1},
    job::JobV1,
    measured, measured_option,
    web::WebOutcomeV1,
    word,
};
use crate::{
    BenchmarkOutcome, BenchmarkSpec, Failure, FailureKind, JobResult, LatencySummary, Outcome, StopReason, TestCase,
    TestCaseStatus, TestOutcome, Timestamp, WorkerId,
};

#[derive(Serialize, Deserialize)]
pub(super) struct JobResultV1 {
    job: JobV1,
    attempt: u32,
    worker_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<DeviceV1>,
    started_at_us: i64,
    finished_at_us: i64,
    outcome: OutcomeV1,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OutcomeV1 {
    Benchmark(Box<BenchmarkOutcomeV1>),
    /// Since version 2.
    Web(Box<WebOutcomeV1>),
    Test {
        exit_code: Option<i32>,
        cases: Vec<TestCaseV1>,
        output_tail: String,
    },
    Failed(FailureV1),
}

#[derive(Serialize, Deserialize)]
pub(super) struct BenchmarkOutcomeV1 {
    mean_ms: f64,
    p50_ms: f64,
    p90_ms: f64,
    p99_ms: f64,
    iterations_ms: Vec<f64>,
    throughput_items_per_second: f64,
    memory_peak_mb: Option<f64>,
    power_w: Option<f64>,
    load_ms: f64,
    warmup_iterations: u32,
    stop: String,
    backend_version: String,
    costs: GraphCostsV1,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    conditions: Option<ConditionsV1>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct FailureV1 {
    kind: String,
    message: String,
    output_tail: String,
    suggestion: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct TestCaseV1 {
    module: Option<String>,
    class: Option<String>,
    name: String,
    status: String,
    duration_s: f64,
    message: Option<String>,
    traceback: Option<String>,
}

impl From<&JobResult> for JobResultV1 {
    fn from(result: &JobResult) -> Self {
        Self {
            job: (&result.job).into(),
            attempt: result.attempt,
            worker_id: result.worker_id.to_string(),
            device: result.device.as_ref().map(Into::into),
            started_at_us: result.started_at.as_micros(),
            finished_at_us: result.finished_at.as_micros(),
            outcome: (&result.outcome).into(),
        }
    }
}

impl From<&Outcome> for OutcomeV1 {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Benchmark(benchmark) => Self::Benchmark(Box::new(benchmark.as_ref().into())),
            Outcome::Web(web) => Self::Web(Box::new(web.as_ref().into())),
            Outcome::Test(test) => Self::Test {
                exit_code: test.exit_code,
                cases: test.cases.iter().map(Into::into).collect(),
                output_tail: test.output_tail.clone(),
            },
            Outcome::Failed(failure) => Self::Failed(failure.into()),
        }
    }
}

impl From<&BenchmarkOutcome> for BenchmarkOutcomeV1 {
    fn from(benchmark: &BenchmarkOutcome) -> Self {
        Self {
            mean_ms: benchmark.latency_ms.mean,
            p50_ms: benchmark.latency_ms.p50,
            p90_ms: benchmark.latency_ms.p90,
            p99_ms: benchmark.latency_ms.p99,
            iterations_ms: benchmark.latency_ms.iterations.clone(),
            throughput_items_per_second: benchmark.throughput_items_per_second,
            memory_peak_mb: benchmark.memory_peak_mb,
            power_w: benchmark.power_w,
            load_ms: benchmark.load_ms,
            warmup_iterations: benchmark.warmup_iterations,
            stop: benchmark.stop.as_str().to_owned(),
            backend_version: benchmark.backend_version.clone(),
            costs: (&benchmark.costs).into(),
            conditions: benchmark.conditions.as_ref().map(Into::into),
        }
    }
}

impl From<&Failure> for FailureV1 {
    fn from(failure: &Failure) -> Self {
        Self {
            kind: failure.kind.to_string(),
            message: failure.message.clone(),
            output_tail: failure.output_tail.clone(),
            suggestion: failure.suggestion.clone(),
        }
    }
}

impl TryFrom<FailureV1> for Failure {
    type Error = Invalid;

    fn try_from(on_wire: FailureV1) -> Result<Self, Invalid> {
        Ok(Self {
            kind: word::<FailureKind>("failure.kind", &on_wire.kind)?,
            message: on_wire.message,
            output_tail: on_wire.output_tail,
            suggestion: on_wire.suggestion,
        })
    }
}

impl From<&TestCase> for TestCaseV1 {
    fn from(case: &TestCase) -> Self {
        Self {
            module: case.module.clone(),
            class: case.class.clone(),
            name: case.name.clone(),
            status: case.status.as_str().to_owned(),
            duration_s: case.duration_s,
            message: case.message.clone(),
            traceback: case.traceback.clone(),
        }
    }
}

impl TryFrom<JobResultV1> for JobResult {
    type Error = Invalid;

    fn try_from(on_wire: JobResultV1) -> Result<Self, Invalid> {
        if on_wire.attempt == 0 {
            return Err(Invalid::new("attempt", "attempts are counted from 1"));
        }
        let result = Self {
            job: on_wire.job.try_into()?,
            attempt: on_wire.attempt,
            worker_id: word::<WorkerId>("worker_id", &on_wire.worker_id)?,
            device: on_wire.device.map(TryInto::try_into).transpose()?,
            started_at: Timestamp::from_micros(on_wire.started_at_us),
            finished_at: Timestamp::from_micros(on_wire.finished_at_us),
            outcome: on_wire.outcome.try_into()?,
        };
        if matches!(result.outcome, Outcome::Web(_)) && !super::is_web(&result.job) {
            return Err(Invalid::new("outcome", "a browser ran a job that is not for browsers"));
        }
        Ok(result)
    }
}

impl TryFrom<OutcomeV1> for Outcome {
    type Error = Invalid;

    fn try_from(on_wire: OutcomeV1) -> Result<Self, Invalid> {
        match on_wire {
            OutcomeV1::Benchmark(benchmark) => Ok(Self::Benchmark(Box::new((*benchmark).try_into()?))),
            OutcomeV1::Web(web) => Ok(Self::Web(Box::new((*web).try_into()?))),
            OutcomeV1::Test { exit_code, cases, output_tail } => {
                if cases.len() > TestOutcome::CASES_MAX {
                    return Err(Invalid::new("cases", format!("there are more than {}", TestOutcome::CASES_MAX)));
                }
                let cases = cases.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
                Ok(Self::Test(TestOutcome { exit_code, cases, output_tail }))
            }
            OutcomeV1::Failed(failure) => Ok(Self::Failed(failure.try_into()?)),
        }
    }
}

impl TryFrom<BenchmarkOutcomeV1> for BenchmarkOutcome {
    type Error = Invalid;

    fn try_from(on_wire: BenchmarkOutcomeV1) -> Result<Self, Invalid> {
        let iterations = on_wire.iterations_ms;
        if iterations.is_empty() || iterations.len() > BenchmarkSpec::ITERATIONS_LIMIT as usize {
            return Err(Invalid::new("iterations_ms", format!("there are {}", iterations.len())));
        }
        iterations.iter().try_for_each(|ms| measured("iterations_ms", *ms).map(drop))?;
        Ok(Self {
            latency_ms: LatencySummary {
                mean: measured("mean_ms", on_wire.mean_ms)?,
                p50: measured("p50_ms", on_wire.p50_ms)?,
                p90: measured("p90_ms", on_wire.p90_ms)?,
                p99: measured("p99_ms", on_wire.p99_ms)?,
                iterations,
            },
            throughput_items_per_second: measured("throughput_items_per_second", on_wire.throughput_items_per_second)?,
            memory_peak_mb: measured_option("memory_peak_mb", on_wire.memory_peak_mb)?,
            power_w: measured_option("power_w", on_wire.power_w)?,
            load_ms: measured("load_ms", on_wire.load_ms)?,
            warmup_iterations: on_wire.warmup_iterations,
            stop: stop_reason(&on_wire.stop)?,
            backend_version: on_wire.backend_version,
            costs: on_wire.costs.try_into()?,
            conditions: on_wire.conditions.map(TryInto::try_into).transpose()?,
        })
    }
}

fn stop_reason(text: &str) -> Result<StopReason, Invalid> {
    [StopReason::Converged, StopReason::IterationLimit, StopReason::TimeLimit]
        .into_iter()
        .find(|reason| reason.as_str() == text)
        .ok_or_else(|| Invalid::new("stop", format!("`{text}` is no reason to stop")))
}

impl TryFrom<TestCaseV1> for TestCase {
    type Error = Invalid;

    fn try_from(on_wire: TestCaseV1) -> Result<Self, Invalid> {
        use TestCaseStatus::{Error, Failed, Passed, Skipped};
        let status = [Passed, Failed, Error, Skipped]
            .into_iter()
            .find(|status| status.as_str() == on_wire.status)
            .ok_or_else(|| Invalid::new("cases.status", format!("`{}` is no status", on_wire.status)))?;
        Ok(Self {
            module: on_wire.module,
            class: on_wire.class,
            name: on_wire.name,
            status,
            duration_s: measured("cases.duration_s", on_wire.duration_s)?,
            message: on_wire.message,
            traceback: on_wire.traceback,
        })
    }
}
