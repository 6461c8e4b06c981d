//! `ResNet` (arXiv:1512.03385) as torchvision has it: the stride is in the 3×3 convolution.

use crate::{
    builder::{Activation, Architecture, Convolution, GraphBuilder, Value, int, ints},
    model::{Dim, ElementType},
};

/// Dimensions.
pub(super) struct Resnet {
    /// Blocks and inner width of each stage.
    stages: [(usize, i64); 4],
    /// Whether blocks are bottlenecks, which give out four times their inner width.
    bottlenecks: bool,
}

pub(super) const RESNET18: Resnet = Resnet { stages: [(2, 64), (2, 128), (2, 256), (2, 512)], bottlenecks: false };
pub(super) const RESNET50: Resnet = Resnet { stages: [(3, 64), (4, 128), (6, 256), (3, 512)], bottlenecks: true };
pub(super) const MINIATURE: Resnet = Resnet { stages: [(1, 16), (1, 16), (1, 32), (1, 32)], bottlenecks: true };

const CLASSES: i64 = 1_000;

pub(super) fn resnet(name: &str, resnet: &Resnet) -> Architecture {
    let mut g = GraphBuilder::new(name);
    let batch = Dim::symbol("batch");
    let dims = [batch.clone(), Dim::Fixed(3), Dim::symbol("height"), Dim::symbol("width")];
    let image = g.input("input", ElementType::Float32, &dims);
    let (hidden, width) = backbone(&mut g, resnet, &image);
    let pooled = g.node("GlobalAveragePool", &[&hidden], Vec::new());
    let flat = g.node("Flatten", &[&pooled], vec![int("axis", 1)]);
    let logits = g.gemm("fc", &flat, width, CLASSES);
    g.output("logits", &logits, &[batch, Dim::Fixed(1_000)]);
    g.finish()
}

/// Features at a 32nd of the image's size, and their channels.
pub(super) fn backbone(g: &mut GraphBuilder, resnet: &Resnet, image: &Value) -> (Value, i64) {
    let mut from = resnet.stages[0].1;
    let stem = Convolution { from: 3, to: from, kernel: 7, stride: 2, groups: 1 };
    let hidden = g.conv_norm("stem", image, stem, Activation::Relu);
    let pool = vec![ints("kernel_shape", &[3, 3]), ints("strides", &[2, 2]), ints("pads", &[1; 4])];
    let mut hidden = g.node("MaxPool", &[&hidden], pool);
    for (stage, (blocks, inner)) in resnet.stages.into_iter().enumerate() {
        let to = if resnet.bottlenecks { 4 * inner } else { inner };
        for block in 0..blocks {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let shape = Convolution { from, to, kernel: 3, stride, groups: 1 };
            let scope = format!("layer{}.{block}", stage + 1);
            hidden = g.scoped(&scope, |g| residual(g, &hidden, shape, resnet.bottlenecks.then_some(inner)));
            from = to;
        }
    }
    (hidden, from)
}

/// Two convolutions, or three with a bottleneck of `inner` channels, and what goes around them.
fn residual(g: &mut GraphBuilder, x: &Value, shape: Convolution, inner: Option<i64>) -> Value {
    let Convolution { from, to, stride, .. } = shape;
    let conv = |from, to, kernel, stride| Convolution { from, to, kernel, stride, groups: 1 };
    let expanded = if let Some(inner) = inner {
        let reduced = g.conv_norm("1", x, conv(from, inner, 1, 1), Activation::Relu);
        let mixed = g.conv_norm("2", &reduced, conv(inner, inner, 3, stride), Activation::Relu);
        g.conv_norm("3", &mixed, conv(inner, to, 1, 1), Activation::Linear)
    } else {
        let mixed = g.conv_norm("1", x, shape, Activation::Relu);
        g.conv_norm("2", &mixed, conv(to, to, 3, 1), Activation::Linear)
    };
    let shortcut = if from == to && stride == 1 {
        x.clone()
    } else {
        g.conv_norm("downsample", x, conv(from, to, 1, stride), Activation::Linear)
    };
    let sum = g.node("Add", &[&expanded, &shortcut], Vec::new());
    g.activation(&sum, Activation::Relu)
}
