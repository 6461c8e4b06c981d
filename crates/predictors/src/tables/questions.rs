//! What is asked of predictors, and what they answer.

use features::{DeviceTable, MeasuredRow, PublishedDevice, TrainingMemory};
use messages::Metric;

use super::{data::TableData, domain::Outside, novelty::Novelty};
use crate::calibration::GROUPS_MIN;

/// Configurations to predict, with their features.
#[derive(Debug)]
pub struct Questions {
    pub(super) data: TableData,
    pub(super) devices: DeviceTable,
    pub(super) training_memory: Vec<Option<TrainingMemory>>,
    pub(super) outside: Vec<Outside>,
}

/// One metric's predicted value with its interval, in the metric's unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answer {
    /// Index of the question.
    pub question: usize,
    /// Which metric.
    pub metric: Metric,
    /// The most likely value.
    pub value: f64,
    /// Lower end of the 90 % interval.
    pub lower: f64,
    /// Upper end of the 90 % interval.
    pub upper: f64,
    /// Share of similar past predictions that fell within ±20 % of the truth, 0 to 1; less outside the known domain.
    pub confidence: f64,
    /// How much the members of the ensemble disagree: the standard deviation of their logs.
    pub spread_log: f64,
    /// What of the question was never measured.
    pub novelty: Novelty,
    /// How many that were as new the interval rests on: configurations, families of models or devices.
    pub groups: usize,
}

impl Answer {
    /// Whether the interval rests on so few that 90 % can be promised only if these differ as draws from a normal
    /// distribution do.
    pub const fn rests_on_few(&self) -> bool {
        self.groups < GROUPS_MIN
    }
}

/// Whether a configuration fits into its device's memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MemoryFit {
    /// Predicted peak where memory was trained, else that of physics, in MB.
    pub peak_mb: f64,
    /// What it needs at least: weights and what one operator reads and writes at once, or the lower end of the interval
    /// where memory was trained and that is more.
    pub least_mb: f64,
    /// What the device has, in MB, if that is known.
    pub device_mb: Option<f64>,
}

impl MemoryFit {
    /// Whether it certainly does not fit.
    pub fn is_too_large(&self) -> bool {
        self.device_mb.is_some_and(|device_mb| self.least_mb > device_mb)
    }
}

impl Questions {
    /// The configurations.
    pub fn rows(&self) -> &[MeasuredRow] {
        self.data.rows()
    }

    /// What lies outside the known domain, for people; nothing if all is inside.
    pub fn outside(&self, question: usize) -> &[String] {
        &self.outside[question].reasons
    }

    /// The device that a question is about, as published, if that is known.
    pub fn device(&self, question: usize) -> Option<&PublishedDevice> {
        self.devices.get(&self.data.row(question).device)
    }

    /// What training would hold in memory, by physics; `None` where the model's operators are unknown.
    pub fn training_memory(&self, question: usize) -> Option<TrainingMemory> {
        self.training_memory[question]
    }
}
