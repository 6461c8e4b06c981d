//! Releases from measurement tables through the command line: trained, asked, compared, rolled back.

mod support;

use std::fmt::Write as _;

use crate::support::{World, text};

const DEVICES: &str = "device,platform,fp32_tflops,memory_bandwidth_gb_per_s,memory_gb,tdp_w\n\
                       GPU A,cuda,10,300,4,100\nGPU B,cuda,20,500,8,150\nGPU C,cuda,30,900,16,200\n\
                       GPU New,cuda,25,700,8,180\n";

/// A table of 12 models on 3 devices whose latency is proportional to the work.
fn table() -> String {
    let mut text =
        "model,family,device,platform,precision,batch_size,image_size,gmacs,params_m,latency_ms,memory_peak_mb\n"
            .to_owned();
    for model in 1..=12 {
        for (device, speed) in [("GPU A", 1.0), ("GPU B", 2.0), ("GPU C", 3.0)] {
            for batch_size in [1, 4, 16] {
                let work = f64::from(model * batch_size);
                let (latency_ms, memory_mb, family) = (work / speed, 50.0 + 8.0 * work, model % 4);
                writeln!(
                    text,
                    "net{model},f{family},{device},cuda,fp32,{batch_size},224,{model},10,{latency_ms},{memory_mb}"
                )
                .expect("text");
            }
        }
    }
    text
}

/// Operators of the models: one convolution each.
fn operators() -> String {
    (1..=12_u64).fold(String::new(), |mut text, model| {
        let macs = model * 1_000_000_000;
        let elements = model * 1_000_000;
        writeln!(text, r#"{{"model": "net{model}", "image_size": 224, "operators": [["conv", {macs}, {elements}, 10000000, 3, 1]]}}"#)
            .expect("text");
        text
    })
}

struct Trained {
    world: World,
    devices: String,
    release: String,
}

impl Trained {
    fn new() -> Self {
        let world = World::bare("amqp://127.0.0.1:1/%2f", None);
        let devices = world.write("devices.csv", DEVICES);
        let (input, operators) = (world.write("t.csv", &table()), world.write("o.jsonl", &operators()));
        let arguments = [
            "predictor",
            "train",
            "--input",
            &input,
            "--devices",
            &devices,
            "--operators",
            &operators,
            "--format",
            "json",
        ];
        let line = world.augur(&arguments).json();
        assert_eq!((line["learned_from"].as_str(), line["training_rows"].as_u64()), (Some("tables"), Some(108)));
        assert_eq!(line["devices"], serde_json::json!(["GPU A", "GPU B", "GPU C"]));
        let metrics: Vec<_> =
            line["evaluation"].as_array().expect("a list").iter().map(|e| e["metric"].clone()).collect();
        assert_eq!(metrics.len(), 9, "three metrics, each by three kinds of novelty: {metrics:?}");
        Self { release: line["release"].as_str().expect("a name").to_owned(), world, devices }
    }

    fn predict(&self, arguments: &[&str]) -> support::Answer {
        self.world.augur(&[&["predictor", "predict"], arguments].concat())
    }
}

#[test]
fn a_release_from_tables_is_trained_asked_compared_and_rolled_back() {
    let trained = Trained::new();
    let rows =
        trained.predict(&["--model", "net3", "--devices", "gpu b", "--batch-sizes", "4", "--format", "json"]).json();
    let rows = rows.as_array().expect("a list");
    let latency = rows.iter().find(|row| row["metric"] == "latency_ms").expect("trained");
    assert_eq!(
        (latency["device"].as_str(), latency["release"].as_str()),
        (Some("GPU B"), Some(trained.release.as_str()))
    );
    assert_eq!((latency["novelty"].as_str(), latency["precision"].as_str()), (Some("configuration"), Some("fp32")));
    let number = |key: &str| latency[key].as_f64().expect("a number");
    assert!(number("lower") < number("predicted") && number("predicted") < number("upper"), "{latency}");
    assert!((number("predicted") / 6.0 - 1.0).abs() < 0.3, "12 units of work at twice the speed: {latency}");
    assert!((0.0..=1.0).contains(&number("confidence")), "{latency}");

    // Several configurations make a matrix, and a new device is said to be new.
    let arguments =
        ["--model", "net3", "--devices", "GPU B,GPU New", "--batch-sizes", "1,4", "--metrics", "latency_ms"];
    let matrix = trained.predict(&[&arguments[..], &["--device-table", &trained.devices]].concat());
    assert!(matrix.stderr.contains("a device that was never measured"), "{}", matrix.stderr);
    let text = matrix.expect(0);
    assert!(text.contains("batch 1") && text.contains("batch 4") && text.contains("GPU New fp32"), "{text}");

    let world = &trained.world;
    let shown = world.augur(&["predictor", "show", "--format", "json"]).json();
    assert_eq!(shown["release"].as_str(), Some(trained.release.as_str()));
    let input = world.write("t.csv", &table());
    let second =
        world.augur(&["predictor", "train", "--input", &input, "--metrics", "latency_ms", "--format", "json"]).json();
    let second = second["release"].as_str().expect("a name").to_owned();
    let compared =
        world.augur(&["predictor", "show", &second, "--against", &trained.release, "--format", "json"]).json();
    assert_eq!(compared["metrics"].as_array().map(Vec::len), Some(9), "{compared}");
    assert!(compared["metrics"][0]["against_mape_pct"].is_f64(), "{compared}");
    let rolled_back = world.augur(&["predictor", "rollback"]).expect(0);
    assert_eq!(rolled_back.trim(), format!("{} is the current release", trained.release));
    world.augur(&["predictor", "rollback"]).expect(2);
    world.augur(&["predictor", "promote", &second]).expect(0);
    let listed = world.augur(&["predictor", "list", "--format", "json"]).json();
    let current: Vec<_> = listed.as_array().expect("a list").iter().map(|line| line["is_current"].clone()).collect();
    assert_eq!(current, [false, true]);
}

#[test]
fn a_zoo_model_and_an_onnx_file_are_predicted_from_their_graphs() {
    let trained = Trained::new();
    let world = &trained.world;
    let file = world.path("tiny.onnx");
    let file = file.to_str().expect("text");
    world.augur(&["model", "build", "vit", "--miniature", "-o", file]).expect(0);
    for (model, name) in [("resnet18", "resnet18"), (file, "tiny")] {
        let rows = trained.predict(&["--model", model, "--devices", "GPU A", "--format", "json"]).json();
        let latency = &rows[0];
        assert_eq!((latency["model"].as_str(), latency["novelty"].as_str()), (Some(name), Some("model")), "{latency}");
        assert!(latency["predicted"].as_f64().is_some_and(|value| value > 0.0), "{latency}");
    }
}

#[test]
fn several_models_make_a_matrix_and_a_heatmap() {
    let trained = Trained::new();
    let plot = trained.world.path("m.svg");
    let plot_name = plot.display().to_string();
    let ask = ["--model", "net3,resnet18,net12", "--devices", "GPU A,GPU B", "--metrics", "latency_ms"];
    let rows = trained.predict(&[&ask[..], &["--batch-sizes", "4,4096", "--format", "json"]].concat()).json();
    let found: Vec<_> = rows.as_array().expect("a list").iter().map(|row| text(row, "model")).collect();
    assert_eq!(found, [["net3"; 4], ["resnet18"; 4], ["net12"; 4]].concat());
    assert_eq!(text(&rows[1], "device"), "GPU A");
    let matrix = trained.predict(&[&ask[..], &["--batch-sizes", "4,4096", "--plot", &plot_name]].concat()).expect(0);
    let lines: Vec<&str> = matrix.lines().collect();
    assert!(lines[1].contains("GPU A") && lines[1].contains("GPU B"), "{matrix}");
    assert!(lines.iter().any(|line| line.contains("net12 batch 4096") && line.contains("does not fit")), "{matrix}");
    let svg = std::fs::read_to_string(&plot).expect("drawn");
    assert!(
        svg.contains("Predicted latency") && svg.contains("does not fit") && svg.contains("net12 batch 4"),
        "{svg}"
    );
    // One device leaves the columns to the batch sizes.
    let ask = ["--model", "net3,net12", "--devices", "GPU A", "--batch-sizes", "1,4", "--metrics", "latency_ms"];
    let matrix = trained.predict(&ask).expect(0);
    assert!(matrix.contains("batch 1") && matrix.contains("batch 4") && matrix.contains("GPU A"), "{matrix}");

    let unknown = trained.predict(&["--model", "net3,nett4", "--devices", "GPU A"]);
    assert!(unknown.stderr.contains("no model is named `nett4`; near it are `net4`"), "{}", unknown.stderr);
    unknown.expect(2);
    let twice = trained.predict(&["--model", "net3,net4,net3", "--devices", "GPU A"]);
    assert!(twice.stderr.contains("two models of the question are named `net3`"), "{}", twice.stderr);
    twice.expect(2);
}

#[test]
fn training_is_derived_from_inference_and_physics() {
    let trained = Trained::new();
    let world = &trained.world;
    let ask =
        ["recommend", "hardware", "--model", "net3", "--batch-size", "4", "--available", "GPU B", "--format", "json"];
    let inference = world.augur(&ask).json();
    let training = world.augur(&[&ask[..], &["--task", "training"]].concat()).json();
    assert_eq!((text(&inference, "task"), text(&training, "task")), ("inference", "training"));
    assert!(training["notes"][0].as_str().is_some_and(|note| note.contains("nothing was measured of training")));
    assert_eq!(inference["notes"], serde_json::json!([]));
    let number = |answer: &serde_json::Value, metric: &str, key: &str| {
        answer["ranked"][0][metric][key].as_f64().unwrap_or_else(|| panic!("no {metric} {key}: {answer}"))
    };
    let ratio = |metric, key| number(&training, metric, key) / number(&inference, metric, key);
    assert!((ratio("latency_ms", "value") - 3.0).abs() < 1e-9, "{training}");
    assert!((ratio("throughput_items_per_second", "value") - 1.0 / 3.0).abs() < 1e-9, "{training}");
    let ends =
        ["lower", "upper"].map(|key| number(&training, "latency_ms", key) / number(&inference, "latency_ms", "value"));
    assert!(ends[0] <= 2.7 && ends[1] >= 7.2, "wider than the ratio alone: {training}");
    assert!(training["ranked"][0]["latency_ms"]["confidence"].is_null(), "{training}");
    // 160 MB for 10 million parameters; half of 12 million elements, and the gradients of an operator of 22 million, in 4 bytes each.
    let memory = ["lower", "upper"].map(|key| number(&training, "memory_peak_mb", key));
    assert_eq!(format!("{memory:.1?}"), "[184.0, 272.0]");
    let small = world.augur(&[&ask[..], &["--task", "training", "--max-memory-mb", "200"]].concat());
    assert!(small.stdout.contains("predicted memory of 223.7 MB (184.0 – 272.0) exceeds 200 MB"), "{}", small.stdout);
    small.expect(1);
    let whole = world.augur(&[&ask[..], &["--task", "training", "--precision", "int8"]].concat());
    assert!(whole.stdout.contains("training in int8 is unavailable, because"), "{}", whole.stdout);
    whole.expect(1);
}

#[test]
fn wrong_questions_are_answered_with_what_is_possible() {
    let trained = Trained::new();
    let check = |arguments: &[&str], expected: &str| {
        let answer = trained.predict(arguments);
        assert!(answer.stderr.contains(expected), "{}", answer.stderr);
        answer.expect(2);
    };
    check(&["--model", "nett3", "--devices", "GPU A"], "no model is named `nett3`; near it are `net3`");
    check(&["--model", "net3", "--devices", "GPU D"], "no device is named `GPU D`; near it are `GPU A`");
    check(&["--model", "net3"], "this release was trained on `GPU A`, `GPU B`, `GPU C`");
    check(
        &["--model", "net3", "--devices", "GPU A", "--metrics", "power_w"],
        "`power_w` was never trained; this release has latency_ms, throughput_items_per_second, memory_peak_mb",
    );
    check(&["--model", "net12", "--devices", "GPU A", "--batch-sizes", "4096"], "does not fit: its predicted peak is");
    // With one that fits, the other is named and left empty.
    let both =
        trained.predict(&["--model", "net12", "--devices", "GPU A", "--batch-sizes", "1,4096", "--format", "json"]);
    assert!(both.stderr.contains("batch 4096") && both.stderr.contains("does not fit"), "{}", both.stderr);
    let rows = both.json();
    let of = |batch_size: u64| {
        let rows = rows.as_array().expect("a list").iter();
        rows.clone()
            .find(|row| row["metric"] == "latency_ms" && row["batch_size"] == batch_size)
            .expect("asked")
            .clone()
    };
    assert!(of(1)["predicted"].is_f64() && of(4096)["predicted"].is_null() && of(4096)["impossible"].is_string());
}

#[test]
fn a_release_of_another_schema_is_refused_with_the_remedy() {
    let trained = Trained::new();
    let path = trained.world.path("state").join("releases").join(&trained.release).join("manifest.json");
    let manifest = std::fs::read_to_string(&path).expect("read");
    let schema = "\"feature_schema\": \"";
    let at = manifest.find(schema).expect("named") + schema.len();
    std::fs::write(&path, format!("{}0000000000000000{}", &manifest[..at], &manifest[at + 16..])).expect("written");
    let answer = trained.predict(&["--model", "net3", "--devices", "GPU A"]);
    assert!(answer.stderr.contains("was trained on feature schema 0000000000000000"), "{}", answer.stderr);
    assert!(answer.stderr.contains("train a new release"), "{}", answer.stderr);
    answer.expect(2);
}

#[test]
fn a_metric_that_nobody_measured_cannot_be_trained() {
    let world = World::bare("amqp://127.0.0.1:1/%2f", None);
    let input = world.write("t.csv", &table());
    let answer = world.augur(&["predictor", "train", "--input", &input, "--metrics", "power_w"]);
    assert!(answer.stderr.contains("no row of the table has `power_w`"), "{}", answer.stderr);
    answer.expect(2);
}

#[test]
fn a_database_of_our_own_jobs_trains_a_release() {
    let world = World::bare("amqp://127.0.0.1:1/%2f", None);
    let path = world.path("own.duckdb");
    let results: Vec<store::Record> = (0..40).map(|number| store::Record::Result(Box::new(measured(number)))).collect();
    store::Store::open(&path).expect("a database").commit(&results, None, store::OutboxMode::Skip).expect("stored");
    let db = path.to_str().expect("text");
    let answer = world.augur(&["predictor", "train", "--db", db, "--metrics", "latency_ms", "--format", "json"]);
    assert!(answer.stderr.contains("40 accepted measurements"), "{}", answer.stderr);
    let line = answer.json();
    assert_eq!((line["training_rows"].as_u64(), line["models"].as_u64()), (Some(40), Some(5)));
    let rows =
        world.augur(&["predictor", "predict", "--model", "own2", "--devices", "Test CPU 8-Core", "--format", "json"]);
    let latency = rows.json()[0].clone();
    assert_eq!((latency["novelty"].as_str(), latency["precision"].as_str()), (Some("configuration"), Some("fp32")));
    world.augur(&["predictor", "train", "--db", "/nowhere.duckdb"]).expect(2);
    let features = world.path("f.parquet");
    let extract = ["feature", "extract", "--db", db, "--output", features.to_str().expect("text")];
    let extracted = world.augur(&extract);
    assert!(extracted.stderr.contains("40 rows of"), "{}", extracted.stderr);
    extracted.expect(0);
}

/// The result of a benchmark of one of five models that differ in size.
fn measured(number: u32) -> messages::JobResult {
    use messages::{JobSpec, LatencySummary, Outcome};
    let (size, batch_size) = (1 + number % 5, 1 + number / 5);
    let mut result = testkit::builders::job_result();
    result.job.job_id = testkit::builders::job_id(u64::from(number));
    if let JobSpec::Benchmark(spec) = &mut result.job.spec {
        spec.configuration.model = testkit::builders::model(&format!("own{size}"));
        spec.configuration.batch_size = batch_size;
    }
    if let Outcome::Benchmark(outcome) = &mut result.outcome {
        let latency_ms = f64::from(size * batch_size) * 3.0;
        outcome.latency_ms = LatencySummary::from_iterations(vec![latency_ms; 3]).expect("positive");
        outcome.throughput_items_per_second = f64::from(batch_size) * 1e3 / latency_ms;
        for operator in &mut outcome.costs.operators {
            // Four times fewer than the device can do in that time, so that none counts as impossible.
            operator.macs = operator.macs / 100 * u64::from(size * batch_size);
        }
    }
    result
}
