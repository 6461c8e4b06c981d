//! CLIP (arXiv:2103.00020): an image encoder and a text encoder that meet in one space.

use super::vit::{Tokens, Vit, image_input, patch_tokens};
use crate::{
    builder::{Activation, Architecture, Context, GraphBuilder, Layer, Mask, Value, int},
    model::{Dim, ElementType},
};

/// Dimensions.
pub(super) struct Clip {
    vision: Vit,
    vocabulary: i64,
    /// Longest text, in tokens.
    positions: i64,
    text_layers: usize,
    text_layer: Layer,
    /// Width of the space in which both meet.
    shared: i64,
}

const fn layer(heads: i64) -> Layer {
    Layer::pre_norm(heads, 1e-5).with_activation(Activation::QuickGelu)
}

pub(super) const VIT_BASE_PATCH32: Clip = Clip {
    vision: Vit { image: 224, patch: 32, layers: 12, layer: layer(12), tokens: Tokens::Class, patch_bias: false },
    vocabulary: 49_408,
    positions: 77,
    text_layers: 12,
    text_layer: layer(8),
    shared: 512,
};

pub(super) const MINIATURE: Clip = Clip {
    vision: Vit { image: 64, layers: 2, layer: layer(2), ..VIT_BASE_PATCH32.vision },
    vocabulary: 1_000,
    text_layers: 2,
    text_layer: layer(2),
    shared: 64,
    ..VIT_BASE_PATCH32
};

/// `CLIPModel` over pairs: each image and each text becomes a unit vector, and each pair gets its similarity.
pub(super) fn clip(name: &str, clip: &Clip) -> Architecture {
    let mut g = GraphBuilder::new(name);
    let batch = Dim::symbol("batch");
    let tokens = g.input("input_ids", ElementType::Int64, &[batch.clone(), Dim::symbol("sequence")]);
    let pixels = image_input(&mut g, clip.vision.image);
    let text = g.scoped("text_model", |g| text(g, clip, &tokens));
    let image = g.scoped("vision_model", |g| image(g, clip, &pixels));
    let scale = g.parameter("logit_scale", 2.659_2);
    let similarity = pair_similarity(&mut g, &text, &image, &scale);
    let shared = Dim::Fixed(clip.shared.unsigned_abs());
    g.output("text_embeds", &text, &[batch.clone(), shared.clone()]);
    g.output("image_embeds", &image, &[batch.clone(), shared]);
    g.output("logits_per_pair", &similarity, &[batch]);
    g.finish()
}

fn text(g: &mut GraphBuilder, clip: &Clip, tokens: &Value) -> Value {
    let width = clip.text_layer.width;
    let hidden = g.token_embeddings(tokens, clip.vocabulary, clip.positions, 0, width);
    let allowed = g.causal_table(clip.positions, tokens);
    let context = Context::of(Mask::Allowed(&allowed));
    let hidden = g.layers("encoder", clip.text_layers, hidden, &clip.text_layer, &context);
    let hidden = g.norm("final_layer_norm", &hidden, width, clip.text_layer.norm);
    // The last token stands for the text.
    let last = g.item(&hidden, -1);
    let projected = g.linear("projection", &last, width, clip.shared, false);
    g.unit(&projected)
}

fn image(g: &mut GraphBuilder, clip: &Clip, pixels: &Value) -> Value {
    let Layer { width, norm, .. } = clip.vision.layer;
    let hidden = patch_tokens(g, &clip.vision, pixels);
    let hidden = g.norm("pre_layernorm", &hidden, width, norm);
    let hidden = g.layers("encoder", clip.vision.layers, hidden, &clip.vision.layer, &Context::of(Mask::Everything));
    let class = g.item(&hidden, 0);
    let class = g.norm("post_layernorm", &class, width, norm);
    let projected = g.linear("projection", &class, width, clip.shared, false);
    g.unit(&projected)
}

/// `[batch]`: products of unit vectors times the exponential of a learned scale.
///
/// The published models compare all with all, which grows with the square of the batch; this compares pairs.
pub(super) fn pair_similarity(g: &mut GraphBuilder, left: &Value, right: &Value, scale: &Value) -> Value {
    let products = g.node("Mul", &[left, right], Vec::new());
    let axis = g.ints(&[-1]);
    let similarity = g.node("ReduceSum", &[&products, &axis], vec![int("keepdims", 0)]);
    let scale = g.node("Exp", &[scale], Vec::new());
    g.node("Mul", &[&similarity, &scale], Vec::new())
}
