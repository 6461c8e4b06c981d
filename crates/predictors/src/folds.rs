//! Splits of rows into folds that never part a group.

use std::collections::HashMap;
use std::hash::Hash;

/// Assigns each row a fold, `0..folds`, such that rows of one group share theirs and folds are of similar size.
///
/// Groups go, the largest first, to the fold that has the fewest rows; `seed` orders groups of one size. Fewer groups
/// than `folds` give that many folds.
pub(crate) fn grouped_folds<G: Eq + Hash>(groups: &[G], folds: usize, seed: u64) -> (Vec<usize>, usize) {
    let mut members: HashMap<&G, usize> = HashMap::new();
    let mut rows_of: Vec<Vec<usize>> = Vec::new();
    for (row, group) in groups.iter().enumerate() {
        let index = *members.entry(group).or_insert_with(|| {
            rows_of.push(Vec::new());
            rows_of.len() - 1
        });
        rows_of[index].push(row);
    }
    fastrand::Rng::with_seed(seed).shuffle(&mut rows_of);
    rows_of.sort_by_key(|rows| std::cmp::Reverse(rows.len()));
    let folds = folds.min(rows_of.len()).max(1);
    let mut sizes = vec![0; folds];
    let mut fold_of_row = vec![0; groups.len()];
    for rows in rows_of {
        let smallest = (0..folds).min_by_key(|fold| sizes[*fold]).expect("at least one fold");
        sizes[smallest] += rows.len();
        for row in rows {
            fold_of_row[row] = smallest;
        }
    }
    (fold_of_row, folds)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_group_is_never_parted(groups in prop::collection::vec(0_u8..12, 1..200), folds in 2_usize..8, seed: u64) {
            let (assigned, count) = grouped_folds(&groups, folds, seed);
            let distinct: std::collections::HashSet<_> = groups.iter().collect();
            prop_assert_eq!(count, folds.min(distinct.len()));
            let mut fold_of_group = HashMap::new();
            for (group, fold) in groups.iter().zip(&assigned) {
                prop_assert!(*fold < count);
                prop_assert_eq!(fold_of_group.entry(group).or_insert(*fold), fold);
            }
            let used: std::collections::HashSet<_> = assigned.iter().collect();
            prop_assert_eq!(used.len(), count, "no fold is empty");
        }
    }
}
