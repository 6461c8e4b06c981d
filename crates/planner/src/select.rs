//! Picks a batch, one configuration after the other, each with regard to those before it.

use std::collections::{BTreeMap, HashMap};

use crate::{
    Constraints, Landscape, Refusal, Strategy,
    constraints::Tally,
    nearness::{Medoids, Solitude},
    posterior::Posterior,
};

/// Candidates that stand for all where a choice looks at every pair: more take longer and change no choice.
const TARGETS_MAX: usize = 400;
/// Measured configurations that are looked at, evenly over all.
const MEASURED_MAX: usize = 500;
/// Measurements on a device from which on `hybrid` looks for what is uncertain: fewer say little of where that is. On
/// published GPUs, six draws each, medoids all along needed 99 rows to err as 200 by chance, with information gain after 20
/// or 40 of them 132 and 138. Of 160 configurations measured on one processor, halved in six ways, 30 medoids left 4.2 % of
/// error, 20 and 10 by information gain 4.6 %, 30 by chance 5.1 %.
const REPRESENTATIVE_FIRST: usize = 100;

/// What is expected of one candidate.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outlook {
    /// Kind of execution target.
    pub platform: String,
    /// The device's name.
    pub device: String,
    /// The model's name.
    pub model: String,
    /// Standard deviation of the error of its predicted latency, as a logarithm; NaN where nothing predicts it.
    pub deviation_log: f64,
    /// How much the ensemble's members disagree: the standard deviation of their logarithms.
    pub spread_log: f64,
    /// How long measuring takes, in seconds.
    pub expected_seconds: f64,
    /// Memory that it may take, in MB (10^6 bytes); `None` where nothing says so.
    pub memory_mb: Option<f64>,
    /// Whether it certainly needs more memory than its device has.
    pub is_impossible: bool,
    /// How much better the recommended hardware is expected to become by measuring this, see [`crate::decision_value`].
    pub decision_value: f64,
}

/// What can be picked, and what is known.
#[derive(Debug, Clone, Copy)]
pub struct Pool<'a> {
    /// The candidates in the order of `outlooks`, and behind them what was measured.
    pub landscape: &'a Landscape,
    /// What is expected of each candidate.
    pub outlooks: &'a [Outlook],
    /// Names of the devices of what was measured, in the order of the landscape.
    pub measured_devices: &'a [String],
}

/// One pick.
#[derive(Debug, Clone, PartialEq)]
pub struct Pick {
    /// Index of the candidate.
    pub candidate: usize,
    /// Which pick it was, counted from 1.
    pub selection_order: usize,
    /// What decided, from 0 to 1, where 1 is the best that any candidate had in any part; comparable within a step.
    pub score: f64,
    /// What the score is made of, each from 0 to 1.
    pub parts: Vec<(&'static str, f64)>,
    /// By how many percent measuring it is expected to reduce the mean predictive variance of all candidates that may be
    /// measured, after the picks before it.
    pub information_gain_pct: f64,
    /// Whether it was picked to represent the others, or for what the strategy does afterwards.
    pub represents: bool,
}

/// A batch.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Selection {
    /// The picks, the most wanted first.
    pub picks: Vec<Pick>,
    /// Candidates that the constraints refused at the end, by reason.
    pub refused: BTreeMap<Refusal, usize>,
}

/// Picks up to `count` candidates, the most wanted first.
///
/// Nothing is picked twice, and every pick, the first included, keeps to the constraints. Greedy: each step takes the
/// best candidate given the picks before it. `seed` decides between equals, and everything in [`Strategy::Random`].
pub fn select(strategy: Strategy, pool: Pool<'_>, count: usize, constraints: &Constraints, seed: u64) -> Selection {
    let mut open: Vec<usize> = (0..pool.outlooks.len()).collect();
    fastrand::Rng::with_seed(seed).shuffle(&mut open);
    let mut tally = Tally::new(constraints);
    // What may never be measured is nothing to learn about; what costs too much now may be measured another time.
    let may_be_measured = |refusal| matches!(refusal, None | Some(Refusal::Budget));
    let wanted: Vec<usize> =
        open.iter().copied().filter(|of| may_be_measured(tally.refuses(&pool.outlooks[*of]))).collect();
    let mut scorer = Scorer::new(strategy, pool, &wanted);
    let mut refused: BTreeMap<Refusal, usize> = BTreeMap::new();
    let mut picks = Vec::new();
    loop {
        open.retain(|candidate| match tally.refuses(&pool.outlooks[*candidate]) {
            None => true,
            Some(refusal) => {
                *refused.entry(refusal).or_default() += 1;
                false
            }
        });
        if picks.len() == count || open.is_empty() {
            return Selection { picks, refused };
        }
        let (place, score, parts) = scorer.best(&open, constraints);
        let candidate = open.remove(place);
        picks.push(Pick {
            candidate,
            selection_order: picks.len() + 1,
            score,
            parts,
            information_gain_pct: scorer.information_gain_pct(candidate),
            represents: scorer.represents(candidate),
        });
        tally.count(&pool.outlooks[candidate]);
        scorer.choose(candidate);
    }
}

/// What a strategy thinks of candidates, given the picks so far.
struct Scorer<'a> {
    strategy: Strategy,
    pool: Pool<'a>,
    posterior: Posterior<'a>,
    medoids: Option<Medoids>,
    /// From what was measured and picked.
    solitude: Solitude,
    /// From the other picks only.
    apart: Solitude,
    /// Measured and picked by device.
    of_device: HashMap<&'a str, usize>,
    picked: usize,
}

impl<'a> Scorer<'a> {
    /// `shuffled` are the candidates that are to become known.
    fn new(strategy: Strategy, pool: Pool<'a>, shuffled: &[usize]) -> Self {
        let (landscape, candidates) = (pool.landscape, pool.outlooks.len());
        let targets: Vec<usize> = shuffled.iter().copied().take(TARGETS_MAX).collect();
        let step = (landscape.len() - candidates).div_ceil(MEASURED_MAX).max(1);
        let measured: Vec<usize> = (candidates..landscape.len()).step_by(step).collect();
        let mut posterior = Posterior::new(landscape, candidates, targets.clone());
        for point in &measured {
            posterior.observe(*point);
        }
        posterior.scale_to(&pool.outlooks.iter().map(|outlook| outlook.deviation_log).collect::<Vec<_>>());
        let represents = matches!(strategy, Strategy::Representative | Strategy::Hybrid);
        let mut of_device: HashMap<&str, usize> = HashMap::new();
        for device in pool.measured_devices {
            *of_device.entry(device).or_default() += 1;
        }
        Self {
            strategy,
            pool,
            posterior,
            medoids: represents.then(|| Medoids::new(landscape, candidates, &targets, &measured)),
            solitude: Solitude::new(landscape, candidates, &measured),
            apart: Solitude::new(landscape, candidates, &[]),
            of_device,
            picked: 0,
        }
    }

    /// Whether a candidate is wanted as a medoid: the first ones of each device are.
    fn represents(&self, candidate: usize) -> bool {
        let known = || self.of_device.get(self.pool.outlooks[candidate].device.as_str()).copied().unwrap_or_default();
        match self.strategy {
            Strategy::Representative => true,
            Strategy::Hybrid => known() < REPRESENTATIVE_FIRST,
            _ => false,
        }
    }

    /// What a strategy thinks of one candidate, in parts that are compared with those of the others.
    fn parts(&self, candidate: usize) -> [(&'static str, f64); 2] {
        let outlook = &self.pool.outlooks[candidate];
        let none = ("", 0.0);
        let represents = || self.medoids.as_ref().map_or(0.0, |medoids| medoids.gain(candidate));
        match self.strategy {
            Strategy::Uncertainty => [("uncertainty", outlook.spread_log), none],
            Strategy::Diversity => [("diversity", self.solitude.of(candidate)), none],
            Strategy::InformationGain => [("information gain", self.posterior.gain(candidate)), none],
            Strategy::Representative => [("representative", represents()), none],
            Strategy::Hybrid if self.represents(candidate) => [("representative", represents()), none],
            Strategy::Hybrid => [("diversity with uncertainty", self.posterior.gain(candidate)), none],
            Strategy::Integrated => {
                [("information gain", self.posterior.gain(candidate)), ("recommendation", outlook.decision_value)]
            }
            Strategy::Random => [none, none],
        }
    }

    /// The best of `open` as its place there, its score and what that is made of.
    fn best(&self, open: &[usize], constraints: &Constraints) -> (usize, f64, Vec<(&'static str, f64)>) {
        let mut of_open: Vec<[(&'static str, f64); 2]> = open.iter().map(|candidate| self.parts(*candidate)).collect();
        // Candidates with a part of their own kind are compared with their like: on a new device all are wanted as
        // medoids first.
        for part in 0..2 {
            let mut most: HashMap<&str, f64> = HashMap::new();
            for parts in &of_open {
                let (name, value) = parts[part];
                let most = most.entry(name).or_default();
                *most = most.max(if value.is_finite() { value } else { 0.0 });
            }
            for parts in &mut of_open {
                let (name, value) = parts[part];
                let most = most[name];
                // Nothing known makes every distance infinite: then all are equal.
                parts[part].1 = if value.is_finite() && most > 0.0 { (value / most).max(0.0) } else { 0.0 };
            }
        }
        let weight = if self.picked == 0 { 0.0 } else { constraints.diversity_weight };
        let farthest = open.iter().map(|candidate| self.apart.of(*candidate)).fold(0.0, f64::max);
        let apart =
            |candidate: usize| if weight > 0.0 && farthest > 0.0 { self.apart.of(candidate) / farthest } else { 0.0 };
        let score = |place: usize| {
            let candidate = open[place];
            let named = of_open[place].iter().filter(|(name, _)| !name.is_empty());
            let (sum, count) = named.fold((0.0, 0.0), |(sum, count), (_, value)| (sum + value, count + 1.0));
            let own = if count > 0.0 { sum / count } else { 1.0 };
            ((1.0 - weight) * own + weight * apart(candidate))
                * constraints.availability_of(&self.pool.outlooks[candidate])
        };
        let scores: Vec<f64> = (0..open.len()).map(score).collect();
        // The first of equals, whose order is random.
        let place = (1..open.len()).fold(0, |best, place| if scores[place] > scores[best] { place } else { best });
        let mut parts: Vec<(&'static str, f64)> =
            of_open[place].iter().copied().filter(|(name, _)| !name.is_empty()).collect();
        if weight > 0.0 {
            parts.push(("unlike the other picks", apart(open[place])));
        }
        (place, scores[place], parts)
    }

    fn information_gain_pct(&self, candidate: usize) -> f64 {
        let all = self.posterior.mean_variance();
        if all > 0.0 { 100.0 * (self.posterior.gain(candidate) / all).min(1.0) } else { 0.0 }
    }

    fn choose(&mut self, candidate: usize) {
        self.posterior.observe(candidate);
        if let Some(medoids) = &mut self.medoids {
            medoids.choose(candidate);
        }
        self.solitude.choose(self.pool.landscape, candidate);
        self.apart.choose(self.pool.landscape, candidate);
        *self.of_device.entry(&self.pool.outlooks[candidate].device).or_default() += 1;
        self.picked += 1;
    }
}

#[cfg(test)]
mod tests;
