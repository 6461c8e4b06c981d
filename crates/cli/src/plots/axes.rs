//! Axes in our looks: thin grid, no ticks between the labels, names with units.

use plotters::{
    backend::SVGBackend,
    chart::ChartContext,
    coord::{
        cartesian::Cartesian2d,
        ranged1d::{Ranged, ValueFormatter},
    },
    style::Color as _,
};

use super::theme::{self, CENTRE, GRID, INK, PAPER, SMALL, SOFT, TEXT};

/// Room for an axis's labels and name: below and on the left.
pub(super) const BELOW: u32 = 46;
pub(super) const BESIDE: u32 = 66;

/// What a chart's axes are named and how their labels are written.
pub(super) struct Axes<'a> {
    pub(super) x: &'a str,
    pub(super) y: &'a str,
    /// Labels wanted on each axis, roughly.
    pub(super) labels: (usize, usize),
    pub(super) x_label: &'a dyn Fn(&f64) -> String,
    pub(super) y_label: &'a dyn Fn(&f64) -> String,
}

impl Axes<'_> {
    /// Draws grid, labels and names.
    pub(super) fn draw<X, Y>(
        &self,
        chart: &mut ChartContext<'_, SVGBackend<'_>, Cartesian2d<X, Y>>,
    ) -> anyhow::Result<()>
    where
        X: Ranged<ValueType = f64> + ValueFormatter<f64>,
        Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        chart
            .configure_mesh()
            .x_desc(self.x)
            .y_desc(self.y)
            .x_labels(self.labels.0)
            .y_labels(self.labels.1)
            .x_label_formatter(self.x_label)
            .y_label_formatter(self.y_label)
            .axis_style(theme::line(SOFT, 1))
            .bold_line_style(theme::line(GRID, 1))
            .light_line_style(PAPER.mix(0.0))
            .label_style(theme::text(SMALL, SOFT, CENTRE))
            .axis_desc_style(theme::text(TEXT, INK, CENTRE))
            .draw()?;
        Ok(())
    }
}

/// A range around positive values for a logarithmic axis, with some room at both ends; `None` without such values.
pub(super) fn around(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let (lowest, highest) = values
        .filter(|value| value.is_finite() && *value > 0.0)
        .fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    (highest > 0.0).then(|| {
        let room = (highest / lowest).powf(0.04).max(1.1);
        (lowest / room, highest * room)
    })
}

/// Most labels on a logarithmic axis.
const TICKS_MAX: usize = 9;

/// Round numbers in a range, for a logarithmic axis: 1, 2 and 5 times powers of ten, or only some powers of ten.
pub(super) fn ticks((low, high): (f64, f64)) -> Vec<f64> {
    #[expect(clippy::cast_possible_truncation, reason = "logarithms are small")]
    let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let within = |tick: &f64| (low..=high).contains(tick);
    let of = |factors: &[f64]| -> Vec<f64> {
        let tick = |decade: i32| factors.iter().map(move |factor| factor * 10_f64.powi(decade));
        decades.clone().flat_map(tick).filter(within).collect()
    };
    let fine = of(&[1.0, 2.0, 5.0]);
    if fine.len() <= TICKS_MAX {
        return fine;
    }
    let coarse = of(&[1.0]);
    let share = coarse.len().div_ceil(TICKS_MAX).max(1);
    coarse.into_iter().step_by(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(ticks((36.0, 2_100.0)), [50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0]);
        assert_eq!(ticks((1.5, 15_000.0)), [10.0, 100.0, 1_000.0, 10_000.0]);
        assert!(ticks((1e-30, 1e30)).len() <= TICKS_MAX);
    }
}
