//! Rows about measurements that do not count, and what kept them from it.

use messages::{Conditions, MachineState};
use serde::{Deserialize, Serialize};

/// A measurement that predictors do not learn from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeldBackRow {
    /// The job that measured.
    pub job_id: String,
    /// Its run.
    pub run_id: String,
    /// Name of its case.
    pub case: String,
    /// The model.
    pub model: Option<String>,
    /// The kind of execution target.
    pub platform: String,
    /// Name of the device.
    pub device: Option<String>,
    /// Median time of a batch, in milliseconds, as it was reported.
    pub latency_p50_ms: Option<f64>,
    /// `quarantined`, `throttled`, `disturbed` or `rejected`.
    pub standing: String,
    /// Why.
    pub reason: String,
    /// When the job ended.
    pub measured_at: String,
}

/// What the machine was doing around and during the timed iterations; null is what it does not show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConditionsRow {
    /// Before the first timed iteration.
    pub before: MachineStateRow,
    /// After the last.
    pub after: MachineStateRow,
    /// Logical processors that others kept busy, on average.
    pub busy_elsewhere_cpus: Option<f64>,
    /// Share of their time that the benchmark's threads waited for a processor, in percent.
    pub waited_pct: Option<f64>,
    /// Share of the busy time that the host gave to other machines, in percent.
    pub stolen_pct: Option<f64>,
    /// Arithmetic that its threads did around it in their processor time, in percent of the usual.
    #[serde(default)]
    pub arithmetic_pct: Option<f64>,
    /// Time until one of its threads saw what another had written, in ns.
    #[serde(default)]
    pub handoff_ns: Option<f64>,
    /// How often a core was slowed down because of heat.
    pub throttle_events: Option<u64>,
}

/// A machine at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MachineStateRow {
    /// Clock of the fastest core, in MHz.
    pub clock_mhz: Option<f64>,
    /// The hottest sensor, in degrees Celsius.
    pub temperature_c: Option<f64>,
    /// Processes that ran or wanted to, averaged over a minute.
    pub load_average: Option<f64>,
}

impl From<&Conditions> for ConditionsRow {
    fn from(conditions: &Conditions) -> Self {
        Self {
            before: conditions.before.into(),
            after: conditions.after.into(),
            busy_elsewhere_cpus: conditions.busy_elsewhere_cpus,
            waited_pct: conditions.waited_pct,
            stolen_pct: conditions.stolen_pct,
            arithmetic_pct: conditions.arithmetic_pct,
            handoff_ns: conditions.handoff_ns,
            throttle_events: conditions.throttle_events,
        }
    }
}

impl From<MachineState> for MachineStateRow {
    fn from(MachineState { clock_mhz, temperature_c, load_average }: MachineState) -> Self {
        Self { clock_mhz, temperature_c, load_average }
    }
}
