//! A few measurements of a new device, through the command line: trained beside many of others, asked about the rest.

#[path = "../crates/predictors/tests/shared_tables/mod.rs"]
mod shared_tables;
mod support;

use std::{collections::BTreeMap, fmt::Write as _};

use features::MeasuredRow;

use crate::support::{World, text};

/// The device that is new, and one way of running models there, so that a single question is about many of them.
const NEW: &str = "NVIDIA GeForce RTX 5090";
const WAY: [&str; 6] = ["--compiler", "eager", "--backend-version", "2.9.1", "--layout", "nchw"];
/// Every so many models are taken, so that a training takes seconds.
const STEP: usize = 8;

/// A table of published measurements: all of three devices and a few of the new one, and the rest of that, to be asked
/// about.
struct Split {
    world: World,
    beside: Vec<String>,
    known: Vec<MeasuredRow>,
    new: Vec<MeasuredRow>,
}

/// What came of asking about rows that were not trained on.
#[derive(Debug)]
struct Outcome {
    mape_pct: f64,
    coverage_pct: f64,
    rows: usize,
}

impl Split {
    fn new() -> Option<Self> {
        let folder = shared_tables::folder("timm")?;
        let tables = shared_tables::every(STEP)?;
        let file = |name: &str| folder.join(name).display().to_string();
        let beside =
            ["--devices".to_owned(), file("devices.csv"), "--operators".to_owned(), file("operators.jsonl.gz")];
        let (mut new, known): (Vec<_>, Vec<_>) = tables.rows.into_iter().partition(|row| row.device == NEW);
        // Random, and the same every time.
        fastrand::Rng::with_seed(3).shuffle(&mut new);
        Some(Self { world: World::bare("amqp://127.0.0.1:1/%2f", None), beside: beside.to_vec(), known, new })
    }

    /// Trains on the known devices and `shots` rows of the new one; returns what `predictor train` says.
    fn train(&self, shots: usize, more: &[&str]) -> serde_json::Value {
        let input = self.world.write("training.csv", &csv(self.known.iter().chain(&self.new[..shots])));
        let mut arguments = vec!["predictor", "train", "--input", &input, "--learner", "gradient-boosting"];
        arguments.extend(self.beside.iter().map(String::as_str));
        arguments.extend(["--metrics", "latency_ms", "--format", "json"]);
        self.world.augur(&[&arguments[..], more].concat()).json()
    }

    /// Asks the current release about the rows of the new device behind the first `shots` that were run in one way.
    fn ask(&self, shots: usize, check: impl Fn(&serde_json::Value)) -> Outcome {
        let mut alike: BTreeMap<(u64, u64), BTreeMap<&str, f64>> = BTreeMap::new();
        let is_this_way = |row: &&MeasuredRow| {
            (row.compiler.as_deref(), row.backend_version.as_deref()) == (Some("eager"), Some("2.9.1"))
        };
        for row in self.new[shots..].iter().filter(is_this_way) {
            let sizes = (row.batch_size.to_bits(), row.image_size.expect("timm has sizes").to_bits());
            alike.entry(sizes).or_default().insert(&row.model, row.latency_ms.expect("measured"));
        }
        let (mut errors, mut inside) = (Vec::new(), 0);
        for ((batch, image), truths) in alike.iter().filter(|(_, truths)| truths.len() >= 2) {
            let models = truths.keys().copied().collect::<Vec<_>>().join(",");
            let [batch, image] = [*batch, *image].map(|bits| f64::from_bits(bits).to_string());
            let sizes = ["--batch-sizes", &batch, "--image-size", &image, "--format", "json"];
            let ask = ["predictor", "predict", "--devices", NEW, "--metrics", "latency_ms", "--model", &models];
            let rows = self.world.augur(&[&ask[..], &WAY, &sizes].concat()).json();
            for row in rows.as_array().expect("a list") {
                let number = |key: &str| row[key].as_f64().unwrap_or_else(|| panic!("no number `{key}` in {row:#}"));
                let truth = truths[text(row, "model")];
                errors.push(100.0 * (number("predicted") / truth - 1.0).abs());
                inside += usize::from((number("lower")..=number("upper")).contains(&truth));
                check(row);
            }
        }
        let rows = errors.len();
        let mape_pct = errors.iter().sum::<f64>() / rows as f64;
        Outcome { mape_pct, coverage_pct: 100.0 * inside as f64 / rows as f64, rows }
    }
}

fn csv<'a>(rows: impl Iterator<Item = &'a MeasuredRow>) -> String {
    let mut csv =
        "model,family,device,platform,backend,backend_version,compiler,precision,layout,batch_size,image_size,\
                   params_m,gmacs,activations_m,latency_ms\n"
            .to_owned();
    for row in rows {
        let words = [&row.platform, &row.backend, &row.backend_version, &row.compiler, &row.precision, &row.layout];
        let words = words.map(|word| word.as_deref().unwrap_or_default()).join(",");
        let numbers =
            [Some(row.batch_size), row.image_size, row.params_m, row.gmacs, row.activations_m, row.latency_ms];
        let numbers = numbers.map(|number| number.map_or_else(String::new, |number| number.to_string())).join(",");
        let family = row.family.as_deref().unwrap_or_default();
        writeln!(csv, "{},{family},{},{words},{numbers}", row.model, row.device).expect("text");
    }
    csv
}

#[test]
fn a_few_measurements_of_a_new_device_correct_what_is_predicted_there() {
    let Some(split) = Split::new() else { return };
    let few = |row: &serde_json::Value, shots: usize| {
        assert_eq!((text(row, "novelty"), row["shots"].as_u64()), ("few-shot", Some(shots as u64)), "{row:#}");
        assert_eq!(
            (row["known_device"].as_bool(), row["interval_rests_on"].as_u64()),
            (Some(true), Some(2)),
            "{row:#}"
        );
    };
    let mut errors = BTreeMap::new();
    // An eighth of the table; the whole gives 8 to 10 % under `evaluate --protocol few-shot`, more shots less.
    for (shots, mape_max_pct) in [(5, 18.0), (20, 14.0), (10, 16.0)] {
        let line = split.train(shots, &[]);
        let expected = serde_json::json!([{"metric": "latency_ms", "device": NEW, "shots": shots}]);
        assert_eq!(line["few_shots"], expected, "{line:#}");
        let outcome = split.ask(shots, |row| few(row, shots));
        eprintln!("{shots} shots: {outcome:?}");
        assert!(outcome.rows > 50 && outcome.mape_pct < mape_max_pct, "{shots} shots: {outcome:?}");
        assert!((80.0..=100.0).contains(&outcome.coverage_pct), "{shots} shots: {outcome:?}");
        errors.insert(shots, outcome);
    }
    check_what_is_said(&split);
    // Taken for those of a known device, the same measurements err more and promise far too much.
    split.train(10, &["--few-shot-below", "0"]);
    let known = split.ask(10, |row| assert!(row["shots"].is_null(), "{row:#}"));
    let few = &errors[&10];
    eprintln!("10 rows of a known device: {known:?}");
    assert!(few.mape_pct < known.mape_pct && known.coverage_pct < few.coverage_pct - 10.0, "{few:?} {known:?}");
}

/// What is said of the new device by the current release, which knows 10 measurements of it.
fn check_what_is_said(split: &Split) {
    let world = &split.world;
    let shown = world.augur(&["predictor", "show"]);
    let said = format!("{NEW}: predicted in latency_ms as if it were new, corrected by its 10 measurements");
    assert!(shown.stderr.contains(&said), "{}", shown.stderr);
    assert!(shown.expect(0).contains("devices hardly measured"));
    let model = split.new[0].model.as_str();
    let asked = world.augur(&["predictor", "predict", "--model", model, "--devices", NEW, "--batch-sizes", "64"]);
    for said in ["as if it were new, corrected by its 10 measurements", "of a hardly measured device rest on 2 devices"]
    {
        assert!(asked.stderr.contains(said), "`{said}` is not in {}", asked.stderr);
    }
    asked.expect(0);
    let ranked = world.augur(&["recommend", "hardware", "--model", model, "--batch-size", "64", "--format", "json"]);
    assert!(ranked.expect(0).contains("only 10 measurements of this device are known"));

    // A release of the form before this one is refused, with the remedy.
    let release = text(&world.augur(&["predictor", "show", "--format", "json"]).json(), "release").to_owned();
    let path = world.path("state").join("releases").join(release).join("manifest.json");
    let manifest = std::fs::read_to_string(&path).expect("read");
    let older = manifest.replace("\"format_version\": 6", "\"format_version\": 5");
    std::fs::write(&path, older).expect("written");
    let refused = world.augur(&["predictor", "predict", "--model", model, "--devices", NEW]);
    assert!(refused.stderr.contains("has format version 5; this Augur reads 6: train a new release"), "{refused:?}");
    refused.expect(2);
    std::fs::write(&path, manifest).expect("written");
}
