//! Predicted against measured, and how the errors are spread.

use plotters::{
    chart::ChartBuilder,
    coord::combinators::{BindKeyPoints, IntoLogRange},
    element::{Circle, PathElement, Polygon, Rectangle},
    style::Color as _,
};

use super::{
    Canvas, Plot,
    axes::{Axes, BELOW, BESIDE, around, ticks},
    theme::{self, INK, LEFT, MARGIN, SERIES, SMALL, SOFT},
};

const SIZE: (u32, u32) = (1080, 520);
const TITLE_HEIGHT: i32 = 54;
const SCATTER_WIDTH: u32 = 560;
/// More points than this hide each other and make a file large; then an even share of them is drawn.
const POINTS_MAX: usize = 4_000;
/// Errors beyond this are counted in the outermost bars, in percent.
const ERROR_MAX_PCT: f64 = 50.0;
const BIN_WIDTH_PCT: f64 = 2.5;
/// The errors that a reader calls good, in percent.
const NEAR_PCT: f64 = 20.0;

/// One prediction held against what was measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AccuracyPoint {
    pub(crate) measured: f64,
    pub(crate) predicted: f64,
    pub(crate) is_inside: bool,
}

/// A scatter plot beside a histogram of errors.
#[derive(Debug, Clone)]
pub(crate) struct Accuracy {
    pub(crate) title: String,
    /// What stands below the title.
    pub(crate) subtitle: String,
    /// Name and unit of the numbers.
    pub(crate) unit: String,
    pub(crate) points: Vec<AccuracyPoint>,
}

impl AccuracyPoint {
    fn error_pct(self) -> f64 {
        100.0 * (self.predicted / self.measured - 1.0)
    }
}

/// How many errors are in each bar of the histogram, from below −50 % to above 50 %.
fn bins(points: &[AccuracyPoint]) -> Vec<u32> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few dozen bars")]
    let bars = (2.0 * ERROR_MAX_PCT / BIN_WIDTH_PCT) as usize;
    let mut bins = vec![0; bars];
    for error in points.iter().map(|point| point.error_pct()).filter(|error| error.is_finite()) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the bars")]
        let bar = ((error + ERROR_MAX_PCT) / BIN_WIDTH_PCT).clamp(0.0, bars as f64 - 1.0) as usize;
        bins[bar] += 1;
    }
    bins
}

impl Accuracy {
    fn draw_scatter(&self, canvas: &Canvas<'_>) -> anyhow::Result<()> {
        let Some((low, high)) = around(self.points.iter().flat_map(|point| [point.measured, point.predicted])) else {
            return Ok(());
        };
        let mut chart = ChartBuilder::on(canvas)
            .margin(MARGIN)
            .margin_top(MARGIN + TITLE_HEIGHT)
            .x_label_area_size(BELOW)
            .y_label_area_size(BESIDE)
            .build_cartesian_2d(
                (low..high).log_scale().with_key_points(ticks((low, high))),
                (low..high).log_scale().with_key_points(ticks((low, high))),
            )?;
        let label = |value: &f64| theme::number(*value);
        let names = [format!("measured {}", self.unit), format!("predicted {}", self.unit)];
        Axes { x: &names[0], y: &names[1], labels: (7, 7), x_label: &label, y_label: &label }.draw(&mut chart)?;
        let near = NEAR_PCT / 100.0;
        // Cut off where they would leave the square.
        let (above, below) = (1.0 + near, 1.0 - near);
        let band = vec![
            (low, low),
            (low, low * above),
            (high / above, high),
            (high, high),
            (high, high * below),
            (low / below, low),
        ];
        chart.draw_series([Polygon::new(band, SERIES[2].mix(0.12))])?;
        let share = self.points.len().div_ceil(POINTS_MAX).max(1);
        for (is_inside, colour) in [(true, SERIES[0]), (false, SERIES[1])] {
            let points = self.points.iter().step_by(share).filter(|point| point.is_inside == is_inside);
            chart.draw_series(
                points.map(|point| Circle::new((point.measured, point.predicted), 2, colour.mix(0.45).filled())),
            )?;
        }
        chart.draw_series([PathElement::new([(low, low), (high, high)], theme::line(INK, 1))])?;
        Ok(())
    }

    fn draw_histogram(&self, canvas: &Canvas<'_>) -> anyhow::Result<()> {
        let bins = bins(&self.points);
        let percent = 100.0 / f64::from(bins.iter().sum::<u32>().max(1));
        let highest = bins.iter().copied().max().map_or(1.0, |count| f64::from(count) * percent).max(1.0) * 1.08;
        let mut chart = ChartBuilder::on(canvas)
            .margin(MARGIN)
            .margin_top(MARGIN + TITLE_HEIGHT)
            .x_label_area_size(BELOW)
            .y_label_area_size(BESIDE)
            .build_cartesian_2d(-ERROR_MAX_PCT..ERROR_MAX_PCT, 0.0..highest)?;
        let label = |value: &f64| format!("{} %", theme::number(*value));
        let axes = Axes {
            x: "error of the prediction (outermost bars: 50 % and more)",
            y: "share of predictions",
            labels: (9, 6),
            x_label: &label,
            y_label: &label,
        };
        axes.draw(&mut chart)?;
        for (bar, count) in bins.iter().enumerate() {
            let from = bar as f64 * BIN_WIDTH_PCT - ERROR_MAX_PCT;
            let is_near = (-NEAR_PCT..NEAR_PCT).contains(&from);
            let colour = if is_near { SERIES[2] } else { SOFT };
            let corners = [(from, 0.0), (from + BIN_WIDTH_PCT * 0.94, f64::from(*count) * percent)];
            chart.draw_series([Rectangle::new(corners, colour.mix(0.7).filled())])?;
        }
        chart.draw_series([PathElement::new([(0.0, 0.0), (0.0, highest)], theme::line(INK, 1))])?;
        Ok(())
    }
}

/// Says what the colours mean.
fn draw_legend(canvas: &Canvas<'_>) -> anyhow::Result<()> {
    let mut x = MARGIN + 70;
    let entries = [
        (SERIES[0], "inside its 90 % interval".to_owned()),
        (SERIES[1], "outside".to_owned()),
        (SERIES[2], format!("within ±{NEAR_PCT} %")),
    ];
    for (colour, text) in entries {
        canvas.draw(&Circle::new((x, MARGIN + 50), 4, colour.mix(0.8).filled()))?;
        canvas.draw_text(&text, &theme::text(SMALL, SOFT, LEFT), (x + 9, MARGIN + 50))?;
        x += theme::width(&text, SMALL) + 30;
    }
    Ok(())
}

impl Plot for Accuracy {
    fn size(&self) -> (u32, u32) {
        SIZE
    }

    fn draw(&self, canvas: &Canvas<'_>) -> anyhow::Result<()> {
        let (left, right) = canvas.split_horizontally(SCATTER_WIDTH);
        self.draw_scatter(&left)?;
        self.draw_histogram(&right)?;
        canvas.draw_text(&self.title, &theme::title(), (MARGIN, MARGIN + 8))?;
        canvas.draw_text(&self.subtitle, &theme::text(SMALL, SOFT, LEFT), (MARGIN, MARGIN + 30))?;
        draw_legend(canvas)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_beyond_the_ends_are_in_the_outermost_bars() {
        let point = |predicted| AccuracyPoint { measured: 100.0, predicted, is_inside: true };
        let bins = bins(&[point(1.0), point(101.0), point(102.0), point(900.0)]);
        assert_eq!((bins.len(), bins[0], bins[20], bins[39]), (40, 1, 2, 1));
        assert_eq!(bins.iter().sum::<u32>(), 4);
    }
}
