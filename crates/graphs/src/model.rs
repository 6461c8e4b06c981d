//! A model's structure: what it takes, what it computes, how large it is. The weights themselves stay on disk.

use std::{collections::HashMap, path::Path};

use messages::{Configuration, GraphCosts, Precision};

use crate::{
    costs,
    error::GraphError,
    profile::{self, GraphProfile},
    proto::{GraphProto, ModelProto, NodeProto, TensorProto},
    reader,
    shapes::{self, Fact, Facts, attribute_int},
};

mod inputs;
mod types;

pub use inputs::{ConcreteInput, InputSpec};
pub use types::{Dim, ElementType};

/// The sizes of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Items.
    pub batch_size: u32,
    /// Tokens or frames per item; `None` for a model without such a dimension.
    pub sequence_length: Option<u32>,
    /// Pixels per image edge; `None` for a model without such a dimension, or with a fixed one.
    pub image_size: Option<u32>,
}

impl Shape {
    /// The sizes that `configuration` asks for.
    pub fn of(configuration: &Configuration) -> Self {
        Self {
            batch_size: configuration.batch_size,
            sequence_length: configuration.sequence_length,
            image_size: configuration.image_size,
        }
    }
}

/// An ONNX model without its weights.
#[derive(Debug, Clone)]
pub struct OnnxModel {
    opset: i64,
    inputs: Vec<InputSpec>,
    graph: GraphProto,
    weights: HashMap<String, Fact>,
    parameters: u64,
    external: Option<String>,
}

impl OnnxModel {
    /// Reads the file at `path`; the bytes of large weights are skipped, so this takes milliseconds and little memory.
    ///
    /// # Errors
    ///
    /// [`GraphError::NotOnnx`] for bytes that are no ONNX model, [`GraphError::Io`] if the file cannot be read.
    pub fn read(path: &Path) -> Result<Self, GraphError> {
        let model = reader::read_model(path)?;
        Self::new(model).map_err(|reason| GraphError::NotOnnx { path: path.to_owned(), reason })
    }

    /// Checks and indexes a decoded file; the error says what is missing.
    pub(crate) fn new(model: ModelProto) -> Result<Self, String> {
        let mut graph = model.graph.ok_or("it has no graph")?;
        let is_own = |domain: &str| domain.is_empty() || domain == "ai.onnx";
        let opset = model.opset_import.iter().find(|set| is_own(&set.domain)).map(|set| set.version);
        let opset = opset.filter(|version| *version > 0).ok_or("it does not say which operator set it uses")?;
        if graph.node.is_empty() || graph.output.is_empty() {
            return Err("its graph computes nothing".to_owned());
        }
        let initializers = std::mem::take(&mut graph.initializer);
        let external = initializers.iter().find(|tensor| tensor.data_location == TensorProto::EXTERNAL);
        let external = external.map(|tensor| tensor.name.clone());
        let mut weights = HashMap::with_capacity(initializers.len());
        for tensor in &initializers {
            let fact = Fact::of_tensor(tensor).map_err(|reason| format!("weight `{}`: {reason}", tensor.name))?;
            weights.insert(tensor.name.clone(), fact);
        }
        let parameters = count_parameters(&graph, &weights)?;
        let inputs = graph.input.iter().filter(|input| !weights.contains_key(&input.name)).map(InputSpec::of);
        let inputs = inputs.collect::<Result<_, _>>()?;
        Ok(Self { opset, inputs, graph, weights, parameters, external })
    }

    /// What the model takes, in its own order.
    pub fn inputs(&self) -> &[InputSpec] {
        &self.inputs
    }

    /// The edge of the images of a model that takes one size only.
    pub fn fixed_image_size(&self) -> Option<u32> {
        self.inputs.iter().find_map(|input| match input.dims[..] {
            [_, _, Dim::Fixed(height), Dim::Fixed(width)] if input.element.is_float() && height == width => {
                u32::try_from(height).ok()
            }
            _ => None,
        })
    }

    /// Version of ONNX's own operators that the model uses.
    pub fn opset(&self) -> i64 {
        self.opset
    }

    /// Trainable parameters: elements of float weights, each weight once, without batch normalisation's statistics.
    pub fn parameters(&self) -> u64 {
        self.parameters
    }

    /// What the model computes in: the narrowest format that any of its products has.
    ///
    /// Converters leave what is small or delicate in a wider one, so the narrowest is what a file is called after.
    pub fn precision(&self) -> Precision {
        let has = |operators: &[&str]| self.graph.node.iter().any(|node| operators.contains(&node.op_type.as_str()));
        let is_four_bits = |node: &NodeProto| is_block_quantised(node) && attribute_int(node, "bits").unwrap_or(4) == 4;
        // ONNX's own 4-bit integers have no name here.
        let is_four_bit_tensor = |weight: &Fact| matches!(weight.element, ElementType::Other(21 | 22));
        if self.graph.node.iter().any(is_four_bits) || self.weights.values().any(is_four_bit_tensor) {
            Precision::Int4
        } else if has(INTEGER_PRODUCTS) || has(&["DequantizeLinear", "MatMulNBits"]) {
            Precision::Int8
        } else if self.weights.values().any(|weight| weight.element == ElementType::Float16 && weight.elements() > 1) {
            Precision::Fp16
        } else {
            Precision::Fp32
        }
    }

    /// Checks that the model, called `name`, computes in `asked`.
    ///
    /// # Errors
    ///
    /// [`GraphError::OtherPrecision`] if not.
    pub fn expect_precision(&self, name: &str, asked: Precision) -> Result<(), GraphError> {
        let found = self.precision();
        if found == asked {
            return Ok(());
        }
        Err(GraphError::OtherPrecision { name: name.to_owned(), found, asked })
    }

    /// The first weight that lies in another file, if any.
    pub(crate) fn external_weight(&self) -> Option<&str> {
        self.external.as_deref()
    }

    /// What is known of each weight.
    pub(crate) fn weights(&self) -> impl Iterator<Item = &Fact> {
        self.weights.values()
    }

    pub(crate) fn graph(&self) -> &GraphProto {
        &self.graph
    }

    /// What one batch of `shape` costs.
    ///
    /// # Errors
    ///
    /// [`GraphError::ShapeMismatch`] and [`GraphError::MissingDimension`] if the model cannot take `shape`,
    /// [`GraphError::UnknownOperator`] and [`GraphError::Inference`] if the graph cannot be followed.
    pub fn costs(&self, shape: &Shape) -> Result<GraphCosts, GraphError> {
        let (_, facts) = self.infer(shape)?;
        costs::of_graph(self, &facts)
    }

    /// The same with bytes, by kind of operator.
    ///
    /// # Errors
    ///
    /// As [`costs`](Self::costs).
    pub fn profile(&self, shape: &Shape) -> Result<GraphProfile, GraphError> {
        let (_, facts) = self.infer(shape)?;
        let costs = costs::of_graph(self, &facts)?;
        Ok(profile::of_graph(self, &facts, costs))
    }

    /// The inputs of one batch of `shape`, in the model's order.
    ///
    /// # Errors
    ///
    /// As [`costs`](Self::costs): a shape that comes back can be run.
    pub fn concrete_inputs(&self, shape: &Shape) -> Result<Vec<ConcreteInput>, GraphError> {
        let (dims, facts) = self.infer(shape)?;
        let concrete = self.inputs.iter().zip(dims).map(|(input, dims)| {
            let dims = dims.into_iter().map(|dim| usize::try_from(dim).unwrap_or(usize::MAX)).collect();
            let value_max = inputs::value_max(&self.graph, &facts, &input.name);
            ConcreteInput { name: input.name.clone(), element: input.element, dims, value_max }
        });
        Ok(concrete.collect())
    }

    /// Every value's fact at `shape`.
    #[cfg(test)]
    pub(crate) fn facts(&self, shape: &Shape) -> Result<Facts, GraphError> {
        self.infer(shape).map(|(_, facts)| facts)
    }

    /// Every input's dimensions and every value's fact at `shape`.
    fn infer(&self, shape: &Shape) -> Result<(Vec<Vec<u64>>, Facts), GraphError> {
        let dims = inputs::resolve(&self.inputs, shape)?;
        match self.follow(&dims, shape) {
            Ok(facts) => Ok((dims, facts)),
            Err(error @ GraphError::Inference { .. }) => {
                Err(self.longest_sequence(shape).map_or(error, |longest| GraphError::ShapeMismatch {
                    dimension: "sequence length",
                    asked: u64::from(shape.sequence_length.unwrap_or(0)),
                    possible: format!("at most {longest} is possible"),
                }))
            }
            Err(error) => Err(error),
        }
    }

    fn follow(&self, dims: &[Vec<u64>], shape: &Shape) -> Result<Facts, GraphError> {
        let mut facts = self.weights.clone();
        for (input, dims) in self.inputs.iter().zip(dims) {
            facts.insert(input.name.clone(), Fact::activation(input.element, dims.clone()));
        }
        shapes::infer(&self.graph, shape, facts)
    }

    /// The longest sequence below the one asked for that the graph can be followed with, by bisection.
    ///
    /// A table of positions that is too short shows only as two dimensions that do not fit somewhere in the graph;
    /// this turns that into the limit that a person can act on.
    fn longest_sequence(&self, shape: &Shape) -> Option<u32> {
        let fits = |length: u32| {
            let shape = Shape { sequence_length: Some(length), ..*shape };
            inputs::resolve(&self.inputs, &shape).is_ok_and(|dims| self.follow(&dims, &shape).is_ok())
        };
        let (mut fitting, mut failing) = (1, shape.sequence_length?);
        if failing <= 1 || !fits(fitting) {
            return None;
        }
        while failing - fitting > 1 {
            let middle = fitting.midpoint(failing);
            if fits(middle) {
                fitting = middle;
            } else {
                failing = middle;
            }
        }
        Some(fitting)
    }
}

/// Products of 8-bit integers.
const INTEGER_PRODUCTS: &[&str] = &["ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul"];

/// Whether a node's weight is packed into blocks of a few bits.
pub(crate) fn is_block_quantised(node: &NodeProto) -> bool {
    node.op_type == "MatMulNBits" && node.domain == "com.microsoft"
}

/// Weights that `node` packs into blocks, counted before they were packed.
pub(crate) fn packed_elements(node: &NodeProto) -> Option<u64> {
    let length = |name| attribute_int(node, name).and_then(|length| u64::try_from(length).ok());
    is_block_quantised(node).then(|| length("K")?.checked_mul(length("N")?)).flatten()
}

/// Elements of each weight, but for those that nobody trained: statistics, steps and zero points.
fn count_parameters(graph: &GraphProto, weights: &HashMap<String, Fact>) -> Result<u64, String> {
    let trained = |fact: &Fact| if fact.element.is_float() { fact.elements() } else { 0 };
    let mut counted: HashMap<&str, u64> = weights.iter().map(|(name, fact)| (name.as_str(), trained(fact))).collect();
    for node in &graph.node {
        let mut count = |inputs: std::ops::Range<usize>, elements: &dyn Fn(&Fact) -> u64| {
            for name in node.input.iter().take(inputs.end).skip(inputs.start) {
                if let (Some(count), Some(fact)) = (counted.get_mut(name.as_str()), weights.get(name)) {
                    *count = elements(fact);
                }
            }
        };
        match node.op_type.as_str() {
            "BatchNormalization" => count(3..5, &|_| 0),
            "MatMulInteger" | "ConvInteger" => count(1..2, &Fact::elements),
            "QLinearConv" | "QLinearMatMul" => {
                count(1..8, &|_| 0);
                count(3..4, &Fact::elements);
                count(8..9, &Fact::elements);
            }
            "QuantizeLinear" => count(1..3, &|_| 0),
            "DequantizeLinear" => {
                count(0..1, &Fact::elements);
                count(1..3, &|_| 0);
            }
            _ => {
                if let Some(elements) = packed_elements(node) {
                    count(1..2, &|_| elements);
                    count(2..5, &|_| 0);
                }
            }
        }
    }
    let total = counted.values().try_fold(0_u64, |total, count| total.checked_add(*count));
    total.ok_or_else(|| "its weights have more elements than can be counted".to_owned())
}

#[cfg(test)]
mod tests;
