//! What was measured, ready to learn from, and what was predicted.

use crate::{Configuration, Device, GraphCosts, JobId, Metric, ReleaseId, RunId, Timestamp};

/// One configuration's measurements that passed the aggregator's checks.
///
/// It carries all that the features need, so the updater asks nobody.
#[derive(Debug, Clone, PartialEq)]
pub struct AcceptedMeasurement {
    /// The job that measured.
    pub job_id: JobId,
    /// Its run.
    pub run_id: RunId,
    /// When the job ended.
    pub measured_at: Timestamp,
    /// What was measured.
    pub configuration: Configuration,
    /// On what.
    pub device: Device,
    /// The model's costs at the configuration's shape.
    pub costs: GraphCosts,
    /// Version of the backend.
    pub backend_version: String,
    /// Timed iterations.
    pub iterations: u32,
    /// Median time of one batch, in milliseconds.
    pub latency_ms: f64,
    /// Items per second.
    pub throughput_items_per_second: f64,
    /// Peak memory, in MB; `None` if it could not be read.
    pub memory_peak_mb: Option<f64>,
    /// Mean power, in watts; `None` if it could not be read.
    pub power_w: Option<f64>,
    /// Time to load, in milliseconds; 0 where nothing was loaded, because a browser had the model already.
    pub load_ms: f64,
}

/// One metric's predicted value with its interval, in the metric's unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PredictedMetric {
    /// Which metric.
    pub metric: Metric,
    /// The most likely value.
    pub value: f64,
    /// Lower end of the 90 % interval.
    pub lower: f64,
    /// Upper end of the 90 % interval.
    pub upper: f64,
}

/// What a release said about a configuration before it was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The release that said it.
    pub release_id: ReleaseId,
    /// Name of the device that it was said of; `None` in jobs from before that was said.
    pub device: Option<String>,
    /// One entry per metric.
    pub metrics: Vec<PredictedMetric>,
}

impl Prediction {
    /// Whether a measurement on this device can be held against it.
    pub fn is_of(&self, device: &Device) -> bool {
        self.device.as_ref().is_none_or(|name| *name == device.name)
    }
}
