//! Puts a network together as an ONNX graph and writes it with seeded random weights.
//!
//! Weights exist only as dimensions and a seed until [`Architecture::write`] streams them, so that a model of any
//! size costs a few kilobytes of memory. The bytes depend on the names alone: integer arithmetic and correctly
//! rounded operations only, hence the same on every machine.

use std::{
    collections::{HashMap, HashSet},
    io::{self, Write},
    mem,
};

use prost::Message;

use crate::{
    model::{Dim, ElementType},
    proto::{
        AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto,
        attribute_type,
    },
    reader::put_varint,
};

mod layers;
mod precision;
mod transformer;
mod weights;

pub(crate) use layers::{Activation, Convolution};
#[cfg(test)]
pub(crate) use transformer::Heads;
pub(crate) use transformer::{Attention, Biases, Context, Inner, Layer, Mask, Norm};
pub(crate) use weights::{Content, Weight};

/// The operator set that zoo models use: the first with `LayerNormalization`.
pub(crate) const OPSET: i64 = 17;

/// The file format version that goes with [`OPSET`].
const IR_VERSION: i64 = 8;

/// Handle of a tensor in the graph: its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Value(String);

impl Value {
    /// Stands for an optional input that is not there.
    pub(crate) fn absent() -> Self {
        Self(String::new())
    }
}

/// A network under construction.
pub(crate) struct GraphBuilder {
    graph: GraphProto,
    weights: Vec<Weight>,
    scalars: HashMap<u32, Value>,
    prefix: String,
    exact: Exact,
}

/// The part of a network that single precision must compute in whatever precision the rest has.
#[derive(Debug, Clone, Default)]
struct Exact {
    /// Names of its nodes.
    nodes: HashSet<String>,
    /// Values that leave it.
    results: HashSet<String>,
}

impl GraphBuilder {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            graph: GraphProto { name: name.to_owned(), ..GraphProto::default() },
            weights: Vec::new(),
            scalars: HashMap::new(),
            prefix: String::new(),
            exact: Exact::default(),
        }
    }

    /// Runs `body` with `scope.` before every weight's name.
    pub(crate) fn scoped<T>(&mut self, scope: &str, body: impl FnOnce(&mut Self) -> T) -> T {
        let outer = self.prefix.clone();
        self.prefix = format!("{outer}{scope}.");
        let result = body(self);
        self.prefix = outer;
        result
    }

    /// Adds the nodes of `body`, whose result every precision must compute in single precision: angles, for example,
    /// which lose their fraction in half precision.
    pub(crate) fn exactly(&mut self, body: impl FnOnce(&mut Self) -> Value) -> Value {
        // Constants inside keep their own nodes.
        let outer = mem::take(&mut self.scalars);
        let first = self.graph.node.len();
        let result = body(self);
        self.scalars = outer;
        self.exact.nodes.extend(self.graph.node[first..].iter().map(|node| node.name.clone()));
        self.exact.results.insert(result.0.clone());
        result
    }

    pub(crate) fn input(&mut self, name: &str, element: ElementType, dims: &[Dim]) -> Value {
        self.graph.input.push(ValueInfoProto::tensor(name, element, dims));
        Value(name.to_owned())
    }

    /// Makes `value` a float output called `name`.
    pub(crate) fn output(&mut self, name: &str, value: &Value, dims: &[Dim]) {
        let names = self.graph.node.iter_mut().flat_map(|node| node.input.iter_mut().chain(&mut node.output));
        for old in names.filter(|old| **old == value.0) {
            name.clone_into(old);
        }
        self.graph.output.push(ValueInfoProto::tensor(name, ElementType::Float32, dims));
    }

    /// Declares a weight, named within the current scope.
    pub(crate) fn weight(&mut self, name: &str, dims: &[i64], content: Content) -> Value {
        let name = format!("{}{name}", self.prefix);
        self.weights.push(Weight { name: name.clone(), dims: dims.to_vec(), content });
        Value(name)
    }

    /// A one-dimensional integer constant.
    pub(crate) fn ints(&mut self, values: &[i64]) -> Value {
        let name = format!("ints_{}", self.weights.len());
        let dims = vec![i64::try_from(values.len()).expect("a literal of a few integers")];
        self.weights.push(Weight { name: name.clone(), dims, content: Content::Ints(values.to_vec()) });
        Value(name)
    }

    /// An integer constant without dimensions.
    pub(crate) fn int(&mut self, value: i64) -> Value {
        let name = format!("int_{}", self.weights.len());
        self.weights.push(Weight { name: name.clone(), dims: Vec::new(), content: Content::Ints(vec![value]) });
        Value(name)
    }

    /// A float constant without dimensions: a `Constant` node, as exporters write it, hence no parameter.
    pub(crate) fn scalar(&mut self, value: f32) -> Value {
        if let Some(known) = self.scalars.get(&value.to_bits()) {
            return known.clone();
        }
        let value_of_node = self.constant(&[value], &[]);
        self.scalars.insert(value.to_bits(), value_of_node.clone());
        value_of_node
    }

    /// Float constants as a `Constant` node, as exporters write what is computed and not learned.
    pub(crate) fn constant(&mut self, values: &[f32], dims: &[i64]) -> Value {
        let tensor = TensorProto {
            dims: dims.to_vec(),
            data_type: ElementType::Float32.code(),
            raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            ..TensorProto::default()
        };
        self.node("Constant", &[], vec![tensor_attribute(tensor)])
    }

    /// Adds a node with one output.
    pub(crate) fn node(&mut self, operator: &str, inputs: &[&Value], attributes: Vec<AttributeProto>) -> Value {
        self.nodes(operator, inputs, attributes, 1).remove(0)
    }

    /// Adds a node with `outputs` outputs.
    pub(crate) fn nodes(
        &mut self,
        operator: &str,
        inputs: &[&Value],
        attributes: Vec<AttributeProto>,
        outputs: usize,
    ) -> Vec<Value> {
        let name = format!("{operator}_{}", self.graph.node.len());
        let output: Vec<_> = (0..outputs).map(|index| format!("{name}_out{index}")).collect();
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|value| value.0.clone()).collect(),
            output: output.clone(),
            name,
            op_type: operator.to_owned(),
            attribute: attributes,
            domain: String::new(),
        });
        output.into_iter().map(Value).collect()
    }

    pub(crate) fn finish(self) -> Architecture {
        let model = ModelProto {
            ir_version: IR_VERSION,
            producer_name: "augur".to_owned(),
            graph: Some(self.graph),
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
            ..ModelProto::default()
        };
        Architecture { model, weights: self.weights, exact: self.exact }
    }
}

/// A tensor as attribute `value`.
fn tensor_attribute(tensor: TensorProto) -> AttributeProto {
    AttributeProto {
        name: "value".to_owned(),
        t: Some(tensor),
        r#type: attribute_type::TENSOR,
        ..AttributeProto::default()
    }
}

/// An integer attribute.
pub(crate) fn int(name: &str, value: i64) -> AttributeProto {
    let r#type = attribute_type::INT;
    AttributeProto { name: name.to_owned(), i: Some(value), r#type, ..AttributeProto::default() }
}

/// A list of integers as attribute.
pub(crate) fn ints(name: &str, values: &[i64]) -> AttributeProto {
    let r#type = attribute_type::INTS;
    AttributeProto { name: name.to_owned(), ints: values.to_vec(), r#type, ..AttributeProto::default() }
}

/// A text attribute.
pub(crate) fn text(name: &str, value: &str) -> AttributeProto {
    let r#type = attribute_type::STRING;
    AttributeProto { name: name.to_owned(), s: value.as_bytes().to_vec(), r#type, ..AttributeProto::default() }
}

/// A float attribute.
pub(crate) fn float(name: &str, value: f32) -> AttributeProto {
    let r#type = attribute_type::FLOAT;
    AttributeProto { name: name.to_owned(), f: Some(value), r#type, ..AttributeProto::default() }
}

/// A finished network whose weights are still seeds.
pub(crate) struct Architecture {
    /// The model without its initializers.
    model: ModelProto,
    weights: Vec<Weight>,
    exact: Exact,
}

impl Architecture {
    /// The model with its initializers' dimensions; of their content, only integers are there.
    pub(crate) fn structure(&self) -> ModelProto {
        let mut model = self.model.clone();
        if let Some(graph) = &mut model.graph {
            graph.initializer = self.weights.iter().map(Weight::structure).collect();
        }
        model
    }

    /// Writes the whole file.
    ///
    /// # Errors
    ///
    /// Whatever `out` reports.
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        const GRAPH: u64 = 7 << 3 | 2;
        const INITIALIZER: u64 = 5 << 3 | 2;
        let mut outer = self.model.clone();
        let graph = outer.graph.take().unwrap_or_default();
        // Each initializer is written as its header, then the key and length of its content, then the content.
        let heads: Vec<_> = self
            .weights
            .iter()
            .map(|weight| {
                let mut head = weight.header().encode_to_vec();
                put_varint(&mut head, u64::from(TensorProto::RAW_DATA << 3 | 2));
                put_varint(&mut head, weight.content_bytes());
                let mut key = Vec::new();
                put_varint(&mut key, INITIALIZER);
                put_varint(&mut key, head.len() as u64 + weight.content_bytes());
                [key, head].concat()
            })
            .collect();
        let graph_bytes = graph.encoded_len() as u64
            + heads.iter().map(|head| head.len() as u64).sum::<u64>()
            + self.weights.iter().map(Weight::content_bytes).sum::<u64>();
        let mut start = outer.encode_to_vec();
        put_varint(&mut start, GRAPH);
        put_varint(&mut start, graph_bytes);
        graph.encode(&mut start).expect("a Vec has room for any message");
        out.write_all(&start)?;
        for (weight, head) in self.weights.iter().zip(&heads) {
            out.write_all(head)?;
            weight.write_content(&graph.name, out)?;
        }
        Ok(())
    }
}
