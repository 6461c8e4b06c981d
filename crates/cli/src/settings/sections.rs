//! The settings' sections as types; `settings/defaults.toml` says what each key means.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

/// All settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) amqp_url: String,
    pub(crate) aggregator_url: String,
    pub(crate) state_directory: String,
    pub(crate) cache_directory: String,
    pub(crate) onnxruntime_library: String,
    pub(crate) ort_web_directory: String,
    pub(crate) broker: BrokerSection,
    pub(crate) aggregator: AggregatorSection,
    pub(crate) worker: WorkerSection,
    pub(crate) browsers: BrowsersSection,
    pub(crate) updater: UpdaterSection,
    pub(crate) learner: LearnerSection,
    pub(crate) recommend: RecommendSection,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BrokerSection {
    pub(crate) patience_s: u64,
    pub(crate) management_url: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AggregatorSection {
    pub(crate) listen: String,
    pub(crate) batch_messages_max: usize,
    pub(crate) batch_wait_ms: u64,
    pub(crate) database_memory_mb: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WorkerSection {
    pub(crate) platforms: Vec<String>,
    pub(crate) concurrency: u16,
    pub(crate) prefetch: u16,
    pub(crate) grace_s: u64,
    pub(crate) claim_after_s: u64,
    pub(crate) lease_s: u64,
    pub(crate) hold_ms_max: u64,
    pub(crate) tags: Vec<String>,
    pub(crate) rate_limit_per_s: BTreeMap<String, f64>,
    pub(crate) output_tail_bytes_max: usize,
    pub(crate) child_memory_mb_max: u64,
    pub(crate) waited_pct_max: f64,
    pub(crate) arithmetic_pct_min: f64,
    pub(crate) profiles: BTreeMap<String, ProfileSection>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProfileSection {
    pub(crate) runner: String,
    pub(crate) enabled: bool,
    #[serde(default)]
    pub(crate) program: Option<PathBuf>,
    #[serde(default)]
    pub(crate) arguments: Vec<String>,
    #[serde(default)]
    pub(crate) working_directory: Option<PathBuf>,
    #[serde(default)]
    pub(crate) environment: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) timeout_s: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BrowsersSection {
    pub(crate) platforms: Vec<String>,
    pub(crate) concurrency: u16,
    pub(crate) memory_mb_max: u64,
    pub(crate) session_memory_mb_max: u64,
    pub(crate) jobs_per_session_max: u32,
    pub(crate) waiting_max: usize,
    pub(crate) promote_after_s: u64,
    pub(crate) idle_tab_s_max: u64,
    pub(crate) idle_session_s_max: u64,
    pub(crate) start_s_max: u64,
    pub(crate) open_s_max: u64,
    pub(crate) silence_s_max: u64,
    pub(crate) probe_s_max: u64,
    pub(crate) probe_every_s: u64,
    pub(crate) failures_to_open: u32,
    pub(crate) open_s: u64,
    pub(crate) open_s_longest: u64,
    pub(crate) deaths_max: u32,
    pub(crate) pool: BTreeMap<String, BrowserSection>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BrowserSection {
    pub(crate) family: String,
    #[serde(default = "enabled")]
    pub(crate) enabled: bool,
    #[serde(default)]
    pub(crate) binary: Option<PathBuf>,
    #[serde(default)]
    pub(crate) driver: Option<PathBuf>,
    #[serde(default)]
    pub(crate) arguments: Vec<String>,
    #[serde(default)]
    pub(crate) attach: bool,
    #[serde(default = "one")]
    pub(crate) sessions_max: u32,
    #[serde(default = "one")]
    pub(crate) tabs_max: u32,
}

const fn enabled() -> bool {
    true
}

const fn one() -> u32 {
    1
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdaterSection {
    pub(crate) rows_new_min: usize,
    pub(crate) quiet_s: u64,
    pub(crate) strategy: String,
    pub(crate) rounds: u32,
    pub(crate) ensemble: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LearnerSection {
    pub(crate) strategy: String,
    pub(crate) batch: usize,
    pub(crate) budget: usize,
    pub(crate) priority: String,
    pub(crate) seed: u64,
    pub(crate) device: String,
    pub(crate) models: Vec<String>,
    pub(crate) batch_sizes: Vec<u32>,
    pub(crate) sequence_lengths: Vec<u32>,
    pub(crate) threads: Vec<u32>,
    pub(crate) web_platforms: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecommendSection {
    pub(crate) price_per_hour: BTreeMap<String, f64>,
}

impl RecommendSection {
    /// What a device costs per hour, if it has a price; keys of settings are in small letters.
    pub(crate) fn price(&self, device: &str) -> Option<f64> {
        let price = self.price_per_hour.iter().find(|(name, _)| name.eq_ignore_ascii_case(device));
        price.map(|(_, price)| *price).filter(|price| *price > 0.0)
    }
}
