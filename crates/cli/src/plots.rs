//! Pictures for files: heatmaps, bars with intervals, lines with bands, predictions against the truth.
//!
//! Each plot is plain numbers and texts and draws itself with plotters into SVG. All share one look: white ground, few lines, colours that colour-blind people tell
//! apart (Okabe and Ito, <https://jfly.uni-koeln.de/color/>), units on every axis.

mod accuracy;
mod axes;
mod bars;
mod heatmap;
mod lines;
mod theme;

use std::path::Path;

use anyhow::{Context as _, bail};
use plotters::{
    backend::SVGBackend,
    coord::Shift,
    drawing::{DrawingArea, IntoDrawingArea},
};

pub(crate) use accuracy::{Accuracy, AccuracyPoint};
pub(crate) use bars::{Bar, Bars};
pub(crate) use heatmap::{Cell, Heatmap, Shading};
pub(crate) use lines::{Band, Lines};

/// What a plot draws on; its units are pixels.
pub(crate) type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A picture.
pub(crate) trait Plot {
    /// Width and height.
    fn size(&self) -> (u32, u32);

    /// Draws it on a white canvas of its size.
    ///
    /// # Errors
    ///
    /// What plotters says; it has no reason to fail when drawing into memory.
    fn draw(&self, canvas: &Canvas<'_>) -> anyhow::Result<()>;

    /// The picture as SVG.
    ///
    /// # Errors
    ///
    /// As [`Self::draw`].
    fn svg(&self) -> anyhow::Result<String> {
        let mut text = String::new();
        {
            let canvas = SVGBackend::with_string(&mut text, self.size()).into_drawing_area();
            canvas.fill(&theme::PAPER)?;
            self.draw(&canvas)?;
            canvas.present()?;
        }
        Ok(text)
    }

    /// Writes the picture as SVG.
    ///
    /// # Errors
    ///
    /// If the file's name does not end in .svg, or it cannot be written.
    fn write(&self, path: &Path) -> anyhow::Result<()> {
        if !path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("svg")) {
            bail!("pictures are drawn as SVG: name a file that ends in .svg instead of `{}`", path.display());
        }
        std::fs::write(path, self.svg()?).with_context(|| format!("failed to write {}", path.display()))
    }
}

#[cfg(test)]
mod tests;
