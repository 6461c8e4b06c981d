//! Whisper (arXiv:2212.04356): 30 seconds of sound as 3,000 mel frames, heard by an encoder and written by a decoder.

use crate::{
    builder::{Activation, Architecture, Attention, Biases, Context, GraphBuilder, Layer, Mask, Value, ints},
    model::{Dim, ElementType},
};

/// Dimensions.
pub(super) struct Whisper {
    /// Mel frames; the encoder has half as many positions.
    frames: i64,
    vocabulary: i64,
    /// Longest text, in tokens.
    positions: i64,
    /// Layers of the encoder, and as many of the decoder.
    layers: usize,
    layer: Layer,
}

const fn layer(heads: i64) -> Layer {
    let usual = Layer::pre_norm(heads, 1e-5);
    Layer { attention: Attention { biases: Biases::AllButKey, ..usual.attention }, ..usual }
}

pub(super) const TINY: Whisper =
    Whisper { frames: 3_000, vocabulary: 51_865, positions: 448, layers: 4, layer: layer(6) };

pub(super) const BASE: Whisper = Whisper { layers: 6, layer: layer(8), ..TINY };

pub(super) const MINIATURE: Whisper =
    Whisper { frames: 100, vocabulary: 1_000, positions: 64, layers: 2, layer: layer(2) };

const MEL_BINS: i64 = 80;

/// The encoder alone: mel frames to states.
pub(super) fn encoder(name: &str, whisper: &Whisper) -> Architecture {
    let mut g = GraphBuilder::new(name);
    let mel = input(&mut g, whisper);
    let hidden = encode(&mut g, whisper, &mel);
    let dims = [(whisper.frames / 2), whisper.layer.width].map(|length| Dim::Fixed(length.unsigned_abs()));
    g.output("last_hidden_state", &hidden, &[&[Dim::symbol("batch")], &dims[..]].concat());
    g.finish()
}

/// `WhisperForConditionalGeneration`: mel frames and token ids to logits; the head uses the embeddings' own weights.
pub(super) fn whisper(name: &str, whisper: &Whisper) -> Architecture {
    let width = whisper.layer.width;
    let mut g = GraphBuilder::new(name);
    let dims = [Dim::symbol("batch"), Dim::symbol("decoder_sequence")];
    let mel = input(&mut g, whisper);
    let tokens = g.input("decoder_input_ids", ElementType::Int64, &dims);
    let memory = g.scoped("encoder", |g| encode(g, whisper, &mel));
    let words = g.table("decoder.embed_tokens", &[whisper.vocabulary, width]);
    let hidden = g.scoped("decoder", |g| {
        let embedded = g.node("Gather", &[&words, &tokens], Vec::new());
        let hidden = g.add_positions(&embedded, &tokens, whisper.positions, 0, width);
        let allowed = g.causal_table(whisper.positions, &tokens);
        let context = Context { memory: Some((&memory, Mask::Everything)), ..Context::of(Mask::Allowed(&allowed)) };
        let hidden = g.layers("layers", whisper.layers, hidden, &whisper.layer, &context);
        g.norm("layer_norm", &hidden, width, whisper.layer.norm)
    });
    let logits = g.tied_head(&hidden, &words);
    let vocabulary = Dim::Fixed(whisper.vocabulary.unsigned_abs());
    g.output("logits", &logits, &[dims[0].clone(), dims[1].clone(), vocabulary]);
    g.finish()
}

fn input(g: &mut GraphBuilder, whisper: &Whisper) -> Value {
    let dims = [MEL_BINS, whisper.frames].map(|length| Dim::Fixed(length.unsigned_abs()));
    g.input("input_features", ElementType::Float32, &[&[Dim::symbol("batch")], &dims[..]].concat())
}

fn encode(g: &mut GraphBuilder, whisper: &Whisper, mel: &Value) -> Value {
    let Layer { width, norm, .. } = whisper.layer;
    let hidden = g.conv_bias("conv1", mel, &[width, MEL_BINS, 3], 1, 1);
    let hidden = g.activation(&hidden, Activation::GeluErf);
    let hidden = g.conv_bias("conv2", &hidden, &[width, width, 3], 2, 1);
    let hidden = g.activation(&hidden, Activation::GeluErf);
    let hidden = g.node("Transpose", &[&hidden], vec![ints("perm", &[0, 2, 1])]);
    let positions = g.table("embed_positions", &[whisper.frames / 2, width]);
    let hidden = g.node("Add", &[&hidden, &positions], Vec::new());
    let hidden = g.layers("layers", whisper.layers, hidden, &whisper.layer, &Context::of(Mask::Everything));
    g.norm("layer_norm", &hidden, width, norm)
}
