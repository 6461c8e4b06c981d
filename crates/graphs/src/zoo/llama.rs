//! Decoders of Llama's kind (arXiv:2302.13971), small ones: rotary positions, gated inner layers, shared key heads.

use crate::{
    builder::{Activation, Architecture, Attention, Biases, Context, GraphBuilder, Inner, Layer, Mask, Norm, Value},
    model::{Dim, ElementType},
};

/// Dimensions.
pub(super) struct Llama {
    pub(super) vocabulary: i64,
    pub(super) layers: usize,
    pub(super) layer: Layer,
    /// Whether the head uses the embeddings' own weights.
    pub(super) tied: bool,
    /// From one rotary frequency to the next: `base` to the power of `-2 / width of a head`.
    pub(super) frequency_ratio: f64,
}

const fn layer(heads: i64, key_heads: i64, head_width: i64, inner: i64) -> Layer {
    Layer {
        width: heads * head_width,
        attention: Attention { key_heads, biases: Biases::None, ..Attention::of(heads, head_width) },
        inner: Inner { width: inner, activation: Activation::Silu, gated: true, biases: false },
        norm: Norm::Rms(1e-5),
        norm_first: true,
    }
}

/// `SmolLM2` (arXiv:2502.02737), 135 M: base 100,000, whose 32nd root divides.
pub(super) const SMOLLM2_135M: Llama = Llama {
    vocabulary: 49_152,
    layers: 30,
    layer: layer(9, 3, 64, 1_536),
    tied: true,
    frequency_ratio: 0.697_830_584_859_866_3,
};

/// The draft model of `SpecInfer` (arXiv:2305.09781): base 10,000, whose 32nd root divides.
pub(super) const LLAMA_68M: Llama = Llama {
    vocabulary: 32_000,
    layers: 2,
    layer: layer(12, 12, 64, 3_072),
    tied: false,
    frequency_ratio: 0.749_894_209_332_455_8,
};

pub(super) const MINIATURE: Llama = Llama { vocabulary: 1_000, layers: 2, layer: layer(4, 2, 32, 256), ..SMOLLM2_135M };

/// `LlamaForCausalLM`: token ids to logits, without a cache of keys and values.
pub(super) fn llama(name: &str, llama: &Llama) -> Architecture {
    let mut g = GraphBuilder::new(name);
    let dims = [Dim::symbol("batch"), Dim::symbol("sequence")];
    let tokens = g.input("input_ids", ElementType::Int64, &dims);
    let words = g.table("embed_tokens", &[llama.vocabulary, llama.layer.width]);
    let hidden = g.node("Gather", &[&words, &tokens], Vec::new());
    let logits = language_model(&mut g, llama, hidden, &words);
    g.output("logits", &logits, &[dims[0].clone(), dims[1].clone(), Dim::Fixed(llama.vocabulary.unsigned_abs())]);
    g.finish()
}

/// Embeddings `[batch, sequence, width]` to logits.
pub(super) fn language_model(g: &mut GraphBuilder, llama: &Llama, hidden: Value, words: &Value) -> Value {
    let Layer { width, norm, attention, .. } = llama.layer;
    let length = g.length_of(&hidden, 1);
    let rotary = g.rotary(&length, attention.heads.width, llama.frequency_ratio);
    let allowed = g.causal_computed(&length);
    let context = Context { rotary: Some(&rotary), ..Context::of(Mask::Allowed(&allowed)) };
    let hidden = g.layers("layers", llama.layers, hidden, &llama.layer, &context);
    let hidden = g.norm("norm", &hidden, width, norm);
    if llama.tied { g.tied_head(&hidden, words) } else { g.linear("lm_head", &hidden, width, llama.vocabulary, false) }
}
