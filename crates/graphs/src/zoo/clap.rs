//! CLAP (arXiv:2211.06687): a sound encoder, which is a Swin transformer (arXiv:2103.14030) over mel spectrograms as
//! HTS-AT (arXiv:2202.00874) has it, and a text encoder that meet in one space.

use super::{
    bert::{self, Bert, text_encoder},
    clip::pair_similarity,
};
use crate::{
    builder::{Activation, Architecture, Content, GraphBuilder, Inner, Layer, Mask, Value, float, int, ints, text},
    model::{Dim, ElementType},
};

/// Dimensions.
pub(super) struct Clap {
    text: Bert,
    /// Mel frames of 10 seconds.
    frames: i64,
    /// Mel bins.
    bins: i64,
    /// Edge of the square that the spectrogram is folded into.
    square: i64,
    /// Width of the first stage; each further one is twice as wide.
    width: i64,
    /// Layers and heads of each stage.
    stages: &'static [(usize, i64)],
    /// Width of the space in which both meet.
    shared: i64,
}

pub(super) const HTSAT_UNFUSED: Clap = Clap {
    // RoBERTa (arXiv:1907.11692).
    text: Bert { vocabulary: 50_265, positions: 514, first_position: 2, types: 1, ..bert::BASE },
    frames: 1_001,
    bins: 64,
    square: 256,
    width: 96,
    stages: &[(2, 4), (2, 8), (6, 16), (2, 32)],
    shared: 512,
};

pub(super) const MINIATURE: Clap = Clap {
    text: Bert { first_position: 2, types: 1, ..bert::MINIATURE },
    frames: 250,
    bins: 16,
    square: 64,
    width: 32,
    stages: &[(2, 2), (2, 4)],
    shared: 64,
};

/// Edge of a patch of the spectrogram.
const PATCH: i64 = 4;

/// Edge of a window that attention stays in, in patches.
const WINDOW: i64 = 8;

const EPSILON: f32 = 1e-5;

/// `ClapModel` over pairs: each sound and each text becomes a unit vector, and each pair gets its similarity.
pub(super) fn clap(name: &str, clap: &Clap) -> Architecture {
    let mut g = GraphBuilder::new(name);
    let (batch, sequence) = (Dim::symbol("batch"), Dim::symbol("sequence"));
    let tokens = g.input("input_ids", ElementType::Int64, &[batch.clone(), sequence.clone()]);
    let attention_mask = g.input("attention_mask", ElementType::Int64, &[batch.clone(), sequence]);
    let dims = [1, clap.frames, clap.bins].map(|length| Dim::Fixed(length.unsigned_abs()));
    let mel = g.input("input_features", ElementType::Float32, &[std::slice::from_ref(&batch), &dims[..]].concat());
    let text = g.scoped("text_model", |g| {
        let (hidden, pooled) = text_encoder(g, &clap.text, &tokens, &attention_mask, None);
        project(g, &pooled.unwrap_or(hidden), clap.text.layer.width, clap.shared)
    });
    let sound = g.scoped("audio_model", |g| {
        let (pooled, width) = listen(g, clap, &mel);
        project(g, &pooled, width, clap.shared)
    });
    let similarities = ["text", "audio"].map(|side| {
        let scale = g.parameter(&format!("logit_scale_{side}"), 2.659_2);
        (format!("logits_per_{side}"), pair_similarity(&mut g, &text, &sound, &scale))
    });
    let shared = Dim::Fixed(clap.shared.unsigned_abs());
    g.output("text_embeds", &text, &[batch.clone(), shared.clone()]);
    g.output("audio_embeds", &sound, &[batch.clone(), shared]);
    for (name, similarity) in similarities {
        g.output(&name, &similarity, std::slice::from_ref(&batch));
    }
    g.finish()
}

fn project(g: &mut GraphBuilder, x: &Value, width: i64, shared: i64) -> Value {
    let hidden = g.linear("projection.linear1", x, width, shared, true);
    let hidden = g.activation(&hidden, Activation::Relu);
    let projected = g.linear("projection.linear2", &hidden, shared, shared, true);
    g.unit(&projected)
}

/// `[batch, width]` and that width: the mean of the last stage's states.
fn listen(g: &mut GraphBuilder, clap: &Clap, mel: &Value) -> (Value, i64) {
    let image = folded(g, clap, mel);
    let mut width = clap.width;
    let mut side = clap.square / PATCH;
    let patches = g.conv_bias("patch_embed.proj", &image, &[width, 1, PATCH, PATCH], PATCH, 0);
    let flat = g.ints(&[0, width, -1]);
    let patches = g.node("Reshape", &[&patches, &flat], Vec::new());
    let patches = g.node("Transpose", &[&patches], vec![ints("perm", &[0, 2, 1])]);
    let mut hidden = g.layer_norm("patch_embed.norm", &patches, width, EPSILON);
    for (stage, (layers, heads)) in clap.stages.iter().enumerate() {
        for index in 0..*layers {
            let window = Window { side, width, heads: *heads, shift: if index % 2 == 0 { 0 } else { WINDOW / 2 } };
            hidden = g.scoped(&format!("layers.{stage}.blocks.{index}"), |g| window.layer(g, &hidden));
        }
        if stage + 1 < clap.stages.len() {
            hidden = g.scoped(&format!("layers.{stage}.downsample"), |g| {
                let joined = g.join_squares(&hidden, side, 2, width);
                let normed = g.layer_norm("norm", &joined, 4 * width, EPSILON);
                g.linear("reduction", &normed, 4 * width, 2 * width, false)
            });
            (side, width) = (side / 2, 2 * width);
        }
    }
    let hidden = g.layer_norm("norm", &hidden, width, EPSILON);
    let pooled = g.node("ReduceMean", &[&hidden], vec![ints("axes", &[1]), int("keepdims", 0)]);
    (pooled, width)
}

/// The spectrogram, normed per bin, stretched in time and folded into a square of one channel.
fn folded(g: &mut GraphBuilder, clap: &Clap, mel: &Value) -> Value {
    let folds = clap.square / clap.bins;
    let swap = || vec![ints("perm", &[0, 3, 2, 1])];
    let turned = g.node("Transpose", &[mel], swap());
    let normed = g.scoped("batch_norm", |g| g.batch_norm(&turned, clap.bins));
    let normed = g.node("Transpose", &[&normed], swap());
    let shape = g.node("Shape", &[&normed], Vec::new());
    let (zero, rest) = (g.ints(&[0]), g.ints(&[1, clap.square * folds, clap.bins]));
    let batch = g.node("Gather", &[&shape, &zero], Vec::new());
    let sizes = g.node("Concat", &[&batch, &rest], vec![int("axis", 0)]);
    let cubic = vec![
        text("mode", "cubic"),
        text("coordinate_transformation_mode", "align_corners"),
        float("cubic_coeff_a", -0.75),
    ];
    let stretched = g.node("Resize", &[&normed, &Value::absent(), &Value::absent(), &sizes], cubic);
    let apart = g.ints(&[0, folds, clap.square, clap.bins]);
    let apart = g.node("Reshape", &[&stretched, &apart], Vec::new());
    let apart = g.node("Transpose", &[&apart], vec![ints("perm", &[0, 1, 3, 2])]);
    let square = g.ints(&[0, 1, clap.square, clap.square]);
    g.node("Reshape", &[&apart, &square], Vec::new())
}

/// A layer whose attention stays within windows.
struct Window {
    /// Edge of the image, in patches.
    side: i64,
    width: i64,
    heads: i64,
    /// How far windows are shifted, in patches, unless there is but one.
    shift: i64,
}

impl Window {
    fn layer(&self, g: &mut GraphBuilder, x: &Value) -> Value {
        let Self { side, width, .. } = *self;
        let shift = if side > WINDOW { self.shift } else { 0 };
        let normed = g.layer_norm("layernorm_before", x, width, EPSILON);
        let square = g.ints(&[0, side, side, width]);
        let mut image = g.node("Reshape", &[&normed, &square], Vec::new());
        image = rolled(g, image, shift);
        let windows = self.cut(g, &image);
        let mixed = self.attention(g, &windows, shift);
        image = self.joined(g, &mixed);
        image = rolled(g, image, if shift > 0 { side - shift } else { 0 });
        let flat = g.ints(&[0, side * side, width]);
        let mixed = g.node("Reshape", &[&image, &flat], Vec::new());
        let x = g.node("Add", &[&mixed, x], Vec::new());
        let normed = g.layer_norm("layernorm_after", &x, width, EPSILON);
        let inner = Inner { width: 4 * width, ..Layer::pre_norm(1, EPSILON).inner };
        let outer = g.inner("mlp", &normed, width, &inner);
        g.node("Add", &[&outer, &x], Vec::new())
    }

    /// `[batch, side, side, width]` to `[batch, windows, places, width]`.
    fn cut(&self, g: &mut GraphBuilder, image: &Value) -> Value {
        let count = self.side / WINDOW;
        let apart = g.ints(&[0, count, WINDOW, count, WINDOW, self.width]);
        let apart = g.node("Reshape", &[image, &apart], Vec::new());
        let turned = g.node("Transpose", &[&apart], vec![ints("perm", &[0, 1, 3, 2, 4, 5])]);
        let windows = g.ints(&[0, count * count, WINDOW * WINDOW, self.width]);
        g.node("Reshape", &[&turned, &windows], Vec::new())
    }

    /// The way back.
    fn joined(&self, g: &mut GraphBuilder, windows: &Value) -> Value {
        let count = self.side / WINDOW;
        let apart = g.ints(&[0, count, count, WINDOW, WINDOW, self.width]);
        let apart = g.node("Reshape", &[windows, &apart], Vec::new());
        let turned = g.node("Transpose", &[&apart], vec![ints("perm", &[0, 1, 3, 2, 4, 5])]);
        let image = g.ints(&[0, self.side, self.side, self.width]);
        g.node("Reshape", &[&turned, &image], Vec::new())
    }

    /// Attention within each window, with a learned bias per distance.
    fn attention(&self, g: &mut GraphBuilder, windows: &Value, shift: i64) -> Value {
        let Self { width, heads, .. } = *self;
        let apart = |g: &mut GraphBuilder, name: &str, perm: &[i64; 5]| {
            let projected = g.linear(name, windows, width, width, true);
            let shape = g.ints(&[0, 0, 0, heads, width / heads]);
            let apart = g.node("Reshape", &[&projected, &shape], Vec::new());
            g.node("Transpose", &[&apart], vec![ints("perm", perm)])
        };
        let query = apart(g, "attention.query", &[0, 1, 3, 2, 4]);
        let key = apart(g, "attention.key", &[0, 1, 3, 4, 2]);
        let value = apart(g, "attention.value", &[0, 1, 3, 2, 4]);
        let scores = g.node("MatMul", &[&query, &key], Vec::new());
        let scale = g.scalar(1.0 / ((width / heads) as f32).sqrt());
        let scores = g.node("Mul", &[&scores, &scale], Vec::new());
        let bias = self.distance_bias(g);
        let scores = g.node("Add", &[&scores, &bias], Vec::new());
        let shares = if shift == 0 {
            g.masked_softmax(&scores, Mask::Everything)
        } else {
            let dims = [(self.side / WINDOW) * (self.side / WINDOW), 1, WINDOW * WINDOW, WINDOW * WINDOW];
            let allowed = g.weight("attn_mask", &dims, Content::Flags(neighbours(self.side, shift)));
            g.masked_softmax(&scores, Mask::Allowed(&allowed))
        };
        let mixed = g.node("MatMul", &[&shares, &value], Vec::new());
        let joined = g.node("Transpose", &[&mixed], vec![ints("perm", &[0, 1, 3, 2, 4])]);
        let shape = g.ints(&[0, 0, 0, width]);
        let joined = g.node("Reshape", &[&joined, &shape], Vec::new());
        g.linear("attention.output", &joined, width, width, true)
    }

    /// `[heads, places, places]`: what each head learned for each distance within a window.
    fn distance_bias(&self, g: &mut GraphBuilder) -> Value {
        const REACH: i64 = 2 * WINDOW - 1;
        let places = WINDOW * WINDOW;
        let learned = g.table("relative_position_bias_table", &[REACH * REACH, self.heads]);
        let away = |from: i64, to: i64| from - to + WINDOW - 1;
        let index = |from: i64, to: i64| away(from / WINDOW, to / WINDOW) * REACH + away(from % WINDOW, to % WINDOW);
        let distances: Vec<i64> = (0..places).flat_map(|from| (0..places).map(move |to| index(from, to))).collect();
        let distances = g.weight("relative_position_index", &[places, places], Content::Ints(distances));
        let biases = g.node("Gather", &[&learned, &distances], Vec::new());
        g.node("Transpose", &[&biases], vec![ints("perm", &[2, 0, 1])])
    }
}

/// `[batch, side, side, width]` moved up and left by `shift`; what falls off comes back on the other side.
fn rolled(g: &mut GraphBuilder, mut image: Value, shift: i64) -> Value {
    if shift == 0 {
        return image;
    }
    for axis in [1, 2] {
        let axes = g.ints(&[axis]);
        let (start, middle, end) = (g.ints(&[0]), g.ints(&[shift]), g.ints(&[i64::MAX]));
        let front = g.node("Slice", &[&image, &middle, &end, &axes], Vec::new());
        let back = g.node("Slice", &[&image, &start, &middle, &axes], Vec::new());
        image = g.node("Concat", &[&front, &back], vec![int("axis", axis)]);
    }
    image
}

/// For each window of a shifted image, whether two places were neighbours before the shift.
fn neighbours(side: i64, shift: i64) -> Vec<bool> {
    let region = |place: i64| i64::from(place >= side - WINDOW) + i64::from(place >= side - shift);
    let count = side / WINDOW;
    let mut allowed = Vec::new();
    for window in 0..count * count {
        let (top, left) = (window / count * WINDOW, window % count * WINDOW);
        let regions: Vec<_> =
            (0..WINDOW * WINDOW).map(|place| (region(top + place / WINDOW), region(left + place % WINDOW))).collect();
        for from in &regions {
            allowed.extend(regions.iter().map(|to| to == from));
        }
    }
    allowed
}
