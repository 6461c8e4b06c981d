//! T5 (arXiv:1910.10683): an encoder and a decoder whose positions are biases of their scores.

use crate::{
    builder::{
        Activation, Architecture, Attention, Biases, Content, Context, GraphBuilder, Inner, Layer, Mask, Norm, Value,
        ints,
    },
    model::{Dim, ElementType},
};

/// Dimensions.
pub(super) struct T5 {
    vocabulary: i64,
    /// Longest sequence, in tokens.
    positions: i64,
    /// Layers of the encoder, and as many of the decoder.
    layers: usize,
    layer: Layer,
}

const fn layer(heads: i64) -> Layer {
    let width = heads * 64;
    Layer {
        width,
        attention: Attention { biases: Biases::None, scaled: false, ..Attention::of(heads, 64) },
        inner: Inner { width: 4 * width, activation: Activation::Relu, gated: false, biases: false },
        norm: Norm::Rms(1e-6),
        norm_first: true,
    }
}

pub(super) const SMALL: T5 = T5 { vocabulary: 32_128, positions: 512, layers: 6, layer: layer(8) };

pub(super) const MINIATURE: T5 = T5 { vocabulary: 1_000, positions: 64, layers: 2, layer: layer(2) };

/// Biases that are learned for distances, per head.
const BUCKETS: i64 = 32;

/// Distance from which on all distances share a bias.
const DISTANCE_MAX: u128 = 128;

/// `T5ForConditionalGeneration`: both sequences' ids to logits; the head uses the embeddings' own weights.
pub(super) fn t5(name: &str, t5: &T5) -> Architecture {
    let width = t5.layer.width;
    let mut g = GraphBuilder::new(name);
    let dims = [Dim::symbol("batch"), Dim::symbol("sequence")];
    let tokens = g.input("input_ids", ElementType::Int64, &dims);
    let attention_mask = g.input("attention_mask", ElementType::Int64, &dims);
    let decoded = g.input("decoder_input_ids", ElementType::Int64, &[dims[0].clone(), Dim::symbol("decoder_sequence")]);
    let words = g.table("shared", &[t5.vocabulary, width]);
    let padding = g.padding_mask(&attention_mask);
    let memory = g.scoped("encoder", |g| {
        let hidden = g.node("Gather", &[&words, &tokens], Vec::new());
        let bias = relative_bias(g, t5, &tokens, true);
        let mask = g.node("Add", &[&bias, &padding], Vec::new());
        let hidden = g.layers("block", t5.layers, hidden, &t5.layer, &Context::of(Mask::Additive(&mask)));
        g.norm("final_layer_norm", &hidden, width, t5.layer.norm)
    });
    let hidden = g.scoped("decoder", |g| {
        let hidden = g.node("Gather", &[&words, &decoded], Vec::new());
        let bias = relative_bias(g, t5, &decoded, false);
        let allowed = g.causal_table(t5.positions, &decoded);
        let mask = g.bias_where(&allowed, &bias);
        let context =
            Context { memory: Some((&memory, Mask::Additive(&padding))), ..Context::of(Mask::Additive(&mask)) };
        let hidden = g.layers("block", t5.layers, hidden, &t5.layer, &context);
        g.norm("final_layer_norm", &hidden, width, t5.layer.norm)
    });
    // Tied heads see states that are scaled down.
    let scale = g.scalar(1.0 / (width as f32).sqrt());
    let hidden = g.node("Mul", &[&hidden, &scale], Vec::new());
    let logits = g.tied_head(&hidden, &words);
    let vocabulary = Dim::Fixed(t5.vocabulary.unsigned_abs());
    g.output("logits", &logits, &[dims[0].clone(), Dim::symbol("decoder_sequence"), vocabulary]);
    g.finish()
}

/// `[1, heads, sequence, sequence]`: the learned bias of each distance's bucket.
fn relative_bias(g: &mut GraphBuilder, t5: &T5, tokens: &Value, both_ways: bool) -> Value {
    let learned = g.table("relative_attention_bias", &[BUCKETS, t5.layer.attention.heads.count]);
    let positions = t5.positions;
    let pairs = (0..positions).flat_map(|query| (0..positions).map(move |key| bucket(key - query, both_ways)));
    // A table, where exporters write the arithmetic out: runtimes fold that to the same.
    let buckets = g.weight("buckets", &[1, 1, positions, positions], Content::Ints(pairs.collect()));
    let buckets = g.top_left(&buckets, tokens);
    let biases = g.node("Gather", &[&learned, &buckets], Vec::new());
    let turned = g.node("Transpose", &[&biases], vec![ints("perm", &[0, 4, 2, 3, 1])]);
    let axis = g.ints(&[4]);
    g.node("Squeeze", &[&turned, &axis], Vec::new())
}

/// The bucket of a key that lies `distance` behind the query: each distance its own at first, then logarithmically
/// wider ones (`T5Attention._relative_position_bucket` of transformers).
fn bucket(distance: i64, both_ways: bool) -> i64 {
    let buckets = if both_ways { BUCKETS / 2 } else { BUCKETS };
    let ahead = if both_ways && distance > 0 { buckets } else { 0 };
    let length = if both_ways { distance.abs() } else { (-distance).max(0) };
    let exact = buckets / 2;
    if length < exact {
        return ahead + length;
    }
    // length / exact ≥ (DISTANCE_MAX / exact) ^ (step / exact), in whole numbers: both sides to the power of `exact`.
    let (length, whole) = (u128::from(length.unsigned_abs()).min(DISTANCE_MAX), u128::from(exact.unsigned_abs()));
    let power = |base: u128, times: i64| (0..times).fold(1_u128, |product, _| product * base);
    let steps =
        (1..exact).take_while(|step| power(length, exact) >= power(whole, exact - step) * power(DISTANCE_MAX, *step));
    ahead + exact + i64::try_from(steps.count()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_those_of_the_paper() {
        // From `T5Attention._relative_position_bucket(torch.tensor([...]), both_ways, 32, 128)`.
        let check = |both_ways, expected: &[(i64, i64)]| {
            let found: Vec<_> =
                expected.iter().map(|(distance, _)| (*distance, bucket(*distance, both_ways))).collect();
            assert_eq!(found, expected);
        };
        check(
            true,
            &[(0, 0), (-1, 1), (-7, 7), (-8, 8), (-11, 8), (-12, 9), (-127, 15), (-500, 15), (1, 17), (20, 26)],
        );
        check(false, &[(5, 0), (0, 0), (-15, 15), (-16, 16), (-18, 16), (-19, 17), (-127, 31), (-500, 31)]);
    }
}
