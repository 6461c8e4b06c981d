//! Predictors of several metrics, learned from the same tables and asked about models and devices by name.

use std::collections::BTreeMap;

use features::{DeviceTable, MeasuredRow, OperatorTable, PublishedDevice, TrainingMemory};
use messages::Metric;
use serde::{Deserialize, Serialize};

use super::{
    data::{TableData, learned},
    domain::{Domain, Outside},
    estimator::{Novelty, TablePrediction, TablePredictor},
    known::Known,
    learner::TableSettings,
    names::Names,
};
use crate::{Evaluation, PredictorError};

/// Two-sided 90 % quantile of the normal distribution.
const NORMAL_90: f64 = 1.645;

/// Narrowest half-width of an interval, as a log: repeated measurements of one configuration differ by more than 0.5 %.
const HALF_WIDTH_MIN: f64 = 0.005;

/// The metrics that are learned; throughput follows from latency.
const LEARNED: [Metric; 3] = [Metric::LatencyMs, Metric::MemoryPeakMb, Metric::PowerW];

/// Predictors of several metrics that learned from the same tables.
#[derive(Debug)]
pub struct TablePredictors {
    pub(crate) context: Context,
    /// One per learned metric.
    pub(crate) trained: BTreeMap<Metric, Trained>,
    pub(crate) evaluation: Vec<Evaluation>,
    pub(crate) settings: TableSettings,
    pub(crate) training_rows: u32,
}

/// What the tables say of names, whatever the metric.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Context {
    names: Names,
    known: Known,
    domain: Domain,
    /// Whether physics of memory knows each graph's peak of activations.
    has_activation_peaks: bool,
}

/// What was learned of one metric.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Trained {
    predictor: TablePredictor,
    /// Standard deviation of the log ratios that were learned.
    deviation: f64,
}

/// Configurations to predict, with their features.
#[derive(Debug)]
pub struct Questions {
    data: TableData,
    devices: DeviceTable,
    training_memory: Vec<Option<TrainingMemory>>,
    outside: Vec<Outside>,
}

/// One metric's predicted value with its interval, in the metric's unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TableAnswer {
    /// Index of the question.
    pub question: usize,
    /// Which metric.
    pub metric: Metric,
    /// The most likely value.
    pub value: f64,
    /// Lower end of the 90 % interval.
    pub lower: f64,
    /// Upper end of the 90 % interval.
    pub upper: f64,
    /// Share of similar past predictions that fell within ±20 % of the truth, 0 to 1; less outside the known domain.
    pub confidence: f64,
    /// What of the question was never measured.
    pub novelty: Novelty,
}

/// Whether a configuration fits into its device's memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MemoryFit {
    /// Predicted peak where memory was trained, else that of physics, in MB.
    pub peak_mb: f64,
    /// What it needs at least: the lower end of the interval where memory was trained, else weights and what one
    /// operator reads and writes at once.
    pub least_mb: f64,
    /// What the device has, in MB, if that is known.
    pub device_mb: Option<f64>,
}

impl MemoryFit {
    /// Whether it certainly does not fit.
    pub fn is_too_large(&self) -> bool {
        self.device_mb.is_some_and(|device_mb| self.least_mb > device_mb)
    }
}

impl Questions {
    /// The configurations.
    pub fn rows(&self) -> &[MeasuredRow] {
        self.data.rows()
    }

    /// What lies outside the known domain, for people; nothing if all is inside.
    pub fn outside(&self, question: usize) -> &[String] {
        &self.outside[question].reasons
    }

    /// The device that a question is about, as published, if that is known.
    pub fn device(&self, question: usize) -> Option<&PublishedDevice> {
        self.devices.get(&self.data.row(question).device)
    }

    /// What training would hold in memory, by physics; `None` where the model's operators are unknown.
    pub fn training_memory(&self, question: usize) -> Option<TrainingMemory> {
        self.training_memory[question]
    }
}

impl TablePredictors {
    /// Trains each metric of `metrics`; throughput is trained as latency. `progress` is told of every step.
    ///
    /// # Errors
    ///
    /// [`PredictorError::NeverMeasured`] if no row has a metric, [`PredictorError::TooFewRows`] if fewer than
    /// [`crate::ROWS_NEEDED`] have one, [`PredictorError::Features`] and [`PredictorError::Booster`].
    pub fn train(
        rows: Vec<MeasuredRow>,
        devices: &DeviceTable,
        operators: &OperatorTable,
        metrics: &[Metric],
        settings: &TableSettings,
        progress: impl Fn(&str),
    ) -> Result<Self, PredictorError> {
        let mut operators = operators.clone();
        let has_activation_peaks = has_activation_peaks(&rows, &operators);
        if !has_activation_peaks {
            forget_activation_peaks(&mut operators);
        }
        let known = Known::of(&rows, devices, &operators);
        let names = Names::of(&rows);
        let training_rows = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        let wanted = LEARNED.into_iter().filter(|metric| metrics.iter().any(|asked| learned(*asked) == *metric));
        let mut data = TableData::described(rows, devices, &operators, &names, false)?;
        let domain = Domain::of(&data);
        let mut trained = BTreeMap::new();
        let mut evaluation = Vec::new();
        for metric in wanted {
            data = data.about(metric)?;
            let measured = data.measured();
            progress(&format!("{metric}: {} rows to train on", measured.len()));
            let novelties = [Novelty::Configuration, Novelty::Model, Novelty::Device];
            let predictor = TablePredictor::train(&data, &measured, &novelties, settings)?;
            evaluation.extend_from_slice(predictor.evaluation());
            trained.insert(metric, Trained { predictor, deviation: deviation(&data.targets_of(&measured)) });
        }
        evaluation.sort_by_key(|evaluation| evaluation.metric);
        let context = Context { names, known, domain, has_activation_peaks };
        Ok(Self { context, trained, evaluation, settings: *settings, training_rows })
    }

    /// Those of [`features::TABLE_METRICS`] that enough rows have.
    pub fn trainable(rows: &[MeasuredRow]) -> Vec<Metric> {
        let enough =
            |metric: &Metric| rows.iter().filter(|row| row.measured(*metric).is_some()).count() >= crate::ROWS_NEEDED;
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

    /// Names of the devices that something was measured on, in their order.
    pub fn devices(&self) -> impl Iterator<Item = &str> {
        self.context.known.devices()
    }

    /// Errors on what was held out in training, by metric and by what was new.
    pub fn evaluation(&self) -> &[Evaluation] {
        &self.evaluation
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
        let Context { names, known, domain, has_activation_peaks } = &self.context;
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

    /// Predicts one metric of all questions, in their order.
    ///
    /// # Errors
    ///
    /// [`PredictorError::NeverTrained`] if the metric was not, [`PredictorError::Booster`] if a predictor fails.
    pub fn predict(&self, questions: &Questions, metric: Metric) -> Result<Vec<TableAnswer>, PredictorError> {
        let never = || PredictorError::NeverTrained { metric, trained: self.metrics() };
        let trained = self.trained.get(&learned(metric)).ok_or_else(never)?;
        let rows: Vec<usize> = (0..questions.rows().len()).collect();
        let predictions = trained.predictor.predict(&questions.data, &rows)?;
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
            let fit = |answer: &TableAnswer| MemoryFit {
                peak_mb: answer.value,
                least_mb: answer.lower,
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
    /// An answer in the metric's unit, its interval widened where the question is outside the known domain.
    fn answer(&self, questions: &Questions, metric: Metric, prediction: &TablePrediction) -> TableAnswer {
        let TablePrediction { row, log, half_width, confidence, novelty } = *prediction;
        let drift = NORMAL_90 * self.deviation * questions.outside[row].steps;
        let half_width = half_width.max(HALF_WIDTH_MIN);
        let widened = half_width.hypot(drift);
        let value = |log| questions.data.value_of(metric, row, log);
        // Throughput falls as latency grows.
        let (one, other) = (value(log - widened), value(log + widened));
        TableAnswer {
            question: row,
            metric,
            value: value(log),
            lower: one.min(other),
            upper: one.max(other),
            confidence: confidence * half_width / widened,
            novelty,
        }
    }
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

fn forget_activation_peaks(operators: &mut OperatorTable) {
    operators.values_mut().flatten().for_each(|entry| entry.activation_peak_elements = None);
}
