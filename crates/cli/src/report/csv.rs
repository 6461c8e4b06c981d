//! A measurement table (docs: "Measurement tables"): one line for each benchmark that passed, unknown cells empty.
//!
//! `augur measurement import` and `augur predictor train` read it. Latency is the median of a batch.

use store::ResultRow;

use super::sections::is_measured;

/// One column: its name in the table and where its cell comes from.
type Column = (&'static str, fn(&ResultRow) -> Option<String>);

/// The columns in their order. A result does not carry what describes the model itself; who reads the table looks it
/// up under the model's name.
const COLUMNS: [Column; 20] = [
    ("model", |row| row.model.clone()),
    ("family", |_| None),
    ("device", |row| row.device.clone()),
    ("platform", |row| Some(row.platform.clone())),
    ("backend", |row| row.backend.clone()),
    ("backend_version", |row| row.backend_version.clone()),
    // As in every table of measurements: of a runtime in a browser, the browser.
    ("compiler", |row| row.browser.clone()),
    ("precision", |row| row.precision.clone()),
    ("layout", |_| None),
    ("batch_size", |row| text(row.batch_size)),
    ("image_size", |row| text(row.image_size)),
    ("sequence_length", |row| text(row.sequence_length)),
    ("threads", |row| text(row.threads)),
    ("params_m", |_| None),
    ("gmacs", |_| None),
    ("activations_m", |_| None),
    ("latency_ms", |row| text(row.latency_p50_ms)),
    ("throughput_items_per_second", |row| text(row.throughput_items_per_second)),
    ("memory_peak_mb", |row| text(row.memory_peak_mb)),
    ("power_w", |row| text(row.power_w)),
];

fn text(value: Option<impl ToString>) -> Option<String> {
    value.map(|value| value.to_string())
}

pub(super) fn render(results: &[ResultRow]) -> String {
    let mut lines = line(COLUMNS.iter().map(|(name, _)| (*name).to_owned()));
    for row in results.iter().filter(|row| is_measured(row)) {
        lines += &line(COLUMNS.iter().map(|(_, cell)| cell(row).unwrap_or_default()));
    }
    lines
}

fn line(cells: impl Iterator<Item = String>) -> String {
    cells.map(|cell| quoted(&cell)).collect::<Vec<_>>().join(",") + "\n"
}

/// A cell by RFC 4180: quoted where it holds a comma, a quote or a line break.
fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn the_header_is_the_contract() {
        let contract = "model, family, device, platform, backend, backend_version, compiler, precision, layout, \
                        batch_size, image_size, sequence_length, threads, params_m, gmacs, activations_m, latency_ms, \
                        throughput_items_per_second, memory_peak_mb, power_w";
        assert_eq!(render(&[]), format!("{}\n", contract.replace(", ", ",")));
    }

    #[test]
    fn only_benchmarks_that_passed_are_measurements() {
        insta::assert_snapshot!(render(&fixture::results()), @r#"
        model,family,device,platform,backend,backend_version,compiler,precision,layout,batch_size,image_size,sequence_length,threads,params_m,gmacs,activations_m,latency_ms,throughput_items_per_second,memory_peak_mb,power_w
        bert-base-uncased,,"EPYC, 2 cores",cpu,onnxruntime,1.31.1,,fp32,,1,,128,2,,,,101.5,9.85,640.25,
        bert-base-uncased,,"EPYC, 2 cores",cpu,onnxruntime,1.31.1,,fp32,,4,,128,2,,,,390,10.26,,
        resnet50,,"EPYC, 2 cores",cpu,onnxruntime,1.31.1,,fp32,,1,224,,2,,,,45.125,22.16,210,
        "#);
    }

    #[test]
    fn quotes_are_doubled() {
        assert_eq!(quoted("a \"b\"\nc"), "\"a \"\"b\"\"\nc\"");
        assert_eq!(quoted("plain"), "plain");
    }
}
