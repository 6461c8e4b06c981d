//! Predictors of several metrics, learned from the same measurements and asked about models and devices by name.

use std::collections::{BTreeMap, HashSet};

use features::{DeviceTable, MeasuredRow, OperatorTable, OwnTables, Subject, TrainingMemory};
use messages::Metric;
use serde::{Deserialize, Serialize};

use super::{
    amendment::Amendment,
    data::{TableData, learned},
    domain::Domain,
    estimator::{ROWS_NEEDED, TablePrediction, TablePredictor},
    few_shot::hardly_measured,
    known::Known,
    learner::TrainSettings,
    names::{Names, configurations},
    novelty::Novelty,
    questions::{Answer, MemoryFit, Questions},
    reliability::quantile,
    sample::Sample,
};
use crate::{
    Evaluation, FewShotDevice, Predicted, PredictedWithSpread, PredictorError,
    calibration::{NORMAL_90, median},
};

/// Narrowest half-width of an interval, as a log, where too few were repeated to know better: repeated measurements of
/// one configuration differ by more than 0.5 %.
const HALF_WIDTH_MIN: f64 = 0.005;
/// Repeated measurements that it takes to know better.
const REPEATS_NEEDED: usize = 20;

/// The metrics that are learned; throughput follows from latency.
const LEARNED: [Metric; 3] = [Metric::LatencyMs, Metric::MemoryPeakMb, Metric::PowerW];

/// Predictors of several metrics that learned from the same tables.
#[derive(Debug)]
pub struct Predictors {
    pub(crate) context: Context,
    /// One per learned metric.
    pub(crate) trained: BTreeMap<Metric, Trained>,
    pub(crate) evaluation: Vec<Evaluation>,
    pub(crate) few_shots: Vec<FewShotDevice>,
    pub(crate) settings: TrainSettings,
    pub(crate) training_rows: u32,
}

/// What the tables say of names, whatever the metric.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Context {
    pub(super) names: Names,
    pub(crate) known: Known,
    pub(super) domain: Domain,
    /// Some of the rows that were learned from.
    pub(super) sample: Sample,
    /// Whether physics of memory knows each graph's peak of activations.
    pub(super) has_activation_peaks: bool,
}

/// What was learned of one metric.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Trained {
    pub(super) predictor: TablePredictor,
    /// What was learned since.
    pub(super) amendments: Vec<Amendment>,
    /// Standard deviation of the log ratios that were learned.
    deviation: f64,
    /// Narrowest half-width of an interval, as a log: what repeated measurements of one configuration differ by.
    half_width_min: f64,
}

impl Predictors {
    /// Trains each metric of `metrics`; throughput is trained as latency. `progress` is told of every step.
    ///
    /// # Errors
    ///
    /// [`PredictorError::NeverMeasured`] if no row has a metric, [`PredictorError::TooFewRows`] if fewer than
    /// [`ROWS_NEEDED`] configurations have one, [`PredictorError::Features`] and [`PredictorError::Booster`].
    pub fn train(
        rows: Vec<MeasuredRow>,
        devices: &DeviceTable,
        operators: &OperatorTable,
        metrics: &[Metric],
        settings: &TrainSettings,
        progress: impl Fn(&str),
    ) -> Result<Self, PredictorError> {
        let mut operators = operators.clone();
        let has_activation_peaks = has_activation_peaks(&rows, &operators);
        if !has_activation_peaks {
            forget_activation_peaks(&mut operators);
        }
        let names = Names::of(&rows);
        let training_rows = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        let wanted = LEARNED.into_iter().filter(|metric| metrics.iter().any(|asked| learned(*asked) == *metric));
        let mut data = TableData::described(rows, devices, &operators, &names, false)?;
        let all_rows: Vec<usize> = (0..data.rows().len()).collect();
        let few: HashSet<usize> = hardly_measured(&data, &all_rows, settings.few_shot_below).into_keys().collect();
        let domain = Domain::of(&data, few.clone());
        let known = Known::of(data.rows(), devices, &operators, |device| few.contains(&names.device(device)));
        let mut trained = BTreeMap::new();
        let (mut evaluation, mut few_shots) = (Vec::new(), Vec::new());
        for metric in wanted {
            data = data.about(metric)?;
            let measured = data.measured();
            progress(&format!("{metric}: {} rows to train on", measured.len()));
            let predictor = TablePredictor::train(&data, &measured, &Novelty::ALL, settings)?;
            few_shots.extend(predictor.shots().map(|(device, shots)| FewShotDevice {
                metric,
                device: names.name_of_device(device).to_owned(),
                shots: u32::try_from(shots).unwrap_or(u32::MAX),
            }));
            evaluation.extend_from_slice(predictor.evaluation());
            let deviation = deviation(&data.targets_of(&measured));
            let half_width_min = repeats_differ_by(&data, &measured).max(HALF_WIDTH_MIN);
            trained.insert(metric, Trained { predictor, amendments: Vec::new(), deviation, half_width_min });
        }
        evaluation.sort_by_key(|evaluation| evaluation.metric);
        let sample = Sample::of(data.rows(), settings.seed);
        let context = Context { names, known, domain, sample, has_activation_peaks };
        Ok(Self { context, trained, evaluation, few_shots, settings: *settings, training_rows })
    }

    /// Those of [`features::TABLE_METRICS`] that enough configurations have.
    pub fn trainable(rows: &[MeasuredRow]) -> Vec<Metric> {
        let configurations = configurations(rows).of_row;
        let enough = |metric: &Metric| {
            let measured = rows.iter().zip(&configurations).filter(|(row, _)| row.measured(*metric).is_some());
            measured.map(|(_, configuration)| configuration).collect::<HashSet<_>>().len() >= ROWS_NEEDED
        };
        features::TABLE_METRICS.into_iter().filter(enough).collect()
    }

    /// The metrics that can be predicted.
    pub fn metrics(&self) -> Vec<Metric> {
        features::TABLE_METRICS.into_iter().filter(|metric| self.trained.contains_key(&learned(*metric))).collect()
    }

    /// Names of the models that were measured, in their order.
    pub fn models(&self) -> impl Iterator<Item = &str> {
        self.context.known.models()
    }

    /// Whether operators are known of a model at this many tokens per item.
    pub fn knows_sequence_length(&self, model: &str, tokens: f64) -> bool {
        self.context.known.sequence_lengths(model).any(|known| known.to_bits() == tokens.to_bits())
    }

    /// Names of the devices that something was measured on, in their order.
    pub fn devices(&self) -> impl Iterator<Item = &str> {
        self.context.known.devices()
    }

    /// The platforms that something was measured on, in the order of their names.
    pub fn platforms(&self) -> Vec<&str> {
        self.context.known.platforms().into_iter().collect()
    }

    /// Devices that were measured on a platform, each with what compiled there: on a web platform, the browser.
    pub fn measured_on(&self, platform: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.context.known.measured_on(platform).into_iter()
    }

    /// Errors on what was held out in training, by metric and by what was new.
    pub fn evaluation(&self) -> &[Evaluation] {
        &self.evaluation
    }

    /// The devices of which little was measured, by metric: they are predicted as new ones, corrected.
    pub fn few_shots(&self) -> &[FewShotDevice] {
        &self.few_shots
    }

    /// How many measurements of a device correct what is predicted of it as a new one, if it is one of those.
    pub fn shots(&self, metric: Metric, device: &str) -> Option<u32> {
        let is_asked = |few: &&FewShotDevice| few.metric == learned(metric) && few.device == device;
        self.few_shots.iter().find(is_asked).map(|few| few.shots)
    }

    /// Rows that were trained on.
    pub const fn training_rows(&self) -> u32 {
        self.training_rows
    }

    /// Makes questions of rows, whose metrics are not looked at.
    ///
    /// What a row leaves open is filled in from what was measured most often of its model and on its device, or on
    /// devices of its platform. `devices` and `operators` say what the tables trained on do not know, or know otherwise.
    ///
    /// # Errors
    ///
    /// [`PredictorError::Features`] if the features cannot be computed.
    pub fn ask(
        &self,
        mut rows: Vec<MeasuredRow>,
        mut devices: DeviceTable,
        mut operators: OperatorTable,
    ) -> Result<Questions, PredictorError> {
        let Context { names, known, domain, has_activation_peaks, .. } = &self.context;
        for row in &mut rows {
            if row.platform.is_none() {
                row.platform = devices.get(&row.device).and_then(|device| device.platform.clone());
            }
            known.complete(row);
        }
        if !has_activation_peaks {
            forget_activation_peaks(&mut operators);
        }
        known.supplement(&rows, &mut devices, &mut operators);
        let training_memory = TrainingMemory::of_rows(&rows, &devices, &operators);
        let data = TableData::questions(rows, &devices, &operators, names)?;
        let mut outside = domain.outside(&data);
        for (row, outside) in data.rows().iter().zip(&mut outside) {
            for (kind, word) in known.strange_words(row) {
                outside.add(1.0, format!("{kind} {word}: it was never measured there"));
            }
        }
        Ok(Questions { data, devices, training_memory, outside })
    }

    /// Predicts every trained metric of our own configurations, in their order.
    ///
    /// # Errors
    ///
    /// As [`Self::ask`] and [`Self::predict`].
    pub fn predict_subjects(&self, subjects: &[Subject]) -> Result<Vec<Predicted>, PredictorError> {
        let OwnTables { rows, devices, mut operators } = OwnTables::asked(subjects);
        self.context.known.prefer_known_sizes(&mut operators);
        let questions = self.ask(rows, devices, operators)?;
        let mut predicted: Vec<Predicted> = (0..subjects.len()).map(|_| Predicted::default()).collect();
        for metric in self.metrics() {
            for answer in self.predict(&questions, metric)? {
                predicted[answer.question].metrics.push(PredictedWithSpread::from(answer));
            }
        }
        Ok(predicted)
    }

    /// Predicts one metric of all questions, in their order.
    ///
    /// # Errors
    ///
    /// [`PredictorError::NeverTrained`] if the metric was not, [`PredictorError::Booster`] if a predictor fails.
    pub fn predict(&self, questions: &Questions, metric: Metric) -> Result<Vec<Answer>, PredictorError> {
        let never = || PredictorError::NeverTrained { metric, trained: self.metrics() };
        let trained = self.trained.get(&learned(metric)).ok_or_else(never)?;
        let rows: Vec<usize> = (0..questions.rows().len()).collect();
        let predictions = trained.predict(&questions.data, &rows)?;
        Ok(predictions.iter().map(|prediction| trained.answer(questions, metric, prediction)).collect())
    }

    /// Whether each question fits into its device's memory.
    ///
    /// # Errors
    ///
    /// As [`Self::predict`].
    pub fn memory_fits(&self, questions: &Questions) -> Result<Vec<MemoryFit>, PredictorError> {
        let device_mb = |question| questions.device(question).and_then(|device| device.memory_gb).map(|gb| gb * 1e3);
        if self.trained.contains_key(&Metric::MemoryPeakMb) {
            let answers = self.predict(questions, Metric::MemoryPeakMb)?;
            let fit = |answer: &Answer| MemoryFit {
                peak_mb: answer.value,
                // Far outside the known domain the interval knows less than the graph does.
                least_mb: answer.lower.max(questions.data.memory_least_mb(answer.question)),
                device_mb: device_mb(answer.question),
            };
            return Ok(answers.iter().map(fit).collect());
        }
        let fit = |question| {
            let peak_mb = questions.data.base(Metric::MemoryPeakMb, question);
            let least_mb = questions.data.memory_least_mb(question);
            MemoryFit { peak_mb, least_mb, device_mb: device_mb(question) }
        };
        Ok((0..questions.rows().len()).map(fit).collect())
    }

    /// What of a question was never measured: some of `device`, `model` and `family`.
    pub fn what_is_new(&self, questions: &Questions, question: usize) -> Vec<&'static str> {
        let row = &questions.rows()[question];
        let known = &self.context.known;
        let family = row.family.as_deref().unwrap_or(&row.model);
        let families = || known.models().map(|model| known.family(model).unwrap_or(model));
        [
            ("device", known.devices().any(|device| device == row.device)),
            ("model", known.models().any(|model| model == row.model)),
            ("family", families().any(|other| other == family)),
        ]
        .into_iter()
        .filter_map(|(what, is_known)| (!is_known).then_some(what))
        .collect()
    }
}

impl Trained {
    /// Log predictions of rows, in their order.
    pub(super) fn predict(&self, data: &TableData, rows: &[usize]) -> Result<Vec<TablePrediction>, PredictorError> {
        let mut predictions = self.predictor.predict(data, rows)?;
        if !self.amendments.is_empty() {
            let amended = self.amended(data, rows)?;
            predictions.iter_mut().zip(amended).for_each(|(prediction, log)| prediction.log += log);
        }
        Ok(predictions)
    }

    /// An answer in the metric's unit, its interval widened where the question is outside the known domain.
    fn answer(&self, questions: &Questions, metric: Metric, prediction: &TablePrediction) -> Answer {
        let TablePrediction { row, log, half_width, confidence, spread, novelty, groups } = *prediction;
        let drift = NORMAL_90 * self.deviation * questions.outside[row].steps;
        let half_width = half_width.max(self.half_width_min);
        let widened = half_width.hypot(drift);
        let value = |log| questions.data.value_of(metric, row, log);
        // Throughput falls as latency grows.
        let (one, other) = (value(log - widened), value(log + widened));
        Answer {
            question: row,
            metric,
            value: value(log),
            lower: one.min(other),
            upper: one.max(other),
            confidence: confidence * half_width / widened,
            spread_log: spread,
            novelty,
            groups,
        }
    }
}

/// The 90 % quantile of how far repeated measurements lie from the middle of their configuration, as a log; 0 if too few
/// configurations were repeated.
fn repeats_differ_by(data: &TableData, measured: &[usize]) -> f64 {
    let mut repeats: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for row in measured {
        repeats.entry(data.configurations.of_row[*row]).or_default().push(data.target(*row));
    }
    let from_the_middle = |logs: Vec<f64>| {
        let middle = median(logs.iter().copied()).unwrap_or_default();
        logs.into_iter().map(move |log| (log - middle).abs())
    };
    let repeated = repeats.into_values().filter(|logs| logs.len() > 1);
    let apart: Vec<f64> = repeated.flat_map(from_the_middle).collect();
    if apart.len() < REPEATS_NEEDED { 0.0 } else { quantile(apart) }
}

fn deviation(logs: &[f64]) -> f64 {
    let count = logs.len().max(1) as f64;
    let mean = logs.iter().sum::<f64>() / count;
    (logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / count).sqrt()
}

/// Whether the peak of activations is known of every model that has operators: physics must be the same for all.
fn has_activation_peaks(rows: &[MeasuredRow], operators: &OperatorTable) -> bool {
    let mut entries = rows.iter().filter_map(|row| operators.get(&row.model)).flatten().peekable();
    entries.peek().is_some() && entries.all(|entry| entry.activation_peak_elements.is_some())
}

pub(super) fn forget_activation_peaks(operators: &mut OperatorTable) {
    operators.values_mut().flatten().for_each(|entry| entry.activation_peak_elements = None);
}

#[cfg(test)]
mod tests;
