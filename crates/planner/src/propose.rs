//! Picks the configurations from which the predictors would learn most.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    hash::BuildHasher,
    str::FromStr,
};

use features::Subject;
use messages::{BenchmarkSpec, Configuration, Metric, UnknownWord};
use predictors::{Predicted, Predictors};

use crate::{Candidate, PlannerError};

/// How to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// Where the ensemble's members disagree most about latency.
    Uncertainty,
    /// Any, by chance: the baseline that every strategy has to beat.
    Random,
}

impl Strategy {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Uncertainty, Self::Random];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Uncertainty => "uncertainty",
            Self::Random => "random",
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Strategy {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL.iter().copied().find(|strategy| strategy.as_str() == text).ok_or_else(|| UnknownWord {
            kind: "strategy",
            found: text.to_owned(),
            known: Self::ALL.iter().map(|strategy| strategy.as_str()).collect::<Vec<_>>().join(", "),
        })
    }
}

/// A configuration worth measuring.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// What to measure.
    pub configuration: Configuration,
    /// What is predicted of it, to be held against the measurement.
    pub predicted: Predicted,
    /// How much the members disagree about its latency: standard deviation of the logarithm.
    pub spread_log: f64,
    /// How long its timed iterations will take at most, warm-up included, at the predicted latency, in seconds.
    pub expected_seconds: f64,
    /// Why it was chosen, for people.
    pub why: String,
}

/// A candidate with what is predicted of it.
struct Scored {
    configuration: Configuration,
    predicted: Predicted,
    latency_ms: f64,
    spread_log: f64,
}

/// Proposes up to `count` configurations, the most wanted first.
///
/// Nothing in `measured` is proposed, nothing twice, and at most half of `count`, rounded up, is of one model, so
/// that a single model the predictors know badly does not take the whole batch. There may be fewer than `count`:
/// none if nothing is left. `seed` decides between equals, and everything in [`Strategy::Random`].
///
/// # Errors
///
/// [`PlannerError::Predict`] if a candidate's model or device cannot be described.
pub fn propose<S: BuildHasher>(
    strategy: Strategy,
    release: &Predictors,
    candidates: &[Candidate],
    measured: &HashSet<Configuration, S>,
    count: usize,
    seed: u64,
) -> Result<Vec<Proposal>, PlannerError> {
    let mut scored = score(release, candidates, measured)?;
    fastrand::Rng::with_seed(seed).shuffle(&mut scored);
    if strategy == Strategy::Uncertainty {
        // Stable, so that equals stay in their random order.
        scored.sort_by(|a, b| b.spread_log.total_cmp(&a.spread_log));
    }
    let of_one_model_max = count.div_ceil(2);
    let mut of_model: HashMap<String, usize> = HashMap::new();
    let total = scored.len();
    let mut proposals = Vec::new();
    for (rank, scored) in scored.into_iter().enumerate() {
        if proposals.len() == count {
            break;
        }
        let chosen = of_model.entry(scored.configuration.model.name.clone()).or_default();
        if *chosen < of_one_model_max {
            *chosen += 1;
            proposals.push(proposal(strategy, rank, total, scored));
        }
    }
    Ok(proposals)
}

/// Predicts each distinct candidate that was not measured yet.
fn score<S: BuildHasher>(
    release: &Predictors,
    candidates: &[Candidate],
    measured: &HashSet<Configuration, S>,
) -> Result<Vec<Scored>, PlannerError> {
    let mut seen = HashSet::new();
    let subjects: Vec<Subject> = candidates
        .iter()
        .map(|candidate| &candidate.subject)
        .filter(|subject| !measured.contains(&subject.configuration) && seen.insert(&subject.configuration))
        .cloned()
        .collect();
    let predicted = release.predict_subjects(&subjects)?;
    let scored = subjects.into_iter().zip(predicted).filter_map(|(subject, predicted)| {
        let latency = *predicted.metric(Metric::LatencyMs)?;
        Some(Scored {
            configuration: subject.configuration,
            predicted,
            latency_ms: latency.value,
            spread_log: latency.spread_log,
        })
    });
    Ok(scored.collect())
}

fn proposal(strategy: Strategy, rank: usize, total: usize, scored: Scored) -> Proposal {
    let spread_pct = 100.0 * scored.spread_log.exp_m1();
    let why = match strategy {
        Strategy::Uncertainty => format!(
            "boosters disagree by {spread_pct:.1} % about its latency, number {} of {total} unmeasured candidates",
            rank + 1
        ),
        Strategy::Random => format!("chosen by chance among {total} unmeasured candidates"),
    };
    Proposal {
        expected_seconds: expected_seconds(&scored.configuration, scored.latency_ms),
        configuration: scored.configuration,
        predicted: scored.predicted,
        spread_log: scored.spread_log,
        why,
    }
}

/// What the usual benchmark takes at most at this latency; loading the model comes on top.
fn expected_seconds(configuration: &Configuration, latency_ms: f64) -> f64 {
    let spec = BenchmarkSpec::usual(configuration.clone());
    let fewest_ms = f64::from(spec.iterations_min) * latency_ms;
    let most_ms = f64::from(spec.iterations_max) * latency_ms;
    // Iterations stop at the time limit, but the one that runs then is finished, and the fewest are done in any case.
    let timed_ms = most_ms.min(spec.duration_ms_max as f64 + latency_ms).max(fewest_ms);
    (f64::from(spec.warmup_iterations) * latency_ms + timed_ms) / 1e3
}

#[cfg(test)]
mod tests;
