//! Weights as dimensions and seeds, and how they become bytes.

use std::io::{self, Write};

use half::f16;

use crate::{builder::precision::BLOCK, model::ElementType, proto::TensorProto};

/// Weights written at once, in elements.
const CHUNK_ELEMENTS: usize = 16 * 1024;

/// Largest distance of a random value from its mean, in deviations: the largest sum of four uniform numbers.
pub(crate) const BELL_MAX: f32 = 3.464_2;

/// What a weight holds.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// Floats around `mean`, bell-shaped, never further from it than [`BELL_MAX`] deviations.
    Random {
        /// Mean.
        mean: f32,
        /// Standard deviation.
        deviation: f32,
    },
    /// Given 64-bit integers.
    Ints(Vec<i64>),
    /// Given booleans.
    Flags(Vec<bool>),
    /// Booleans, true where the last dimension's index is at most that of the one before it.
    LowerTriangle,
    /// A random weight in another form.
    Rounded {
        /// The weight in single precision: name and dimensions too are its own.
        of: Box<Weight>,
        /// What becomes of its values.
        form: Form,
    },
}

/// Forms that weights take in other precisions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Form {
    /// Half precision.
    Half,
    /// Signed 8-bit multiples of `step`.
    Bytes {
        /// The value of one step.
        step: f32,
        /// Whether a matrix changes rows and columns.
        transposed: bool,
    },
    /// 4-bit multiples of each block's step, plus 8, two to a byte with the lower half first: each output's inputs in
    /// blocks, as `MatMulNBits` wants them.
    Nibbles {
        /// Whether the matrix is stored as `[outputs, inputs]`; otherwise as `[inputs, outputs]`.
        by_output: bool,
    },
    /// The steps of [`Nibbles`](Self::Nibbles).
    NibbleSteps {
        /// As there.
        by_output: bool,
    },
}

impl Form {
    fn element(self) -> ElementType {
        match self {
            Self::Half => ElementType::Float16,
            Self::Bytes { .. } => ElementType::Int8,
            Self::Nibbles { .. } => ElementType::Uint8,
            Self::NibbleSteps { .. } => ElementType::Float32,
        }
    }

    /// Bytes that `elements` values of a weight with dimensions `dims` become.
    fn content_bytes(self, elements: u64, dims: &[i64]) -> u64 {
        match self {
            Self::Half => 2 * elements,
            Self::Bytes { .. } => elements,
            Self::Nibbles { by_output } => Matrix::blocks_of(dims, by_output) * BLOCK as u64 / 2,
            Self::NibbleSteps { by_output } => Matrix::blocks_of(dims, by_output) * 4,
        }
    }

    /// The bytes that `values` of a weight with dimensions `dims` become.
    #[expect(clippy::cast_possible_truncation, reason = "clamped before")]
    fn bytes(self, values: &[f32], dims: &[i64]) -> Vec<u8> {
        let round = |value: &f32, step: f32| ((value / step).round().clamp(-127.0, 127.0) as i8).to_le_bytes();
        match self {
            Self::Half => values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect(),
            Self::Bytes { step, transposed: false } => values.iter().flat_map(|value| round(value, step)).collect(),
            Self::Bytes { step, transposed: true } => {
                let matrix = Matrix::new(values, dims, true);
                let rows = (0..matrix.inputs).flat_map(|input| (0..matrix.outputs).map(move |output| (input, output)));
                rows.flat_map(|(input, output)| round(&matrix.at(input, output), step)).collect()
            }
            Self::Nibbles { by_output } => {
                Matrix::new(values, dims, by_output).blocks().flat_map(|block| nibbles(&block)).collect()
            }
            Self::NibbleSteps { by_output } => Matrix::new(values, dims, by_output)
                .blocks()
                .flat_map(|block| nibble_step(&block).to_le_bytes())
                .collect(),
        }
    }
}

/// A block of one output's weights.
type Block = [f32; BLOCK];

/// The step of a block whose largest value becomes 7 steps.
fn nibble_step(block: &Block) -> f32 {
    block.iter().fold(0.0_f32, |largest, value| largest.max(value.abs())) / 7.0
}

/// A block as two weights per byte.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
fn nibbles(block: &Block) -> Vec<u8> {
    // A block of zeros may have any step.
    let step = nibble_step(block).max(f32::MIN_POSITIVE);
    let nibble = |value: f32| ((value / step).round() + 8.0).clamp(0.0, 15.0) as u8;
    block.as_chunks::<2>().0.iter().map(|[low, high]| nibble(*low) | (nibble(*high) << 4)).collect()
}

/// A weight that multiplies activations, whichever way round it is stored.
struct Matrix<'a> {
    values: &'a [f32],
    inputs: usize,
    outputs: usize,
    by_output: bool,
}

impl<'a> Matrix<'a> {
    fn new(values: &'a [f32], dims: &[i64], by_output: bool) -> Self {
        let (inputs, outputs) = matrix_dims(dims, by_output);
        let length = |dim: u64| usize::try_from(dim).unwrap_or(usize::MAX);
        Self { values, inputs: length(inputs), outputs: length(outputs), by_output }
    }

    /// How many blocks such a matrix has.
    fn blocks_of(dims: &[i64], by_output: bool) -> u64 {
        let (inputs, outputs) = matrix_dims(dims, by_output);
        outputs * inputs.div_ceil(BLOCK as u64)
    }

    fn at(&self, input: usize, output: usize) -> f32 {
        self.values[if self.by_output { output * self.inputs + input } else { input * self.outputs + output }]
    }

    /// The blocks of each output in turn; zeros fill the last one.
    fn blocks(&self) -> impl Iterator<Item = Block> {
        let starts = move |output| (0..self.inputs).step_by(BLOCK).map(move |start| (output, start));
        (0..self.outputs).flat_map(starts).map(|(output, start)| {
            std::array::from_fn(|index| {
                let input = start + index;
                if input < self.inputs { self.at(input, output) } else { 0.0 }
            })
        })
    }
}

/// Inputs and outputs of a weight that is a matrix.
pub(crate) fn matrix_dims(dims: &[i64], by_output: bool) -> (u64, u64) {
    let (rows, columns) = (dims.first().copied().unwrap_or(0), dims.get(1).copied().unwrap_or(0));
    let (inputs, outputs) = if by_output { (columns, rows) } else { (rows, columns) };
    (inputs.unsigned_abs(), outputs.unsigned_abs())
}

/// An initializer to be.
#[derive(Debug, Clone)]
pub(crate) struct Weight {
    pub(crate) name: String,
    pub(crate) dims: Vec<i64>,
    pub(crate) content: Content,
}

impl Weight {
    fn element(&self) -> ElementType {
        match &self.content {
            Content::Random { .. } => ElementType::Float32,
            Content::Ints(_) => ElementType::Int64,
            Content::Flags(_) | Content::LowerTriangle => ElementType::Bool,
            Content::Rounded { form, .. } => form.element(),
        }
    }

    fn elements(&self) -> u64 {
        self.dims.iter().map(|dim| dim.unsigned_abs()).product()
    }

    /// Length of the content, in bytes.
    pub(crate) fn content_bytes(&self) -> u64 {
        match &self.content {
            Content::Random { .. } => self.elements() * 4,
            Content::Ints(_) => self.elements() * 8,
            Content::Flags(_) | Content::LowerTriangle => self.elements(),
            Content::Rounded { of, form } => form.content_bytes(of.elements(), &of.dims),
        }
    }

    /// Everything but the content.
    pub(crate) fn header(&self) -> TensorProto {
        TensorProto {
            dims: self.dims.clone(),
            data_type: self.element().code(),
            name: self.name.clone(),
            ..TensorProto::default()
        }
    }

    /// The tensor with its content if that is integers.
    pub(crate) fn structure(&self) -> TensorProto {
        let raw_data = match &self.content {
            Content::Ints(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            _ => Vec::new(),
        };
        TensorProto { raw_data, ..self.header() }
    }

    /// Writes the content, little-endian, seeded by the names of model and weight.
    pub(crate) fn write_content(&self, model: &str, out: &mut impl Write) -> io::Result<()> {
        match &self.content {
            Content::Random { mean, deviation } => {
                let mut values = random(model, &self.name, *mean, *deviation);
                let mut left = usize::try_from(self.elements()).map_err(io::Error::other)?;
                let mut bytes = Vec::with_capacity(CHUNK_ELEMENTS * 4);
                while left > 0 {
                    let chunk = left.min(CHUNK_ELEMENTS);
                    bytes.clear();
                    bytes.extend(values.by_ref().take(chunk).flat_map(f32::to_le_bytes));
                    out.write_all(&bytes)?;
                    left -= chunk;
                }
                Ok(())
            }
            Content::Flags(flags) => flags.iter().try_for_each(|flag| out.write_all(&[u8::from(*flag)])),
            Content::Rounded { of, form } => {
                let Content::Random { mean, deviation } = of.content else {
                    return Err(io::Error::other(format!("weight `{}` is not random and cannot be rounded", of.name)));
                };
                let elements = usize::try_from(of.elements()).map_err(io::Error::other)?;
                let values: Vec<f32> = random(model, &of.name, mean, deviation).take(elements).collect();
                out.write_all(&form.bytes(&values, &of.dims))
            }
            Content::Ints(values) => values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes())),
            Content::LowerTriangle => {
                let width = self.dims.last().map_or(1, |width| width.unsigned_abs());
                let rows = self.elements().checked_div(width).unwrap_or(0);
                (0..rows).try_for_each(|row| {
                    let bytes: Vec<u8> = (0..width).map(|column| u8::from(column <= row % width)).collect();
                    out.write_all(&bytes)
                })
            }
        }
    }
}

/// The values of a random weight, without end.
fn random(model: &str, tensor: &str, mean: f32, deviation: f32) -> impl Iterator<Item = f32> {
    let mut generator = Generator::seeded(model, tensor);
    std::iter::repeat_with(move || mean + deviation * generator.bell())
}

/// `SplitMix64` (<https://prng.di.unimi.it/splitmix64.c>): written out here because the bytes of the zoo, and so the
/// content hashes in every stored result, must not change with a dependency's version.
struct Generator(u64);

impl Generator {
    /// Seeds with FNV-1a over both names.
    fn seeded(model: &str, tensor: &str) -> Self {
        let bytes = model.bytes().chain([0]).chain(tensor.bytes());
        Self(bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The sum of four uniform numbers: mean 0, standard deviation 1, no transcendental function involved.
    #[expect(clippy::cast_possible_truncation, reason = "four 16-bit parts of one 64-bit number are wanted")]
    fn bell(&mut self) -> f32 {
        /// Standard deviation of the sum of four uniform 16-bit integers: 65536 · sqrt(4 / 12).
        const DEVIATION: f32 = 37_837.227;
        let bits = self.next();
        let sum = [0, 16, 32, 48].iter().map(|shift| i32::from((bits >> shift) as u16)).sum::<i32>();
        (sum - 131_070) as f32 / DEVIATION
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_content_is_bell_shaped_and_depends_on_both_names() {
        let mut generator = Generator::seeded("model", "weight");
        let values: Vec<f32> = (0..100_000).map(|_| generator.bell()).collect();
        let mean = values.iter().sum::<f32>() / 1e5;
        let variance = values.iter().map(|value| value * value).sum::<f32>() / 1e5;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "mean {mean}, variance {variance}");
        let first = |model, tensor| Generator::seeded(model, tensor).next();
        assert_ne!(first("model", "weight"), first("model", "weight2"));
        assert_ne!(first("model", "weight"), first("model2", "weight"));
    }

    #[test]
    fn lower_triangle_lets_each_row_see_itself_and_what_is_before() {
        let weight = Weight { name: "mask".to_owned(), dims: vec![1, 3, 3], content: Content::LowerTriangle };
        let mut bytes = Vec::new();
        weight.write_content("m", &mut bytes).expect("a Vec takes all");
        assert_eq!(bytes, [1, 0, 0, 1, 1, 0, 1, 1, 1]);
        assert_eq!(bytes.len() as u64, weight.content_bytes());
    }

    /// `form` of a matrix that holds the given rows.
    fn bytes(form: Form, rows: &[&[f32]]) -> Vec<u8> {
        let dims = [rows.len(), rows[0].len()].map(|length| i64::try_from(length).expect("small"));
        let bytes = form.bytes(&rows.concat(), &dims);
        let elements = rows.concat().len() as u64;
        assert_eq!(bytes.len() as u64, form.content_bytes(elements, &dims), "{form:?}");
        bytes
    }

    #[test]
    fn bytes_are_multiples_of_the_step_and_change_rows_for_columns() {
        let rows: [&[f32]; 2] = [&[0.5, -1.0, 0.24], &[0.26, 100.0, 0.0]];
        let form = |transposed| Form::Bytes { step: 0.5, transposed };
        let signed = |bytes: Vec<u8>| bytes.into_iter().map(u8::cast_signed).collect::<Vec<_>>();
        assert_eq!(signed(bytes(form(false), &rows)), [1, -2, 0, 1, 127, 0]);
        assert_eq!(signed(bytes(form(true), &rows)), [1, 1, -2, 127, 0, 0]);
    }

    #[test]
    fn nibbles_come_in_blocks_of_each_output_with_a_step_of_their_own() {
        // One output of 34 inputs, hence two blocks, the second mostly filled with zeros.
        let mut inputs = [0.0; 34];
        (inputs[0], inputs[1], inputs[2], inputs[33]) = (7.0, -3.0, 0.4, -14.0);
        let stored: Vec<&[f32]> = inputs.chunks(1).collect();
        for (by_output, rows) in [(false, stored), (true, vec![&inputs[..]])] {
            let packed = bytes(Form::Nibbles { by_output }, &rows);
            assert_eq!(packed.len(), 2 * 16);
            // 7 steps up and 3 down from 8; the lower half comes first.
            assert_eq!(packed[..3], [0x5F, 0x88, 0x88]);
            assert_eq!(packed[16..18], [0x18, 0x88]);
            let steps = bytes(Form::NibbleSteps { by_output }, &rows);
            assert_eq!(steps, [1.0_f32.to_le_bytes(), 2.0_f32.to_le_bytes()].concat());
        }
        let two_outputs: Vec<&[f32]> = vec![&[7.0; 32], &[3.5; 32]];
        assert_eq!(bytes(Form::Nibbles { by_output: true }, &two_outputs), [0xFF; 32]);
    }

    #[test]
    fn half_precision_rounds_to_the_nearest() {
        assert_eq!(bytes(Form::Half, &[&[1.0, -2.0, 65_504.0]]), [0x00, 0x3C, 0x00, 0xC0, 0xFF, 0x7B]);
    }
}
