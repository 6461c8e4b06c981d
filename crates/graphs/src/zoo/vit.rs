//! Vision Transformer (arXiv:2010.11929), base size, patches of 16 pixels, images of 224.

use crate::{
    builder::{Activation, Architecture, GraphBuilder, Heads, Mask, Value, int, ints},
    model::{Dim, ElementType},
};

const IMAGE: u64 = 224;
const PATCH: i64 = 16;
const PATCHES: i64 = 14 * 14;
const WIDTH: i64 = 768;
const INNER_WIDTH: i64 = 3_072;
const HEADS: Heads = Heads { count: 12, width: 64 };
const LAYERS: usize = 12;
const CLASSES: i64 = 1_000;
const EPSILON: f32 = 1e-6;

/// `ViTForImageClassification`, without the pooler that it does not use.
pub(super) fn vit_base(name: &str) -> Architecture {
    let mut g = GraphBuilder::new(name);
    let batch = Dim::symbol("batch");
    let dims = [batch.clone(), Dim::Fixed(3), Dim::Fixed(IMAGE), Dim::Fixed(IMAGE)];
    let pixels = g.input("pixel_values", ElementType::Float32, &dims);
    let mut hidden = g.scoped("embeddings", |g| embeddings(g, &pixels));
    for index in 0..LAYERS {
        hidden = g.scoped(&format!("encoder.layer.{index}"), |g| layer(g, &hidden));
    }
    let hidden = g.layer_norm("layernorm", &hidden, WIDTH, EPSILON);
    let first = g.int(0);
    let class = g.node("Gather", &[&hidden, &first], vec![int("axis", 1)]);
    let logits = g.gemm("classifier", &class, WIDTH, CLASSES);
    g.output("logits", &logits, &[batch, Dim::Fixed(1_000)]);
    g.finish()
}

fn embeddings(g: &mut GraphBuilder, pixels: &Value) -> Value {
    let patches = g.conv_bias("patch_embeddings", pixels, &[WIDTH, 3, PATCH, PATCH], PATCH, 0);
    let flat = g.ints(&[0, WIDTH, -1]);
    let patches = g.node("Reshape", &[&patches, &flat], Vec::new());
    let patches = g.node("Transpose", &[&patches], vec![ints("perm", &[0, 2, 1])]);
    // One class token per image of the batch.
    let token = g.table("cls_token", &[1, 1, WIDTH]);
    let shape = g.node("Shape", &[pixels], Vec::new());
    let zero = g.ints(&[0]);
    let batch = g.node("Gather", &[&shape, &zero], Vec::new());
    let rest = g.ints(&[1, WIDTH]);
    let wanted = g.node("Concat", &[&batch, &rest], vec![int("axis", 0)]);
    let tokens = g.node("Expand", &[&token, &wanted], Vec::new());
    let joined = g.node("Concat", &[&tokens, &patches], vec![int("axis", 1)]);
    let positions = g.table("position_embeddings", &[1, PATCHES + 1, WIDTH]);
    g.node("Add", &[&joined, &positions], Vec::new())
}

fn layer(g: &mut GraphBuilder, hidden: &Value) -> Value {
    let normed = g.layer_norm("layernorm_before", hidden, WIDTH, EPSILON);
    let query = g.linear("attention.query", &normed, WIDTH, WIDTH, true);
    let key = g.linear("attention.key", &normed, WIDTH, WIDTH, true);
    let value = g.linear("attention.value", &normed, WIDTH, WIDTH, true);
    let mixed = g.attention([&query, &key, &value], HEADS, Mask::Everything);
    let mixed = g.linear("attention.output", &mixed, WIDTH, WIDTH, true);
    let hidden = g.node("Add", &[&mixed, hidden], Vec::new());
    let normed = g.layer_norm("layernorm_after", &hidden, WIDTH, EPSILON);
    let inner = g.linear("intermediate", &normed, WIDTH, INNER_WIDTH, true);
    let inner = g.activation(&inner, Activation::GeluErf);
    let outer = g.linear("output", &inner, INNER_WIDTH, WIDTH, true);
    g.node("Add", &[&outer, &hidden], Vec::new())
}
