//! `MobileNetV2` (arXiv:1801.04381) at width 1.0, as torchvision has it.

use crate::{
    builder::{Activation, Architecture, Convolution, GraphBuilder, Value, int},
    model::{Dim, ElementType},
};

/// Expansion, output channels, repeats, stride of the first repeat.
pub(super) type Stage = (i64, i64, usize, i64);

/// Table 2 of the paper.
pub(super) const V2: &[Stage] =
    &[(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)];

pub(super) const MINIATURE: &[Stage] = &[(1, 8, 1, 1), (6, 16, 2, 2)];

const LAST: i64 = 1_280;
const CLASSES: i64 = 1_000;

pub(super) fn mobilenet_v2(name: &str, stages: &[Stage]) -> Architecture {
    let mut g = GraphBuilder::new(name);
    let batch = Dim::symbol("batch");
    let dims = [batch.clone(), Dim::Fixed(3), Dim::symbol("height"), Dim::symbol("width")];
    let image = g.input("input", ElementType::Float32, &dims);
    let stem = Convolution { from: 3, to: 32, kernel: 3, stride: 2, groups: 1 };
    let mut hidden = g.conv_norm("stem", &image, stem, Activation::Relu6);
    let mut from = 32;
    for (stage, (expansion, to, repeats, first_stride)) in stages.iter().copied().enumerate() {
        for repeat in 0..repeats {
            let stride = if repeat == 0 { first_stride } else { 1 };
            let scope = format!("features.{stage}.{repeat}");
            hidden = g.scoped(&scope, |g| inverted_residual(g, &hidden, from, to, expansion, stride));
            from = to;
        }
    }
    let last = Convolution { from, to: LAST, kernel: 1, stride: 1, groups: 1 };
    let hidden = g.conv_norm("last", &hidden, last, Activation::Relu6);
    let pooled = g.node("GlobalAveragePool", &[&hidden], Vec::new());
    let flat = g.node("Flatten", &[&pooled], vec![int("axis", 1)]);
    let logits = g.gemm("classifier", &flat, LAST, CLASSES);
    g.output("logits", &logits, &[batch, Dim::Fixed(1_000)]);
    g.finish()
}

fn inverted_residual(g: &mut GraphBuilder, x: &Value, from: i64, to: i64, expansion: i64, stride: i64) -> Value {
    let inner = from * expansion;
    let mut hidden = x.clone();
    if expansion > 1 {
        let expand = Convolution { from, to: inner, kernel: 1, stride: 1, groups: 1 };
        hidden = g.conv_norm("expand", &hidden, expand, Activation::Relu6);
    }
    let depthwise = Convolution { from: inner, to: inner, kernel: 3, stride, groups: inner };
    let hidden = g.conv_norm("depthwise", &hidden, depthwise, Activation::Relu6);
    let project = Convolution { from: inner, to, kernel: 1, stride: 1, groups: 1 };
    let projected = g.conv_norm("project", &hidden, project, Activation::Linear);
    if from == to && stride == 1 { g.node("Add", &[&projected, x], Vec::new()) } else { projected }
}
