//! Web jobs and what browsers did, on the wire.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Invalid, job::BenchmarkV1, measured, result::BenchmarkOutcomeV1, word};
use crate::{Adapter, Platform, Warmth, WebOutcome, WebPhases, WebSpec};

/// Longest text that a browser may say of itself or of an adapter, in bytes.
const TEXT_BYTES_MAX: usize = 1_024;

#[derive(Serialize, Deserialize)]
pub(super) struct WebV1 {
    benchmark: BenchmarkV1,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    browsers: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    platforms: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    memory_mb: Option<u64>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct WebOutcomeV1 {
    benchmark: BenchmarkOutcomeV1,
    platform: String,
    browser: String,
    browser_version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    adapter: Option<AdapterV1>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    nodes: BTreeMap<String, u32>,
    fetch_ms: f64,
    session_ms: f64,
    first_run_ms: f64,
    total_ms: f64,
    warmth: String,
    threads: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    recoveries: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct AdapterV1 {
    vendor: String,
    architecture: String,
    device: String,
    description: String,
    is_fallback: bool,
    features: Vec<String>,
    limits: BTreeMap<String, f64>,
}

impl From<&WebSpec> for WebV1 {
    fn from(web: &WebSpec) -> Self {
        Self {
            benchmark: (&web.benchmark).into(),
            browsers: web.browsers.clone(),
            platforms: web.platforms.iter().map(ToString::to_string).collect(),
            memory_mb: web.memory_mb,
        }
    }
}

impl TryFrom<WebV1> for WebSpec {
    type Error = Invalid;

    fn try_from(on_wire: WebV1) -> Result<Self, Invalid> {
        at_most("platforms", on_wire.platforms.len(), Platform::ALL.len())?;
        let platforms =
            on_wire.platforms.iter().map(|text| word::<Platform>("platforms", text)).collect::<Result<_, _>>()?;
        let web = Self {
            benchmark: on_wire.benchmark.try_into()?,
            browsers: on_wire.browsers,
            platforms,
            memory_mb: on_wire.memory_mb,
        };
        web.validate().map_err(|error| Invalid::new(error.field, &error))?;
        Ok(web)
    }
}

impl From<&WebOutcome> for WebOutcomeV1 {
    fn from(web: &WebOutcome) -> Self {
        Self {
            benchmark: (&web.benchmark).into(),
            platform: web.platform.to_string(),
            browser: web.browser.clone(),
            browser_version: web.browser_version.clone(),
            adapter: web.adapter.as_ref().map(Into::into),
            nodes: web.nodes.clone(),
            fetch_ms: web.phases.fetch_ms,
            session_ms: web.phases.session_ms,
            first_run_ms: web.phases.first_run_ms,
            total_ms: web.phases.total_ms,
            warmth: web.warmth.to_string(),
            threads: web.threads,
            recoveries: web.recoveries.clone(),
        }
    }
}

impl TryFrom<WebOutcomeV1> for WebOutcome {
    type Error = Invalid;

    fn try_from(on_wire: WebOutcomeV1) -> Result<Self, Invalid> {
        let platform: Platform = word("web.platform", &on_wire.platform)?;
        if !platform.is_web() {
            return Err(Invalid::new("web.platform", format!("no browser gives {platform}")));
        }
        if on_wire.threads == 0 {
            return Err(Invalid::new("web.threads", "there is at least 1"));
        }
        crate::web::browser_name(&on_wire.browser).map_err(|error| Invalid::new("web.browser", error))?;
        at_most("web.browser_version", on_wire.browser_version.len(), TEXT_BYTES_MAX)?;
        at_most("web.nodes", on_wire.nodes.len(), Self::PROVIDERS_MAX)?;
        at_most("web.recoveries", on_wire.recoveries.len(), Self::RECOVERIES_MAX)?;
        Ok(Self {
            benchmark: on_wire.benchmark.try_into()?,
            platform,
            browser: on_wire.browser,
            browser_version: on_wire.browser_version,
            adapter: on_wire.adapter.map(TryInto::try_into).transpose()?,
            nodes: on_wire.nodes,
            phases: WebPhases {
                fetch_ms: measured("web.fetch_ms", on_wire.fetch_ms)?,
                session_ms: measured("web.session_ms", on_wire.session_ms)?,
                first_run_ms: measured("web.first_run_ms", on_wire.first_run_ms)?,
                total_ms: measured("web.total_ms", on_wire.total_ms)?,
            },
            warmth: word::<Warmth>("web.warmth", &on_wire.warmth)?,
            threads: on_wire.threads,
            recoveries: on_wire.recoveries,
        })
    }
}

impl From<&Adapter> for AdapterV1 {
    fn from(adapter: &Adapter) -> Self {
        let Adapter { vendor, architecture, device, description, is_fallback, features, limits } = adapter.clone();
        Self { vendor, architecture, device, description, is_fallback, features, limits }
    }
}

impl TryFrom<AdapterV1> for Adapter {
    type Error = Invalid;

    fn try_from(on_wire: AdapterV1) -> Result<Self, Invalid> {
        let AdapterV1 { vendor, architecture, device, description, is_fallback, features, limits } = on_wire;
        for text in [&vendor, &architecture, &device, &description] {
            at_most("web.adapter", text.len(), TEXT_BYTES_MAX)?;
        }
        at_most("web.adapter.features", features.len(), Self::PROPERTIES_MAX)?;
        at_most("web.adapter.limits", limits.len(), Self::PROPERTIES_MAX)?;
        limits.values().try_for_each(|limit| measured("web.adapter.limits", *limit).map(drop))?;
        Ok(Self { vendor, architecture, device, description, is_fallback, features, limits })
    }
}

fn at_most(field: &'static str, found: usize, max: usize) -> Result<(), Invalid> {
    if found <= max { Ok(()) } else { Err(Invalid::new(field, format!("{found} is more than {max}"))) }
}
