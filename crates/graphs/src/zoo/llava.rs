//! A vision encoder whose patches become tokens of a language model, as `LLaVA` (arXiv:2304.08485) has it; in the
//! size of `SmolVLM` (arXiv:2504.05299), since `LLaVA`'s own exceed what one ONNX file holds.

use super::{
    llama::{self, Llama, language_model},
    vit::{Tokens, Vit, image_input, patch_tokens},
};
use crate::{
    builder::{Activation, Architecture, Context, GraphBuilder, Layer, Mask, int},
    model::{Dim, ElementType},
};

/// Dimensions.
pub(super) struct Llava {
    vision: Vit,
    /// Edge of the squares of patches that become one token.
    shuffle: i64,
    language: Llama,
}

const VISION: Vit = Vit {
    image: 512,
    patch: 16,
    layers: 12,
    layer: Layer::pre_norm(12, 1e-6).with_activation(Activation::GeluTanh),
    tokens: Tokens::None,
    patch_bias: true,
};

/// One image of 512 × 512, which is what `SmolVLM` cuts larger ones into.
pub(super) const SMOLVLM_256M: Llava =
    Llava { vision: VISION, shuffle: 4, language: Llama { vocabulary: 49_280, tied: false, ..llama::SMOLLM2_135M } };

pub(super) const MINIATURE: Llava = Llava {
    vision: Vit {
        image: 64,
        layers: 2,
        layer: Layer::pre_norm(2, 1e-6).with_activation(Activation::GeluTanh),
        ..VISION
    },
    shuffle: 2,
    language: llama::MINIATURE,
};

/// Images and token ids to the logits of both: the image's tokens come before the text's.
pub(super) fn llava(name: &str, llava: &Llava) -> Architecture {
    let Llava { vision, shuffle, language } = llava;
    let mut g = GraphBuilder::new(name);
    let pixels = image_input(&mut g, vision.image);
    let tokens = g.input("input_ids", ElementType::Int64, &[Dim::symbol("batch"), Dim::symbol("sequence")]);
    let seen = g.scoped("vision_model", |g| {
        let hidden = patch_tokens(g, vision, &pixels);
        let hidden = g.layers("layers", vision.layers, hidden, &vision.layer, &Context::of(Mask::Everything));
        g.norm("post_layernorm", &hidden, vision.layer.width, vision.layer.norm)
    });
    let (side, width) = (vision.image / vision.patch, vision.layer.width);
    let seen = g.join_squares(&seen, side, *shuffle, width);
    let seen = g.linear("connector", &seen, width * shuffle * shuffle, language.layer.width, false);
    let words = g.table("embed_tokens", &[language.vocabulary, language.layer.width]);
    let read = g.node("Gather", &[&words, &tokens], Vec::new());
    let hidden = g.node("Concat", &[&seen, &read], vec![int("axis", 1)]);
    let logits = language_model(&mut g, language, hidden, &words);
    // Only the text's are wanted.
    let (start, end, axis) = (g.ints(&[vision.patches() / (shuffle * shuffle)]), g.ints(&[i64::MAX]), g.ints(&[1]));
    let logits = g.node("Slice", &[&logits, &start, &end, &axis], Vec::new());
    let vocabulary = Dim::Fixed(language.vocabulary.unsigned_abs());
    g.output("logits", &logits, &[Dim::symbol("batch"), Dim::symbol("sequence"), vocabulary]);
    g.finish()
}
