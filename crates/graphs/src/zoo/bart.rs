//! BART (arXiv:1910.13461): an encoder and a decoder that sees its output.

use crate::{
    builder::{Architecture, Context, GraphBuilder, Layer, Mask, Value},
    model::{Dim, ElementType},
};

/// Dimensions.
pub(super) struct Bart {
    vocabulary: i64,
    /// Longest sequence.
    positions: i64,
    /// Layers of the encoder, and as many of the decoder.
    layers: usize,
    layer: Layer,
}

pub(super) const BASE: Bart =
    Bart { vocabulary: 50_265, positions: 1_024, layers: 6, layer: Layer::post_norm(12, 1e-5) };

pub(super) const MINIATURE: Bart =
    Bart { vocabulary: 1_000, positions: 64, layers: 2, layer: Layer::post_norm(2, 1e-5) };

/// Rows of each table of positions that are never used.
const FIRST_POSITION: i64 = 2;

/// `BartModel`: both sequences' ids to the decoder's states.
pub(super) fn bart(name: &str, bart: &Bart) -> Architecture {
    let width = bart.layer.width;
    let mut g = GraphBuilder::new(name);
    let dims = [Dim::symbol("batch"), Dim::symbol("sequence")];
    let tokens = g.input("input_ids", ElementType::Int64, &dims);
    let attention_mask = g.input("attention_mask", ElementType::Int64, &dims);
    let decoded = g.input("decoder_input_ids", ElementType::Int64, &[dims[0].clone(), Dim::symbol("decoder_sequence")]);
    let words = g.table("shared", &[bart.vocabulary, width]);
    let mask = g.padding_mask(&attention_mask);
    let memory = g.scoped("encoder", |g| {
        let hidden = embeddings(g, bart, &words, &tokens);
        g.layers("layers", bart.layers, hidden, &bart.layer, &Context::of(Mask::Additive(&mask)))
    });
    let hidden = g.scoped("decoder", |g| {
        let hidden = embeddings(g, bart, &words, &decoded);
        let allowed = g.causal_table(bart.positions, &decoded);
        let context =
            Context { memory: Some((&memory, Mask::Additive(&mask))), ..Context::of(Mask::Allowed(&allowed)) };
        g.layers("layers", bart.layers, hidden, &bart.layer, &context)
    });
    let dims = [dims[0].clone(), Dim::symbol("decoder_sequence"), Dim::Fixed(width.unsigned_abs())];
    g.output("last_hidden_state", &hidden, &dims);
    g.finish()
}

fn embeddings(g: &mut GraphBuilder, bart: &Bart, words: &Value, tokens: &Value) -> Value {
    let width = bart.layer.width;
    let embedded = g.node("Gather", &[words, tokens], Vec::new());
    let sum = g.add_positions(&embedded, tokens, bart.positions + FIRST_POSITION, FIRST_POSITION, width);
    g.norm("layernorm_embedding", &sum, width, bart.layer.norm)
}
