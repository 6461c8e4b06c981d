//! Peak fp32 arithmetic: independent chains of fused multiply-adds, kept in registers.

use std::{hint::black_box, num::NonZero};

use super::rounds;
use crate::HardwareError;

/// Steps of each chain per call: a call takes microseconds, so that rounds end on time.
const STEPS: u32 = 4_096;

/// Independent chains: two FMA units with a latency of four or five cycles need at least ten; 16 vector registers
/// (AVX2) hold twelve accumulators and the two factors.
const CHAINS: usize = 12;

/// Measures all threads together, in GFLOP/s; a fused multiply-add counts two.
pub(super) fn fp32_gflops(threads: NonZero<usize>) -> Result<f64, HardwareError> {
    Ok(rounds::best_per_second(threads, work)? / 1e9)
}

/// A small part of the work; a call does it and says how many operations it was.
pub(super) fn work() -> impl Fn() -> f64 {
    let kernel = kernel();
    move || {
        let lanes = kernel(black_box(0.999_9), black_box(0.000_1));
        f64::from(STEPS) * (CHAINS * lanes) as f64 * 2.0
    }
}

/// Runs the chains and says how many lanes each has.
type Kernel = fn(f32, f32) -> usize;

/// The widest kernel that this processor runs.
fn kernel() -> Kernel {
    #[cfg(target_arch = "x86_64")]
    {
        if std::is_x86_feature_detected!("avx512f") {
            return |factor, term| {
                #[expect(unsafe_code, reason = "calls a function compiled for more than the baseline processor")]
                // SAFETY: this closure is returned only where AVX-512F was detected.
                unsafe {
                    x86::chains_avx512(factor, term)
                }
            };
        }
        if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
            return |factor, term| {
                #[expect(unsafe_code, reason = "calls a function compiled for more than the baseline processor")]
                // SAFETY: this closure is returned only where AVX2 and FMA were detected.
                unsafe {
                    x86::chains_avx2(factor, term)
                }
            };
        }
        // Without an FMA unit `mul_add` would be a library call: multiply, then add.
        |factor, term| chains::<4>(factor, term, |x, factor, term| x * factor + term)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        |factor, term| chains::<4>(factor, term, f32::mul_add)
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    #[target_feature(enable = "avx512f")]
    pub(super) fn chains_avx512(factor: f32, term: f32) -> usize {
        super::chains::<16>(factor, term, f32::mul_add)
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn chains_avx2(factor: f32, term: f32) -> usize {
        super::chains::<8>(factor, term, f32::mul_add)
    }
}

/// `x = x * factor + term` in [`CHAINS`] vectors of `LANES`; inlined so that it is compiled for its caller's target.
///
/// With a factor just below one the values settle at `term / (1 - factor)`: no infinities, no subnormal numbers.
#[inline(always)]
#[expect(clippy::inline_always, reason = "the caller's target features must apply to it")]
#[expect(clippy::many_single_char_names, reason = "twelve equal chains have no names of their own")]
fn chains<const LANES: usize>(factor: f32, term: f32, fused: impl Fn(f32, f32, f32) -> f32 + Copy) -> usize {
    let step = |vector: [f32; LANES]| vector.map(|x| fused(x, factor, term));
    let mut vectors = [[0.0_f32; LANES]; CHAINS];
    for (chain, vector) in vectors.iter_mut().enumerate() {
        *vector = [chain as f32; LANES];
    }
    // One variable per chain: as an array (`vectors.map(step)`) they live in memory and the loop is many times slower.
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h, mut i, mut j, mut k, mut l] = vectors;
    for _ in 0..STEPS {
        (a, b, c, d) = (step(a), step(b), step(c), step(d));
        (e, f, g, h) = (step(e), step(f), step(g), step(h));
        (i, j, k, l) = (step(i), step(j), step(k), step(l));
    }
    black_box([a, b, c, d, e, f, g, h, i, j, k, l]);
    LANES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chosen_kernel_runs_here() {
        assert!([4, 8, 16].contains(&kernel()(0.5, 0.5)));
    }
}
