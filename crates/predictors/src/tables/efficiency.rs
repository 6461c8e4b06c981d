//! How efficiently each kind of operator runs: a physical model between the bare roofline and the trees.
//!
//! Measured latency is modelled as the sum of the operators' roofline times, each kind (and what bounds it) stretched
//! by a factor of its own. The factors cannot be negative, so the model extrapolates to models unlike any measured
//! one, which trees cannot.

use std::collections::HashMap;

use features::MeasuredRow;
use ndarray::{Array2, ArrayView1};
use serde::{Deserialize, Serialize};

/// Weight of the prior that all kinds are stretched alike, in rows.
const PRIOR_ROWS: f64 = 20.0;
/// Sweeps of coordinate descent; the factors of some thirty kinds settle within tens.
const SWEEPS: usize = 200;
/// Fits in which rows far off weigh less each time.
const REWEIGHTINGS: usize = 3;
/// The log ratio from which a row counts as far off.
const FAR_LOG: f64 = 0.3;
/// Smallest stretched share: a model of operators that no factor knows has no logarithm.
const SHARE_MIN: f64 = 1e-3;

/// Stretching factors by group of rows.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Efficiency {
    factors: HashMap<Group, Vec<f64>>,
    pooled: Vec<f64>,
}

/// Rows whose operators are equally efficient: platform, compiler and precision.
type Group = [Option<String>; 3];

fn group(row: &MeasuredRow) -> Group {
    [row.platform.clone(), row.compiler.clone(), row.precision.clone()]
}

impl Efficiency {
    /// Fits the factors.
    ///
    /// `shares` has shape `[rows, kinds]`, each row's roofline latency by kind, adding up to 1; `targets` are log
    /// ratios of measured value to roofline. Rows without shares (NaN) are left out.
    pub(crate) fn fit(rows: &[&MeasuredRow], shares: &Array2<f32>, targets: &[f64]) -> Self {
        let known: Vec<usize> = (0..rows.len()).filter(|row| !shares[[*row, 0]].is_nan()).collect();
        let mut groups: HashMap<Group, Vec<usize>> = HashMap::new();
        for row in &known {
            groups.entry(group(rows[*row])).or_default().push(*row);
        }
        let fit = |members: &[usize]| factors(members, shares, targets);
        Self { pooled: fit(&known), factors: groups.into_iter().map(|(group, rows)| (group, fit(&rows))).collect() }
    }

    /// The log ratio of this model's latency to the roofline; `None` without shares.
    pub(crate) fn predict(&self, row: &MeasuredRow, shares: &ArrayView1<'_, f32>) -> Option<f64> {
        let factors = self.factors.get(&group(row)).unwrap_or(&self.pooled);
        let stretched: f64 = shares.iter().zip(factors).map(|(share, factor)| f64::from(*share) * factor).sum();
        (!stretched.is_nan()).then(|| stretched.max(SHARE_MIN).ln())
    }
}

/// Non-negative least squares of relative errors, by coordinate descent on the normal equations
/// (Franc, Hlaváč and Navara 2005, <https://doi.org/10.1007/11556121_50>).
fn factors(members: &[usize], shares: &Array2<f32>, targets: &[f64]) -> Vec<f64> {
    let kinds = shares.ncols();
    let level = (members.iter().map(|row| targets[*row]).sum::<f64>() / members.len().max(1) as f64).exp();
    let mut factors = vec![level; kinds];
    let mut weights = vec![1.0; members.len()];
    let mut part = Vec::with_capacity(kinds);
    for _ in 0..REWEIGHTINGS {
        let (mut gram, mut moment) = (vec![0.0; kinds * kinds], vec![0.0; kinds]);
        for (row, weight) in members.iter().zip(&weights) {
            let relative = (-targets[*row]).exp();
            let shares = shares.row(*row);
            let parts = shares.iter().map(|share| f64::from(*share) * relative).enumerate();
            // Most models have few kinds of operators.
            part.clear();
            part.extend(parts.filter(|(_, value)| *value > 0.0));
            for (left, value) in &part {
                moment[*left] += weight * value;
                for (right, other) in &part {
                    gram[left * kinds + right] += weight * value * other;
                }
            }
        }
        for kind in 0..kinds {
            let prior = PRIOR_ROWS * (gram[kind * kinds + kind] / members.len().max(1) as f64 + 1e-9);
            gram[kind * kinds + kind] += prior;
            moment[kind] += prior * level;
        }
        descend(&gram, &moment, &mut factors);
        for (row, weight) in members.iter().zip(&mut weights) {
            let stretched: f64 =
                shares.row(*row).iter().zip(&factors).map(|(share, factor)| f64::from(*share) * factor).sum();
            let error = (stretched.max(SHARE_MIN).ln() - targets[*row]) / FAR_LOG;
            *weight = 1.0 / (1.0 + error * error);
        }
    }
    factors
}

/// Minimises `½ cᵀ G c − mᵀ c` over `c ≥ 0`, from the given start.
fn descend(gram: &[f64], moment: &[f64], factors: &mut [f64]) {
    let kinds = factors.len();
    for _ in 0..SWEEPS {
        for kind in 0..kinds {
            let row = &gram[kind * kinds..(kind + 1) * kinds];
            let slope: f64 = row.iter().zip(factors.iter()).map(|(g, factor)| g * factor).sum::<f64>() - moment[kind];
            factors[kind] = (factors[kind] - slope / row[kind]).max(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_found_and_extrapolate() {
        // Kind 0 is stretched by 1, kind 1 by 3; no row has more than half of kind 1.
        let rows: Vec<MeasuredRow> = vec![MeasuredRow::default(); 300];
        let shares = Array2::from_shape_fn((300, 2), |(row, kind)| {
            let second = row as f32 / 600.0;
            if kind == 1 { second } else { 1.0 - second }
        });
        let stretched = |second: f64| (1.0 + 2.0 * second).ln();
        let targets: Vec<f64> = shares.rows().into_iter().map(|row| stretched(f64::from(row[1]))).collect();
        let efficiency = Efficiency::fit(&rows.iter().collect::<Vec<_>>(), &shares, &targets);
        let unseen = ndarray::arr1(&[0.1_f32, 0.9]);
        let found = efficiency.predict(&rows[0], &unseen.view()).expect("has shares");
        assert!((found - stretched(0.9)).abs() < 0.1, "{found}, not {}", stretched(0.9));
        let unknown = ndarray::arr1(&[f32::NAN, 0.9]);
        assert_eq!(efficiency.predict(&rows[0], &unknown.view()), None);
    }
}
