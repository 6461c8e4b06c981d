//! The processor: what the operating system says of it, and its measured peaks.

use std::{fs, num::NonZero, path::Path, thread};

use messages::{Device, PeakSource, Platform};
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use crate::{
    HardwareError, memory,
    peaks::{self, Machine},
};

/// Describes the processor, and says how long its threads take to hand a word over, in ns; peaks come from `cache_directory`
/// or are measured now.
pub(crate) fn detect(cache_directory: &Path) -> Result<(Device, Option<f64>), HardwareError> {
    let undetected = |error: &dyn std::fmt::Display| HardwareError::Undetected { reason: error.to_string() };
    let kinds = RefreshKind::nothing()
        .with_cpu(CpuRefreshKind::nothing().with_frequency())
        .with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(kinds).map_err(|error| undetected(&error))?;
    // This respects the CPU affinity mask and the control group's CPU quota.
    let threads = thread::available_parallelism().map_err(|error| undetected(&error))?.get();
    let cores = System::physical_core_count().unwrap_or(threads).clamp(1, threads);
    let name = system.cpus().first().map_or("", |cpu| cpu.brand().trim());
    let name = if name.is_empty() { std::env::consts::ARCH } else { name }.to_owned();

    let memory_bytes = memory::cgroup_limit_bytes().unwrap_or(u64::MAX).min(system.total_memory());
    let free_bytes = system.available_memory().min(memory_bytes);
    let caches = caches(Path::new("/sys/devices/system/cpu"), threads);
    let machine = Machine {
        name: name.clone(),
        cores,
        threads: NonZero::new(threads).unwrap_or(NonZero::<usize>::MIN),
        simd: simd(),
        last_level_cache_bytes: caches.last_level_total_bytes,
        free_memory_bytes: free_bytes,
    };
    let peaks = peaks::of_machine(&machine, cache_directory)?;

    let kernel = System::kernel_version().ok().map(|version| format!("Linux {version}"));
    let device = Device {
        platform_version: if cfg!(target_os = "linux") { kernel } else { System::long_os_version().ok() },
        memory_mb: Some(memory_bytes as f64 / 1e6),
        compute_units: u32::try_from(cores).ok(),
        hardware_threads: u32::try_from(threads).ok(),
        simd: machine.simd.map(str::to_owned),
        clock_mhz: clock_mhz(&system),
        cache_l2_kb: caches.l2_bytes.map(|bytes| bytes as f64 / 1e3),
        cache_l3_kb: caches.l3_bytes.map(|bytes| bytes as f64 / 1e3),
        peak_fp32_gflops: Some(peaks.fp32_gflops),
        memory_bandwidth_gb_per_s: Some(peaks.bandwidth_gb_per_s),
        peak_source: Some(PeakSource::Measured),
        ..Device::unknown(name, Platform::Cpu)
    };
    Ok((device, peaks.handoff_ns))
}

/// Widest vector extension that our kernels use here; `None` on a processor for which there is no such kernel.
#[cfg_attr(
    any(target_arch = "x86_64", target_arch = "aarch64"),
    expect(clippy::unnecessary_wraps, reason = "others have none")
)]
fn simd() -> Option<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        if std::is_x86_feature_detected!("avx512f") {
            Some("avx512f")
        } else if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
            Some("avx2")
        } else {
            Some("sse2")
        }
    }
    #[cfg(target_arch = "aarch64")]
    {
        Some("neon")
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        None
    }
}

/// Largest clock of the first core, in MHz; what it runs at now where the largest is not told.
fn clock_mhz(system: &System) -> Option<f64> {
    let largest_khz = fs::read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq")
        .ok()
        .and_then(|text| text.trim().parse::<f64>().ok());
    let now_mhz = system.cpus().iter().map(sysinfo::Cpu::frequency).max().filter(|mhz| *mhz > 0);
    largest_khz.map(|khz| khz / 1e3).or(now_mhz.map(|mhz| mhz as f64))
}

/// Sizes of the data caches.
#[derive(Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "units belong to names")]
struct Caches {
    l2_bytes: Option<u64>,
    l3_bytes: Option<u64>,
    /// All instances of the last level together: a processor may have one per cluster of cores.
    last_level_total_bytes: u64,
}

/// Reads the caches of the first core from sysfs; whatever it does not tell is left out.
fn caches(cpus: &Path, threads: usize) -> Caches {
    let mut caches = Caches::default();
    let mut last_level = 0;
    for index in 0..8 {
        let directory = cpus.join(format!("cpu0/cache/index{index}"));
        let read = |file| fs::read_to_string(directory.join(file)).ok();
        let (Some(level), Some(kind), Some(size)) = (read("level"), read("type"), read("size")) else { break };
        let (Ok(level), Some(bytes)) = (level.trim().parse::<u32>(), cache_bytes(&size)) else { continue };
        if kind.trim() == "Instruction" {
            continue;
        }
        match level {
            2 => caches.l2_bytes = Some(bytes),
            3 => caches.l3_bytes = Some(bytes),
            _ => {}
        }
        if level >= last_level {
            last_level = level;
            let sharers = read("shared_cpu_list").map_or(threads, |list| cpu_list_length(&list)).max(1);
            caches.last_level_total_bytes = bytes.saturating_mul(threads.div_ceil(sharers) as u64);
        }
    }
    caches
}

/// Parses sysfs's `32768K`.
fn cache_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let (digits, factor) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], 1024),
        b'M' => (&text[..text.len() - 1], 1024 * 1024),
        _ => (text, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// Counts the CPUs of sysfs's `0-3,8`.
fn cpu_list_length(list: &str) -> usize {
    let length = |part: &str| match part.split_once('-') {
        Some((from, to)) => {
            let steps = to.parse::<usize>().ok()?.checked_sub(from.parse().ok()?)?;
            Some(steps + 1)
        }
        None => part.parse::<usize>().ok().map(|_| 1),
    };
    list.trim().split(',').filter_map(length).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_sizes_and_cpu_lists_parse() {
        assert_eq!(cache_bytes("32768K\n"), Some(32 * 1024 * 1024));
        assert_eq!(cache_bytes("2M"), Some(2 * 1024 * 1024));
        assert_eq!(cache_bytes("many"), None);
        assert_eq!(cpu_list_length("0-3,8\n"), 5);
        assert_eq!(cpu_list_length("0"), 1);
        assert_eq!(cpu_list_length(""), 0);
    }

    #[test]
    fn every_instance_of_the_last_level_counts() {
        let cpus = tempfile::tempdir().expect("temporary directory");
        let cache = |index: u32, level: &str, kind: &str, size: &str, sharers: &str| {
            let directory = cpus.path().join(format!("cpu0/cache/index{index}"));
            fs::create_dir_all(&directory).expect("created");
            for (file, text) in [("level", level), ("type", kind), ("size", size), ("shared_cpu_list", sharers)] {
                fs::write(directory.join(file), format!("{text}\n")).expect("written");
            }
        };
        cache(0, "1", "Data", "32K", "0");
        cache(1, "1", "Instruction", "32K", "0");
        cache(2, "2", "Unified", "1024K", "0");
        cache(3, "3", "Unified", "32768K", "0-3");
        let found = caches(cpus.path(), 8);
        let expected = Caches {
            l2_bytes: Some(1024 * 1024),
            l3_bytes: Some(32768 * 1024),
            last_level_total_bytes: 2 * 32768 * 1024,
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn a_machine_without_sysfs_has_no_caches() {
        assert_eq!(caches(Path::new("/nowhere"), 2), Caches::default());
    }
}
