//! Rows about runs that were held against earlier measurements.

use serde::{Deserialize, Serialize};

/// One configuration of a run with what was measured of it before: medians of the iterations of each repeat, in
/// milliseconds.
#[derive(Debug, Clone, PartialEq)]
pub struct ComparableRow {
    /// The configuration and its device, for people.
    pub configuration: String,
    /// The platform and the device, for people.
    pub place: String,
    /// In the run, in the order in which the jobs ended.
    pub run_ms: Vec<f64>,
    /// Before the run was submitted, the latest first.
    pub earlier_ms: Vec<f64>,
}

/// What came of comparing a run with what was measured before it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JudgementRow {
    /// The run.
    pub run_id: String,
    /// When it was compared; empty until it is stored.
    pub judged_at: String,
    /// Results of the run at that moment.
    pub done: u32,
    /// Configurations that had been measured before.
    pub compared: u32,
    /// Of these, with too few repeats to tell.
    pub undecided: u32,
    /// Of these, faster by more than the threshold, and not by chance.
    pub improvements: u32,
    /// Smallest difference that matters, in percent.
    pub threshold_pct: f64,
    /// Probability of any false alarm in the run.
    pub false_alarms: f64,
    /// Those that are slower by more than the threshold, and not by chance.
    pub regressions: Vec<RegressionRow>,
}

/// A configuration that became slower, or all of a device's together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RegressionRow {
    /// The configuration and its device, or how many configurations of which device, for people.
    pub configuration: String,
    /// Repeats in the run.
    pub run_repeats: u32,
    /// Earlier repeats.
    pub baseline_repeats: u32,
    /// Median over the run's repeats of their medians, in milliseconds; of a device, the sum over its configurations.
    pub run_ms: f64,
    /// The same of the earlier ones.
    pub baseline_ms: f64,
    /// The estimated effect, in percent of the earlier latency.
    pub difference_pct: f64,
    /// Lower end of its 95 % interval.
    pub lower_pct: Option<f64>,
    /// Upper end of its 95 % interval.
    pub upper_pct: Option<f64>,
    /// Probability of repeats that differ at least as much by chance.
    pub p: f64,
    /// The same, corrected for the number of comparisons.
    pub p_corrected: f64,
}
