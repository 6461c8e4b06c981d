//! Horizontal bars with intervals: one number of several things.

use plotters::{
    element::{Circle, PathElement, Rectangle},
    style::Color as _,
};

use super::{
    Canvas, Plot,
    axes::ticks,
    theme::{self, CENTRE, GRID, INK, LEFT, MARGIN, RIGHT, SERIES, SMALL, SOFT, TEXT},
};

const ROW_HEIGHT: i32 = 34;
const BAR_HEIGHT: i32 = 18;
const TITLE_HEIGHT: i32 = 38;
const AXIS_HEIGHT: i32 = 52;
/// Width of the longest interval.
const BAR_WIDTH: i32 = 440;
/// Room for values behind the bars.
const VALUE_WIDTH: i32 = 150;
const WHISKER_HEIGHT: i32 = 8;
/// Where an axis is logarithmic, a bar's length says nothing, so a dot at the end of a thin stem marks the value.
const STEM_HEIGHT: i32 = 4;
const DOT_RADIUS: i32 = 4;
/// Values further apart than this, a decade and a half, are drawn on a logarithmic axis: on a linear one the small
/// would have no length.
const LINEAR_RATIO_MAX: f64 = 31.6;
/// Most steps of a linear axis.
const STEPS_MAX: i32 = 6;
/// Room on a logarithmic axis below the lowest number, as a factor.
const LOGARITHMIC_ROOM: f64 = 1.3;

/// One bar.
#[derive(Debug, Clone)]
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) value: f64,
    /// Ends of the interval.
    pub(crate) interval: Option<(f64, f64)>,
    /// What stands behind the numbers, e.g. a confidence.
    pub(crate) note: String,
}

/// Bars from the top down.
#[derive(Debug, Clone)]
pub(crate) struct Bars {
    pub(crate) title: String,
    /// Name and unit of the numbers.
    pub(crate) axis: String,
    pub(crate) rows: Vec<Bar>,
}

/// From numbers to places on the axis.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Scale {
    /// From 0 to this.
    Linear { highest: f64 },
    /// Between these, both above 0.
    Logarithmic { lowest: f64, highest: f64 },
}

impl Scale {
    fn of(rows: &[Bar]) -> Self {
        let ends = |bar: &Bar| bar.interval.map_or([bar.value; 2], |(lower, upper)| [lower, upper]);
        let lowest_of = |values: &mut dyn Iterator<Item = f64>| values.fold(f64::INFINITY, f64::min);
        let highest_of = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max);
        let values = || rows.iter().map(|bar| bar.value);
        let drawn = || rows.iter().flat_map(|bar| ends(bar).into_iter().chain([bar.value]));
        let (lowest, highest) = (lowest_of(&mut drawn()), highest_of(&mut drawn()).max(f64::MIN_POSITIVE));
        let is_wide = highest_of(&mut values()) / lowest_of(&mut values()) > LINEAR_RATIO_MAX;
        if is_wide && lowest > 0.0 {
            Self::Logarithmic { lowest: lowest / LOGARITHMIC_ROOM, highest }
        } else {
            Self::Linear { highest }
        }
    }

    /// Place of a number, from 0 at the axis's start to 1 at its end.
    fn share(self, value: f64) -> f64 {
        match self {
            Self::Linear { highest } => value / highest,
            Self::Logarithmic { lowest, highest } => (value / lowest).ln() / (highest / lowest).ln(),
        }
    }

    fn ticks(self) -> Vec<f64> {
        match self {
            Self::Linear { highest } => {
                let step = step(highest);
                (0..=STEPS_MAX).map(|index| f64::from(index) * step).filter(|tick| *tick <= highest * 1.0001).collect()
            }
            Self::Logarithmic { lowest, highest } => ticks((lowest, highest)),
        }
    }
}

impl Bars {
    fn label_width(&self) -> i32 {
        self.rows.iter().map(|bar| theme::width(&bar.name, TEXT)).max().unwrap_or_default() + 14
    }

    fn note_width(&self) -> i32 {
        self.rows.iter().map(|bar| theme::width(&bar.note, SMALL)).max().unwrap_or_default()
    }

    /// Left end and middle of a row.
    fn place(&self, row: usize) -> (i32, i32) {
        (MARGIN + self.label_width(), MARGIN + TITLE_HEIGHT + theme::count(row) * ROW_HEIGHT + ROW_HEIGHT / 2)
    }

    fn draw_axis(&self, canvas: &Canvas<'_>, scale: Scale) -> anyhow::Result<()> {
        let (left, top) = (MARGIN + self.label_width(), MARGIN + TITLE_HEIGHT);
        let bottom = top + theme::count(self.rows.len()) * ROW_HEIGHT;
        for tick in scale.ticks() {
            let x = left + along(scale.share(tick));
            canvas.draw(&PathElement::new([(x, top), (x, bottom)], theme::line(GRID, 1)))?;
            canvas.draw_text(&theme::number(tick), &theme::text(SMALL, SOFT, CENTRE), (x, bottom + 12))?;
        }
        let kind = if matches!(scale, Scale::Logarithmic { .. }) { ", logarithmic" } else { "" };
        let name = format!("{}{kind}", self.axis);
        canvas.draw_text(&name, &theme::text(TEXT, INK, CENTRE), (left + BAR_WIDTH / 2, bottom + 34))?;
        Ok(())
    }

    fn draw_bar(&self, canvas: &Canvas<'_>, scale: Scale, row: usize) -> anyhow::Result<()> {
        let bar = &self.rows[row];
        let (left, middle) = self.place(row);
        let at = |value: f64| left + along(scale.share(value));
        canvas.draw_text(&bar.name, &theme::text(TEXT, INK, RIGHT), (left - 10, middle))?;
        let is_bar = matches!(scale, Scale::Linear { .. });
        let half = if is_bar { BAR_HEIGHT / 2 } else { STEM_HEIGHT / 2 };
        let corners = [(left, middle - half), (at(bar.value), middle + half)];
        canvas.draw(&Rectangle::new(corners, SERIES[0].mix(if is_bar { 0.55 } else { 0.3 }).filled()))?;
        let mut end = at(bar.value);
        let mut text = theme::number(bar.value);
        if let Some((lower, upper)) = bar.interval {
            let ends = [at(lower), at(upper)];
            canvas.draw(&PathElement::new([(ends[0], middle), (ends[1], middle)], theme::line(INK, 2)))?;
            for x in ends {
                let whisker = [(x, middle - WHISKER_HEIGHT / 2), (x, middle + WHISKER_HEIGHT / 2)];
                canvas.draw(&PathElement::new(whisker, theme::line(INK, 2)))?;
            }
            end = end.max(ends[1]);
            text = format!("{text}  ({} – {})", theme::number(lower), theme::number(upper));
        }
        if !is_bar {
            canvas.draw(&Circle::new((at(bar.value), middle), DOT_RADIUS, SERIES[0].filled()))?;
            end = end.max(at(bar.value) + DOT_RADIUS);
        }
        canvas.draw_text(&text, &theme::text(SMALL, INK, LEFT), (end + 10, middle))?;
        let behind = end + 22 + theme::width(&text, SMALL);
        canvas.draw_text(&bar.note, &theme::text(SMALL, SOFT, LEFT), (behind, middle))?;
        Ok(())
    }
}

/// A share of the axis in pixels.
fn along(share: f64) -> i32 {
    #[expect(clippy::cast_possible_truncation, reason = "between 0 and the width of the bars")]
    let pixels = (share * f64::from(BAR_WIDTH)).round() as i32;
    pixels
}

/// Width of a linear axis's steps: 1, 2 or 5 times a power of ten, so that there are at most [`STEPS_MAX`].
fn step(highest: f64) -> f64 {
    let steps_max = f64::from(STEPS_MAX);
    let power = 10_f64.powf((highest / steps_max).log10().floor());
    let mut steps = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power);
    steps.find(|step| highest / step <= steps_max).unwrap_or(highest)
}

impl Plot for Bars {
    fn size(&self) -> (u32, u32) {
        let width = MARGIN + self.label_width() + BAR_WIDTH + VALUE_WIDTH + self.note_width() + MARGIN;
        let height = MARGIN + TITLE_HEIGHT + theme::count(self.rows.len()) * ROW_HEIGHT + AXIS_HEIGHT;
        (theme::pixels(width.max(2 * MARGIN + theme::width(&self.title, theme::TITLE + 1))), theme::pixels(height))
    }

    fn draw(&self, canvas: &Canvas<'_>) -> anyhow::Result<()> {
        let scale = Scale::of(&self.rows);
        canvas.draw_text(&self.title, &theme::title(), (MARGIN, MARGIN + 8))?;
        self.draw_axis(canvas, scale)?;
        (0..self.rows.len()).try_for_each(|row| self.draw_bar(canvas, scale, row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[f64], expected: Scale, ticks: &[f64]) {
        let bar = |value: &f64| Bar { name: String::new(), value: *value, interval: None, note: String::new() };
        let scale = Scale::of(&values.iter().map(bar).collect::<Vec<_>>());
        assert_eq!(scale, expected);
        assert_eq!(scale.ticks(), ticks);
    }

    #[test]
    fn values_far_apart_have_a_logarithmic_axis() {
        check(&[2.0, 60.0], Scale::Linear { highest: 60.0 }, &[0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0]);
        let wide = Scale::Logarithmic { lowest: 2.6 / LOGARITHMIC_ROOM, highest: 2_000.0 };
        check(&[2_000.0, 2.6], wide, &[10.0, 100.0, 1_000.0]);
        let wider = Scale::Logarithmic { lowest: 1.3 / LOGARITHMIC_ROOM, highest: 13_000.0 };
        check(&[1.3, 13_000.0], wider, &[1.0, 10.0, 100.0, 1_000.0, 10_000.0]);
        assert!((wider.share(13_000.0) - 1.0).abs() < 1e-12 && wider.share(1.0).abs() < 1e-12);
    }
}
