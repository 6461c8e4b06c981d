//! Everything else on the wire: runs, heartbeats, cancellations, releases, accepted measurements.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Invalid,
    configuration::ConfigurationV1,
    device::{DeviceV1, GraphCostsV1},
    dispatch::{NeedV1, OfferV1},
    measured, measured_option, word,
};
use crate::{
    AcceptedMeasurement, Cancel, CancelTarget, Heartbeat, MetricEvaluation, Progress, QuarantineLifted, ReleaseId,
    ReleasePublished, RunSubmitted, RunningJob, Timestamp, WorkerId,
};

#[derive(Serialize, Deserialize)]
pub(super) struct RunSubmittedV1 {
    run_id: Uuid,
    suite: String,
    origin: String,
    submitted_at_us: i64,
    jobs_total: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    only_job: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    needs: Vec<NeedV1>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    configurations: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    due_at_us: Option<i64>,
    git_commit: Option<String>,
    git_branch: Option<String>,
    command_line: Option<String>,
}

impl From<&RunSubmitted> for RunSubmittedV1 {
    fn from(run: &RunSubmitted) -> Self {
        Self {
            run_id: run.run_id.into(),
            suite: run.suite.clone(),
            origin: run.origin.to_string(),
            submitted_at_us: run.submitted_at.as_micros(),
            jobs_total: run.jobs_total,
            only_job: run.only_job.map(Into::into),
            needs: run.needs.iter().map(Into::into).collect(),
            configurations: run.configurations.clone(),
            due_at_us: run.due_at.map(Timestamp::as_micros),
            git_commit: run.git_commit.clone(),
            git_branch: run.git_branch.clone(),
            command_line: run.command_line.clone(),
        }
    }
}

impl TryFrom<RunSubmittedV1> for RunSubmitted {
    type Error = Invalid;

    fn try_from(on_wire: RunSubmittedV1) -> Result<Self, Invalid> {
        Ok(Self {
            run_id: on_wire.run_id.into(),
            suite: on_wire.suite,
            origin: word("origin", &on_wire.origin)?,
            submitted_at: Timestamp::from_micros(on_wire.submitted_at_us),
            jobs_total: on_wire.jobs_total,
            only_job: on_wire.only_job.map(Into::into),
            needs: on_wire.needs.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            configurations: on_wire.configurations,
            due_at: on_wire.due_at_us.map(Timestamp::from_micros),
            git_commit: on_wire.git_commit,
            git_branch: on_wire.git_branch,
            command_line: on_wire.command_line,
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct HeartbeatV1 {
    worker_id: String,
    host: String,
    pid: u32,
    version: String,
    started_at_us: i64,
    sent_at_us: i64,
    platforms: Vec<String>,
    #[serde(default, skip_serializing_if = "OfferV1::is_empty")]
    offer: OfferV1,
    concurrency: u32,
    draining: bool,
    running: Vec<RunningJobV1>,
    jobs_done: u64,
}

#[derive(Serialize, Deserialize)]
struct RunningJobV1 {
    job_id: Uuid,
    run_id: Uuid,
    case: String,
    started_at_us: i64,
    #[serde(default = "first", skip_serializing_if = "is_first")]
    attempt: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    progress: Option<(u32, u32)>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    leased: bool,
}

const fn first() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_first(attempt: &u32) -> bool {
    *attempt == 1
}

impl From<&Heartbeat> for HeartbeatV1 {
    fn from(heartbeat: &Heartbeat) -> Self {
        let running = |job: &RunningJob| RunningJobV1 {
            job_id: job.job_id.into(),
            run_id: job.run_id.into(),
            case: job.case.clone(),
            started_at_us: job.started_at.as_micros(),
            attempt: job.attempt,
            progress: job.progress.map(|progress| (progress.done, progress.total)),
            leased: job.leased,
        };
        Self {
            worker_id: heartbeat.worker_id.to_string(),
            host: heartbeat.host.clone(),
            pid: heartbeat.pid,
            version: heartbeat.version.clone(),
            started_at_us: heartbeat.started_at.as_micros(),
            sent_at_us: heartbeat.sent_at.as_micros(),
            platforms: heartbeat.platforms.iter().map(ToString::to_string).collect(),
            offer: (&heartbeat.offer).into(),
            concurrency: heartbeat.concurrency,
            draining: heartbeat.draining,
            running: heartbeat.running.iter().map(running).collect(),
            jobs_done: heartbeat.jobs_done,
        }
    }
}

impl TryFrom<HeartbeatV1> for Heartbeat {
    type Error = Invalid;

    fn try_from(on_wire: HeartbeatV1) -> Result<Self, Invalid> {
        let running = |job: RunningJobV1| RunningJob {
            job_id: job.job_id.into(),
            run_id: job.run_id.into(),
            case: job.case,
            started_at: Timestamp::from_micros(job.started_at_us),
            attempt: job.attempt,
            progress: job.progress.map(|(done, total)| Progress { done, total }),
            leased: job.leased,
        };
        Ok(Self {
            worker_id: word::<WorkerId>("worker_id", &on_wire.worker_id)?,
            host: on_wire.host,
            pid: on_wire.pid,
            version: on_wire.version,
            started_at: Timestamp::from_micros(on_wire.started_at_us),
            sent_at: Timestamp::from_micros(on_wire.sent_at_us),
            platforms: on_wire.platforms.iter().map(|text| word("platforms", text)).collect::<Result<_, _>>()?,
            offer: on_wire.offer.into(),
            concurrency: on_wire.concurrency,
            draining: on_wire.draining,
            running: on_wire.running.into_iter().map(running).collect(),
            jobs_done: on_wire.jobs_done,
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct CancelV1 {
    target: CancelTargetV1,
    requested_at_us: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum CancelTargetV1 {
    Job(Uuid),
    Run(Uuid),
}

impl From<&Cancel> for CancelV1 {
    fn from(cancel: &Cancel) -> Self {
        let target = match cancel.target {
            CancelTarget::Job(job_id) => CancelTargetV1::Job(job_id.into()),
            CancelTarget::Run(run_id) => CancelTargetV1::Run(run_id.into()),
        };
        Self { target, requested_at_us: cancel.requested_at.as_micros() }
    }
}

impl TryFrom<CancelV1> for Cancel {
    type Error = Invalid;

    fn try_from(on_wire: CancelV1) -> Result<Self, Invalid> {
        let target = match on_wire.target {
            CancelTargetV1::Job(job_id) => CancelTarget::Job(job_id.into()),
            CancelTargetV1::Run(run_id) => CancelTarget::Run(run_id.into()),
        };
        Ok(Self { target, requested_at: Timestamp::from_micros(on_wire.requested_at_us) })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct QuarantineLiftedV1 {
    job_id: Uuid,
    lifted_at_us: i64,
}

impl From<&QuarantineLifted> for QuarantineLiftedV1 {
    fn from(QuarantineLifted { job_id, lifted_at }: &QuarantineLifted) -> Self {
        Self { job_id: (*job_id).into(), lifted_at_us: lifted_at.as_micros() }
    }
}

impl TryFrom<QuarantineLiftedV1> for QuarantineLifted {
    type Error = Invalid;

    fn try_from(QuarantineLiftedV1 { job_id, lifted_at_us }: QuarantineLiftedV1) -> Result<Self, Invalid> {
        Ok(Self { job_id: job_id.into(), lifted_at: Timestamp::from_micros(lifted_at_us) })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct ReleasePublishedV1 {
    release_id: String,
    parent: Option<String>,
    created_at_us: i64,
    training_rows: u32,
    evaluation: Vec<MetricEvaluationV1>,
}

#[derive(Serialize, Deserialize)]
struct MetricEvaluationV1 {
    metric: String,
    rows: u32,
    mape_pct: f64,
    interval_90_coverage_pct: f64,
}

impl From<&ReleasePublished> for ReleasePublishedV1 {
    fn from(release: &ReleasePublished) -> Self {
        let evaluation = |e: &MetricEvaluation| MetricEvaluationV1 {
            metric: e.metric.to_string(),
            rows: e.rows,
            mape_pct: e.mape_pct,
            interval_90_coverage_pct: e.interval_90_coverage_pct,
        };
        Self {
            release_id: release.release_id.to_string(),
            parent: release.parent.as_ref().map(ToString::to_string),
            created_at_us: release.created_at.as_micros(),
            training_rows: release.training_rows,
            evaluation: release.evaluation.iter().map(evaluation).collect(),
        }
    }
}

impl TryFrom<ReleasePublishedV1> for ReleasePublished {
    type Error = Invalid;

    fn try_from(on_wire: ReleasePublishedV1) -> Result<Self, Invalid> {
        let evaluation = |e: MetricEvaluationV1| {
            Ok(MetricEvaluation {
                metric: word("evaluation.metric", &e.metric)?,
                rows: e.rows,
                mape_pct: measured("evaluation.mape_pct", e.mape_pct)?,
                interval_90_coverage_pct: measured("evaluation.interval_90_coverage_pct", e.interval_90_coverage_pct)?,
            })
        };
        Ok(Self {
            release_id: word::<ReleaseId>("release_id", &on_wire.release_id)?,
            parent: on_wire.parent.map(|text| word("parent", &text)).transpose()?,
            created_at: Timestamp::from_micros(on_wire.created_at_us),
            training_rows: on_wire.training_rows,
            evaluation: on_wire.evaluation.into_iter().map(evaluation).collect::<Result<_, _>>()?,
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct AcceptedMeasurementV1 {
    job_id: Uuid,
    run_id: Uuid,
    measured_at_us: i64,
    configuration: ConfigurationV1,
    device: DeviceV1,
    costs: GraphCostsV1,
    backend_version: String,
    iterations: u32,
    latency_ms: f64,
    throughput_items_per_second: f64,
    memory_peak_mb: Option<f64>,
    power_w: Option<f64>,
    load_ms: f64,
}

impl From<&AcceptedMeasurement> for AcceptedMeasurementV1 {
    fn from(accepted: &AcceptedMeasurement) -> Self {
        Self {
            job_id: accepted.job_id.into(),
            run_id: accepted.run_id.into(),
            measured_at_us: accepted.measured_at.as_micros(),
            configuration: (&accepted.configuration).into(),
            device: (&accepted.device).into(),
            costs: (&accepted.costs).into(),
            backend_version: accepted.backend_version.clone(),
            iterations: accepted.iterations,
            latency_ms: accepted.latency_ms,
            throughput_items_per_second: accepted.throughput_items_per_second,
            memory_peak_mb: accepted.memory_peak_mb,
            power_w: accepted.power_w,
            load_ms: accepted.load_ms,
        }
    }
}

impl TryFrom<AcceptedMeasurementV1> for AcceptedMeasurement {
    type Error = Invalid;

    fn try_from(on_wire: AcceptedMeasurementV1) -> Result<Self, Invalid> {
        Ok(Self {
            job_id: on_wire.job_id.into(),
            run_id: on_wire.run_id.into(),
            measured_at: Timestamp::from_micros(on_wire.measured_at_us),
            configuration: on_wire.configuration.try_into()?,
            device: on_wire.device.try_into()?,
            costs: on_wire.costs.try_into()?,
            backend_version: on_wire.backend_version,
            iterations: on_wire.iterations,
            latency_ms: measured("latency_ms", on_wire.latency_ms)?,
            throughput_items_per_second: measured("throughput_items_per_second", on_wire.throughput_items_per_second)?,
            memory_peak_mb: measured_option("memory_peak_mb", on_wire.memory_peak_mb)?,
            power_w: measured_option("power_w", on_wire.power_w)?,
            load_ms: measured("load_ms", on_wire.load_ms)?,
        })
    }
}
