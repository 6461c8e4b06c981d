//! What a browser can do, found out by computing a tiny graph; an interface that is merely there proves nothing.

use std::collections::BTreeMap;

use messages::{Adapter, ContentHash, Platform};
use serde::Serialize;
use tokio::time;

use crate::{
    BrowserError, PoolSettings,
    protocol::{Cause, Failed, LoadCommand, ModelLocation, ProbeCommand, Probed},
    server::Server,
    tab::{Step, Tab, TabEnd},
};

/// `y = x W` in float32, made by `models/generate.py`.
const PROBE_MODEL: &[u8] = include_bytes!("../models/probe.onnx");

/// The name under which the probe's file is offered; nobody compares it with the bytes.
const PROBE_HASH: ContentHash = ContentHash([0; 32]);

/// The probe's input, two rows of four.
const PROBE_X: &[f32] = &[1.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0];

/// `PROBE_X` times the weights −5, −4, …, 6 in four rows of three: small whole numbers, exact in any float format.
const PROBE_Y: &[f32] = &[-5.0, -4.0, -3.0, 10.0, 20.0, 30.0];

/// Largest difference to the expected numbers; WebNN may compute in 16-bit floats.
const TOLERANCE: f32 = 1e-3;

/// Whether one platform of one browser works.
#[derive(Debug, Clone, PartialEq)]
pub struct Capability {
    /// The browser.
    pub browser: String,
    /// The platform in it.
    pub platform: Platform,
    /// Whether the tiny graph came out right.
    pub works: bool,
    /// Why not, if not.
    pub reason: Option<String>,
    /// The GPU adapter, on WebGPU.
    pub adapter: Option<Adapter>,
    /// Threads that WebAssembly can have: 1 where pages are not isolated.
    pub threads: Option<u32>,
    /// What the probe took, in milliseconds, with loading the runtime.
    pub took_ms: Option<f64>,
    /// Version of ONNX Runtime Web.
    pub backend_version: Option<String>,
}

/// What was found of one browser.
#[derive(Debug, Clone, PartialEq)]
pub struct Detected {
    /// Its name.
    pub browser: String,
    /// Its family.
    pub family: crate::Family,
    /// Its executable, where it is installed.
    pub binary: Option<std::path::PathBuf>,
    /// Its version.
    pub version: Option<String>,
    /// Its driver's version.
    pub driver_version: Option<String>,
    /// Why it cannot be used, if it cannot.
    pub reason: Option<String>,
    /// Each platform.
    pub capabilities: Vec<Capability>,
}

/// A capability as JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CapabilityStatus {
    /// The browser.
    pub browser: String,
    /// The platform.
    pub platform: String,
    /// Whether it works.
    pub works: bool,
    /// Why not.
    pub reason: Option<String>,
    /// The adapter's name.
    pub adapter: Option<String>,
    /// Whether the adapter computes on the processor.
    pub is_fallback: Option<bool>,
    /// The adapter's optional features.
    pub features: Vec<String>,
    /// The adapter's limits by name.
    pub limits: BTreeMap<String, f64>,
    /// Threads.
    pub threads: Option<u32>,
    /// What the probe took, in milliseconds.
    pub took_ms: Option<f64>,
}

impl Capability {
    /// Something that does not work.
    pub(crate) fn lacking(browser: &str, platform: Platform, reason: String) -> Self {
        Self {
            browser: browser.to_owned(),
            platform,
            works: false,
            reason: Some(reason),
            adapter: None,
            threads: None,
            took_ms: None,
            backend_version: None,
        }
    }

    /// Whether the adapter computes with 16-bit floats.
    pub fn has_half_floats(&self) -> bool {
        self.adapter.as_ref().is_some_and(|adapter| adapter.features.iter().any(|feature| feature == "shader-f16"))
    }

    fn of(browser: &str, platform: Platform, probed: Probed) -> Self {
        let is_close = |(computed, right): (&Option<f32>, &f32)| {
            computed.is_some_and(|computed| (computed - right).abs() <= TOLERANCE)
        };
        let is_right = probed.computed.len() == PROBE_Y.len() && probed.computed.iter().zip(PROBE_Y).all(is_close);
        Self {
            browser: browser.to_owned(),
            platform,
            works: is_right,
            reason: (!is_right).then(|| format!("it computes {:?} where {PROBE_Y:?} is right", probed.computed)),
            adapter: probed.adapter.map(Into::into),
            threads: Some(if platform == Platform::Wasm { probed.threads } else { 1 }),
            took_ms: Some(probed.took_ms),
            backend_version: Some(probed.backend_version),
        }
    }
}

impl From<&Capability> for CapabilityStatus {
    fn from(capability: &Capability) -> Self {
        let Capability { browser, platform, works, reason, adapter, threads, took_ms, .. } = capability.clone();
        let name = |adapter: &Adapter| {
            let words = [&adapter.vendor, &adapter.architecture, &adapter.device, &adapter.description];
            words.into_iter().filter(|word| !word.is_empty()).cloned().collect::<Vec<_>>().join(" ")
        };
        Self {
            browser,
            platform: platform.to_string(),
            works,
            reason,
            adapter: adapter.as_ref().map(name),
            is_fallback: adapter.as_ref().map(|adapter| adapter.is_fallback),
            limits: adapter.as_ref().map(|adapter| adapter.limits.clone()).unwrap_or_default(),
            features: adapter.map(|adapter| adapter.features).unwrap_or_default(),
            threads,
            took_ms,
        }
    }
}

/// Probes one platform in an open tab; the tab is as it was afterwards, unless it is gone.
pub(crate) async fn probe(
    tab: &mut Tab,
    server: &Server,
    probe_path: &std::path::Path,
    browser: &str,
    platform: Platform,
    settings: &PoolSettings,
) -> Result<Capability, TabEnd> {
    let job = format!("probe-{}", uuid::Uuid::now_v7().simple());
    let _offer = server.offer(&job, PROBE_HASH, probe_path.to_owned(), Vec::new());
    let model = ModelLocation { key: "probe".to_owned(), path: format!("models/{PROBE_HASH}") };
    let load = LoadCommand { job, platform: platform.as_str(), threads: 1, model };
    let command = ProbeCommand { load, x: PROBE_X, dims: [2, 4] };
    let limit = time::Duration::from_millis(settings.probe_ms_max);
    match time::timeout(limit, tab.probe(command, &Step::new("probe"))).await {
        Ok(Ok(probed)) => Ok(Capability::of(browser, platform, probed)),
        Ok(Err(TabEnd::Failed(Failed { cause: Cause::Worker, .. }))) => Err(TabEnd::Gone),
        Ok(Err(TabEnd::Failed(failed))) => Ok(Capability::lacking(browser, platform, failed.message)),
        Ok(Err(end)) => Err(end),
        Err(_) => Err(TabEnd::Silent),
    }
}

/// Puts the probe's model where the server can offer it.
pub(crate) fn write_probe(directory: &std::path::Path) -> Result<std::path::PathBuf, BrowserError> {
    let path = directory.join("probe.onnx");
    std::fs::write(&path, PROBE_MODEL).map_err(|source| BrowserError::File {
        action: "write",
        path: path.clone(),
        source,
    })?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probed(computed: &[f32]) -> Probed {
        let text = serde_json::json!({
            "job": "j", "computed": computed, "adapter": null, "took_ms": 1.0, "threads": 2, "backend_version": "1",
        });
        serde_json::from_value(text).expect("a report")
    }

    #[test]
    fn only_right_numbers_are_a_capability() {
        let check = |computed: &[f32], works: bool| {
            let capability = Capability::of("chromium", Platform::Wasm, probed(computed));
            assert_eq!((capability.works, capability.reason.is_none()), (works, works), "{computed:?}");
        };
        check(PROBE_Y, true);
        check(&[-5.0, -4.0, -3.0, 10.0, 20.0, 30.0005], true);
        check(&[0.0; 6], false);
        check(&PROBE_Y[..5], false);
        check(&[f32::NAN; 6], false);
    }
}
