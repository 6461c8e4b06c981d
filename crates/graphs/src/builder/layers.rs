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
    /// CLIP's approximation, `x · sigmoid(1.702 x)`.
    QuickGelu,
    /// `x · sigmoid(x)`, also called swish.
    Silu,
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
    /// A learned scalar parameter.
    pub(crate) fn parameter(&mut self, name: &str, value: f32) -> Value {
        self.weight(name, &[], Content::Random { mean: value, deviation: 0.0 })
    }

    /// A table of embeddings.
    pub(crate) fn table(&mut self, name: &str, dims: &[i64]) -> Value {
        self.weight(name, dims, Content::Random { mean: 0.0, deviation: SMALL })
    }

    /// A gain of about 1 per channel.
    pub(crate) fn near_one(&mut self, name: &str, width: i64) -> Value {
        self.weight(name, &[width], Content::Random { mean: 1.0, deviation: SMALL })
    }

    /// The length of dimension `axis`, as an integer without dimensions.
    pub(crate) fn length_of(&mut self, x: &Value, axis: i64) -> Value {
        let shape = self.node("Shape", &[x], Vec::new());
        let index = self.int(axis);
        self.node("Gather", &[&shape, &index], Vec::new())
    }

    /// The second dimension of `tokens`, as a tensor of one integer.
    pub(crate) fn length(&mut self, tokens: &Value) -> Value {
        let shape = self.node("Shape", &[tokens], Vec::new());
        let index = self.ints(&[1]);
        self.node("Gather", &[&shape, &index], Vec::new())
    }

    /// As many rows from the start of `table` as `tokens` has tokens.
    #[cfg(test)]
    pub(crate) fn first_rows(&mut self, table: &Value, tokens: &Value) -> Value {
        self.rows_from(table, 0, tokens)
    }

    /// As many rows of `table` from row `first` on as `tokens` has tokens.
    pub(crate) fn rows_from(&mut self, table: &Value, first: i64, tokens: &Value) -> Value {
        let (start, axis) = (self.ints(&[first]), self.ints(&[0]));
        let mut end = self.length(tokens);
        if first > 0 {
            end = self.node("Add", &[&end, &start], Vec::new());
        }
        self.node("Slice", &[table, &start, &end, &axis], Vec::new())
    }

    /// Embeddings of `tokens` plus those of their positions, counted from row `first` of the latter's table.
    pub(crate) fn token_embeddings(
        &mut self,
        tokens: &Value,
        vocabulary: i64,
        positions: i64,
        first: i64,
        width: i64,
    ) -> Value {
        let words = self.table("word_embeddings", &[vocabulary, width]);
        let embedded = self.node("Gather", &[&words, tokens], Vec::new());
        self.add_positions(&embedded, tokens, positions, first, width)
    }

    /// `x` plus the embeddings of its positions, counted from row `first` of a table of `positions`.
    pub(crate) fn add_positions(&mut self, x: &Value, tokens: &Value, positions: i64, first: i64, width: i64) -> Value {
        let table = self.table("position_embeddings", &[positions, width]);
        let positions = self.rows_from(&table, first, tokens);
        self.node("Add", &[x, &positions], Vec::new())
    }

    /// `[batch, length, from]` times a table's transposition, as language models reuse their embeddings.
    pub(crate) fn tied_head(&mut self, x: &Value, words: &Value) -> Value {
        let head = self.node("Transpose", &[words], vec![ints("perm", &[1, 0])]);
        self.node("MatMul", &[x, &head], Vec::new())
    }

    /// `x` divided by its length over the last dimension.
    pub(crate) fn unit(&mut self, x: &Value) -> Value {
        let length = self.node("ReduceL2", &[x], vec![ints("axes", &[-1])]);
        self.node("Div", &[x, &length], Vec::new())
    }

    /// `[1, …rest]` repeated to one per item of the batch that `batched` has.
    pub(crate) fn per_item(&mut self, x: &Value, batched: &Value, rest: &[i64]) -> Value {
        let shape = self.node("Shape", &[batched], Vec::new());
        let zero = self.ints(&[0]);
        let batch = self.node("Gather", &[&shape, &zero], Vec::new());
        let rest = self.ints(rest);
        let wanted = self.node("Concat", &[&batch, &rest], vec![int("axis", 0)]);
        self.node("Expand", &[x, &wanted], Vec::new())
    }

    /// `[batch, side · side, width]` with each square of `edge` × `edge` items joined to one.
    pub(crate) fn join_squares(&mut self, x: &Value, side: i64, edge: i64, width: i64) -> Value {
        let squares = side / edge;
        let apart = self.ints(&[0, squares, edge, squares, edge, width]);
        let apart = self.node("Reshape", &[x, &apart], Vec::new());
        let turned = self.node("Transpose", &[&apart], vec![ints("perm", &[0, 1, 3, 2, 4, 5])]);
        let joined = self.ints(&[0, squares * squares, edge * edge * width]);
        self.node("Reshape", &[&turned, &joined], Vec::new())
    }

    /// Item `index` along dimension 1, which goes away.
    pub(crate) fn item(&mut self, x: &Value, index: i64) -> Value {
        let index = self.int(index);
        self.node("Gather", &[x, &index], vec![int("axis", 1)])
    }

    pub(crate) fn bias(&mut self, width: i64) -> Value {
        self.table("bias", &[width])
    }

    /// `x · W (+ b)` over the last dimension.
    pub(crate) fn linear(&mut self, name: &str, x: &Value, from: i64, to: i64, with_bias: bool) -> Value {
        self.linear_with_gain(name, x, [from, to], 1.0, with_bias)
    }

    /// The same with weights that change the size of activations by `gain`.
    pub(crate) fn linear_with_gain(
        &mut self,
        name: &str,
        x: &Value,
        [from, to]: [i64; 2],
        gain: f32,
        with_bias: bool,
    ) -> Value {
        self.scoped(name, |g| {
            let weight = g.weight("weight", &[from, to], scaled(from, gain));
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
            let gain = g.near_one("weight", width);
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
            Activation::QuickGelu => {
                let scale = self.scalar(1.702);
                let scaled = self.node("Mul", &[x, &scale], Vec::new());
                let share = self.node("Sigmoid", &[&scaled], Vec::new());
                self.node("Mul", &[x, &share], Vec::new())
            }
            Activation::Silu => {
                let share = self.node("Sigmoid", &[x], Vec::new());
                self.node("Mul", &[x, &share], Vec::new())
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

    /// A convolution with bias; `dims` of the weight are output channels, input channels, kernel.
    pub(crate) fn conv_bias(&mut self, name: &str, x: &Value, dims: &[i64], stride: i64, pad: i64) -> Value {
        self.conv_grouped(name, x, dims, stride, pad, 1)
    }

    /// The same in groups; `dims` name the input channels of one group.
    pub(crate) fn conv_grouped(
        &mut self,
        name: &str,
        x: &Value,
        dims: &[i64],
        stride: i64,
        pad: i64,
        groups: i64,
    ) -> Value {
        self.scoped(name, |g| {
            let kernel = &dims[2..];
            let weight = g.weight("weight", dims, scaled(dims[1..].iter().product(), 1.0));
            let bias = g.bias(dims[0]);
            let attributes = vec![
                ints("kernel_shape", kernel),
                ints("strides", &vec![stride; kernel.len()]),
                ints("pads", &vec![pad; 2 * kernel.len()]),
                int("group", groups),
            ];
            g.node("Conv", &[x, &weight, &bias], attributes)
        })
    }

    /// A convolution without bias and padding.
    pub(crate) fn conv_bare(&mut self, name: &str, x: &Value, dims: &[i64], stride: i64) -> Value {
        self.scoped(name, |g| {
            let kernel = &dims[2..];
            let weight = g.weight("weight", dims, scaled(dims[1..].iter().product(), 1.0));
            let strides = vec![stride; kernel.len()];
            g.node("Conv", &[x, &weight], vec![ints("kernel_shape", kernel), ints("strides", &strides)])
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

    pub(crate) fn batch_norm(&mut self, x: &Value, channels: i64) -> Value {
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
