//! Predictors of one metric for measurement tables, one for each way in which a row can be new.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    num::NonZero,
    thread,
};

use features::Role;
use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::{
    data::TableData,
    efficiency::Efficiency,
    few_shot::{FewShots, hardly_measured},
    held_out::{HeldOut, evaluations},
    laboratory::Laboratory,
    learned::{Learned, learn, learn_configuration},
    learner::TrainSettings,
    new_device::NewDevice,
    novelty::Novelty,
    residuals::{Residuals, fit_efficiency, with_efficiency},
};
use crate::{Evaluation, Grouping, PredictorError, boosters::in_parallel};

/// Configurations without which nothing is trained: fewer give no 90 % quantile of errors out of fold.
pub const ROWS_NEEDED: usize = 20;
/// Rows that are predicted together: enough to be worth a thread, few enough for their features to stay in its cache.
const ROWS_TOGETHER: usize = 512;

/// What is predicted of one row, as logs of the ratio to physics.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TablePrediction {
    /// The row.
    pub row: usize,
    /// ln(predicted value / base).
    pub log: f64,
    /// Half-width of the 90 % interval around it.
    pub half_width: f64,
    /// Share of similar past predictions that fell within ±20 % of the truth, 0 to 1.
    pub confidence: f64,
    /// How much the members of the ensemble disagree: the standard deviation of their logs.
    pub spread: f64,
    /// What of the row was never measured.
    pub novelty: Novelty,
    /// How many that were as new the interval rests on: configurations, families or devices.
    pub groups: usize,
}

/// Predictors of one metric, trained on some rows of a table, to be asked about other rows of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct TablePredictor {
    models: HashSet<usize>,
    devices: HashSet<usize>,
    efficiency: Efficiency,
    pub(crate) residuals: Option<Residuals>,
    new_configuration: Option<Learned>,
    new_model: Option<Learned>,
    pub(crate) new_device: Option<NewDevice>,
    few_shots: Option<FewShots>,
    /// Known where it was trained; a release keeps it in its manifest.
    #[serde(skip)]
    evaluation: Vec<Evaluation>,
}

impl TablePredictor {
    /// Trains on `training` what is needed to predict rows that are new in the ways of `novelties`.
    ///
    /// # Errors
    ///
    /// [`PredictorError::TooFewRows`] below [`ROWS_NEEDED`] configurations, [`PredictorError::Booster`] if XGBoost
    /// fails.
    pub fn train(
        data: &TableData,
        training: &[usize],
        novelties: &[Novelty],
        settings: &TrainSettings,
    ) -> Result<Self, PredictorError> {
        let configurations: HashSet<usize> = training.iter().map(|row| data.configurations.of_row[*row]).collect();
        if configurations.len() < ROWS_NEEDED {
            return Err(PredictorError::TooFewRows { found: configurations.len(), needed: ROWS_NEEDED });
        }
        let few = hardly_measured(data, training, settings.few_shot_below);
        let is_base = |row: &usize| !few.contains_key(&data.devices.of_row[*row]);
        let base: Vec<usize> = training.iter().copied().filter(is_base).collect();
        let mut predictor = Self::train_base(data, &base, novelties, settings)?;
        if novelties.contains(&Novelty::FewShot) && !few.is_empty() {
            predictor.learn_few(data, &base, &few, settings)?;
        }
        Ok(predictor)
    }

    /// Trains on rows of devices that enough was measured of.
    fn train_base(
        data: &TableData,
        training: &[usize],
        novelties: &[Novelty],
        settings: &TrainSettings,
    ) -> Result<Self, PredictorError> {
        let efficiency = fit_efficiency(data, training);
        let features = with_efficiency(data, training, &efficiency, None);
        let mut predictor = Self {
            models: training.iter().map(|row| data.models.of_row[*row]).collect(),
            devices: training.iter().map(|row| data.devices.of_row[*row]).collect(),
            efficiency,
            residuals: None,
            new_configuration: None,
            new_model: None,
            new_device: None,
            few_shots: None,
            evaluation: Vec::new(),
        };
        if novelties.contains(&Novelty::Configuration) {
            let residuals = Residuals::fit(data, training, &features, settings)?;
            let (learned, held) = learn_configuration(data, training, &features, &residuals, settings)?;
            predictor.evaluation.extend(held.evaluations(data, Grouping::Configuration));
            predictor.new_configuration = Some(learned);
            predictor.residuals = Some(residuals);
        }
        if novelties.contains(&Novelty::Model) {
            let families: Vec<usize> = training.iter().map(|row| data.families.of_row[*row]).collect();
            let start = vec![0.0; training.len()];
            let (learned, held) = learn(data, training, features, &start, &families, settings)?;
            predictor.evaluation.extend(held.evaluations(data, Grouping::Model));
            predictor.new_model = Some(learned);
        }
        if novelties.contains(&Novelty::Device) || novelties.contains(&Novelty::FewShot) {
            let bare = with_efficiency(data, training, &predictor.efficiency, Some(Role::Device));
            let new_device = NewDevice::learn(data, training, &bare, settings)?;
            let errors: Vec<HeldOut> =
                new_device.held_out().map(|(row, error, half_width)| HeldOut { row, error, half_width }).collect();
            predictor.evaluation.extend(evaluations(data, Grouping::Device, predictor.devices.len(), &errors));
            predictor.new_device = Some(new_device);
        }
        Ok(predictor)
    }

    /// Learns corrections for devices of which little was measured.
    fn learn_few(
        &mut self,
        data: &TableData,
        base: &[usize],
        few: &BTreeMap<usize, Vec<usize>>,
        settings: &TrainSettings,
    ) -> Result<(), PredictorError> {
        let own;
        let residuals = if let Some(residuals) = &self.residuals {
            residuals
        } else {
            let features = self.full_features(data, base);
            own = Residuals::fit(data, base, &features, &settings.for_new_devices())?;
            &own
        };
        let new_device = self.new_device.as_ref().expect("it is learned where few shots are");
        let laboratory = Laboratory::new(data, base, new_device, residuals);
        let few_shots = FewShots::learn(data, &laboratory, few, |rows| self.missed_as_new(data, rows))?;
        let shots: BTreeSet<usize> = few_shots.shots().map(|(_, shots)| shots).collect();
        let held: Vec<HeldOut> = shots.into_iter().flat_map(|shots| laboratory.held_out(shots)).collect();
        let evaluated = evaluations(data, Grouping::FewShot, new_device.left_out.len(), &held);
        self.evaluation.extend(evaluated);
        self.few_shots = Some(few_shots);
        Ok(())
    }

    /// Takes later rows for references of their models, which are known from then on; numbers their configurations above
    /// those that are known.
    pub(crate) fn learn_references(&mut self, data: &mut TableData, rows: &[usize]) -> Result<(), PredictorError> {
        let features = self.full_features(data, rows);
        if let Some(residuals) = &mut self.residuals {
            data.number_configurations_from(residuals.references.next_configuration());
            residuals.learn_references(data, rows, &features)?;
            let known = rows.iter().filter(|row| self.devices.contains(&data.devices.of_row[**row]));
            self.models.extend(known.map(|row| data.models.of_row[*row]));
        }
        Ok(())
    }

    /// Errors on what was held out in training, by what was new; empty after loading.
    pub fn evaluation(&self) -> &[Evaluation] {
        &self.evaluation
    }

    /// What of a row was not measured among the rows trained on.
    pub fn novelty(&self, data: &TableData, row: usize) -> Novelty {
        let device = data.devices.of_row[row];
        if self.few_shots.as_ref().is_some_and(|few_shots| few_shots.contains(device)) {
            Novelty::FewShot
        } else if !self.devices.contains(&device) {
            Novelty::Device
        } else if !self.models.contains(&data.models.of_row[row]) {
            Novelty::Model
        } else {
            Novelty::Configuration
        }
    }

    /// Predicts rows, in their order.
    ///
    /// A row that is new in a way that was not trained is answered by what was trained for the next stranger way.
    ///
    /// # Errors
    ///
    /// [`PredictorError::Booster`] if XGBoost fails.
    pub fn predict(&self, data: &TableData, rows: &[usize]) -> Result<Vec<TablePrediction>, PredictorError> {
        if rows.len() <= ROWS_TOGETHER {
            // Asking how many cores there are takes longer than answering a few questions.
            return self.predict_here(data, rows);
        }
        let parts: Vec<&[usize]> = rows.chunks(ROWS_TOGETHER).collect();
        let threads = thread::available_parallelism().map_or(1, NonZero::get).min(parts.len());
        let threads = u32::try_from(threads).unwrap_or(u32::MAX);
        Ok(in_parallel(&parts, threads, |part| self.predict_here(data, part))?.concat())
    }

    /// The same on this thread.
    fn predict_here(&self, data: &TableData, rows: &[usize]) -> Result<Vec<TablePrediction>, PredictorError> {
        let mut by_novelty: BTreeMap<Novelty, Vec<usize>> = BTreeMap::new();
        for (place, row) in rows.iter().enumerate() {
            by_novelty.entry(self.answerable(self.novelty(data, *row))).or_default().push(place);
        }
        let mut answers = vec![None; rows.len()];
        for (novelty, places) in by_novelty {
            let alike: Vec<usize> = places.iter().map(|place| rows[*place]).collect();
            for (place, answer) in places.into_iter().zip(self.predict_alike(data, &alike, novelty)?) {
                answers[place] = Some(answer);
            }
        }
        Ok(answers.into_iter().map(|answer| answer.expect("every row has a novelty")).collect())
    }

    fn answerable(&self, novelty: Novelty) -> Novelty {
        let trained = [
            (Novelty::Configuration, self.new_configuration.is_some()),
            (Novelty::Model, self.new_model.is_some()),
            (Novelty::FewShot, self.few_shots.is_some() && novelty == Novelty::FewShot),
            (Novelty::Device, self.new_device.is_some()),
        ];
        let stranger = trained.iter().find(|(other, trained)| *other >= novelty && *trained);
        stranger.or(trained.iter().rev().find(|(_, trained)| *trained)).map_or(novelty, |(novelty, _)| *novelty)
    }

    fn predict_alike(
        &self,
        data: &TableData,
        rows: &[usize],
        novelty: Novelty,
    ) -> Result<Vec<TablePrediction>, PredictorError> {
        let features = |refused| with_efficiency(data, rows, &self.efficiency, refused);
        match (novelty, &self.new_configuration, &self.residuals, &self.new_model, &self.new_device) {
            (Novelty::Configuration, Some(learned), Some(residuals), ..) => {
                let (start, features) = residuals.refer(data, rows, &features(None))?;
                learned.predict(data, rows, &features, &start, novelty)
            }
            (Novelty::Model, _, _, Some(learned), _) => {
                learned.predict(data, rows, &features(None), &vec![0.0; rows.len()], novelty)
            }
            (Novelty::FewShot, _, _, _, Some(new_device)) if let Some(few_shots) = &self.few_shots => {
                let answers = new_device.answers(&features(Some(Role::Device)))?;
                Ok(few_shots.correct(data, rows, &answers))
            }
            (_, _, _, _, Some(new_device)) => new_device.predict(data, rows, &features(Some(Role::Device))),
            _ => unreachable!("`answerable` names what was trained, and something is"),
        }
    }

    /// What rows that were measured would be missed by if their device were new, as logs.
    pub(crate) fn missed_as_new(&self, data: &TableData, rows: &[usize]) -> Result<Vec<f64>, PredictorError> {
        let new_device = self.new_device.as_ref().expect("it is asked for where new devices are learned");
        let answers = new_device.logs(&self.bare_features(data, rows))?;
        Ok(answers.into_iter().zip(rows).map(|(log, row)| data.target(*row) - log).collect())
    }

    /// The devices of which little was measured, each with how many measurements are known.
    pub(crate) fn shots(&self) -> impl Iterator<Item = (usize, usize)> {
        self.few_shots.iter().flat_map(FewShots::shots)
    }

    /// Features of rows of new devices.
    pub(crate) fn bare_features(&self, data: &TableData, rows: &[usize]) -> Array2<f32> {
        with_efficiency(data, rows, &self.efficiency, Some(Role::Device))
    }

    /// Features of rows of known devices.
    pub(crate) fn full_features(&self, data: &TableData, rows: &[usize]) -> Array2<f32> {
        with_efficiency(data, rows, &self.efficiency, None)
    }
}
