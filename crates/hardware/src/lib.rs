//! Detects devices and measures their peaks; lends a device to one benchmark at a time.
//!
//! [`detect`] says what this machine has and, for what it has not, why. The processor's peaks (fp32 arithmetic and
//! memory bandwidth) are measured once per machine and kept in a file; GPUs are described through NVML. What a
//! device does with a model is the runner's business, what it is worth to a predictor is that of `features`.

mod cpu;
mod error;
mod gpu;
mod lease;
mod lock;
mod memory;
mod peaks;

use std::path::Path;

use messages::{Device, Platform};

pub use error::HardwareError;
pub use lease::{DeviceLease, LeaseMode, LeaseRequest};
pub use memory::oom_kill_count;
pub use peaks::{Moment, moment};

/// What this machine has and has not.
#[derive(Debug, Clone, PartialEq)]
pub struct Detection {
    /// Devices that can be used, the processor first.
    pub devices: Vec<Device>,
    /// Platforms without a device here.
    pub absent: Vec<Absent>,
    /// Time until the next of all the processor's threads sees what one has written, in ns, see [`Moment`].
    pub handoff_ns: Option<f64>,
}

/// A platform that this machine cannot run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absent {
    /// The platform.
    pub platform: Platform,
    /// Why there is no device for it.
    pub reason: String,
    /// What would help, where anything would.
    pub remedy: Option<String>,
}

/// Finds the devices of this machine, measuring the processor's peaks unless `cache_directory` has them.
///
/// The first call on a machine takes about two seconds of all cores; processes that start together measure once. Later ones
/// look for 10 ms whether the processor outdoes its kept peak, and measure its arithmetic again if it does by a fifth.
///
/// # Errors
///
/// [`HardwareError`] if the processor cannot be described or `cache_directory` cannot be written. A GPU that cannot
/// be described is absent, never an error.
pub fn detect(cache_directory: &Path) -> Result<Detection, HardwareError> {
    let (processor, handoff_ns) = cpu::detect(cache_directory)?;
    let mut devices = vec![processor];
    let mut absent = Vec::new();
    match gpu::detect() {
        Ok(gpus) => devices.extend(gpus),
        Err(reason) => absent.push(reason),
    }
    let elsewhere = Platform::ALL.iter().filter(|platform| !matches!(platform, Platform::Cpu | Platform::Cuda));
    absent.extend(elsewhere.map(|platform| not_here(*platform)));
    Ok(Detection { devices, absent, handoff_ns })
}

/// Why a platform that this crate does not look for has no device.
fn not_here(platform: Platform) -> Absent {
    match platform {
        Platform::Webgpu | Platform::Webnn | Platform::Wasm => Absent {
            platform,
            reason: "a browser decides what it computes on".to_owned(),
            remedy: Some("`augur browsers detect` tries every browser".to_owned()),
        },
        Platform::Cpu | Platform::Cuda | Platform::Rocm | Platform::Mps | Platform::Openvino | Platform::Qnn => {
            Absent { platform, reason: "not supported by this build of the runner".to_owned(), remedy: None }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_processor_with_measured_peaks_and_explains_every_other_platform() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let detection = detect(directory.path()).expect("detection");

        let processor = &detection.devices[0];
        assert_eq!(processor.platform, Platform::Cpu);
        assert!(!processor.name.is_empty());
        assert!(processor.peak_fp32_gflops.is_some_and(|peak| peak > 0.0));
        assert!(processor.memory_bandwidth_gb_per_s.is_some_and(|bandwidth| bandwidth > 0.0));
        assert!(processor.memory_mb.is_some_and(|memory| memory > 0.0));
        assert!(processor.compute_units <= processor.hardware_threads);

        for platform in Platform::ALL {
            let found = detection.devices.iter().any(|device| device.platform == *platform);
            let absent = detection.absent.iter().any(|absent| absent.platform == *platform);
            assert!(found != absent, "{platform} is found: {found}, absent: {absent}");
        }
        let again = detect(directory.path()).expect("second detection").devices.remove(0);
        // Where the highest clock is not told, it is that of the moment; a peak that was measured beside others may rise.
        assert!(again.peak_fp32_gflops >= processor.peak_fp32_gflops);
        let Device { clock_mhz, peak_fp32_gflops, .. } = *processor;
        assert_eq!(Device { clock_mhz, peak_fp32_gflops, ..again }, *processor);
    }
}
