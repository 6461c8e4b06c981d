//! The devices that could run the model, each with what the current release predicts on it.

use anyhow::{anyhow, bail};
use features::PublishedDevice;
use messages::{Backend, Configuration, Device, Metric, ModelRef, PeakSource, Precision};
use planner::{Estimate, Excluded, HardwareCandidate};
use predictors::{Predicted, Releases};

use super::HardwareArguments;
use crate::{commands::device, context::Context};

/// What may be ranked, what may not, and which release said it.
pub(super) struct Asked {
    pub(super) candidates: Vec<HardwareCandidate>,
    pub(super) excluded: Vec<Excluded>,
    pub(super) release: String,
}

/// Asks the current release about every device.
pub(super) fn of(arguments: &HardwareArguments, context: &Context) -> anyhow::Result<Asked> {
    if arguments.precision != Precision::Fp32 {
        bail!("{} is unavailable, because the release has learned from fp32 only", arguments.precision);
    }
    let directory = context.releases_directory(arguments.releases.as_deref())?;
    let release = Releases::open(&directory)?
        .current()?
        .ok_or_else(|| anyhow!("there is no release of predictors yet in {}", directory.display()))?;
    let (devices, mut excluded) = devices(arguments, context)?;
    let models = context.models()?;
    let cached = models.obtain(&arguments.model, arguments.precision)?;
    let mut candidates = Vec::new();
    for device in devices {
        let mut configuration = Configuration {
            model: ModelRef::clone(&cached.model),
            platform: device.platform,
            backend: Backend::Onnxruntime,
            precision: arguments.precision,
            batch_size: arguments.batch_size,
            sequence_length: arguments.sequence_length,
            image_size: arguments.image_size,
            threads: arguments.threads,
        };
        pipeline::resolve_shape(&mut configuration);
        configuration.validate()?;
        let subject = pipeline::prediction_subject(&models, configuration, device.clone())?;
        match release.predictors.predict(std::slice::from_ref(&subject)) {
            Ok(predicted) => candidates.extend(predicted.first().map(|of| candidate(&device, of, context))),
            Err(error) => excluded.push(Excluded { device: device.name, reason: chain(&error) }),
        }
    }
    Ok(Asked { candidates, excluded, release: release.manifest.release_id.to_string() })
}

/// This machine's devices and the imported ones that were asked for; and those that cannot be asked about.
fn devices(arguments: &HardwareArguments, context: &Context) -> anyhow::Result<(Vec<Device>, Vec<Excluded>)> {
    let here = device::detect(context)?.devices;
    let mut excluded = Vec::new();
    let mut known = here;
    for (name, published) in context.published_devices()? {
        if known.iter().any(|device| device.name.eq_ignore_ascii_case(&name)) {
            continue;
        }
        match described(&name, &published) {
            Ok(device) => known.push(device),
            Err(reason) => excluded.push(Excluded { device: name, reason }),
        }
    }
    let is_asked = |device: &Device, word: &str| {
        word.eq_ignore_ascii_case(&device.name) || word.eq_ignore_ascii_case(device.platform.as_str())
    };
    for word in &arguments.available {
        let is_excluded = excluded.iter().any(|other| other.device.eq_ignore_ascii_case(word));
        if !is_excluded && !known.iter().any(|device| is_asked(device, word)) {
            let names: Vec<String> = known.iter().map(|device| format!("`{}`", device.name)).collect();
            bail!("no device or platform is named `{word}`; known are {}", names.join(", "));
        }
    }
    if !arguments.available.is_empty() {
        known.retain(|device| arguments.available.iter().any(|word| is_asked(device, word)));
        excluded.retain(|other| arguments.available.iter().any(|word| word.eq_ignore_ascii_case(&other.device)));
    }
    Ok((known, excluded))
}

/// A published device as predictors take it, or why they cannot.
fn described(name: &str, published: &PublishedDevice) -> Result<Device, String> {
    let platform = published.platform.as_deref().ok_or("its platform is unknown")?;
    let platform = platform.parse().map_err(|error: messages::UnknownWord| error.to_string())?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a table's number of cores is small")]
    let cores = published.cores.map(|cores| cores as u32);
    Ok(Device {
        memory_mb: published.memory_gb.map(|gb| gb * 1e3),
        compute_units: cores,
        hardware_threads: cores,
        clock_mhz: published.clock_ghz.map(|ghz| ghz * 1e3),
        cache_l3_kb: published.cache_mb.map(|mb| mb * 1e3),
        peak_fp32_gflops: published.fp32_tflops.map(|tflops| tflops * 1e3),
        memory_bandwidth_gb_per_s: published.memory_bandwidth_gb_per_s,
        peak_source: published.fp32_tflops.map(|_| PeakSource::Published),
        ..Device::unknown(name, platform)
    })
}

fn candidate(device: &Device, predicted: &Predicted, context: &Context) -> HardwareCandidate {
    let estimate = |metric| {
        predicted.metric(metric).map(|of| Estimate {
            value: of.value,
            lower: of.lower,
            upper: of.upper,
            // This kind of release does not keep how often it was near.
            confidence: None,
        })
    };
    let mut notes = Vec::new();
    if !predicted.known_device {
        notes.push("nothing was measured on this device, so its interval promises too much".to_owned());
    } else if !predicted.known_model {
        notes.push("the model was not measured on this device".to_owned());
    }
    HardwareCandidate {
        device: device.name.clone(),
        platform: device.platform.to_string(),
        latency_ms: estimate(Metric::LatencyMs),
        throughput_items_per_second: estimate(Metric::ThroughputItemsPerSecond),
        memory_peak_mb: estimate(Metric::MemoryPeakMb),
        power_w: estimate(Metric::PowerW),
        memory_mb: device.memory_mb,
        price_per_hour: context.loaded.settings.recommend.price(&device.name),
        notes,
    }
}

/// An error with its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source()).map(ToString::to_string);
    std::iter::once(error.to_string()).chain(causes).collect::<Vec<_>>().join(": ")
}
