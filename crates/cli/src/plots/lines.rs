//! Lines with bands: a prediction and its interval over the batch size.

use plotters::{
    chart::ChartBuilder,
    coord::combinators::{BindKeyPoints, IntoLogRange},
    element::{Circle, Polygon},
    series::LineSeries,
    style::Color as _,
};

use super::{
    Canvas, Plot,
    axes::{Axes, BELOW, BESIDE, around, ticks},
    theme::{self, INK, LEFT, MARGIN, SERIES, SMALL},
};

const SIZE: (u32, u32) = (760, 440);
const TITLE_HEIGHT: i32 = 30;
const LEGEND_LINE: i32 = 20;
/// Most labels of x.
const PLACES_MAX: usize = 10;

/// One line: `(x, value, lower, upper)`, ordered by x, all above 0.
#[derive(Debug, Clone)]
pub(crate) struct Band {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64, f64, f64)>,
}

/// Lines over one x, both axes logarithmic.
#[derive(Debug, Clone)]
pub(crate) struct Lines {
    pub(crate) title: String,
    pub(crate) x: String,
    /// Name and unit of the numbers.
    pub(crate) y: String,
    pub(crate) series: Vec<Band>,
}

impl Lines {
    fn legend_height(&self) -> i32 {
        if self.series.len() > 1 { theme::count(self.series.len()) * LEGEND_LINE } else { 0 }
    }

    /// Where the labels of x are: at its values, or at powers of two where these are many.
    fn places(&self) -> Vec<f64> {
        let mut places: Vec<f64> =
            self.series.iter().flat_map(|line| line.points.iter().map(|point| point.0)).collect();
        places.sort_by(f64::total_cmp);
        places.dedup();
        if places.len() > PLACES_MAX {
            places.retain(|place| place.log2().fract() == 0.0);
        }
        places
    }

    fn draw_legend(&self, canvas: &Canvas<'_>) -> anyhow::Result<()> {
        for (index, line) in self.series.iter().enumerate().filter(|_| self.series.len() > 1) {
            let y = MARGIN + TITLE_HEIGHT + theme::count(index) * LEGEND_LINE + 6;
            canvas.draw(&Circle::new((MARGIN + 6, y), 5, SERIES[index % SERIES.len()].filled()))?;
            canvas.draw_text(&line.name, &theme::text(SMALL, INK, LEFT), (MARGIN + 20, y))?;
        }
        Ok(())
    }
}

impl Plot for Lines {
    fn size(&self) -> (u32, u32) {
        (SIZE.0, SIZE.1 + theme::pixels(self.legend_height()))
    }

    fn draw(&self, canvas: &Canvas<'_>) -> anyhow::Result<()> {
        canvas.draw_text(&self.title, &theme::title(), (MARGIN, MARGIN + 8))?;
        self.draw_legend(canvas)?;
        let points = || self.series.iter().flat_map(|line| &line.points);
        let x = around(points().map(|point| point.0));
        let y = around(points().flat_map(|point| [point.2, point.3, point.1]));
        let (Some(x), Some(y)) = (x, y) else { return Ok(()) };
        let mut chart = ChartBuilder::on(canvas)
            .margin(MARGIN)
            .margin_top(MARGIN + TITLE_HEIGHT + self.legend_height())
            .x_label_area_size(BELOW)
            .y_label_area_size(BESIDE)
            .build_cartesian_2d(
                (x.0..x.1).log_scale().with_key_points(self.places()),
                (y.0..y.1).log_scale().with_key_points(ticks(y)),
            )?;
        let label = |value: &f64| theme::number(*value);
        Axes { x: &self.x, y: &self.y, labels: (10, 8), x_label: &label, y_label: &label }.draw(&mut chart)?;
        for (index, line) in self.series.iter().enumerate() {
            let colour = SERIES[index % SERIES.len()];
            let upper = line.points.iter().map(|point| (point.0, point.3));
            let lower = line.points.iter().rev().map(|point| (point.0, point.2));
            let band: Vec<(f64, f64)> = upper.chain(lower).collect();
            chart.draw_series([Polygon::new(band, colour.mix(0.18))])?;
            let middle = || line.points.iter().map(|point| (point.0, point.1));
            chart.draw_series(LineSeries::new(middle(), theme::line(colour, 2)))?;
            chart.draw_series(middle().map(|point| Circle::new(point, 3, colour.filled())))?;
        }
        Ok(())
    }
}
