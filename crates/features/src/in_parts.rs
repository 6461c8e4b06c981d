//! Work on many rows, divided among cores.

use std::{num::NonZero, panic, thread};

/// Rows that are worth a thread of their own: it takes some 50 µs to start one, and a row takes about 1 µs.
const ROWS_OF_A_THREAD_MIN: usize = 500;

/// Does `work` for parts of the rows, one after the other, on as many threads as are worth it; there is at least one part,
/// and answers come in the parts' order.
pub(crate) fn in_parts<'a, T: Sync, R: Send>(rows: &'a [T], work: impl Fn(&'a [T]) -> R + Sync) -> Vec<R> {
    let worth = rows.len() / ROWS_OF_A_THREAD_MIN;
    // Asking how many cores there are takes longer than a few rows do.
    let cores = || thread::available_parallelism().map_or(1, NonZero::get);
    let threads = if worth < 2 { 1 } else { cores().min(worth) };
    if threads < 2 {
        return vec![work(rows)];
    }
    let work = &work;
    thread::scope(|scope| {
        let parts: Vec<_> =
            rows.chunks(rows.len().div_ceil(threads)).map(|part| scope.spawn(move || work(part))).collect();
        parts.into_iter().map(|part| part.join().unwrap_or_else(|cause| panic::resume_unwind(cause))).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_all_rows_in_their_order() {
        for count in [0, 1, 999, 1_000, 12_345] {
            let rows: Vec<usize> = (0..count).collect();
            let parts = in_parts(&rows, <[usize]>::to_vec);
            assert!(!parts.is_empty());
            assert_eq!(parts.concat(), rows);
        }
    }
}
