//! Jobs on the wire.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Invalid,
    configuration::{ConfigurationV1, PredictionV1},
    dispatch::DispatchV1,
    measured,
    web::WebV1,
    word,
};
use crate::{BenchmarkSpec, Job, JobSpec, RunRef, TestSpec, Timestamp};

#[derive(Serialize, Deserialize)]
pub(super) struct JobV1 {
    job_id: Uuid,
    run_id: Uuid,
    suite: String,
    jobs_total: u32,
    origin: String,
    case: String,
    priority: String,
    platform: String,
    submitted_at_us: i64,
    timeout_ms: u64,
    #[serde(default, skip_serializing_if = "DispatchV1::is_usual")]
    dispatch: DispatchV1,
    spec: JobSpecV1,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum JobSpecV1 {
    Test {
        profile: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        module: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        class: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        method: Option<String>,
    },
    Benchmark(BenchmarkV1),
    /// Since version 2.
    Web(WebV1),
}

#[derive(Serialize, Deserialize)]
pub(super) struct BenchmarkV1 {
    configuration: ConfigurationV1,
    warmup_iterations: u32,
    iterations_min: u32,
    iterations_max: u32,
    median_interval_pct: f64,
    duration_ms_max: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prediction: Option<PredictionV1>,
}

impl From<&Job> for JobV1 {
    fn from(job: &Job) -> Self {
        Self {
            job_id: job.job_id.into(),
            run_id: job.run.run_id.into(),
            suite: job.run.suite.clone(),
            jobs_total: job.run.jobs_total,
            origin: job.run.origin.to_string(),
            case: job.case.clone(),
            priority: job.priority.to_string(),
            platform: job.platform.to_string(),
            submitted_at_us: job.submitted_at.as_micros(),
            timeout_ms: job.timeout_ms,
            dispatch: (&job.dispatch).into(),
            spec: (&job.spec).into(),
        }
    }
}

impl From<&JobSpec> for JobSpecV1 {
    fn from(spec: &JobSpec) -> Self {
        match spec {
            JobSpec::Test(test) => Self::Test {
                profile: test.profile.clone(),
                module: test.module.clone(),
                class: test.class.clone(),
                method: test.method.clone(),
            },
            JobSpec::Benchmark(benchmark) => Self::Benchmark(benchmark.as_ref().into()),
            JobSpec::Web(web) => Self::Web(web.as_ref().into()),
        }
    }
}

impl From<&BenchmarkSpec> for BenchmarkV1 {
    fn from(benchmark: &BenchmarkSpec) -> Self {
        Self {
            configuration: (&benchmark.configuration).into(),
            warmup_iterations: benchmark.warmup_iterations,
            iterations_min: benchmark.iterations_min,
            iterations_max: benchmark.iterations_max,
            median_interval_pct: benchmark.median_interval_pct,
            duration_ms_max: benchmark.duration_ms_max,
            prediction: benchmark.prediction.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<JobV1> for Job {
    type Error = Invalid;

    fn try_from(on_wire: JobV1) -> Result<Self, Invalid> {
        if !(1..=Self::TIMEOUT_MS_LIMIT).contains(&on_wire.timeout_ms) {
            return Err(Invalid::new("timeout_ms", format!("1 to {} is possible", Self::TIMEOUT_MS_LIMIT)));
        }
        let job = Self {
            job_id: on_wire.job_id.into(),
            run: RunRef {
                run_id: on_wire.run_id.into(),
                suite: on_wire.suite,
                jobs_total: on_wire.jobs_total,
                origin: word("origin", &on_wire.origin)?,
            },
            case: on_wire.case,
            priority: word("priority", &on_wire.priority)?,
            platform: word("platform", &on_wire.platform)?,
            submitted_at: Timestamp::from_micros(on_wire.submitted_at_us),
            timeout_ms: on_wire.timeout_ms,
            dispatch: on_wire.dispatch.try_into()?,
            spec: on_wire.spec.try_into()?,
        };
        match job.spec.benchmark().map(|benchmark| benchmark.configuration.platform) {
            Some(platform) if platform != job.platform => Err(Invalid::new(
                "platform",
                format!("the job is for {}, its configuration for {platform}", job.platform),
            )),
            _ => Ok(job),
        }
    }
}

impl TryFrom<JobSpecV1> for JobSpec {
    type Error = Invalid;

    fn try_from(on_wire: JobSpecV1) -> Result<Self, Invalid> {
        match on_wire {
            JobSpecV1::Test { profile, module, class, method } => {
                Ok(Self::Test(TestSpec { profile, module, class, method }))
            }
            JobSpecV1::Benchmark(benchmark) => Ok(Self::Benchmark(Box::new(benchmark.try_into()?))),
            JobSpecV1::Web(web) => Ok(Self::Web(Box::new(web.try_into()?))),
        }
    }
}

impl TryFrom<BenchmarkV1> for BenchmarkSpec {
    type Error = Invalid;

    fn try_from(on_wire: BenchmarkV1) -> Result<Self, Invalid> {
        let BenchmarkV1 { warmup_iterations, iterations_min, iterations_max, .. } = on_wire;
        let limit = Self::ITERATIONS_LIMIT;
        if !(1..=limit).contains(&iterations_max) || !(1..=iterations_max).contains(&iterations_min) {
            return Err(Invalid::new(
                "iterations_min, iterations_max",
                format!("{iterations_min} to {iterations_max} is no range within 1 to {limit}"),
            ));
        }
        if warmup_iterations > limit {
            return Err(Invalid::new("warmup_iterations", format!("at most {limit} are possible")));
        }
        Ok(Self {
            configuration: on_wire.configuration.try_into()?,
            warmup_iterations,
            iterations_min,
            iterations_max,
            median_interval_pct: measured("median_interval_pct", on_wire.median_interval_pct)?,
            duration_ms_max: on_wire.duration_ms_max,
            prediction: on_wire.prediction.map(TryInto::try_into).transpose()?,
        })
    }
}
