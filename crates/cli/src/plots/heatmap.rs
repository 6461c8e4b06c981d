//! A heatmap: numbers by row and column.

use plotters::{
    element::{PathElement, Rectangle},
    style::Color as _,
};

use super::{
    Canvas, Plot,
    theme::{self, CENTRE, EMPTY, INK, LEFT, MARGIN, PAPER, RIGHT, SMALL, SOFT},
};

const CELL: (i32, i32) = (112, 24);
/// White between cells.
const GAP: i32 = 2;
/// Distance between the lines of a hatched cell.
const HATCH_STEP: usize = 8;
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
    /// What an empty cell means.
    pub(crate) empty: String,
    pub(crate) shading: Shading,
    pub(crate) columns: Vec<String>,
    /// Names of rows, with a cell per column.
    pub(crate) rows: Vec<(String, Vec<Cell>)>,
}

/// One place of a heatmap.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    /// A number, which its colour and a text show.
    Number(f64),
    /// There can be no number; hatched, with the reason in a word or three.
    Barred(&'static str),
    /// Nothing is known.
    Empty,
}

/// How colours follow numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shading {
    /// By their logarithm where they are far apart, else straight.
    Automatic,
    /// By their logarithm.
    Logarithmic,
}

impl Cell {
    const fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Barred(_) | Self::Empty => None,
        }
    }
}

/// From numbers to shares of the colour ramp.
struct Shade {
    lowest: f64,
    highest: f64,
    is_logarithmic: bool,
}

impl Shade {
    fn new(shading: Shading, values: impl Iterator<Item = f64>) -> Self {
        let (lowest, highest) =
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        let ratio_max = if shading == Shading::Logarithmic { 1.0 } else { LINEAR_RATIO_MAX };
        Self { lowest, highest, is_logarithmic: lowest > 0.0 && highest / lowest > ratio_max }
    }

    fn share(&self, value: f64) -> f64 {
        let place = |value: f64| if self.is_logarithmic { value.ln() } else { value };
        let width = place(self.highest) - place(self.lowest);
        if width > 0.0 { (place(value) - place(self.lowest)) / width } else { 0.5 }
    }
}

impl Heatmap {
    fn shade(&self) -> Shade {
        Shade::new(self.shading, self.rows.iter().flat_map(|(_, cells)| cells.iter().filter_map(Cell::number)))
    }

    /// What stands behind the legend's colours.
    fn legend(&self, shade: &Shade) -> String {
        let kind = if shade.is_logarithmic { ", logarithmic" } else { "" };
        let has_empty = self.rows.iter().any(|(_, cells)| cells.contains(&Cell::Empty));
        let empty = if has_empty { format!("; – {}", self.empty) } else { String::new() };
        format!("{}{kind}{empty}", self.unit)
    }

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
            for (column, cell) in values.iter().enumerate() {
                draw_cell(canvas, cell, scale, (left + theme::count(column) * CELL.0, y))?;
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
        let rest = self.legend(scale);
        canvas.draw_text(&rest, &theme::text(SMALL, SOFT, LEFT), (x, y))?;
        Ok(())
    }
}

/// Draws a cell with its left upper corner at `(x, y)`.
fn draw_cell(canvas: &Canvas<'_>, cell: &Cell, scale: &Shade, (x, y): (i32, i32)) -> anyhow::Result<()> {
    let (width, height) = (CELL.0 - GAP, CELL.1 - GAP);
    let share = cell.number().map(|number| scale.share(number));
    canvas.draw(&Rectangle::new([(x, y), (x + width, y + height)], share.map_or(EMPTY, theme::ramp).filled()))?;
    let (text, ink) = match (cell, share) {
        (Cell::Number(number), Some(share)) => (theme::number(*number), if share > 0.5 { PAPER } else { INK }),
        (Cell::Barred(why), _) => ((*why).to_owned(), SOFT),
        (Cell::Empty | Cell::Number(_), _) => ("–".to_owned(), SOFT),
    };
    if matches!(cell, Cell::Barred(_)) {
        // Lines at 45°, cut off at the cell's right edge.
        for start in (x - height..x + width).step_by(HATCH_STEP) {
            let (from, to) = (start.max(x), (start + height).min(x + width));
            let path = [(from, y + height - (from - start)), (to, y + height - (to - start))];
            canvas.draw(&PathElement::new(path, SOFT.mix(0.28).stroke_width(1)))?;
        }
    }
    canvas.draw_text(&text, &theme::text(SMALL, ink, CENTRE), (x + width / 2, y + height / 2))?;
    Ok(())
}

impl Plot for Heatmap {
    fn size(&self) -> (u32, u32) {
        let (left, top) = self.origin();
        let shade = self.shade();
        let ends = [shade.lowest, shade.highest].map(|end| theme::width(&theme::number(end), SMALL));
        let legend = MARGIN + ends[0] + ends[1] + LEGEND_WIDTH + 28 + theme::width(&self.legend(&shade), SMALL);
        let width = (left + theme::count(self.columns.len()) * CELL.0)
            .max(legend)
            .max(MARGIN + theme::width(&self.title, theme::TITLE) + MARGIN);
        let height = top + theme::count(self.rows.len()) * CELL.1 + LEGEND_HEIGHT;
        (theme::pixels(width + MARGIN), theme::pixels(height))
    }

    fn draw(&self, canvas: &Canvas<'_>) -> anyhow::Result<()> {
        let shade = self.shade();
        canvas.draw_text(&self.title, &theme::title(), (MARGIN, MARGIN + 8))?;
        self.draw_columns(canvas)?;
        self.draw_cells(canvas, &shade)?;
        self.draw_legend(canvas, &shade)
    }
}
