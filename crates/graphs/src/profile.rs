//! What one batch of a model computes, moves and holds, by kind of operator.

use std::collections::BTreeMap;

use messages::{GraphCosts, GraphMemory, OperatorKind};

use crate::{
    costs,
    lifetimes::{self, Activations},
    model::{ElementType, OnnxModel},
    shapes::{Fact, Facts},
};

/// One model at one shape.
#[derive(Debug, Clone, PartialEq)]
pub struct GraphProfile {
    /// Its operators, each a kernel launch if nothing is fused.
    pub costs: GraphCosts,
    /// The same by kind, in the kinds' order; kinds that do not occur are left out.
    pub kinds: Vec<KindProfile>,
    /// Stored bytes of the weights by their format, largest first.
    pub weight_bytes: Vec<(ElementType, u64)>,
    /// Name and bytes of the largest value that is no weight.
    pub largest_activation: Option<(String, u64)>,
    /// The most that all such values take at once, in bytes.
    pub activation_peak_bytes: u64,
}

impl GraphProfile {
    /// The most activation elements that are held at once, about: the bytes, over those of an element of the format
    /// that most of the activations are in.
    pub fn activation_peak_elements(&self) -> f64 {
        let elements = self.costs.activation_elements();
        let bytes: u64 = self.kinds.iter().map(|kind| kind.activation_bytes).sum();
        let bytes_per_element = if elements == 0 { 4.0 } else { bytes as f64 / elements as f64 };
        self.activation_peak_bytes as f64 / bytes_per_element
    }
}

/// All operators of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KindProfile {
    /// The kind.
    pub kind: OperatorKind,
    /// How many there are.
    pub operators: u64,
    /// Multiply-accumulates.
    pub macs: u64,
    /// Bytes of activations that are read and written.
    pub activation_bytes: u64,
    /// Bytes of weights that are read.
    pub weight_bytes: u64,
}

/// The memory of `model`, whose values are described by `facts`.
pub(crate) fn memory(model: &OnnxModel, facts: &Facts) -> GraphMemory {
    let Activations { peak_bytes, largest } = lifetimes::of_graph(model, facts);
    GraphMemory {
        weight_bytes: model.weights().map(Fact::bytes).fold(0, u64::saturating_add),
        activation_peak_bytes: peak_bytes,
        activation_max_bytes: largest.map_or(0, |(_, bytes)| bytes),
    }
}

/// Everything about `model`, whose `costs` are known and whose values are described by `facts`.
pub(crate) fn of_graph(model: &OnnxModel, facts: &Facts, costs: GraphCosts) -> GraphProfile {
    let mut kinds: BTreeMap<OperatorKind, KindProfile> = BTreeMap::new();
    for traffic in model.graph().node.iter().filter_map(|node| costs::of_node(node, facts)) {
        let kind = traffic.cost.kind;
        let row = kinds.entry(kind).or_insert(KindProfile {
            kind,
            operators: 0,
            macs: 0,
            activation_bytes: 0,
            weight_bytes: 0,
        });
        row.operators += 1;
        row.macs = row.macs.saturating_add(traffic.cost.macs);
        row.activation_bytes = row.activation_bytes.saturating_add(traffic.activation_bytes);
        row.weight_bytes = row.weight_bytes.saturating_add(traffic.weight_bytes);
    }
    let mut stored: Vec<(ElementType, u64)> = Vec::new();
    for weight in model.weights() {
        match stored.iter_mut().find(|(element, _)| *element == weight.element) {
            Some((_, bytes)) => *bytes = bytes.saturating_add(weight.bytes()),
            None => stored.push((weight.element, weight.bytes())),
        }
    }
    stored.sort_by_key(|(element, bytes)| (std::cmp::Reverse(*bytes), element.code()));
    let Activations { peak_bytes, largest } = lifetimes::of_graph(model, facts);
    GraphProfile {
        costs,
        kinds: kinds.into_values().collect(),
        weight_bytes: stored,
        largest_activation: largest,
        activation_peak_bytes: peak_bytes,
    }
}
