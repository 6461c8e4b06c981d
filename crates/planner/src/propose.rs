//! Proposes what to measure next on our own devices: asks the predictors about candidates, and picks a batch.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
};

use features::{OwnTables, Subject};
use messages::{BenchmarkSpec, Configuration, Metric, Platform};
use predictors::{Predicted, Predictors};

use crate::{
    Candidate, Constraints, Landscape, Outlook, Pick, PlannerError, Pool, Refusal, Strategy,
    rivals::{Rival, rivals},
    select,
};

/// Two-sided 90 % quantile of the normal distribution: an interval's half-width in standard deviations.
const NORMAL_90: f64 = 1.645;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// How to choose.
    pub strategy: Strategy,
    /// How many proposals at most.
    pub count: usize,
    /// What they must keep to.
    pub constraints: &'a Constraints,
    /// Decides between equals, and everything in [`Strategy::Random`].
    pub seed: u64,
}

/// What happened to configurations already.
#[derive(Debug, Clone, Copy)]
pub struct Past<'a> {
    /// What was measured.
    pub measured: &'a [Subject],
    /// What else is not to be proposed now.
    pub barred: &'a Barred,
}

/// What is not to be proposed though the training table does not have it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Barred {
    /// Configurations by their text, and why.
    pub configurations: HashMap<String, Withheld>,
    /// Models that a device refuses, in every configuration.
    pub incompatible: HashSet<Incompatible>,
    /// What has a result that the predictors may not have seen yet: device, and configuration by its text.
    pub measured: HashSet<(String, String)>,
}

/// A model that a device's backend refused and that never ran there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Incompatible {
    /// Name of the model.
    pub model: String,
    /// The kind of execution target.
    pub platform: Platform,
    /// Name of the device.
    pub device: String,
}

impl Barred {
    fn bars(&self, subject: &Subject) -> Option<PassedOver> {
        let Subject { configuration, device, .. } = subject;
        let text = configuration.to_string();
        if let Some(why) = self.configurations.get(&text) {
            return Some(PassedOver::Withheld(*why));
        }
        if self.measured.contains(&(device.name.clone(), text)) {
            return Some(PassedOver::Measured);
        }
        let of = Incompatible {
            model: configuration.model.name.clone(),
            platform: configuration.platform,
            device: device.name.clone(),
        };
        self.incompatible.contains(&of).then_some(PassedOver::Incompatible)
    }
}

/// Why a configuration that nobody measured is not proposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Withheld {
    /// A job that measures it was submitted and has not ended.
    Queued,
    /// Such a job failed a short while ago.
    Failed,
    /// Such a job measured it a short while ago, and nothing may be learned from that.
    Untrusted,
}

/// Why candidates are not among the proposals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PassedOver {
    /// It is measured.
    Measured,
    /// It is on its way, or went wrong.
    Withheld(Withheld),
    /// Its device refuses its model.
    Incompatible,
    /// A constraint.
    Refused(Refusal),
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Measured => f.pad("they are measured"),
            Self::Withheld(Withheld::Queued) => f.pad("they are queued"),
            Self::Withheld(Withheld::Failed) => f.pad("they failed a short while ago"),
            Self::Withheld(Withheld::Untrusted) => f.pad("they were measured, but the measurement is not trusted"),
            Self::Incompatible => f.pad("their device refuses the model"),
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}

/// A configuration worth measuring.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// What to measure.
    pub configuration: Configuration,
    /// The device that is expected to measure it.
    pub device: String,
    /// Which pick it was, counted from 1.
    pub selection_order: usize,
    /// What is predicted of it, to be held against the measurement; empty before the first release.
    pub predicted: Predicted,
    /// How much the members disagree about its latency: standard deviation of the logarithm.
    pub spread_log: f64,
    /// By how many percent it is expected to reduce the mean predictive variance of all candidates, see
    /// [`Pick::information_gain_pct`].
    pub information_gain_pct: f64,
    /// How long its timed iterations will take at most, warm-up included, at the predicted latency, in seconds.
    pub expected_seconds: f64,
    /// What decided, from 0 to 1.
    pub score: f64,
    /// What the score is made of.
    pub parts: Vec<(&'static str, f64)>,
    /// Why it was chosen, for people.
    pub why: String,
}

/// Proposals, and what became of the other candidates.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// The most wanted first.
    pub proposals: Vec<Proposal>,
    /// How many candidates could not be proposed, by reason.
    pub passed_over: BTreeMap<PassedOver, usize>,
}

/// Proposes up to `wish.count` configurations, the most wanted first.
///
/// Nothing is proposed that was measured on its device, that is barred, or that needs more memory than its device has;
/// nothing twice; and, unless the constraints say otherwise, at most half of the batch, rounded up, of one model. There
/// may be fewer than asked for: none if nothing is left. Without a release every strategy but [`Strategy::Random`] is
/// [`Strategy::Representative`], because nobody knows yet what is uncertain.
///
/// # Errors
///
/// [`PlannerError::Predict`] if the predictors cannot be asked, [`PlannerError::Describe`] if a model or a device cannot
/// be described.
pub fn propose(
    release: Option<&Predictors>,
    candidates: &[Candidate],
    past: Past<'_>,
    wish: Wish<'_>,
) -> Result<Plan, PlannerError> {
    let mut plan = Plan::default();
    let subjects = open(candidates, past, &mut plan);
    if subjects.is_empty() {
        return Ok(plan);
    }
    let strategy =
        if release.is_none() && wish.strategy != Strategy::Random { Strategy::Representative } else { wish.strategy };
    let predicted = match release {
        Some(release) => release.predict_subjects(&subjects)?,
        None => vec![Predicted::default(); subjects.len()],
    };
    let rivals = match release {
        Some(release) if strategy == Strategy::Integrated => rivals(release, &subjects)?,
        _ => vec![None; subjects.len()],
    };
    let described: Vec<Subject> = subjects.iter().chain(past.measured).cloned().collect();
    let OwnTables { rows, devices, operators } = OwnTables::asked(&described);
    let landscape = Landscape::describe(&rows, &devices, &operators)?;
    let outlooks: Vec<Outlook> = (0..subjects.len())
        .map(|index| outlook(&subjects[index], &predicted[index], rivals[index].as_ref(), &landscape, index))
        .collect();
    let measured_devices: Vec<String> = past.measured.iter().map(|subject| subject.device.name.clone()).collect();
    let pool = Pool { landscape: &landscape, outlooks: &outlooks, measured_devices: &measured_devices };
    let constraints = Constraints {
        model_max: wish.constraints.model_max.or(Some(wish.count.div_ceil(2))),
        ..wish.constraints.clone()
    };
    let selection = select(strategy, pool, wish.count, &constraints, wish.seed);
    plan.passed_over
        .extend(selection.refused.into_iter().map(|(refusal, count)| (PassedOver::Refused(refusal), count)));
    let reasons = Reasons { strategy, is_first: release.is_none(), candidates: subjects.len() };
    plan.proposals = selection
        .picks
        .into_iter()
        .map(|pick| {
            let index = pick.candidate;
            Proposal {
                why: reasons.of(&pick, &outlooks[index], rivals[index].as_ref()),
                configuration: subjects[index].configuration.clone(),
                device: subjects[index].device.name.clone(),
                selection_order: pick.selection_order,
                predicted: predicted[index].clone(),
                spread_log: outlooks[index].spread_log,
                information_gain_pct: pick.information_gain_pct,
                expected_seconds: outlooks[index].expected_seconds,
                score: pick.score,
                parts: pick.parts,
            }
        })
        .collect();
    Ok(plan)
}

/// Each distinct candidate that may be proposed; the others are counted.
fn open(candidates: &[Candidate], past: Past<'_>, plan: &mut Plan) -> Vec<Subject> {
    let measured: HashSet<(&str, &Configuration)> =
        past.measured.iter().map(|subject| (subject.device.name.as_str(), &subject.configuration)).collect();
    let mut seen = HashSet::new();
    let mut subjects = Vec::new();
    for Candidate { subject } in candidates {
        let key = (subject.device.name.as_str(), &subject.configuration);
        if !seen.insert(key) {
            continue;
        }
        match measured.contains(&key).then_some(PassedOver::Measured).or_else(|| past.barred.bars(subject)) {
            Some(reason) => *plan.passed_over.entry(reason).or_default() += 1,
            None => subjects.push(subject.clone()),
        }
    }
    subjects
}

/// What is expected of a candidate, which is a point of the landscape.
fn outlook(
    subject: &Subject,
    predicted: &Predicted,
    rival: Option<&Rival>,
    landscape: &Landscape,
    point: usize,
) -> Outlook {
    let latency = predicted.metric(Metric::LatencyMs);
    let latency_ms = latency.map_or_else(|| landscape.latency_base_ms(point), |latency| latency.value);
    let deviation_log = latency.map_or(f64::NAN, |of| (of.upper / of.lower).ln() / 2.0 / NORMAL_90);
    let memory = predicted.metric(Metric::MemoryPeakMb);
    let least_mb = memory.map_or(0.0, |memory| memory.lower).max(landscape.memory_least_mb(point));
    Outlook {
        platform: subject.configuration.platform.to_string(),
        device: subject.device.name.clone(),
        model: subject.configuration.model.name.clone(),
        deviation_log,
        spread_log: latency.map_or(0.0, |latency| latency.spread_log),
        expected_seconds: expected_seconds(&subject.configuration, latency_ms),
        memory_mb: Some(memory.map_or_else(|| landscape.memory_base_mb(point), |memory| memory.upper)),
        is_impossible: subject.device.memory_mb.is_some_and(|has_mb| least_mb > has_mb),
        decision_value: rival
            .map_or(0.0, |rival| crate::decision_value(latency_ms.ln(), deviation_log, rival.latency_ms.ln())),
    }
}

/// Says why candidates were chosen.
struct Reasons {
    strategy: Strategy,
    is_first: bool,
    candidates: usize,
}

impl Reasons {
    fn of(&self, pick: &Pick, outlook: &Outlook, rival: Option<&Rival>) -> String {
        let candidates = self.candidates;
        let gain = || format!("{:.1} % less mean variance over {candidates} candidates", pick.information_gain_pct);
        match self.strategy {
            Strategy::Random => format!("chosen by chance among {candidates} candidates"),
            Strategy::Uncertainty => {
                format!("boosters disagree by {:.1} % about its latency", 100.0 * outlook.spread_log.exp_m1())
            }
            Strategy::Diversity => "unlike all that was measured or chosen".to_owned(),
            Strategy::Representative if self.is_first => {
                format!("stands for many of {candidates} candidates, of which nothing is predicted yet")
            }
            Strategy::Representative => format!("stands for many of {candidates} candidates"),
            Strategy::Hybrid if pick.represents => {
                format!("stands for many of {candidates} candidates on a device of which little is measured")
            }
            Strategy::Hybrid => format!("uncertain and unlike what is known: {}", gain()),
            Strategy::InformationGain => gain(),
            Strategy::Integrated => match rival {
                None => format!("{}; no other device is known, so no recommendation depends on it", gain()),
                Some(Rival { place, latency_ms }) => {
                    let percent = 100.0 * outlook.decision_value.exp_m1();
                    format!(
                        "{}; measuring is worth {percent:.2} % of the latency to whoever could take {place} instead ({latency_ms:.3} ms)",
                        gain()
                    )
                }
            },
        }
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
