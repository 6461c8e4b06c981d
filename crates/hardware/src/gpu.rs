//! NVIDIA GPUs, as the driver's management library (NVML) describes them.

use messages::{Device, Platform};
use nvml_wrapper::{Nvml, enum_wrappers::device::Clock, error::NvmlError, structs::device::CudaComputeCapability};

use crate::Absent;

/// Describes the GPUs, or says why there is none.
pub(crate) fn detect() -> Result<Vec<Device>, Absent> {
    let absent =
        |reason: String, remedy: &str| Absent { platform: Platform::Cuda, reason, remedy: Some(remedy.to_owned()) };
    let nvml = Nvml::init().map_err(|error| match error {
        NvmlError::LibloadingError(_) => absent(
            "no NVIDIA driver: its library libnvidia-ml.so.1 is not installed".to_owned(),
            "install the NVIDIA driver if this machine has such a GPU",
        ),
        other => absent(format!("the NVIDIA driver does not answer: {other}"), "check that `nvidia-smi` works"),
    })?;
    let count = nvml.device_count().map_err(|error| {
        absent(format!("the NVIDIA driver lists no GPUs: {error}"), "check that `nvidia-smi` works")
    })?;
    let mut devices = Vec::new();
    for index in 0..count {
        match describe(&nvml, index) {
            Ok(device) => devices.push(device),
            Err(error) => tracing::warn!(index, %error, "skipped a GPU that the driver cannot describe"),
        }
    }
    if devices.is_empty() {
        return Err(absent("the NVIDIA driver finds no usable GPU".to_owned(), "check that `nvidia-smi -L` lists one"));
    }
    Ok(devices)
}

/// Describes one GPU; what its driver does not support is unknown, but it must have a name.
fn describe(nvml: &Nvml, index: u32) -> Result<Device, NvmlError> {
    let gpu = nvml.device_by_index(index)?;
    let cuda = nvml.sys_cuda_driver_version().ok();
    let multiprocessors = match (gpu.num_cores(), gpu.cuda_compute_capability()) {
        (Ok(cores), Ok(capability)) => cores_per_multiprocessor(&capability).map(|each| cores / each),
        _ => None,
    };
    Ok(Device {
        platform_version: cuda.map(|version| format!("CUDA {}.{}", version / 1000, version % 1000 / 10)),
        driver_version: nvml.sys_driver_version().ok(),
        memory_mb: gpu.memory_info().ok().map(|memory| memory.total as f64 / 1e6),
        compute_units: multiprocessors,
        clock_mhz: gpu.max_clock_info(Clock::SM).ok().map(f64::from),
        ..Device::unknown(gpu.name()?, Platform::Cuda)
    })
}

/// FP32 cores of one multiprocessor; `None` for a generation not listed.
///
/// Source: CUDA C++ Programming Guide, "Compute Capabilities", one section per generation.
fn cores_per_multiprocessor(capability: &CudaComputeCapability) -> Option<u32> {
    match (capability.major, capability.minor) {
        (6 | 8, 0) | (7, _) => Some(64),
        (6 | 8 | 9 | 10 | 12, _) => Some(128),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_gpus_or_a_reason() {
        match detect() {
            Ok(devices) => assert!(devices.iter().all(|device| device.platform == Platform::Cuda)),
            Err(absent) => {
                assert_eq!(absent.platform, Platform::Cuda);
                assert!(!absent.reason.is_empty() && absent.remedy.is_some());
            }
        }
    }

    #[test]
    fn an_unlisted_generation_has_no_guessed_core_count() {
        let capability = |major, minor| CudaComputeCapability { major, minor };
        assert_eq!(cores_per_multiprocessor(&capability(9, 0)), Some(128));
        assert_eq!(cores_per_multiprocessor(&capability(99, 0)), None);
    }
}
