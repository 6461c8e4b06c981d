//! Update: what a release that learned more of 100 new rows takes and errs, beside one trained again from the beginning.

use std::{
    collections::BTreeSet,
    error::Error,
    fmt::Write as _,
    time::{Duration, Instant},
};

use features::{MeasuredRow, OwnTables};
use messages::Metric;
use predictors::{Miss, Predictors, TrainSettings};
use serde_json::{Value, json};

use crate::replay::Replay;

/// Rows that are new.
const NEW_ROWS: usize = 100;
/// One of so many rows is kept for testing.
const ROWS_PER_TEST: usize = 5;

/// What the new rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    /// Like the old ones.
    Alike,
    /// Of families of models that nothing was known of; tested on other rows of these and of all others.
    Families,
}

impl Case {
    const ALL: [Self; 2] = [Self::Alike, Self::Families];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Alike => "rows like the old ones",
            Self::Families => "families never seen",
        }
    }
}

/// Seconds and errors of one seed.
pub(crate) struct Updated {
    case: Case,
    seed: u64,
    full: Duration,
    more: Duration,
    /// Mean errors in percent before, after learning more, and trained again; on new kinds of rows, and on all others.
    new: [f64; 3],
    others: [f64; 3],
}

/// Old, new and tested rows, the last with whether each is of the new kind.
struct Rows {
    old: Vec<MeasuredRow>,
    new: Vec<MeasuredRow>,
    test_new: Vec<MeasuredRow>,
    test_others: Vec<MeasuredRow>,
}

/// Both cases of one seed.
pub(crate) fn updates(replay: &Replay, seed: u64) -> Result<Vec<Updated>, Box<dyn Error>> {
    Case::ALL.into_iter().map(|case| updated(replay, case, seed)).collect()
}

fn updated(replay: &Replay, case: Case, seed: u64) -> Result<Updated, Box<dyn Error>> {
    let Rows { old, new, test_new, test_others } = rows(replay, case, seed);
    let (devices, operators) = (&replay.devices, &replay.operators);
    let train = |rows: Vec<MeasuredRow>| {
        let settings = TrainSettings::default();
        Predictors::train(rows, devices, operators, &[Metric::LatencyMs], &settings, |_| ())
    };
    let error_pct = |predictors: &Predictors, rows: &[MeasuredRow]| -> Result<f64, Box<dyn Error>> {
        let tables = OwnTables { rows: rows.to_vec(), devices: devices.clone(), operators: operators.clone() };
        let misses = predictors.hold_against(&tables)?;
        Ok(misses.iter().map(Miss::error_pct).sum::<f64>() / misses.len() as f64)
    };
    let errors = |predictors: &Predictors| -> Result<[f64; 2], Box<dyn Error>> {
        Ok([error_pct(predictors, &test_new)?, error_pct(predictors, &test_others)?])
    };
    let mut predictors = train(old.clone())?;
    let before = errors(&predictors)?;
    let begun = Instant::now();
    predictors.learn_more(new.clone(), devices, operators)?;
    let more = begun.elapsed();
    let after = errors(&predictors)?;
    let begun = Instant::now();
    let whole = train([old, new].concat())?;
    let full = begun.elapsed();
    let again = errors(&whole)?;
    let [new, others] = [0, 1].map(|kind| [before[kind], after[kind], again[kind]]);
    eprintln!("update, {}, seed {seed}: {new:.2?} {others:.2?} {more:.2?} {full:.2?}", case.as_str());
    Ok(Updated { case, seed, full, more, new, others })
}

fn rows(replay: &Replay, case: Case, seed: u64) -> Rows {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut all = replay.rows.clone();
    random.shuffle(&mut all);
    let test = all.len() / ROWS_PER_TEST;
    match case {
        Case::Alike => {
            let test = all.split_off(all.len() - test);
            let new = all.split_off(all.len() - NEW_ROWS);
            let (test_new, test_others) = test.split_at(test.len() / 2);
            Rows { old: all, new, test_new: test_new.to_vec(), test_others: test_others.to_vec() }
        }
        Case::Families => {
            let families: BTreeSet<_> = all.iter().filter_map(|row| row.family.clone()).collect();
            let mut families: Vec<_> = families.into_iter().collect();
            random.shuffle(&mut families);
            let mut strange = Vec::new();
            for family in families {
                if strange.len() >= 4 * NEW_ROWS {
                    break;
                }
                let (own, others): (Vec<_>, Vec<_>) =
                    all.into_iter().partition(|row| row.family.as_ref() == Some(&family));
                strange.extend(own);
                all = others;
            }
            random.shuffle(&mut strange);
            let test_new = strange.split_off(NEW_ROWS);
            let test_others = all.split_off(all.len() - test);
            Rows { old: all, new: strange, test_new, test_others }
        }
    }
}

/// The mean of each case over its seeds, for people.
pub(crate) fn table(all: &[Updated]) -> String {
    let mut text = String::from(
        "update by 100 new rows: mean error in percent before, after learning more, and trained again\n\n\
         | new rows are | seeds | on such rows | on all others | learning more | trained again |\n|---|---|---|---|---|---|\n",
    );
    for case in Case::ALL {
        let of_case: Vec<&Updated> = all.iter().filter(|updated| updated.case == case).collect();
        if of_case.is_empty() {
            continue;
        }
        let mean = |value: &dyn Fn(&Updated) -> f64| {
            of_case.iter().map(|updated| value(updated)).sum::<f64>() / of_case.len() as f64
        };
        let three = |of: fn(&Updated) -> &[f64; 3]| {
            [0, 1, 2].map(|index| format!("{:.2}", mean(&|updated| of(updated)[index]))).join(" / ")
        };
        writeln!(
            text,
            "| {} | {} | {} | {} | {:.2} s | {:.1} s |",
            case.as_str(),
            of_case.len(),
            three(|updated| &updated.new),
            three(|updated| &updated.others),
            mean(&|updated| updated.more.as_secs_f64()),
            mean(&|updated| updated.full.as_secs_f64()),
        )
        .expect("writing to a String cannot fail");
    }
    text
}

/// What share of the time learning more by rows like the old ones takes, and how many times as much it errs then on all
/// tested rows, both beside training again; `None` if nothing was updated.
pub(crate) fn shares(all: &[Updated]) -> Option<(f64, f64)> {
    let alike: Vec<&Updated> = all.iter().filter(|updated| updated.case == Case::Alike).collect();
    let sum = |value: fn(&Updated) -> f64| alike.iter().map(|updated| value(updated)).sum::<f64>();
    let time = sum(|updated| updated.more.as_secs_f64()) / sum(|updated| updated.full.as_secs_f64());
    // Both halves of the tested rows are like the old ones.
    let error = sum(|updated| updated.new[1] + updated.others[1]) / sum(|updated| updated.new[2] + updated.others[2]);
    (!alike.is_empty()).then_some((time, error))
}

/// Everything that was measured.
pub(crate) fn json(all: &[Updated]) -> Vec<Value> {
    let of_one = |updated: &Updated| {
        let Updated { case, seed, full, more, new, others } = updated;
        json!({
            "new_rows_are": case.as_str(),
            "seed": seed,
            "mean_error_pct_on_such_rows": { "before": new[0], "learned_more": new[1], "trained_again": new[2] },
            "mean_error_pct_on_others": { "before": others[0], "learned_more": others[1], "trained_again": others[2] },
            "learning_more_s": more.as_secs_f64(),
            "training_again_s": full.as_secs_f64(),
        })
    };
    all.iter().map(of_one).collect()
}
