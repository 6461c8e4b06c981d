//! Measurement tables through the command line: read, checked, evaluated.

mod support;

use std::fmt::Write as _;

use crate::support::World;

fn world() -> World {
    World::bare("amqp://127.0.0.1:1/%2f", None)
}

/// A table of 12 models on 3 devices whose latency is proportional to the work, with one bad row.
fn table() -> String {
    let mut text = "model,family,device,platform,precision,batch_size,gmacs,params_m,latency_ms\n".to_owned();
    for model in 1..=12 {
        for (device, speed) in [("A", 1.0), ("B", 2.0), ("C", 3.0)] {
            for batch_size in [1, 4] {
                let latency_ms = f64::from(model * batch_size) / speed;
                let family = model % 4;
                writeln!(text, "m{model},f{family},{device},cuda,fp32,{batch_size},{model},10,{latency_ms}")
                    .expect("text");
            }
        }
    }
    text + "m1,f1,A,cuda,fp32,1,1,10,-5\n"
}

#[test]
fn a_table_is_evaluated_into_a_report_of_the_contract() {
    let world = world();
    let (input, output) = (world.write("t.csv", &table()), world.path("r.json"));
    let output_name = output.to_str().expect("text");
    let arguments =
        ["predictor", "evaluate", "--input", &input, "--protocol", "leave-family-out", "--output", output_name];
    let answer = world.augur(&arguments);
    assert!(answer.stderr.contains("t.csv:74: left out: `latency_ms` is -5, not above 0"), "{}", answer.stderr);
    answer.expect(0);
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&output).expect("written")).expect("JSON");
    assert_eq!((report["metric"].as_str(), report["n"].as_u64()), (Some("latency_ms"), Some(72)));
    for key in [
        "mape_pct",
        "median_ape_pct",
        "within_10_pct",
        "within_20_pct",
        "spearman_throughput",
        "interval_90_coverage_pct",
        "interval_90_half_width_median_pct",
        "train_seconds",
        "predict_rows_per_second",
    ] {
        assert!(report[key].is_f64(), "{key}: {report}");
    }
    assert!(report["baselines"]["nearest_same_model"]["mape_pct"].is_f64(), "{report}");
    assert_eq!(report["groups"].as_array().map(Vec::len), Some(4), "{report}");
    // A bad row is refused.
    world.augur(&[&arguments[..], &["--strict"]].concat()).expect(2);
}

#[test]
fn an_unknown_column_is_named() {
    let world = world();
    let input = world.write("t.csv", "model,device,batch_size,latency_ms,colour\nm,d,1,1,red\n");
    let answer = world.augur(&["predictor", "evaluate", "--input", &input]);
    assert!(answer.stderr.contains("unknown column `colour`"), "{}", answer.stderr);
    answer.expect(2);
}

#[test]
fn features_are_extracted_as_parquet() {
    let world = world();
    let (input, output) = (world.write("t.csv", &table()), world.path("f.parquet"));
    world.augur(&["feature", "extract", "--input", &input, "--output", output.to_str().expect("text")]).expect(0);
    let parquet = std::fs::read(output).expect("written");
    assert!(parquet.starts_with(b"PAR1") && parquet.ends_with(b"PAR1"));
}
