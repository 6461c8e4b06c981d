//! Which results predictors may learn from.
//!
//! A result is accepted if a benchmark ran on a known device with at least one timed iteration, and every number it
//! reports is finite and above zero; a browser that had the model already loads nothing. Of a browser it must be proven
//! that the platform ran at least one node of the model: a browser whose GPU is of no use runs everything as WebAssembly
//! and says nothing. Rejected results are stored all the same, with the reason.
//!
//! A measurement that cannot be, by these rules or those of [`crate::plausible`], is quarantined: somebody who knows better
//! can lift that. One that its worker marked, because the device was throttled or disturbed, is not what the device can do,
//! whatever it says, and nobody can lift that.

use messages::{AcceptedMeasurement, JobResult, Mark, Metric, Outcome, Platform, WebOutcome};
use thiserror::Error;

use crate::plausible::{self, Implausible};

/// What a measurement counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Predictors learn from it.
    Accepted,
    /// The same, because somebody lifted its quarantine.
    Released,
    /// It cannot be; somebody may lift that.
    Quarantined,
    /// The device slowed itself down meanwhile.
    Throttled,
    /// Others used the device meanwhile.
    Disturbed,
    /// It lacks what learning needs, or proof.
    Rejected,
}

impl Standing {
    /// The word for it, as the tables have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Released => "released",
            Self::Quarantined => "quarantined",
            Self::Throttled => "throttled",
            Self::Disturbed => "disturbed",
            Self::Rejected => "rejected",
        }
    }
}

/// Why a result is not a measurement to learn from.
#[derive(Debug, Error, Clone, PartialEq)]
pub enum Rejection {
    /// A test, a failure, or an outcome that is not of the job's kind.
    #[error("it is no benchmark's outcome")]
    NoBenchmark,
    /// Nobody said what it ran on.
    #[error("its device is unknown")]
    NoDevice,
    /// Nothing was timed.
    #[error("it has no timed iteration")]
    NoIterations,
    /// A browser said that it used a platform, and no node of the model is known to have run there.
    #[error("no node of the model is proven to have run on {platform}")]
    Unproven {
        /// The platform.
        platform: Platform,
    },
    /// It cannot be.
    #[error(transparent)]
    Implausible(#[from] Implausible),
    /// Its worker says that it does not show what the device can do.
    #[error("{}", .0.reason())]
    Marked(Mark),
}

impl Rejection {
    /// What the measurement counts for.
    pub const fn standing(&self) -> Standing {
        match self {
            Self::NoBenchmark | Self::NoDevice | Self::NoIterations | Self::Unproven { .. } => Standing::Rejected,
            Self::Implausible(_) => Standing::Quarantined,
            Self::Marked(Mark::Throttled(_)) => Standing::Throttled,
            Self::Marked(Mark::Disturbed(_)) => Standing::Disturbed,
        }
    }
}

/// Applies the rule in this module's description.
///
/// # Errors
///
/// [`Rejection`] says what keeps the result from being learned from.
pub fn accept(result: &JobResult) -> Result<AcceptedMeasurement, Rejection> {
    let (Some(configuration), Some(outcome)) = (result.configuration(), result.outcome.benchmark()) else {
        return Err(Rejection::NoBenchmark);
    };
    let device = result.device.clone().ok_or(Rejection::NoDevice)?;
    if outcome.latency_ms.iterations.is_empty() {
        return Err(Rejection::NoIterations);
    }
    if let Outcome::Web(web) = &result.outcome
        && !is_proven(web)
    {
        return Err(Rejection::Unproven { platform: web.platform });
    }
    if let Some(mark) = outcome.conditions.as_ref().and_then(|conditions| conditions.mark.clone()) {
        return Err(Rejection::Marked(mark));
    }
    plausible::check(result, outcome)?;
    Ok(AcceptedMeasurement {
        job_id: result.job.job_id,
        run_id: result.job.run.run_id,
        measured_at: result.finished_at,
        configuration: configuration.into_owned(),
        device,
        costs: outcome.costs.clone(),
        backend_version: outcome.backend_version.clone(),
        iterations: u32::try_from(outcome.latency_ms.iterations.len()).unwrap_or(u32::MAX),
        latency_ms: outcome.latency_ms.p50,
        throughput_items_per_second: outcome.throughput_items_per_second,
        memory_peak_mb: outcome.memory_peak_mb,
        power_w: outcome.power_w,
        load_ms: outcome.load_ms,
    })
}

/// Whether a node ran on the platform's execution provider. WebAssembly is what everything else falls back to, so it
/// needs no proof.
fn is_proven(web: &WebOutcome) -> bool {
    // The names that ONNX Runtime gives its providers; `Js` is WebGPU's older one.
    let providers: &[&str] = match web.platform {
        Platform::Webgpu => &["WebGpuExecutionProvider", "JsExecutionProvider"],
        Platform::Webnn => &["WebNNExecutionProvider"],
        _ => return true,
    };
    providers.iter().any(|name| web.nodes.get(*name).is_some_and(|nodes| *nodes > 0))
}

/// The measured value of `metric`, if it was measured.
pub(crate) fn measured(measurement: &AcceptedMeasurement, metric: Metric) -> Option<f64> {
    match metric {
        Metric::LatencyMs => Some(measurement.latency_ms),
        Metric::ThroughputItemsPerSecond => Some(measurement.throughput_items_per_second),
        Metric::MemoryPeakMb => measurement.memory_peak_mb,
        Metric::PowerW => measurement.power_w,
        Metric::LoadMs => Some(measurement.load_ms).filter(|load_ms| *load_ms > 0.0),
    }
}

#[cfg(test)]
mod tests {
    use messages::{BenchmarkOutcome, Conditions, Warmth};

    use super::*;
    use crate::tests::builders::{benchmark, failed_benchmark, run, test_result, web_benchmark};

    fn rejected(change: impl FnOnce(&mut BenchmarkOutcome)) -> Rejection {
        let mut result = benchmark(&run(1), 1);
        if let Outcome::Benchmark(outcome) = &mut result.outcome {
            change(outcome);
        }
        accept(&result).expect_err("implausible")
    }

    #[test]
    fn a_plausible_benchmark_is_accepted_with_its_median() {
        let result = benchmark(&run(1), 1);
        let accepted = accept(&result).expect("plausible");
        let Outcome::Benchmark(outcome) = &result.outcome else { panic!("a benchmark") };
        assert!((accepted.latency_ms - outcome.latency_ms.p50).abs() < f64::EPSILON);
        assert_eq!(accepted.iterations, 3);
    }

    #[test]
    fn what_keeps_a_measurement_from_being_learned_from_says_what_it_counts_for() {
        assert_eq!(rejected(|o| o.latency_ms.iterations.clear()).standing(), Standing::Rejected);
        assert_eq!(rejected(|o| o.load_ms = 0.0).standing(), Standing::Quarantined);
        let marked = |mark: Mark| {
            rejected(|o| o.conditions = Some(Conditions { mark: Some(mark.clone()), ..Conditions::default() }))
        };
        let hot = marked(Mark::Throttled("hot".to_owned()));
        assert_eq!((hot.standing(), hot.to_string()), (Standing::Throttled, "hot".to_owned()));
        assert_eq!(marked(Mark::Disturbed("busy".to_owned())).standing(), Standing::Disturbed);
        let both = rejected(|o| {
            o.load_ms = 0.0;
            o.conditions = Some(Conditions { mark: Some(Mark::Throttled("hot".to_owned())), ..Conditions::default() });
        });
        assert_eq!(both.standing(), Standing::Throttled, "if its quarantine were lifted it would be learned from");
    }

    #[test]
    fn a_browser_is_believed_where_a_node_ran_on_its_platform() {
        let changed = |change: fn(&mut WebOutcome)| {
            let mut result = web_benchmark(&run(1), 1, "firefox");
            if let Outcome::Web(web) = &mut result.outcome {
                change(web);
            }
            accept(&result)
        };
        let accepted = changed(|_| ()).expect("proven");
        let configuration = accepted.configuration;
        assert_eq!((configuration.platform, configuration.browser.as_deref()), (Platform::Webgpu, Some("firefox")));
        let unproven = Err(Rejection::Unproven { platform: Platform::Webgpu });
        assert_eq!(changed(|web| web.nodes.clear()), unproven);
        assert_eq!(changed(|web| web.nodes = [("CPUExecutionProvider".to_owned(), 42)].into()), unproven);
        let warm = changed(|web| (web.warmth, web.benchmark.load_ms) = (Warmth::WarmModel, 0.0));
        assert_eq!(warm.expect("nothing was to be loaded").load_ms.to_bits(), 0.0_f64.to_bits());
        let cold = changed(|web| web.benchmark.load_ms = 0.0);
        assert_eq!(cold.expect_err("a load takes time").to_string(), "its load time is 0");
        let fallen_back = changed(|web| {
            web.platform = Platform::Wasm;
            web.nodes.clear();
        });
        assert_eq!(fallen_back.expect("what it says it is").configuration.platform, Platform::Wasm);
    }

    #[test]
    fn other_outcomes_are_no_measurements() {
        assert_eq!(accept(&test_result(&run(1), 1)), Err(Rejection::NoBenchmark));
        assert_eq!(accept(&failed_benchmark(&run(1), 1)), Err(Rejection::NoBenchmark));
        let mut result = benchmark(&run(1), 1);
        result.device = None;
        assert_eq!(accept(&result), Err(Rejection::NoDevice));
    }
}
