//! wav2vec 2.0 (arXiv:2006.11477): samples of sound through convolutions into a transformer.

use crate::{
    builder::{Activation, Architecture, Context, GraphBuilder, Layer, Mask, Value, float, ints},
    model::{Dim, ElementType},
};

/// Dimensions.
pub(super) struct Wav2Vec2 {
    /// Channels of each convolution.
    channels: i64,
    layers: usize,
    layer: Layer,
    /// Kernel and groups of the convolution that tells positions.
    positional: (i64, i64),
}

pub(super) const BASE: Wav2Vec2 =
    Wav2Vec2 { channels: 512, layers: 12, layer: Layer::post_norm(12, 1e-5), positional: (128, 16) };

pub(super) const MINIATURE: Wav2Vec2 =
    Wav2Vec2 { channels: 32, layers: 2, layer: Layer::post_norm(2, 1e-5), positional: (16, 4) };

/// Kernel and stride of each convolution: together one frame per 20 ms at 16 kHz, from 25 ms.
const CONVOLUTIONS: [(i64, i64); 7] = [(10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2)];

/// `Wav2Vec2Model`: samples to states.
pub(super) fn wav2vec2(name: &str, wav2vec2: &Wav2Vec2) -> Architecture {
    let Wav2Vec2 { channels, layers, ref layer, .. } = *wav2vec2;
    let width = layer.width;
    let mut g = GraphBuilder::new(name);
    let samples = g.input("input_values", ElementType::Float32, &[Dim::symbol("batch"), Dim::symbol("sequence")]);
    let axis = g.ints(&[1]);
    let sound = g.node("Unsqueeze", &[&samples, &axis], Vec::new());
    let features = g.scoped("feature_extractor", |g| frames(g, channels, sound));
    let features = g.node("Transpose", &[&features], vec![ints("perm", &[0, 2, 1])]);
    let hidden = g.scoped("feature_projection", |g| {
        let normed = g.norm("layer_norm", &features, channels, layer.norm);
        g.linear("projection", &normed, channels, width, true)
    });
    let positions = positions(&mut g, wav2vec2, &hidden);
    let hidden = g.node("Add", &[&hidden, &positions], Vec::new());
    let hidden = g.norm("encoder.layer_norm", &hidden, width, layer.norm);
    let hidden = g.layers("encoder.layers", layers, hidden, layer, &Context::of(Mask::Everything));
    g.output(
        "last_hidden_state",
        &hidden,
        &[Dim::symbol("batch"), Dim::symbol("time"), Dim::Fixed(width.unsigned_abs())],
    );
    g.finish()
}

/// `[batch, channels, frames]`; the first convolution's channels are normed over time.
fn frames(g: &mut GraphBuilder, channels: i64, sound: Value) -> Value {
    let mut hidden = sound;
    let mut from = 1;
    for (index, (kernel, stride)) in CONVOLUTIONS.into_iter().enumerate() {
        hidden = g.conv_bare(&format!("conv_layers.{index}"), &hidden, &[channels, from, kernel], stride);
        if index == 0 {
            let (gain, bias) =
                g.scoped("conv_layers.0.layer_norm", |g| (g.near_one("weight", channels), g.bias(channels)));
            hidden = g.node("InstanceNormalization", &[&hidden, &gain, &bias], vec![float("epsilon", 1e-5)]);
        }
        hidden = g.activation(&hidden, Activation::GeluErf);
        from = channels;
    }
    hidden
}

/// What each state's surroundings add to it.
fn positions(g: &mut GraphBuilder, wav2vec2: &Wav2Vec2, hidden: &Value) -> Value {
    let width = wav2vec2.layer.width;
    let (kernel, groups) = wav2vec2.positional;
    let turned = g.node("Transpose", &[hidden], vec![ints("perm", &[0, 2, 1])]);
    let dims = [width, width / groups, kernel];
    let around = g.conv_grouped("encoder.pos_conv_embed", &turned, &dims, 1, kernel / 2, groups);
    // An even kernel makes one frame too many.
    let (start, end, axis) = (g.ints(&[0]), g.ints(&[-1]), g.ints(&[2]));
    let cut = g.node("Slice", &[&around, &start, &end, &axis], Vec::new());
    let active = g.activation(&cut, Activation::GeluErf);
    g.node("Transpose", &[&active], vec![ints("perm", &[0, 2, 1])])
}
