//! The processor's measured peaks, kept in a file so that a machine is measured once.

mod arithmetic;
mod bandwidth;
mod moment;
mod rounds;

use std::{
    fs,
    io::Write,
    num::NonZero,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{
    HardwareError,
    lock::{self, POLL_INTERVAL, Sharing},
};

pub use moment::{Moment, moment};

/// Where the peaks are kept.
const PEAKS_FILE: &str = "hardware.json";
/// What whoever measures holds.
const LOCK_FILE: &str = "hardware.lock";

/// Version of the way of measuring; a change makes every kept measurement stale.
const MEASUREMENT_VERSION: u32 = 1;

/// Longest wait for another process that is measuring this machine; a measurement takes about two seconds.
const MEASURING_WAIT_MAX: Duration = Duration::from_mins(1);

/// How many times the kept peak the processor has to do at a moment for it to be measured again.
const OUTDONE_TIMES: f64 = 1.2;
/// How many times as fast a word has to be handed over for that to be the usual time from then on.
const HANDED_FASTER_TIMES: f64 = 1.5;

/// What identifies a machine and bounds its measurement.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) cores: usize,
    pub(crate) threads: NonZero<usize>,
    pub(crate) simd: Option<&'static str>,
    /// Last-level cache of all cores; 0 if unknown.
    pub(crate) last_level_cache_bytes: u64,
    pub(crate) free_memory_bytes: u64,
}

/// What a machine can do at best.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Peaks {
    /// fp32 arithmetic over all threads, in GFLOP/s.
    pub(crate) fp32_gflops: f64,
    /// Triad bandwidth over all threads, in GB/s.
    pub(crate) bandwidth_gb_per_s: f64,
    /// Time until the next of all threads sees what one has written, in ns.
    #[serde(default)]
    pub(crate) handoff_ns: Option<f64>,
}

/// The cache file's content.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    machine: String,
    peaks: Peaks,
}

/// The machine's peaks, measured unless `directory` keeps them and the processor does not outdo them.
pub(crate) fn of_machine(machine: &Machine, directory: &Path) -> Result<Peaks, HardwareError> {
    let identity = identity(machine);
    let peaks = kept_or(directory, &identity, || measure(machine))?;
    let now = moment(machine.threads);
    unless_outdone(directory, &identity, peaks, now, || arithmetic::fp32_gflops(machine.threads))
}

/// Says which machine and which way of measuring a kept measurement belongs to.
fn identity(machine: &Machine) -> String {
    let Machine { name, cores, threads, simd, last_level_cache_bytes, .. } = machine;
    format!(
        "measurement {MEASUREMENT_VERSION}; {name}; {cores} cores; {threads} threads; {}; {last_level_cache_bytes} B cache",
        simd.unwrap_or("scalar")
    )
}

fn measure(machine: &Machine) -> Result<Peaks, HardwareError> {
    let fp32_gflops = rounded(arithmetic::fp32_gflops(machine.threads)?);
    let bandwidth_gb_per_s =
        rounded(bandwidth::gb_per_s(machine.threads, machine.last_level_cache_bytes, machine.free_memory_bytes)?);
    tracing::info!(fp32_gflops, bandwidth_gb_per_s, "measured this machine's processor");
    Ok(Peaks { fp32_gflops, bandwidth_gb_per_s, handoff_ns: None })
}

/// Three decimals say more than a measurement knows, and they read back from JSON to the last bit.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// The peaks, with arithmetic measured again where the processor does far more `now`: something had a share in its cores when
/// they were measured. Never less than they were. On a calm processor the time to hand over is kept, too, if it is far less.
fn unless_outdone(
    directory: &Path,
    identity: &str,
    peaks: Peaks,
    now: Option<Moment>,
    measure: impl FnOnce() -> Result<f64, HardwareError>,
) -> Result<Peaks, HardwareError> {
    let Some(Moment { arithmetic_gflops, handoff_ns }) = now else { return Ok(peaks) };
    let is_outdone = arithmetic_gflops > OUTDONE_TIMES * peaks.fp32_gflops;
    // Threads that share a core hand over faster than they usually do.
    let handoff_ns = handoff_ns.filter(|now| {
        arithmetic_gflops * OUTDONE_TIMES > peaks.fp32_gflops
            && peaks.handoff_ns.is_none_or(|kept| now * HANDED_FASTER_TIMES < kept)
    });
    if !is_outdone && handoff_ns.is_none() {
        return Ok(peaks);
    }
    let lock_path = directory.join(LOCK_FILE);
    let lock = lock::open(&lock_path)?;
    if !lock::try_lock(&lock, Sharing::Exclusive, &lock_path)? {
        // Whoever holds it does the same, for the next process that asks.
        return Ok(peaks);
    }
    let fp32_gflops = if is_outdone { rounded(measure()?).max(peaks.fp32_gflops) } else { peaks.fp32_gflops };
    let raised = Peaks { fp32_gflops, handoff_ns: handoff_ns.map(rounded).or(peaks.handoff_ns), ..peaks };
    if raised != peaks {
        tracing::info!(?raised, before = ?peaks, "the processor does more than when it was measured");
        write(directory, &directory.join(PEAKS_FILE), &Kept { machine: identity.to_owned(), peaks: raised })?;
    }
    Ok(raised)
}

/// Reads the kept peaks of `identity`, or measures and keeps them while other processes wait.
fn kept_or(
    directory: &Path,
    identity: &str,
    measure: impl FnOnce() -> Result<Peaks, HardwareError>,
) -> Result<Peaks, HardwareError> {
    let file = directory.join(PEAKS_FILE);
    if let Some(peaks) = read(&file, identity) {
        return Ok(peaks);
    }
    let lock_path = directory.join(LOCK_FILE);
    let lock = lock::open(&lock_path)?;
    let asked_at = Instant::now();
    while !lock::try_lock(&lock, Sharing::Exclusive, &lock_path)? {
        if asked_at.elapsed() >= MEASURING_WAIT_MAX {
            let waited_ms = u64::try_from(asked_at.elapsed().as_millis()).unwrap_or(u64::MAX);
            return Err(HardwareError::MeasuringElsewhere { path: lock_path, waited_ms });
        }
        thread::sleep(POLL_INTERVAL);
    }
    // Whoever held the lock may just have measured.
    if let Some(peaks) = read(&file, identity) {
        return Ok(peaks);
    }
    let peaks = measure()?;
    write(directory, &file, &Kept { machine: identity.to_owned(), peaks })?;
    Ok(peaks)
}

/// The kept peaks, unless they are missing, damaged or another machine's.
fn read(file: &Path, identity: &str) -> Option<Peaks> {
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "kept measurement cannot be read; measuring again");
            return None;
        }
    };
    let kept = match serde_json::from_slice::<Kept>(&text) {
        Ok(kept) => kept,
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "kept measurement is damaged; measuring again");
            return None;
        }
    };
    let usable = |value: f64| value.is_finite() && value > 0.0;
    if kept.machine != identity {
        tracing::info!(file = %file.display(), "kept measurement is another machine's; measuring again");
        return None;
    }
    if !usable(kept.peaks.fp32_gflops) || !usable(kept.peaks.bandwidth_gb_per_s) {
        tracing::warn!(file = %file.display(), "kept measurement is nonsense; measuring again");
        return None;
    }
    Some(kept.peaks)
}

/// Writes the file whole or not at all.
fn write(directory: &Path, file: &PathBuf, kept: &Kept) -> Result<(), HardwareError> {
    let failed = |source| HardwareError::File { action: "write", path: file.clone(), source };
    let text = serde_json::to_vec_pretty(kept).map_err(|error| failed(error.into()))?;
    let mut temporary = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
    temporary.write_all(&text).and_then(|()| temporary.as_file().sync_all()).map_err(failed)?;
    temporary.persist(file).map_err(|error| failed(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "these numbers are exact")]

    use std::{
        io,
        sync::{
            Mutex,
            atomic::{AtomicU32, Ordering},
        },
    };

    use super::*;

    /// Counts measurements; the n-th measures n GFLOP/s.
    struct Measurer(AtomicU32);

    impl Measurer {
        fn peaks(&self, directory: &Path, identity: &str) -> f64 {
            let measure = || {
                let number = self.0.fetch_add(1, Ordering::SeqCst) + 1;
                Ok(Peaks { fp32_gflops: f64::from(number), bandwidth_gb_per_s: 10.0, handoff_ns: None })
            };
            kept_or(directory, identity, measure).expect("peaks").fp32_gflops
        }
    }

    #[test]
    fn a_machine_is_measured_once_and_another_anew() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let measurer = Measurer(AtomicU32::new(0));
        assert_eq!(measurer.peaks(directory.path(), "a"), 1.0);
        assert_eq!(measurer.peaks(directory.path(), "a"), 1.0);
        assert_eq!(measurer.peaks(directory.path(), "b"), 2.0);
    }

    #[test]
    fn a_peak_that_the_processor_outdoes_is_raised_and_never_lowered() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let kept = |fp32_gflops, handoff_ns| Peaks { fp32_gflops, bandwidth_gb_per_s: 10.0, handoff_ns };
        let now = |arithmetic_gflops, handoff_ns| Some(Moment { arithmetic_gflops, handoff_ns });
        let check = |before: Peaks, now, measured: f64, after: Peaks| {
            let file = directory.path().join(PEAKS_FILE);
            let _ = fs::remove_file(&file);
            let found = unless_outdone(directory.path(), "a", before, now, || Ok(measured)).expect("peaks");
            assert_eq!((found, read(&file, "a")), (after, (after != before).then_some(after)));
        };
        let usual = kept(100.0, Some(60.0));
        check(usual, None, 200.0, usual);
        // A clock may be a little higher now.
        check(usual, now(119.0, Some(50.0)), 200.0, usual);
        // Others came in between.
        check(usual, now(190.0, None), 90.0, usual);
        check(usual, now(190.0, None), 200.0, kept(200.0, Some(60.0)));
        // Its threads shared a core, or did not.
        check(usual, now(50.0, Some(20.0)), 200.0, usual);
        check(usual, now(98.0, Some(20.0)), 200.0, kept(100.0, Some(20.0)));
        check(kept(100.0, None), now(98.0, Some(300.0)), 200.0, kept(100.0, Some(300.0)));
    }

    #[test]
    fn processes_that_start_together_measure_once() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let measurer = Measurer(AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert_eq!(measurer.peaks(directory.path(), "a"), 1.0));
            }
        });
    }

    /// Collects what is logged.
    #[derive(Clone, Default)]
    struct Log(std::sync::Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_damaged_file_is_measured_anew_with_a_warning() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let file = directory.path().join("hardware.json");
        let nonsense = r#"{"machine":"a","peaks":{"fp32_gflops":-1.0,"bandwidth_gb_per_s":10.0}}"#;
        for (damage, warning) in [("{\"machine\":", "is damaged"), (nonsense, "is nonsense")] {
            fs::write(&file, damage).expect("written");
            let log = Log::default();
            let writer = log.clone();
            let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
            let measurer = Measurer(AtomicU32::new(0));
            let peaks = tracing::subscriber::with_default(subscriber, || measurer.peaks(directory.path(), "a"));
            assert_eq!(peaks, 1.0);
            let logged = String::from_utf8(log.0.lock().expect("not poisoned").clone()).expect("text");
            assert!(logged.contains("WARN") && logged.contains(warning), "{logged}");
            assert_eq!(read(&file, "a").map(|peaks| peaks.fp32_gflops), Some(1.0), "the file is whole again");
        }
    }
}
