//! Sums over a graph's operators: what they compute, move and take at a device's peaks.
//!
//! Most sums grow with the batch, so they are made once per graph and size ([`Shape`]); only what takes how long depends
//! on the device and on the batch in other ways.

use messages::OperatorKind;

use crate::{MeasuredRow, ModelOperators, described::Peaks};

/// Kinds of operators; a kind's discriminant is its index.
pub(crate) const KINDS: usize = OperatorKind::ALL.len();

/// Arithmetic that takes this many times as long as its bytes has plenty to compute on.
const DENSE_FACTOR: f64 = 4.0;
/// The share of its roofline that an operator keeps if a compiler fuses it with its neighbours: it reads and writes
/// caches instead of memory, but for one end of the chain.
const FUSED_SHARE: f64 = 0.25;

/// What bounds an operator, and how clearly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Regime {
    /// Its bytes.
    Memory,
    /// Its arithmetic, by less than [`DENSE_FACTOR`].
    Compute,
    /// Its arithmetic, by far.
    Dense,
}

impl Regime {
    pub(crate) const ALL: [Self; 3] = [Self::Memory, Self::Compute, Self::Dense];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Compute => "compute",
            Self::Dense => "dense",
        }
    }
}

/// Sums over a graph's operators for one batch; seconds are rooflines.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct GraphSums {
    pub(crate) macs: [f64; KINDS],
    pub(crate) elements: [f64; KINDS],
    pub(crate) operators: [f64; KINDS],
    /// By kind and [`Regime`].
    pub(crate) seconds: [[f64; 3]; KINDS],
    pub(crate) distinct: f64,
    pub(crate) weights: f64,
    pub(crate) fused_seconds: f64,
    pub(crate) compute_bound_seconds: f64,
    pub(crate) largest_elements: f64,
    /// The most activation elements that are held at once, if that is known.
    pub(crate) peak_elements: Option<f64>,
    /// Activation elements of the largest operator that needs all of what it reads and writes at once.
    pub(crate) least_elements: f64,
    /// Mean over MACs of ln(operations per byte).
    pub(crate) log_intensity_of_macs: f64,
    /// Mean over MACs of ln(uses of one weight).
    pub(crate) log_weight_reuse: f64,
    /// Mean over elements of ln(elements of one operator and item).
    pub(crate) log_elements_of_elements: f64,
    /// MACs in kernels of at least 5×5.
    pub(crate) large_kernel_macs: f64,
    /// MACs in 2×2 kernels.
    pub(crate) patch_kernel_macs: f64,
    /// Sum over depthwise convolutions of elements times kernel edge.
    pub(crate) depthwise_kernel_elements: f64,
}

impl GraphSums {
    const ZERO: Self = Self {
        macs: [0.0; KINDS],
        elements: [0.0; KINDS],
        operators: [0.0; KINDS],
        seconds: [[0.0; 3]; KINDS],
        distinct: 0.0,
        weights: 0.0,
        fused_seconds: 0.0,
        compute_bound_seconds: 0.0,
        largest_elements: 0.0,
        peak_elements: None,
        least_elements: 0.0,
        log_intensity_of_macs: 0.0,
        log_weight_reuse: 0.0,
        log_elements_of_elements: 0.0,
        large_kernel_macs: 0.0,
        patch_kernel_macs: 0.0,
        depthwise_kernel_elements: 0.0,
    };

    pub(crate) fn roofline_seconds(&self) -> f64 {
        self.seconds.iter().flatten().sum()
    }
}

/// A graph at one size.
#[derive(Debug)]
pub(crate) struct Shape {
    operators: Vec<Operator>,
    /// Of a batch of one item; what depends on a device is 0.
    one: GraphSums,
    /// MACs of operators with weights, of one item.
    weighted_macs: f64,
}

/// An operator of one item.
#[derive(Debug)]
struct Operator {
    kind: OperatorKind,
    count: f64,
    macs: f64,
    elements: f64,
    weights: f64,
}

impl Shape {
    /// Takes the graph to the size that a row has.
    pub(crate) fn of(entry: &ModelOperators, row: &MeasuredRow) -> Self {
        let over = |asked: Option<f64>, counted: Option<f64>| asked.zip(counted).map_or(1.0, |(a, c)| a / c);
        let scale = over(row.image_size, entry.image_size).powi(2) * over(row.sequence_length, entry.sequence_length);
        let mut one = GraphSums::ZERO;
        one.distinct = entry.operators.len() as f64;
        one.peak_elements = entry.activation_peak_elements.map(|elements| elements * scale);
        let mut operators = Vec::with_capacity(entry.operators.len());
        let mut weighted_macs = 0.0;
        for operator in &entry.operators {
            let (kind, count) = (operator.kind as usize, f64::from(operator.count));
            let (macs, elements) = (operator.macs as f64 * scale, operator.activation_elements as f64 * scale);
            let weights = operator.weight_elements as f64;
            one.macs[kind] += macs * count;
            one.elements[kind] += elements * count;
            one.operators[kind] += count;
            one.weights += weights * count;
            if reads_and_writes_at_once(operator.kind) {
                one.least_elements = one.least_elements.max(elements);
            }
            if macs > 0.0 && weights > 0.0 {
                one.log_weight_reuse += macs * count * (macs / weights).ln();
                weighted_macs += macs * count;
            }
            one.log_elements_of_elements += elements * count * elements.max(1.0).ln();
            match operator.kernel_size {
                2 => one.patch_kernel_macs += macs * count,
                5.. => one.large_kernel_macs += macs * count,
                _ => {}
            }
            if operator.kind == OperatorKind::Dw {
                one.depthwise_kernel_elements += elements * count * f64::from(operator.kernel_size);
            }
            operators.push(Operator { kind: operator.kind, count, macs, elements, weights });
        }
        Self { operators, one, weighted_macs }
    }

    /// The sums for a batch on a device with these peaks.
    pub(crate) fn sums(&self, batch_size: f64, peaks: Peaks) -> GraphSums {
        let one = &self.one;
        let (macs, elements) = (one.macs.map(|macs| macs * batch_size), one.elements.map(|some| some * batch_size));
        let (all_macs, all_elements) = (macs.iter().sum::<f64>(), elements.iter().sum::<f64>());
        let reuse = one.log_weight_reuse + self.weighted_macs * batch_size.ln();
        let mut sums = GraphSums {
            macs,
            elements,
            peak_elements: one.peak_elements.map(|elements| elements * batch_size),
            least_elements: one.least_elements * batch_size,
            log_weight_reuse: reuse * batch_size / all_macs.max(1.0),
            log_elements_of_elements: one.log_elements_of_elements * batch_size / all_elements.max(1.0),
            large_kernel_macs: one.large_kernel_macs * batch_size,
            patch_kernel_macs: one.patch_kernel_macs * batch_size,
            depthwise_kernel_elements: one.depthwise_kernel_elements * batch_size,
            ..*one
        };
        self.add_rooflines(&mut sums, batch_size, peaks);
        sums.log_intensity_of_macs /= all_macs.max(1.0);
        sums
    }

    /// Adds what depends on the device: of each operator the longer of its arithmetic and its bytes.
    fn add_rooflines(&self, sums: &mut GraphSums, batch_size: f64, peaks: Peaks) {
        for operator in &self.operators {
            let (macs, elements) = (operator.macs * batch_size, operator.elements * batch_size);
            let bytes = elements * peaks.activation_bytes + operator.weights * peaks.weight_bytes;
            let (compute_s, memory_s) = (2.0 * macs / peaks.flops, bytes / peaks.bytes_per_s);
            let seconds = compute_s.max(memory_s) * operator.count;
            let regime = match compute_s {
                short if short <= memory_s => Regime::Memory,
                long if long < DENSE_FACTOR * memory_s => Regime::Compute,
                _ => Regime::Dense,
            };
            sums.seconds[operator.kind as usize][regime as usize] += seconds;
            sums.fused_seconds += seconds * if fuses(operator.kind) { FUSED_SHARE } else { 1.0 };
            if regime != Regime::Memory {
                sums.compute_bound_seconds += seconds;
            }
            sums.largest_elements = sums.largest_elements.max(elements + operator.weights);
            if macs > 0.0 {
                sums.log_intensity_of_macs += macs * operator.count * (2.0 * macs / bytes).ln();
            }
        }
    }
}

/// Whether an operator's inputs and outputs must all be in memory at once: others work in place, or are fused so that
/// what is between them never exists, as attention is.
const fn reads_and_writes_at_once(kind: OperatorKind) -> bool {
    matches!(kind, OperatorKind::Conv | OperatorKind::Conv1 | OperatorKind::Gconv | OperatorKind::Linear)
}

/// Whether compilers fuse operators of this kind with their neighbours.
const fn fuses(kind: OperatorKind) -> bool {
    matches!(kind, OperatorKind::Norm | OperatorKind::Act | OperatorKind::Elem | OperatorKind::Copy)
}
