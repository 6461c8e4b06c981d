//! GPT-2 and OPT (arXiv:2205.01068) with their language-model heads and without a cache of keys and values.

use crate::{
    builder::{Activation, Architecture, Context, GraphBuilder, Layer, Mask, Value, int},
    model::{Dim, ElementType},
};

/// Dimensions of a decoder with learned positions.
pub(super) struct Decoder {
    vocabulary: i64,
    /// Longest sequence.
    positions: i64,
    /// Rows of the table of positions that are never used.
    first_position: i64,
    layers: usize,
    layer: Layer,
    /// Whether queries, keys and values are one product that is split.
    joint: bool,
}

pub(super) const GPT2: Decoder = Decoder {
    vocabulary: 50_257,
    positions: 1_024,
    first_position: 0,
    layers: 12,
    layer: Layer::pre_norm(12, 1e-5).with_activation(Activation::GeluTanh),
    joint: true,
};

pub(super) const DISTILGPT2: Decoder = Decoder { layers: 6, ..GPT2 };

pub(super) const GPT2_MINIATURE: Decoder = Decoder {
    vocabulary: 1_000,
    positions: 64,
    layers: 2,
    layer: Layer::pre_norm(2, 1e-5).with_activation(Activation::GeluTanh),
    ..GPT2
};

pub(super) const OPT_125M: Decoder = Decoder {
    vocabulary: 50_272,
    positions: 2_048,
    first_position: 2,
    layers: 12,
    layer: Layer::pre_norm(12, 1e-5).with_activation(Activation::Relu),
    joint: false,
};

pub(super) const OPT_MINIATURE: Decoder = Decoder {
    vocabulary: 1_000,
    positions: 64,
    layers: 2,
    layer: Layer::pre_norm(2, 1e-5).with_activation(Activation::Relu),
    ..OPT_125M
};

/// `GPT2LMHeadModel` or `OPTForCausalLM`: token ids to logits; the head uses the embeddings' own weights.
pub(super) fn decoder(name: &str, decoder: &Decoder) -> Architecture {
    let Decoder { vocabulary, positions, first_position, layers, ref layer, joint } = *decoder;
    let width = layer.width;
    let mut g = GraphBuilder::new(name);
    let dims = [Dim::symbol("batch"), Dim::symbol("sequence")];
    let tokens = g.input("input_ids", ElementType::Int64, &dims);
    let words = g.table("wte", &[vocabulary, width]);
    let embedded = g.node("Gather", &[&words, &tokens], Vec::new());
    let mut hidden = g.add_positions(&embedded, &tokens, positions + first_position, first_position, width);
    let allowed = g.causal_table(positions, &tokens);
    if joint {
        for index in 0..layers {
            hidden = g.scoped(&format!("h.{index}"), |g| joint_layer(g, &hidden, layer, &allowed));
        }
    } else {
        hidden = g.layers("h", layers, hidden, layer, &Context::of(Mask::Allowed(&allowed)));
    }
    let hidden = g.norm("ln_f", &hidden, width, layer.norm);
    let logits = g.tied_head(&hidden, &words);
    g.output("logits", &logits, &[dims[0].clone(), dims[1].clone(), Dim::Fixed(vocabulary.unsigned_abs())]);
    g.finish()
}

fn joint_layer(g: &mut GraphBuilder, hidden: &Value, layer: &Layer, allowed: &Value) -> Value {
    let width = layer.width;
    let normed = g.norm("ln_1", hidden, width, layer.norm);
    let projected = g.linear("attn.c_attn", &normed, width, 3 * width, true);
    let parts = g.ints(&[width; 3]);
    let parts = g.nodes("Split", &[&projected, &parts], vec![int("axis", 2)], 3);
    let mixed = g.attention([&parts[0], &parts[1], &parts[2]], layer.attention.heads, Mask::Allowed(allowed));
    let mixed = g.linear("attn.c_proj", &mixed, width, width, true);
    let hidden = g.node("Add", &[&mixed, hidden], Vec::new());
    let normed = g.norm("ln_2", &hidden, width, layer.norm);
    let outer = g.inner("mlp", &normed, width, &layer.inner);
    g.node("Add", &[&outer, &hidden], Vec::new())
}
