//! What a job asks of the pool and what it gets.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use messages::{Adapter, ContentHash, Platform, Precision, Priority, StopReason, StoppingRule, Warmth, WebPhases};

use crate::WebError;

/// One model to measure in a browser.
#[derive(Debug, Clone)]
pub struct WebRequest {
    /// The model.
    pub model: ModelFile,
    /// Its inputs.
    pub inputs: Vec<InputTensor>,
    /// Acceptable platforms, in order of preference: a later one only where an earlier cannot be had.
    pub platforms: Vec<Platform>,
    /// Acceptable browsers, in order of preference; any if there is none.
    pub browsers: Vec<String>,
    /// Number format; 16-bit floats need an adapter that computes with them.
    pub precision: Precision,
    /// Threads in WebAssembly, at least 1; the other platforms have one.
    pub threads: u32,
    /// Untimed iterations, of which the first is timed apart.
    pub warmup_iterations: u32,
    /// Fewest timed iterations.
    pub iterations_min: u32,
    /// Most timed iterations.
    pub iterations_max: u32,
    /// Width of the median's 95 % confidence interval that is narrow enough, in percent of the median.
    pub median_interval_pct: f64,
    /// Start no new iteration after this long, in milliseconds.
    pub duration_ms_max: u64,
    /// How long it may take, waiting included; begins anew when a browser breaks under it.
    pub timeout: Duration,
    /// Memory that its tab needs, in MB (10^6 bytes); estimated from the file's size if `None`.
    pub memory_mb: Option<u64>,
    /// Who goes first.
    pub priority: Priority,
    /// Whether the outputs of the first run are wanted.
    pub keep_outputs: bool,
}

/// An ONNX file, whose hash the caller has checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFile {
    /// Its name.
    pub name: String,
    /// Its family, e.g. `bert`; the name if `None`. Speeds are learned by family.
    pub family: Option<String>,
    /// SHA-256 of the file.
    pub sha256: ContentHash,
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// An input tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputTensor {
    /// Name in the graph.
    pub name: String,
    /// Element type as ONNX Runtime Web names it, e.g. `float32`, `int64`.
    pub element: String,
    /// Dimensions.
    pub dims: Vec<usize>,
    /// Elements, little endian.
    pub bytes: Vec<u8>,
}

/// An output tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputTensor {
    /// Name in the graph.
    pub name: String,
    /// Element type as ONNX Runtime Web names it.
    pub element: String,
    /// Dimensions.
    pub dims: Vec<usize>,
    /// Elements, little endian.
    pub bytes: Vec<u8>,
}

/// What was measured, where.
#[derive(Debug, Clone, PartialEq)]
pub struct WebRun {
    /// The platform that ran it.
    pub platform: Platform,
    /// The browser that ran it.
    pub browser: String,
    /// Its version.
    pub browser_version: String,
    /// The GPU adapter, on WebGPU.
    pub adapter: Option<Adapter>,
    /// Nodes of the graph by the execution provider that ran them, from a verification session of its own.
    pub nodes: BTreeMap<String, u32>,
    /// What took how long before the timed iterations.
    pub phases: WebPhases,
    /// What was there already.
    pub warmth: Warmth,
    /// Threads that it had.
    pub threads: u32,
    /// The timed iterations, in order.
    pub iterations_ms: Vec<f64>,
    /// Why they stopped.
    pub stop: StopReason,
    /// Memory (PSS) of the browser's process tree, the largest seen while the model was loaded and run, in MB; `None`
    /// if another model was in the same browser.
    pub memory_peak_mb: Option<f64>,
    /// Version of ONNX Runtime Web.
    pub backend_version: String,
    /// Outputs of the first run, if wanted.
    pub outputs: Vec<OutputTensor>,
    /// What had to be mended on the way.
    pub recoveries: Vec<String>,
}

impl WebRequest {
    /// What a model takes in a tab beside its weights, in MB: runtime, Worker, page.
    const TAB_MB: f64 = 150.0;

    /// How often weights are in memory while a session is created: fetched, parsed, packed.
    const WEIGHTS_FACTOR: f64 = 3.0;

    pub(crate) fn check(&self) -> Result<(), WebError> {
        let invalid = |reason: String| Err(WebError::Invalid { reason });
        if self.platforms.is_empty() {
            return invalid("it accepts no platform".to_owned());
        }
        if let Some(platform) = self
            .platforms
            .iter()
            .find(|platform| !matches!(platform, Platform::Webgpu | Platform::Webnn | Platform::Wasm))
        {
            return invalid(format!("a browser has no platform {platform}"));
        }
        if self.iterations_min > self.iterations_max || self.iterations_max == 0 {
            return invalid(format!("{} to {} iterations", self.iterations_min, self.iterations_max));
        }
        if self.threads == 0 {
            return invalid("0 threads".to_owned());
        }
        Ok(())
    }

    pub(crate) fn stopping_rule(&self) -> StoppingRule {
        StoppingRule {
            iterations_min: self.iterations_min,
            iterations_max: self.iterations_max,
            median_interval_pct: self.median_interval_pct,
            duration_ms_max: self.duration_ms_max,
            // The page times batches of iterations, each of which takes long enough.
            duration_ms_min: 0,
        }
    }

    /// What two requests that may share a session have in common, without the platform.
    pub(crate) fn model_key(&self) -> String {
        format!("{}-{}", self.model.sha256, self.threads)
    }

    /// What two requests whose times can be compared have in common.
    pub(crate) fn shape_key(&self) -> String {
        let shapes: Vec<String> = self.inputs.iter().map(|input| format!("{}{:?}", input.name, input.dims)).collect();
        format!("{} {}", self.model_key(), shapes.join(" "))
    }

    pub(crate) fn family(&self) -> &str {
        self.model.family.as_deref().unwrap_or(&self.model.name)
    }

    pub(crate) fn needed_mb(&self) -> f64 {
        let estimated = self.model.bytes as f64 / 1e6 * Self::WEIGHTS_FACTOR + Self::TAB_MB;
        self.memory_mb.map_or(estimated, |mb| mb as f64)
    }
}
