//! Which measurements cannot be.
//!
//! - A number that is not finite or not above zero; only a model that was there already takes no time to load.
//! - A mean or a percentile that the raw iterations contradict: the mean by more than [`SUMMARY_PCT_MAX`], a percentile by
//!   having more iterations below or above it than its name allows. Somebody mixed up two measurements, or units.
//! - Iterations that together took longer than the job's timeout, or than twice its attempt by the worker's own clock: the
//!   attempt would have been ended, and 10⁹ ms are eleven days.
//! - Latency below [`CALL_MS_MIN`], which no call of a runtime takes, or more than [`PEAK_TIMES_MAX`] times faster than the
//!   device's arithmetic peak allows for the model's multiply-accumulates ([`NARROW_TIMES`] more for formats narrower than
//!   fp32). The margins are wide because convolutions can do with a quarter of their multiplications (Winograd), matrix
//!   units are several times faster than the vector units whose peak is known, and a busy machine measures its peak too
//!   low.
//! - More resident memory than twice the machine has, or a power that no machine draws.

use messages::{BenchmarkOutcome, JobResult, Platform, Precision};
use thiserror::Error;

/// Difference between the mean and the iterations' own, in percent.
const SUMMARY_PCT_MAX: f64 = 0.1;
/// No call into a runtime takes less, in milliseconds: 100 ns.
const CALL_MS_MIN: f64 = 1e-4;
/// How many times faster than the arithmetic peak fp32 may seem.
const PEAK_TIMES_MAX: f64 = 16.0;
/// How many times faster than fp32 narrower formats may be: int8 on matrix units.
const NARROW_TIMES: f64 = 32.0;
/// How many times longer than its attempt, and how many milliseconds beyond that, iterations may take: clocks are set.
const ATTEMPT_TIMES_MAX: f64 = 2.0;
const ATTEMPT_BEYOND_MS_MAX: f64 = 1_000.0;
/// How many times the machine's memory a process may seem to hold.
const MEMORY_TIMES_MAX: f64 = 2.0;
/// No machine draws more, in watts.
const POWER_W_MAX: f64 = 50_000.0;

/// Why a measurement cannot be.
#[derive(Debug, Error, Clone, PartialEq)]
pub enum Implausible {
    /// A number that no measurement gives.
    #[error("its {what} is {found}")]
    Number {
        /// Which number.
        what: &'static str,
        /// What it is.
        found: f64,
    },
    /// The summary does not follow from the iterations.
    #[error("its {what} is {found_ms} ms, which its raw iterations contradict")]
    Contradicted {
        /// Which part of the summary.
        what: &'static str,
        /// What it says, in milliseconds.
        found_ms: f64,
    },
    /// It took more time than there was.
    #[error("its iterations took {found_ms} ms in all, and {what} {limit_ms} ms")]
    TooLong {
        /// All iterations, in milliseconds.
        found_ms: f64,
        /// What was shorter.
        what: &'static str,
        /// How long that was, in milliseconds.
        limit_ms: f64,
    },
    /// Nothing computes that fast.
    #[error("its latency of {found_ms:.3e} ms is less than {least_ms:.3e} ms, which {why}")]
    TooFast {
        /// Median latency, in milliseconds.
        found_ms: f64,
        /// The least possible, in milliseconds.
        least_ms: f64,
        /// What takes that long.
        why: &'static str,
    },
    /// Nothing has that much.
    #[error("its {what} is {found}; at most {limit} is possible there")]
    TooMuch {
        /// Which number.
        what: &'static str,
        /// What it is.
        found: f64,
        /// The most that is possible.
        limit: f64,
    },
}

/// Applies the rules in this module's description; linear in the number of iterations.
pub(crate) fn check(result: &JobResult, outcome: &BenchmarkOutcome) -> Result<(), Implausible> {
    check_numbers(result, outcome)?;
    check_summary(outcome)?;
    check_time(result, outcome)?;
    check_speed(result, outcome)?;
    check_limits(result, outcome)
}

fn check_numbers(result: &JobResult, outcome: &BenchmarkOutcome) -> Result<(), Implausible> {
    let latency = &outcome.latency_ms;
    let summary = [
        ("mean latency", Some(latency.mean)),
        ("median latency", Some(latency.p50)),
        ("90th percentile of latency", Some(latency.p90)),
        ("99th percentile of latency", Some(latency.p99)),
        ("throughput", Some(outcome.throughput_items_per_second)),
        ("peak memory", outcome.memory_peak_mb),
        ("power", outcome.power_w),
        ("load time", result.outcome.load_ms()),
    ];
    let numbers = summary.into_iter().filter_map(|(what, number)| number.map(|number| (what, number)));
    numbers
        .chain(latency.iterations.iter().map(|ms| ("iteration", *ms)))
        .find(|(_, found)| !(found.is_finite() && *found > 0.0))
        .map_or(Ok(()), |(what, found)| Err(Implausible::Number { what, found }))
}

fn check_summary(outcome: &BenchmarkOutcome) -> Result<(), Implausible> {
    let latency = &outcome.latency_ms;
    let iterations = &latency.iterations;
    let tolerance = SUMMARY_PCT_MAX / 100.0;
    let mean = iterations.iter().sum::<f64>() / iterations.len() as f64;
    if (latency.mean / mean - 1.0).abs() > tolerance {
        return Err(Implausible::Contradicted { what: "mean latency", found_ms: latency.mean });
    }
    let ranks = (iterations.len() - 1) as f64;
    for (what, found_ms, quantile) in [
        ("median latency", latency.p50, 0.5),
        ("90th percentile of latency", latency.p90, 0.9),
        ("99th percentile of latency", latency.p99, 0.99),
    ] {
        let below = iterations.iter().filter(|ms| **ms < found_ms * (1.0 - tolerance)).count() as f64;
        let above = iterations.iter().filter(|ms| **ms > found_ms * (1.0 + tolerance)).count() as f64;
        // A percentile lies between two neighbours in rank, whichever way it is interpolated.
        if below > quantile * ranks + 1.0 || above > (1.0 - quantile) * ranks + 1.0 {
            return Err(Implausible::Contradicted { what, found_ms });
        }
    }
    Ok(())
}

fn check_time(result: &JobResult, outcome: &BenchmarkOutcome) -> Result<(), Implausible> {
    let found_ms = outcome.latency_ms.iterations.iter().sum::<f64>();
    let timeout_ms = result.job.timeout_ms as f64;
    if found_ms > timeout_ms {
        return Err(Implausible::TooLong { found_ms, what: "its job may take", limit_ms: timeout_ms });
    }
    let attempt_ms = result.finished_at.seconds_since(result.started_at) * 1e3;
    if attempt_ms > 0.0 && found_ms > attempt_ms * ATTEMPT_TIMES_MAX + ATTEMPT_BEYOND_MS_MAX {
        return Err(Implausible::TooLong { found_ms, what: "its attempt", limit_ms: attempt_ms });
    }
    Ok(())
}

fn check_speed(result: &JobResult, outcome: &BenchmarkOutcome) -> Result<(), Implausible> {
    let found_ms = outcome.latency_ms.p50;
    if found_ms < CALL_MS_MIN {
        return Err(Implausible::TooFast { found_ms, least_ms: CALL_MS_MIN, why: "any call of a runtime takes" });
    }
    let peak_gflops = result.device.as_ref().and_then(|device| device.peak_fp32_gflops).filter(|peak| *peak > 0.0);
    let (Some(peak_gflops), Some(spec)) = (peak_gflops, result.job.spec.benchmark()) else { return Ok(()) };
    let narrow = if spec.configuration.precision == Precision::Fp32 { 1.0 } else { NARROW_TIMES };
    let at_peak_ms = 2.0 * outcome.costs.macs() as f64 / (peak_gflops * 1e6);
    let least_ms = at_peak_ms / (PEAK_TIMES_MAX * narrow);
    if found_ms < least_ms {
        let why = "the model's arithmetic takes far beyond the device's peak";
        return Err(Implausible::TooFast { found_ms, least_ms, why });
    }
    Ok(())
}

fn check_limits(result: &JobResult, outcome: &BenchmarkOutcome) -> Result<(), Implausible> {
    let on_processor = result.device.as_ref().filter(|device| device.platform == Platform::Cpu);
    let memory_mb_max = on_processor.and_then(|device| device.memory_mb).map(|mb| mb * MEMORY_TIMES_MAX);
    let limits = [
        ("peak memory in MB", outcome.memory_peak_mb, memory_mb_max),
        ("power in W", outcome.power_w, Some(POWER_W_MAX)),
    ];
    for (what, found, limit) in limits {
        if let (Some(found), Some(limit)) = (found, limit)
            && found > limit
        {
            return Err(Implausible::TooMuch { what, found, limit });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use messages::{Outcome, Warmth};

    use super::*;
    use crate::tests::builders::{benchmark, run, web_benchmark};

    /// Why the sample benchmark cannot be after this change; empty if it can.
    fn changed(change: impl FnOnce(&mut BenchmarkOutcome)) -> String {
        let mut result = benchmark(&run(1), 1);
        let Outcome::Benchmark(outcome) = &mut result.outcome else { panic!("a benchmark") };
        change(outcome);
        let outcome = outcome.clone();
        check(&result, &outcome).map_or_else(|error| error.to_string(), |()| String::new())
    }

    /// All iterations, and what follows from them, times `factor`.
    fn scale(outcome: &mut BenchmarkOutcome, factor: f64) {
        let latency = &mut outcome.latency_ms;
        latency.iterations.iter_mut().for_each(|ms| *ms *= factor);
        for number in [&mut latency.mean, &mut latency.p50, &mut latency.p90, &mut latency.p99] {
            *number *= factor;
        }
    }

    #[test]
    fn numbers_that_nothing_measures_are_named() {
        assert_eq!(changed(|_| ()), "");
        assert_eq!(changed(|o| o.load_ms = 0.0), "its load time is 0");
        assert_eq!(changed(|o| o.memory_peak_mb = Some(f64::INFINITY)), "its peak memory is inf");
        assert_eq!(changed(|o| o.latency_ms.iterations[1] = -1.0), "its iteration is -1");
        assert_eq!(changed(|o| o.latency_ms.p50 = f64::NAN), "its median latency is NaN");
        assert_eq!(changed(|o| scale(o, 0.0)), "its mean latency is 0");
    }

    #[test]
    fn a_summary_that_its_iterations_contradict_is_named() {
        // They are 2, 3 and 4 ms.
        let contradicted = |change: fn(&mut BenchmarkOutcome)| {
            let text = changed(change);
            text.strip_suffix(", which its raw iterations contradict").unwrap_or(&text).to_owned()
        };
        assert_eq!(contradicted(|o| o.latency_ms.mean = 3.1), "its mean latency is 3.1 ms");
        assert_eq!(contradicted(|o| o.latency_ms.p50 = 4.5), "its median latency is 4.5 ms");
        assert_eq!(contradicted(|o| o.latency_ms.p90 = 1.5), "its 90th percentile of latency is 1.5 ms");
        assert_eq!(contradicted(|o| o.latency_ms.p99 = 1.0), "its 99th percentile of latency is 1 ms");
        assert_eq!(contradicted(|o| o.latency_ms.mean *= 1.0005), "", "rounding contradicts nothing");
    }

    #[test]
    fn nothing_takes_longer_than_its_job_or_its_attempt() {
        // The job may take a minute, and its attempt took two seconds.
        assert_eq!(
            changed(|o| scale(o, 1e9)),
            "its iterations took 9000000000 ms in all, and its job may take 60000 ms"
        );
        assert_eq!(changed(|o| scale(o, 1e3)), "its iterations took 9000 ms in all, and its attempt 2000 ms");
    }

    #[test]
    fn nothing_is_much_faster_than_the_peak() {
        let called = changed(|o| scale(o, 1e-5));
        assert_eq!(called, "its latency of 3.000e-5 ms is less than 1.000e-4 ms, which any call of a runtime takes");
        // 123.5 GFLOP/s, sixteen times over, do 10^10 multiply-accumulates in 10 ms, and 3 ms were measured.
        let heavy = changed(|o| o.costs.operators[0].macs = 5_000_000_000);
        assert_eq!(
            heavy,
            "its latency of 3.000e0 ms is less than 1.012e1 ms, which the model's arithmetic takes far beyond the device's peak"
        );
        let mut narrow = benchmark(&run(1), 1);
        if let messages::JobSpec::Benchmark(spec) = &mut narrow.job.spec {
            spec.configuration.precision = Precision::Int8;
        }
        let Outcome::Benchmark(mut outcome) = narrow.outcome.clone() else { panic!("a benchmark") };
        outcome.costs.operators[0].macs = 5_000_000_000;
        assert_eq!(check(&narrow, &outcome), Ok(()));
    }

    #[test]
    fn nothing_has_more_memory_than_its_machine_or_draws_a_village_s_power() {
        assert_eq!(
            changed(|o| o.memory_peak_mb = Some(1e9)),
            "its peak memory in MB is 1000000000; at most 16000 is possible there"
        );
        assert_eq!(changed(|o| o.power_w = Some(1e6)), "its power in W is 1000000; at most 50000 is possible there");
    }

    #[test]
    fn a_browser_that_had_the_model_loads_nothing() {
        let mut result = web_benchmark(&run(1), 1, "firefox");
        let Outcome::Web(web) = &mut result.outcome else { panic!("of a browser") };
        (web.warmth, web.benchmark.load_ms) = (Warmth::WarmModel, 0.0);
        let outcome = web.benchmark.clone();
        assert_eq!(check(&result, &outcome), Ok(()));
    }
}
