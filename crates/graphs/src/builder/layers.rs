//! Layers in the form in which exporters write them.

use crate::builder::{Content, GraphBuilder, Value, float, int, ints};

/// Standard deviation of biases and the like.
const SMALL: f32 = 0.02;

/// An activation function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// None at all.
    Linear,
    Relu,
    /// Clipped to 0 to 6.
    Relu6,
    /// The exact GELU, through `Erf`.
    GeluErf,
    /// GPT-2's approximation, through `Tanh`.
    GeluTanh,
}

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

/// A two-dimensional convolution with a square kernel and padding that keeps the size at stride 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Convolution {
    pub(crate) from: i64,
    pub(crate) to: i64,
    pub(crate) kernel: i64,
    pub(crate) stride: i64,
    pub(crate) groups: i64,
}

/// Random content that keeps the size of activations: `gain / sqrt(fan_in)`.
fn scaled(fan_in: i64, gain: f32) -> Content {
    Content::Random { mean: 0.0, deviation: gain / (fan_in as f32).sqrt() }
}

impl GraphBuilder {
    /// A table of embeddings.
    pub(crate) fn table(&mut self, name: &str, dims: &[i64]) -> Value {
        self.weight(name, dims, Content::Random { mean: 0.0, deviation: SMALL })
    }

    /// The second dimension of `tokens`, as a tensor of one integer.
    pub(crate) fn length(&mut self, tokens: &Value) -> Value {
        let shape = self.node("Shape", &[tokens], Vec::new());
        let index = self.ints(&[1]);
        self.node("Gather", &[&shape, &index], Vec::new())
    }

    /// As many rows from the start of `table` as `tokens` has tokens.
    pub(crate) fn first_rows(&mut self, table: &Value, tokens: &Value) -> Value {
        let (start, axis) = (self.ints(&[0]), self.ints(&[0]));
        let end = self.length(tokens);
        self.node("Slice", &[table, &start, &end, &axis], Vec::new())
    }

    fn bias(&mut self, width: i64) -> Value {
        self.table("bias", &[width])
    }

    /// `x · W (+ b)` over the last dimension.
    pub(crate) fn linear(&mut self, name: &str, x: &Value, from: i64, to: i64, with_bias: bool) -> Value {
        self.scoped(name, |g| {
            let weight = g.weight("weight", &[from, to], scaled(from, 1.0));
            let product = g.node("MatMul", &[x, &weight], Vec::new());
            if !with_bias {
                return product;
            }
            let bias = g.bias(to);
            g.node("Add", &[&product, &bias], Vec::new())
        })
    }

    /// A fully connected layer over `[batch, from]`.
    pub(crate) fn gemm(&mut self, name: &str, x: &Value, from: i64, to: i64) -> Value {
        self.scoped(name, |g| {
            let weight = g.weight("weight", &[to, from], scaled(from, 1.0));
            let bias = g.bias(to);
            g.node("Gemm", &[x, &weight, &bias], vec![int("transB", 1)])
        })
    }

    pub(crate) fn layer_norm(&mut self, name: &str, x: &Value, width: i64, epsilon: f32) -> Value {
        self.scoped(name, |g| {
            let gain = g.weight("weight", &[width], Content::Random { mean: 1.0, deviation: SMALL });
            let bias = g.bias(width);
            g.node("LayerNormalization", &[x, &gain, &bias], vec![int("axis", -1), float("epsilon", epsilon)])
        })
    }

    pub(crate) fn activation(&mut self, x: &Value, activation: Activation) -> Value {
        match activation {
            Activation::Linear => x.clone(),
            Activation::Relu => self.node("Relu", &[x], Vec::new()),
            Activation::Relu6 => {
                let (low, high) = (self.scalar(0.0), self.scalar(6.0));
                self.node("Clip", &[x, &low, &high], Vec::new())
            }
            Activation::GeluErf => {
                let (root, one, half) = (self.scalar(std::f32::consts::SQRT_2), self.scalar(1.0), self.scalar(0.5));
                let scaled = self.node("Div", &[x, &root], Vec::new());
                let erf = self.node("Erf", &[&scaled], Vec::new());
                let shifted = self.node("Add", &[&erf, &one], Vec::new());
                let product = self.node("Mul", &[x, &shifted], Vec::new());
                self.node("Mul", &[&product, &half], Vec::new())
            }
            Activation::GeluTanh => {
                let (three, cubic) = (self.scalar(3.0), self.scalar(0.044_715));
                let (root, one, half) = (self.scalar(0.797_884_6), self.scalar(1.0), self.scalar(0.5));
                let cube = self.node("Pow", &[x, &three], Vec::new());
                let cube = self.node("Mul", &[&cube, &cubic], Vec::new());
                let inner = self.node("Add", &[x, &cube], Vec::new());
                let inner = self.node("Mul", &[&inner, &root], Vec::new());
                let tanh = self.node("Tanh", &[&inner], Vec::new());
                let shifted = self.node("Add", &[&tanh, &one], Vec::new());
                let halved = self.node("Mul", &[x, &half], Vec::new());
                self.node("Mul", &[&halved, &shifted], Vec::new())
            }
        }
    }

    /// Attention over `[batch, sequence, count · width]` queries, keys and values.
    pub(crate) fn attention(&mut self, [q, k, v]: [&Value; 3], heads: Heads, mask: Mask<'_>) -> Value {
        let q = self.split_heads(q, heads, &[0, 2, 1, 3]);
        let k = self.split_heads(k, heads, &[0, 2, 3, 1]);
        let v = self.split_heads(v, heads, &[0, 2, 1, 3]);
        let scores = self.node("MatMul", &[&q, &k], Vec::new());
        let scale = self.scalar(1.0 / (heads.width as f32).sqrt());
        let scores = self.node("Mul", &[&scores, &scale], Vec::new());
        let scores = match mask {
            Mask::Everything => scores,
            Mask::Additive(mask) => self.node("Add", &[&scores, mask], Vec::new()),
            Mask::Allowed(mask) => {
                let never = self.scalar(-10_000.0);
                self.node("Where", &[mask, &scores, &never], Vec::new())
            }
        };
        let shares = self.node("Softmax", &[&scores], vec![int("axis", -1)]);
        let mixed = self.node("MatMul", &[&shares, &v], Vec::new());
        let joined = self.node("Transpose", &[&mixed], vec![ints("perm", &[0, 2, 1, 3])]);
        let shape = self.ints(&[0, 0, heads.count * heads.width]);
        self.node("Reshape", &[&joined, &shape], Vec::new())
    }

    fn split_heads(&mut self, x: &Value, heads: Heads, perm: &[i64]) -> Value {
        let shape = self.ints(&[0, 0, heads.count, heads.width]);
        let split = self.node("Reshape", &[x, &shape], Vec::new());
        self.node("Transpose", &[&split], vec![ints("perm", perm)])
    }

    /// A convolution with bias; `dims` of the weight are output channels, input channels, kernel.
    pub(crate) fn conv_bias(&mut self, name: &str, x: &Value, dims: &[i64], stride: i64, pad: i64) -> Value {
        self.scoped(name, |g| {
            let kernel = &dims[2..];
            let weight = g.weight("weight", dims, scaled(dims[1..].iter().product(), 1.0));
            let bias = g.bias(dims[0]);
            let attributes = vec![
                ints("kernel_shape", kernel),
                ints("strides", &vec![stride; kernel.len()]),
                ints("pads", &vec![pad; 2 * kernel.len()]),
            ];
            g.node("Conv", &[x, &weight, &bias], attributes)
        })
    }

    /// A convolution without bias, batch normalisation and an activation.
    ///
    /// The normalisation stays a node of its own, as in a training checkpoint: runtimes fold it into the convolution.
    pub(crate) fn conv_norm(&mut self, name: &str, x: &Value, conv: Convolution, activation: Activation) -> Value {
        let Convolution { from, to, kernel, stride, groups } = conv;
        let normalised = self.scoped(name, |g| {
            let dims = [to, from / groups, kernel, kernel];
            // Twice the variance where half of it is cut away again (He et al., 2015).
            let gain = if activation == Activation::Linear { 1.0 } else { std::f32::consts::SQRT_2 };
            let weight = g.weight("conv.weight", &dims, scaled(dims[1..].iter().product(), gain));
            let attributes = vec![
                ints("kernel_shape", &[kernel, kernel]),
                ints("strides", &[stride, stride]),
                ints("pads", &[(kernel - 1) / 2; 4]),
                int("group", groups),
            ];
            let out = g.node("Conv", &[x, &weight], attributes);
            g.batch_norm(&out, to)
        });
        self.activation(&normalised, activation)
    }

    fn batch_norm(&mut self, x: &Value, channels: i64) -> Value {
        let near_one = Content::Random { mean: 1.0, deviation: SMALL };
        let near_zero = Content::Random { mean: 0.0, deviation: SMALL };
        let inputs = [
            ("bn.weight", near_one.clone()),
            ("bn.bias", near_zero.clone()),
            ("bn.running_mean", near_zero),
            ("bn.running_var", near_one),
        ]
        .map(|(name, content)| self.weight(name, &[channels], content));
        let [gain, bias, mean, variance] = &inputs;
        self.node("BatchNormalization", &[x, gain, bias, mean, variance], vec![float("epsilon", 1e-5)])
    }
}
