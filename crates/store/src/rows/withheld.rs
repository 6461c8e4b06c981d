//! Rows about what is not worth proposing.

use serde::{Deserialize, Serialize};

/// What nobody has measured and is not to be proposed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WithheldRows {
    /// What the jobs of open runs measure: each configuration once, by its text.
    pub queued: Vec<String>,
    /// What became a dead letter: the configuration's text where the case measures one, else the case's name.
    #[serde(default)]
    pub dead: Vec<String>,
    /// Configurations of benchmarks that failed, by their text.
    #[serde(default)]
    pub failed: Vec<String>,
    /// What cannot be measured.
    pub incompatible: Vec<IncompatibleRow>,
}

/// A model that a device's backend refused and that never ran there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncompatibleRow {
    /// The model.
    pub model: String,
    /// The kind of execution target.
    pub platform: String,
    /// Name of the device.
    pub device: String,
    /// What the backend said last.
    pub message: Option<String>,
}
