//! Input tensors with seeded values.

use ort::value::{DynValue, PrimitiveTensorElementType, Tensor};

use crate::protocol::{Element, Input};

/// Seed of every input: the same job feeds the same values on every machine.
const SEED: u64 = 0x0A06_0B13_5EED;

/// Makes the input's tensor: integers below `value_max`, all ones where that is 2 (a mask), floating-point values
/// between -1 and 1, which no activation turns into infinities.
pub(crate) fn tensor(input: &Input) -> ort::Result<DynValue> {
    let (mut random, value_max) = (SplitMix(SEED), input.value_max);
    match input.element {
        Element::Float32 => filled(&input.dims, || random.signed_unit()),
        Element::Float64 => filled(&input.dims, || f64::from(random.signed_unit())),
        Element::Int64 => filled(&input.dims, || random.integer(value_max, i64::MAX)),
        Element::Int32 => filled(&input.dims, || random.integer(value_max, i32::MAX)),
        Element::Uint8 => filled(&input.dims, || random.integer(value_max, u8::MAX)),
        Element::Bool => filled(&input.dims, || true),
    }
}

/// The same values as bytes, little end first, as a browser takes them.
pub(crate) fn bytes(input: &Input) -> Vec<u8> {
    let (mut random, value_max) = (SplitMix(SEED), input.value_max);
    let elements = input.dims.iter().product();
    match input.element {
        Element::Float32 => laid_out(elements, || random.signed_unit().to_le_bytes()),
        Element::Float64 => laid_out(elements, || f64::from(random.signed_unit()).to_le_bytes()),
        Element::Int64 => laid_out(elements, || random.integer(value_max, i64::MAX).to_le_bytes()),
        Element::Int32 => laid_out(elements, || random.integer(value_max, i32::MAX).to_le_bytes()),
        Element::Uint8 => laid_out(elements, || [random.integer(value_max, u8::MAX)]),
        Element::Bool => laid_out(elements, || [1]),
    }
}

fn laid_out<const N: usize>(elements: usize, value: impl FnMut() -> [u8; N]) -> Vec<u8> {
    std::iter::repeat_with(value).take(elements).flatten().collect()
}

fn filled<T>(dims: &[usize], value: impl FnMut() -> T) -> ort::Result<DynValue>
where
    T: PrimitiveTensorElementType + Clone + std::fmt::Debug + 'static,
{
    let elements = dims.iter().product();
    let values: Vec<T> = std::iter::repeat_with(value).take(elements).collect();
    Ok(Tensor::from_array((dims.to_vec(), values))?.into_dyn())
}

/// The `SplitMix64` generator (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From -1 to 1.
    fn signed_unit(&mut self) -> f32 {
        // 24 bits fill an f32's mantissa.
        (self.next() >> 40) as f32 / (1_u32 << 23) as f32 - 1.0
    }

    /// An integer below `bound`, or `max` where it does not fit.
    fn integer<T: TryFrom<u64>>(&mut self, bound: u64, max: T) -> T {
        T::try_from(self.below(bound)).unwrap_or(max)
    }

    /// Below `bound`; always 1 for a mask, which knows 0 and 1.
    fn below(&mut self, bound: u64) -> u64 {
        match bound {
            0 | 1 => 0,
            2 => 1,
            _ => self.next() % bound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_in_their_range_and_vary() {
        let mut random = SplitMix(SEED);
        let ids: Vec<u64> = (0..1_000).map(|_| random.below(10)).collect();
        assert!((0..=9).all(|id| ids.contains(&id)) && ids.iter().all(|id| *id <= 9));
        let floats: Vec<f32> = (0..1_000).map(|_| random.signed_unit()).collect();
        assert!(floats.iter().all(|value| (-1.0..1.0).contains(value)));
        assert!(floats.iter().any(|value| *value < -0.5) && floats.iter().any(|value| *value > 0.5));
    }

    #[test]
    fn bytes_are_the_values_little_end_first() {
        let input = |element, value_max| Input { name: "x".to_owned(), element, dims: vec![2, 3], value_max };
        let mut random = SplitMix(SEED);
        let expected: Vec<u8> = (0..6).flat_map(|_| random.signed_unit().to_le_bytes()).collect();
        assert_eq!(bytes(&input(Element::Float32, 0)), expected);
        let mut random = SplitMix(SEED);
        let expected: Vec<u8> = (0..6).flat_map(|_| random.below(50).to_le_bytes()).collect();
        assert_eq!(bytes(&input(Element::Int64, 50)), expected);
        assert_eq!(bytes(&input(Element::Bool, 2)), [1; 6]);
        assert_eq!(bytes(&input(Element::Float64, 0)).len(), 48);
    }

    #[test]
    fn masks_are_ones() {
        let mut random = SplitMix(SEED);
        assert!((0..100).all(|_| random.below(2) == 1));
    }
}
