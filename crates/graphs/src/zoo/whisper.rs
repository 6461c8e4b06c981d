//! The encoder of Whisper tiny (arXiv:2212.04356): 30 seconds of sound as 3,000 mel frames.

use crate::{
    builder::{Activation, Architecture, GraphBuilder, Heads, Mask, Value, ints},
    model::{Dim, ElementType},
};

const MEL_BINS: i64 = 80;
const FRAMES: u64 = 3_000;
const POSITIONS: i64 = 1_500;
const WIDTH: i64 = 384;
const INNER_WIDTH: i64 = 1_536;
const HEADS: Heads = Heads { count: 6, width: 64 };
const LAYERS: usize = 4;
const EPSILON: f32 = 1e-5;

pub(super) fn tiny_encoder(name: &str) -> Architecture {
    let mut g = GraphBuilder::new(name);
    let batch = Dim::symbol("batch");
    let mel = g.input("input_features", ElementType::Float32, &[batch.clone(), Dim::Fixed(80), Dim::Fixed(FRAMES)]);
    let hidden = g.conv_bias("conv1", &mel, &[WIDTH, MEL_BINS, 3], 1, 1);
    let hidden = g.activation(&hidden, Activation::GeluErf);
    let hidden = g.conv_bias("conv2", &hidden, &[WIDTH, WIDTH, 3], 2, 1);
    let hidden = g.activation(&hidden, Activation::GeluErf);
    let hidden = g.node("Transpose", &[&hidden], vec![ints("perm", &[0, 2, 1])]);
    let positions = g.table("embed_positions", &[POSITIONS, WIDTH]);
    let mut hidden = g.node("Add", &[&hidden, &positions], Vec::new());
    for index in 0..LAYERS {
        hidden = g.scoped(&format!("layers.{index}"), |g| layer(g, &hidden));
    }
    let hidden = g.layer_norm("layer_norm", &hidden, WIDTH, EPSILON);
    g.output("last_hidden_state", &hidden, &[batch, Dim::Fixed(1_500), Dim::Fixed(384)]);
    g.finish()
}

fn layer(g: &mut GraphBuilder, hidden: &Value) -> Value {
    let normed = g.layer_norm("self_attn_layer_norm", hidden, WIDTH, EPSILON);
    let query = g.linear("self_attn.q_proj", &normed, WIDTH, WIDTH, true);
    let key = g.linear("self_attn.k_proj", &normed, WIDTH, WIDTH, false);
    let value = g.linear("self_attn.v_proj", &normed, WIDTH, WIDTH, true);
    let mixed = g.attention([&query, &key, &value], HEADS, Mask::Everything);
    let mixed = g.linear("self_attn.out_proj", &mixed, WIDTH, WIDTH, true);
    let hidden = g.node("Add", &[&mixed, hidden], Vec::new());
    let normed = g.layer_norm("final_layer_norm", &hidden, WIDTH, EPSILON);
    let inner = g.linear("fc1", &normed, WIDTH, INNER_WIDTH, true);
    let inner = g.activation(&inner, Activation::GeluErf);
    let outer = g.linear("fc2", &inner, INNER_WIDTH, WIDTH, true);
    g.node("Add", &[&outer, &hidden], Vec::new())
}
