//! Memory bandwidth, as the STREAM triad measures it (<https://www.cs.virginia.edu/stream/ref.html>).

use std::{hint::black_box, num::NonZero};

use super::rounds;
use crate::HardwareError;

/// STREAM asks for arrays of at least four times the last-level cache.
const CACHE_MULTIPLE: u64 = 4;

/// Smallest array over all threads, in bytes, where the cache's size is unknown or small.
const ARRAY_BYTES_MIN: u64 = 32 << 20;

/// Most memory that the three arrays take together, in bytes.
const MEMORY_BYTES_MAX: u64 = 512 << 20;

/// The three arrays take at most one part in this many of the free memory.
const FREE_MEMORY_SHARE: u64 = 8;

/// Elements that one call works on: a call takes microseconds, so that rounds end on time.
const CHUNK: usize = 32_768;

/// Measures all threads together, in GB/s; 24 bytes per element, as STREAM counts.
pub(super) fn gb_per_s(
    threads: NonZero<usize>,
    last_level_cache_bytes: u64,
    free_memory_bytes: u64,
) -> Result<f64, HardwareError> {
    let array_bytes = array_bytes(last_level_cache_bytes, free_memory_bytes);
    if array_bytes < last_level_cache_bytes {
        tracing::warn!(array_bytes, last_level_cache_bytes, "bandwidth is measured partly in the cache: little memory");
    }
    let elements = usize::try_from(array_bytes / 8).unwrap_or(usize::MAX) / threads.get();
    let elements = elements.max(CHUNK);
    let per_second = rounds::best_per_second(threads, || {
        // Each thread makes its arrays, so that they lie in the memory next to it.
        let (mut a, b, c) = (vec![0.0_f64; elements], vec![1.0_f64; elements], vec![2.0_f64; elements]);
        let mut from = 0;
        move || {
            let to = (from + CHUNK).min(elements);
            triad(&mut a[from..to], &b[from..to], &c[from..to], black_box(3.0));
            black_box(&a[from..to]);
            let moved = (to - from) as f64 * 24.0;
            from = if to == elements { 0 } else { to };
            moved
        }
    })?;
    Ok(per_second / 1e9)
}

/// Size of one array over all threads.
fn array_bytes(last_level_cache_bytes: u64, free_memory_bytes: u64) -> u64 {
    let wanted = last_level_cache_bytes.saturating_mul(CACHE_MULTIPLE).max(ARRAY_BYTES_MIN);
    wanted.min(MEMORY_BYTES_MAX / 3).min(free_memory_bytes / FREE_MEMORY_SHARE / 3)
}

fn triad(a: &mut [f64], b: &[f64], c: &[f64], scalar: f64) {
    for ((a, b), c) in a.iter_mut().zip(b).zip(c) {
        *a = b + scalar * c;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "these numbers are exact")]

    use super::*;

    #[test]
    fn arrays_exceed_the_cache_within_the_limits() {
        const MIB: u64 = 1 << 20;
        let check = |cache, free, expected| assert_eq!(array_bytes(cache, free), expected);
        check(32 * MIB, 16_384 * MIB, 128 * MIB);
        check(0, 16_384 * MIB, 32 * MIB);
        check(384 * MIB, 16_384 * MIB, 512 * MIB / 3);
        check(32 * MIB, 240 * MIB, 10 * MIB);
    }

    #[test]
    fn the_triad_is_right() {
        let mut a = [0.0; 3];
        triad(&mut a, &[1.0, 2.0, 3.0], &[10.0, 20.0, 30.0], 2.0);
        assert_eq!(a, [21.0, 42.0, 63.0]);
    }
}
