//! What each operator costs: arithmetic and data moved.
//!
//! Nodes that compute with weights or shapes alone are free, as runtimes fold them when a model is loaded; so are
//! those that only rename data (reshapes).

use std::collections::BTreeMap;

use messages::{GraphCosts, OperatorCost, OperatorKind};

use crate::{
    error::GraphError,
    model::{OnnxModel, packed_elements},
    profile,
    proto::NodeProto,
    shapes::{ACTIVATIONS, Fact, Facts, attribute_int, is_standard},
};

/// Operators that change how data is seen and not where it lies.
pub(crate) const VIEWS: &[&str] = &["Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"];

/// Operators that move data and compute nothing.
const COPIES: &[&str] = &[
    "Cast",
    "CastLike",
    "Concat",
    "DepthToSpace",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "Expand",
    "Gather",
    "GatherElements",
    "GatherND",
    "OneHot",
    "Pad",
    "QuantizeLinear",
    "Resize",
    "ScatterElements",
    "ScatterND",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Tile",
    "Transpose",
    "Trilu",
    "Upsample",
];

/// Copies that touch only as much of their first input as they give out.
const PICKS: &[&str] = &["Gather", "GatherElements", "GatherND", "Slice"];

/// Products of two tensors, whichever formats they have.
const PRODUCTS: &[&str] = &[
    "DynamicQuantizeMatMul",
    "FusedMatMul",
    "Gemm",
    "MatMul",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "QLinearMatMul",
];

/// Costs of every operator of `model`, equal ones merged, in a fixed order.
pub(crate) fn of_graph(model: &OnnxModel, facts: &Facts) -> Result<GraphCosts, GraphError> {
    let mut counts: BTreeMap<OperatorCost, u32> = BTreeMap::new();
    for cost in model.graph().node.iter().filter_map(|node| of_node(node, facts)) {
        let count = counts.entry(cost.cost).or_default();
        *count = count.saturating_add(1);
    }
    if counts.len() > GraphCosts::OPERATORS_MAX {
        return Err(GraphError::TooManyOperators { found: counts.len(), max: GraphCosts::OPERATORS_MAX });
    }
    let operators = counts.into_iter().map(|(cost, count)| OperatorCost { count, ..cost }).collect();
    let memory = Some(profile::memory(model, facts));
    Ok(GraphCosts { parameters: model.parameters(), operators, memory })
}

/// One node's costs with a count of 1, and the bytes behind its elements.
pub(crate) struct NodeCost {
    pub(crate) cost: OperatorCost,
    pub(crate) activation_bytes: u64,
    pub(crate) weight_bytes: u64,
}

/// The size of so many elements of a value.
type Size = fn(&Fact, u64) -> u64;

/// `None` if the node is free.
pub(crate) fn of_node(node: &NodeProto, facts: &Facts) -> Option<NodeCost> {
    let outputs: Vec<&Fact> = node.output.iter().filter_map(|name| facts.get(name)).collect();
    if VIEWS.contains(&node.op_type.as_str()) || outputs.iter().all(|fact| fact.constant) {
        return None;
    }
    let inputs: Vec<&Fact> = node.input.iter().filter_map(|name| facts.get(name)).collect();
    let written = outputs.iter().map(|fact| fact.elements()).fold(0, u64::saturating_add);
    let picks = is_standard(node) && PICKS.contains(&node.op_type.as_str());
    // Elements of each input that are read.
    let read: Vec<(&Fact, u64)> = inputs
        .iter()
        .enumerate()
        .map(|(index, fact)| (*fact, if picks && index == 0 { fact.elements().min(written) } else { fact.elements() }))
        .collect();
    let sum = |constant: bool, size: Size| {
        let wanted = read.iter().filter(|(fact, _)| fact.constant == constant);
        wanted.map(|(fact, elements)| size(fact, *elements)).fold(0, u64::saturating_add)
    };
    let (count, bytes): (Size, Size) = (|_, elements| elements, |fact, elements| fact.element.bytes_of(elements));
    let bytes_written = outputs.iter().map(|fact| fact.bytes()).fold(0, u64::saturating_add);
    let (kind, macs, kernel_size) = arithmetic(node, &inputs, &outputs);
    let cost = OperatorCost {
        kind,
        macs,
        activation_elements: sum(false, count).saturating_add(written),
        weight_elements: packed_elements(node).unwrap_or_else(|| sum(true, count)),
        kernel_size,
        count: 1,
    };
    Some(NodeCost {
        cost,
        activation_bytes: sum(false, bytes).saturating_add(bytes_written),
        weight_bytes: sum(true, bytes),
    })
}

/// Kind, multiply-accumulates and kernel edge.
fn arithmetic(node: &NodeProto, inputs: &[&Fact], outputs: &[&Fact]) -> (OperatorKind, u64, u32) {
    let operator = node.op_type.as_str();
    let out = outputs.first().map_or(0, |fact| fact.elements());
    match (operator, inputs) {
        ("Conv" | "ConvInteger" | "FusedConv", [_, weight, ..]) | ("QLinearConv", [_, _, _, weight, ..]) => {
            let per_output = weight.dims.iter().skip(1).fold(1, |product: u64, length| product.saturating_mul(*length));
            (conv_kind(node, weight, 1), out.saturating_mul(per_output), kernel_size(weight))
        }
        ("ConvTranspose", [x, weight, ..]) => {
            let per_input = weight.dims.iter().skip(1).fold(1, |product: u64, length| product.saturating_mul(*length));
            (conv_kind(node, weight, 0), x.elements().saturating_mul(per_input), kernel_size(weight))
        }
        ("MatMulNBits", [a, ..]) => (OperatorKind::Linear, out.saturating_mul(last(a)), 0),
        ("Attention", [x, weight, ..]) if !is_standard(node) => {
            // The projections, and the attention over what they give.
            let projected = x.elements().saturating_mul(last(weight));
            let mixed = out.saturating_mul(x.dims.get(1).copied().unwrap_or(1)).saturating_mul(2);
            (OperatorKind::Sdpa, projected.saturating_add(mixed), 0)
        }
        (operator, [a, b, ..]) if PRODUCTS.contains(&operator) => {
            let b = if operator == "QLinearMatMul" { inputs.get(3).unwrap_or(b) } else { b };
            let transposed = attribute_int(node, "transA").unwrap_or(0) != 0;
            let inner = if transposed { a.dims.iter().rev().nth(1) } else { a.dims.last() };
            let kind = if a.constant || b.constant { OperatorKind::Linear } else { OperatorKind::Bmm };
            (kind, out.saturating_mul(inner.copied().unwrap_or(1)), 0)
        }
        ("Attention" | "MultiHeadAttention" | "GroupQueryAttention", _) => {
            (OperatorKind::Sdpa, attention_macs(inputs, out), 0)
        }
        _ => (simple_kind(operator), 0, 0),
    }
}

/// The last dimension.
fn last(fact: &Fact) -> u64 {
    fact.dims.last().copied().unwrap_or(1)
}

/// Scores and their use: each query meets each key over the width, twice.
fn attention_macs(inputs: &[&Fact], out: u64) -> u64 {
    let keys = inputs.get(1).and_then(|key| key.dims.iter().rev().nth(1)).copied().unwrap_or(0);
    let queries = inputs.first().map_or(0, |query| query.elements());
    queries.saturating_add(out).saturating_mul(keys)
}

/// `from_axis` is the weight's dimension that a group's input channels lie behind: 1 for `Conv`.
fn conv_kind(node: &NodeProto, weight: &Fact, from_axis: usize) -> OperatorKind {
    let groups = attribute_int(node, "group").and_then(|groups| u64::try_from(groups).ok()).unwrap_or(1);
    // A group of a `ConvTranspose` has all channels in the first dimension.
    let per_group = weight.dims.get(from_axis).copied().unwrap_or(0) / if from_axis == 0 { groups.max(1) } else { 1 };
    match (groups, per_group) {
        (0 | 1, _) if kernel_size(weight) <= 1 => OperatorKind::Conv1,
        (0 | 1, _) => OperatorKind::Conv,
        (_, 1) => OperatorKind::Dw,
        _ => OperatorKind::Gconv,
    }
}

fn kernel_size(weight: &Fact) -> u32 {
    let edge = weight.dims.iter().skip(2).max().copied().unwrap_or(0);
    u32::try_from(edge).unwrap_or(u32::MAX)
}

fn simple_kind(operator: &str) -> OperatorKind {
    if operator.ends_with("Normalization") || operator == "LRN" {
        OperatorKind::Norm
    } else if operator.ends_with("Softmax") {
        OperatorKind::Softmax
    } else if ACTIVATIONS.contains(&operator) || operator.ends_with("Gelu") {
        OperatorKind::Act
    } else if COPIES.contains(&operator) {
        OperatorKind::Copy
    } else if operator.starts_with("Reduce")
        || operator.ends_with("Pool")
        || matches!(operator, "ArgMax" | "ArgMin" | "TopK")
    {
        OperatorKind::Reduce
    } else {
        OperatorKind::Elem
    }
}

#[cfg(test)]
mod tests;
