//! Every plot is an SVG with its texts; what they look like is looked at, see docs/contributor.md.

use super::*;

fn heatmap() -> Heatmap {
    Heatmap {
        title: "Latency <of> models".to_owned(),
        unit: "ms per batch".to_owned(),
        empty: "not predicted".to_owned(),
        shading: Shading::Automatic,
        columns: vec!["NVIDIA GeForce RTX 3090, amp".to_owned(), "cpu".to_owned()],
        rows: vec![
            ("resnet50".to_owned(), vec![Cell::Number(12.5), Cell::Empty]),
            ("vit".to_owned(), vec![Cell::Number(1250.0), Cell::Number(3.0)]),
            ("gpt2".to_owned(), vec![Cell::Barred("does not fit"), Cell::Number(6.0)]),
        ],
    }
}

fn bars() -> Bars {
    let bar =
        |name: &str, value, interval| Bar { name: name.to_owned(), value, interval, note: "70 % sure".to_owned() };
    Bars {
        title: "resnet50".to_owned(),
        axis: "latency, ms per batch".to_owned(),
        rows: vec![bar("Tesla T4", 12.0, Some((9.0, 16.0))), bar("cpu", 40.0, None)],
    }
}

fn lines() -> Lines {
    let points = [1.0, 2.0, 4.0, 8.0].map(|batch| (batch, 3.0 * batch, 2.0 * batch, 4.0 * batch)).to_vec();
    Lines {
        title: "resnet50".to_owned(),
        x: "batch size".to_owned(),
        y: "latency, ms per batch".to_owned(),
        series: vec![Band { name: "Tesla T4".to_owned(), points }],
    }
}

fn accuracy() -> Accuracy {
    let point = |step: u32| AccuracyPoint {
        measured: f64::from(step),
        predicted: f64::from(step) * 1.1,
        is_inside: !step.is_multiple_of(10),
    };
    Accuracy {
        title: "Predicted against measured".to_owned(),
        subtitle: "leave-family-out".to_owned(),
        unit: "ms per batch".to_owned(),
        points: (1..200).map(point).collect(),
    }
}

/// The texts of a plot's SVG.
fn texts(plot: &impl Plot) -> String {
    let svg = plot.svg().expect("drawn");
    let texts =
        svg.split("<text").skip(1).filter_map(|rest| Some(rest.split_once('>')?.1.split_once("</text>")?.0.trim()));
    texts.collect::<Vec<_>>().join("|")
}

fn check(plot: &impl Plot, expected: &[&str]) {
    let texts = texts(plot);
    for text in expected {
        assert!(texts.split('|').any(|found| found == *text), "`{text}` is not in {texts}");
    }
}

#[test]
fn every_plot_names_what_it_shows() {
    check(
        &heatmap(),
        &["Latency &lt;of&gt; models", "12.5", "–", "1250", "NVIDIA GeForce", "resnet50", "does not fit"],
    );
    check(&heatmap(), &["ms per batch, logarithmic; – not predicted"]);
    check(&bars(), &["Tesla T4", "12  (9 – 16)", "latency, ms per batch", "70 % sure"]);
    check(&lines(), &["batch size", "latency, ms per batch", "8"]);
    check(&accuracy(), &["measured ms per batch", "share of predictions", "inside its 90 % interval"]);
}

#[test]
fn a_heatmap_says_how_colours_follow_numbers_and_what_an_empty_cell_means_if_it_has_one() {
    let two = |shading, values: [f64; 2]| Heatmap {
        shading,
        rows: vec![("resnet50".to_owned(), values.map(Cell::Number).to_vec())],
        ..heatmap()
    };
    check(&two(Shading::Automatic, [1.0, 2.0]), &["ms per batch"]);
    check(&two(Shading::Automatic, [1.0, 200.0]), &["ms per batch, logarithmic"]);
    check(&two(Shading::Logarithmic, [1.0, 2.0]), &["ms per batch, logarithmic"]);
}

#[test]
fn bars_far_apart_name_their_axis_logarithmic() {
    let mut far = bars();
    far.rows[1].value = 4_000.0;
    check(&far, &["latency, ms per batch, logarithmic", "1000", "12  (9 – 16)"]);
}

#[test]
fn empty_plots_are_drawn() {
    let empty = [
        Heatmap { rows: vec![], columns: vec![], ..heatmap() }.svg(),
        Bars { rows: vec![], ..bars() }.svg(),
        Lines { series: vec![], ..lines() }.svg(),
        Accuracy { points: vec![], ..accuracy() }.svg(),
    ];
    for svg in empty {
        assert!(svg.expect("drawn").starts_with("<svg"));
    }
}

#[test]
fn a_file_that_is_no_svg_is_refused() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = |name: &str| directory.path().join(name);
    heatmap().write(&path("h.svg")).expect("written");
    assert!(std::fs::read_to_string(path("h.svg")).expect("read").starts_with("<svg"));
    let error = lines().write(&path("l.gif")).expect_err("no such form").to_string();
    assert!(error.contains("l.gif") && error.contains(".svg"), "{error}");
    assert!(!path("l.gif").exists());
}

#[test]
fn numbers_have_three_digits_and_thousands_apart() {
    let shown = [0.0, 0.012_345, 1.0, 12.345, 999.5, 1250.0, 17_297.0, 1e-9].map(theme::number);
    assert_eq!(shown, ["0", "0.0123", "1", "12.3", "1000", "1250", "17\u{202f}297", "1.00e-9"]);
}

#[test]
fn more_is_darker() {
    let lightness = |share| {
        let colour = theme::ramp(share);
        u32::from(colour.0) + u32::from(colour.1) + u32::from(colour.2)
    };
    let steps: Vec<u32> = (0..=20).map(|step| lightness(f64::from(step) / 20.0)).collect();
    assert!(steps.is_sorted_by(|a, b| a > b), "{steps:?}");
}
