use proptest::prelude::*;

use super::*;
use crate::{
    builder::{Activation, Content, Convolution, GraphBuilder, Value, int, ints},
    model::{Dim, ElementType, Shape},
    zoo::{architecture, zoo},
};

const SHAPE: Shape = Shape { batch_size: 2, sequence_length: None, image_size: Some(8) };

/// Costs of the network that `body` adds behind an input of `[batch, 4, 8, 8]`, as lines of a table.
fn check(body: impl FnOnce(&mut GraphBuilder, &Value) -> Value, expected: &[&str]) {
    let mut g = GraphBuilder::new("test");
    let dims = [Dim::symbol("batch"), Dim::Fixed(4), Dim::symbol("height"), Dim::symbol("width")];
    let x = g.input("x", ElementType::Float32, &dims);
    let out = body(&mut g, &x);
    g.output("out", &out, &dims);
    let costs = OnnxModel::new(g.finish().structure()).expect("a model").costs(&SHAPE).expect("costs");
    let line = |cost: &OperatorCost| {
        let OperatorCost { kind, macs, activation_elements, weight_elements, kernel_size, count } = cost;
        format!("{count} {kind} macs {macs} act {activation_elements} weights {weight_elements} kernel {kernel_size}")
    };
    assert_eq!(costs.operators.iter().map(line).collect::<Vec<_>>(), expected);
}

#[test]
fn convolutions_are_told_apart() {
    let conv = |kernel: i64, groups: i64| {
        move |g: &mut GraphBuilder, x: &Value| {
            let conv = Convolution { from: 4, to: 4, kernel, stride: 1, groups };
            g.conv_norm("c", x, conv, Activation::Linear)
        }
    };
    // 2 items of 4 × 8 × 8 are 512 elements, read and written.
    let norm = "1 norm macs 0 act 1024 weights 16 kernel 0";
    check(conv(3, 1), &["1 conv macs 18432 act 1024 weights 144 kernel 3", norm]);
    check(conv(1, 1), &["1 conv1 macs 2048 act 1024 weights 16 kernel 1", norm]);
    check(conv(3, 2), &["1 gconv macs 9216 act 1024 weights 72 kernel 3", norm]);
    check(conv(3, 4), &["1 dw macs 4608 act 1024 weights 36 kernel 3", norm]);
}

#[test]
fn transposed_convolution_counts_each_input_once() {
    let transposed = |g: &mut GraphBuilder, x: &Value| {
        let weight = g.table("w", &[4, 6, 2, 2]);
        g.node("ConvTranspose", &[x, &weight], vec![ints("strides", &[2, 2])])
    };
    // 512 inputs with 6 · 2 · 2 weights each; 2 · 6 · 16 · 16 outputs.
    check(transposed, &["1 conv macs 12288 act 3584 weights 96 kernel 2"]);
}

#[test]
fn products_with_and_without_weights_are_told_apart() {
    check(|g, x| g.linear("l", x, 8, 16, false), &["1 linear macs 8192 act 1536 weights 128 kernel 0"]);
    check(|g, x| g.node("MatMul", &[x, x], Vec::new()), &["1 bmm macs 4096 act 1536 weights 0 kernel 0"]);
}

#[test]
fn equal_operators_are_merged_and_views_are_free() {
    let body = |g: &mut GraphBuilder, x: &Value| {
        let once = g.activation(x, Activation::Relu);
        let twice = g.activation(&once, Activation::Relu);
        let shape = g.ints(&[0, 256]);
        let flat = g.node("Reshape", &[&twice, &shape], Vec::new());
        g.node("Softmax", &[&flat], vec![int("axis", -1)])
    };
    check(body, &["2 act macs 0 act 1024 weights 0 kernel 0", "1 softmax macs 0 act 1024 weights 0 kernel 0"]);
}

#[test]
fn what_weights_alone_decide_is_free_and_picks_read_what_they_give() {
    let body = |g: &mut GraphBuilder, x: &Value| {
        let weight = g.weight("w", &[16, 8], Content::Random { mean: 0.0, deviation: 1.0 });
        let turned = g.node("Transpose", &[&weight], vec![ints("perm", &[1, 0])]);
        let product = g.node("MatMul", &[x, &turned], Vec::new());
        let first = g.int(0);
        g.node("Gather", &[&product, &first], vec![int("axis", 1)])
    };
    // The gather gives out one of four channels, 2 · 8 · 16, and reads as much and one weight: the index.
    check(body, &["1 linear macs 8192 act 1536 weights 128 kernel 0", "1 copy macs 0 act 512 weights 1 kernel 0"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn macs_and_kinds_scale_with_the_batch(index in 0..zoo().len(), batch_size in 2..300_u32) {
        let entry = &zoo()[index];
        let model = OnnxModel::new(architecture(entry.name).expect("a zoo model").structure()).expect("a model");
        let (sequence_length, image_size) = entry.shape.usual();
        let costs = |batch_size| model.costs(&Shape { batch_size, sequence_length, image_size }).expect("costs");
        let (one, many) = (costs(1), costs(batch_size));
        prop_assert_eq!(many.macs(), one.macs() * u64::from(batch_size));
        prop_assert_eq!(many.parameters, one.parameters);
        prop_assert_eq!(many.operator_count(), one.operator_count());
        prop_assert!(many.activation_elements() > one.activation_elements());
        prop_assert!(many.activation_elements() <= one.activation_elements() * u64::from(batch_size));
    }
}
