//! Logarithmic axes: from values to positions in a drawing, with ticks that a reader can read.

/// A logarithmic axis.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    /// Logarithm (base 10) of the lowest value.
    from: f64,
    /// Logarithm of the highest.
    to: f64,
    /// Position of the lowest value.
    start: f64,
    /// Position of the highest.
    end: f64,
}

/// Share of an axis left free at either end.
const MARGIN: f64 = 0.06;
/// Narrowest axis, in decades: noise between equal values shall not look like a difference.
const DECADES_MIN: f64 = 0.3;
/// Decades that numbers have room for.
const DECADES_MAX: usize = 650;
/// Most ticks on an axis.
const TICKS_MAX: usize = 7;

impl Scale {
    /// An axis from `start` to `end` that shows all positive `values`; `None` if there are none.
    pub(super) fn around(values: impl IntoIterator<Item = f64>, (start, end): (f64, f64)) -> Option<Self> {
        let logarithms = values.into_iter().filter(|value| value.is_finite() && *value > 0.0).map(f64::log10);
        let (low, high) =
            logarithms.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), at| (low.min(at), high.max(at)));
        if low > high {
            return None;
        }
        let missing = (DECADES_MIN - (high - low)).max(0.0) / 2.0;
        let margin = MARGIN * (high - low + 2.0 * missing);
        Some(Self { from: low - missing - margin, to: high + missing + margin, start, end })
    }

    /// The same values along another stretch.
    pub(super) fn along(self, (start, end): (f64, f64)) -> Self {
        Self { start, end, ..self }
    }

    /// Where a value is; what is beyond the axis is at its end.
    pub(super) fn at(&self, value: f64) -> f64 {
        let share = (value.log10() - self.from) / (self.to - self.from);
        self.start + share.clamp(0.0, 1.0) * (self.end - self.start)
    }

    /// Round values on the axis: powers of ten, with 2 and 5 between them where there is room.
    pub(super) fn ticks(&self) -> Vec<f64> {
        let between = |factors: &[f64], step: usize| -> Vec<f64> {
            #[expect(clippy::cast_possible_truncation, reason = "logarithms of finite numbers are within ±324")]
            let decades = (self.from.floor() as i32..=self.to.ceil() as i32).step_by(step);
            let all = decades.flat_map(|decade| factors.iter().map(move |factor| factor * 10_f64.powi(decade)));
            all.filter(|value| (self.from..=self.to).contains(&value.log10())).collect()
        };
        let fine = between(&[1.0, 2.0, 5.0], 1);
        if fine.len() <= TICKS_MAX {
            return fine;
        }
        (1..=DECADES_MAX).map(|step| between(&[1.0], step)).find(|ticks| ticks.len() <= TICKS_MAX).unwrap_or_default()
    }
}

/// A tick's label: short, without trailing zeros.
pub(super) fn label(value: f64) -> String {
    for (size, suffix) in [(1e9, "G"), (1e6, "M"), (1e3, "k")] {
        if value >= size {
            return format!("{}{suffix}", trimmed(value / size));
        }
    }
    trimmed(value)
}

fn trimmed(value: f64) -> String {
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_rise_with_the_logarithm() {
        let scale = Scale::around([1.0, 100.0], (0.0, 112.0)).expect("a scale");
        let positions: Vec<f64> = [1.0, 10.0, 100.0].map(|value| scale.at(value).round()).to_vec();
        assert_eq!(positions, [6.0, 56.0, 106.0]);
        assert!((scale.along((10.0, 0.0)).at(10.0) - 5.0).abs() < 1e-9);
        assert!((scale.at(1e9) - 112.0).abs() < 1e-9);
    }

    #[test]
    fn ticks_are_round_and_few() {
        let ticks = |low: f64, high: f64| Scale::around([low, high], (0.0, 1.0)).expect("a scale").ticks();
        assert_eq!(ticks(1.0, 60.0), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0]);
        assert_eq!(
            ticks(0.1, 9000.0).iter().map(|tick| label(*tick)).collect::<Vec<_>>(),
            ["0.1", "1", "10", "100", "1k", "10k"]
        );
        assert!(ticks(1e-12, 1e12).len() <= TICKS_MAX);
        assert!(!ticks(45.0, 45.0).is_empty());
    }

    #[test]
    fn without_a_positive_value_there_is_no_axis() {
        assert!(Scale::around([0.0, -1.0, f64::NAN], (0.0, 1.0)).is_none());
    }
}
