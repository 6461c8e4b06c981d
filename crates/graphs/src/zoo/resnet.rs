//! ResNet-50 (arXiv:1512.03385) as torchvision has it: the stride is in the 3×3 convolution.

use crate::{
    builder::{Activation, Architecture, Convolution, GraphBuilder, Value, int, ints},
    model::{Dim, ElementType},
};

/// Blocks and inner width of each stage; a stage's output is four times its inner width.
const STAGES: [(usize, i64); 4] = [(3, 64), (4, 128), (6, 256), (3, 512)];
const CLASSES: i64 = 1_000;

pub(super) fn resnet50(name: &str) -> Architecture {
    let mut g = GraphBuilder::new(name);
    let batch = Dim::symbol("batch");
    let dims = [batch.clone(), Dim::Fixed(3), Dim::symbol("height"), Dim::symbol("width")];
    let image = g.input("input", ElementType::Float32, &dims);
    let stem = Convolution { from: 3, to: 64, kernel: 7, stride: 2, groups: 1 };
    let hidden = g.conv_norm("stem", &image, stem, Activation::Relu);
    let pool = vec![ints("kernel_shape", &[3, 3]), ints("strides", &[2, 2]), ints("pads", &[1; 4])];
    let mut hidden = g.node("MaxPool", &[&hidden], pool);
    let mut from = 64;
    for (stage, (blocks, inner)) in STAGES.into_iter().enumerate() {
        for block in 0..blocks {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let scope = format!("layer{}.{block}", stage + 1);
            hidden = g.scoped(&scope, |g| bottleneck(g, &hidden, from, inner, stride));
            from = 4 * inner;
        }
    }
    let pooled = g.node("GlobalAveragePool", &[&hidden], Vec::new());
    let flat = g.node("Flatten", &[&pooled], vec![int("axis", 1)]);
    let logits = g.gemm("fc", &flat, from, CLASSES);
    g.output("logits", &logits, &[batch, Dim::Fixed(1_000)]);
    g.finish()
}

fn bottleneck(g: &mut GraphBuilder, x: &Value, from: i64, inner: i64, stride: i64) -> Value {
    let to = 4 * inner;
    let conv = |from, to, kernel, stride| Convolution { from, to, kernel, stride, groups: 1 };
    let reduced = g.conv_norm("1", x, conv(from, inner, 1, 1), Activation::Relu);
    let mixed = g.conv_norm("2", &reduced, conv(inner, inner, 3, stride), Activation::Relu);
    let expanded = g.conv_norm("3", &mixed, conv(inner, to, 1, 1), Activation::Linear);
    let shortcut = if from == to && stride == 1 {
        x.clone()
    } else {
        g.conv_norm("downsample", x, conv(from, to, 1, stride), Activation::Linear)
    };
    let sum = g.node("Add", &[&expanded, &shortcut], Vec::new());
    g.activation(&sum, Activation::Relu)
}
