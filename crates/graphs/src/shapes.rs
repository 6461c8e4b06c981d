//! Shape inference: follows a graph from its inputs' dimensions to those of every value.
//!
//! Exported models compute with shapes (`Shape`, `Gather`, `Concat`, `Reshape`, …), so small integer tensors are
//! followed by value as well: see [`Fact::ints`]. Of floats only a few constants are: see [`Fact::floats`].

use std::collections::HashMap;

use crate::{
    error::GraphError,
    model::{ElementType, Shape},
    proto::{GraphProto, NodeProto, TensorProto, ValueInfoProto},
};

mod compute;
mod contributed;
mod elementwise;
mod layout;

pub(crate) use elementwise::{ACTIVATIONS, BROADCAST};

/// Most elements of an integer tensor that is followed by value.
const FOLDED_ELEMENTS_MAX: u64 = 4_096;

/// Most elements of a float tensor that is followed by value: one scale per dimension.
const SCALES_MAX: u64 = 8;

/// Most elements that a value may have; above any memory, and small enough that products of two fit in 128 bits.
const ELEMENTS_MAX: u64 = 1 << 48;

/// What is known of every value, by name.
pub(crate) type Facts = HashMap<String, Fact>;

/// An operator's outputs, or why they cannot be inferred.
type Inferred = Result<Vec<Fact>, String>;

/// What is known of one value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fact {
    pub(crate) element: ElementType,
    pub(crate) dims: Vec<u64>,
    /// The values themselves, if they are a few integers or truth values that do not depend on the input's content.
    pub(crate) ints: Option<Vec<i64>>,
    /// The values themselves, if they are a few floats of a weight: scales of sizes.
    pub(crate) floats: Option<Vec<f32>>,
    /// Whether it is the same whatever the inputs hold: a weight, or computed from weights alone.
    pub(crate) constant: bool,
}

impl Fact {
    /// A value that depends on the inputs.
    pub(crate) fn activation(element: ElementType, dims: Vec<u64>) -> Self {
        Self { element, dims, ints: None, floats: None, constant: false }
    }

    /// A constant one-dimensional integer tensor.
    fn shape_like(ints: Vec<i64>) -> Self {
        let dims = vec![ints.len() as u64];
        Self { element: ElementType::Int64, dims, ints: Some(ints), floats: None, constant: true }
    }

    /// Reads a constant's type, dimensions and, if it is a few integers, content.
    pub(crate) fn of_tensor(tensor: &TensorProto) -> Result<Self, String> {
        let element = ElementType::from_code(tensor.data_type);
        let dims = tensor.dims.iter().map(|dim| u64::try_from(*dim).map_err(|_| format!("a dimension of {dim}")));
        let dims = dims.collect::<Result<Vec<u64>, _>>()?;
        let count = elements(&dims).ok_or("it has more elements than any memory")?;
        let ints = (count <= FOLDED_ELEMENTS_MAX).then(|| integers(tensor, element)).flatten();
        let ints = ints.filter(|ints| ints.len() as u64 == count);
        let is_few = element == ElementType::Float32 && count <= SCALES_MAX && !tensor.raw_data.is_empty();
        let floats = || tensor.raw_data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let floats = is_few.then(floats).filter(|floats: &Vec<f32>| floats.len() as u64 == count);
        Ok(Self { element, dims, ints, floats, constant: true })
    }

    /// How many elements it has.
    pub(crate) fn elements(&self) -> u64 {
        elements(&self.dims).unwrap_or(u64::MAX)
    }

    /// How many bytes it takes.
    pub(crate) fn bytes(&self) -> u64 {
        self.element.bytes_of(self.elements())
    }

    /// The same value with other dimensions.
    fn with_dims(&self, dims: Vec<u64>) -> Self {
        Self { dims, ..self.clone() }
    }
}

/// The product of `dims`; `None` above [`ELEMENTS_MAX`].
pub(crate) fn elements(dims: &[u64]) -> Option<u64> {
    let product = dims.iter().try_fold(1_u64, |product, dim| product.checked_mul(*dim))?;
    (product <= ELEMENTS_MAX).then_some(product)
}

fn integers(tensor: &TensorProto, element: ElementType) -> Option<Vec<i64>> {
    let raw = tensor.raw_data.as_slice();
    match element {
        ElementType::Int64 if !raw.is_empty() => {
            Some(raw.as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect())
        }
        ElementType::Int64 => Some(tensor.int64_data.clone()),
        ElementType::Int32 if !raw.is_empty() => {
            Some(raw.as_chunks::<4>().0.iter().map(|bytes| i64::from(i32::from_le_bytes(*bytes))).collect())
        }
        ElementType::Bool if !raw.is_empty() => Some(raw.iter().map(|byte| i64::from(*byte)).collect()),
        ElementType::Int32 | ElementType::Bool => {
            Some(tensor.int32_data.iter().map(|value| i64::from(*value)).collect())
        }
        _ => None,
    }
}

/// Follows `graph` from `facts` (its weights and inputs) to every value.
///
/// # Errors
///
/// [`GraphError::UnknownOperator`] for an operator that is not known here and whose outputs the file does not describe,
/// [`GraphError::Inference`] for one that does not fit its inputs.
pub(crate) fn infer(graph: &GraphProto, shape: &Shape, mut facts: Facts) -> Result<Facts, GraphError> {
    for node in &graph.node {
        let outputs = {
            let call = Call::new(node, &facts).map_err(|reason| inference(node, reason))?;
            let inferred = call.infer().map_err(|reason| inference(node, reason))?;
            inferred.or_else(|| declared(graph, node, shape))
        };
        let outputs = outputs
            .ok_or_else(|| GraphError::UnknownOperator { operator: qualified(node), node: label(node).to_owned() })?;
        for (name, fact) in node.output.iter().zip(outputs) {
            if elements(&fact.dims).is_none() {
                return Err(inference(node, format!("output {:?} is larger than any memory", fact.dims)));
            }
            if !name.is_empty() {
                facts.insert(name.clone(), fact);
            }
        }
    }
    Ok(facts)
}

/// The node's name, or that of its first output if it has none.
pub(crate) fn label(node: &NodeProto) -> &str {
    if node.name.is_empty() { node.output.first().map_or("", String::as_str) } else { &node.name }
}

fn qualified(node: &NodeProto) -> String {
    if is_standard(node) { node.op_type.clone() } else { format!("{}.{}", node.domain, node.op_type) }
}

/// Whether the operator is one of ONNX's own.
pub(crate) fn is_standard(node: &NodeProto) -> bool {
    node.domain.is_empty() || node.domain == "ai.onnx"
}

fn inference(node: &NodeProto, reason: String) -> GraphError {
    GraphError::Inference { node: label(node).to_owned(), operator: qualified(node), reason }
}

/// Outputs of an unknown operator as the file declares them, if it declares all of them.
fn declared(graph: &GraphProto, node: &NodeProto, shape: &Shape) -> Option<Vec<Fact>> {
    let of_output = |name: &String| {
        if name.is_empty() {
            return Some(Fact::activation(ElementType::Float32, Vec::new()));
        }
        let info: &ValueInfoProto = graph.value_info.iter().chain(&graph.output).find(|info| info.name == *name)?;
        let spec = crate::model::InputSpec::of(info).ok()?;
        Some(Fact::activation(spec.element, spec.declared_dims(shape)?))
    };
    node.output.iter().map(of_output).collect()
}

/// An integer attribute of `node`.
pub(crate) fn attribute_int(node: &NodeProto, name: &str) -> Option<i64> {
    node.attribute.iter().find(|attribute| attribute.name == name).and_then(|attribute| attribute.i)
}

/// A list of integers of `node`.
pub(crate) fn attribute_ints<'a>(node: &'a NodeProto, name: &str) -> Option<&'a [i64]> {
    let found = node.attribute.iter().find(|attribute| attribute.name == name);
    found.map(|attribute| attribute.ints.as_slice())
}

/// Counts a negative axis from the end.
pub(crate) fn wrap_axis(axis: i64, rank: usize) -> Result<usize, String> {
    let rank_signed = i64::try_from(rank).unwrap_or(i64::MAX);
    let wrapped = if axis < 0 { axis.saturating_add(rank_signed) } else { axis };
    usize::try_from(wrapped)
        .ok()
        .filter(|wrapped| *wrapped < rank.max(1))
        .ok_or_else(|| format!("axis {axis} of a tensor with {rank} dimensions"))
}

/// One node with what is known of its inputs.
struct Call<'a> {
    node: &'a NodeProto,
    inputs: Vec<Option<&'a Fact>>,
}

impl<'a> Call<'a> {
    fn new(node: &'a NodeProto, facts: &'a Facts) -> Result<Self, String> {
        let of_input = |name: &String| match name.as_str() {
            "" => Ok(None),
            name => facts.get(name).map(Some).ok_or_else(|| format!("input `{name}` comes from nowhere")),
        };
        let inputs = node.input.iter().map(of_input).collect::<Result<_, _>>()?;
        Ok(Self { node, inputs })
    }

    /// The outputs, or `None` for an unknown operator.
    fn infer(&self) -> Result<Option<Vec<Fact>>, String> {
        if self.node.domain == "com.microsoft" {
            return contributed::infer(self).transpose();
        }
        if !is_standard(self.node) {
            return Ok(None);
        }
        for group in [elementwise::infer, layout::infer, compute::infer] {
            if let Some(outputs) = group(self) {
                return outputs.map(Some);
            }
        }
        Ok(None)
    }

    fn operator(&self) -> &'a str {
        &self.node.op_type
    }

    fn input(&self, index: usize) -> Result<&'a Fact, String> {
        self.optional(index).ok_or_else(|| format!("input {index} is missing"))
    }

    fn optional(&self, index: usize) -> Option<&'a Fact> {
        self.inputs.get(index).copied().flatten()
    }

    /// The inputs that are there.
    fn present(&self) -> impl Iterator<Item = &'a Fact> + '_ {
        self.inputs.iter().copied().flatten()
    }

    /// Whether nothing but weights goes in.
    fn constant(&self) -> bool {
        self.present().all(|fact| fact.constant)
    }

    /// The values of input `index`, which the operator's shape depends on.
    fn ints(&self, index: usize) -> Result<&'a [i64], String> {
        let fact = self.input(index)?;
        fact.ints.as_deref().ok_or_else(|| format!("input {index} depends on the content of the inputs"))
    }

    /// Integers from input `index` or, as in older operator sets, from attribute `name`.
    fn ints_or_attribute(&self, index: usize, name: &str) -> Result<Option<&'a [i64]>, String> {
        match self.optional(index) {
            Some(_) => self.ints(index).map(Some),
            None => Ok(attribute_ints(self.node, name)),
        }
    }

    fn int(&self, name: &str, usual: i64) -> i64 {
        attribute_int(self.node, name).unwrap_or(usual)
    }

    /// Attribute `axis` as an index into `rank` dimensions.
    fn axis(&self, usual: i64, rank: usize) -> Result<usize, String> {
        wrap_axis(self.int("axis", usual), rank)
    }

    /// One output of input 0's type.
    fn like(&self, dims: Vec<u64>) -> Inferred {
        let element = self.input(0)?.element;
        Ok(vec![self.output(element, dims)])
    }

    fn output(&self, element: ElementType, dims: Vec<u64>) -> Fact {
        Fact { element, dims, ints: None, floats: None, constant: self.constant() }
    }
}

/// Converts a computed length to a dimension.
fn dim(length: i128) -> Result<u64, String> {
    u64::try_from(length).map_err(|_| format!("an output dimension of {length}"))
}

/// A dimension as a signed number, for arithmetic.
fn signed(dim: u64) -> i64 {
    i64::try_from(dim).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
