//! What stays unknown about candidates once some are measured, and which measurement would tell most.
//!
//! Errors are taken for jointly Gaussian with the [`Landscape`]'s correlation, conditioned on what was measured, and
//! scaled such that each candidate's standard deviation is the one that its predictor gives. The information gain of a
//! candidate `c` is the mean over a target set `T` by which its measurement reduces the predictive variance:
//! `Σ cov(t, c)² / (var(c) + noise) / |T|` (Cohn, Ghahramani and Jordan 1996, <https://doi.org/10.1613/jair.295>; for
//! Gaussian processes Seo et al. 2000, <https://doi.org/10.1109/IJCNN.2000.861310>). It does not depend on what will be
//! measured, so that a whole batch can be chosen before the first result is there.

use crate::Landscape;

/// Variance of what one measurement says of nothing else, in variances of its configuration: what is particular to a
/// model, and the scatter of measurements.
const NOISE: f64 = 0.1;
/// Smallest variance that is left, so that nothing is divided by 0.
const VARIANCE_MIN: f64 = 1e-9;

/// Gaussian errors of all points, conditioned on some of them.
#[derive(Debug)]
pub(crate) struct Posterior<'a> {
    landscape: &'a Landscape,
    candidates: usize,
    targets: Vec<usize>,
    /// What each point's deviation is multiplied by.
    scales: Vec<f64>,
    variances: Vec<f64>,
    /// Covariances of candidates with targets, a candidate's all together.
    with_targets: Vec<f64>,
    /// By how much each measurement moves each point, over the root of its own variance: columns of a partial Cholesky
    /// decomposition.
    moved: Vec<Vec<f64>>,
}

impl<'a> Posterior<'a> {
    /// Before anything is measured; the first `candidates` points are the candidates, `targets` are some of them.
    pub(crate) fn new(landscape: &'a Landscape, candidates: usize, targets: Vec<usize>) -> Self {
        let with_targets = (0..candidates)
            .flat_map(|candidate| targets.iter().map(move |target| (candidate, *target)))
            .map(|(candidate, target)| landscape.correlation(candidate, target))
            .collect();
        Self {
            candidates,
            scales: vec![1.0; landscape.len()],
            variances: (0..landscape.len()).map(|point| landscape.correlation(point, point)).collect(),
            with_targets,
            targets,
            moved: Vec::new(),
            landscape,
        }
    }

    /// Conditions on the measurement of a point.
    pub(crate) fn observe(&mut self, point: usize) {
        let own = (self.variances[point] + self.noise(point)).max(VARIANCE_MIN).sqrt();
        let moved: Vec<f64> = (0..self.landscape.len()).map(|other| self.covariance(other, point) / own).collect();
        for (variance, moved) in self.variances.iter_mut().zip(&moved) {
            *variance = (*variance - moved * moved).max(VARIANCE_MIN);
        }
        let width = self.targets.len();
        for (candidate, covariances) in self.with_targets.chunks_exact_mut(width.max(1)).enumerate() {
            for (covariance, target) in covariances.iter_mut().zip(&self.targets) {
                *covariance -= moved[candidate] * moved[*target];
            }
        }
        self.moved.push(moved);
    }

    /// Scales errors such that each candidate's standard deviation is this; `NaN` leaves it as it is.
    pub(crate) fn scale_to(&mut self, deviations: &[f64]) {
        for (point, deviation) in deviations.iter().enumerate().filter(|(_, deviation)| deviation.is_finite()) {
            let factor = deviation / self.variances[point].sqrt();
            self.scales[point] *= factor;
            self.variances[point] = deviation * deviation;
            self.moved.iter_mut().for_each(|moved| moved[point] *= factor);
        }
        for candidate in 0..self.candidates {
            for index in 0..self.targets.len() {
                self.with_targets[candidate * self.targets.len() + index] =
                    self.covariance(candidate, self.targets[index]);
            }
        }
    }

    /// Covariance of two points as things stand.
    fn covariance(&self, a: usize, b: usize) -> f64 {
        let prior = self.scales[a] * self.scales[b] * self.landscape.correlation(a, b);
        prior - self.moved.iter().map(|moved| moved[a] * moved[b]).sum::<f64>()
    }

    fn noise(&self, point: usize) -> f64 {
        NOISE * self.scales[point] * self.scales[point]
    }

    /// Standard deviation of a candidate's error.
    #[cfg(test)]
    pub(crate) fn deviation(&self, candidate: usize) -> f64 {
        self.variances[candidate].sqrt()
    }

    /// By how much a candidate's measurement is expected to reduce the mean variance of the targets.
    pub(crate) fn gain(&self, candidate: usize) -> f64 {
        let width = self.targets.len();
        let covariances = &self.with_targets[candidate * width..(candidate + 1) * width];
        let squares: f64 = covariances.iter().map(|covariance| covariance * covariance).sum();
        squares / (self.variances[candidate] + self.noise(candidate)).max(VARIANCE_MIN) / width.max(1) as f64
    }

    /// The mean variance of the targets.
    pub(crate) fn mean_variance(&self) -> f64 {
        self.targets.iter().map(|target| self.variances[*target]).sum::<f64>() / self.targets.len().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::landscape::tests::{landscape, row};

    fn models() -> Landscape {
        let rows: Vec<_> = (0..=10).map(|tenths| row(&format!("0.{tenths}"), "x", 4)).collect();
        landscape(&rows)
    }

    #[test]
    fn the_gain_is_what_the_measurement_then_takes_away() {
        let landscape = models();
        let mut posterior = Posterior::new(&landscape, 11, (0..11).collect());
        for point in [3, 9, 0] {
            let (before, gain) = (posterior.mean_variance(), posterior.gain(point));
            posterior.observe(point);
            let taken = before - posterior.mean_variance();
            assert!(gain > 0.0 && (taken - gain).abs() < 1e-9, "{gain} promised, {taken} taken");
        }
    }

    #[test]
    fn what_is_measured_is_known_and_so_is_a_little_of_what_is_like_it() {
        let landscape = models();
        let mut posterior = Posterior::new(&landscape, 11, (0..11).collect());
        let before: Vec<f64> = (0..11).map(|point| posterior.deviation(point)).collect();
        posterior.observe(2);
        let left: Vec<f64> = (0..11).map(|point| posterior.deviation(point) / before[point]).collect();
        assert!(left[2] < 0.31 && left[2] < left[3] && left[3] < left[10], "{left:?}");
    }

    #[test]
    fn a_predictor_says_how_large_errors_are() {
        let landscape = models();
        let mut posterior = Posterior::new(&landscape, 11, (0..11).collect());
        posterior.observe(5);
        let deviations: Vec<f64> = (0..11).map(|point| 0.05 + 0.01 * f64::from(point)).collect();
        posterior.scale_to(&deviations);
        for (point, deviation) in deviations.iter().enumerate() {
            assert!((posterior.deviation(point) - deviation).abs() < 1e-9);
        }
        let (before, gain) = (posterior.mean_variance(), posterior.gain(8));
        posterior.observe(8);
        assert!((before - posterior.mean_variance() - gain).abs() < 1e-9, "still consistent");
    }
}
