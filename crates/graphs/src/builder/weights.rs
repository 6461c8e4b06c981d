//! Weights as dimensions and seeds, and how they become bytes.

use std::io::{self, Write};

use crate::{model::ElementType, proto::TensorProto};

/// Weights written at once, in elements.
const CHUNK_ELEMENTS: usize = 16 * 1024;

/// What a weight holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    /// Floats around `mean`, bell-shaped, bounded at about 3.5 deviations.
    Random {
        /// Mean.
        mean: f32,
        /// Standard deviation.
        deviation: f32,
    },
    /// Given 64-bit integers.
    Ints(Vec<i64>),
    /// Booleans, true where the last dimension's index is at most that of the one before it.
    LowerTriangle,
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
        match self.content {
            Content::Random { .. } => ElementType::Float32,
            Content::Ints(_) => ElementType::Int64,
            Content::LowerTriangle => ElementType::Bool,
        }
    }

    fn elements(&self) -> u64 {
        self.dims.iter().map(|dim| dim.unsigned_abs()).product()
    }

    /// Length of the content, in bytes.
    pub(crate) fn content_bytes(&self) -> u64 {
        let element_bytes = match self.content {
            Content::Random { .. } => 4,
            Content::Ints(_) => 8,
            Content::LowerTriangle => 1,
        };
        self.elements() * element_bytes
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
    #[cfg(test)]
    pub(crate) fn structure(&self) -> TensorProto {
        let raw_data = match &self.content {
            Content::Ints(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Content::Random { .. } | Content::LowerTriangle => Vec::new(),
        };
        TensorProto { raw_data, ..self.header() }
    }

    /// Writes the content, little-endian, seeded by the names of model and weight.
    pub(crate) fn write_content(&self, model: &str, out: &mut impl Write) -> io::Result<()> {
        match &self.content {
            Content::Random { mean, deviation } => {
                let mut generator = Generator::seeded(model, &self.name);
                let mut left = usize::try_from(self.elements()).map_err(io::Error::other)?;
                let mut bytes = Vec::with_capacity(CHUNK_ELEMENTS * 4);
                while left > 0 {
                    let chunk = left.min(CHUNK_ELEMENTS);
                    bytes.clear();
                    for _ in 0..chunk {
                        bytes.extend((mean + deviation * generator.bell()).to_le_bytes());
                    }
                    out.write_all(&bytes)?;
                    left -= chunk;
                }
                Ok(())
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
}
