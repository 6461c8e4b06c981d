//! A heatmap: numbers by row and column.

use plotters::element::Rectangle;
use plotters::style::Color as _;

use super::{
    Canvas, Plot,
    theme::{self, CENTRE, EMPTY, INK, LEFT, MARGIN, PAPER, RIGHT, SMALL, SOFT},
};

const CELL: (i32, i32) = (112, 24);
/// White between cells.
const GAP: i32 = 2;
const TITLE_HEIGHT: i32 = 34;
const LINE_HEIGHT: i32 = 16;
/// Letters in a line above a column.
const COLUMN_LETTERS: usize = 17;
const LEGEND_HEIGHT: i32 = 48;
const LEGEND_WIDTH: i32 = 220;
const LEGEND_STEPS: i32 = 55;
/// Values further apart than this are coloured by their logarithm.
const LINEAR_RATIO_MAX: f64 = 20.0;

/// Numbers by row and column; larger ones are darker.
#[derive(Debug, Clone)]
pub(crate) struct Heatmap {
    pub(crate) title: String,
    /// What the numbers are, with their unit.
    pub(crate) unit: String,
    /// What a missing number means.
    pub(crate) empty: String,
    pub(crate) columns: Vec<String>,
    /// Names of rows, with a number per column.
    pub(crate) rows: Vec<(String, Vec<Option<f64>>)>,
}

/// From numbers to shares of the colour ramp.
struct Shade {
    lowest: f64,
    highest: f64,
    is_logarithmic: bool,
}

impl Shade {
    fn new(values: impl Iterator<Item = f64>) -> Self {
        let (lowest, highest) =
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        Self { lowest, highest, is_logarithmic: lowest > 0.0 && highest / lowest > LINEAR_RATIO_MAX }
    }

    fn share(&self, value: f64) -> f64 {
        let place = |value: f64| if self.is_logarithmic { value.ln() } else { value };
        let width = place(self.highest) - place(self.lowest);
        if width > 0.0 { (place(value) - place(self.lowest)) / width } else { 0.5 }
    }
}

impl Heatmap {
    fn label_width(&self) -> i32 {
        self.rows.iter().map(|(name, _)| theme::width(name, SMALL)).max().unwrap_or_default().max(60) + 10
    }

    fn header_height(&self) -> i32 {
        let lines =
            self.columns.iter().map(|name| theme::wrapped(name, COLUMN_LETTERS).len()).max().unwrap_or_default();
        theme::count(lines) * LINE_HEIGHT + 8
    }

    /// Left upper corner of the cells.
    fn origin(&self) -> (i32, i32) {
        (MARGIN + self.label_width(), MARGIN + TITLE_HEIGHT + self.header_height())
    }

    fn draw_columns(&self, canvas: &Canvas<'_>) -> anyhow::Result<()> {
        let (left, top) = self.origin();
        for (index, name) in self.columns.iter().enumerate() {
            let lines = theme::wrapped(name, COLUMN_LETTERS);
            for (line, text) in lines.iter().enumerate() {
                let above = theme::count(lines.len() - line) * LINE_HEIGHT;
                let middle = left + theme::count(index) * CELL.0 + CELL.0 / 2;
                canvas.draw_text(
                    text,
                    &theme::text(SMALL, INK, CENTRE),
                    (middle, top - above + LINE_HEIGHT / 2 - 4),
                )?;
            }
        }
        Ok(())
    }

    fn draw_cells(&self, canvas: &Canvas<'_>, scale: &Shade) -> anyhow::Result<()> {
        let (left, top) = self.origin();
        for (index, (name, values)) in self.rows.iter().enumerate() {
            let y = top + theme::count(index) * CELL.1;
            canvas.draw_text(name, &theme::text(SMALL, INK, RIGHT), (left - 8, y + CELL.1 / 2))?;
            for (column, value) in values.iter().enumerate() {
                let x = left + theme::count(column) * CELL.0;
                let share = value.map(|value| scale.share(value));
                let colour = share.map_or(EMPTY, theme::ramp);
                let corners = [(x, y), (x + CELL.0 - GAP, y + CELL.1 - GAP)];
                canvas.draw(&Rectangle::new(corners, colour.filled()))?;
                let ink = if share.is_some_and(|share| share > 0.5) {
                    PAPER
                } else if share.is_some() {
                    INK
                } else {
                    SOFT
                };
                let text = value.map_or_else(|| "–".to_owned(), theme::number);
                let middle = (x + (CELL.0 - GAP) / 2, y + (CELL.1 - GAP) / 2);
                canvas.draw_text(&text, &theme::text(SMALL, ink, CENTRE), middle)?;
            }
        }
        Ok(())
    }

    fn draw_legend(&self, canvas: &Canvas<'_>, scale: &Shade) -> anyhow::Result<()> {
        let (_, top) = self.origin();
        let y = top + theme::count(self.rows.len()) * CELL.1 + 22;
        let mut x = MARGIN;
        if scale.highest >= scale.lowest {
            let small = theme::text(SMALL, SOFT, LEFT);
            let lowest = theme::number(scale.lowest);
            canvas.draw_text(&lowest, &small, (x, y))?;
            x += theme::width(&lowest, SMALL) + 8;
            for step in 0..LEGEND_STEPS {
                let [from, to] = [step, step + 1].map(|step| x + step * LEGEND_WIDTH / LEGEND_STEPS);
                let colour = theme::ramp(f64::from(step) / f64::from(LEGEND_STEPS - 1));
                canvas.draw(&Rectangle::new([(from, y - 6), (to, y + 6)], colour.filled()))?;
            }
            x += LEGEND_WIDTH + 8;
            let highest = theme::number(scale.highest);
            canvas.draw_text(&highest, &small, (x, y))?;
            x += theme::width(&highest, SMALL) + 12;
        }
        let kind = if scale.is_logarithmic { ", logarithmic" } else { "" };
        let rest = format!("{}{kind}; – {}", self.unit, self.empty);
        canvas.draw_text(&rest, &theme::text(SMALL, SOFT, LEFT), (x, y))?;
        Ok(())
    }
}

impl Plot for Heatmap {
    fn size(&self) -> (u32, u32) {
        let (left, top) = self.origin();
        let legend = LEGEND_WIDTH + 100 + theme::width(&self.unit, SMALL) + theme::width(&self.empty, SMALL) + 110;
        let width = (left + theme::count(self.columns.len()) * CELL.0)
            .max(legend)
            .max(MARGIN + theme::width(&self.title, theme::TITLE) + MARGIN);
        let height = top + theme::count(self.rows.len()) * CELL.1 + LEGEND_HEIGHT;
        (theme::pixels(width + MARGIN), theme::pixels(height))
    }

    fn draw(&self, canvas: &Canvas<'_>) -> anyhow::Result<()> {
        let shade = Shade::new(self.rows.iter().flat_map(|(_, values)| values.iter().copied().flatten()));
        canvas.draw_text(&self.title, &theme::title(), (MARGIN, MARGIN + 8))?;
        self.draw_columns(canvas)?;
        self.draw_cells(canvas, &shade)?;
        self.draw_legend(canvas, &shade)
    }
}
