//! On which hardware a model runs best, from what is predicted of it on each.
//!
//! Candidates that break a limit are excluded with the reason; the others are ranked by the goal. Two whose difference
//! is within what their intervals leave open share a rank: nobody knows which is better.

use std::{fmt, str::FromStr};

use messages::{Metric, UnknownWord};

/// What the hardware should be best at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Goal {
    /// Little time per batch.
    Latency,
    /// Many items per second.
    Throughput,
    /// Little memory.
    Memory,
    /// Little power.
    Power,
}

impl Goal {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Latency, Self::Throughput, Self::Memory, Self::Power];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Latency => "latency",
            Self::Throughput => "throughput",
            Self::Memory => "memory",
            Self::Power => "power",
        }
    }

    /// What says how good a candidate is.
    pub const fn metric(self) -> Metric {
        match self {
            Self::Latency => Metric::LatencyMs,
            Self::Throughput => Metric::ThroughputItemsPerSecond,
            Self::Memory => Metric::MemoryPeakMb,
            Self::Power => Metric::PowerW,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Goal {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL.iter().copied().find(|goal| goal.as_str() == text).ok_or_else(|| UnknownWord {
            kind: "goal",
            found: text.to_owned(),
            known: Self::ALL.iter().map(|goal| goal.as_str()).collect::<Vec<_>>().join(", "),
        })
    }
}

/// A prediction of one metric, in its unit; all three numbers are above 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The most likely value.
    pub value: f64,
    /// Lower end of the 90 % interval.
    pub lower: f64,
    /// Upper end of the 90 % interval.
    pub upper: f64,
    /// Share of similar past predictions that were within ±20 %, where that is known; from 0 to 1.
    pub confidence: Option<f64>,
}

impl Estimate {
    /// Half the interval's width as a logarithm.
    fn half_width(&self) -> f64 {
        (self.upper / self.lower).ln() / 2.0
    }

    /// Whether the two may be equal for all that is known: their logarithms differ by no more than the intervals of a
    /// difference of independent errors.
    fn is_tied_with(&self, other: &Self) -> bool {
        (self.value / other.value).ln().abs() <= self.half_width().hypot(other.half_width())
    }
}

/// A device on which the model could run, with what is predicted of it there; what is unknown is `None`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HardwareCandidate {
    /// The device's name.
    pub device: String,
    /// Kind of execution target.
    pub platform: String,
    /// Milliseconds per batch.
    pub latency_ms: Option<Estimate>,
    /// Items per second.
    pub throughput_items_per_second: Option<Estimate>,
    /// Peak memory, in MB (10^6 bytes).
    pub memory_peak_mb: Option<Estimate>,
    /// Power, in watts.
    pub power_w: Option<Estimate>,
    /// Memory that it has, in MB.
    pub memory_mb: Option<f64>,
    /// What it costs per hour, in the user's currency.
    pub price_per_hour: Option<f64>,
    /// What a reader should know of its predictions, e.g. that nothing was measured on it.
    pub notes: Vec<String>,
}

impl HardwareCandidate {
    /// What is predicted of a metric.
    pub const fn estimate(&self, metric: Metric) -> Option<Estimate> {
        match metric {
            Metric::LatencyMs => self.latency_ms,
            Metric::ThroughputItemsPerSecond => self.throughput_items_per_second,
            Metric::MemoryPeakMb => self.memory_peak_mb,
            Metric::PowerW => self.power_w,
            Metric::LoadMs => None,
        }
    }

    /// What a million items cost: the value and its interval's ends.
    fn cost_per_million(&self) -> Option<Estimate> {
        let (price, speed) = (self.price_per_hour?, self.throughput_items_per_second?);
        let cost = |items_per_second: f64| price / 3600.0 / items_per_second * 1e6;
        Some(Estimate {
            value: cost(speed.value),
            lower: cost(speed.upper),
            upper: cost(speed.lower),
            confidence: speed.confidence,
        })
    }
}

/// What a candidate must not exceed.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Limits {
    /// Milliseconds per batch.
    pub latency_ms: Option<f64>,
    /// Peak memory, in MB.
    pub memory_mb: Option<f64>,
    /// Power, in watts.
    pub power_w: Option<f64>,
}

impl Limits {
    fn of(&self, metric: Metric) -> Option<f64> {
        match metric {
            Metric::LatencyMs => self.latency_ms,
            Metric::MemoryPeakMb => self.memory_mb,
            Metric::PowerW => self.power_w,
            Metric::ThroughputItemsPerSecond | Metric::LoadMs => None,
        }
    }
}

/// A candidate with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked {
    /// Its rank, from 1; tied ones share one.
    pub rank: usize,
    /// Whether another has the same rank.
    pub is_tied: bool,
    /// The candidate.
    pub candidate: HardwareCandidate,
    /// What a million items cost, where it has a price.
    pub cost_per_million: Option<Estimate>,
    /// Why it is where it is.
    pub reasons: Vec<String>,
}

/// A device that is out of the question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excluded {
    /// Its name.
    pub device: String,
    /// Why.
    pub reason: String,
}

/// The candidates in order, and those that are none.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Recommendation {
    /// The best first.
    pub ranked: Vec<Ranked>,
    /// The others.
    pub excluded: Vec<Excluded>,
}

/// Ranks candidates by the goal under the limits.
pub fn recommend(candidates: Vec<HardwareCandidate>, goal: Goal, limits: &Limits) -> Recommendation {
    let mut excluded = Vec::new();
    let mut fitting: Vec<(HardwareCandidate, Estimate, Vec<String>)> = Vec::new();
    for candidate in candidates {
        match checked(&candidate, goal, limits) {
            Ok((estimate, reasons)) => fitting.push((candidate, estimate, reasons)),
            Err(reason) => excluded.push(Excluded { device: candidate.device, reason }),
        }
    }
    let is_more_better = goal == Goal::Throughput;
    fitting.sort_by(|(_, a, _), (_, b, _)| {
        let ascending = a.value.total_cmp(&b.value);
        if is_more_better { ascending.reverse() } else { ascending }
    });
    let estimates: Vec<Estimate> = fitting.iter().map(|(_, estimate, _)| *estimate).collect();
    let leaders = leaders(&estimates);
    let ranked = fitting
        .into_iter()
        .zip(&leaders)
        .map(|((candidate, estimate, mut reasons), leader)| {
            let tied = leaders.iter().filter(|other| *other == leader).count();
            reasons.insert(0, place(goal, &estimate, &estimates, *leader, tied));
            reasons.extend(candidate.notes.iter().cloned());
            Ranked {
                rank: leader + 1,
                is_tied: tied > 1,
                cost_per_million: candidate.cost_per_million(),
                candidate,
                reasons,
            }
        })
        .collect();
    Recommendation { ranked, excluded }
}

/// The goal's estimate and what comes close to a limit, or why the candidate is none.
fn checked(candidate: &HardwareCandidate, goal: Goal, limits: &Limits) -> Result<(Estimate, Vec<String>), String> {
    let estimate =
        candidate.estimate(goal.metric()).ok_or_else(|| format!("nothing predicts its {}", goal.metric().as_str()))?;
    let mut reasons = Vec::new();
    // `limit` comes with what it is, for people.
    let holds = |what: &str, unit: &str, estimate: Estimate, (limit, whose): (f64, &str)| {
        let Estimate { value, lower, upper, .. } = estimate;
        if value > limit {
            let [value, lower, upper] = [value, lower, upper].map(shown);
            return Err(format!("{what} of {value} {unit} ({lower} – {upper}) exceeds {limit} {unit}{whose}"));
        }
        Ok((upper > limit).then(|| format!("{what} may exceed {limit} {unit}{whose}: up to {}", shown(upper))))
    };
    for (metric, what, unit) in [
        (Metric::LatencyMs, "predicted latency", "ms"),
        (Metric::MemoryPeakMb, "predicted memory", "MB"),
        (Metric::PowerW, "predicted power", "W"),
    ] {
        let Some(limit) = limits.of(metric) else { continue };
        let Some(estimate) = candidate.estimate(metric) else {
            return Err(format!("nothing predicts its {metric}, which has a limit"));
        };
        reasons.extend(holds(what, unit, estimate, (limit, ""))?);
    }
    if let (Some(memory), Some(has)) = (candidate.memory_peak_mb, candidate.memory_mb) {
        reasons.extend(holds("predicted memory", "MB", memory, (has, ", all that it has"))?);
    }
    Ok((estimate, reasons))
}

/// For each estimate, in order, the first with which it is tied: itself if it is clearly worse than all before.
fn leaders(estimates: &[Estimate]) -> Vec<usize> {
    let mut leaders: Vec<usize> = Vec::with_capacity(estimates.len());
    for (index, estimate) in estimates.iter().enumerate() {
        let leader = leaders.last().copied().filter(|leader| estimates[*leader].is_tied_with(estimate));
        leaders.push(leader.unwrap_or(index));
    }
    leaders
}

/// Says how a candidate stands to the best.
fn place(goal: Goal, estimate: &Estimate, all: &[Estimate], leader: usize, tied: usize) -> String {
    let best = all[0];
    let factor = if goal == Goal::Throughput { best.value / estimate.value } else { estimate.value / best.value };
    let times = if factor < 10.0 { format!("{factor:.2}") } else { format!("{factor:.0}") };
    let than_best = match leader {
        _ if factor <= 1.0 => format!("best {goal} predicted"),
        0 => format!("{times} times the best {goal}, which is within what the intervals leave open"),
        _ => match goal {
            Goal::Throughput => format!("{times} times slower than the best"),
            Goal::Latency | Goal::Memory | Goal::Power => format!("{times} times the best {goal}"),
        },
    };
    if tied > 1 { format!("{than_best}; tied with {} within uncertainty", plural(tied - 1)) } else { than_best }
}

/// A number with about four digits.
fn shown(value: f64) -> String {
    let decimals = [1e3, 1e2, 1e1, 1e0].into_iter().take_while(|power| value < *power).count();
    format!("{value:.decimals$}")
}

fn plural(others: usize) -> String {
    if others == 1 { "1 other".to_owned() } else { format!("{others} others") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An estimate with an interval of this factor up and down.
    fn estimate(value: f64, factor: f64) -> Estimate {
        Estimate { value, lower: value / factor, upper: value * factor, confidence: Some(0.8) }
    }

    fn candidate(device: &str, latency_ms: f64, factor: f64) -> HardwareCandidate {
        HardwareCandidate {
            device: device.to_owned(),
            platform: "cuda".to_owned(),
            latency_ms: Some(estimate(latency_ms, factor)),
            throughput_items_per_second: Some(estimate(8e3 / latency_ms, factor)),
            memory_peak_mb: Some(estimate(900.0, 1.2)),
            ..HardwareCandidate::default()
        }
    }

    fn check(
        candidates: Vec<HardwareCandidate>,
        goal: Goal,
        limits: Limits,
        ranked: &[(&str, usize, bool)],
    ) -> Recommendation {
        let recommendation = recommend(candidates, goal, &limits);
        let found: Vec<_> =
            recommendation.ranked.iter().map(|of| (of.candidate.device.as_str(), of.rank, of.is_tied)).collect();
        assert_eq!(found, ranked);
        recommendation
    }

    #[test]
    fn what_the_intervals_cannot_tell_apart_is_tied() {
        let candidates = || vec![candidate("slow", 40.0, 1.1), candidate("b", 10.5, 1.1), candidate("a", 10.0, 1.1)];
        let ties = [("a", 1, true), ("b", 1, true), ("slow", 3, false)];
        let recommendation = check(candidates(), Goal::Latency, Limits::default(), &ties);
        assert!(recommendation.ranked[0].reasons[0].contains("tied with 1 other"), "{recommendation:?}");
        assert!(recommendation.ranked[2].reasons[0].contains("4.00 times"), "{recommendation:?}");
        check(candidates(), Goal::Throughput, Limits::default(), &ties);
        // Narrow intervals tell them apart.
        let sure = vec![candidate("b", 10.5, 1.01), candidate("a", 10.0, 1.01)];
        check(sure, Goal::Latency, Limits::default(), &[("a", 1, false), ("b", 2, false)]);
    }

    #[test]
    fn a_limit_excludes_and_says_why() {
        let limits = Limits { latency_ms: Some(20.0), ..Limits::default() };
        let candidates =
            vec![candidate("fast", 10.0, 1.1), candidate("close", 19.0, 1.1), candidate("slow", 30.0, 1.1)];
        let ranks = [("fast", 1, false), ("close", 2, false)];
        let recommendation = check(candidates, Goal::Latency, limits, &ranks);
        assert_eq!(recommendation.excluded[0].device, "slow");
        assert!(recommendation.excluded[0].reason.contains("exceeds 20 ms"), "{recommendation:?}");
        assert!(recommendation.ranked[1].reasons.iter().any(|reason| reason.contains("may exceed 20 ms")));
        let unknown = Limits { power_w: Some(100.0), ..Limits::default() };
        let recommendation = check(vec![candidate("fast", 10.0, 1.1)], Goal::Latency, unknown, &[]);
        assert!(recommendation.excluded[0].reason.contains("nothing predicts its power_w"), "{recommendation:?}");
        let recommendation = check(vec![candidate("fast", 10.0, 1.1)], Goal::Power, Limits::default(), &[]);
        assert!(recommendation.excluded[0].reason.contains("power_w"), "{recommendation:?}");
    }

    #[test]
    fn numbers_have_about_four_digits() {
        assert_eq!([4070.05, 458.72, 12.345, 1.5].map(shown), ["4070", "458.7", "12.35", "1.500"]);
    }

    #[test]
    fn what_does_not_fit_into_memory_is_excluded() {
        let small = HardwareCandidate { memory_mb: Some(500.0), ..candidate("small", 5.0, 1.1) };
        let ranks = [("large", 1, false)];
        let recommendation =
            check(vec![small, candidate("large", 10.0, 1.1)], Goal::Latency, Limits::default(), &ranks);
        assert!(recommendation.excluded[0].reason.ends_with("exceeds 500 MB, all that it has"), "{recommendation:?}");
    }

    #[test]
    fn a_price_gives_the_cost_of_a_million_items() {
        let priced = HardwareCandidate { price_per_hour: Some(3.6), ..candidate("t4", 8.0, 2.0) };
        let recommendation = check(vec![priced], Goal::Latency, Limits::default(), &[("t4", 1, false)]);
        let cost = recommendation.ranked[0].cost_per_million.expect("a price");
        // 1,000 items per second for 0.001 per second.
        assert!(
            (cost.value - 1.0).abs() < 1e-12 && (cost.lower - 0.5).abs() < 1e-12 && (cost.upper - 2.0).abs() < 1e-12
        );
    }
}
