//! The ways to choose what to measure next.

use std::{fmt, str::FromStr};

use messages::UnknownWord;

/// How to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// Where the ensemble's members disagree most about latency.
    Uncertainty,
    /// What is most like all the others: medoids of the candidates.
    Representative,
    /// What is least like anything measured or chosen.
    Diversity,
    /// What leaves the least uncertainty about all candidates.
    InformationGain,
    /// Representative first, then what is both uncertain and unlike what was measured or chosen.
    Hybrid,
    /// Information, and what could change which hardware is recommended.
    Integrated,
    /// Any, by chance: the baseline that every strategy has to beat.
    Random,
}

impl Strategy {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Uncertainty,
        Self::Representative,
        Self::Diversity,
        Self::InformationGain,
        Self::Hybrid,
        Self::Integrated,
        Self::Random,
    ];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Uncertainty => "uncertainty",
            Self::Representative => "representative",
            Self::Diversity => "diversity",
            Self::InformationGain => "information-gain",
            Self::Hybrid => "hybrid",
            Self::Integrated => "integrated",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strategies_have_words() {
        for strategy in Strategy::ALL {
            assert_eq!(strategy.as_str().parse(), Ok(*strategy));
        }
        let error = "greedy".parse::<Strategy>().expect_err("no such strategy").to_string();
        assert!(error.starts_with("`greedy` is not a strategy; one of uncertainty, representative, "), "{error}");
    }
}
