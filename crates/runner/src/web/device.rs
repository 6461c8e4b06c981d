//! On what a browser computed: the processor, or the adapter that it names.

use browsers::WebRun;
use messages::{Adapter, Device, Platform};

/// The device of a run, from this machine's devices and what the browser says of its adapter.
///
/// An adapter that falls back to the processor is the processor under another name: it has the processor's peaks, and
/// its name says both, so that none of its numbers pass for a GPU's.
pub(super) fn of_run(run: &WebRun, devices: &[Device]) -> Device {
    of(run.platform, run.adapter.as_ref(), devices)
}

fn of(platform: Platform, adapter: Option<&Adapter>, devices: &[Device]) -> Device {
    let processor = devices.iter().find(|device| device.platform == Platform::Cpu);
    match adapter {
        Some(adapter) if adapter.is_fallback => {
            let name = processor.map_or_else(|| "the processor".to_owned(), |processor| processor.name.clone());
            Device {
                name: format!("{} on {name}", adapter.name()),
                platform,
                platform_version: Some("software fallback".to_owned()),
                ..processor.cloned().unwrap_or_else(|| Device::unknown(name, platform))
            }
        }
        Some(adapter) => graphics(platform, adapter, devices),
        // WebAssembly, and WebNN where it names no adapter, are the processor's.
        None => processor.map_or_else(
            || Device::unknown("unknown processor", platform),
            |known| Device { platform, ..known.clone() },
        ),
    }
}

/// A GPU; with the peaks of this machine's only GPU of the same vendor, if there is one.
fn graphics(platform: Platform, adapter: &Adapter, devices: &[Device]) -> Device {
    let vendor = match adapter.vendor.to_ascii_lowercase().as_str() {
        "nvidia" => Some(Platform::Cuda),
        "amd" => Some(Platform::Rocm),
        "apple" => Some(Platform::Mps),
        _ => None,
    };
    let mut alike = devices.iter().filter(|device| Some(device.platform) == vendor);
    match (alike.next(), alike.next()) {
        (Some(only), None) => Device { platform, ..only.clone() },
        _ => Device::unknown(adapter.name(), platform),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn processor() -> Device {
        Device {
            compute_units: Some(8),
            peak_fp32_gflops: Some(400.0),
            platform_version: Some("Debian 12".to_owned()),
            ..Device::unknown("Test CPU", Platform::Cpu)
        }
    }

    fn adapter(vendor: &str, description: &str, is_fallback: bool) -> Adapter {
        Adapter { vendor: vendor.to_owned(), description: description.to_owned(), is_fallback, ..Adapter::default() }
    }

    #[test]
    fn webassembly_runs_on_the_processor() {
        let device = of(Platform::Wasm, None, &[processor()]);
        assert_eq!((device.name.as_str(), device.platform), ("Test CPU", Platform::Wasm));
        assert_eq!(device.peak_fp32_gflops, Some(400.0));
        assert_eq!(of(Platform::Wasm, None, &[]).name, "unknown processor");
    }

    #[test]
    fn a_fallback_is_the_processor_and_says_so() {
        let device = of(Platform::Webgpu, Some(&adapter("mesa", "llvmpipe", true)), &[processor()]);
        assert_eq!((device.name.as_str(), device.platform), ("llvmpipe on Test CPU", Platform::Webgpu));
        assert_eq!(device.platform_version.as_deref(), Some("software fallback"));
        assert_eq!((device.compute_units, device.peak_fp32_gflops), (Some(8), Some(400.0)));
    }

    #[test]
    fn a_gpu_is_the_only_one_of_its_vendor_or_what_the_browser_calls_it() {
        let card = Device { memory_mb: Some(24_000.0), ..Device::unknown("NVIDIA L4", Platform::Cuda) };
        let found = of(Platform::Webgpu, Some(&adapter("nvidia", "lovelace", false)), &[processor(), card.clone()]);
        assert_eq!(
            (found.name.as_str(), found.platform, found.memory_mb),
            ("NVIDIA L4", Platform::Webgpu, Some(24_000.0))
        );
        let two = [card.clone(), Device { name: "NVIDIA T4".to_owned(), ..card }];
        let unsure = of(Platform::Webgpu, Some(&adapter("nvidia", "lovelace", false)), &two);
        assert_eq!((unsure.name.as_str(), unsure.memory_mb), ("lovelace", None), "which of two is not said");
        assert_eq!(of(Platform::Webgpu, Some(&adapter("intel", "gen-12", false)), &[processor()]).name, "gen-12");
    }
}
