//! Which candidates stand for others, and which are unlike all that is known.

use crate::Landscape;

/// The distance from which on a configuration hardly stands for another: beyond, being farther is no worse, so that a
/// few strange configurations do not take all medoids. Chosen on published measurements of three GPUs, where half of it
/// does as well, and twice as much a little worse.
const ALIKE_DISTANCE: f64 = 1.0;

/// How badly one point stands for another, from 0 to 1.
fn unlikeness(landscape: &Landscape, a: usize, b: usize) -> f64 {
    1.0 - (-landscape.distance(a, b) / ALIKE_DISTANCE).exp()
}

/// Medoids, chosen one by one: the build phase of PAM (Kaufman and Rousseeuw, *Finding Groups in Data*, chapter 2) with
/// what was measured as the first medoids. Its exchange phase is left out, because a batch has an order and constraints
/// that hold for each pick.
#[derive(Debug)]
pub(crate) struct Medoids {
    targets: Vec<usize>,
    /// How badly candidates stand for targets, a candidate's all together.
    distances: Vec<f64>,
    /// How badly the nearest medoid stands for each target.
    nearest: Vec<f64>,
}

impl Medoids {
    /// Medoids for `targets`; the first `candidates` points are the candidates, `measured` are medoids already.
    pub(crate) fn new(landscape: &Landscape, candidates: usize, targets: &[usize], measured: &[usize]) -> Self {
        let of_candidate = |candidate| targets.iter().map(move |target| unlikeness(landscape, candidate, *target));
        // Without a medoid nothing stands for anything.
        let nearest =
            |target: &usize| measured.iter().map(|point| unlikeness(landscape, *point, *target)).fold(1.0, f64::min);
        let distances: Vec<f64> = (0..candidates).flat_map(of_candidate).collect();
        Self { distances, nearest: targets.iter().map(nearest).collect(), targets: targets.to_vec() }
    }

    /// How much better medoids stand for targets, on average, with this candidate as one.
    pub(crate) fn gain(&self, candidate: usize) -> f64 {
        let nearer =
            self.of(candidate).iter().zip(&self.nearest).map(|(distance, nearest)| (nearest - distance).max(0.0));
        nearer.sum::<f64>() / self.targets.len().max(1) as f64
    }

    pub(crate) fn choose(&mut self, candidate: usize) {
        let width = self.targets.len();
        let distances = &self.distances[candidate * width..(candidate + 1) * width];
        self.nearest.iter_mut().zip(distances).for_each(|(nearest, distance)| *nearest = nearest.min(*distance));
    }

    fn of(&self, candidate: usize) -> &[f64] {
        let width = self.targets.len();
        &self.distances[candidate * width..(candidate + 1) * width]
    }
}

/// How far each candidate is from all that was measured or chosen; the farthest first is a batch in which no two are
/// alike (Gonzalez 1985, <https://doi.org/10.1016/0304-3975(85)90224-5>).
#[derive(Debug)]
pub(crate) struct Solitude {
    nearest: Vec<f64>,
}

impl Solitude {
    /// The first `candidates` points are the candidates.
    pub(crate) fn new(landscape: &Landscape, candidates: usize, known: &[usize]) -> Self {
        let nearest =
            |candidate| known.iter().map(|point| landscape.distance(candidate, *point)).fold(f64::INFINITY, f64::min);
        Self { nearest: (0..candidates).map(nearest).collect() }
    }

    /// Distance to the nearest that is known; infinite if nothing is.
    pub(crate) fn of(&self, candidate: usize) -> f64 {
        self.nearest[candidate]
    }

    pub(crate) fn choose(&mut self, landscape: &Landscape, chosen: usize) {
        for (candidate, nearest) in self.nearest.iter_mut().enumerate() {
            *nearest = nearest.min(landscape.distance(candidate, chosen));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::landscape::tests::{landscape, row};

    fn models(tenths: &[u32]) -> Landscape {
        let rows: Vec<_> = tenths.iter().map(|tenths| row(&format!("0.{tenths}"), "x", 4)).collect();
        landscape(&rows)
    }

    fn best(count: usize, score: impl Fn(usize) -> f64) -> usize {
        (0..count).max_by(|a, b| score(*a).total_cmp(&score(*b))).expect("some")
    }

    #[test]
    fn medoids_are_the_middles_of_groups() {
        let landscape = models(&[0, 1, 2, 7, 8, 9]);
        let targets: Vec<usize> = (0..6).collect();
        let mut medoids = Medoids::new(&landscape, 6, &targets, &[]);
        let first = best(6, |candidate| medoids.gain(candidate));
        medoids.choose(first);
        let second = best(6, |candidate| medoids.gain(candidate));
        assert!((first < 3) != (second < 3), "one of each group: {first}, {second}");
        // With the middle of one group measured, that of the other is left.
        let medoids = Medoids::new(&landscape, 6, &targets, &[1]);
        assert_eq!(best(6, |candidate| medoids.gain(candidate)), 4);
    }

    #[test]
    fn the_loneliest_is_far_from_all_that_is_known() {
        let landscape = models(&[1, 2, 5, 8, 9]);
        let mut solitude = Solitude::new(&landscape, 5, &[0]);
        assert_eq!(best(5, |candidate| solitude.of(candidate)), 4);
        solitude.choose(&landscape, 4);
        assert_eq!(best(5, |candidate| solitude.of(candidate)), 2);
        assert!(Solitude::new(&landscape, 5, &[]).of(0).is_infinite());
    }
}
