//! BLIP (arXiv:2201.12086) for captions: a text decoder that sees an image encoder's output.

use super::{
    bert::{self, Bert, embeddings},
    vit::{Tokens, Vit, image_input, patch_tokens},
};
use crate::{
    builder::{Activation, Architecture, Context, GraphBuilder, Layer, Mask, Value},
    model::{Dim, ElementType},
};

/// Dimensions; both parts have the same width.
pub(super) struct Blip {
    vision: Vit,
    text: Bert,
}

pub(super) const CAPTIONING_BASE: Blip = Blip {
    vision: Vit {
        image: 384,
        patch: 16,
        layers: 12,
        layer: Layer::pre_norm(12, 1e-5),
        tokens: Tokens::Class,
        patch_bias: true,
    },
    text: Bert { vocabulary: 30_524, types: 0, ..bert::BASE },
};

pub(super) const MINIATURE: Blip = Blip {
    vision: Vit { image: 64, layers: 2, layer: Layer::pre_norm(2, 1e-5), ..CAPTIONING_BASE.vision },
    text: Bert { types: 0, ..bert::MINIATURE },
};

/// `BlipForConditionalGeneration`: images and token ids to logits.
pub(super) fn blip(name: &str, blip: &Blip) -> Architecture {
    let Blip { vision, text } = blip;
    let mut g = GraphBuilder::new(name);
    let pixels = image_input(&mut g, vision.image);
    let dims = [Dim::symbol("batch"), Dim::symbol("sequence")];
    let tokens = g.input("input_ids", ElementType::Int64, &dims);
    let image = g.scoped("vision_model", |g| {
        let hidden = patch_tokens(g, vision, &pixels);
        let hidden = g.layers("layers", vision.layers, hidden, &vision.layer, &Context::of(Mask::Everything));
        g.norm("post_layernorm", &hidden, vision.layer.width, vision.layer.norm)
    });
    let logits = g.scoped("text_decoder", |g| decode(g, text, &tokens, &image));
    g.output("logits", &logits, &[dims[0].clone(), dims[1].clone(), Dim::Fixed(text.vocabulary.unsigned_abs())]);
    g.finish()
}

fn decode(g: &mut GraphBuilder, text: &Bert, tokens: &Value, image: &Value) -> Value {
    let Layer { width, norm, .. } = text.layer;
    let hidden = embeddings(g, text, tokens, None);
    let allowed = g.causal_table(text.positions, tokens);
    let context = Context { memory: Some((image, Mask::Everything)), ..Context::of(Mask::Allowed(&allowed)) };
    let hidden = g.layers("layer", text.layers, hidden, &text.layer, &context);
    let hidden = g.linear("cls.transform", &hidden, width, width, true);
    let hidden = g.activation(&hidden, Activation::GeluErf);
    let hidden = g.norm("cls.norm", &hidden, width, norm);
    g.linear("cls.decoder", &hidden, width, text.vocabulary, true)
}
