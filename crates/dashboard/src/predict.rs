//! Predictions of the current release, asked by the names of models and devices that it learned from.

use std::{
    num::NonZero,
    path::Path,
    sync::{Arc, Mutex},
};

use axum::extract::State;
use features::{DeviceTable, MeasuredRow, OperatorTable};
use messages::ReleaseId;
use predictors::{PredictorError, Release, Releases};
use serde::{Deserialize, Serialize};

use crate::{
    ApiError,
    api::{Answer, Answered, Parameters, checked},
    state::Shared,
};

/// The current release, loaded again as soon as another one is it: by training, by a command or by going back. The server
/// loads it on news of a release; a request looks as well, since a command tells nobody.
#[derive(Debug, Clone)]
pub struct Forecaster {
    releases: Releases,
    loaded: Arc<Mutex<Option<Arc<Release>>>>,
}

impl Forecaster {
    /// Looks for releases in a directory, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// [`PredictorError::File`] if it cannot be made or is no directory.
    pub fn open(directory: &Path) -> Result<Self, PredictorError> {
        Ok(Self { releases: Releases::open(directory)?, loaded: Arc::default() })
    }

    /// Loads the current release unless it is the one that was tried last; gives which one it is.
    pub(crate) fn load_ahead(&self, tried: Option<ReleaseId>) -> Option<ReleaseId> {
        let Ok(current) = self.releases.current_id() else { return tried };
        if current != tried
            && let Err(error) = self.current()
        {
            tracing::warn!(%error, "the current release cannot be loaded; requests for predictions say why");
        }
        current
    }

    fn current(&self) -> Result<Option<Arc<Release>>, PredictorError> {
        let current = self.releases.current_id()?;
        let mut loaded = self.loaded.lock().expect("nobody panics with it");
        if loaded.as_ref().map(|release| &release.manifest.release_id) != current.as_ref() {
            *loaded = current.map(|release| self.releases.load(&release)).transpose()?.map(Arc::new);
        }
        Ok(loaded.clone())
    }
}

#[cfg(test)]
impl Forecaster {
    /// Whether this release is loaded; loads nothing.
    pub(crate) fn has_loaded(&self, release: &ReleaseId) -> bool {
        let loaded = self.loaded.lock().expect("nobody panics with it");
        loaded.as_ref().is_some_and(|loaded| loaded.manifest.release_id == *release)
    }
}

/// What is asked; what is left open is as it was measured most often.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Question {
    model: String,
    /// All that were measured on the platform, if it is left out.
    device: Option<String>,
    platform: Option<String>,
    browser: Option<String>,
    precision: Option<String>,
    batch_size: Option<NonZero<u32>>,
    sequence_length: Option<NonZero<u32>>,
    image_size: Option<NonZero<u32>>,
    threads: Option<NonZero<u32>>,
}

/// One predicted metric of one configuration.
#[derive(Debug, Serialize)]
pub(crate) struct PredictionRow {
    release: String,
    model: String,
    device: String,
    platform: Option<String>,
    browser: Option<String>,
    precision: Option<String>,
    batch_size: f64,
    metric: String,
    /// Null if the configuration does not fit into the device's memory.
    predicted: Option<f64>,
    lower: Option<f64>,
    upper: Option<f64>,
    confidence: f64,
    /// `configuration`, `model`, `few-shot` or `device`.
    novelty: &'static str,
    /// What lies outside of what was measured, for people.
    outside: Vec<String>,
}

pub(crate) async fn predict(
    State(shared): State<Shared>,
    question: Parameters<Question>,
) -> Answered<Vec<PredictionRow>> {
    let question = checked(question)?;
    let forecaster = shared.state.forecaster.clone();
    shared.blocking(move || answer(&forecaster, &question)).await?.map(Answer)
}

fn answer(forecaster: &Forecaster, question: &Question) -> Result<Vec<PredictionRow>, ApiError> {
    let release = forecaster.current()?.ok_or(ApiError::NoRelease)?;
    let predictors = &release.predictors;
    if !predictors.models().any(|model| model == question.model) {
        return Err(ApiError::NotLearned { what: "model", name: question.model.clone() });
    }
    let rows: Vec<MeasuredRow> = devices(&release, question)?.iter().map(|device| row(question, device)).collect();
    let questions = predictors.ask(rows, DeviceTable::new(), OperatorTable::new())?;
    let fits = predictors.memory_fits(&questions)?;
    let mut answers = Vec::new();
    for metric in predictors.metrics() {
        for answer in predictors.predict(&questions, metric)? {
            let asked = &questions.rows()[answer.question];
            let fitting = |value| (!fits[answer.question].is_too_large()).then_some(value);
            answers.push(PredictionRow {
                release: release.manifest.release_id.to_string(),
                model: asked.model.clone(),
                device: asked.device.clone(),
                platform: asked.platform.clone(),
                browser: asked.compiler.clone(),
                precision: asked.precision.clone(),
                batch_size: asked.batch_size,
                metric: metric.to_string(),
                predicted: fitting(answer.value),
                lower: fitting(answer.lower),
                upper: fitting(answer.upper),
                confidence: answer.confidence,
                novelty: answer.novelty.as_str(),
                outside: questions.outside(answer.question).to_vec(),
            });
        }
    }
    Ok(answers)
}

/// The devices that are asked about.
fn devices(release: &Release, question: &Question) -> Result<Vec<String>, ApiError> {
    let mut devices: Vec<&str> = match &question.platform {
        Some(platform) => release.predictors.measured_on(platform).map(|(device, _)| device).collect(),
        None => release.predictors.devices().collect(),
    };
    devices.dedup();
    if devices.is_empty() {
        return Err(ApiError::NotLearned { what: "platform", name: question.platform.clone().unwrap_or_default() });
    }
    if let Some(wanted) = &question.device {
        devices.retain(|device| device == wanted);
        if devices.is_empty() {
            return Err(ApiError::NotLearned { what: "device", name: wanted.clone() });
        }
    }
    Ok(devices.into_iter().map(str::to_owned).collect())
}

fn count(number: NonZero<u32>) -> f64 {
    f64::from(number.get())
}

fn row(question: &Question, device: &str) -> MeasuredRow {
    MeasuredRow {
        model: question.model.clone(),
        device: device.to_owned(),
        platform: question.platform.clone(),
        compiler: question.browser.clone(),
        precision: question.precision.clone(),
        batch_size: question.batch_size.map_or(1.0, count),
        sequence_length: question.sequence_length.map(count),
        image_size: question.image_size.map(count),
        threads: question.threads.map(count),
        ..MeasuredRow::default()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use features::OwnTables;
    use messages::{Metric, Timestamp};
    use predictors::{KnownJobs, Learner, Predictors, Provenance, Source, TrainSettings};
    use testkit::builders;

    use super::*;

    /// Publishes a release of a machine that is `slower` times as slow as usual.
    pub(crate) fn publish(releases: &Releases, slower: f64) -> ReleaseId {
        let OwnTables { rows, devices, operators } = OwnTables::of(&builders::batch_grid(1..=8, slower), |_| None);
        let settings = TrainSettings {
            learner: Learner::GradientBoosting,
            rounds: 30,
            ensemble: 2,
            folds: 3,
            few_shot_below: 0,
            threads: 1,
            seed: 1,
        };
        let predictors = Predictors::train(rows, &devices, &operators, &[Metric::LatencyMs], &settings, |_| ());
        let provenance = Provenance { source: Source::Jobs, jobs: KnownJobs::default(), update: None };
        let published = releases.publish(&predictors.expect("trained"), provenance, Timestamp::now(), "0.1.0");
        published.expect("published").release_id
    }

    fn question() -> Question {
        Question {
            model: builders::configuration().model.name,
            device: None,
            platform: Some("cpu".to_owned()),
            browser: None,
            precision: None,
            batch_size: NonZero::new(4),
            sequence_length: None,
            image_size: None,
            threads: NonZero::new(2),
        }
    }

    #[test]
    fn the_answer_is_that_of_the_release_that_is_current_now() {
        let directory = tempfile::tempdir().expect("a directory");
        let forecaster = Forecaster::open(directory.path()).expect("opened");
        assert!(matches!(answer(&forecaster, &question()), Err(ApiError::NoRelease)));
        let ask = || {
            let rows = answer(&forecaster, &question()).expect("an answer");
            let [latency, throughput] = &rows[..] else { panic!("{rows:?}") };
            assert_eq!(
                (latency.metric.as_str(), throughput.metric.as_str()),
                ("latency_ms", "throughput_items_per_second")
            );
            assert_eq!((latency.device.as_str(), latency.outside.len()), (builders::device().name.as_str(), 0));
            latency.predicted.expect("it fits")
        };
        publish(&forecaster.releases, 1.0);
        let usual = ask();
        publish(&forecaster.releases, 3.0);
        let slower = ask();
        assert!((2.5..3.5).contains(&(slower / usual)), "{slower} after {usual}");
        forecaster.releases.rollback().expect("there is one before");
        assert_eq!(ask().to_bits(), usual.to_bits());
    }

    #[test]
    fn what_nobody_learned_from_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let forecaster = Forecaster::open(directory.path()).expect("opened");
        publish(&forecaster.releases, 1.0);
        let check = |question: Question, expected: &str| {
            let error = answer(&forecaster, &question).expect_err("unknown");
            assert!(error.to_string().ends_with(expected), "{error}");
        };
        check(Question { model: "x".to_owned(), ..question() }, "did not learn from a model `x`");
        check(Question { device: Some("y".to_owned()), ..question() }, "did not learn from a device `y`");
        check(Question { platform: Some("cuda".to_owned()), ..question() }, "did not learn from a platform `cuda`");
    }
}
