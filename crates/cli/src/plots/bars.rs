//! Horizontal bars with intervals: one number of several things.

use plotters::{
    element::{PathElement, Rectangle},
    style::Color as _,
};

use super::{
    Canvas, Plot,
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

impl Bars {
    fn label_width(&self) -> i32 {
        self.rows.iter().map(|bar| theme::width(&bar.name, TEXT)).max().unwrap_or_default() + 14
    }

    fn highest(&self) -> f64 {
        self.rows
            .iter()
            .map(|bar| bar.interval.map_or(bar.value, |(_, upper)| upper.max(bar.value)))
            .fold(0.0, f64::max)
    }

    fn note_width(&self) -> i32 {
        self.rows.iter().map(|bar| theme::width(&bar.note, SMALL)).max().unwrap_or_default()
    }
}

/// Steps of an axis from 0: 1, 2 or 5 times a power of ten, at most six of them.
fn step(highest: f64) -> f64 {
    let power = 10_f64.powf((highest / 6.0).log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| highest / step <= 6.0).unwrap_or(highest)
}

impl Plot for Bars {
    fn size(&self) -> (u32, u32) {
        let width = MARGIN + self.label_width() + BAR_WIDTH + VALUE_WIDTH + self.note_width() + MARGIN;
        let height = MARGIN + TITLE_HEIGHT + theme::count(self.rows.len()) * ROW_HEIGHT + AXIS_HEIGHT;
        (theme::pixels(width.max(2 * MARGIN + theme::width(&self.title, theme::TITLE + 1))), theme::pixels(height))
    }

    fn draw(&self, canvas: &Canvas<'_>) -> anyhow::Result<()> {
        let highest = self.highest().max(f64::MIN_POSITIVE);
        let (left, top) = (MARGIN + self.label_width(), MARGIN + TITLE_HEIGHT);
        let bottom = top + theme::count(self.rows.len()) * ROW_HEIGHT;
        #[expect(clippy::cast_possible_truncation, reason = "between 0 and the width of the bars")]
        let at = |value: f64| left + (value / highest * f64::from(BAR_WIDTH)).round() as i32;
        canvas.draw_text(&self.title, &theme::title(), (MARGIN, MARGIN + 8))?;
        let step = step(highest);
        for tick in (0..).map(|index| f64::from(index) * step).take_while(|tick| *tick <= highest * 1.0001) {
            canvas.draw(&PathElement::new([(at(tick), top), (at(tick), bottom)], theme::line(GRID, 1)))?;
            canvas.draw_text(&theme::number(tick), &theme::text(SMALL, SOFT, CENTRE), (at(tick), bottom + 12))?;
        }
        canvas.draw_text(&self.axis, &theme::text(TEXT, INK, CENTRE), (left + BAR_WIDTH / 2, bottom + 34))?;
        for (index, bar) in self.rows.iter().enumerate() {
            let middle = top + theme::count(index) * ROW_HEIGHT + ROW_HEIGHT / 2;
            canvas.draw_text(&bar.name, &theme::text(TEXT, INK, RIGHT), (left - 10, middle))?;
            let corners = [(left, middle - BAR_HEIGHT / 2), (at(bar.value), middle + BAR_HEIGHT / 2)];
            canvas.draw(&Rectangle::new(corners, SERIES[0].mix(0.55).filled()))?;
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
            canvas.draw_text(&text, &theme::text(SMALL, INK, LEFT), (end + 10, middle))?;
            let behind = end + 22 + theme::width(&text, SMALL);
            canvas.draw_text(&bar.note, &theme::text(SMALL, SOFT, LEFT), (behind, middle))?;
        }
        Ok(())
    }
}
