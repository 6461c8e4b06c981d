//! When new measurements are worth a release.

use std::time::Duration;

use predictors::ROWS_NEEDED;

/// Fewer new measurements than are worth a release wait this many times longer for more; they are not left out for ever.
const FEW_ROWS_QUIETS: u32 = 5;

/// When to train next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TrainingDue {
    /// At once: enough has come.
    pub(super) is_now: bool,
    /// Once no measurement has come for this long; `None` if there is nothing to train on.
    pub(super) quiet: Option<Duration>,
}

impl TrainingDue {
    pub(super) fn of(rows: usize, rows_trained: usize, rows_new_min: usize, quiet: Duration) -> Self {
        // A table below the minimum is nothing to train on yet.
        let rows_new = if rows < ROWS_NEEDED { 0 } else { rows - rows_trained.min(rows) };
        if rows_new == 0 {
            return Self { is_now: false, quiet: None };
        }
        let quiets = if rows_new >= rows_new_min { 1 } else { FEW_ROWS_QUIETS };
        Self { is_now: rows_new >= rows_new_min.max(rows_trained / 2), quiet: Some(quiet * quiets) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Duration = Duration::from_secs(10);

    fn check(rows: usize, rows_trained: usize, is_now: bool, quiet: Option<Duration>) {
        let due = TrainingDue::of(rows, rows_trained, 20, QUIET);
        assert_eq!(due, TrainingDue { is_now, quiet }, "{rows} rows, {rows_trained} trained on");
    }

    #[test]
    fn nothing_new_is_no_reason_to_train() {
        check(0, 0, false, None);
        check(ROWS_NEEDED - 1, 0, false, None);
        check(500, 500, false, None);
        // Another release was promoted, which had seen more.
        check(500, 600, false, None);
    }

    #[test]
    fn enough_new_measurements_are_trained_after_one_quiet_or_at_once() {
        check(520, 500, false, Some(QUIET));
        check(749, 500, false, Some(QUIET));
        check(750, 500, true, Some(QUIET));
    }

    /// The last few measurements of a run were never trained on when only enough of them were worth a release.
    #[test]
    fn a_few_new_measurements_are_trained_after_a_longer_quiet() {
        check(501, 500, false, Some(QUIET * FEW_ROWS_QUIETS));
        check(519, 500, false, Some(QUIET * FEW_ROWS_QUIETS));
    }
}
