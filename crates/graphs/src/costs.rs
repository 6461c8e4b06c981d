//! What each operator costs: arithmetic and data moved.
//!
//! Nodes that compute with weights or shapes alone are free, as runtimes fold them when a model is loaded; so are
//! those that only rename data (reshapes).

use std::collections::BTreeMap;

use messages::{GraphCosts, OperatorCost, OperatorKind};

use crate::{
    error::GraphError,
    model::OnnxModel,
    proto::NodeProto,
    shapes::{ACTIVATIONS, Fact, Facts, attribute_int, is_standard},
};

/// Operators that change how data is seen and not where it lies.
const VIEWS: &[&str] = &["Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"];

/// Operators that move data and compute nothing.
const COPIES: &[&str] = &[
    "Cast",
    "CastLike",
    "Concat",
    "DepthToSpace",
    "DequantizeLinear",
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

/// Costs of every operator of `model`, equal ones merged, in a fixed order.
pub(crate) fn of_graph(model: &OnnxModel, facts: &Facts) -> Result<GraphCosts, GraphError> {
    let mut counts: BTreeMap<OperatorCost, u32> = BTreeMap::new();
    for cost in model.graph().node.iter().filter_map(|node| of_node(node, facts)) {
        let count = counts.entry(cost).or_default();
        *count = count.saturating_add(1);
    }
    if counts.len() > GraphCosts::OPERATORS_MAX {
        return Err(GraphError::TooManyOperators { found: counts.len(), max: GraphCosts::OPERATORS_MAX });
    }
    let operators = counts.into_iter().map(|(cost, count)| OperatorCost { count, ..cost }).collect();
    Ok(GraphCosts { parameters: model.parameters(), operators })
}

/// One node's costs with a count of 1; `None` if it is free.
fn of_node(node: &NodeProto, facts: &Facts) -> Option<OperatorCost> {
    let outputs: Vec<&Fact> = node.output.iter().filter_map(|name| facts.get(name)).collect();
    if VIEWS.contains(&node.op_type.as_str()) || outputs.iter().all(|fact| fact.constant) {
        return None;
    }
    let inputs: Vec<&Fact> = node.input.iter().filter_map(|name| facts.get(name)).collect();
    let written = total(outputs.iter().copied());
    let picks = is_standard(node) && PICKS.contains(&node.op_type.as_str());
    let read = |constant: bool| {
        let of_input = |(index, fact): (usize, &&Fact)| match fact.constant == constant {
            true if picks && index == 0 => fact.elements().min(written),
            true => fact.elements(),
            false => 0,
        };
        inputs.iter().enumerate().map(of_input).fold(0, u64::saturating_add)
    };
    let (kind, macs, kernel_size) = arithmetic(node, &inputs, &outputs);
    Some(OperatorCost {
        kind,
        macs,
        activation_elements: read(false).saturating_add(written),
        weight_elements: read(true),
        kernel_size,
        count: 1,
    })
}

fn total<'a>(facts: impl Iterator<Item = &'a Fact>) -> u64 {
    facts.map(Fact::elements).fold(0, u64::saturating_add)
}

/// Kind, multiply-accumulates and kernel edge.
fn arithmetic(node: &NodeProto, inputs: &[&Fact], outputs: &[&Fact]) -> (OperatorKind, u64, u32) {
    let operator = node.op_type.as_str();
    let out = outputs.first().map_or(0, |fact| fact.elements());
    match (operator, inputs) {
        ("Conv", [_, weight, ..]) => {
            let per_output = weight.dims.iter().skip(1).fold(1, |product: u64, length| product.saturating_mul(*length));
            (conv_kind(node, weight, 1), out.saturating_mul(per_output), kernel_size(weight))
        }
        ("ConvTranspose", [x, weight, ..]) => {
            let per_input = weight.dims.iter().skip(1).fold(1, |product: u64, length| product.saturating_mul(*length));
            (conv_kind(node, weight, 0), x.elements().saturating_mul(per_input), kernel_size(weight))
        }
        ("MatMul" | "MatMulInteger" | "Gemm", [a, b, ..]) => {
            let transposed = operator == "Gemm" && attribute_int(node, "transA").unwrap_or(0) != 0;
            let inner = if transposed { a.dims.first() } else { a.dims.last() };
            let kind = if a.constant || b.constant { OperatorKind::Linear } else { OperatorKind::Bmm };
            (kind, out.saturating_mul(inner.copied().unwrap_or(1)), 0)
        }
        ("Attention" | "MultiHeadAttention" | "GroupQueryAttention", _) => {
            (OperatorKind::Sdpa, attention_macs(inputs, out), 0)
        }
        _ => (simple_kind(operator), 0, 0),
    }
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
    } else if ACTIVATIONS.contains(&operator) {
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
