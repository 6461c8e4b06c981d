//! Charts as inline SVG: latency by batch size per model, and predictions against the truth.
//!
//! Colours come from classes in `style.css`, so that a chart follows the page's light or dark colours.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
};

use store::ResultRow;

use super::{
    accuracy::{MetricAccuracy, median},
    figures,
    html::Escaped,
    scale::{Scale, label},
    sections::distinct,
};

/// A drawing's width and height, in its own units.
const SIZE: (f64, f64) = (320.0, 220.0);
/// Edge of the square drawing of predictions.
const SQUARE: f64 = 320.0;
/// Room for labels left and below.
const GUTTER: (f64, f64) = (50.0, 34.0);
/// Room right and above.
const PADDING: f64 = 8.0;
/// Line colours in `style.css`; more series than these share them again.
const COLOURS: usize = 8;

/// One line of a latency chart: batch sizes and what was measured with each.
type Line<'a> = BTreeMap<u32, Vec<&'a ResultRow>>;

/// One panel per model, all to the same scale: the median time of a batch by batch size, a line per series.
pub(super) fn latency(out: &mut String, rows: &[&ResultRow]) -> fmt::Result {
    let rows: Vec<&ResultRow> =
        rows.iter().copied().filter(|row| row.latency_p50_ms.is_some() && row.batch_size.is_some()).collect();
    let latencies = rows.iter().flat_map(|row| [row.latency_p50_ms, row.latency_p99_ms]).flatten();
    let Some(y) = Scale::around(latencies, (SIZE.1 - GUTTER.1, PADDING)) else { return Ok(()) };
    let batches = rows.iter().filter_map(|row| row.batch_size.map(f64::from));
    let Some(x) = Scale::around(batches, (GUTTER.0, SIZE.0 - PADDING)) else { return Ok(()) };
    let names = SeriesNames::new(&rows);
    let series = names.sorted(&rows);
    legend(out, &series)?;
    out.push_str("<div class=\"panels\">");
    for model in distinct(rows.iter().filter_map(|row| row.model.as_deref())) {
        let of_model: Vec<&ResultRow> =
            rows.iter().copied().filter(|row| row.model.as_deref() == Some(model)).collect();
        write!(
            out,
            "<figure><figcaption>{0}</figcaption><svg viewBox=\"0 0 {1} {2}\" role=\"img\" \
             aria-label=\"Latency of {0} by batch size\">",
            Escaped(model),
            SIZE.0,
            SIZE.1
        )?;
        axes(out, SIZE, &batch_ticks(&rows, &x), &ticks(&y), ("batch size", "ms per batch"))?;
        for (place, name) in series.iter().enumerate() {
            let mut points = Line::new();
            for row in of_model.iter().filter(|row| names.of(row) == *name) {
                points.entry(row.batch_size.unwrap_or_default()).or_default().push(row);
            }
            line(out, (place % COLOURS, name), &points, (&x, &y))?;
        }
        out.push_str("</svg></figure>");
    }
    out.push_str("</div>");
    Ok(())
}

/// What tells the lines of a chart apart: threads always, the rest where a model was measured with more than one.
struct SeriesNames(Vec<fn(&ResultRow) -> String>);

impl SeriesNames {
    fn new(rows: &[&ResultRow]) -> Self {
        let parts: [fn(&ResultRow) -> String; 4] = [
            figures::platform,
            |row| row.device.clone().unwrap_or_else(|| "unknown device".to_owned()),
            |row| row.precision.clone().unwrap_or_else(|| "unknown precision".to_owned()),
            figures::shape,
        ];
        let differs = |of: &fn(&ResultRow) -> String| {
            let mut of_models = BTreeMap::new();
            rows.iter().any(|row| *of_models.entry(row.model.as_deref()).or_insert_with(|| of(row)) != of(row))
        };
        Self(parts.into_iter().filter(differs).collect())
    }

    fn of(&self, row: &ResultRow) -> String {
        let threads = match row.threads {
            Some(1) => "1 thread".to_owned(),
            Some(threads) => format!("{threads} threads"),
            None => "threads unknown".to_owned(),
        };
        self.0.iter().map(|part| part(row)).chain([threads]).collect::<Vec<_>>().join(", ")
    }

    /// The names in `rows`, few threads first.
    fn sorted(&self, rows: &[&ResultRow]) -> Vec<String> {
        let mut names: Vec<(Option<u32>, String)> = rows.iter().map(|row| (row.threads, self.of(row))).collect();
        names.sort();
        names.dedup();
        names.into_iter().map(|(_, name)| name).collect()
    }
}

fn legend(out: &mut String, series: &[String]) -> fmt::Result {
    out.push_str("<ul class=\"legend\">");
    for (place, name) in series.iter().enumerate() {
        write!(out, "<li class=\"s{}\"><i></i>{}</li>", place % COLOURS, Escaped(name))?;
    }
    out.push_str(
        "<li class=\"note\">dot: p50, whisker: up to p99; both axes logarithmic, the same in every panel</li></ul>",
    );
    Ok(())
}

/// A line through the medians, and for each result a dot at p50 with a whisker up to p99.
fn line(out: &mut String, (colour, name): (usize, &str), points: &Line<'_>, (x, y): (&Scale, &Scale)) -> fmt::Result {
    if points.is_empty() {
        return Ok(());
    }
    write!(out, "<g class=\"s{colour}\"><polyline points=\"")?;
    for (batch, rows) in points {
        let middle = median(rows.iter().filter_map(|row| row.latency_p50_ms).collect());
        write!(out, "{:.1},{:.1} ", x.at(f64::from(*batch)), y.at(middle))?;
    }
    out.push_str("\"/>");
    for (batch, row) in points.iter().flat_map(|(batch, rows)| rows.iter().map(move |row| (*batch, row))) {
        let (Some(p50), at) = (row.latency_p50_ms, x.at(f64::from(batch))) else { continue };
        if let Some(p99) = row.latency_p99_ms {
            write!(out, "<path class=\"whisker\" d=\"M{at:.1} {:.1}V{:.1}\"/>", y.at(p50), y.at(p99))?;
        }
        write!(
            out,
            "<circle cx=\"{at:.1}\" cy=\"{:.1}\" r=\"3\"><title>{}, batch {batch}: p50 {} ms, p99 {} ms</title></circle>",
            y.at(p50),
            Escaped(name),
            figures::number(p50),
            figures::maybe(row.latency_p99_ms)
        )?;
    }
    out.push_str("</g>");
    Ok(())
}

/// The predictions of one metric against what was measured, with their intervals and the line of equality.
pub(super) fn predicted_against_measured(out: &mut String, metric: &MetricAccuracy<'_>) -> fmt::Result {
    let values = metric.points.iter().flat_map(|point| {
        let interval = [point.prediction.lower, point.prediction.upper].into_iter().flatten();
        [point.predicted, point.measured].into_iter().chain(interval)
    });
    let Some(x) = Scale::around(values, (GUTTER.0, SQUARE - PADDING)) else { return Ok(()) };
    let y = x.along((SQUARE - GUTTER.1, PADDING));
    let ((name, unit), n) = (figures::metric(metric.metric), metric.points.len());
    write!(
        out,
        "<figure><figcaption>{0} <small>{1}</small></figcaption><p class=\"caption\">{2} of {n} inside the interval, \
         median error {3}</p><svg viewBox=\"0 0 {SQUARE} {SQUARE}\" role=\"img\" \
         aria-label=\"{0}: predicted against measured\">",
        Escaped(name),
        Escaped(unit),
        metric.inside,
        figures::percent(metric.error_pct_median)
    )?;
    axes(out, (SQUARE, SQUARE), &ticks(&x), &ticks(&y), ("measured", "predicted"))?;
    let (left, right, bottom) = (GUTTER.0, SQUARE - PADDING, SQUARE - GUTTER.1);
    write!(out, "<path class=\"equal\" d=\"M{left} {bottom}L{right} {PADDING}\"/>")?;
    for point in &metric.points {
        let class = if point.is_inside() { "inside" } else { "outside" };
        let at = x.at(point.measured);
        write!(out, "<g class=\"{class}\">")?;
        if let (Some(lower), Some(upper)) = (point.prediction.lower, point.prediction.upper) {
            write!(out, "<path class=\"whisker\" d=\"M{at:.1} {:.1}V{:.1}\"/>", y.at(lower), y.at(upper))?;
        }
        write!(
            out,
            "<circle cx=\"{at:.1}\" cy=\"{:.1}\" r=\"3.5\"><title>{}: predicted {} ({} to {}), measured {}</title></circle></g>",
            y.at(point.predicted),
            Escaped(&point.row.case),
            figures::number(point.predicted),
            figures::maybe(point.prediction.lower),
            figures::maybe(point.prediction.upper),
            figures::number(point.measured)
        )?;
    }
    out.push_str("</svg></figure>");
    Ok(())
}

/// Positions and labels of an axis.
type Ticks = Vec<(f64, String)>;

fn ticks(scale: &Scale) -> Ticks {
    scale.ticks().into_iter().map(|value| (scale.at(value), label(value))).collect()
}

/// A tick at each batch size that was measured, as long as their labels do not touch.
fn batch_ticks(rows: &[&ResultRow], scale: &Scale) -> Ticks {
    const APART_MIN: f64 = 16.0;
    let mut batches: Vec<u32> = rows.iter().filter_map(|row| row.batch_size).collect();
    batches.sort_unstable();
    batches.dedup();
    let mut kept = Ticks::new();
    for batch in batches {
        let at = scale.at(f64::from(batch));
        if kept.last().is_none_or(|(last, _)| at - last >= APART_MIN) {
            kept.push((at, batch.to_string()));
        }
    }
    kept
}

fn axes(out: &mut String, size: (f64, f64), x: &Ticks, y: &Ticks, (below, beside): (&str, &str)) -> fmt::Result {
    let (left, right, bottom) = (GUTTER.0, size.0 - PADDING, size.1 - GUTTER.1);
    out.push_str("<g class=\"axes\">");
    for (at, text) in y {
        write!(
            out,
            "<path d=\"M{left} {at:.1}H{right}\"/><text x=\"{}\" y=\"{:.1}\" class=\"end\">{text}</text>",
            left - 6.0,
            at + 3.5
        )?;
    }
    for (at, text) in x {
        write!(
            out,
            "<path d=\"M{at:.1} {PADDING}V{bottom}\"/><text x=\"{at:.1}\" y=\"{}\" class=\"middle\">{text}</text>",
            bottom + 14.0
        )?;
    }
    let (middle, height) = (f64::midpoint(left, right), f64::midpoint(PADDING, bottom));
    write!(out, "<text x=\"{middle}\" y=\"{}\" class=\"middle name\">{below}</text>", size.1 - 5.0)?;
    write!(out, "<text transform=\"translate(11 {height}) rotate(-90)\" class=\"middle name\">{beside}</text></g>")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{accuracy::accuracy, fixture, sections::Sections};

    #[test]
    fn a_panel_per_model_with_a_line_per_series() {
        let mut results = fixture::results();
        results
            .push(ResultRow { threads: Some(1), ..fixture::benchmark("bert-t1", "bert-base-uncased", 1, 180.0, 5.5) });
        let mut out = String::new();
        latency(&mut out, &Sections::new(&results).measured).expect("chart");
        assert_eq!(out.matches("<svg").count(), 2);
        assert_eq!(out.matches("<polyline").count(), 3);
        assert_eq!(out.matches("<circle").count(), 4);
        assert!(out.contains("<li class=\"s0\"><i></i>1 thread</li><li class=\"s1\"><i></i>2 threads</li>"), "{out}");
        assert!(out.contains("2 threads, batch 4: p50 390 ms, p99 488 ms"), "{out}");
    }

    #[test]
    fn what_differs_within_a_model_is_in_the_name_of_its_line() {
        let mut long = fixture::benchmark("long", "bert-base-uncased", 1, 400.0, 2.5);
        long.sequence_length = Some(512);
        let mut results = fixture::results();
        results.push(long);
        let mut out = String::new();
        latency(&mut out, &Sections::new(&results).measured).expect("chart");
        assert!(out.contains("512 tokens, 2 threads"), "{out}");
        assert!(!out.contains("fp32, "), "{out}");
    }

    #[test]
    fn predictions_outside_their_interval_look_different() {
        let results = fixture::results();
        let rows: Vec<&ResultRow> = results.iter().collect();
        let mut out = String::new();
        predicted_against_measured(&mut out, &accuracy(&rows)[0]).expect("chart");
        assert_eq!((out.matches("\"inside\"").count(), out.matches("\"outside\"").count()), (1, 1));
        assert!(out.contains("1 of 2 inside the interval, median error 15%"), "{out}");
    }

    #[test]
    fn nothing_measured_draws_nothing() {
        let mut out = String::new();
        latency(&mut out, &[]).expect("chart");
        assert_eq!(out, "");
    }
}
