//! The little linear algebra that kriging and ridge regression need.

use ndarray::Array2;

/// Smallest pivot over the largest one; below, an equation says nothing new.
const PIVOT_MIN: f64 = 1e-10;

/// Solves `matrix · x = right` for a symmetric, positive definite matrix of shape `[n, n]`.
pub(crate) fn solve(matrix: Vec<f64>, right: Vec<f64>) -> Vec<f64> {
    let n = right.len();
    Decomposed::of(matrix, n).solve(right)
}

/// A symmetric, positive definite matrix of shape `[n, n]` in Cholesky's decomposition, to be solved for many right
/// sides.
#[derive(Debug)]
pub(crate) struct Decomposed {
    n: usize,
    lower: Vec<f64>,
}

impl Decomposed {
    /// Decomposes; pivots that rounding made tiny or negative are raised, which draws their unknowns towards 0.
    pub(crate) fn of(mut matrix: Vec<f64>, n: usize) -> Self {
        let floor = PIVOT_MIN * (0..n).map(|i| matrix[i * n + i]).fold(f64::MIN_POSITIVE, f64::max);
        for i in 0..n {
            for j in 0..=i {
                let products: f64 = (0..j).map(|k| matrix[i * n + k] * matrix[j * n + k]).sum();
                let rest = matrix[i * n + j] - products;
                matrix[i * n + j] = if i == j { rest.max(floor).sqrt() } else { rest / matrix[j * n + j] };
            }
        }
        Self { n, lower: matrix }
    }

    /// The solution for one right side.
    pub(crate) fn solve(&self, mut right: Vec<f64>) -> Vec<f64> {
        let (n, lower) = (self.n, &self.lower);
        for i in 0..n {
            let known: f64 = (0..i).map(|k| lower[i * n + k] * right[k]).sum();
            right[i] = (right[i] - known) / lower[i * n + i];
        }
        for i in (0..n).rev() {
            let known: f64 = (i + 1..n).map(|k| lower[k * n + i] * right[k]).sum();
            right[i] = (right[i] - known) / lower[i * n + i];
        }
        right
    }
}

/// The inverse of a symmetric, positive definite matrix.
pub(crate) fn inverse(matrix: Array2<f64>) -> Array2<f64> {
    let n = matrix.nrows();
    let cells = matrix.into_raw_vec_and_offset().0;
    let unit = |column: usize| (0..n).map(|row| f64::from(u8::from(row == column))).collect();
    let columns: Vec<f64> = (0..n).flat_map(|column| solve(cells.clone(), unit(column))).collect();
    // It is symmetric, so columns are as good as rows.
    Array2::from_shape_vec((n, n), columns).expect("n columns of n cells")
}

/// The nearest matrix to a symmetric one of shape `[n, n]` whose eigenvalues are all at least `floor` (Higham 1988,
/// <https://doi.org/10.1016/0024-3795(88)90223-6>), by Jacobi's rotations.
pub(crate) fn definite(mut matrix: Vec<f64>, n: usize, floor: f64) -> Vec<f64> {
    const SWEEPS: usize = 30;
    let mut vectors = vec![0.0; n * n];
    (0..n).for_each(|i| vectors[i * (n + 1)] = 1.0);
    for _ in 0..SWEEPS {
        for p in 0..n {
            for q in p + 1..n {
                rotate(&mut matrix, &mut vectors, n, (p, q));
            }
        }
    }
    let values: Vec<f64> = (0..n).map(|i| matrix[i * (n + 1)].max(floor)).collect();
    let cell = |index: usize| {
        let (row, column) = (index / n, index % n);
        (0..n).map(|k| vectors[row * n + k] * values[k] * vectors[column * n + k]).sum()
    };
    (0..n * n).map(cell).collect()
}

/// Turns the plane of two axes such that their product in `matrix` becomes 0.
fn rotate(matrix: &mut [f64], vectors: &mut [f64], n: usize, (p, q): (usize, usize)) {
    let product = matrix[p * n + q];
    if product.abs() < f64::MIN_POSITIVE {
        return;
    }
    let angle = (2.0 * product).atan2(matrix[q * n + q] - matrix[p * n + p]) / 2.0;
    let (sine, cosine) = angle.sin_cos();
    let turn = |left: f64, right: f64| (cosine * left - sine * right, sine * left + cosine * right);
    for k in 0..n {
        (matrix[k * n + p], matrix[k * n + q]) = turn(matrix[k * n + p], matrix[k * n + q]);
        (vectors[k * n + p], vectors[k * n + q]) = turn(vectors[k * n + p], vectors[k * n + q]);
    }
    for k in 0..n {
        (matrix[p * n + k], matrix[q * n + k]) = turn(matrix[p * n + k], matrix[q * n + k]);
    }
}

/// The leading left singular vectors of a table, shape `[rows, at most count]`, each of mean square 1: orthogonal
/// iteration on its columns' covariance (Golub and Van Loan, *Matrix Computations*, section 8.2).
pub(crate) fn factors(table: &Array2<f64>, count: usize) -> Array2<f64> {
    const ITERATIONS: usize = 30;
    let (rows, columns) = table.dim();
    let count = count.min(columns).min(rows);
    let covariance = table.t().dot(table);
    let mut directions = Array2::from_shape_fn((columns, count), |(row, column)| {
        // Any start that is not orthogonal to the answer.
        ((row * (column + 2) + column + 1) as f64).sin()
    });
    for _ in 0..ITERATIONS {
        directions = covariance.dot(&directions);
        orthonormalise(&mut directions);
    }
    let mut factors = table.dot(&directions);
    for mut factor in factors.columns_mut() {
        let scale = (factor.dot(&factor) / rows.max(1) as f64).sqrt();
        factor.mapv_inplace(|value| if scale > 0.0 { value / scale } else { 0.0 });
    }
    factors
}

fn orthonormalise(directions: &mut Array2<f64>) {
    for column in 0..directions.ncols() {
        let mut own = directions.column(column).to_owned();
        for before in 0..column {
            let other = directions.column(before);
            let along = own.dot(&other);
            own.scaled_add(-along, &other);
        }
        let length = own.dot(&own).sqrt();
        directions.column_mut(column).assign(&own.mapv(|value| if length > 0.0 { value / length } else { 0.0 }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equations_are_solved() {
        let solution = solve(vec![4.0, 2.0, 2.0, 3.0], vec![10.0, 8.0]);
        assert!((solution[0] - 1.75).abs() < 1e-12 && (solution[1] - 1.5).abs() < 1e-12, "{solution:?}");
        let degenerate = solve(vec![1.0, 1.0, 1.0, 1.0], vec![1.0, 1.0]);
        assert!(degenerate.iter().all(|value| value.is_finite()), "{degenerate:?}");
    }

    #[test]
    fn a_matrix_times_its_inverse_is_one() {
        let matrix = ndarray::arr2(&[[4.0, 1.0, 0.5], [1.0, 3.0, 0.2], [0.5, 0.2, 2.0]]);
        let product = matrix.dot(&inverse(matrix.clone()));
        let off = (product - Array2::<f64>::eye(3)).mapv(f64::abs).sum();
        assert!(off < 1e-12, "{off}");
    }

    #[test]
    fn a_matrix_becomes_definite_and_one_that_is_stays() {
        let good = vec![2.0, 1.0, 0.0, 1.0, 3.0, 0.5, 0.0, 0.5, 1.0];
        for (found, expected) in definite(good.clone(), 3, 1e-3).iter().zip(&good) {
            assert!((found - expected).abs() < 1e-9, "{found}, not {expected}");
        }
        // Three variables cannot all be opposites of each other.
        let impossible = definite(vec![1.0, -0.9, -0.9, -0.9, 1.0, -0.9, -0.9, -0.9, 1.0], 3, 0.01);
        let sum: f64 = impossible.iter().sum();
        assert!((sum / 3.0 - 0.01).abs() < 1e-9, "the eigenvalue of (1, 1, 1) was -0.8: {impossible:?}");
    }

    #[test]
    fn the_first_factor_explains_most() {
        // Every column is a multiple of the same pattern, plus a little of another.
        let table = Array2::from_shape_fn((50, 4), |(row, column)| {
            (row as f64).sin() * (column as f64 + 1.0) + 0.01 * (row as f64 * 2.3).cos()
        });
        let factors = factors(&table, 2);
        let first = factors.column(0);
        let pattern = ndarray::Array1::from_shape_fn(50, |row| (row as f64).sin());
        let correlation = first.dot(&pattern) / (first.dot(&first) * pattern.dot(&pattern)).sqrt();
        assert!(correlation.abs() > 0.999, "{correlation}");
        assert!(first.dot(&factors.column(1)).abs() < 0.5, "factors are orthogonal");
    }
}
