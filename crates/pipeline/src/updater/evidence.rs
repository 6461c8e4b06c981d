//! What new measurements say of the current release, and how the next one should learn because of it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
};

use features::OwnTables;
use messages::{AcceptedMeasurement, Configuration, Platform};
use predictors::{Miss, PredictorError, Predictors, UpdateStrategy};

/// New rows of a platform below which their errors say nothing.
pub(super) const ROWS_MIN: usize = 10;
/// The same of a small table, all of whose new rows judge.
const ROWS_MIN_SMALL: usize = 5;
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
pub(super) const AMENDMENTS_MAX: usize = 5;

/// A device as one of its platforms uses it: browsers on a processor may change while what runs there natively does not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    device: String,
    platform: Platform,
}

impl Place {
    pub(super) fn of(row: &AcceptedMeasurement) -> Self {
        Self { device: row.device.name.clone(), platform: row.configuration.platform }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.device, self.platform)
    }
}

/// What the rows that a release has not seen say of it.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// By platform.
    platforms: BTreeMap<Platform, Held>,
    /// Devices that the release knows nothing of.
    new_places: BTreeSet<Place>,
    /// How far each device's repeated configurations moved, as logs.
    shifts: BTreeMap<Place, f64>,
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
    /// Rows that it has not seen.
    pub(super) unseen: usize,
    /// Times that it learned more.
    pub(super) amendments: usize,
    /// Whether all that there is is so little that it is learned in a moment.
    pub(super) is_small: bool,
    /// Whether it came of measurement tables or of jobs that an update does not have.
    pub(super) is_of_tables: bool,
}

impl Evidence {
    /// Holds a release against the rows `unseen` by it; `seen` are those that it learned from.
    pub(super) fn of(
        predictors: &Predictors,
        seen: &[&AcceptedMeasurement],
        unseen: &[&AcceptedMeasurement],
        tables: &OwnTables,
    ) -> Result<Self, PredictorError> {
        let is_new = |place: &Place| {
            let mut known = predictors.measured_on(place.platform.as_str());
            known.all(|(device, _)| device != place.device)
        };
        let places: BTreeSet<Place> = unseen.iter().map(|row| Place::of(row)).collect();
        let new_places = places.into_iter().filter(is_new).collect();
        let mut evidence = Self { new_places, shifts: shifts(seen, unseen), ..Self::default() };
        for Miss { row, metric, is_inside, .. } in predictors.hold_against(tables)? {
            if metric == messages::Metric::LatencyMs {
                let held = evidence.platforms.entry(unseen[row].configuration.platform).or_default();
                held.rows += 1;
                held.inside += usize::from(is_inside);
            }
        }
        Ok(evidence)
    }

    /// Errors have grown on a platform.
    #[cfg(test)]
    pub(super) fn drifted(platform: Platform) -> Self {
        let held = Held { rows: ROWS_MIN, inside: 0 };
        Self { platforms: BTreeMap::from([(platform, held)]), ..Self::default() }
    }

    /// Whether errors have grown, or a device has changed, so that no time should be lost.
    pub(super) fn has_drifted(&self) -> bool {
        !self.shifts.is_empty() || self.platforms.values().any(Held::has_drifted)
    }

    /// Whether a row was measured where nothing is as it was.
    pub(super) fn has_changed(&self, row: &AcceptedMeasurement) -> bool {
        !self.shifts.is_empty() && self.shifts.contains_key(&Place::of(row))
    }

    /// The platforms where errors have grown.
    pub(super) fn drifted_platforms(&self) -> BTreeSet<Platform> {
        self.platforms.iter().filter(|(_, held)| held.has_drifted()).map(|(platform, _)| *platform).collect()
    }

    /// Chooses by how far errors have drifted.
    pub(super) fn choose(&self, learned: Learned) -> Choice {
        let Learned { whole_rows, rows_since, unseen, amendments, is_small, is_of_tables } = learned;
        let choice = |strategy, reason| Choice { strategy, reason };
        if is_of_tables {
            let reason = format!(
                "the release before came of tables or jobs that are not here, which only learning more keeps \
                 ({amendments} times already); `augur predictor train` learns anew from them and from jobs"
            );
            return choice(UpdateStrategy::Incremental, reason);
        }
        if unseen < if is_small { ROWS_MIN_SMALL } else { ROWS_MIN } {
            let reason = format!("{unseen} rows are too few to judge what is learned from the beginning");
            return choice(UpdateStrategy::Incremental, reason);
        }
        if !self.shifts.is_empty() {
            let moved = |(place, log): (&Place, &f64)| format!("{place} by {:+.0} %", 100.0 * (log.exp() - 1.0));
            let moved: Vec<String> = self.shifts.iter().map(moved).collect();
            let reason = format!("what was measured before came out otherwise: {}", moved.join(", "));
            return choice(UpdateStrategy::Window, reason);
        }
        if !self.new_places.is_empty() {
            let places: Vec<String> = self.new_places.iter().map(Place::to_string).collect();
            return choice(UpdateStrategy::Full, format!("new devices: {}", places.join(", ")));
        }
        if is_small {
            return choice(UpdateStrategy::Full, format!("a table as small as this, {unseen} rows of it new"));
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

/// Where configurations that were measured before came out otherwise now, and how far, as a log: the mean of at least 5
/// repeated configurations, beyond three of its standard errors and 10 %.
fn shifts(seen: &[&AcceptedMeasurement], unseen: &[&AcceptedMeasurement]) -> BTreeMap<Place, f64> {
    // Somebody may have lifted the quarantine of 0 ms, which moved by no percentage.
    let is_timed = |row: &&&AcceptedMeasurement| row.latency_ms > 0.0;
    let mut before: HashMap<(&str, &Configuration), Vec<f64>> = HashMap::new();
    for row in seen.iter().filter(is_timed) {
        before.entry((&row.device.name, &row.configuration)).or_default().push(row.latency_ms.ln());
    }
    let mut moved: BTreeMap<Place, HashMap<&Configuration, Vec<f64>>> = BTreeMap::new();
    for row in unseen.iter().filter(is_timed) {
        if let Some(logs) = before.get(&(row.device.name.as_str(), &row.configuration)) {
            let usual = logs.iter().sum::<f64>() / logs.len() as f64;
            let of_place = moved.entry(Place::of(row)).or_default();
            of_place.entry(&row.configuration).or_default().push(row.latency_ms.ln() - usual);
        }
    }
    let mean = |logs: &[f64]| logs.iter().sum::<f64>() / logs.len() as f64;
    let shift = |configurations: HashMap<&Configuration, Vec<f64>>| {
        let logs: Vec<f64> = configurations.values().map(|logs| mean(logs)).collect();
        let (count, middle) = (logs.len() as f64, mean(&logs));
        let variance = logs.iter().map(|log| (log - middle).powi(2)).sum::<f64>() / (count - 1.0);
        let is_shift = logs.len() >= REPEATS_MIN
            && middle.abs() > SHIFT_MIN_LOG
            && middle.abs() > SHIFT_ERRORS * (variance / count).sqrt();
        is_shift.then_some(middle)
    };
    moved.into_iter().filter_map(|(place, of_place)| Some((place, shift(of_place)?))).collect()
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

    fn shift(factor: impl Fn(u32) -> f64, count: u32) -> BTreeMap<Place, f64> {
        let before: Vec<_> = (1..=count).map(|size| row(size, f64::from(size))).collect();
        let after: Vec<_> = (1..=count).map(|size| row(size, f64::from(size) * factor(size))).collect();
        shifts(&before.iter().collect::<Vec<_>>(), &after.iter().collect::<Vec<_>>())
    }

    fn place(device: &str, platform: Platform) -> Place {
        Place { device: device.to_owned(), platform }
    }

    #[test]
    fn a_device_has_changed_if_what_was_measured_before_moves_together() {
        let found = shift(|size| 1.3 + 0.01 * f64::from(size % 2), 6);
        assert!(found.len() == 1 && found.values().all(|log| (log.exp() - 1.3).abs() < 0.02), "{found:?}");
        assert!(shift(|_| 1.05, 6).is_empty(), "5 % is no change");
        assert!(shift(|_| 1.3, 4).is_empty(), "4 are too few");
        assert!(shift(|size| if size % 2 == 0 { 1.6 } else { 0.8 }, 6).is_empty(), "they do not move together");
        assert!(shift(|size| if size == 1 { 0.0 } else { 1.3 }, 6).len() == 1, "0 ms hides nothing");
    }

    /// Browsers run under the name of their processor: what was measured natively was dropped with what they changed.
    #[test]
    fn a_slower_browser_is_no_slower_processor() {
        let web = |size, latency_ms| {
            let mut row = row(size, latency_ms);
            row.configuration.platform = Platform::Wasm;
            row
        };
        let both = |slower: f64| -> Vec<_> {
            (1..=6).flat_map(|size| [row(size, f64::from(size)), web(size, slower * f64::from(size))]).collect()
        };
        let (before, after) = (both(3.0), both(6.0));
        let shifts = shifts(&before.iter().collect::<Vec<_>>(), &after.iter().collect::<Vec<_>>());
        let evidence = Evidence { shifts, ..Evidence::default() };
        assert_eq!(evidence.shifts.len(), 1);
        let changed = |platform| before.iter().filter(move |row| row.configuration.platform == platform);
        assert!(changed(Platform::Wasm).all(|row| evidence.has_changed(row)));
        assert!(!changed(Platform::Cpu).any(|row| evidence.has_changed(row)));
    }

    const LEARNED: Learned =
        Learned { whole_rows: 1_000, rows_since: 100, unseen: 20, amendments: 1, is_small: false, is_of_tables: false };

    fn held(inside: usize) -> Evidence {
        let platforms = BTreeMap::from([(Platform::Cpu, Held { rows: 20, inside })]);
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
        let shifted = Evidence { shifts: BTreeMap::from([(place("EPYC", Platform::Cpu), 0.2)]), ..held(5) };
        check(&shifted, LEARNED, UpdateStrategy::Window, "EPYC on cpu by +22 %");
        let strange = Evidence { new_places: BTreeSet::from([place("H200", Platform::Cuda)]), ..held(5) };
        check(&strange, LEARNED, UpdateStrategy::Full, "new devices: H200 on cuda");
        check(&held(18), Learned { rows_since: 500, ..LEARNED }, UpdateStrategy::Full, "500 rows came since");
        check(&held(18), Learned { amendments: 5, ..LEARNED }, UpdateStrategy::Full, "5 times already");
        let few = Learned { unseen: ROWS_MIN - 1, ..LEARNED };
        check(&strange, few, UpdateStrategy::Incremental, "9 rows are too few to judge");
        let small = Learned { whole_rows: 30, rows_since: 8, unseen: 8, is_small: true, ..LEARNED };
        check(&held(18), small, UpdateStrategy::Full, "a table as small as this, 8 rows of it new");
        check(&held(18), Learned { unseen: 4, ..small }, UpdateStrategy::Incremental, "4 rows are too few to judge");
        let of_tables = Learned { is_of_tables: true, rows_since: 500, ..LEARNED };
        check(&shifted, of_tables, UpdateStrategy::Incremental, "came of tables or jobs that are not here");
        assert_eq!([held(18), held(13), shifted].map(|evidence| evidence.has_drifted()), [false, true, true]);
    }
}
