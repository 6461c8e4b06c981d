//! Transformer layers: attention with its projections, inner layers, norms, and what attention may look at.
//!
//! One [`Layer`] describes every family's variant: norms before or after, gated or plain inner layers, shared key
//! heads, rotary positions, a second attention over an encoder's output.

use crate::{
    builder::{Activation, Content, GraphBuilder, Value, int, ints},
    model::ElementType,
};

/// The score that a position gets which must not be seen: nothing is left of it, and half precision holds it.
const NEVER: f32 = -10_000.0;

/// The heads of an attention layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads {
    pub(crate) count: i64,
    pub(crate) width: i64,
}

/// What an attention layer may look at.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mask<'a> {
    Everything,
    /// Added to the scores.
    Additive(&'a Value),
    /// Booleans, false where the score must not count.
    Allowed(&'a Value),
}

/// Which projections of an attention layer have a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Biases {
    All,
    AllButKey,
    None,
}

/// An attention layer with its four projections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attention {
    pub(crate) heads: Heads,
    /// Heads of keys and values; fewer than those of queries are shared (grouped-query attention).
    pub(crate) key_heads: i64,
    pub(crate) biases: Biases,
    /// Whether scores are divided by the root of a head's width.
    pub(crate) scaled: bool,
}

impl Attention {
    /// The usual kind: every projection has a bias, no head is shared.
    pub(crate) const fn of(count: i64, width: i64) -> Self {
        Self { heads: Heads { count, width }, key_heads: count, biases: Biases::All, scaled: true }
    }
}

/// A norm with its epsilon.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Norm {
    /// Over mean and variance, with gain and bias.
    Layer(f32),
    /// Over the mean square, with a gain only.
    Rms(f32),
}

/// The layers between attentions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inner {
    pub(crate) width: i64,
    pub(crate) activation: Activation,
    /// `down(activation(gate(x)) · up(x))` in place of `down(activation(up(x)))`.
    pub(crate) gated: bool,
    pub(crate) biases: bool,
}

/// One layer of a transformer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layer {
    pub(crate) width: i64,
    pub(crate) attention: Attention,
    pub(crate) inner: Inner,
    pub(crate) norm: Norm,
    /// Whether a norm stands before each part, or behind its sum.
    pub(crate) norm_first: bool,
}

impl Layer {
    /// BERT's: `heads` of 64, inner layers four times as wide, exact GELU, norms behind the sums.
    pub(crate) const fn post_norm(heads: i64, epsilon: f32) -> Self {
        let width = heads * 64;
        let inner = Inner { width: 4 * width, activation: Activation::GeluErf, gated: false, biases: true };
        let attention = Attention::of(heads, 64);
        Self { width, attention, inner, norm: Norm::Layer(epsilon), norm_first: false }
    }

    /// The same with norms first, as vision transformers have it.
    pub(crate) const fn pre_norm(heads: i64, epsilon: f32) -> Self {
        Self { norm_first: true, ..Self::post_norm(heads, epsilon) }
    }

    /// The same with another activation.
    pub(crate) const fn with_activation(self, activation: Activation) -> Self {
        Self { inner: Inner { activation, ..self.inner }, ..self }
    }
}

/// What a layer sees besides its input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) mask: Mask<'a>,
    pub(crate) rotary: Option<&'a Rotary>,
    /// An encoder's output and what of it may be seen; the layer then has a second attention.
    pub(crate) memory: Option<(&'a Value, Mask<'a>)>,
}

impl<'a> Context<'a> {
    pub(crate) const fn of(mask: Mask<'a>) -> Self {
        Self { mask, rotary: None, memory: None }
    }
}

/// Cosines and sines of rotary positions, `[length, width of a head]` each.
#[derive(Debug, Clone)]
pub(crate) struct Rotary {
    cosine: Value,
    sine: Value,
    width: i64,
}

impl GraphBuilder {
    /// `count` equal layers one after the other, called `scope.0`, `scope.1`, ….
    pub(crate) fn layers(&mut self, scope: &str, count: usize, x: Value, layer: &Layer, context: &Context) -> Value {
        (0..count).fold(x, |x, index| self.layer(&format!("{scope}.{index}"), &x, layer, context))
    }

    pub(crate) fn layer(&mut self, name: &str, x: &Value, layer: &Layer, context: &Context) -> Value {
        let (width, attention) = (layer.width, &layer.attention);
        self.scoped(name, |g| {
            let mut hidden = g.residual("self_attn", x, layer, |g, x| {
                g.attend("self_attn", [x; 3], width, attention, context.mask, context.rotary)
            });
            if let Some((memory, mask)) = context.memory {
                hidden = g.residual("cross_attn", &hidden, layer, |g, x| {
                    g.attend("cross_attn", [x, memory, memory], width, attention, mask, None)
                });
            }
            g.residual("mlp", &hidden, layer, |g, x| g.inner("mlp", x, width, &layer.inner))
        })
    }

    /// `x + part(norm(x))` or `norm(x + part(x))`.
    fn residual(
        &mut self,
        name: &str,
        x: &Value,
        layer: &Layer,
        part: impl FnOnce(&mut Self, &Value) -> Value,
    ) -> Value {
        let name = format!("{name}_norm");
        if layer.norm_first {
            let normed = self.norm(&name, x, layer.width, layer.norm);
            let part = part(self, &normed);
            self.node("Add", &[&part, x], Vec::new())
        } else {
            let part = part(self, x);
            let sum = self.node("Add", &[&part, x], Vec::new());
            self.norm(&name, &sum, layer.width, layer.norm)
        }
    }

    pub(crate) fn norm(&mut self, name: &str, x: &Value, width: i64, norm: Norm) -> Value {
        match norm {
            Norm::Layer(epsilon) => self.layer_norm(name, x, width, epsilon),
            Norm::Rms(epsilon) => self.rms_norm(name, x, width, epsilon),
        }
    }

    /// As exporters write it for operator sets that have no such norm.
    fn rms_norm(&mut self, name: &str, x: &Value, width: i64, epsilon: f32) -> Value {
        let gain = self.scoped(name, |g| g.near_one("weight", width));
        let (two, epsilon) = (self.scalar(2.0), self.scalar(epsilon));
        let square = self.node("Pow", &[x, &two], Vec::new());
        let mean = self.node("ReduceMean", &[&square], vec![ints("axes", &[-1])]);
        let shifted = self.node("Add", &[&mean, &epsilon], Vec::new());
        let root = self.node("Sqrt", &[&shifted], Vec::new());
        let normed = self.node("Div", &[x, &root], Vec::new());
        self.node("Mul", &[&gain, &normed], Vec::new())
    }

    /// The layers between attentions, over the last dimension.
    pub(crate) fn inner(&mut self, name: &str, x: &Value, width: i64, inner: &Inner) -> Value {
        self.scoped(name, |g| {
            let mut hidden = g.linear("up", x, width, inner.width, inner.biases);
            if inner.gated {
                let gate = g.linear("gate", x, width, inner.width, inner.biases);
                let gate = g.activation(&gate, inner.activation);
                hidden = g.node("Mul", &[&gate, &hidden], Vec::new());
            } else {
                hidden = g.activation(&hidden, inner.activation);
            }
            g.linear("down", &hidden, inner.width, width, inner.biases)
        })
    }

    /// Attention with its projections: queries, keys and values are made from three values of `width`.
    pub(crate) fn attend(
        &mut self,
        name: &str,
        [query, key, value]: [&Value; 3],
        width: i64,
        attention: &Attention,
        mask: Mask<'_>,
        rotary: Option<&Rotary>,
    ) -> Value {
        let Attention { heads, key_heads, biases, scaled } = *attention;
        let (inner, shared) = (heads.count * heads.width, key_heads * heads.width);
        // Where scores are not scaled, the queries' weights are smaller instead, as T5 begins its training.
        let gain = if scaled { 1.0 } else { 1.0 / (heads.width as f32).sqrt() };
        self.scoped(name, |g| {
            let query = g.linear_with_gain("q_proj", query, [width, inner], gain, biases != Biases::None);
            let key = g.linear("k_proj", key, width, shared, biases == Biases::All);
            let value = g.linear("v_proj", value, width, shared, biases != Biases::None);
            let mixed = g.mix([&query, &key, &value], attention, mask, rotary);
            g.linear("out_proj", &mixed, inner, width, biases != Biases::None)
        })
    }

    /// Attention over `[batch, sequence, count · width]` queries, keys and values.
    pub(crate) fn attention(&mut self, qkv: [&Value; 3], heads: Heads, mask: Mask<'_>) -> Value {
        self.mix(qkv, &Attention::of(heads.count, heads.width), mask, None)
    }

    /// Scores of projected queries and keys, and the values that they choose.
    fn mix(
        &mut self,
        [query, key, value]: [&Value; 3],
        attention: &Attention,
        mask: Mask<'_>,
        rotary: Option<&Rotary>,
    ) -> Value {
        let Attention { heads, key_heads, .. } = *attention;
        let query = self.split_heads(query, heads);
        let key = self.split_heads(key, Heads { count: key_heads, ..heads });
        let value = self.split_heads(value, Heads { count: key_heads, ..heads });
        let (query, key) = match rotary {
            Some(rotary) => (self.rotate(&query, rotary), self.rotate(&key, rotary)),
            None => (query, key),
        };
        let (key, value) = (self.repeat_heads(&key, attention), self.repeat_heads(&value, attention));
        let key = self.node("Transpose", &[&key], vec![ints("perm", &[0, 1, 3, 2])]);
        let mut scores = self.node("MatMul", &[&query, &key], Vec::new());
        if attention.scaled {
            let scale = self.scalar(1.0 / (heads.width as f32).sqrt());
            scores = self.node("Mul", &[&scores, &scale], Vec::new());
        }
        let shares = self.masked_softmax(&scores, mask);
        let mixed = self.node("MatMul", &[&shares, &value], Vec::new());
        let joined = self.node("Transpose", &[&mixed], vec![ints("perm", &[0, 2, 1, 3])]);
        let shape = self.ints(&[0, 0, heads.count * heads.width]);
        self.node("Reshape", &[&joined, &shape], Vec::new())
    }

    pub(crate) fn masked_softmax(&mut self, scores: &Value, mask: Mask<'_>) -> Value {
        let scores = match mask {
            Mask::Everything => scores.clone(),
            Mask::Additive(mask) => self.node("Add", &[scores, mask], Vec::new()),
            Mask::Allowed(mask) => {
                let never = self.scalar(NEVER);
                self.node("Where", &[mask, scores, &never], Vec::new())
            }
        };
        self.node("Softmax", &[&scores], vec![int("axis", -1)])
    }

    /// `[batch, sequence, count · width]` to `[batch, count, sequence, width]`.
    fn split_heads(&mut self, x: &Value, heads: Heads) -> Value {
        let shape = self.ints(&[0, 0, heads.count, heads.width]);
        let split = self.node("Reshape", &[x, &shape], Vec::new());
        self.node("Transpose", &[&split], vec![ints("perm", &[0, 2, 1, 3])])
    }

    /// Gives each query head its copy of the key head that it shares.
    fn repeat_heads(&mut self, x: &Value, attention: &Attention) -> Value {
        let repeats = attention.heads.count / attention.key_heads;
        if repeats == 1 {
            return x.clone();
        }
        let axis = self.ints(&[2]);
        let apart = self.node("Unsqueeze", &[x, &axis], Vec::new());
        let times = self.ints(&[1, 1, repeats, 1, 1]);
        let repeated = self.node("Expand", &[&apart, &times], Vec::new());
        let shape = self.ints(&[0, attention.heads.count, -1, attention.heads.width]);
        self.node("Reshape", &[&repeated, &shape], Vec::new())
    }

    /// Turns each pair of a head's halves by its position's angle (arXiv:2104.09864).
    fn rotate(&mut self, x: &Value, rotary: &Rotary) -> Value {
        let halves = self.ints(&[rotary.width / 2; 2]);
        let halves = self.nodes("Split", &[x, &halves], vec![int("axis", -1)], 2);
        let negated = self.node("Neg", &[&halves[1]], Vec::new());
        let crossed = self.node("Concat", &[&negated, &halves[0]], vec![int("axis", -1)]);
        let along = self.node("Mul", &[x, &rotary.cosine], Vec::new());
        let across = self.node("Mul", &[&crossed, &rotary.sine], Vec::new());
        self.node("Add", &[&along, &across], Vec::new())
    }

    /// Rotary positions 0, 1, … for a scalar `length`; each frequency is the one before it times `ratio`.
    pub(crate) fn rotary(&mut self, length: &Value, width: i64, ratio: f64) -> Rotary {
        let angles = |g: &mut Self| {
            let positions = g.counting(length);
            let angles = g.angles(&positions, width / 2, ratio, 1.0);
            g.node("Concat", &[&angles, &angles], vec![int("axis", -1)])
        };
        let [cosine, sine] = ["Cos", "Sin"].map(|function| {
            self.exactly(|g| {
                let angles = angles(g);
                g.node(function, &[&angles], Vec::new())
            })
        });
        Rotary { cosine, sine, width }
    }

    /// The floats 0, 1, … below a scalar `length`.
    pub(crate) fn counting(&mut self, length: &Value) -> Value {
        let positions = self.range(length);
        self.node("Cast", &[&positions], vec![int("to", i64::from(ElementType::Float32.code()))])
    }

    /// The integers 0, 1, … below a scalar `length`.
    fn range(&mut self, length: &Value) -> Value {
        let (zero, one) = (self.int(0), self.int(1));
        self.node("Range", &[&zero, length, &one], Vec::new())
    }

    /// `[length, count]`: each of the one-dimensional `positions` times `first`, `first · ratio`, `first · ratio²`, ….
    #[expect(clippy::cast_possible_truncation, reason = "angles are single precision, frequencies are multiplied out")]
    pub(crate) fn angles(&mut self, positions: &Value, count: i64, ratio: f64, first: f64) -> Value {
        // Multiplied out and not raised to a power, because products are rounded alike on every machine.
        let frequencies = std::iter::successors(Some(first), |frequency| Some(frequency * ratio));
        let frequencies: Vec<f32> =
            frequencies.take(usize::try_from(count).unwrap_or(0)).map(|value| value as f32).collect();
        let frequencies = self.constant(&frequencies, &[1, count]);
        let axis = self.ints(&[1]);
        let column = self.node("Unsqueeze", &[positions, &axis], Vec::new());
        self.node("Mul", &[&column, &frequencies], Vec::new())
    }

    /// 0 where `attention_mask` is 1 and [`NEVER`] where it is 0, over `[batch, 1, 1, sequence]`.
    pub(crate) fn padding_mask(&mut self, attention_mask: &Value) -> Value {
        let axes = self.ints(&[1, 2]);
        let mask = self.node("Unsqueeze", &[attention_mask, &axes], Vec::new());
        let mask = self.node("Cast", &[&mask], vec![int("to", i64::from(ElementType::Float32.code()))]);
        let (one, never) = (self.scalar(1.0), self.scalar(NEVER));
        let mask = self.node("Sub", &[&one, &mask], Vec::new());
        self.node("Mul", &[&mask, &never], Vec::new())
    }

    /// Which token may look at which: `[1, 1, sequence, sequence]`, cut out of a stored table, as checkpoints have it.
    pub(crate) fn causal_table(&mut self, positions: i64, tokens: &Value) -> Value {
        let all = self.weight("causal_mask", &[1, 1, positions, positions], Content::LowerTriangle);
        self.top_left(&all, tokens)
    }

    /// As many rows and columns of a `[…, …, n, n]` table as `tokens` has tokens.
    pub(crate) fn top_left(&mut self, table: &Value, tokens: &Value) -> Value {
        let length = self.length(tokens);
        let (zeros, axes) = (self.ints(&[0, 0]), self.ints(&[2, 3]));
        let ends = self.node("Concat", &[&length, &length], vec![int("axis", 0)]);
        self.node("Slice", &[table, &zeros, &ends, &axes], Vec::new())
    }

    /// Which token may look at which: `[sequence, sequence]`, computed for a scalar `length`.
    pub(crate) fn causal_computed(&mut self, length: &Value) -> Value {
        let positions = self.range(length);
        let (row, column) = (self.ints(&[0]), self.ints(&[1]));
        let keys = self.node("Unsqueeze", &[&positions, &row], Vec::new());
        let queries = self.node("Unsqueeze", &[&positions, &column], Vec::new());
        self.node("LessOrEqual", &[&keys, &queries], Vec::new())
    }

    /// [`NEVER`] where `allowed` is false, else `bias`.
    pub(crate) fn bias_where(&mut self, allowed: &Value, bias: &Value) -> Value {
        let never = self.scalar(NEVER);
        self.node("Where", &[allowed, bias, &never], Vec::new())
    }
}
