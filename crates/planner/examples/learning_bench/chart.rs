//! The curves as a picture: error against rows measured, one panel per kind of start.

use std::fmt::Write as _;

use planner::Strategy;

use crate::{STRATEGIES, report::Curves};

/// Width and height of a panel with its labels, in pixels.
const PANEL: (f64, f64) = (520.0, 400.0);
/// Around the plot within a panel: left, top, right, bottom.
const MARGINS: [f64; 4] = [56.0, 40.0, 20.0, 48.0];
/// Colours that colour-blind people tell apart: Okabe and Ito, <https://jfly.uni-koeln.de/color/>.
const COLOURS: [&str; 7] = ["#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7"];

/// Draws all curves, side by side, with one legend.
pub(crate) fn svg(all: &[Curves]) -> String {
    let (width, height) = (PANEL.0 * all.len() as f64, PANEL.1 + 46.0);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    for (index, curves) in all.iter().enumerate() {
        Panel::of(curves, PANEL.0 * index as f64).draw(&mut text);
    }
    for (index, strategy) in STRATEGIES.iter().enumerate() {
        let x = MARGINS[0] + 150.0 * (index % 3) as f64;
        let y = PANEL.1 - 6.0 + 18.0 * (index / 3) as f64;
        put(&mut text, &format!("<line x1=\"{x}\" y1=\"{y}\" x2=\"{}\" y2=\"{y}\" {}/>", x + 22.0, stroke(*strategy)));
        put(&mut text, &format!("<text x=\"{}\" y=\"{}\">{strategy}</text>", x + 28.0, y + 4.0));
    }
    text.push_str("</svg>\n");
    text
}

struct Panel<'a> {
    curves: &'a Curves,
    left: f64,
    /// Largest number of rows, and least and largest error.
    rows: f64,
    errors: [f64; 2],
}

impl<'a> Panel<'a> {
    fn of(curves: &'a Curves, left: f64) -> Self {
        let errors = || curves.strategies().flat_map(|strategy| curves.means(strategy)).map(|mean| mean.value);
        let (least, most) = (errors().fold(f64::INFINITY, f64::min).floor(), errors().fold(0.0, f64::max).ceil());
        let rows = curves.steps.last().copied().unwrap_or(1) as f64;
        Self { curves, left, rows, errors: [least, most.max(least + 1.0)] }
    }

    fn x(&self, rows: f64) -> f64 {
        self.left + MARGINS[0] + rows / self.rows * (PANEL.0 - MARGINS[0] - MARGINS[2])
    }

    fn y(&self, error: f64) -> f64 {
        let [least, most] = self.errors;
        MARGINS[1] + (most - error) / (most - least) * (PANEL.1 - MARGINS[1] - MARGINS[3])
    }

    fn draw(&self, text: &mut String) {
        let (left, right) = (self.x(0.0), self.x(self.rows));
        let title = format!("{}: {}, against rows measured", self.curves.title, self.curves.unit);
        put(text, &format!("<text x=\"{left}\" y=\"22\" font-size=\"12\" font-weight=\"bold\">{title}</text>"));
        let [least, most] = self.errors;
        let step = ((most - least) / 6.0).ceil();
        let mut error = least;
        while error <= most {
            let y = self.y(error);
            put(text, &format!("<line x1=\"{left}\" y1=\"{y}\" x2=\"{right}\" y2=\"{y}\" stroke=\"#dddddd\"/>"));
            put(text, &format!("<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{error}</text>", left - 6.0, y + 4.0));
            error += step;
        }
        for rows in &self.curves.steps {
            let (x, y) = (self.x(*rows as f64), self.y(least) + 18.0);
            put(text, &format!("<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{rows}</text>"));
        }
        for strategy in self.curves.strategies() {
            let means = self.curves.means(strategy);
            let points = self.curves.steps.iter().zip(&means);
            let places = points
                .map(|(rows, mean)| format!("{:.1},{:.1}", self.x(*rows as f64), self.y(mean.value)))
                .collect::<Vec<_>>()
                .join(" ");
            put(text, &format!("<polyline points=\"{}\" fill=\"none\" {}/>", places, stroke(strategy)));
        }
    }
}

fn stroke(strategy: Strategy) -> String {
    let place = STRATEGIES.iter().position(|other| *other == strategy).unwrap_or_default();
    let width = if strategy == Strategy::Hybrid { 3 } else { 2 };
    format!("stroke=\"{}\" stroke-width=\"{width}\"", COLOURS[place % COLOURS.len()])
}

fn put(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("writing to a String cannot fail");
}
