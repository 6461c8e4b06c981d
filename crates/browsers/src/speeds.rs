//! What this machine's browsers have shown: how fast each runs the models of a family.
//!
//! There is no belief here to begin with, only the medians of jobs that ran. Times of different models cannot be
//! compared, so a browser's backend is rated by how much longer it takes than the fastest one for the same model at
//! the same shape, as the geometric mean over a family's models.

use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
};

use messages::Platform;
use serde::{Deserialize, Serialize};

use crate::{BrowserError, state_file};

/// Medians kept per model and place; the median of these counts.
const MEDIANS_MAX: usize = 9;

/// Models kept in all; the one that was longest without a job goes first.
const MODELS_MAX: usize = 500;

/// Everything learned.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Speeds {
    /// By family and, in it, by model and shape.
    families: BTreeMap<String, BTreeMap<String, Model>>,
    /// Counts what was learned, to tell old from new.
    learned: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Model {
    places: BTreeMap<String, Place>,
    learned: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Place {
    browser: String,
    /// Another version starts from nothing.
    version: String,
    platform: String,
    medians_ms: VecDeque<f64>,
    jobs: u64,
}

/// One rating, as `browsers status` shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SpeedStatus {
    /// The model family.
    pub family: String,
    /// The browser.
    pub browser: String,
    /// The platform in it.
    pub platform: String,
    /// Time relative to the fastest place, 1 for the fastest itself.
    pub relative_time: f64,
    /// Models of the family that ran there.
    pub models: usize,
    /// Jobs that were learned from.
    pub jobs: u64,
}

/// Where a job ran.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ran<'a> {
    pub(crate) browser: &'a str,
    pub(crate) version: &'a str,
    pub(crate) platform: Platform,
}

impl Speeds {
    const FILE: &'static str = "speeds.json";

    /// Reads what an earlier pool learned; begins anew if that cannot be read.
    pub(crate) fn read(directory: &Path) -> Self {
        state_file::read(&directory.join(Self::FILE))
    }

    /// Writes what is learned.
    pub(crate) fn write(&self, directory: &Path) -> Result<(), BrowserError> {
        let path: PathBuf = directory.join(Self::FILE);
        state_file::write(&path, self)
    }

    /// Learns from a job.
    pub(crate) fn learn(&mut self, family: &str, model: &str, ran: Ran<'_>, median_ms: f64) {
        self.learned += 1;
        let known = self.families.entry(family.to_owned()).or_default().entry(model.to_owned()).or_default();
        known.learned = self.learned;
        let place = known.places.entry(place_key(ran.browser, ran.platform)).or_insert_with(|| Place {
            browser: ran.browser.to_owned(),
            version: ran.version.to_owned(),
            platform: ran.platform.to_string(),
            medians_ms: VecDeque::new(),
            jobs: 0,
        });
        if place.version != ran.version {
            ran.version.clone_into(&mut place.version);
            place.medians_ms.clear();
        }
        if place.medians_ms.len() == MEDIANS_MAX {
            place.medians_ms.pop_front();
        }
        place.medians_ms.push_back(median_ms);
        place.jobs += 1;
        self.forget();
    }

    /// How much longer this place takes than the fastest one for models of the family; `None` if none ran there, 1 if
    /// those that did ran nowhere else.
    pub(crate) fn relative_time(&self, family: &str, browser: &str, platform: Platform) -> Option<f64> {
        let (key, models) = (place_key(browser, platform), self.families.get(family)?);
        models.values().any(|model| model.places.contains_key(&key)).then(|| rating(models, &key))
    }

    /// Every rating, the fastest of a family first.
    pub(crate) fn ratings(&self) -> Vec<SpeedStatus> {
        let mut ratings = Vec::new();
        for (family, models) in &self.families {
            let mut places: BTreeMap<&String, SpeedStatus> = BTreeMap::new();
            for (key, place) in models.values().flat_map(|model| &model.places) {
                let rating = places.entry(key).or_insert_with(|| SpeedStatus {
                    family: family.clone(),
                    browser: place.browser.clone(),
                    platform: place.platform.clone(),
                    relative_time: 1.0,
                    models: 0,
                    jobs: 0,
                });
                rating.models += 1;
                rating.jobs += place.jobs;
            }
            for (key, rating) in &mut places {
                rating.relative_time = self::rating(models, key);
            }
            let mut of_family: Vec<SpeedStatus> = places.into_values().collect();
            of_family.sort_by(|a, b| a.relative_time.total_cmp(&b.relative_time));
            ratings.extend(of_family);
        }
        ratings
    }

    fn forget(&mut self) {
        while self.families.values().map(BTreeMap::len).sum::<usize>() > MODELS_MAX {
            let models = self.families.iter().flat_map(|(family, models)| models.iter().map(move |one| (family, one)));
            let Some((family, (model, _))) = models.min_by_key(|(_, (_, known))| known.learned) else { return };
            let (family, model) = (family.clone(), model.clone());
            if let Some(models) = self.families.get_mut(&family) {
                models.remove(&model);
                if models.is_empty() {
                    self.families.remove(&family);
                }
            }
        }
    }
}

/// The geometric mean of what a place takes relative to the fastest, over the models that ran in another one, too.
fn rating(models: &BTreeMap<String, Model>, key: &str) -> f64 {
    let logarithms: Vec<f64> = models.values().filter_map(|model| model.ln_ratio(key)).collect();
    (logarithms.iter().sum::<f64>() / logarithms.len().max(1) as f64).exp()
}

impl Model {
    /// `None` where it did not run, or ran nowhere else.
    fn ln_ratio(&self, key: &str) -> Option<f64> {
        if self.places.len() < 2 {
            return None;
        }
        let this = self.places.get(key)?.median_ms()?;
        let fastest = self.places.values().filter_map(Place::median_ms).min_by(f64::total_cmp)?;
        Some((this / fastest).ln())
    }
}

impl Place {
    fn median_ms(&self) -> Option<f64> {
        let mut sorted: Vec<f64> = self.medians_ms.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied()
    }
}

fn place_key(browser: &str, platform: Platform) -> String {
    format!("{browser} {platform}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "these numbers are exact")]

    use super::*;

    fn ran(browser: &str, platform: Platform) -> Ran<'_> {
        Ran { browser, version: "1", platform }
    }

    #[test]
    fn nothing_is_believed_before_something_ran() {
        let speeds = Speeds::default();
        assert_eq!(speeds.relative_time("bert", "chromium", Platform::Wasm), None);
        assert_eq!(speeds.ratings(), []);
    }

    #[test]
    fn places_are_rated_against_the_fastest_for_the_same_model() {
        let mut speeds = Speeds::default();
        // A large and a small model: each place ran both, Firefox takes twice and eight times as long.
        for (model, chromium_ms, firefox_ms) in [("large", 100.0, 200.0), ("small", 1.0, 8.0)] {
            speeds.learn("bert", model, ran("chromium", Platform::Wasm), chromium_ms);
            speeds.learn("bert", model, ran("firefox", Platform::Wasm), firefox_ms);
        }
        assert_eq!(speeds.relative_time("bert", "chromium", Platform::Wasm), Some(1.0));
        let firefox = speeds.relative_time("bert", "firefox", Platform::Wasm).expect("known");
        assert!((firefox - 4.0).abs() < 1e-12, "{firefox}");
        assert_eq!(speeds.relative_time("whisper", "firefox", Platform::Wasm), None, "another family");
        let browsers: Vec<String> = speeds.ratings().into_iter().map(|rating| rating.browser).collect();
        assert_eq!(browsers, ["chromium", "firefox"]);
    }

    #[test]
    fn models_that_ran_in_one_place_only_say_nothing_about_its_speed() {
        let mut speeds = Speeds::default();
        speeds.learn("bert", "shared", ran("chromium", Platform::Wasm), 1.0);
        speeds.learn("bert", "shared", ran("firefox", Platform::Wasm), 4.0);
        for model in ["a", "b", "c"] {
            speeds.learn("bert", model, ran("firefox", Platform::Wasm), 1.0);
        }
        speeds.learn("gpt", "a", ran("firefox", Platform::Wasm), 1.0);
        let firefox = |family| speeds.relative_time(family, "firefox", Platform::Wasm);
        assert_eq!(firefox("bert").map(|times| (times * 1e9).round() / 1e9), Some(4.0));
        assert_eq!((firefox("gpt"), speeds.relative_time("gpt", "chromium", Platform::Wasm)), (Some(1.0), None));
    }

    #[test]
    fn one_slow_job_does_not_decide_and_a_new_version_starts_anew() {
        let mut speeds = Speeds::default();
        for ms in [10.0, 10.0, 500.0] {
            speeds.learn("a", "m", ran("chromium", Platform::Wasm), ms);
        }
        speeds.learn("a", "m", ran("firefox", Platform::Wasm), 20.0);
        assert_eq!(speeds.relative_time("a", "chromium", Platform::Wasm), Some(1.0));
        speeds.learn("a", "m", Ran { version: "2", ..ran("chromium", Platform::Wasm) }, 40.0);
        assert_eq!(speeds.relative_time("a", "chromium", Platform::Wasm), Some(2.0));
    }

    #[test]
    fn what_is_learned_outlives_the_pool_and_is_bounded() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let mut speeds = Speeds::default();
        for model in 0..MODELS_MAX + 7 {
            speeds.learn("a", &model.to_string(), ran("chromium", Platform::Wasm), 1.0);
        }
        speeds.write(directory.path()).expect("writable");
        let read = Speeds::read(directory.path());
        assert_eq!(read.families["a"].len(), MODELS_MAX);
        assert!(!read.families["a"].contains_key("0"), "the oldest is gone");
        assert_eq!(read.ratings(), speeds.ratings());
    }
}
