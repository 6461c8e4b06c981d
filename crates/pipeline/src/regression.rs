//! Tells regressions from noise: two runs of the same configurations, compared by robust statistics.
//!
//! The unit is a job, not an iteration: iterations of one process share its luck (placement in memory, clock, neighbours),
//! so that a thousand of them are still one repeat. Each job is summed up by the logarithm of the median of its raw
//! iterations. The exact Mann-Whitney test compares the repeats and the Hodges-Lehmann estimator says by how much they
//! differ: neither asks how noise is distributed, and one wild repeat does not move the estimate. Holm's correction (1979,
//! <https://www.jstor.org/stable/4615733>) keeps the probability of any false alarm in the whole comparison below the one
//! that is asked for. Where repeats are too few for the test ever to be significant among so many, nothing is decided: a
//! normal test with the noise of all configurations together was tried, and called equal runs different in a third of
//! the comparisons and more, because noise is not normal.

mod rank_sum;

use rank_sum::{RankSum, median};

/// Repeats of one configuration that are compared, the first of more: the exact test counts all orders.
const REPEATS_MAX: usize = 60;

/// When a difference is a regression.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CompareSettings {
    /// Probability of calling anything a regression or an improvement where nothing differs, in the whole comparison.
    pub false_alarms: f64,
    /// Smallest difference that matters, in percent of the baseline.
    pub threshold_pct: f64,
}

impl Default for CompareSettings {
    fn default() -> Self {
        Self { false_alarms: 0.05, threshold_pct: 5.0 }
    }
}

/// One configuration in both runs: the raw iterations of each repeat, in milliseconds, none empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Repeats {
    /// What was measured, for people.
    pub name: String,
    /// In the run that is judged.
    pub run: Vec<Vec<f64>>,
    /// In the run that it is held against.
    pub baseline: Vec<Vec<f64>>,
}

/// What a comparison came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Slower by more than the threshold, and not by chance.
    Regression,
    /// Faster by more than the threshold, and not by chance.
    Improvement,
    /// Differs by less than the threshold, or not more than chance would.
    Same,
    /// There are too few repeats to tell.
    Undecided,
}

impl Verdict {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Regression => "regression",
            Self::Improvement => "improvement",
            Self::Same => "same",
            Self::Undecided => "undecided",
        }
    }
}

/// One configuration, compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    /// What was measured.
    pub name: String,
    /// Repeats in the run and in the baseline.
    pub repeats: [usize; 2],
    /// Median over the run's repeats of their median latencies, in milliseconds.
    pub run_ms: f64,
    /// The same of the baseline.
    pub baseline_ms: f64,
    /// Estimated latency of the run over that of the baseline: the effect.
    pub ratio: f64,
    /// Its 95 % interval, before any correction; `None` where nothing is decided.
    pub interval: Option<[f64; 2]>,
    /// Probability of repeats that differ at least as much by chance, in both directions; `None` where nothing is decided.
    pub p: Option<f64>,
    /// The same, corrected for the number of comparisons.
    pub p_corrected: Option<f64>,
    /// What it came to.
    pub verdict: Verdict,
}

/// Compares every configuration; in their order.
pub fn compare_repeats(repeats: &[Repeats], settings: &CompareSettings) -> Vec<Compared> {
    let tested = repeats.iter().map(|of| compare(of, repeats.len(), settings)).collect();
    corrected(tested, settings)
}

/// The logarithm of each job's median iteration.
fn medians(jobs: &[Vec<f64>]) -> Vec<f64> {
    jobs.iter().take(REPEATS_MAX).map(|iterations| median(iterations).ln()).collect()
}

/// Compares one configuration of so many, without correction.
fn compare(of: &Repeats, comparisons: usize, settings: &CompareSettings) -> Compared {
    let (run, baseline) = (medians(&of.run), medians(&of.baseline));
    let rank_sum = RankSum::of(&run, &baseline);
    let is_decidable = rank_sum.p_least * comparisons as f64 <= settings.false_alarms;
    Compared {
        name: of.name.clone(),
        repeats: [of.run.len(), of.baseline.len()],
        run_ms: median(&run).exp(),
        baseline_ms: median(&baseline).exp(),
        ratio: rank_sum.shift.exp(),
        interval: is_decidable.then(|| rank_sum.interval.map(f64::exp)),
        p: is_decidable.then_some(rank_sum.p),
        p_corrected: None,
        verdict: Verdict::Undecided,
    }
}

/// Corrects the probabilities and says what they mean: Holm's step-down procedure.
fn corrected(mut compared: Vec<Compared>, settings: &CompareSettings) -> Vec<Compared> {
    let mut order: Vec<(usize, f64)> =
        compared.iter().enumerate().filter_map(|(index, of)| Some((index, of.p?))).collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1));
    let tests = order.len();
    let mut largest: f64 = 0.0;
    for (place, (index, p)) in order.into_iter().enumerate() {
        largest = largest.max((p * (tests - place) as f64).min(1.0));
        let of = &mut compared[index];
        of.p_corrected = Some(largest);
        let matters = (of.ratio - 1.0).abs() * 100.0 > settings.threshold_pct;
        of.verdict = match (matters && largest <= settings.false_alarms, of.ratio > 1.0) {
            (true, true) => Verdict::Regression,
            (true, false) => Verdict::Improvement,
            (false, _) => Verdict::Same,
        };
    }
    compared
}

#[cfg(test)]
mod tests;
