//! Colours, texts and numbers, the same in every plot.

use plotters::{
    prelude::{Color, IntoFont, RGBColor, TextStyle},
    style::{
        FontStyle, ShapeStyle,
        text_anchor::{HPos, Pos, VPos},
    },
};

pub(super) const PAPER: RGBColor = RGBColor(255, 255, 255);
pub(super) const INK: RGBColor = RGBColor(22, 32, 44);
pub(super) const SOFT: RGBColor = RGBColor(91, 104, 120);
pub(super) const GRID: RGBColor = RGBColor(226, 231, 237);
pub(super) const EMPTY: RGBColor = RGBColor(244, 245, 247);

/// Colours of series, by Okabe and Ito, without their yellow, which is lost on white.
pub(super) const SERIES: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];

/// From few to many: one hue, so that it is read in grey too.
const RAMP: [RGBColor; 5] = [
    RGBColor(222, 235, 247),
    RGBColor(158, 202, 225),
    RGBColor(84, 153, 204),
    RGBColor(33, 102, 172),
    RGBColor(8, 48, 107),
];

/// Distance of everything from the edges.
pub(super) const MARGIN: i32 = 20;
/// Size of a plot's title.
pub(super) const TITLE: u32 = 17;
/// Size of what is beside the title, and of names of axes.
pub(super) const TEXT: u32 = 13;
/// Size of what stands at ticks and in cells.
pub(super) const SMALL: u32 = 12;

/// Where a text's anchor is.
pub(super) const LEFT: Pos = Pos { h_pos: HPos::Left, v_pos: VPos::Center };
pub(super) const CENTRE: Pos = Pos { h_pos: HPos::Center, v_pos: VPos::Center };
pub(super) const RIGHT: Pos = Pos { h_pos: HPos::Right, v_pos: VPos::Center };

/// What plotters must be told to draw letters of this size: it takes the height of a line and writes less.
fn font_size(size: u32) -> f64 {
    f64::from(size) * 1.24
}

/// A text of this size and colour, anchored so.
pub(super) fn text(size: u32, colour: RGBColor, anchor: Pos) -> TextStyle<'static> {
    TextStyle { font: ("sans-serif", font_size(size)).into_font(), color: colour.to_backend_color(), pos: anchor }
}

/// A title's style.
pub(super) fn title() -> TextStyle<'static> {
    let font = ("sans-serif", font_size(TITLE)).into_font().style(FontStyle::Bold);
    TextStyle { font, color: INK.to_backend_color(), pos: LEFT }
}

/// A line of this width.
pub(super) fn line(colour: RGBColor, width: u32) -> ShapeStyle {
    colour.stroke_width(width)
}

/// Colour of a share of the ramp, from 0 to 1.
pub(super) fn ramp(share: f64) -> RGBColor {
    let place = share.clamp(0.0, 1.0) * (RAMP.len() - 1) as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the ramp's length")]
    let below = (place as usize).min(RAMP.len() - 2);
    let part = place - below as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between two colours of 8 bits")]
    let mix = |a: u8, b: u8| (f64::from(a) + part * (f64::from(b) - f64::from(a))).round() as u8;
    let (from, to) = (RAMP[below], RAMP[below + 1]);
    RGBColor(mix(from.0, to.0), mix(from.1, to.1), mix(from.2, to.2))
}

/// Width of a text in pixels, roughly: there is no font at hand when an SVG is written.
pub(super) fn width(text: &str, size: u32) -> i32 {
    #[expect(clippy::cast_possible_truncation, reason = "texts are short")]
    let width = (text.chars().count() as f64 * f64::from(size) * 0.56).ceil() as i32;
    width
}

/// A length in pixels as plotters takes sizes.
pub(super) fn pixels(length: i32) -> u32 {
    u32::try_from(length).unwrap_or_default()
}

/// A count as a length's factor.
pub(super) fn count(items: usize) -> i32 {
    i32::try_from(items).unwrap_or(i32::MAX)
}

/// A number with at least three significant digits, thousands apart, no zeros at the end.
pub(super) fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    #[expect(clippy::cast_possible_truncation, reason = "a logarithm is small")]
    let magnitude = value.abs().log10().floor() as i32;
    if !(-4..15).contains(&magnitude) {
        return format!("{value:.2e}");
    }
    let decimals = usize::try_from(2 - magnitude).unwrap_or_default();
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    let (whole, rest) = text.split_once('.').map_or((text, None), |(whole, rest)| (whole, Some(rest)));
    let digits = whole.trim_start_matches('-');
    let mut grouped = if whole.starts_with('-') { "−".to_owned() } else { String::new() };
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 && digits.len() > 4 {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    rest.map_or(grouped.clone(), |rest| format!("{grouped}.{rest}"))
}

/// Breaks a text into lines of at most so many letters where it has blanks.
pub(super) fn wrapped(text: &str, letters_max: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= letters_max => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
