//! The curves as a table for people and as JSON.

use std::fmt::Write as _;

use planner::Strategy;
use serde_json::{Value, json};

use crate::STRATEGIES;

/// Errors of one strategy after each number of rows, in percent.
#[derive(Debug, Clone)]
pub(crate) struct Curve {
    pub(crate) strategy: Strategy,
    /// Seed and device.
    pub(crate) case: String,
    pub(crate) errors: Vec<f64>,
}

/// All curves of one kind of start.
pub(crate) struct Curves {
    pub(crate) title: &'static str,
    /// What `errors` are.
    pub(crate) unit: &'static str,
    pub(crate) steps: Vec<usize>,
    pub(crate) of_cases: Vec<Curve>,
}

/// A mean over cases.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mean {
    pub(crate) value: f64,
    /// Standard error of it.
    pub(crate) error: f64,
}

impl Mean {
    fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let value = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|of| (of - value).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
        Self { value, error: (variance / count).sqrt() }
    }
}

impl Curves {
    /// The strategies that there are curves of.
    pub(crate) fn strategies(&self) -> impl Iterator<Item = Strategy> {
        STRATEGIES.into_iter().filter(|strategy| self.of(*strategy).next().is_some())
    }

    fn of(&self, strategy: Strategy) -> impl Iterator<Item = &Curve> {
        self.of_cases.iter().filter(move |curve| curve.strategy == strategy)
    }

    /// The mean error of a strategy at each step.
    pub(crate) fn means(&self, strategy: Strategy) -> Vec<Mean> {
        let at = |step| Mean::of(&self.of(strategy).map(|curve| curve.errors[step]).collect::<Vec<_>>());
        (0..self.steps.len()).map(at).collect()
    }

    /// By how much a strategy errs more than chance at each step, over cases that both had.
    fn over_random(&self, strategy: Strategy) -> Vec<Mean> {
        let at = |step: usize| {
            let pairs = self.of(strategy).zip(self.of(Strategy::Random));
            Mean::of(&pairs.map(|(own, random)| own.errors[step] - random.errors[step]).collect::<Vec<_>>())
        };
        (0..self.steps.len()).map(at).collect()
    }

    /// Rows that a strategy needs to err no more than chance does at the end; between two steps by a straight line.
    pub(crate) fn rows_needed(&self, strategy: Strategy) -> Option<f64> {
        let aim = self.means(Strategy::Random).last()?.value;
        let means = self.means(strategy);
        let place = means.iter().position(|mean| mean.value <= aim)?;
        let Some(before) = place.checked_sub(1) else { return Some(self.steps[0] as f64) };
        let (high, low) = (means[before].value, means[place].value);
        let share = if high > low { (high - aim) / (high - low) } else { 1.0 };
        Some(self.steps[before] as f64 + share * (self.steps[place] - self.steps[before]) as f64)
    }

    pub(crate) fn table(&self) -> String {
        let mut text = format!("{}: {} after so many rows, {} cases\n\n", self.title, self.unit, self.cases());
        let steps = self.steps.iter().map(|step| format!(" {step} |")).collect::<Vec<_>>().concat();
        let lines = self.steps.iter().map(|_| "---|").collect::<String>();
        let last = self.steps.last().copied().unwrap_or_default();
        put(&mut text, &format!("| strategy |{steps} rows to err as random at {last} | worse than random |"));
        put(&mut text, &format!("|---|{lines}---|---|"));
        for strategy in self.strategies() {
            let means = self.means(strategy).into_iter().map(|mean| format!(" {:.2} |", mean.value));
            let means = means.collect::<Vec<_>>().concat();
            let needed = self.rows_needed(strategy).map_or_else(|| "more".to_owned(), |rows| format!("{rows:.0}"));
            put(&mut text, &format!("| {strategy} |{means} {needed} | {} |", self.worse(strategy)));
        }
        text
    }

    /// The steps at which a strategy errs more than chance by more than two standard errors, and by how much.
    pub(crate) fn worse_at(&self, strategy: Strategy) -> impl Iterator<Item = (usize, Mean)> {
        let over = self.steps.iter().copied().zip(self.over_random(strategy));
        over.filter(|(_, over)| over.value > 2.0 * over.error)
    }

    /// The same for people.
    fn worse(&self, strategy: Strategy) -> String {
        if strategy == Strategy::Random {
            return "–".to_owned();
        }
        let told: Vec<String> = self
            .worse_at(strategy)
            .map(|(step, over)| format!("at {step} by {:.2} ± {:.2}", over.value, over.error))
            .collect();
        if told.is_empty() { "nowhere beyond noise".to_owned() } else { told.join(", ") }
    }

    pub(crate) fn cases(&self) -> usize {
        self.of(Strategy::Random).count()
    }
}

fn put(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("writing to a String cannot fail");
}

/// Everything that was measured.
pub(crate) fn json(all: &[Curves], updates: &[Value]) -> Result<String, serde_json::Error> {
    let of_kind = |curves: &Curves| {
        let strategies: Vec<Value> = curves.strategies().map(|strategy| of_strategy(curves, strategy)).collect();
        json!({ "start": curves.title, "unit": curves.unit, "rows": curves.steps, "strategies": strategies })
    };
    let curves: Vec<Value> = all.iter().map(of_kind).collect();
    serde_json::to_string_pretty(&json!({ "curves": curves, "updates": updates }))
}

fn of_strategy(curves: &Curves, strategy: Strategy) -> Value {
    let pairs = |means: Vec<Mean>| -> Vec<Value> {
        means.iter().map(|mean| json!({ "value": mean.value, "standard_error": mean.error })).collect()
    };
    let cases: Vec<Value> =
        curves.of(strategy).map(|curve| json!({ "case": curve.case, "mean_error_pct": curve.errors })).collect();
    json!({
        "strategy": strategy.as_str(),
        "mean_error_pct": pairs(curves.means(strategy)),
        "over_random_pct": pairs(curves.over_random(strategy)),
        "rows_to_err_as_random_at_last": curves.rows_needed(strategy),
        "cases": cases,
    })
}
