//! What new measurements say of the current release, and how the next one should learn because of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use features::OwnTables;
use messages::AcceptedMeasurement;
use predictors::{Miss, PredictorError, Predictors, UpdateStrategy};

/// New rows of a platform below which their errors say nothing.
pub(super) const ROWS_MIN: usize = 10;
/// Share of 90 % intervals, in percent, below which a platform's errors have grown: of ten that hold with a chance of
/// 90 % each, six or fewer do in 1.3 % of all cases.
const HELD_MIN_PCT: f64 = 70.0;
/// Configurations that were measured before and again below which a device is not said to have changed.
const REPEATS_MIN: usize = 5;
/// How far a device's repeats must have moved together for it to have changed, as a log: 10 %.
const SHIFT_MIN_LOG: f64 = 0.1;
/// Standard errors that a shift must be of.
const SHIFT_ERRORS: f64 = 3.0;
/// Share of the rows of the last whole training from which on new ones are worth another.
const GROWN_SHARE: f64 = 0.5;
/// Times that a release may learn more before it is trained from the beginning.
const AMENDMENTS_MAX: usize = 5;

/// What the rows that a release has not seen say of it.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// By platform.
    platforms: BTreeMap<String, Held>,
    /// Devices that the release knows nothing of.
    new_devices: BTreeSet<String>,
    /// How far each device's repeated configurations moved, as logs.
    shifts: BTreeMap<String, f64>,
}

/// How predictions of latency came out on a platform.
#[derive(Debug, Default)]
struct Held {
    rows: usize,
    inside: usize,
}

impl Held {
    fn inside_pct(&self) -> f64 {
        100.0 * self.inside as f64 / self.rows as f64
    }

    fn has_drifted(&self) -> bool {
        self.rows >= ROWS_MIN && self.inside_pct() < HELD_MIN_PCT
    }
}

/// How to learn, and why.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Choice {
    pub(super) strategy: UpdateStrategy,
    pub(super) reason: String,
}

/// How much a release has learned from, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Learned {
    /// Rows of the last training from the beginning.
    pub(super) whole_rows: usize,
    /// Rows that came to it since, those that are new now included.
    pub(super) rows_since: usize,
    /// Times that it learned more.
    pub(super) amendments: usize,
}

impl Evidence {
    /// Holds a release against the rows `unseen` by it; `seen` are those that it learned from.
    pub(super) fn of(
        predictors: &Predictors,
        seen: &[&AcceptedMeasurement],
        unseen: &[&AcceptedMeasurement],
        tables: &OwnTables,
    ) -> Result<Self, PredictorError> {
        let known: BTreeSet<&str> = predictors.devices().collect();
        let mut evidence = Self { shifts: shifts(seen, unseen), ..Self::default() };
        for row in unseen {
            if !known.contains(row.device.name.as_str()) {
                evidence.new_devices.insert(row.device.name.clone());
            }
        }
        for Miss { row, metric, is_inside, .. } in predictors.hold_against(tables)? {
            if metric == messages::Metric::LatencyMs {
                let held = evidence.platforms.entry(unseen[row].configuration.platform.to_string()).or_default();
                held.rows += 1;
                held.inside += usize::from(is_inside);
            }
        }
        Ok(evidence)
    }

    /// Whether errors have grown, or a device has changed, so that no time should be lost.
    pub(super) fn has_drifted(&self) -> bool {
        !self.shifts.is_empty() || self.platforms.values().any(Held::has_drifted)
    }

    /// The devices that are no longer as they were.
    pub(super) fn changed_devices(&self) -> BTreeSet<&str> {
        self.shifts.keys().map(String::as_str).collect()
    }

    /// Chooses by how far errors have drifted.
    pub(super) fn choose(&self, learned: Learned) -> Choice {
        let Learned { whole_rows, rows_since, amendments } = learned;
        let choice = |strategy, reason| Choice { strategy, reason };
        if !self.shifts.is_empty() {
            let moved = |(device, log): (&String, &f64)| format!("{device} by {:+.0} %", 100.0 * (log.exp() - 1.0));
            let moved: Vec<String> = self.shifts.iter().map(moved).collect();
            let reason = format!("what was measured before came out otherwise: {}", moved.join(", "));
            return choice(UpdateStrategy::Window, reason);
        }
        if !self.new_devices.is_empty() {
            let devices: Vec<&str> = self.new_devices.iter().map(String::as_str).collect();
            return choice(UpdateStrategy::Full, format!("new devices: {}", devices.join(", ")));
        }
        if rows_since as f64 >= GROWN_SHARE * whole_rows as f64 {
            let reason = format!("{rows_since} rows came since the last whole training, of {whole_rows}");
            return choice(UpdateStrategy::Full, reason);
        }
        let drifted = self.platforms.iter().filter(|(_, held)| held.has_drifted());
        let drifted: Vec<String> = drifted
            .map(|(platform, held)| {
                let inside_pct = held.inside_pct();
                format!("{inside_pct:.0} % of {} 90 % intervals held on {platform}", held.rows)
            })
            .collect();
        if !drifted.is_empty() {
            return choice(UpdateStrategy::Weighted, format!("errors have grown: {}", drifted.join(", ")));
        }
        if amendments >= AMENDMENTS_MAX {
            return choice(UpdateStrategy::Full, format!("it learned more {amendments} times already"));
        }
        choice(UpdateStrategy::Incremental, "errors are what was promised".to_owned())
    }
}

/// The devices whose configurations that were measured before came out otherwise now, and how far, as a log: the mean of
/// at least 5 repeated configurations, beyond three of its standard errors and 10 %.
fn shifts(seen: &[&AcceptedMeasurement], unseen: &[&AcceptedMeasurement]) -> BTreeMap<String, f64> {
    let key = |row: &AcceptedMeasurement| (row.device.name.clone(), row.configuration.to_string());
    let mut before: HashMap<(String, String), Vec<f64>> = HashMap::new();
    for row in seen {
        before.entry(key(row)).or_default().push(row.latency_ms.ln());
    }
    let mut moved: BTreeMap<String, HashMap<String, Vec<f64>>> = BTreeMap::new();
    for row in unseen {
        if let Some(logs) = before.get(&key(row)) {
            let usual = logs.iter().sum::<f64>() / logs.len() as f64;
            let of_device = moved.entry(row.device.name.clone()).or_default();
            of_device.entry(row.configuration.to_string()).or_default().push(row.latency_ms.ln() - usual);
        }
    }
    let mean = |logs: &[f64]| logs.iter().sum::<f64>() / logs.len() as f64;
    let shift = |configurations: HashMap<String, Vec<f64>>| {
        let logs: Vec<f64> = configurations.values().map(|logs| mean(logs)).collect();
        let (count, middle) = (logs.len() as f64, mean(&logs));
        let variance = logs.iter().map(|log| (log - middle).powi(2)).sum::<f64>() / (count - 1.0);
        let is_shift = logs.len() >= REPEATS_MIN
            && middle.abs() > SHIFT_MIN_LOG
            && middle.abs() > SHIFT_ERRORS * (variance / count).sqrt();
        is_shift.then_some(middle)
    };
    moved.into_iter().filter_map(|(device, of_device)| Some((device, shift(of_device)?))).collect()
}

#[cfg(test)]
mod tests {
    use testkit::builders;

    use super::*;

    fn row(batch_size: u32, latency_ms: f64) -> AcceptedMeasurement {
        let mut row = builders::accepted_measurement();
        row.configuration.batch_size = batch_size;
        row.latency_ms = latency_ms;
        row
    }

    fn shift(factor: impl Fn(u32) -> f64, count: u32) -> BTreeMap<String, f64> {
        let before: Vec<_> = (1..=count).map(|size| row(size, f64::from(size))).collect();
        let after: Vec<_> = (1..=count).map(|size| row(size, f64::from(size) * factor(size))).collect();
        shifts(&before.iter().collect::<Vec<_>>(), &after.iter().collect::<Vec<_>>())
    }

    #[test]
    fn a_device_has_changed_if_what_was_measured_before_moves_together() {
        let found = shift(|size| 1.3 + 0.01 * f64::from(size % 2), 6);
        assert!(found.len() == 1 && found.values().all(|log| (log.exp() - 1.3).abs() < 0.02), "{found:?}");
        assert!(shift(|_| 1.05, 6).is_empty(), "5 % is no change");
        assert!(shift(|_| 1.3, 4).is_empty(), "4 are too few");
        assert!(shift(|size| if size % 2 == 0 { 1.6 } else { 0.8 }, 6).is_empty(), "they do not move together");
    }

    const LEARNED: Learned = Learned { whole_rows: 1_000, rows_since: 100, amendments: 1 };

    fn held(inside: usize) -> Evidence {
        let platforms = BTreeMap::from([("cpu".to_owned(), Held { rows: 20, inside })]);
        Evidence { platforms, ..Evidence::default() }
    }

    fn check(evidence: &Evidence, learned: Learned, strategy: UpdateStrategy, reason: &str) {
        let choice = evidence.choose(learned);
        assert!(choice.strategy == strategy && choice.reason.contains(reason), "{choice:?}");
    }

    #[test]
    fn the_further_errors_have_drifted_the_more_is_learned_again() {
        check(&held(18), LEARNED, UpdateStrategy::Incremental, "errors are what was promised");
        check(&held(13), LEARNED, UpdateStrategy::Weighted, "65 % of 20 90 % intervals held on cpu");
        let shifted = Evidence { shifts: BTreeMap::from([("EPYC".to_owned(), 0.2)]), ..held(5) };
        check(&shifted, LEARNED, UpdateStrategy::Window, "EPYC by +22 %");
        let strange = Evidence { new_devices: BTreeSet::from(["H200".to_owned()]), ..held(5) };
        check(&strange, LEARNED, UpdateStrategy::Full, "new devices: H200");
        check(&held(18), Learned { rows_since: 500, ..LEARNED }, UpdateStrategy::Full, "500 rows came since");
        check(&held(18), Learned { amendments: 5, ..LEARNED }, UpdateStrategy::Full, "5 times already");
        assert_eq!([held(18), held(13), shifted].map(|evidence| evidence.has_drifted()), [false, true, true]);
    }
}
