//! `augur browsers detect`: what each browser can truly do here.

use std::path::PathBuf;

use anyhow::bail;
use browsers::{CapabilityStatus, Detected};
use serde::Serialize;

use crate::{
    context::Context,
    exit::Exit,
    output::{self, Format},
    shutdown,
};

/// One browser of the settings.
#[derive(Debug, Serialize)]
struct DetectedRow {
    browser: String,
    family: &'static str,
    binary: Option<PathBuf>,
    version: Option<String>,
    driver_version: Option<String>,
    /// Why it cannot be used, if it cannot.
    reason: Option<String>,
    capabilities: Vec<CapabilityStatus>,
}

impl From<&Detected> for DetectedRow {
    fn from(detected: &Detected) -> Self {
        let Detected { browser, family, binary, version, driver_version, reason, capabilities } = detected.clone();
        let family = family.as_str();
        let capabilities = capabilities.iter().map(Into::into).collect();
        Self { browser, family, binary, version, driver_version, reason, capabilities }
    }
}

pub(super) async fn run(format: Format, context: &Context) -> anyhow::Result<Exit> {
    let stop = shutdown::token()?;
    let settings = super::pool::settings(context)?;
    let detecting = browsers::detect(&settings);
    // Giving up ends the browsers that were started.
    let Some(detected) = stop.run_until_cancelled(detecting).await else { bail!("ended before all was tried") };
    let detected = detected?;
    let rows: Vec<DetectedRow> = detected.iter().map(Into::into).collect();
    output::answer(format, &rows, |rows| table(rows))?;
    let works = rows.iter().flat_map(|row| &row.capabilities).any(|capability| capability.works);
    Ok(if works { Exit::Done } else { Exit::Unwelcome })
}

fn table(rows: &[DetectedRow]) -> comfy_table::Table {
    let mut table =
        output::table(["browser", "version", "platform", "works", "computes on", "with", "threads", "why not"]);
    for row in rows {
        let name = row.browser.clone();
        let version = output::text(row.version.as_ref());
        if row.capabilities.is_empty() {
            let reason = row.reason.clone().unwrap_or_default();
            let nothing = String::new;
            table.add_row([name, version, nothing(), "no".to_owned(), nothing(), nothing(), nothing(), reason]);
            continue;
        }
        for capability in &row.capabilities {
            table.add_row([
                name.clone(),
                version.clone(),
                capability.platform.clone(),
                if capability.works { "yes" } else { "no" }.to_owned(),
                computes_on(capability),
                with(capability),
                capability.threads.map(|threads| threads.to_string()).unwrap_or_default(),
                capability.reason.clone().or_else(|| row.reason.clone()).unwrap_or_default(),
            ]);
        }
    }
    table
}

/// The adapter, with what people must know of it.
fn computes_on(capability: &CapabilityStatus) -> String {
    // Firefox keeps the names of adapters to itself.
    let adapter = capability.adapter.as_deref().map(|name| if name.is_empty() { "unnamed adapter" } else { name });
    match (adapter, capability.is_fallback) {
        (Some(adapter), Some(true)) => format!("{adapter}, which is the processor"),
        (Some(adapter), _) => adapter.to_owned(),
        (None, _) if capability.works => "the processor".to_owned(),
        (None, _) => String::new(),
    }
}

/// Whether the adapter computes with 16-bit floats, the largest buffer that it gives, and how much else it can.
fn with(capability: &CapabilityStatus) -> String {
    let half_floats = capability.features.iter().any(|feature| feature == "shader-f16");
    let buffer = capability.limits.get("maxBufferSize").map(|bytes| format!("buffers to {:.0} MB", bytes / 1e6));
    let others = capability.features.len() - usize::from(half_floats);
    let others = (others > 0).then(|| format!("{others} other features"));
    let parts = [half_floats.then(|| "shader-f16".to_owned()), buffer, others];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capability(platform: &str, works: bool, adapter: Option<(&str, bool)>) -> CapabilityStatus {
        CapabilityStatus {
            browser: "firefox".to_owned(),
            platform: platform.to_owned(),
            works,
            reason: (!works).then(|| "there is no navigator.ml".to_owned()),
            adapter: adapter.map(|(name, _)| name.to_owned()),
            is_fallback: adapter.map(|(_, is_fallback)| is_fallback),
            features: adapter.iter().flat_map(|_| ["shader-f16", "timestamp-query"]).map(str::to_owned).collect(),
            limits: adapter.iter().map(|_| ("maxBufferSize".to_owned(), 2.5e8)).collect(),
            threads: Some(1),
            took_ms: Some(12.5),
        }
    }

    #[test]
    fn the_table_says_what_computes_and_why_not() {
        let firefox = DetectedRow {
            browser: "firefox".to_owned(),
            family: "firefox",
            binary: Some("/usr/bin/firefox-esr".into()),
            version: Some("153.0".to_owned()),
            driver_version: None,
            reason: None,
            capabilities: vec![
                capability("webgpu", true, Some(("llvmpipe", true))),
                capability("webnn", false, None),
                capability("wasm", true, None),
            ],
        };
        let edge = DetectedRow {
            browser: "edge".to_owned(),
            family: "edge",
            binary: None,
            version: None,
            driver_version: None,
            reason: Some("microsoft-edge is not installed".to_owned()),
            capabilities: Vec::new(),
        };
        let mut table = table(&[firefox, edge]);
        table.force_no_tty();
        let text = table.to_string();
        for part in [
            "llvmpipe, which is the processor",
            "shader-f16, buffers to 250 MB, 1 other features",
            "there is no navigator.ml",
            "microsoft-edge is not installed",
        ] {
            assert!(text.contains(part), "`{part}` is not in\n{text}");
        }
    }
}
