//! The same network in another precision.
//!
//! - fp16: weights, constants and all arithmetic in half precision; inputs and outputs stay as they are, with a `Cast`
//!   between, as converters write it.
//! - int8: dynamic quantisation as ONNX Runtime's own tool does it: products with weights and convolutions become
//!   `DynamicQuantizeLinear`, `MatMulInteger` or `ConvInteger`, and a rescaling; one step per weight, one per activation.
//! - int4: products with weights become `MatMulNBits` with a step per block; activations and convolutions stay in
//!   single precision.
//!
//! Tables of embeddings and norms are quantised by neither. Weights are those of single precision, rounded.

use std::collections::{HashMap, HashSet};

use messages::Precision;

use super::{
    Architecture, Weight, int, tensor_attribute,
    weights::{BELL_MAX, Content, Form, matrix_dims},
};
use crate::{
    model::ElementType,
    proto::{AttributeProto, GraphProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto},
    shapes::attribute_int,
};

/// Weights that share a step in int4: what ONNX Runtime's tools use.
pub(crate) const BLOCK: usize = 32;

/// Largest 8-bit weight. 7 of 8 bits, because on processors without VNNI the sum of two products of an unsigned and a
/// signed byte saturates at 16 bits (`reduce_range` in
/// <https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html>).
const BYTE_MAX: f32 = 63.0;

/// Set of operators that `MatMulNBits` belongs to.
const CONTRIBUTED: &str = "com.microsoft";

impl Architecture {
    /// This network in `precision`.
    pub(crate) fn at(self, precision: Precision) -> Self {
        match precision {
            Precision::Fp32 => self,
            Precision::Fp16 => half(self),
            Precision::Int8 => rewritten(self, quantise_bytes),
            Precision::Int4 => {
                let mut four = rewritten(self, quantise_nibbles);
                let contributed = OperatorSetIdProto { domain: CONTRIBUTED.to_owned(), version: 1 };
                four.model.opset_import.push(contributed);
                four
            }
        }
    }
}

/// A weight in another form.
fn rounded(of: &Weight, name: String, dims: Vec<i64>, form: Form) -> Weight {
    Weight { name, dims, content: Content::Rounded { of: Box::new(of.clone()), form } }
}

fn half(mut network: Architecture) -> Architecture {
    for weight in &mut network.weights {
        if matches!(weight.content, Content::Random { .. }) {
            *weight = rounded(weight, weight.name.clone(), weight.dims.clone(), Form::Half);
        }
    }
    let Some(graph) = &mut network.model.graph else { return network };
    let (inputs, outputs) = (float_names(&graph.input), float_names(&graph.output));
    let halved = |name: &str| format!("{name}_half");
    let mut nodes: Vec<NodeProto> =
        inputs.iter().map(|input| cast(input, &halved(input), ElementType::Float16)).collect();
    for mut node in std::mem::take(&mut graph.node) {
        if network.exact.nodes.contains(&node.name) {
            nodes.extend(kept_exact(node, &network.exact.results));
            continue;
        }
        for name in node.input.iter_mut().chain(&mut node.output) {
            if inputs.contains(name) || outputs.contains(name) {
                *name = halved(name);
            }
        }
        halve_constants(&mut node);
        nodes.push(node);
    }
    nodes.extend(outputs.iter().map(|output| cast(&halved(output), output, ElementType::Float32)));
    graph.node = nodes;
    network
}

fn float_names(infos: &[ValueInfoProto]) -> Vec<String> {
    let is_float = |info: &&ValueInfoProto| matches!(info.as_tensor(), Some((ElementType::Float32, _)));
    infos.iter().filter(is_float).map(|info| info.name.clone()).collect()
}

/// A node of single precision, and a cast of what leaves its part of the network.
fn kept_exact(mut node: NodeProto, results: &HashSet<String>) -> Vec<NodeProto> {
    let mut casts = Vec::new();
    for output in node.output.iter_mut().filter(|output| results.contains(*output)) {
        let exact = format!("{output}_exact");
        casts.push(cast(&exact, output, ElementType::Float16));
        *output = exact;
    }
    casts.insert(0, node);
    casts
}

/// Makes a constant of single precision one of half precision, and a cast to the former one to the latter.
fn halve_constants(node: &mut NodeProto) {
    let single = ElementType::Float32.code();
    for attribute in &mut node.attribute {
        match &mut attribute.t {
            Some(tensor) if tensor.data_type == single => {
                let values = tensor.raw_data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
                tensor.raw_data = values.flat_map(|value| half::f16::from_f32(value).to_le_bytes()).collect();
                tensor.data_type = ElementType::Float16.code();
            }
            None if node.op_type == "Cast" && attribute.i == Some(i64::from(single)) => {
                attribute.i = Some(i64::from(ElementType::Float16.code()));
            }
            _ => {}
        }
    }
}

fn cast(from: &str, to: &str, element: ElementType) -> NodeProto {
    plain("Cast", &[from], to, vec![int("to", i64::from(element.code()))])
}

/// A node called after its only output.
fn plain(operator: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        input: inputs.iter().map(|input| (*input).to_owned()).collect(),
        output: vec![output.to_owned()],
        name: format!("{operator}_of_{output}"),
        op_type: operator.to_owned(),
        attribute,
        domain: String::new(),
    }
}

/// A product or convolution with a random weight.
struct Product<'a> {
    node: &'a NodeProto,
    weight: &'a Weight,
    bias: Option<&'a Weight>,
    /// Whether the weight's rows are the outputs.
    by_output: bool,
}

impl Product<'_> {
    fn is_convolution(&self) -> bool {
        self.node.op_type == "Conv"
    }
}

/// What a product becomes: nodes, and weights that are new or have other dimensions.
#[derive(Default)]
struct Rewriting {
    nodes: Vec<NodeProto>,
    weights: Vec<Weight>,
    /// Activations that are quantised already.
    quantised: HashSet<String>,
}

/// Puts every product with a random weight through `rewrite`; it says whether it has replaced it.
fn rewritten(mut network: Architecture, rewrite: fn(&mut Rewriting, &Product<'_>) -> bool) -> Architecture {
    let Some(graph) = &mut network.model.graph else { return network };
    let weights: HashMap<&str, &Weight> = network.weights.iter().map(|weight| (weight.name.as_str(), weight)).collect();
    let mut rewriting = Rewriting::default();
    for node in &graph.node {
        let replaced = product(node, graph, &weights).is_some_and(|product| rewrite(&mut rewriting, &product));
        if !replaced {
            rewriting.nodes.push(node.clone());
        }
    }
    drop_unused(&mut rewriting.nodes, &graph.output);
    let used: HashSet<&String> = rewriting.nodes.iter().flat_map(|node| &node.input).collect();
    let mut kept: Vec<Weight> = network.weights.iter().filter(|weight| used.contains(&weight.name)).cloned().collect();
    for weight in rewriting.weights {
        match kept.iter_mut().find(|known| known.name == weight.name) {
            Some(known) => *known = weight,
            None => kept.push(weight),
        }
    }
    graph.node = rewriting.nodes;
    network.weights = kept;
    network
}

/// Removes nodes whose outputs nothing uses any more: transpositions of weights that are quantised now.
fn drop_unused(nodes: &mut Vec<NodeProto>, outputs: &[ValueInfoProto]) {
    let mut used: HashSet<String> = outputs.iter().map(|output| output.name.clone()).collect();
    let mut kept: Vec<NodeProto> = Vec::with_capacity(nodes.len());
    for node in std::mem::take(nodes).into_iter().rev() {
        if node.output.iter().any(|output| used.contains(output)) {
            used.extend(node.input.iter().cloned());
            kept.push(node);
        }
    }
    kept.reverse();
    *nodes = kept;
}

/// What `node` multiplies with, if that is a random weight, perhaps transposed.
fn product<'a>(node: &'a NodeProto, graph: &GraphProto, weights: &HashMap<&str, &'a Weight>) -> Option<Product<'a>> {
    let name = node.input.get(1)?;
    let made_by = || graph.node.iter().find(|other| other.output.first() == Some(name));
    let (weight, turned) = match weights.get(name.as_str()) {
        Some(weight) => (*weight, false),
        None if node.op_type == "MatMul" => {
            let transpose = made_by().filter(|other| other.op_type == "Transpose")?;
            (*weights.get(transpose.input.first()?.as_str())?, true)
        }
        None => return None,
    };
    let is_random = matches!(weight.content, Content::Random { .. });
    let by_output = match node.op_type.as_str() {
        "MatMul" => turned,
        "Gemm" => attribute_int(node, "transB").unwrap_or(0) != 0,
        "Conv" => false,
        _ => return None,
    };
    let bias = node.input.get(2).and_then(|bias| weights.get(bias.as_str())).copied();
    (is_random && (node.op_type == "Conv" || weight.dims.len() == 2)).then_some(Product {
        node,
        weight,
        bias,
        by_output,
    })
}

fn quantise_bytes(rewriting: &mut Rewriting, product: &Product<'_>) -> bool {
    let Content::Random { mean, deviation } = product.weight.content else { return false };
    let Product { node, weight, bias, by_output } = *product;
    let (x, out) = (&node.input[0], &node.output[0]);
    let [values, step, zero] = ["quantised", "step", "zero"].map(|part| format!("{x}_{part}"));
    if rewriting.quantised.insert(x.clone()) {
        let mut quantise = plain("DynamicQuantizeLinear", &[x], &values, Vec::new());
        quantise.output.extend([step.clone(), zero.clone()]);
        rewriting.nodes.push(quantise);
    }
    let step_of_weight = (mean.abs() + BELL_MAX * deviation) / BYTE_MAX;
    let bytes = format!("{}_int8", weight.name);
    let mut dims = weight.dims.clone();
    if by_output {
        dims.reverse();
    }
    let form = Form::Bytes { step: step_of_weight, transposed: by_output };
    rewriting.add(rounded(weight, bytes.clone(), dims, form));
    let (operator, attributes) =
        if product.is_convolution() { ("ConvInteger", node.attribute.clone()) } else { ("MatMulInteger", Vec::new()) };
    let [sums, single, constant, scale] =
        ["sums", "single", "weight_step", "scale"].map(|part| format!("{out}_{part}"));
    let scaled = if bias.is_some() { format!("{out}_scaled") } else { out.clone() };
    rewriting.nodes.extend([
        plain(operator, &[&values, &bytes, &zero], &sums, attributes),
        cast(&sums, &single, ElementType::Float32),
        scalar(step_of_weight, &constant),
        plain("Mul", &[&step, &constant], &scale, Vec::new()),
        plain("Mul", &[&single, &scale], &scaled, Vec::new()),
    ]);
    if let Some(bias) = bias {
        rewriting.nodes.push(plain("Add", &[&scaled, &bias.name], out, Vec::new()));
        if product.is_convolution() {
            // One bias per channel, which here is not the last dimension.
            let spatial = vec![1; weight.dims.len() - 2];
            rewriting.add(Weight { dims: [&bias.dims[..], &spatial].concat(), ..bias.clone() });
        }
    }
    true
}

fn quantise_nibbles(rewriting: &mut Rewriting, product: &Product<'_>) -> bool {
    if product.is_convolution() {
        return false;
    }
    let Product { node, weight, bias, by_output } = *product;
    let (x, out) = (&node.input[0], &node.output[0]);
    let (inputs, outputs) = matrix_dims(&weight.dims, by_output);
    let signed = |length: u64| i64::try_from(length).expect("a dimension that was signed before");
    let block = BLOCK as u64;
    let (blocks, half_block) = (signed(inputs.div_ceil(block)), signed(block / 2));
    let [packed, steps] = ["int4", "int4_steps"].map(|form| format!("{}_{form}", weight.name));
    let dims = vec![signed(outputs), blocks, half_block];
    rewriting.add(rounded(weight, packed.clone(), dims, Form::Nibbles { by_output }));
    let dims = vec![signed(outputs) * blocks];
    rewriting.add(rounded(weight, steps.clone(), dims, Form::NibbleSteps { by_output }));
    let scaled = if bias.is_some() { format!("{out}_scaled") } else { out.clone() };
    let attributes =
        vec![int("K", signed(inputs)), int("N", signed(outputs)), int("bits", 4), int("block_size", signed(block))];
    let product = plain("MatMulNBits", &[x, &packed, &steps], &scaled, attributes);
    rewriting.nodes.push(NodeProto { domain: CONTRIBUTED.to_owned(), ..product });
    if let Some(bias) = bias {
        rewriting.nodes.push(plain("Add", &[&scaled, &bias.name], out, Vec::new()));
    }
    true
}

impl Rewriting {
    /// Adds a weight unless it is there, as a tied one is.
    fn add(&mut self, weight: Weight) {
        if !self.weights.iter().any(|known| known.name == weight.name) {
            self.weights.push(weight);
        }
    }
}

/// A float constant called `name`.
fn scalar(value: f32, name: &str) -> NodeProto {
    let tensor = TensorProto {
        data_type: ElementType::Float32.code(),
        raw_data: value.to_le_bytes().to_vec(),
        ..TensorProto::default()
    };
    plain("Constant", &[], name, vec![tensor_attribute(tensor)])
}
