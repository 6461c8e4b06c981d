//! Tells regressions from noise: two runs of the same configurations, compared by robust statistics.
//!
//! The unit is a job, not an iteration: iterations of one process share its luck (placement in memory, clock, neighbours),
//! so that a thousand of them are still one repeat. Each job is summed up by the logarithm of the median of its raw
//! iterations. The exact Mann-Whitney test compares the repeats and the Hodges-Lehmann estimator says by how much they
//! differ: neither asks how noise is distributed, and one wild repeat does not move the estimate. Beside that, all
//! configurations of a device are looked at together, however few the repeats of each: if nothing differs, each leans to
//! either side with the same chance, and the exact sign test says how unlikely it is that so many lean to one. Holm's
//! correction (1979, <https://www.jstor.org/stable/4615733>) keeps the probability of any false alarm in the whole
//! comparison below the one that is asked for. Where repeats are too few for the test ever to be significant among so
//! many, nothing is decided: a normal test with the noise of all configurations together was tried, and called equal runs
//! different in a third of the comparisons and more, because noise is not normal.

mod rank_sum;
mod signs;

use std::{cmp::Ordering, collections::BTreeMap};

use rank_sum::{RankSum, median};
use signs::Signs;

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
    /// On which platform of which device, for people: what may have become slower as a whole.
    pub place: String,
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

/// One configuration, compared, or all configurations of a device together.
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    /// What was measured.
    pub name: String,
    /// Repeats in the run and in the baseline.
    pub repeats: [usize; 2],
    /// Median over the run's repeats of their median latencies, in milliseconds; of a device, the sum over its
    /// configurations.
    pub run_ms: f64,
    /// The same of the baseline.
    pub baseline_ms: f64,
    /// Estimated latency of the run over that of the baseline: the effect. Of a device, the median over its
    /// configurations.
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

/// Two runs, compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Every configuration, in the order in which they were given.
    pub configurations: Vec<Compared>,
    /// The configurations of each platform of each device together, where there are several.
    pub devices: Vec<Compared>,
}

impl Comparison {
    /// Both.
    pub fn all(&self) -> impl Iterator<Item = &Compared> {
        self.devices.iter().chain(&self.configurations)
    }
}

/// Compares every configuration, and every device.
pub fn compare_repeats(repeats: &[Repeats], settings: &CompareSettings) -> Comparison {
    let configurations: Vec<Tested> = repeats.iter().map(configuration).collect();
    let mut places: BTreeMap<&str, Vec<&Tested>> = BTreeMap::new();
    for (of, tested) in repeats.iter().zip(&configurations) {
        places.entry(&of.place).or_default().push(tested);
    }
    places.retain(|_, of_place| of_place.len() > 1);
    let mut all: Vec<Tested> = places.into_iter().map(|(place, of_place)| device(place, &of_place)).collect();
    let devices = all.len();
    all.extend(configurations);
    let mut compared = decided(all, settings);
    let configurations = compared.split_off(devices);
    Comparison { configurations, devices: compared }
}

/// A comparison before any decision.
#[derive(Debug)]
struct Tested {
    compared: Compared,
    /// Whether the run is above the baseline.
    leaning: Ordering,
    p: f64,
    /// The smallest that samples of these sizes can have.
    p_least: f64,
    interval: [f64; 2],
}

/// The logarithm of each job's median iteration.
fn medians(jobs: &[Vec<f64>]) -> Vec<f64> {
    jobs.iter().take(REPEATS_MAX).map(|iterations| median(iterations).ln()).collect()
}

/// Compares the repeats of one configuration.
fn configuration(of: &Repeats) -> Tested {
    let (run, baseline) = (medians(&of.run), medians(&of.baseline));
    let RankSum { p, p_least, leaning, shift, interval } = RankSum::of(&run, &baseline);
    let repeats = [of.run.len(), of.baseline.len()];
    let compared = undecided(of.name.clone(), repeats, [median(&run).exp(), median(&baseline).exp()], shift);
    Tested { compared, leaning, p, p_least, interval }
}

/// Compares a device by its configurations.
fn device(place: &str, configurations: &[&Tested]) -> Tested {
    let shifts: Vec<(Ordering, f64)> = configurations.iter().map(|of| (of.leaning, of.compared.ratio.ln())).collect();
    let Signs { p, shift, interval } = Signs::of(&shifts);
    let all = || configurations.iter().map(|of| &of.compared);
    let repeats = [0, 1].map(|side| all().map(|of| of.repeats[side]).sum());
    let ms = [all().map(|of| of.run_ms).sum(), all().map(|of| of.baseline_ms).sum()];
    let compared = undecided(format!("{} configurations of {place} together", shifts.len()), repeats, ms, shift);
    Tested { compared, leaning: Ordering::Equal, p, p_least: Signs::p_least(shifts.len()), interval }
}

fn undecided(name: String, repeats: [usize; 2], [run_ms, baseline_ms]: [f64; 2], shift: f64) -> Compared {
    let ratio = shift.exp();
    let verdict = Verdict::Undecided;
    Compared { name, repeats, run_ms, baseline_ms, ratio, interval: None, p: None, p_corrected: None, verdict }
}

/// Decides where samples are large enough, by Holm's step-down procedure over those.
fn decided(mut tested: Vec<Tested>, settings: &CompareSettings) -> Vec<Compared> {
    let tests = tests_made(&tested, settings.false_alarms);
    let is_decidable = |of: &Tested| of.p_least * tests as f64 <= settings.false_alarms;
    let mut order: Vec<usize> = (0..tested.len()).filter(|index| is_decidable(&tested[*index])).collect();
    order.sort_by(|a, b| tested[*a].p.total_cmp(&tested[*b].p));
    let tests = order.len();
    let mut largest: f64 = 0.0;
    for (place, index) in order.into_iter().enumerate() {
        let Tested { compared: of, p, interval, .. } = &mut tested[index];
        largest = largest.max((*p * (tests - place) as f64).min(1.0));
        (of.p, of.p_corrected, of.interval) = (Some(*p), Some(largest), Some(interval.map(f64::exp)));
        let matters = (of.ratio - 1.0).abs() * 100.0 > settings.threshold_pct;
        of.verdict = match (matters && largest <= settings.false_alarms, of.ratio > 1.0) {
            (true, true) => Verdict::Regression,
            (true, false) => Verdict::Improvement,
            (false, _) => Verdict::Same,
        };
    }
    tested.into_iter().map(|of| of.compared).collect()
}

/// How many tests are made: the fewest of which each may be significant after a correction for so many. Only the sizes
/// of samples decide on that (Tarone 1990, <https://doi.org/10.2307/2531456>).
fn tests_made(tested: &[Tested], false_alarms: f64) -> usize {
    let decidable = |tests: &usize| tested.iter().filter(|of| of.p_least * *tests as f64 <= false_alarms).count();
    (1..=tested.len()).find(|tests| decidable(tests) <= *tests).unwrap_or_default()
}

#[cfg(test)]
mod tests;
