//! The other hardware that could run a candidate's model, as far as the predictors know it.

use std::{collections::BTreeSet, fmt};

use features::{DeviceTable, MeasuredRow, OwnTables, Subject};
use messages::{Metric, Platform};
use predictors::Predictors;

use crate::PlannerError;

/// Places that a candidate's own is held against; the first of the release's in the order of their devices' names.
const PLACES_MAX: usize = 16;

/// The best other place for a candidate's model and batch.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rival {
    /// The device, with its platform where that is known, for people.
    pub(crate) place: String,
    /// Predicted milliseconds per batch there.
    pub(crate) latency_ms: f64,
}

/// Where a model could run: a device may have several platforms, and on one for browsers several of those.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place<'a> {
    device: &'a str,
    /// `None` where the tables never said it.
    platform: Option<&'a str>,
    browser: Option<&'a str>,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self { device, platform: None, .. } => f.write_str(device),
            Self { device, platform: Some(platform), browser: None } => write!(f, "{device} ({platform})"),
            Self { device, platform: Some(platform), browser: Some(browser) } => {
                write!(f, "{device} ({platform} in {browser})")
            }
        }
    }
}

/// The fastest other place for each subject whose model fits there; `None` if the release knows none.
///
/// How it runs there (runtime, compiler, number format) is left to what was measured most often.
pub(crate) fn rivals(release: &Predictors, subjects: &[Subject]) -> Result<Vec<Option<Rival>>, PlannerError> {
    let OwnTables { rows, operators, .. } = OwnTables::asked(subjects);
    let mut best: Vec<Option<Rival>> = vec![None; subjects.len()];
    for place in places(release).into_iter().take(PLACES_MAX) {
        let others: Vec<usize> = (0..rows.len()).filter(|index| !place.is_of(&rows[*index])).collect();
        if others.is_empty() {
            continue;
        }
        let asked = others.iter().map(|index| place.asked(&rows[*index])).collect();
        let questions = release.ask(asked, DeviceTable::new(), operators.clone())?;
        let fits = release.memory_fits(&questions)?;
        for answer in release.predict(&questions, Metric::LatencyMs)? {
            let known = &mut best[others[answer.question]];
            let is_better = known.as_ref().is_none_or(|known| answer.value < known.latency_ms);
            if is_better && !fits[answer.question].is_too_large() {
                *known = Some(Rival { place: place.to_string(), latency_ms: answer.value });
            }
        }
    }
    Ok(best)
}

/// Where something was measured.
fn places(release: &Predictors) -> BTreeSet<Place<'_>> {
    let mut places = BTreeSet::new();
    for platform in release.platforms() {
        let has_browsers = platform.parse().is_ok_and(Platform::is_web);
        // Elsewhere the compiler is a way to run, not a place.
        let place = |(device, compiler): (_, Option<_>)| Place {
            device,
            platform: Some(platform),
            browser: compiler.filter(|_| has_browsers),
        };
        places.extend(release.measured_on(platform).map(place));
    }
    let without_platform: Vec<&str> =
        release.devices().filter(|device| !places.iter().any(|place| place.device == *device)).collect();
    places.extend(without_platform.into_iter().map(|device| Place { device, platform: None, browser: None }));
    places
}

impl Place<'_> {
    fn is_of(&self, row: &MeasuredRow) -> bool {
        let is_same = |platform| row.platform.as_deref() == Some(platform) && row.compiler.as_deref() == self.browser;
        row.device == self.device && self.platform.is_none_or(is_same)
    }

    /// The question what a row would take here.
    fn asked(&self, row: &MeasuredRow) -> MeasuredRow {
        MeasuredRow {
            device: self.device.to_owned(),
            platform: self.platform.map(str::to_owned),
            compiler: self.browser.map(str::to_owned),
            backend: None,
            precision: None,
            threads: None,
            ..row.clone()
        }
    }
}
