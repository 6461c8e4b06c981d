//! What the machine does beside the benchmark: clock, heat, load, other processes, other machines of the same host.
//!
//! Everything is read from the kernel's own files, so reading costs some hundred microseconds, before the first timed
//! iteration and after the last. What a machine does not show (a virtual one shows no clock and no heat) stays `None`.
//!
//! Sources: proc(5) for `/proc/stat` and `/proc/loadavg`; for the rest
//! <https://docs.kernel.org/scheduler/sched-stats.html>, <https://docs.kernel.org/admin-guide/pm/cpufreq.html>,
//! <https://docs.kernel.org/driver-api/thermal/sysfs-api.html> and <https://docs.kernel.org/hwmon/sysfs-interface.html>.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use crate::protocol::{Seen, SeenState};

/// Ticks per second in `/proc/stat`: `USER_HZ`, which the kernel keeps at 100 whatever its own rate.
const TICKS_PER_S: f64 = 100.0;
/// Shorter spans than this, in seconds, say nothing in ticks.
const SPAN_S_MIN: f64 = 0.1;
/// Sensors that are not connected report values outside, in degrees Celsius.
const TEMPERATURES_C: std::ops::RangeInclusive<f64> = -40.0..=150.0;

/// The machine, watched from a moment on.
#[derive(Debug)]
pub(crate) struct Watch {
    root: PathBuf,
    began_at: Instant,
    before: Snapshot,
}

/// All counters at one moment.
#[derive(Debug)]
struct Snapshot {
    state: SeenState,
    processors: Option<Processors>,
    own: Option<Own>,
    throttle_events: Option<u64>,
}

/// Time of all logical processors since the start, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Processors {
    busy: u64,
    /// Given to other machines by the host.
    stolen: u64,
}

/// Time of this process's threads since their start, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Own {
    ran: u64,
    /// Ready to run, and no processor free.
    waited: u64,
}

impl Watch {
    /// Begins to watch this machine.
    pub(crate) fn begin() -> Self {
        Self::begin_at(Path::new("/"))
    }

    /// Begins to watch this machine for a benchmark in other processes: what they and their neighbours do is not told
    /// apart, and the clock is not compared: it falls as soon as they are idle, which is not because of heat.
    pub(crate) fn begin_for_others() -> Self {
        let mut watch = Self::begin();
        watch.before.own = None;
        watch.before.state.clock_mhz = None;
        watch
    }

    fn begin_at(root: &Path) -> Self {
        Self { root: root.to_owned(), before: Snapshot::read(root), began_at: Instant::now() }
    }

    /// What was seen since.
    pub(crate) fn end(self) -> Seen {
        let span_s = self.began_at.elapsed().as_secs_f64();
        self.before.until(&Snapshot::read(&self.root), span_s)
    }
}

impl Snapshot {
    fn read(root: &Path) -> Self {
        let text = |path: &str| fs::read_to_string(root.join(path)).ok();
        Self {
            state: SeenState {
                clock_mhz: clock_mhz(root),
                temperature_c: temperature_c(root),
                load_average: text("proc/loadavg").and_then(|line| line.split(' ').next()?.parse().ok()),
            },
            processors: text("proc/stat").and_then(|stat| processors(&stat)),
            own: own(root),
            throttle_events: sum(&numbers(
                root,
                "sys/devices/system/cpu",
                "cpu",
                "thermal_throttle/core_throttle_count",
            )),
        }
    }

    /// What happened until a later snapshot.
    fn until(&self, after: &Self, span_s: f64) -> Seen {
        let own = self.own.zip(after.own).map(|(before, after)| Own {
            ran: after.ran.saturating_sub(before.ran),
            waited: after.waited.saturating_sub(before.waited),
        });
        let processors = self.processors.zip(after.processors).filter(|_| span_s >= SPAN_S_MIN);
        let processors = processors.map(|(before, after)| Processors {
            busy: after.busy.saturating_sub(before.busy),
            stolen: after.stolen.saturating_sub(before.stolen),
        });
        let share = |part: u64, rest: u64| (part + rest > 0).then(|| 100.0 * part as f64 / (part + rest) as f64);
        let elsewhere = |(all, own): (Processors, Own)| {
            let others_s = (all.busy + all.stolen) as f64 / TICKS_PER_S - own.ran as f64 / 1e9;
            (others_s / span_s).max(0.0)
        };
        Seen {
            before: self.state,
            after: after.state,
            busy_elsewhere_cpus: processors.zip(own).map(elsewhere),
            waited_pct: own.and_then(|own| share(own.waited, own.ran)),
            stolen_pct: processors.and_then(|all| share(all.stolen, all.busy)),
            arithmetic_pct: None,
            handoff_ns: None,
            throttle_events: self
                .throttle_events
                .zip(after.throttle_events)
                .map(|(before, after)| after.saturating_sub(before)),
        }
    }
}

/// The first line of `/proc/stat`: user, nice, system, idle, waiting for disks, two kinds of interrupts, stolen.
fn processors(stat: &str) -> Option<Processors> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line.split_ascii_whitespace().map_while(|number| number.parse().ok()).collect();
    let &[user, nice, system, _idle, _disk, irq, soft_irq, stolen, ..] = &ticks[..] else { return None };
    Some(Processors { busy: user + nice + system + irq + soft_irq, stolen })
}

/// Sums up the threads of this process.
fn own(root: &Path) -> Option<Own> {
    let mut sum = Own { ran: 0, waited: 0 };
    for task in fs::read_dir(root.join("proc/self/task")).ok()?.filter_map(Result::ok) {
        // A thread that ended meanwhile has no file any more.
        let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else { continue };
        let mut numbers = text.split_ascii_whitespace().map_while(|number| number.parse::<u64>().ok());
        sum.ran += numbers.next()?;
        sum.waited += numbers.next()?;
    }
    (sum.ran > 0).then_some(sum)
}

/// Clock of the fastest core: idle ones are slow and say nothing.
fn clock_mhz(root: &Path) -> Option<f64> {
    let scaled = numbers(root, "sys/devices/system/cpu", "cpu", "cpufreq/scaling_cur_freq");
    let scaled = scaled.into_iter().map(|khz| khz / 1e3);
    let listed = || {
        let text = fs::read_to_string(root.join("proc/cpuinfo")).unwrap_or_default();
        let clocks =
            text.lines().filter_map(|line| line.strip_prefix("cpu MHz")?.split_once(':')?.1.trim().parse().ok());
        clocks.collect::<Vec<f64>>().into_iter().reduce(f64::max)
    };
    scaled.reduce(f64::max).or_else(listed)
}

/// The hottest of all sensors.
fn temperature_c(root: &Path) -> Option<f64> {
    let zones = numbers(root, "sys/class/thermal", "thermal_zone", "temp");
    let sensors = (1..=8).flat_map(|number| numbers(root, "sys/class/hwmon", "hwmon", &format!("temp{number}_input")));
    zones.into_iter().chain(sensors).map(|milli| milli / 1e3).filter(|c| TEMPERATURES_C.contains(c)).reduce(f64::max)
}

/// The number in `file` of every entry of `directory` that is called `name` and a number.
fn numbers(root: &Path, directory: &str, name: &str, file: &str) -> Vec<f64> {
    let is_numbered = |entry: &str| entry.strip_prefix(name).is_some_and(|rest| rest.parse::<u32>().is_ok());
    let Ok(entries) = fs::read_dir(root.join(directory)) else { return Vec::new() };
    let entries = entries.filter_map(Result::ok).filter(|entry| entry.file_name().to_str().is_some_and(is_numbered));
    entries.filter_map(|entry| fs::read_to_string(entry.path().join(file)).ok()?.trim().parse().ok()).collect()
}

/// A sum of counters; `None` where there are none.
fn sum(counters: &[f64]) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the kernel counts events from 0")]
    (!counters.is_empty()).then(|| counters.iter().map(|counter| *counter as u64).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine's files.
    struct Files(tempfile::TempDir);

    impl Files {
        fn new() -> Self {
            Self(tempfile::tempdir().expect("temporary directory"))
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("created");
            fs::write(path, text).expect("written");
        }

        fn read(&self) -> Snapshot {
            Snapshot::read(self.0.path())
        }
    }

    #[test]
    fn what_happens_meanwhile_is_told_apart() {
        let files = Files::new();
        files.write("proc/stat", "cpu  100 10 20 500 5 1 2 7 0 0\ncpu0 1 1 1\n");
        files.write("proc/loadavg", "2.50 1.00 0.50 3/105 250\n");
        files.write("proc/self/task/1/schedstat", "1000000000 0 1\n");
        files.write("proc/self/task/2/schedstat", "500000000 100000000 1\n");
        for (core, khz, events) in [(0, 800_000, 3), (1, 3_400_000, 0)] {
            files.write(&format!("sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq"), &format!("{khz}\n"));
            files.write(
                &format!("sys/devices/system/cpu/cpu{core}/thermal_throttle/core_throttle_count"),
                &format!("{events}\n"),
            );
        }
        files.write("sys/devices/system/cpu/cpufreq/scaling_cur_freq", "9000000\n");
        files.write("sys/class/thermal/thermal_zone0/temp", "55000\n");
        files.write("sys/class/hwmon/hwmon3/temp2_input", "71500\n");
        files.write("sys/class/hwmon/hwmon3/temp1_input", "-274000\n");
        let before = files.read();
        // In two seconds: 2.8 s of all processors, 1.2 s stolen; of these 2 s of our own, which waited for 0.5 s.
        files.write("proc/stat", "cpu  300 20 80 900 9 5 8 127 0 0\n");
        files.write("proc/self/task/1/schedstat", "2000000000 400000000 1\n");
        files.write("proc/self/task/2/schedstat", "1500000000 200000000 1\n");
        files.write("sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq", "2100000\n");
        files.write("sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count", "2\n");
        let seen = before.until(&files.read(), 2.0);
        let before = SeenState { clock_mhz: Some(3_400.0), temperature_c: Some(71.5), load_average: Some(2.5) };
        assert_eq!(seen.before, before);
        assert_eq!(seen.after, SeenState { clock_mhz: Some(2_100.0), ..before });
        assert_eq!((seen.busy_elsewhere_cpus, seen.throttle_events), (Some(1.0), Some(2)));
        assert_eq!((seen.waited_pct, seen.stolen_pct), (Some(20.0), Some(30.0)));
    }

    #[test]
    fn what_a_machine_does_not_show_stays_unknown() {
        let files = Files::new();
        let seen = files.read().until(&files.read(), 2.0);
        assert_eq!(seen, Seen::default());
        // Clocks that only the list of processors shows, and a span too short for ticks.
        files.write("proc/cpuinfo", "processor\t: 0\ncpu MHz\t\t: 2596.132\n\nprocessor\t: 1\ncpu MHz\t\t: 2600.0\n");
        files.write("proc/stat", "cpu  100 10 20 500 5 1 2 7 0 0\n");
        let seen = files.read().until(&files.read(), 0.01);
        assert_eq!((seen.after.clock_mhz, seen.stolen_pct), (Some(2_600.0), None));
    }

    #[test]
    fn this_machine_is_watched() {
        let watch = Watch::begin();
        let sum: u64 = (0..20_000_000_u64).map(std::hint::black_box).sum();
        assert!(sum > 0 && watch.end().after.load_average.is_some());
    }
}
