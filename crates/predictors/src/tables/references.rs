//! What measurements of the same model elsewhere say: best linear prediction of a residual from the residuals of the
//! same model in other classes (device, runtime, compiler, precision, layout).
//!
//! Classes' residuals vary together, by how much is estimated over all models: kriging with an estimated covariance
//! (Cressie 1990, <https://doi.org/10.1007/BF00889887>).

use std::{
    collections::{BTreeMap, HashMap},
    sync::OnceLock,
};

use serde::{Deserialize, Serialize};

use super::linear::{Decomposed, definite};

/// Pairs of models that the prior covariance weighs as much as.
const PRIOR_PAIRS: f64 = 10.0;
/// Correlation of two classes of which nothing is known together.
const PRIOR_CORRELATION: f64 = 0.7;
/// Standard deviation of repeated measurements, as a log: the noise floor of published tables.
const NOISE_LOG: f64 = 0.02;
/// Smallest eigenvalue of the covariance, in variances of the noise.
const EIGENVALUE_MIN: f64 = 0.01;
/// A residual further out than this tells of a special case, not of the model.
const RESIDUAL_LOG_MAX: f64 = 1.0;

/// One residual: which configuration, of which model, in which class.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Residual {
    pub(crate) configuration: usize,
    pub(crate) model: usize,
    pub(crate) class: usize,
    /// Log ratio of measured to predicted value.
    pub(crate) log: f64,
}

/// What references say of one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Reference {
    /// Expected residual, as a log.
    pub(crate) log: f64,
    /// Its standard deviation.
    pub(crate) deviation: f64,
    /// Measurements of the same model that it rests on.
    pub(crate) count: usize,
}

/// Residuals of all models in all classes, and how classes vary together.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct References {
    classes: usize,
    class_means: Vec<f64>,
    covariance: Vec<f64>,
    /// In order, so that sums over models come out the same every time.
    of_model: BTreeMap<usize, Vec<Residual>>,
    /// Worked out by the first question.
    #[serde(skip)]
    whole: OnceLock<HashMap<usize, Decomposed>>,
}

impl References {
    /// Estimates means and covariance of `classes` classes from residuals.
    pub(crate) fn fit(classes: usize, residuals: &[Residual]) -> Self {
        let class_means = class_means(classes, residuals);
        let mut of_model: BTreeMap<usize, Vec<Residual>> = BTreeMap::new();
        for residual in residuals {
            let log = (residual.log - class_means[residual.class]).clamp(-RESIDUAL_LOG_MAX, RESIDUAL_LOG_MAX);
            of_model.entry(residual.model).or_default().push(Residual { log, ..*residual });
        }
        let covariance = covariance(classes, &of_model);
        Self { classes, class_means, covariance, of_model, whole: OnceLock::new() }
    }

    /// A configuration's number above all that residuals are of.
    pub(crate) fn next_configuration(&self) -> usize {
        self.of_model.values().flatten().map(|residual| residual.configuration + 1).max().unwrap_or_default()
    }

    /// Adds later residuals; how classes vary together stays what it was.
    pub(crate) fn extend(&mut self, residuals: impl IntoIterator<Item = Residual>) {
        for residual in residuals {
            let log = self.centred(residual.class, residual.log);
            self.of_model.entry(residual.model).or_default().push(Residual { log, ..residual });
        }
        self.whole = OnceLock::new();
    }

    fn centred(&self, class: usize, log: f64) -> f64 {
        (log - self.class_means[class]).clamp(-RESIDUAL_LOG_MAX, RESIDUAL_LOG_MAX)
    }

    /// What the other configurations of the same model say of a residual; its own, if it has one, is not asked.
    ///
    /// A class that no residual is of has no mean: 0 stands in.
    pub(crate) fn predict(&self, own_configuration: Option<usize>, model: usize, class: usize) -> Reference {
        let residuals = self.of_model.get(&model).into_iter().flatten();
        let others: Vec<Residual> =
            residuals.filter(|other| Some(other.configuration) != own_configuration).copied().collect();
        let own = self.covariance(class, class);
        let mean = self.class_means[class];
        if others.is_empty() {
            return Reference { log: mean, deviation: own.sqrt(), count: 0 };
        }
        let count = others.len();
        let with_own: Vec<f64> = others.iter().map(|other| self.covariance(class, other.class)).collect();
        let known = if own_configuration.is_none() { self.whole().get(&model) } else { None };
        let weights = match known {
            Some(decomposed) => decomposed.solve(with_own.clone()),
            None => self.decomposed(&others).solve(with_own.clone()),
        };
        let log: f64 = weights.iter().zip(&others).map(|(weight, other)| weight * other.log).sum();
        let explained: f64 = weights.iter().zip(&with_own).map(|(weight, with_own)| weight * with_own).sum();
        Reference { log: mean + log, deviation: (own - explained).max(0.0).sqrt(), count }
    }

    /// Covariance of a model's residuals with each other, repeated measurements' noise included.
    fn decomposed(&self, residuals: &[Residual]) -> Decomposed {
        let count = residuals.len();
        let mut matrix = vec![0.0; count * count];
        for (left, a) in residuals.iter().enumerate() {
            for (right, b) in residuals.iter().enumerate() {
                let noise = if left == right { NOISE_LOG * NOISE_LOG } else { 0.0 };
                matrix[left * count + right] = self.covariance(a.class, b.class) + noise;
            }
        }
        Decomposed::of(matrix, count)
    }

    /// Every model's residuals, none hidden: questions ask for the same ones again and again.
    fn whole(&self) -> &HashMap<usize, Decomposed> {
        let of_model = |(model, residuals): (&usize, &Vec<Residual>)| (*model, self.decomposed(residuals));
        self.whole.get_or_init(|| self.of_model.iter().map(of_model).collect())
    }

    /// Each model's mean residual by class, class means removed, 0 where it was not measured; shape
    /// `[models, classes]`, models in ascending order of their numbers below `models`.
    pub(crate) fn table(&self, models: usize) -> ndarray::Array2<f64> {
        let mut table = ndarray::Array2::zeros((models, self.classes));
        for (model, residuals) in &self.of_model {
            let mut counts = vec![0.0; self.classes];
            for residual in residuals {
                table[[*model, residual.class]] += residual.log;
                counts[residual.class] += 1.0;
            }
            for (class, count) in counts.iter().enumerate().filter(|(_, count)| **count > 1.0) {
                table[[*model, class]] /= count;
            }
        }
        table
    }

    fn covariance(&self, a: usize, b: usize) -> f64 {
        self.covariance[a * self.classes + b]
    }
}

fn class_means(classes: usize, residuals: &[Residual]) -> Vec<f64> {
    let (mut sums, mut counts) = (vec![0.0; classes], vec![0.0_f64; classes]);
    for residual in residuals {
        sums[residual.class] += residual.log;
        counts[residual.class] += 1.0;
    }
    sums.iter().zip(&counts).map(|(sum, count)| sum / count.max(1.0)).collect()
}

/// Covariance of classes over models, drawn towards equal variances and correlations where models are few.
///
/// Estimated pair by pair, from the models that both classes have, it need not be one that any variables could have;
/// the nearest that is takes its place.
fn covariance(classes: usize, of_model: &BTreeMap<usize, Vec<Residual>>) -> Vec<f64> {
    let (mut sums, mut counts) = (vec![0.0; classes * classes], vec![0.0; classes * classes]);
    for residuals in of_model.values() {
        for (left, a) in residuals.iter().enumerate() {
            for (right, b) in residuals.iter().enumerate() {
                if left == right || a.class != b.class {
                    sums[a.class * classes + b.class] += a.log * b.log;
                    counts[a.class * classes + b.class] += 1.0;
                }
            }
        }
    }
    let all: Vec<(f64, f64)> = (0..classes).map(|class| class * (classes + 1)).map(|i| (sums[i], counts[i])).collect();
    let total: f64 = all.iter().map(|(_, count)| count).sum();
    let variance = all.iter().map(|(sum, _)| sum).sum::<f64>() / total.max(1.0);
    let prior = |left: usize, right: usize| if left == right { variance } else { PRIOR_CORRELATION * variance };
    let estimated = (0..classes * classes)
        .map(|i| {
            let prior = prior(i / classes, i % classes);
            (sums[i] + PRIOR_PAIRS * prior) / (counts[i] + PRIOR_PAIRS)
        })
        .collect();
    definite(estimated, classes, NOISE_LOG * NOISE_LOG * EIGENVALUE_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 40 models in three classes: 0 and 1 agree, 2 is the opposite.
    fn references() -> References {
        let residuals: Vec<_> = (0..120)
            .map(|row| {
                let (model, class) = (row / 3, row % 3);
                let log = 0.3 * (model as f64 * 1.7).sin() * if class == 2 { -1.0 } else { 1.0 } + 0.1;
                Residual { configuration: row, model, class, log }
            })
            .filter(|residual| (residual.model, residual.class) != (5, 1))
            .collect();
        References::fit(3, &residuals)
    }

    #[test]
    fn a_residual_follows_from_those_of_the_same_model_elsewhere() {
        let references = references();
        let expected = 0.3 * (5.0 * 1.7_f64).sin() + 0.1;
        let found = references.predict(None, 5, 1);
        assert!((found.log - expected).abs() < 0.05 && found.count == 2, "{found:?}, not {expected}");
        let nothing = references.predict(None, 99, 1);
        assert!((nothing.log - 0.1).abs() < 0.05 && nothing.count == 0, "its class's mean: {nothing:?}");
        assert!(found.deviation < nothing.deviation / 2.0, "{found:?} {nothing:?}");
    }

    #[test]
    fn a_configuration_does_not_see_itself() {
        let references = references();
        let (seen, hidden) = (references.predict(None, 7, 0), references.predict(Some(21), 7, 0));
        assert_eq!((seen.count, hidden.count), (3, 2));
    }
}
