//! GPT-2 small with its language-model head and without a cache of keys and values.

use crate::{
    builder::{Activation, Architecture, Content, GraphBuilder, Heads, Mask, Value, int, ints},
    model::{Dim, ElementType},
};

const VOCABULARY: i64 = 50_257;
const POSITIONS: i64 = 1_024;
const WIDTH: i64 = 768;
const HEADS: Heads = Heads { count: 12, width: 64 };
const LAYERS: usize = 12;
const EPSILON: f32 = 1e-5;

/// `GPT2LMHeadModel`: token ids to logits; the head uses the embedding's own weights.
pub(super) fn gpt2_small(name: &str) -> Architecture {
    let mut g = GraphBuilder::new(name);
    let dims = [Dim::symbol("batch"), Dim::symbol("sequence")];
    let tokens = g.input("input_ids", ElementType::Int64, &dims);
    let words = g.table("wte", &[VOCABULARY, WIDTH]);
    let embedded = g.node("Gather", &[&words, &tokens], Vec::new());
    let table = g.table("wpe", &[POSITIONS, WIDTH]);
    let positions = g.first_rows(&table, &tokens);
    let mut hidden = g.node("Add", &[&embedded, &positions], Vec::new());
    let allowed = allowed(&mut g, &tokens);
    for index in 0..LAYERS {
        hidden = g.scoped(&format!("h.{index}"), |g| layer(g, &hidden, &allowed));
    }
    let hidden = g.layer_norm("ln_f", &hidden, WIDTH, EPSILON);
    let head = g.node("Transpose", &[&words], vec![ints("perm", &[1, 0])]);
    let logits = g.node("MatMul", &[&hidden, &head], Vec::new());
    g.output("logits", &logits, &[dims[0].clone(), dims[1].clone(), Dim::Fixed(50_257)]);
    g.finish()
}

/// Which token may look at which: `[1, 1, sequence, sequence]`, cut out of the checkpoint's own buffer.
fn allowed(g: &mut GraphBuilder, tokens: &Value) -> Value {
    let all = g.weight("causal_mask", &[1, 1, POSITIONS, POSITIONS], Content::LowerTriangle);
    let length = g.length(tokens);
    let (zeros, axes) = (g.ints(&[0, 0]), g.ints(&[2, 3]));
    let ends = g.node("Concat", &[&length, &length], vec![int("axis", 0)]);
    g.node("Slice", &[&all, &zeros, &ends, &axes], Vec::new())
}

fn layer(g: &mut GraphBuilder, hidden: &Value, allowed: &Value) -> Value {
    let normed = g.layer_norm("ln_1", hidden, WIDTH, EPSILON);
    let projected = g.linear("attn.c_attn", &normed, WIDTH, 3 * WIDTH, true);
    let parts = g.ints(&[WIDTH; 3]);
    let parts = g.nodes("Split", &[&projected, &parts], vec![int("axis", 2)], 3);
    let mixed = g.attention([&parts[0], &parts[1], &parts[2]], HEADS, Mask::Allowed(allowed));
    let mixed = g.linear("attn.c_proj", &mixed, WIDTH, WIDTH, true);
    let hidden = g.node("Add", &[&mixed, hidden], Vec::new());
    let normed = g.layer_norm("ln_2", &hidden, WIDTH, EPSILON);
    let inner = g.linear("mlp.c_fc", &normed, WIDTH, 4 * WIDTH, true);
    let inner = g.activation(&inner, Activation::GeluTanh);
    let outer = g.linear("mlp.c_proj", &inner, 4 * WIDTH, WIDTH, true);
    g.node("Add", &[&outer, &hidden], Vec::new())
}
