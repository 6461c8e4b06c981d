//! Boosted trees as flat arrays: what XGBoost trained, in a form that answers fast and saves small.
//!
//! XGBoost wants a matrix object per question, which alone takes longer than the trees. Here every tree is a complete
//! binary tree, so that the way down needs no pointers, and several ways go down at once, so that their loads overlap.
//! Answers are those of XGBoost bit for bit: leaves are added in the trees' order, in single precision.

use messages::Metric;
use ndarray::{Array2, ArrayView2, Axis, s};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{PredictorError, boosters::Trained};

/// Ways down that are followed at once; with half of them a single row takes twice as long.
const LANES: usize = 8;
/// Features of a row that trees can ask for; a power of two.
const SLOTS: usize = 256;
/// Rows whose features stay in the cache while all trees are asked; a multiple of [`LANES`].
const BLOCK_ROWS: usize = 64;
/// Depths that trees are completed to; each has code of its own.
const DEPTHS: [usize; 4] = [4, 7, 10, 12];

/// The trees of one booster.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Forest {
    columns: usize,
    /// One of [`DEPTHS`].
    depth: usize,
    /// `2^depth` per tree, level by level from 1 on, so that the children of `n` are `2n` and `2n + 1`; 0 is unused.
    splits: Vec<Split>,
    /// `2^depth` per tree, from left to right.
    leaves: Vec<f32>,
}

/// An inner node: to the left below the threshold, else to the right.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Split {
    threshold: f32,
    /// Which of a row's features.
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
    pub(crate) fn of_booster(metric: Metric, trained: &Trained, columns: usize) -> Result<Self, PredictorError> {
        let json = trained.booster.save_to_buffer("json".to_owned()).map_err(|source| PredictorError::Booster {
            action: "read",
            metric,
            source,
        })?;
        let trees = |reason: String| PredictorError::Trees { metric, reason };
        let model: Model = serde_json::from_str(&json).map_err(|error| trees(error.to_string()))?;
        Self::of_trees(&model.learner.gradient_booster.model.trees, &trained.columns, columns).map_err(trees)
    }

    /// Lays trees out that know the features `known`, of `columns`.
    fn of_trees(trees: &[Tree], known: &[usize], columns: usize) -> Result<Self, String> {
        let depths = trees.iter().map(|tree| tree.depth(0, 0, known.len())).collect::<Result<Vec<_>, _>>()?;
        let deepest = depths.into_iter().max().unwrap_or(0);
        let depth = DEPTHS.into_iter().find(|depth| *depth >= deepest).ok_or_else(|| too_deep(deepest))?;
        let nodes = 1 << depth;
        let mut forest = Self {
            columns,
            depth,
            splits: vec![TO_THE_LEFT; trees.len() * nodes],
            leaves: vec![0.0; trees.len() * nodes],
        };
        let slot = |column: &usize| u32::try_from(*column).map_err(|error| error.to_string());
        let slots = known.iter().map(slot).collect::<Result<Vec<u32>, _>>()?;
        let places = forest.splits.chunks_exact_mut(nodes).zip(forest.leaves.chunks_exact_mut(nodes));
        for (tree, (splits, leaves)) in trees.iter().zip(places) {
            tree.lay_out(0, 1, &slots, splits, leaves);
        }
        forest.check().map(|()| forest)
    }

    fn trees(&self) -> usize {
        self.leaves.len() >> self.depth
    }

    /// Adds every tree's leaf to the sums of rows: of `block`, by groups of [`LANES`], then of single `rest`.
    fn add(&self, block: &Block, sums: &mut [f32]) {
        match self.depth {
            4 => self.add_complete::<16>(block, sums),
            7 => self.add_complete::<128>(block, sums),
            10 => self.add_complete::<1024>(block, sums),
            _ => self.add_complete::<4096>(block, sums),
        }
    }

    /// The same with the number of nodes known to the compiler.
    fn add_complete<const NODES: usize>(&self, block: &Block, sums: &mut [f32]) {
        let (splits, leaves) = (self.splits.as_chunks::<NODES>().0, self.leaves.as_chunks::<NODES>().0);
        let (together, alone) = sums.as_chunks_mut::<LANES>();
        for (splits, leaves) in splits.iter().zip(leaves) {
            for (values, sums) in block.groups.iter().zip(together.iter_mut()) {
                let mut at = [1_usize; LANES];
                for _ in 0..NODES.ilog2() {
                    for (lane, at) in at.iter_mut().enumerate() {
                        let split = splits[*at & (NODES - 1)];
                        let value = values[split.slot as usize & (SLOTS - 1)][lane];
                        *at = 2 * *at + usize::from(value >= split.threshold);
                    }
                }
                for (sum, at) in sums.iter_mut().zip(at) {
                    *sum += leaves[at & (NODES - 1)];
                }
            }
        }
        for (row, sum) in block.rest.chunks_exact(block.slots).zip(alone) {
            add_one(splits, leaves, row, sum);
        }
    }

    /// What a damaged or foreign file could get wrong.
    fn check(&self) -> Result<(), String> {
        if self.splits.len() != self.leaves.len() || !self.leaves.len().is_multiple_of(1 << self.depth) {
            return Err("the trees are not complete".to_owned());
        }
        let slots = self.columns.max(1);
        if slots > SLOTS {
            return Err(format!("{} features are more than the {SLOTS} that are possible", self.columns));
        }
        match self.splits.iter().find(|split| split.slot as usize >= slots) {
            Some(split) => Err(format!("feature {} of {} is asked for", split.slot, self.columns)),
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
        if !DEPTHS.contains(&depth) {
            return Err(too_deep(depth));
        }
        let nodes = trees << depth;
        if words.len() != 3 + 3 * nodes {
            return Err("the trees are cut off".to_owned());
        }
        let (inner, outer) = words[3..].split_at(2 * nodes);
        let split = |[threshold, slot]: &[[u8; 4]; 2]| Split {
            threshold: f32::from_le_bytes(*threshold),
            slot: u32::from_le_bytes(*slot),
        };
        let forest = Self {
            columns,
            depth,
            splits: inner.as_chunks::<2>().0.iter().map(split).collect(),
            leaves: outer.iter().map(|leaf| f32::from_le_bytes(*leaf)).collect(),
        };
        forest.check().map(|()| forest)
    }
}

fn too_deep(depth: usize) -> String {
    format!("trees are {depth} deep, {} at most are possible", DEPTHS[DEPTHS.len() - 1])
}

/// Adds every tree's leaf to the sum of a single row: several trees are asked at once instead of several rows.
fn add_one<const NODES: usize>(splits: &[[Split; NODES]], leaves: &[[f32; NODES]], row: &[f32], sum: &mut f32) {
    for (splits, leaves) in splits.chunks(LANES).zip(leaves.chunks(LANES)) {
        let mut at = [1_usize; LANES];
        for _ in 0..NODES.ilog2() {
            for (splits, at) in splits.iter().zip(&mut at) {
                let split = splits[*at & (NODES - 1)];
                *at = 2 * *at + usize::from(row[split.slot as usize] >= split.threshold);
            }
        }
        for (leaves, at) in leaves.iter().zip(at) {
            *sum += leaves[at & (NODES - 1)];
        }
    }
}

/// The values of [`LANES`] rows, by slot. Its length is known to the compiler, so that none is checked on the way down.
type Group = [[f32; LANES]; SLOTS];

/// The values of some rows as trees ask for them.
#[derive(Debug, Default)]
struct Block {
    /// Values of a row.
    slots: usize,
    /// Groups of [`LANES`] rows: the first value of each, then the second of each.
    groups: Vec<Box<Group>>,
    /// The rows that make no group, one after the other.
    rest: Vec<f32>,
}

impl Block {
    fn fill(&mut self, rows: &ArrayView2<'_, f32>) {
        self.slots = rows.ncols();
        let together = rows.nrows() / LANES * LANES;
        self.groups.truncate(together / LANES);
        self.groups.resize_with(together / LANES, || Box::new([[0.0; LANES]; SLOTS]));
        for (group, values) in rows.slice(s![..together, ..]).axis_chunks_iter(Axis(0), LANES).zip(&mut self.groups) {
            for (column, values) in group.columns().into_iter().zip(values.iter_mut()) {
                column.iter().zip(values).for_each(|(from, value)| *value = known_or_lowest(*from));
            }
        }
        self.rest.clear();
        self.rest.extend(rows.slice(s![together.., ..]).iter().map(|value| known_or_lowest(*value)));
    }
}

/// What is missing is below all thresholds, as it was in training.
const fn known_or_lowest(value: f32) -> f32 {
    if value.is_nan() { f32::NEG_INFINITY } else { value }
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
pub(crate) struct Forests {
    /// Added to what the boosters say.
    centre: f64,
    forests: Vec<Forest>,
}

impl Forests {
    /// Boosters, of which there is at least one, that trained on targets about `centre`.
    pub(crate) const fn new(centre: f64, forests: Vec<Forest>) -> Self {
        Self { centre, forests }
    }

    /// What the boosters say together, one per row of `features`, which has shape `[rows, features]`; NaN is missing.
    ///
    /// # Errors
    ///
    /// [`PredictorError::Columns`] if they trained on another number of features.
    pub(crate) fn answers(&self, features: &Array2<f32>) -> Result<Vec<Members>, PredictorError> {
        let columns = features.ncols();
        if let Some(forest) = self.forests.iter().find(|forest| forest.columns != columns) {
            return Err(PredictorError::Columns { found: columns, needed: forest.columns });
        }
        let mut answers = vec![Members::about(self.centre); features.nrows()];
        let (mut block, mut sums) = (Block::default(), [0.0; BLOCK_ROWS]);
        for (rows, answers) in features.axis_chunks_iter(Axis(0), BLOCK_ROWS).zip(answers.chunks_mut(BLOCK_ROWS)) {
            block.fill(&rows);
            for forest in &self.forests {
                sums.fill(0.0);
                forest.add(&block, &mut sums[..rows.nrows()]);
                answers.iter_mut().zip(&sums).for_each(|(answer, sum)| answer.add(f64::from(*sum)));
            }
        }
        Ok(answers)
    }
}

/// What the members of an ensemble say of one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Members {
    /// Added to what they say.
    centre: f64,
    sum: f64,
    squares: f64,
    count: f64,
}

impl Members {
    /// None yet, that will say how far from `centre` they predict.
    pub(crate) const fn about(centre: f64) -> Self {
        Self { centre, sum: 0.0, squares: 0.0, count: 0.0 }
    }

    /// Adds what one more member says.
    pub(crate) fn add(&mut self, answer: f64) {
        self.sum += answer;
        self.squares += answer * answer;
        self.count += 1.0;
    }

    /// Their mean, of which there is at least one.
    pub(crate) fn mean(&self) -> f64 {
        self.centre + self.sum / self.count
    }

    /// Their standard deviation.
    pub(crate) fn spread(&self) -> f64 {
        let mean = self.sum / self.count;
        (self.squares / self.count - mean * mean).max(0.0).sqrt()
    }

    /// Members of another kind beside these, on the same scale.
    pub(crate) fn beside(self, other: Self) -> Self {
        let shift = other.centre - self.centre;
        Self {
            centre: self.centre,
            sum: self.sum + other.sum + other.count * shift,
            squares: self.squares + other.squares + 2.0 * shift * other.sum + other.count * shift * shift,
            count: self.count + other.count,
        }
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
}

impl Tree {
    /// Where a node's children are; `None` for a leaf.
    fn children(&self, node: usize) -> Option<(usize, usize)> {
        Some((usize::try_from(self.left_children[node]).ok()?, usize::try_from(self.right_children[node]).ok()?))
    }

    /// Levels below a node, which is `above` levels below the root and asks for one of `known` features; a tree whose lists do not fit together is an error.
    fn depth(&self, node: usize, above: usize, known: usize) -> Result<usize, String> {
        let nodes = self.left_children.len();
        if let Some(feature) = self.split_indices.get(node).filter(|feature| **feature as usize >= known) {
            return Err(format!("a tree asks for feature {feature} of {known}"));
        }
        let lengths = [self.right_children.len(), self.split_indices.len(), self.split_conditions.len()];
        if node >= nodes || lengths.iter().any(|length| *length != nodes) {
            return Err("a tree's lists do not fit together".to_owned());
        }
        if above > DEPTHS[DEPTHS.len() - 1] {
            return Err(too_deep(above));
        }
        match self.children(node) {
            None => Ok(0),
            Some((left, right)) => {
                Ok(1 + self.depth(left, above + 1, known)?.max(self.depth(right, above + 1, known)?))
            }
        }
    }

    /// Writes a node and all below it to its place in a complete tree, whose root is at 1; a leaf that is not at the
    /// bottom is written to every place below it.
    fn lay_out(&self, node: usize, place: usize, slots: &[u32], splits: &mut [Split], leaves: &mut [f32]) {
        if place >= splits.len() {
            leaves[place - splits.len()] = self.split_conditions[node];
            return;
        }
        let (left, right) = self.children(node).unwrap_or((node, node));
        if left != node {
            splits[place] =
                Split { threshold: self.split_conditions[node], slot: slots[self.split_indices[node] as usize] };
        }
        self.lay_out(left, 2 * place, slots, splits, leaves);
        self.lay_out(right, 2 * place + 1, slots, splits, leaves);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boosters::{Targets, TrainingRows, predict_booster, train_booster};

    /// Noise of three features, a tenth of it missing, and a booster of 30 uneven trees.
    fn booster(rows: usize) -> (Trained, Array2<f32>) {
        let mut random = fastrand::Rng::with_seed(9);
        let mut features =
            Array2::from_shape_fn((rows, 4), |_| if random.f32() < 0.1 { f32::NAN } else { random.f32() });
        // What never varies is not given to XGBoost.
        features.column_mut(1).fill(f32::NAN);
        let sum = |row: ndarray::ArrayView1<'_, f32>| {
            row.iter().map(|value| if value.is_nan() { 0.3 } else { *value }).product::<f32>()
        };
        let targets: Vec<f64> = features.rows().into_iter().map(|row| f64::from(sum(row))).collect();
        let targets = Targets::new(&targets);
        let training = TrainingRows { features: &features, targets: &targets };
        let growth = &[("max_depth", "5"), ("eta", "0.3"), ("min_child_weight", "5")];
        (train_booster(&training, growth, 30, 4).expect("trained"), features)
    }

    #[test]
    fn a_forest_answers_as_xgboost_does_bit_for_bit() {
        let (booster, features) = booster(1_003);
        let forest = Forest::of_booster(Metric::LatencyMs, &booster, 4).expect("read");
        let expected = predict_booster(&booster, &features).expect("asked");
        let found = Forests::new(0.0, vec![forest]);
        let means = |features: &Array2<f32>| -> Vec<f64> {
            found.answers(features).expect("asked").iter().map(Members::mean).collect()
        };
        let all = means(&features);
        assert_eq!(all, expected.iter().map(|value| f64::from(*value)).collect::<Vec<_>>());
        let one = features.select(Axis(0), &[7]);
        assert_eq!(means(&one)[0].to_bits(), all[7].to_bits(), "alone as among others");
        assert!(matches!(found.answers(&Array2::zeros((2, 5))), Err(PredictorError::Columns { found: 5, needed: 4 })));
    }

    #[test]
    fn a_forest_survives_its_bytes_and_a_damaged_one_is_refused() {
        let (booster, _) = booster(300);
        let forest = Forest::of_booster(Metric::LatencyMs, &booster, 4).expect("read");
        let bytes = forest.to_bytes();
        assert_eq!(Forest::from_bytes(&bytes).expect("whole"), forest);
        assert!(Forest::from_bytes(&bytes[..bytes.len() - 4]).is_err(), "cut off");
        let mut foreign = bytes.clone();
        // The slot of the first tree's root.
        foreign[24] = 200;
        assert!(Forest::from_bytes(&foreign).expect_err("foreign").contains("feature 200 of 4"));
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
        };
        let forest = Forest::of_trees(&[tree], &[0], 2).expect("a tree");
        let answers = Forests::new(1.0, vec![forest]).answers(&Array2::zeros((3, 2))).expect("asked");
        assert_eq!(answers.iter().map(|of| (of.mean(), of.spread())).collect::<Vec<_>>(), [(1.25, 0.0); 3]);
    }

    #[test]
    fn members_have_a_mean_and_a_spread_whatever_their_centres() {
        let members = |centre: f64, answers: &[f64]| {
            let mut members = Members::about(centre);
            for answer in answers {
                members.add(*answer);
            }
            members
        };
        let both = members(1.0, &[1.0, 3.0]).beside(members(2.0, &[0.0, 4.0]));
        // They say 2, 4, 2 and 6.
        assert!((both.mean() - 3.5).abs() < 1e-12 && (both.spread() - 2.75_f64.sqrt()).abs() < 1e-12, "{both:?}");
    }
}
