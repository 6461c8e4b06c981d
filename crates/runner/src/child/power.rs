//! Mean power of the processor packages, where the kernel lets us read it (RAPL, usually root only).
//!
//! Source: <https://docs.kernel.org/power/powercap/powercap.html>.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

/// The packages' energy counters at one moment.
#[derive(Debug)]
pub(crate) struct Energy {
    read_at: Instant,
    packages: Vec<Package>,
}

#[derive(Debug)]
struct Package {
    directory: PathBuf,
    energy_uj: u64,
}

impl Energy {
    /// Reads every package below `/sys/class/powercap`; `None` without any that is readable.
    pub(crate) fn read() -> Option<Self> {
        Self::read_from(Path::new("/sys/class/powercap"))
    }

    fn read_from(directory: &Path) -> Option<Self> {
        // `intel-rapl:0` is a package (AMD's too), `intel-rapl:0:1` a part of it.
        let is_package = |name: &str| name.strip_prefix("intel-rapl:").is_some_and(|number| !number.contains(':'));
        let mut packages = Vec::new();
        for entry in fs::read_dir(directory).ok()?.filter_map(Result::ok) {
            if entry.file_name().to_str().is_some_and(is_package) {
                let directory = entry.path();
                packages.push(Package { energy_uj: number(&directory.join("energy_uj"))?, directory });
            }
        }
        (!packages.is_empty()).then_some(Self { read_at: Instant::now(), packages })
    }

    /// Mean power since this was read, in watts.
    pub(crate) fn mean_power_w(&self) -> Option<f64> {
        self.mean_power_w_over(self.read_at.elapsed().as_secs_f64())
    }

    fn mean_power_w_over(&self, seconds: f64) -> Option<f64> {
        let used_uj = |package: &Package| {
            let now_uj = number(&package.directory.join("energy_uj"))?;
            // The counter starts again at its range's end.
            let range_uj = number(&package.directory.join("max_energy_range_uj")).unwrap_or(0);
            now_uj.checked_sub(package.energy_uj).or_else(|| (now_uj + range_uj).checked_sub(package.energy_uj))
        };
        let used_uj: u64 = self.packages.iter().map(used_uj).sum::<Option<u64>>()?;
        (seconds > 0.0 && used_uj > 0).then(|| used_uj as f64 / 1e6 / seconds)
    }
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_summed_across_a_wrap_and_parts_are_not() {
        let root = tempfile::tempdir().expect("temporary directory");
        let write = |zone: &str, file: &str, value: u64| {
            let directory = root.path().join(zone);
            fs::create_dir_all(&directory).expect("created");
            fs::write(directory.join(file), format!("{value}\n")).expect("written");
        };
        for (zone, energy) in [("intel-rapl:0", 1_000_000), ("intel-rapl:1", 9_000_000), ("intel-rapl:0:0", 5)] {
            write(zone, "energy_uj", energy);
            write(zone, "max_energy_range_uj", 10_000_000);
        }
        let energy = Energy::read_from(root.path()).expect("readable");
        write("intel-rapl:0", "energy_uj", 5_000_000);
        write("intel-rapl:1", "energy_uj", 1_000_000);
        write("intel-rapl:0:0", "energy_uj", 9_000_000);
        assert_eq!(energy.mean_power_w_over(2.0), Some(3.0));
    }

    #[test]
    fn no_counters_no_power() {
        let root = tempfile::tempdir().expect("temporary directory");
        assert!(Energy::read_from(root.path()).is_none());
    }
}
