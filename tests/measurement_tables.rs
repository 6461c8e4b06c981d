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

/// A file of timm's, as it is published, with a bad row.
const TIMM: &str = "model,infer_img_size,infer_batch_size,infer_samples_per_sec,infer_step_time,infer_gmacs,infer_macts,\
                    param_count\n\
                    tinynet_e,106,1024.0,75290.96,13.591,0.03,0.69,2.04\n\
                    resnet18,224,1024.0,11101.69,92.228,1.82,2.48,11.69\n\
                    resnet34,224,1024.0,NaN,157.425,3.67,3.74,21.8\n";
const TIMM_NAME: &str = "benchmark-infer-amp-nhwc-pt210-cu121-rtx3090.csv";

#[test]
fn an_import_counts_each_row_once_and_names_the_bad_one() {
    let world = world();
    let (table, published) = (world.write("t.csv", &table()), world.write(TIMM_NAME, TIMM));
    let import = ["measurement", "import", &table, &published, "--format", "json"];
    let refused = world.augur(&[&import[..], &["--strict"]].concat());
    assert!(refused.stderr.contains("2 bad rows"), "{}", refused.stderr);
    refused.expect(2);
    let first = world.augur(&import);
    assert!(first.stderr.contains("t.csv:74: left out: `latency_ms` is -5, not above 0"), "{}", first.stderr);
    assert!(first.stderr.contains("rtx3090.csv:4: left out: `infer_samples_per_sec` is `NaN`"), "{}", first.stderr);
    let first = first.json();
    let counts = |answer: &serde_json::Value, key: &str| [answer[0][key].as_u64(), answer[1][key].as_u64()];
    assert_eq!((counts(&first, "new"), counts(&first, "known")), ([Some(72), Some(2)], [Some(0), Some(0)]));
    let again = world.augur(&import).json();
    assert_eq!((counts(&again, "new"), counts(&again, "known")), ([Some(0), Some(0)], [Some(72), Some(2)]));
}

#[test]
fn an_export_imports_as_the_same_rows() {
    let world = world();
    let table = world.write("t.csv", &table());
    world.augur(&["measurement", "import", &table]).expect(0);
    let other = world.path("other.duckdb").display().to_string();
    for form in ["csv", "csv.gz", "parquet"] {
        let output = world.path(&format!("out.{form}")).display().to_string();
        world.augur(&["measurement", "export", "--output", &output]).expect(0);
        let back = world.augur(&["measurement", "import", &output, "--db", &other, "--format", "json"]).json();
        let (new, known) = if form == "csv" { (72, 0) } else { (0, 72) };
        assert_eq!((back[0]["new"].as_u64(), back[0]["known"].as_u64()), (Some(new), Some(known)), "{form}");
    }
    // A database is a source, too, and the file that it came from changes nothing.
    let third = world.path("third.duckdb").display().to_string();
    let back = world.augur(&["measurement", "import", &other, "--db", &third, "--format", "json"]).json();
    assert_eq!(back[0]["new"].as_u64(), Some(72));
}

#[test]
fn coverage_shows_what_is_missing() {
    let world = world();
    let rows =
        "model,device,precision,batch_size,latency_ms\na,X,fp32,1,1\na,X,fp32,2,2\na,X,fp32,2,2.5\nb,Y,fp16,1,1\n";
    let (table, plot) = (world.write("t.csv", rows), world.path("c.svg"));
    let plot_name = plot.display().to_string();
    let answer = world.augur(&["measurement", "coverage", "--input", &table, "--plot", &plot_name, "--format", "json"]);
    assert!(
        answer.stderr.contains("2 of 4 cells have measurements: 3 configurations, 4 measurements"),
        "{}",
        answer.stderr
    );
    let cells = answer.json();
    let counts: Vec<_> = cells.as_array().expect("cells").iter().map(|cell| cell["configurations"].as_u64()).collect();
    assert_eq!(counts, [Some(2), Some(0), Some(0), Some(1)]);
    assert!(std::fs::read_to_string(&plot).expect("drawn").contains("configurations measured"));
    let missing = world.augur(&["measurement", "coverage"]);
    assert!(missing.stderr.contains("there is no database"), "{}", missing.stderr);
    missing.expect(2);
}

#[test]
fn coverage_of_all_adds_what_was_never_measured() {
    let world = world();
    let devices = world.write("d.csv", "device,platform,fp32_tflops\nX,cuda,8.1\nNVIDIA L4,cuda,30.3\n");
    world.augur(&["device", "import", &devices]).expect(0);
    let table = world.write("t.csv", "model,device,precision,batch_size,latency_ms\nown,X,fp32,1,1\ngpt2,X,fp32,1,2\n");
    let ask = |more: &[&str]| {
        let coverage = ["measurement", "coverage", "--input", &table, "--format", "json"];
        let cells = world.augur(&[&coverage[..], more].concat()).json();
        let cell = |cell: &serde_json::Value| {
            let words = ["name", "device"].map(|word| text(&cell[word]).to_owned());
            (words, cell["precision"].is_null(), cell["measurements"].as_u64().expect("a count"))
        };
        cells.as_array().expect("cells").iter().map(cell).collect::<Vec<_>>()
    };
    let measured = |name: &str| ([name.to_owned(), "X".to_owned()], false, 1);
    assert_eq!(ask(&[]), [measured("gpt2"), measured("own")]);
    let all = ask(&["--all"]);
    assert!(all.contains(&measured("gpt2")) && all.contains(&measured("own")), "{all:?}");
    // A device that was measured keeps its columns, and a new one has a column of unknown precision.
    let never = |name: &str, device: &str, any| ([name.to_owned(), device.to_owned()], any, 0);
    for missing in
        [never("resnet50", "X", false), never("resnet50", "NVIDIA L4", true), never("own", "NVIDIA L4", true)]
    {
        assert!(all.contains(&missing), "{missing:?}: {all:?}");
    }
    assert_eq!(all.len(), 2 * (1 + graphs::zoo().len()));
    assert!(ask(&["--all", "--by", "family"]).contains(&never("bert", "NVIDIA L4", true)));
}

#[test]
fn coverage_is_asked_of_the_aggregator_that_holds_the_database() {
    let world = World::new();
    let table = world.write("t.csv", &table());
    world.augur(&["measurement", "import", &table]).expect(0);
    let coverage = ["measurement", "coverage", "--format", "json"];
    let before = world.augur(&coverage).json();
    assert_eq!(before.as_array().map(Vec::len), Some(36), "{before}");
    let _aggregator = world.aggregator();
    assert_eq!(world.augur(&coverage).json(), before);
    // A database that is named is not looked for elsewhere.
    let db = world.path("state").join("augur.duckdb").display().to_string();
    let named = world.augur(&[&coverage[..], &["--db", &db]].concat());
    assert!(named.stderr.contains("augur.duckdb"), "{}", named.stderr);
    assert_ne!(named.code, Some(0));
}

#[test]
fn devices_are_kept_and_listed() {
    let world = world();
    let file =
        world.write("d.csv", "device,platform,fp32_tflops,memory_gb\nTesla T4,cuda,8.1,16\nNVIDIA L4,cuda,30.3,24\n");
    let imported = world.augur(&["device", "import", &file]).expect(0);
    assert!(imported.contains("2 devices added"), "{imported}");
    let changed =
        world.write("d2.csv", "device,platform,fp32_tflops,memory_gb\nTesla T4,cuda,8.14,16\nNVIDIA L4,cuda,30.3,24\n");
    let imported = world.augur(&["device", "import", &changed]).expect(0);
    assert!(imported.contains("0 devices added, 1 replaced, 1 there already; 2 in all"), "{imported}");
    let listed = world.augur(&["device", "list", "--format", "json"]).json();
    let rows = listed.as_array().expect("rows");
    assert!(rows[0]["is_here"] == true && rows[0]["measured_fp32_tflops"].is_f64(), "{listed}");
    let t4 = rows.iter().find(|row| row["device"] == "Tesla T4").expect("listed");
    assert_eq!((t4["published_fp32_tflops"].as_f64(), t4["measured_fp32_tflops"].as_f64()), (Some(8.14), None));
    let bad = world.augur(&["device", "import", &world.write("bad.csv", "device,fp32_tflops\nX,-1\n")]);
    assert!(bad.stderr.contains("bad.csv:2"), "{}", bad.stderr);
    bad.expect(2);
}

#[test]
fn a_recommendation_needs_a_release() {
    let world = world();
    let none = world.augur(&["recommend", "hardware", "--model", "resnet50"]);
    assert!(none.stderr.contains("no release of predictors"), "{}", none.stderr);
    none.expect(2);
}

#[test]
fn an_evaluation_is_drawn() {
    let world = world();
    let (input, plot) = (world.write("t.csv", &table()), world.path("e.svg"));
    let plot_name = plot.display().to_string();
    world.augur(&["predictor", "evaluate", "--input", &input, "--plot", &plot_name]).expect(0);
    let svg = std::fs::read_to_string(&plot).expect("drawn");
    assert!(
        svg.contains("predicted against measured") && svg.contains("error of the prediction (outermost bars"),
        "{svg}"
    );
}

#[test]
fn hardware_is_ranked_by_a_release_that_learned_from_imported_tables() {
    let world = world();
    let table = world.write("t.csv", &table());
    world.augur(&["measurement", "import", &table]).expect(0);
    let db = world.path("state").join("augur.duckdb").display().to_string();
    let trained = world.augur(&["predictor", "train", "--db", &db, "--metrics", "latency_ms"]);
    assert!(trained.stderr.contains("0 accepted measurements, 72 from elsewhere"), "{}", trained.stderr);
    trained.expect(0);
    let plot = world.path("r.svg").display().to_string();
    let ask = ["recommend", "hardware", "--model", "m5", "--batch-size", "4", "--format", "json", "--available"];
    let answer = world.augur(&[&ask[..], &["A,B,C", "--max-latency-ms", "14", "--plot", &plot]].concat()).json();
    let ranked = answer["ranked"].as_array().expect("ranks");
    let devices: Vec<_> = ranked.iter().filter_map(|row| row["device"].as_str()).collect();
    assert_eq!(devices, ["C", "B"], "{answer}");
    assert!(ranked.iter().all(|row| row["latency_ms"]["confidence"].is_f64()), "{answer}");
    assert_eq!(answer["excluded"][0]["device"], "A", "{answer}");
    assert!(answer["excluded"][0]["reason"].as_str().is_some_and(|why| why.contains("exceeds 14 ms")), "{answer}");
    assert!(std::fs::read_to_string(&plot).expect("drawn").contains("devices by latency"));
    let unknown = world.augur(&[&ask[..], &["D"]].concat());
    assert!(unknown.stderr.contains("`D`"), "{}", unknown.stderr);
    unknown.expect(2);
    let throughput = world.augur(&[&ask[..], &["cuda", "--optimize", "throughput"]].concat()).json();
    assert_eq!(throughput["ranked"][0]["device"], "C", "{throughput}");
    let power = world.augur(&[&ask[..], &["A", "--optimize", "power"]].concat());
    assert!(power.stdout.contains("nothing predicts its power_w"), "{}", power.stdout);
    power.expect(1);
    // No operators are known, so nobody knows what training keeps in memory.
    let training = world.augur(&[&ask[..], &["B", "--task", "training"]].concat()).json();
    let reasons = training["ranked"][0]["reasons"].as_array().expect("reasons");
    assert!(reasons.iter().any(|why| text(why).contains("memory for training is unknown")), "{training}");
    assert!(training["ranked"][0]["memory_peak_mb"].is_null(), "{training}");
    let memory = world.augur(&[&ask[..], &["B", "--task", "training", "--optimize", "memory"]].concat());
    assert!(memory.stdout.contains("memory for training is unavailable, because"), "{}", memory.stdout);
    memory.expect(1);
}

fn text(value: &serde_json::Value) -> &str {
    value.as_str().expect("text")
}
