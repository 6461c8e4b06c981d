//! What a model's graph costs to run, whatever runs it.

use std::{fmt, str::FromStr};

use crate::UnknownWord;

/// Operators grouped by what bounds their speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OperatorKind {
    /// Dense convolution with a kernel above 1×1.
    Conv,
    /// 1×1 convolution.
    Conv1,
    /// Grouped convolution.
    Gconv,
    /// Depthwise convolution.
    Dw,
    /// Matrix product with weights.
    Linear,
    /// Batched matrix product of activations.
    Bmm,
    /// Fused attention.
    Sdpa,
    /// Normalisation.
    Norm,
    /// Activation function.
    Act,
    /// Softmax.
    Softmax,
    /// Data movement: transpose, concatenate, gather, pad.
    Copy,
    /// Reduction and pooling.
    Reduce,
    /// Element-wise arithmetic.
    Elem,
}

impl OperatorKind {
    /// All kinds, in the order that feature columns use.
    pub const ALL: &[Self] = &[
        Self::Conv,
        Self::Conv1,
        Self::Gconv,
        Self::Dw,
        Self::Linear,
        Self::Bmm,
        Self::Sdpa,
        Self::Norm,
        Self::Act,
        Self::Softmax,
        Self::Copy,
        Self::Reduce,
        Self::Elem,
    ];

    /// The word as operator tables write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Conv => "conv",
            Self::Conv1 => "conv1",
            Self::Gconv => "gconv",
            Self::Dw => "dw",
            Self::Linear => "linear",
            Self::Bmm => "bmm",
            Self::Sdpa => "sdpa",
            Self::Norm => "norm",
            Self::Act => "act",
            Self::Softmax => "softmax",
            Self::Copy => "copy",
            Self::Reduce => "reduce",
            Self::Elem => "elem",
        }
    }
}

impl fmt::Display for OperatorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for OperatorKind {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == text).ok_or_else(|| UnknownWord {
            kind: "operator kind",
            found: text.to_owned(),
            known: Self::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", "),
        })
    }
}

/// One distinct operator and how often it occurs; the other numbers are those of one occurrence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OperatorCost {
    /// What bounds its speed.
    pub kind: OperatorKind,
    /// Multiply-accumulates.
    pub macs: u64,
    /// Activation elements read and written.
    pub activation_elements: u64,
    /// Weight elements read.
    pub weight_elements: u64,
    /// Edge of the convolution kernel; 0 where there is none.
    pub kernel_size: u32,
    /// How often this operator occurs in the graph, at least 1.
    pub count: u32,
}

/// A model's costs for one batch of a given shape.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct GraphCosts {
    /// Trainable parameters, in elements.
    pub parameters: u64,
    /// The distinct operators, for the whole batch.
    pub operators: Vec<OperatorCost>,
    /// What the graph holds in memory, where the graph itself was read.
    pub memory: Option<GraphMemory>,
}

/// What a graph holds in memory while it runs, in bytes; buffers of the operators' own are not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GraphMemory {
    /// All stored weights, in the formats in which they are stored.
    pub weight_bytes: u64,
    /// The most that inputs, outputs and values in between take at once, in the graph's order.
    pub activation_peak_bytes: u64,
    /// The largest of those values.
    pub activation_max_bytes: u64,
}

impl GraphCosts {
    /// Most distinct operators that a message carries.
    pub const OPERATORS_MAX: usize = 4_096;

    /// Multiply-accumulates of one batch.
    pub fn macs(&self) -> u64 {
        self.sum(|operator| operator.macs)
    }

    /// Activation elements read and written by one batch.
    pub fn activation_elements(&self) -> u64 {
        self.sum(|operator| operator.activation_elements)
    }

    /// Weight elements read by one batch.
    pub fn weight_elements(&self) -> u64 {
        self.sum(|operator| operator.weight_elements)
    }

    /// Operators in the graph, repeats counted.
    pub fn operator_count(&self) -> u64 {
        self.operators.iter().map(|operator| u64::from(operator.count)).sum()
    }

    fn sum(&self, cost: impl Fn(&OperatorCost) -> u64) -> u64 {
        self.operators.iter().fold(0, |total: u64, operator| {
            total.saturating_add(cost(operator).saturating_mul(u64::from(operator.count)))
        })
    }
}
