//! What this machine has: ONNX Runtime, devices, space on its disks.

use std::{
    ffi::OsStr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use hardware::Detection;
use messages::{Device, PeakSource};
use nix::{
    sys::statvfs::statvfs,
    unistd::{AccessFlags, access},
};

use super::{Finding, FindingState, chain};

/// Least free space on a disk that is not remarkable, in GB (10^9 bytes): the models of the zoo take 1.7 together.
const DISK_FREE_GB_MIN: f64 = 3.0;

/// Whether ONNX Runtime loads, in a process of its own.
pub(super) async fn onnxruntime(executable: &Path, library: Option<&Path>) -> Finding {
    let finding = |state, detail: String| Finding::new("benchmarks", "ONNX Runtime", state, detail);
    let remedy = "run `deploy/setup.sh`, or set AUGUR_ONNXRUNTIME_LIBRARY to a `libonnxruntime.so`, such as that in \
                  the PyPI wheel `onnxruntime`";
    let Some(library) = library else {
        return finding(FindingState::Missing, "no library is configured".to_owned()).remedy(remedy);
    };
    if !library.exists() {
        return finding(FindingState::Missing, format!("no {}", library.display())).remedy(remedy);
    }
    match runner::onnxruntime_version(executable, library).await {
        Ok(version) => finding(FindingState::Works, format!("{version}, {}", library.display())),
        Err(error) => finding(FindingState::Broken, chain(&error)).remedy(remedy),
    }
}

/// The devices with their peaks, and why the others are absent.
pub(super) async fn devices(cache_directory: &Path) -> Vec<Finding> {
    let directory = cache_directory.to_owned();
    match tokio::task::spawn_blocking(move || hardware::detect(&directory)).await {
        Ok(Ok(detection)) => described(&detection),
        Ok(Err(error)) => {
            let finding = Finding::new("devices", "detection", FindingState::Broken, chain(&error));
            vec![finding.remedy(format!("check that {} can be written", cache_directory.display()))]
        }
        Err(error) => vec![Finding::new("devices", "detection", FindingState::Broken, chain(&error))],
    }
}

fn described(detection: &Detection) -> Vec<Finding> {
    let present = detection
        .devices
        .iter()
        .map(|device| Finding::new("devices", device.platform.as_str(), FindingState::Works, properties(device)));
    let absent = detection.absent.iter().map(|absent| {
        let finding = Finding::new("devices", absent.platform.as_str(), FindingState::Missing, absent.reason.as_str());
        Finding { remedy: absent.remedy.clone(), ..finding }
    });
    present.chain(absent).collect()
}

/// A device in one line: its name and what is known of it.
fn properties(device: &Device) -> String {
    let source = match device.peak_source {
        Some(PeakSource::Measured) => " measured",
        Some(PeakSource::Published) => " published",
        None => "",
    };
    let parts = [
        device.hardware_threads.map(|threads| format!("{threads} threads")),
        device.simd.clone(),
        device.memory_mb.map(|memory| format!("{:.1} GB memory", memory / 1e3)),
        device.peak_fp32_gflops.map(|peak| format!("{peak:.0} GFLOP/s fp32{source}")),
        device.memory_bandwidth_gb_per_s.map(|bandwidth| format!("{bandwidth:.1} GB/s{source}")),
    ];
    let known = std::iter::once(device.name.clone()).chain(parts.into_iter().flatten());
    known.collect::<Vec<_>>().join(", ")
}

/// Whether a directory, which may have yet to be made, can be written and has room.
pub(super) fn disk(subject: &str, directory: &Path) -> Finding {
    let finding = |state, detail: String| Finding::new("disk", subject, state, detail);
    let Some(existing) = directory.ancestors().find(|ancestor| ancestor.exists()) else {
        return finding(FindingState::Broken, format!("no part of {} exists", directory.display()))
            .remedy("set it to an absolute path");
    };
    if let Err(error) = access(existing, AccessFlags::W_OK) {
        return finding(FindingState::Broken, format!("{} cannot be written: {error}", existing.display()))
            .remedy(format!("give this user the right to write {}, or set another directory", existing.display()));
    }
    match statvfs(existing) {
        Ok(numbers) => {
            let free_gb = numbers.blocks_available() as f64 * numbers.fragment_size() as f64 / 1e9;
            room(finding, free_gb, directory)
        }
        Err(error) => finding(FindingState::Unknown, format!("{}: {error}", existing.display())),
    }
}

fn room(finding: impl FnOnce(FindingState, String) -> Finding, free_gb: f64, directory: &Path) -> Finding {
    let detail = format!("{free_gb:.1} GB free at {}", directory.display());
    if free_gb < DISK_FREE_GB_MIN {
        finding(FindingState::Broken, detail).remedy(format!("free some space: at least {DISK_FREE_GB_MIN} GB"))
    } else {
        finding(FindingState::Works, detail)
    }
}

/// The directories of `PATH`.
pub(super) fn search_path() -> Vec<PathBuf> {
    std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default()
}

/// Where a program is, as a shell would find it: by its path, or by its name in `directories`.
pub(super) fn program(name: &OsStr, directories: &[PathBuf]) -> Option<PathBuf> {
    let name = Path::new(name);
    let candidates = if name.components().count() > 1 {
        vec![name.to_owned()]
    } else {
        directories.iter().map(|directory| directory.join(name)).collect()
    };
    candidates.into_iter().find(|path| {
        path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use hardware::Absent;
    use messages::Platform;

    use super::*;

    #[test]
    fn a_device_shows_its_peaks_and_an_absent_one_its_reason() {
        let device = Device {
            hardware_threads: Some(2),
            memory_mb: Some(8123.0),
            peak_fp32_gflops: Some(151.4),
            memory_bandwidth_gb_per_s: Some(12.34),
            peak_source: Some(PeakSource::Measured),
            ..Device::unknown("EPYC", Platform::Cpu)
        };
        let absent = Absent {
            platform: Platform::Cuda,
            reason: "no NVIDIA driver".to_owned(),
            remedy: Some("install one".to_owned()),
        };
        let findings = described(&Detection { devices: vec![device], absent: vec![absent], handoff_ns: None });
        assert_eq!(
            findings,
            [
                Finding::new(
                    "devices",
                    "cpu",
                    FindingState::Works,
                    "EPYC, 2 threads, 8.1 GB memory, 151 GFLOP/s fp32 measured, 12.3 GB/s measured"
                ),
                Finding::new("devices", "cuda", FindingState::Missing, "no NVIDIA driver").remedy("install one"),
            ]
        );
    }

    #[test]
    fn a_directory_that_has_yet_to_be_made_is_examined_at_its_parent() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let deep = directory.path().join("a/b/c");
        let finding = disk("cache directory", &deep);
        assert!(finding.detail.contains("GB free at"), "{finding:?}");
        assert!(finding.detail.contains("a/b/c"), "{finding:?}");
        assert!(!deep.exists());
    }

    #[test]
    fn a_full_disk_is_broken() {
        let finding = |state, detail| Finding::new("disk", "cache directory", state, detail);
        let directory = Path::new("/cache");
        assert_eq!(room(finding, 2.9, directory).state, FindingState::Broken);
        assert_eq!(room(finding, 3.1, directory).state, FindingState::Works);
    }

    #[test]
    fn a_program_is_an_executable_file() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let directories = [directory.path().join("empty"), directory.path().to_owned()];
        let path = directory.path().join("firefox-esr");
        fs::write(&path, "").expect("file");
        assert_eq!(program(OsStr::new("firefox-esr"), &directories), None, "it cannot be executed yet");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("permissions");
        assert_eq!(program(OsStr::new("firefox-esr"), &directories), Some(path.clone()));
        assert_eq!(program(path.as_os_str(), &[]), Some(path));
    }
}
