//! DETR (arXiv:2005.12872): a `ResNet`'s features through a transformer that answers a fixed number of queries.

use super::resnet::{self, Resnet, backbone};
use crate::{
    builder::{Activation, Architecture, GraphBuilder, Layer, Mask, Value, int, ints},
    model::{Dim, ElementType},
};

/// Dimensions.
pub(super) struct Detr {
    backbone: Resnet,
    /// Layers of the encoder, and as many of the decoder.
    layers: usize,
    layer: Layer,
    /// Objects that are looked for.
    queries: i64,
}

const fn layer(heads: i64, head_width: i64, inner: i64) -> Layer {
    let mut layer = Layer::post_norm(heads, 1e-5).with_activation(Activation::Relu);
    layer.width = heads * head_width;
    layer.attention.heads.width = head_width;
    layer.inner.width = inner;
    layer
}

pub(super) const RESNET50: Detr =
    Detr { backbone: resnet::RESNET50, layers: 6, layer: layer(8, 32, 2_048), queries: 100 };

pub(super) const MINIATURE: Detr =
    Detr { backbone: resnet::MINIATURE, layers: 1, layer: layer(2, 32, 128), queries: 10 };

/// The 91 classes of COCO's numbering and `no object`.
const CLASSES: i64 = 92;

/// From one frequency of the positions to the next: 10,000 to the power of -1/64.
const FREQUENCY_RATIO: f64 = 0.865_964_323_360_065_3;

/// `DetrForObjectDetection`: images without padding to each query's classes and box.
pub(super) fn detr(name: &str, detr: &Detr) -> Architecture {
    let Detr { layers, ref layer, queries, .. } = *detr;
    let width = layer.width;
    let mut g = GraphBuilder::new(name);
    let batch = Dim::symbol("batch");
    let dims = [batch.clone(), Dim::Fixed(3), Dim::symbol("height"), Dim::symbol("width")];
    let image = g.input("pixel_values", ElementType::Float32, &dims);
    let (features, channels) = g.scoped("backbone", |g| backbone(g, &detr.backbone, &image));
    let features = g.conv_bias("input_projection", &features, &[width, channels, 1, 1], 1, 0);
    let positions = positions(&mut g, &features, width);
    let flat = g.ints(&[0, width, -1]);
    let memory = g.node("Reshape", &[&features, &flat], Vec::new());
    let mut memory = g.node("Transpose", &[&memory], vec![ints("perm", &[0, 2, 1])]);
    for index in 0..layers {
        memory = g.scoped(&format!("encoder.layers.{index}"), |g| encode(g, layer, &memory, &positions));
    }
    let asked = g.table("query_position_embeddings", &[queries, width]);
    let zero = g.constant(&[0.0], &[1, 1, 1]);
    let mut hidden = g.per_item(&zero, &image, &[queries, width]);
    for index in 0..layers {
        hidden =
            g.scoped(&format!("decoder.layers.{index}"), |g| decode(g, layer, &hidden, &asked, &memory, &positions));
    }
    let hidden = g.norm("decoder.layernorm", &hidden, width, layer.norm);
    let logits = g.linear("class_labels_classifier", &hidden, width, CLASSES, true);
    let boxes = boxes(&mut g, &hidden, width);
    let queries = Dim::Fixed(queries.unsigned_abs());
    g.output("logits", &logits, &[batch.clone(), queries.clone(), Dim::Fixed(CLASSES.unsigned_abs())]);
    g.output("pred_boxes", &boxes, &[batch, queries, Dim::Fixed(4)]);
    g.finish()
}

/// `[1, height · width, width of the states]`: sines and cosines of each feature's row and column.
fn positions(g: &mut GraphBuilder, features: &Value, width: i64) -> Value {
    g.exactly(|g| {
        let shape = g.node("Shape", &[features], Vec::new());
        let (spatial, one) = (g.ints(&[2, 3]), g.ints(&[1]));
        let lengths = g.node("Gather", &[&shape, &spatial], Vec::new());
        let grid = g.node("Concat", &[&lengths, &one], vec![int("axis", 0)]);
        let along = [(2, 1), (3, 0)].map(|(axis, other)| {
            let waves = waves(g, features, axis, width / 4);
            let other = g.ints(&[other]);
            let waves = g.node("Unsqueeze", &[&waves, &other], Vec::new());
            g.node("Expand", &[&waves, &grid], Vec::new())
        });
        let joined = g.node("Concat", &[&along[0], &along[1]], vec![int("axis", 2)]);
        let flat = g.ints(&[1, -1, width]);
        g.node("Reshape", &[&joined, &flat], Vec::new())
    })
}

/// `[length, 2 · frequencies]`: waves along dimension `axis`, whose whole length is one turn.
fn waves(g: &mut GraphBuilder, features: &Value, axis: i64, frequencies: i64) -> Value {
    let length = g.length_of(features, axis);
    let places = g.counting(&length);
    let last = g.node("Cast", &[&length], vec![int("to", i64::from(ElementType::Float32.code()))]);
    let share = g.node("Div", &[&places, &last], Vec::new());
    let angles = g.angles(&share, frequencies, FREQUENCY_RATIO, std::f64::consts::TAU);
    let [sine, cosine] = ["Sin", "Cos"].map(|function| g.node(function, &[&angles], Vec::new()));
    g.node("Concat", &[&sine, &cosine], vec![int("axis", 1)])
}

fn encode(g: &mut GraphBuilder, layer: &Layer, x: &Value, positions: &Value) -> Value {
    let width = layer.width;
    let placed = g.node("Add", &[x, positions], Vec::new());
    let mixed = g.attend("self_attn", [&placed, &placed, x], width, &layer.attention, Mask::Everything, None);
    let x = sum_and_norm(g, "self_attn_layer_norm", &mixed, x, layer);
    let inner = g.inner("mlp", &x, width, &layer.inner);
    sum_and_norm(g, "final_layer_norm", &inner, &x, layer)
}

fn decode(g: &mut GraphBuilder, layer: &Layer, x: &Value, asked: &Value, memory: &Value, positions: &Value) -> Value {
    let width = layer.width;
    let placed = g.node("Add", &[x, asked], Vec::new());
    let mixed = g.attend("self_attn", [&placed, &placed, x], width, &layer.attention, Mask::Everything, None);
    let x = sum_and_norm(g, "self_attn_layer_norm", &mixed, x, layer);
    let placed = g.node("Add", &[&x, asked], Vec::new());
    let keys = g.node("Add", &[memory, positions], Vec::new());
    let seen = g.attend("encoder_attn", [&placed, &keys, memory], width, &layer.attention, Mask::Everything, None);
    let x = sum_and_norm(g, "encoder_attn_layer_norm", &seen, &x, layer);
    let inner = g.inner("mlp", &x, width, &layer.inner);
    sum_and_norm(g, "final_layer_norm", &inner, &x, layer)
}

fn sum_and_norm(g: &mut GraphBuilder, name: &str, part: &Value, x: &Value, layer: &Layer) -> Value {
    let sum = g.node("Add", &[part, x], Vec::new());
    g.norm(name, &sum, layer.width, layer.norm)
}

/// Centre and size of each query's box, as shares of the image.
fn boxes(g: &mut GraphBuilder, hidden: &Value, width: i64) -> Value {
    g.scoped("bbox_predictor", |g| {
        let mut boxes = hidden.clone();
        for index in 0..2 {
            boxes = g.linear(&format!("layers.{index}"), &boxes, width, width, true);
            boxes = g.activation(&boxes, Activation::Relu);
        }
        let boxes = g.linear("layers.2", &boxes, width, 4, true);
        g.node("Sigmoid", &[&boxes], Vec::new())
    })
}
