//! Boosted trees as flat arrays: what XGBoost trained, in a form that answers fast and saves small.
//!
//! XGBoost wants a matrix object per question, which alone takes longer than the trees. Here every tree is a complete
//! binary tree, so that the way down needs no pointers, and several ways go down at once, so that their loads overlap.
//! Answers are those of XGBoost bit for bit: leaves are added in the trees' order, in single precision.

use messages::Metric;
use ndarray::Array2;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use xgboost_rs::Booster;

use crate::PredictorError;

/// Ways down that are followed at once.
const LANES: usize = 8;
/// Rows whose features stay in the cache while all trees are asked.
const BLOCK_ROWS: usize = 32;
/// Deepest trees that are kept complete: a level more doubles them.
const DEPTH_MAX: usize = 12;

/// The trees of one booster.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Forest {
    columns: usize,
    depth: usize,
    /// `2^depth − 1` per tree, level by level.
    splits: Vec<Split>,
    /// `2^depth` per tree, from left to right.
    leaves: Vec<f32>,
}

/// An inner node: to the left below the threshold, else to the right.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Split {
    threshold: f32,
    /// Where in a row's [`both_ways`] the value is.
    slot: u32,
}

/// A split that sends everything to the left.
const TO_THE_LEFT: Split = Split { threshold: f32::INFINITY, slot: 0 };

impl Forest {
    /// Takes the trees out of a booster that trained on `columns` features.
    ///
    /// # Errors
    ///
    /// [`PredictorError::Booster`] if XGBoost does not give them, [`PredictorError::Trees`] if they are not what this
    /// reads: binary trees of numeric features.
    pub(crate) fn of_booster(metric: Metric, booster: &Booster, columns: usize) -> Result<Self, PredictorError> {
        let json = booster.save_to_buffer("json".to_owned()).map_err(|source| PredictorError::Booster {
            action: "read",
            metric,
            source,
        })?;
        let trees = |reason: String| PredictorError::Trees { metric, reason };
        let model: Model = serde_json::from_str(&json).map_err(|error| trees(error.to_string()))?;
        Self::of_trees(&model.learner.gradient_booster.model.trees, columns).map_err(trees)
    }

    fn of_trees(trees: &[Tree], columns: usize) -> Result<Self, String> {
        let depths = trees.iter().map(|tree| tree.depth(0, 0)).collect::<Result<Vec<_>, _>>()?;
        let depth = depths.into_iter().max().unwrap_or(0);
        let leaves = 1 << depth;
        let mut forest = Self {
            columns,
            depth,
            splits: vec![TO_THE_LEFT; trees.len() * (leaves - 1)],
            leaves: vec![0.0; trees.len() * leaves],
        };
        for (index, tree) in trees.iter().enumerate() {
            let splits = &mut forest.splits[index * (leaves - 1)..(index + 1) * (leaves - 1)];
            tree.lay_out(0, 0, splits, &mut forest.leaves[index * leaves..(index + 1) * leaves]);
        }
        forest.check().map(|()| forest)
    }

    fn trees(&self) -> usize {
        self.leaves.len() >> self.depth
    }

    /// Adds every tree's leaf to the sum of each row of a block, whose values are both ways.
    fn add(&self, block: &[f32], sums: &mut [f32]) {
        let width = 2 * self.columns;
        let together = sums.len() / LANES * LANES;
        let inner = (1 << self.depth) - 1;
        for (splits, leaves) in chunks(&self.splits, inner, self.trees()).zip(self.leaves.chunks_exact(1 << self.depth))
        {
            for (rows, sums) in block.chunks_exact(LANES * width).zip(sums[..together].chunks_exact_mut(LANES)) {
                let mut at = [0_usize; LANES];
                for _ in 0..self.depth {
                    for (lane, at) in at.iter_mut().enumerate() {
                        *at = next(splits, &rows[lane * width..(lane + 1) * width], *at);
                    }
                }
                for (sum, at) in sums.iter_mut().zip(at) {
                    *sum += leaves[at - inner];
                }
            }
        }
        for (row, sum) in block[together * width..].chunks_exact(width).zip(&mut sums[together..]) {
            *sum = self.add_one(row, *sum);
        }
    }

    /// The same for a single row: several trees are asked at once instead.
    fn add_one(&self, row: &[f32], mut sum: f32) -> f32 {
        let (inner, width) = ((1 << self.depth) - 1, 1 << self.depth);
        for first in (0..self.trees()).step_by(LANES) {
            let trees = LANES.min(self.trees() - first);
            let mut at = [0_usize; LANES];
            for _ in 0..self.depth {
                for (lane, at) in at[..trees].iter_mut().enumerate() {
                    let splits = &self.splits[(first + lane) * inner..(first + lane + 1) * inner];
                    *at = next(splits, row, *at);
                }
            }
            for (lane, at) in at[..trees].iter().enumerate() {
                sum += self.leaves[(first + lane) * width + at - inner];
            }
        }
        sum
    }

    /// What a damaged or foreign file could get wrong.
    fn check(&self) -> Result<(), String> {
        let trees = self.leaves.len() >> self.depth;
        if self.leaves.len() != trees << self.depth || self.splits.len() != trees * ((1 << self.depth) - 1) {
            return Err("the trees are not complete".to_owned());
        }
        let slots = 2 * self.columns.max(1);
        match self.splits.iter().find(|split| split.slot as usize >= slots) {
            Some(split) => Err(format!("feature {} of {} is asked for", split.slot / 2, self.columns)),
            None => Ok(()),
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let numbers = [self.columns, self.depth, self.trees()];
        let mut bytes = Vec::with_capacity(12 + 8 * self.splits.len() + 4 * self.leaves.len());
        for number in numbers {
            bytes.extend(u32::try_from(number).expect("trees and features are thousands").to_le_bytes());
        }
        for split in &self.splits {
            bytes.extend(split.threshold.to_le_bytes());
            bytes.extend(split.slot.to_le_bytes());
        }
        self.leaves.iter().for_each(|leaf| bytes.extend(leaf.to_le_bytes()));
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let (words, rest) = bytes.as_chunks::<4>();
        let word = |index: usize| words.get(index).map(|word| u32::from_le_bytes(*word) as usize);
        let (Some(columns), Some(depth), Some(trees), []) = (word(0), word(1), word(2), rest) else {
            return Err("the trees are cut off".to_owned());
        };
        if depth > DEPTH_MAX {
            return Err(format!("the trees are {depth} deep, {DEPTH_MAX} at most are possible"));
        }
        let splits = trees * ((1 << depth) - 1);
        if words.len() != 3 + 2 * splits + (trees << depth) {
            return Err("the trees are cut off".to_owned());
        }
        let (inner, outer) = words[3..].split_at(2 * splits);
        let forest = Self {
            columns,
            depth,
            splits: inner
                .as_chunks::<2>()
                .0
                .iter()
                .map(|[threshold, slot]| Split {
                    threshold: f32::from_le_bytes(*threshold),
                    slot: u32::from_le_bytes(*slot),
                })
                .collect(),
            leaves: outer.iter().map(|leaf| f32::from_le_bytes(*leaf)).collect(),
        };
        forest.check().map(|()| forest)
    }
}

/// The node below a node.
#[inline]
fn next(splits: &[Split], row: &[f32], at: usize) -> usize {
    let split = splits[at];
    2 * at + 1 + usize::from(row[split.slot as usize] >= split.threshold)
}

/// `count` pieces of `length`, which may be 0.
fn chunks<T>(items: &[T], length: usize, count: usize) -> impl Iterator<Item = &[T]> {
    (0..count).map(move |index| &items[index * length..(index + 1) * length])
}

/// Every value twice: a missing one is below all thresholds first, then above all. Which of the two a split looks at
/// says where it sends what is missing.
fn both_ways<'a>(values: impl Iterator<Item = &'a f32>, into: &mut Vec<f32>) {
    for value in values {
        let missing = value.is_nan();
        into.push(if missing { f32::NEG_INFINITY } else { *value });
        into.push(if missing { f32::INFINITY } else { *value });
    }
}

impl Serialize for Forest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.to_bytes())
    }
}

impl<'de> Deserialize<'de> for Forest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl de::Visitor<'_> for Bytes {
            type Value = Forest;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the bytes of trees")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Forest, E> {
                Forest::from_bytes(bytes).map_err(E::custom)
            }
        }
        deserializer.deserialize_byte_buf(Bytes)
    }
}

/// Boosters whose mean is the prediction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ensemble {
    /// Added to what the boosters say.
    centre: f64,
    forests: Vec<Forest>,
}

impl Ensemble {
    /// Boosters, of which there is at least one, that trained on targets about `centre`.
    pub(crate) const fn new(centre: f64, forests: Vec<Forest>) -> Self {
        Self { centre, forests }
    }

    /// The mean over the boosters, one per row of `features`, which has shape `[rows, features]`; NaN is missing.
    ///
    /// # Errors
    ///
    /// [`PredictorError::Columns`] if they trained on another number of features.
    pub(crate) fn means(&self, features: &Array2<f32>) -> Result<Vec<f64>, PredictorError> {
        let columns = features.ncols();
        if let Some(forest) = self.forests.iter().find(|forest| forest.columns != columns) {
            return Err(PredictorError::Columns { found: columns, needed: forest.columns });
        }
        let (count, mut means) = (self.forests.len() as f64, Vec::with_capacity(features.nrows()));
        let (mut block, mut sums) = (Vec::new(), Vec::new());
        for rows in features.axis_chunks_iter(ndarray::Axis(0), BLOCK_ROWS) {
            block.clear();
            both_ways(rows.iter(), &mut block);
            let first = means.len();
            means.resize(first + rows.nrows(), 0.0);
            for forest in &self.forests {
                sums.clear();
                sums.resize(rows.nrows(), 0.0);
                forest.add(&block, &mut sums);
                means[first..].iter_mut().zip(&sums).for_each(|(mean, sum)| *mean += f64::from(*sum));
            }
            means[first..].iter_mut().for_each(|mean| *mean = *mean / count + self.centre);
        }
        Ok(means)
    }
}

/// What is read of XGBoost's JSON (<https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html>).
#[derive(Deserialize)]
struct Model {
    learner: Learner,
}

#[derive(Deserialize)]
struct Learner {
    gradient_booster: GradientBooster,
}

#[derive(Deserialize)]
struct GradientBooster {
    model: Trees,
}

#[derive(Deserialize)]
struct Trees {
    trees: Vec<Tree>,
}

/// One tree; every list has an entry per node, and a leaf's children are negative.
#[derive(Deserialize)]
struct Tree {
    left_children: Vec<i32>,
    right_children: Vec<i32>,
    split_indices: Vec<u32>,
    /// The threshold, or the value of a leaf.
    split_conditions: Vec<f32>,
    default_left: Vec<Truth>,
}

/// Versions of XGBoost differ in how they write truth.
#[derive(Deserialize)]
#[serde(untagged)]
enum Truth {
    Word(bool),
    Number(u8),
}

impl Tree {
    /// Where a node's children are; `None` for a leaf.
    fn children(&self, node: usize) -> Option<(usize, usize)> {
        Some((usize::try_from(self.left_children[node]).ok()?, usize::try_from(self.right_children[node]).ok()?))
    }

    /// Levels below a node, which is `above` levels below the root; a tree whose lists do not fit together is an error.
    fn depth(&self, node: usize, above: usize) -> Result<usize, String> {
        let nodes = self.left_children.len();
        let lengths =
            [self.right_children.len(), self.split_indices.len(), self.split_conditions.len(), self.default_left.len()];
        if node >= nodes || lengths.iter().any(|length| *length != nodes) {
            return Err("a tree's lists do not fit together".to_owned());
        }
        if above > DEPTH_MAX {
            return Err(format!("a tree is deeper than {DEPTH_MAX}"));
        }
        match self.children(node) {
            None => Ok(0),
            Some((left, right)) => Ok(1 + self.depth(left, above + 1)?.max(self.depth(right, above + 1)?)),
        }
    }

    /// Writes a node and all below it to its place in a complete tree; a leaf that is not at the bottom is written to
    /// every place below it.
    fn lay_out(&self, node: usize, place: usize, splits: &mut [Split], leaves: &mut [f32]) {
        if place >= splits.len() {
            leaves[place - splits.len()] = self.split_conditions[node];
            return;
        }
        let (left, right) = self.children(node).unwrap_or((node, node));
        if left != node {
            let left_if_missing = matches!(self.default_left[node], Truth::Word(true) | Truth::Number(1..));
            splits[place] = Split {
                threshold: self.split_conditions[node],
                slot: 2 * self.split_indices[node] + u32::from(!left_if_missing),
            };
        }
        self.lay_out(left, 2 * place + 1, splits, leaves);
        self.lay_out(right, 2 * place + 2, splits, leaves);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boosters::{Targets, TrainingRows, predict_booster, train_unweighted};

    /// Noise of three features, a tenth of it missing, and a booster of 30 uneven trees.
    fn booster(rows: usize) -> (Booster, Array2<f32>) {
        let mut random = fastrand::Rng::with_seed(9);
        let features = Array2::from_shape_fn((rows, 3), |_| if random.f32() < 0.1 { f32::NAN } else { random.f32() });
        let sum = |row: ndarray::ArrayView1<'_, f32>| {
            row.iter().map(|value| if value.is_nan() { 0.3 } else { *value }).product::<f32>()
        };
        let targets: Vec<f64> = features.rows().into_iter().map(|row| f64::from(sum(row))).collect();
        let targets = Targets::new(&targets);
        let training = TrainingRows { features: &features, targets: &targets };
        let growth = &[("max_depth", "5"), ("eta", "0.3"), ("min_child_weight", "5")];
        (train_unweighted(&training, growth, 30, 4).expect("trained"), features)
    }

    #[test]
    fn a_forest_answers_as_xgboost_does_bit_for_bit() {
        let (booster, features) = booster(1_003);
        let forest = Forest::of_booster(Metric::LatencyMs, &booster, 3).expect("read");
        let expected = predict_booster(&booster, &features).expect("asked");
        let found = Ensemble::new(0.0, vec![forest]);
        let all = found.means(&features).expect("asked");
        assert_eq!(all, expected.iter().map(|value| f64::from(*value)).collect::<Vec<_>>());
        let one = features.select(ndarray::Axis(0), &[7]);
        assert_eq!(found.means(&one).expect("asked")[0].to_bits(), all[7].to_bits(), "alone as among others");
        assert!(matches!(found.means(&Array2::zeros((2, 4))), Err(PredictorError::Columns { found: 4, needed: 3 })));
    }

    #[test]
    fn a_forest_survives_its_bytes_and_a_damaged_one_is_refused() {
        let (booster, _) = booster(300);
        let forest = Forest::of_booster(Metric::LatencyMs, &booster, 3).expect("read");
        let bytes = forest.to_bytes();
        assert_eq!(Forest::from_bytes(&bytes).expect("whole"), forest);
        assert!(Forest::from_bytes(&bytes[..bytes.len() - 4]).is_err(), "cut off");
        let mut foreign = bytes.clone();
        foreign[16] = 200;
        assert!(Forest::from_bytes(&foreign).expect_err("foreign").contains("feature 100 of 3"));
        let mut deep = bytes;
        deep[4] = 60;
        assert!(Forest::from_bytes(&deep).is_err());
    }

    #[test]
    fn a_tree_of_one_leaf_is_a_constant() {
        let tree = Tree {
            left_children: vec![-1],
            right_children: vec![-1],
            split_indices: vec![0],
            split_conditions: vec![0.25],
            default_left: vec![Truth::Number(0)],
        };
        let forest = Forest::of_trees(&[tree], 2).expect("a tree");
        let means = Ensemble::new(1.0, vec![forest]).means(&Array2::zeros((3, 2))).expect("asked");
        assert_eq!(means, [1.25; 3]);
    }
}
