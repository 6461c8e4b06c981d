//! How a release came of the one before it, and whether it may take its place.

use std::{collections::BTreeMap, fmt, str::FromStr};

use features::OwnTables;
use messages::{JobId, Metric, UnknownWord};

use crate::{PredictorError, Predictors};

/// Rows of a metric on a platform below which nothing is said of which release is worse there.
const JUDGED_MIN: usize = 5;
/// How many times as large its mean error must be at least: a difference that nobody would notice is none.
const TIMES_WORSE: f64 = 1.02;
/// Standard errors by which a release must be worse to be said so: fewer are noise in one of forty comparisons.
const ERRORS_WORSE: f64 = 2.0;
/// How many times as large a mean error is worse whatever the other rows say: a few rows may be astray by far.
const TIMES_ASTRAY: f64 = 2.0;

/// How predictors learn of new measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateStrategy {
    /// All rows, from the beginning.
    Full,
    /// More trees and references, from new rows and a sample of old ones, see [`Predictors::learn_more`].
    Incremental,
    /// All rows from the beginning, old ones the less likely the older they are.
    Weighted,
    /// From the beginning, without the old rows of devices that are no longer as they were.
    Window,
}

impl UpdateStrategy {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Full, Self::Incremental, Self::Weighted, Self::Window];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Incremental => "incremental",
            Self::Weighted => "weighted",
            Self::Window => "window",
        }
    }
}

impl fmt::Display for UpdateStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for UpdateStrategy {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL.into_iter().find(|strategy| strategy.as_str() == text).ok_or_else(|| UnknownWord {
            kind: "update strategy",
            found: text.to_owned(),
            known: Self::ALL.map(Self::as_str).join(", "),
        })
    }
}

/// Share of intervals held, in percent, below which a release's predictions are astray on a platform.
const INSIDE_MIN_PCT: f64 = 70.0;

/// What the model-update stage says of a release that it made.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// How it learned.
    pub strategy: UpdateStrategy,
    /// Why in this way, for people.
    pub reason: String,
    /// Rows of the training table when it was made; those after them are new to it.
    pub table_rows: u32,
    /// Rows that the last release had learned from which learned from the beginning: this one or an ancestor.
    pub whole_rows: u32,
    /// Jobs among the table's rows that it did not learn from: it was judged on them, or the next one will be.
    pub held_out: Vec<JobId>,
    /// How it did there, by metric and platform; nothing if no row was new.
    pub judged: Vec<Judged>,
    /// Whether it became the current release; else it is a candidate.
    pub is_promoted: bool,
}

impl Update {
    /// The platforms where latencies are still not what is predicted: more measurements are wanted there.
    pub fn astray(&self) -> impl Iterator<Item = &str> {
        let is_astray = |judged: &&Judged| {
            judged.metric == Metric::LatencyMs && judged.is_decided() && judged.inside_pct < INSIDE_MIN_PCT
        };
        self.judged.iter().filter(is_astray).map(|judged| judged.platform.as_str())
    }
}

/// Two releases' errors on rows that neither learned from.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// Which metric.
    pub metric: Metric,
    /// Where the rows were measured.
    pub platform: String,
    /// How many rows.
    pub rows: u32,
    /// Mean absolute percentage error.
    pub mape_pct: f64,
    /// The same of the release that is current.
    pub current_mape_pct: f64,
    /// Share of the rows that the release's 90 % intervals held, in percent.
    pub inside_pct: f64,
    /// Whether it errs more on 5 rows or more: beyond noise, by 2 % of it and two standard errors of the rows'
    /// differences, or twice as much and a percent.
    pub is_worse: bool,
}

impl Judged {
    /// Whether the rows are enough to say which release is worse.
    pub const fn is_decided(&self) -> bool {
        self.rows as usize >= JUDGED_MIN
    }
}

/// How one row's prediction came out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Miss {
    /// The row.
    pub row: usize,
    /// Which metric.
    pub metric: Metric,
    /// ln(predicted / measured).
    pub error_log: f64,
    /// Whether the 90 % interval held what was measured.
    pub is_inside: bool,
}

impl Miss {
    /// Percentage of the measured value, at least 0.
    pub fn error_pct(&self) -> f64 {
        100.0 * (self.error_log.exp() - 1.0).abs()
    }
}

impl Predictors {
    /// Predicts measured rows by name, as if nobody had measured them; of every metric that is learned and was measured.
    ///
    /// # Errors
    ///
    /// As [`Self::ask`] and [`Self::predict`].
    pub fn hold_against(&self, tables: &OwnTables) -> Result<Vec<Miss>, PredictorError> {
        let OwnTables { rows, devices, operators } = tables;
        let mut operators = operators.clone();
        self.context.known.prefer_known_sizes(&mut operators);
        let questions = self.ask(rows.clone(), devices.clone(), operators)?;
        let mut misses = Vec::new();
        for metric in self.trained.keys() {
            for answer in self.predict(&questions, *metric)? {
                if let Some(measured) = rows[answer.question].measured(*metric) {
                    misses.push(Miss {
                        row: answer.question,
                        metric: *metric,
                        error_log: (answer.value / measured).ln(),
                        is_inside: (answer.lower..=answer.upper).contains(&measured),
                    });
                }
            }
        }
        Ok(misses)
    }
}

/// Holds a candidate and the current release against rows that neither learned from. Where the candidate learned from all
/// rows there are several, which stand in for it, each with the rows that it did not learn from.
///
/// # Errors
///
/// As [`Predictors::hold_against`].
pub fn judge(trials: &[(&Predictors, OwnTables)], current: &Predictors) -> Result<Vec<Judged>, PredictorError> {
    let mut pairs: BTreeMap<(Metric, String), Vec<Pair>> = BTreeMap::new();
    for (candidate, tables) in trials {
        let of_current = current.hold_against(tables)?;
        let of_current: BTreeMap<(Metric, usize), f64> =
            of_current.iter().map(|miss| ((miss.metric, miss.row), miss.error_pct())).collect();
        for miss in candidate.hold_against(tables)? {
            if let Some(current_pct) = of_current.get(&(miss.metric, miss.row)) {
                let platform = tables.rows[miss.row].platform.clone().unwrap_or_default();
                let pair = Pair { own_pct: miss.error_pct(), current_pct: *current_pct, is_inside: miss.is_inside };
                pairs.entry((miss.metric, platform)).or_default().push(pair);
            }
        }
    }
    Ok(pairs.into_iter().map(|((metric, platform), pairs)| judged(metric, platform, &pairs)).collect())
}

/// Errors of two releases on one row, in percent.
#[derive(Debug, Clone, Copy)]
struct Pair {
    own_pct: f64,
    current_pct: f64,
    /// Whether the own interval held.
    is_inside: bool,
}

fn judged(metric: Metric, platform: String, pairs: &[Pair]) -> Judged {
    let count = pairs.len() as f64;
    let mean = |value: &dyn Fn(&Pair) -> f64| pairs.iter().map(value).sum::<f64>() / count;
    let (mape_pct, current_mape_pct) = (mean(&|pair| pair.own_pct), mean(&|pair| pair.current_pct));
    // Of ratios, so that one row that both miss by far does not drown the rest.
    let differences: Vec<f64> = pairs.iter().map(|pair| pair.own_pct.ln_1p() - pair.current_pct.ln_1p()).collect();
    let worse = differences.iter().sum::<f64>() / count;
    let variance = differences.iter().map(|difference| (difference - worse).powi(2)).sum::<f64>() / (count - 1.0);
    let is_worse = worse > ERRORS_WORSE * (variance / count).sqrt() && mape_pct > TIMES_WORSE * current_mape_pct;
    let is_astray = mape_pct > TIMES_ASTRAY * current_mape_pct + 1.0;
    Judged {
        metric,
        platform,
        rows: u32::try_from(pairs.len()).unwrap_or(u32::MAX),
        mape_pct,
        current_mape_pct,
        inside_pct: mean(&|pair| if pair.is_inside { 100.0 } else { 0.0 }),
        is_worse: pairs.len() >= JUDGED_MIN && (is_worse || is_astray),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        TrainSettings,
        synthetic::{measurement, measurements, subject, train},
    };

    fn settings() -> TrainSettings {
        TrainSettings { rounds: 80, learner: crate::Learner::GradientBoosting, ..TrainSettings::default() }
    }

    fn tables(rows: &[messages::AcceptedMeasurement]) -> OwnTables {
        OwnTables::of(rows, |_| None)
    }

    fn mean_error_pct(predictors: &Predictors, tables: &OwnTables) -> f64 {
        let misses = predictors.hold_against(tables).expect("described");
        let of_latency: Vec<f64> =
            misses.iter().filter(|miss| miss.metric == Metric::LatencyMs).map(Miss::error_pct).collect();
        of_latency.iter().sum::<f64>() / of_latency.len() as f64
    }

    /// Models that ran three times slower than physics and likeness say, measured in the rows of even numbers.
    fn slow(parity: usize) -> Vec<messages::AcceptedMeasurement> {
        let all =
            [(9, 1), (9, 2), (9, 4), (9, 8), (10, 1), (10, 2), (10, 4), (10, 8), (11, 1), (11, 2), (11, 4), (11, 8)];
        let chosen = all.into_iter().enumerate().filter(|(index, _)| index % 2 == parity);
        chosen.map(|(_, (model, batch_size))| measurement(subject(model, batch_size, 2), 3.0)).collect()
    }

    #[test]
    fn what_comes_later_is_learned_without_starting_over_and_nothing_is_forgotten() {
        let old = measurements(0..8);
        let mut predictors = train(&old, &settings()).expect("trained");
        let (new, asked, known) = (slow(0), tables(&slow(1)), tables(&measurements(3..5)));
        let (before, known_before) = (mean_error_pct(&predictors, &asked), mean_error_pct(&predictors, &known));
        let OwnTables { rows, devices, operators } = tables(&new);
        predictors.learn_more(rows, &devices, &operators).expect("learned");
        let (after, known_after) = (mean_error_pct(&predictors, &asked), mean_error_pct(&predictors, &known));
        assert!(after < before / 3.0, "{after} after {before}");
        assert!(known_after < known_before + 3.0, "{known_after} after {known_before}");
        assert_eq!((predictors.amendments(), predictors.training_rows()), (1, 102));
    }

    #[test]
    fn a_candidate_is_worse_only_beyond_noise() {
        let trained = |rows: &[messages::AcceptedMeasurement]| train(rows, &settings()).expect("trained");
        let (good, bad) = (trained(&measurements(0..8)), trained(&measurements(0..2)));
        let judge = |candidate, current| judge(&[(candidate, tables(&measurements(4..6)))], current);
        let found = judge(&bad, &good).expect("judged");
        assert!(found.iter().all(|judged| judged.is_worse && judged.platform == "cpu"), "{found:?}");
        let found = judge(&good, &bad).expect("judged");
        assert!(found.iter().all(|judged| !judged.is_worse && judged.rows == 24), "{found:?}");
        let found = judge(&good, &good).expect("judged");
        assert!(found.iter().all(|judged| !judged.is_worse), "{found:?}");
    }

    #[test]
    fn what_stands_in_for_a_candidate_is_judged_together() {
        let good = train(&measurements(0..8), &settings()).expect("trained");
        let asked = measurements(4..6);
        let (one, other) = asked.split_at(10);
        let found = judge(&[(&good, tables(one)), (&good, tables(other))], &good).expect("judged");
        assert!(!found.is_empty() && found.iter().all(|judged| judged.rows == 24), "{found:?}");
    }

    #[test]
    fn few_rows_say_nothing() {
        let of_rows = |rows: usize| {
            let pair = |row| Pair { own_pct: 9.0 + row as f64, current_pct: 1.0, is_inside: row % 2 == 0 };
            judged(Metric::LatencyMs, "cpu".to_owned(), &(0..rows).map(pair).collect::<Vec<_>>())
        };
        assert!(!of_rows(JUDGED_MIN - 1).is_worse);
        assert!(of_rows(JUDGED_MIN).is_worse && (of_rows(JUDGED_MIN).inside_pct - 60.0).abs() < 1e-9);
    }

    /// In the mean the logs of its errors are less.
    #[test]
    fn a_few_rows_astray_by_far_are_worse_though_most_are_better() {
        let of_last = |own_pct: f64| {
            let mut pairs = vec![Pair { own_pct: 5.0, current_pct: 9.0, is_inside: true }; 9];
            pairs.push(Pair { own_pct, current_pct: 9.0, is_inside: false });
            judged(Metric::LatencyMs, "cpu".to_owned(), &pairs)
        };
        assert!(of_last(200.0).is_worse, "24.5 % after 9 %");
        assert!(!of_last(120.0).is_worse, "16.5 % after 9 %");
    }
}
