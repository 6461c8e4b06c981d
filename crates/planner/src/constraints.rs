//! What a batch of proposals must keep to, pick by pick.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use crate::Outlook;

/// What a batch must keep to; the default allows everything.
///
/// Platforms are words, because a table may have one that no worker knows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Constraints {
    /// Most picks on a platform.
    pub platform_max: BTreeMap<String, usize>,
    /// How available a platform is, from 0 (not at all) to 1; what has no entry is. Scores are multiplied by it.
    pub availability: BTreeMap<String, f64>,
    /// Most memory that a pick may be expected to take on a platform, in MB (10^6 bytes).
    pub memory_mb_max: BTreeMap<String, f64>,
    /// Most picks of one model.
    pub model_max: Option<usize>,
    /// Most seconds that all picks may be expected to take together.
    pub budget_seconds: Option<f64>,
    /// How much being unlike the other picks counts beside the strategy's own score, from 0 to 1.
    pub diversity_weight: f64,
}

impl Constraints {
    /// What is wrong with the numbers; `None` if nothing is.
    pub fn flaw(&self) -> Option<String> {
        let share = |what: &str, share: f64| {
            (!(0.0..=1.0).contains(&share)).then(|| format!("{what} is {share}; 0 to 1 is possible"))
        };
        let above_zero =
            |what: &str, number: f64| (!(number.is_finite() && number > 0.0)).then(|| format!("{what} is not above 0"));
        let mut flaws = self
            .availability
            .iter()
            .filter_map(|(platform, weight)| share(&format!("the availability of {platform}"), *weight))
            .chain(share("the diversity weight", self.diversity_weight))
            .chain(
                self.memory_mb_max
                    .iter()
                    .filter_map(|(platform, mb)| above_zero(&format!("the memory limit of {platform}"), *mb)),
            )
            .chain(self.budget_seconds.and_then(|seconds| above_zero("the budget in seconds", seconds)));
        flaws.next()
    }

    /// How available a candidate's platform is, from 0 to 1.
    pub(crate) fn availability_of(&self, candidate: &Outlook) -> f64 {
        self.availability.get(&candidate.platform).copied().unwrap_or(1.0)
    }
}

/// Why a candidate cannot be the next pick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refusal {
    /// It does not fit into its device's memory.
    Impossible,
    /// The platform is not available.
    Unavailable,
    /// It may take more memory than the platform may.
    Memory,
    /// The platform has all its picks.
    PlatformFull,
    /// The model has all its picks.
    ModelFull,
    /// It would take longer than is left of the budget.
    Budget,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Impossible => "they need more memory than the device has",
            Self::Unavailable => "the constraints call the platform unavailable",
            Self::Memory => "they may take more memory than the constraints allow",
            Self::PlatformFull => "the platform has as many as the constraints allow",
            Self::ModelFull => "the model has its share of the batch",
            Self::Budget => "they would take longer than is left of the budget",
        })
    }
}

/// What was picked so far, held against the constraints.
#[derive(Debug)]
pub(crate) struct Tally<'a> {
    constraints: &'a Constraints,
    of_platform: HashMap<String, usize>,
    of_model: HashMap<String, usize>,
    seconds: f64,
}

impl<'a> Tally<'a> {
    pub(crate) fn new(constraints: &'a Constraints) -> Self {
        Self { constraints, of_platform: HashMap::new(), of_model: HashMap::new(), seconds: 0.0 }
    }

    /// Why this may not be picked next; `None` if it may. What is refused once stays refused.
    pub(crate) fn refuses(&self, candidate: &Outlook) -> Option<Refusal> {
        let Constraints { platform_max, memory_mb_max, model_max, budget_seconds, .. } = self.constraints;
        let picked = |of: &HashMap<String, usize>, name: &String| of.get(name).copied().unwrap_or_default();
        if candidate.is_impossible {
            return Some(Refusal::Impossible);
        }
        if self.constraints.availability_of(candidate) <= 0.0 {
            return Some(Refusal::Unavailable);
        }
        let limit_mb = memory_mb_max.get(&candidate.platform);
        if limit_mb.is_some_and(|limit_mb| candidate.memory_mb.is_none_or(|memory_mb| memory_mb > *limit_mb)) {
            return Some(Refusal::Memory);
        }
        if platform_max
            .get(&candidate.platform)
            .is_some_and(|most| picked(&self.of_platform, &candidate.platform) >= *most)
        {
            return Some(Refusal::PlatformFull);
        }
        if model_max.is_some_and(|most| picked(&self.of_model, &candidate.model) >= most) {
            return Some(Refusal::ModelFull);
        }
        budget_seconds
            .is_some_and(|budget| self.seconds + candidate.expected_seconds > budget)
            .then_some(Refusal::Budget)
    }

    pub(crate) fn count(&mut self, candidate: &Outlook) {
        *self.of_platform.entry(candidate.platform.clone()).or_default() += 1;
        *self.of_model.entry(candidate.model.clone()).or_default() += 1;
        self.seconds += candidate.expected_seconds;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(constraints: &Constraints, flaw: Option<&str>) {
        assert_eq!(constraints.flaw().as_deref(), flaw);
    }

    #[test]
    fn impossible_numbers_are_named() {
        check(&Constraints::default(), None);
        let half = Constraints {
            availability: [("cpu".to_owned(), 0.5)].into(),
            budget_seconds: Some(60.0),
            ..Constraints::default()
        };
        check(&half, None);
        let twice = Constraints { availability: [("cuda".to_owned(), 2.0)].into(), ..Constraints::default() };
        check(&twice, Some("the availability of cuda is 2; 0 to 1 is possible"));
        let weight = Constraints { diversity_weight: f64::NAN, ..Constraints::default() };
        check(&weight, Some("the diversity weight is NaN; 0 to 1 is possible"));
        let memory = Constraints { memory_mb_max: [("cpu".to_owned(), 0.0)].into(), ..Constraints::default() };
        check(&memory, Some("the memory limit of cpu is not above 0"));
        let budget = Constraints { budget_seconds: Some(-1.0), ..Constraints::default() };
        check(&budget, Some("the budget in seconds is not above 0"));
    }
}
