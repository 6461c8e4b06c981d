//! Browsers, their drivers, and what runs models in them: whether they are installed. `augur browsers detect` tries what
//! they can do, which takes longer than a doctor should.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::process::Command;

use super::{Finding, FindingState, machine::program};

/// Where tools of ours are, below the cache directory.
pub(super) const TOOLS: &str = "tools/bin";

/// Longest wait for a program to say its version; a cold Firefox takes a second.
const VERSION_MAX: Duration = Duration::from_secs(20);

/// The file of ONNX Runtime Web that the pool's page loads.
const ORT_WEB_FILE: &str = "ort.wasm.min.mjs";

/// A program that the browser pool uses.
struct Wanted {
    subject: &'static str,
    names: &'static [&'static str],
    remedy: &'static str,
}

const WANTED: [Wanted; 4] = [
    Wanted {
        subject: "Chromium",
        names: &["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"],
        remedy: "`make setup`, or Debian's package chromium",
    },
    Wanted {
        subject: "Chromium's driver",
        names: &["chromedriver"],
        remedy: "`make setup`, or Debian's package chromium-driver",
    },
    Wanted {
        subject: "Firefox",
        names: &["firefox-esr", "firefox"],
        remedy: "`make setup`, or Debian's packages firefox-esr and mesa-vulkan-drivers",
    },
    Wanted {
        subject: "Firefox's driver",
        names: &["geckodriver"],
        remedy: "`make setup`, or `cargo install geckodriver`",
    },
];

/// Looked at where one of them is: nobody has to have it.
const EDGE: [Wanted; 2] = [
    Wanted {
        subject: "Edge",
        names: &["microsoft-edge-stable", "microsoft-edge"],
        remedy: "Microsoft's package microsoft-edge-stable",
    },
    Wanted {
        subject: "Edge's driver",
        names: &["msedgedriver"],
        remedy: "Microsoft's msedgedriver of the same version, on PATH",
    },
];

/// Where Vulkan's loader looks for drivers, without which Firefox has no WebGPU; Chromium brings one of its own.
const VULKAN_DRIVERS: [&str; 2] = ["/etc/vulkan/icd.d", "/usr/share/vulkan/icd.d"];

/// What the browser pool needs and whether it is there.
pub(super) async fn examine(directories: &[PathBuf], ort_web_directory: Option<&Path>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for wanted in WANTED {
        findings.push(examine_one(&wanted, directories).await);
    }
    if EDGE.iter().flat_map(|wanted| wanted.names).any(|name| program(OsStr::new(name), directories).is_some()) {
        for wanted in EDGE {
            findings.push(examine_one(&wanted, directories).await);
        }
    }
    findings.push(vulkan(&VULKAN_DRIVERS.map(Path::new)));
    findings.push(ort_web(ort_web_directory));
    findings
}

async fn examine_one(wanted: &Wanted, directories: &[PathBuf]) -> Finding {
    let finding = |state, detail: String| Finding::new("browsers", wanted.subject, state, detail);
    let Some(path) = wanted.names.iter().find_map(|name| program(OsStr::new(name), directories)) else {
        return finding(FindingState::Missing, "not on PATH".to_owned()).remedy(wanted.remedy);
    };
    match version(&path).await {
        Ok(version) => finding(FindingState::Works, format!("{version}, {}", path.display())),
        Err(reason) => finding(FindingState::Broken, format!("{} {reason}", path.display())).remedy(wanted.remedy),
    }
}

/// The first line that a program prints when it is asked for its version.
async fn version(path: &Path) -> Result<String, String> {
    let mut command = Command::new(path);
    command.arg("--version").stdin(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(VERSION_MAX, command.output()).await {
        Err(_) => Err(format!("did not say its version within {} s", VERSION_MAX.as_secs())),
        Ok(Err(error)) => Err(format!("does not start: {error}")),
        Ok(Ok(output)) if !output.status.success() => Err(format!("does not say its version: {}", output.status)),
        Ok(Ok(output)) => {
            Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().trim().to_owned())
        }
    }
}

/// Vulkan's drivers, as manifests in these folders.
fn vulkan(directories: &[&Path]) -> Finding {
    let finding = |state, detail: String| Finding::new("browsers", "Vulkan driver", state, detail);
    let manifests = directories.iter().filter_map(|directory| directory.read_dir().ok()).flatten();
    let mut drivers: Vec<String> = manifests
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok()?.strip_suffix(".json").map(str::to_owned))
        .collect();
    if drivers.is_empty() {
        let looked = directories.iter().map(|directory| directory.display().to_string()).collect::<Vec<_>>().join(", ");
        return finding(FindingState::Missing, format!("none in {looked}; Firefox has no WebGPU without"))
            .remedy("`make setup`, or Debian's package mesa-vulkan-drivers");
    }
    drivers.sort();
    finding(FindingState::Works, drivers.join(", "))
}

fn ort_web(directory: Option<&Path>) -> Finding {
    let finding = |state, detail: String| Finding::new("browsers", "ONNX Runtime Web", state, detail);
    let remedy =
        "`make setup`, or unpack npm's onnxruntime-web 1.30.0 and set AUGUR_ORT_WEB_DIRECTORY to its folder dist";
    match directory {
        None => finding(FindingState::Missing, "no folder is configured".to_owned()).remedy(remedy),
        Some(directory) if directory.join(ORT_WEB_FILE).is_file() => {
            finding(FindingState::Works, format!("found at {}", directory.display()))
        }
        Some(directory) => {
            finding(FindingState::Missing, format!("no {ORT_WEB_FILE} in {}", directory.display())).remedy(remedy)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[tokio::test]
    async fn what_is_missing_has_a_remedy_and_what_is_there_a_version() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let script = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::write(&path, text).expect("file");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("permissions");
        };
        script("microsoft-edge", "#!/bin/sh\necho Microsoft Edge 150.0\n");
        script("firefox-esr", "#!/bin/sh\necho Mozilla Firefox 153.0\n");
        script("geckodriver", "#!/bin/sh\nexit 3\n");
        fs::write(directory.path().join(ORT_WEB_FILE), "").expect("file");
        let findings = examine(&[directory.path().to_owned()], Some(directory.path())).await;
        // Vulkan's drivers are this machine's.
        let findings: Vec<_> = findings.into_iter().filter(|finding| finding.subject != "Vulkan driver").collect();
        let states: Vec<_> = findings.iter().map(|finding| (finding.subject.as_str(), finding.state)).collect();
        assert_eq!(
            states,
            [
                ("Chromium", FindingState::Missing),
                ("Chromium's driver", FindingState::Missing),
                ("Firefox", FindingState::Works),
                ("Firefox's driver", FindingState::Broken),
                ("Edge", FindingState::Works),
                ("Edge's driver", FindingState::Missing),
                ("ONNX Runtime Web", FindingState::Works),
            ]
        );
        assert!(findings[2].detail.starts_with("Mozilla Firefox 153.0, "), "{:?}", findings[2]);
        assert!(findings.iter().all(|finding| (finding.state == FindingState::Works) == finding.remedy.is_none()));
    }

    #[test]
    fn a_vulkan_driver_is_a_manifest() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let (absent, present) = (directory.path().join("absent"), directory.path());
        assert_eq!(vulkan(&[&absent, present]).state, FindingState::Missing);
        fs::write(present.join("lvp_icd.x86_64.json"), "{}").expect("file");
        let found = vulkan(&[&absent, present]);
        assert_eq!((found.state, found.detail.as_str()), (FindingState::Works, "lvp_icd.x86_64"));
    }
}
