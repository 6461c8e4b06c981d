//! Releases: what is saved answers as what was trained did, bit for bit.

mod shared_tables;

use std::fs;

use features::{DeviceTable, MeasuredRow, ModelOperators, OperatorTable, PublishedDevice};
use messages::{Metric, OperatorCost, OperatorKind, Timestamp};
use predictors::{
    Answer, Grouping, KnownJobs, Learner, MemoryFit, Novelty, PredictorError, Predictors, Provenance, Releases, Source,
    TrainSettings,
};

/// Few trees and folds, so that the test takes seconds.
const QUICK: TrainSettings = TrainSettings {
    learner: Learner::GradientBoosting,
    rounds: 40,
    ensemble: 2,
    folds: 3,
    few_shot_below: 50,
    threads: 2,
    seed: 1,
};

/// Convolutions of a made-up model, larger the larger its number.
fn operators_of(model: u32) -> ModelOperators {
    let size = u64::from(model);
    let operator = |kind, macs, activation_elements, weight_elements| OperatorCost {
        kind,
        macs,
        activation_elements,
        weight_elements,
        kernel_size: 3,
        count: 1 + model % 5,
    };
    ModelOperators {
        image_size: Some(224.0),
        sequence_length: None,
        activation_peak_elements: None,
        operators: vec![
            operator(OperatorKind::Conv, 100_000_000 * size, 2_000_000 * size, 100_000 * size),
            operator(OperatorKind::Act, 0, 1_000_000 * size, 0),
        ],
    }
}

struct Tables {
    rows: Vec<MeasuredRow>,
    devices: DeviceTable,
    operators: OperatorTable,
}

impl Tables {
    /// 20 models on three GPUs in three batch sizes: a smooth efficiency, memory in proportion, power below the limit.
    fn made_up() -> Self {
        let device = |tflops: f64, bandwidth: f64| PublishedDevice {
            platform: Some("cuda".to_owned()),
            fp32_tflops: Some(tflops),
            memory_bandwidth_gb_per_s: Some(bandwidth),
            memory_gb: Some(4.0),
            tdp_w: Some(tflops * 10.0),
            ..PublishedDevice::default()
        };
        let devices = DeviceTable::from([
            ("A".to_owned(), device(10.0, 300.0)),
            ("B".to_owned(), device(20.0, 500.0)),
            ("C".to_owned(), device(30.0, 900.0)),
            ("New".to_owned(), device(25.0, 700.0)),
        ]);
        let models = || 1..=20_u32;
        let operators = models().map(|model| (format!("m{model}"), vec![operators_of(model)])).collect();
        let mut rows = Vec::new();
        for model in models() {
            for (name, device) in devices.iter().filter(|(name, _)| *name != "New") {
                for batch_size in [8.0, 16.0, 32.0] {
                    let tflops = device.fp32_tflops.expect("given");
                    let work = f64::from(model) * batch_size;
                    let latency_ms = work / tflops * (1.5 + 0.3 * f64::from(model % 3) + 4.0 / batch_size);
                    rows.push(MeasuredRow {
                        model: format!("m{model}"),
                        family: Some(format!("f{}", model % 6)),
                        device: name.clone(),
                        platform: Some("cuda".to_owned()),
                        precision: Some("fp32".to_owned()),
                        batch_size,
                        image_size: Some(224.0),
                        latency_ms: Some(latency_ms),
                        memory_peak_mb: Some(100.0 + 9.0 * work),
                        power_w: (name != "C").then_some(tflops * 10.0 * (0.5 + 0.01 * f64::from(model))),
                        ..MeasuredRow::default()
                    });
                }
            }
        }
        Self { rows, devices, operators }
    }

    fn train(&self, metrics: &[Metric]) -> Predictors {
        Predictors::train(self.rows.clone(), &self.devices, &self.operators, metrics, &QUICK, |_| ()).expect("trained")
    }

    fn train_all(&self) -> Predictors {
        self.train(&Predictors::trainable(&self.rows))
    }
}

fn asked(model: &str, device: &str, batch_size: f64) -> MeasuredRow {
    MeasuredRow { model: model.to_owned(), device: device.to_owned(), batch_size, ..MeasuredRow::default() }
}

fn answers(predictors: &Predictors, tables: &Tables, rows: Vec<MeasuredRow>) -> Vec<Answer> {
    let questions = predictors.ask(rows, tables.devices.clone(), tables.operators.clone()).expect("asked");
    let metrics = predictors.metrics();
    metrics.into_iter().flat_map(|metric| predictors.predict(&questions, metric).expect("answered")).collect()
}

fn releases() -> (tempfile::TempDir, Releases) {
    let directory = tempfile::tempdir().expect("temporary directory");
    let releases = Releases::open(&directory.path().join("releases")).expect("opened");
    (directory, releases)
}

fn publish(releases: &Releases, predictors: &Predictors) -> messages::ReleaseId {
    let at = Timestamp::from_micros(1_700_000_000_123_456);
    let provenance = Provenance { source: Source::Tables, jobs: KnownJobs::default(), update: None };
    releases.publish(predictors, provenance, at, "0.1.0").expect("published").release_id
}

/// Asserts that a release answers as the predictors that it was made of, every bit.
fn check_same(predictors: &Predictors, tables: &Tables, rows: &[MeasuredRow]) {
    let (_directory, releases) = releases();
    let loaded = releases.load(&publish(&releases, predictors)).expect("loaded");
    let before = answers(predictors, tables, rows.to_vec());
    let after = answers(&loaded.predictors, tables, rows.to_vec());
    assert_eq!(before.len(), rows.len() * predictors.metrics().len());
    let bits = |answer: &Answer| [answer.value, answer.lower, answer.upper, answer.confidence].map(f64::to_bits);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before, after);
        assert_eq!(bits(before), bits(after));
    }
}

#[test]
fn a_loaded_release_answers_bit_for_bit_whatever_is_new() {
    let mut tables = Tables::made_up();
    let predictors = tables.train_all();
    assert_eq!(predictors.metrics(), features::TABLE_METRICS);
    tables.operators.insert("m99".to_owned(), vec![operators_of(9)]);
    let rows = [asked("m3", "A", 16.0), asked("m99", "B", 8.0), asked("m3", "New", 8.0), asked("m99", "New", 64.0)];
    check_same(&predictors, &tables, &rows);
    let found: Vec<Novelty> = answers(&predictors, &tables, rows.to_vec())[..4].iter().map(|a| a.novelty).collect();
    assert_eq!(found, [Novelty::Configuration, Novelty::Model, Novelty::Device, Novelty::Device]);
}

#[test]
fn a_release_of_a_part_of_timm_answers_bit_for_bit() {
    let Some(shared) = shared_tables::every(12) else { return };
    let tables = Tables { rows: shared.rows, devices: shared.devices, operators: shared.operators };
    let predictors = tables.train(&[Metric::LatencyMs]);
    let without =
        |row: &MeasuredRow| MeasuredRow { latency_ms: None, throughput_items_per_second: None, ..row.clone() };
    let rows: Vec<MeasuredRow> = tables.rows.iter().step_by(3).map(without).collect();
    check_same(&predictors, &tables, &rows);
    let questions = predictors.ask(rows, DeviceTable::new(), OperatorTable::new()).expect("asked");
    let fits = predictors.memory_fits(&questions).expect("answered");
    let refused = fits.iter().position(MemoryFit::is_too_large).map(|row| (&questions.rows()[row], fits[row]));
    assert!(refused.is_none(), "what was measured does not fit: {refused:?}");
}

#[test]
fn throughput_follows_from_latency_and_power_from_its_own_rows() {
    let tables = Tables::made_up();
    let predictors = tables.train_all();
    let found = answers(&predictors, &tables, vec![asked("m7", "B", 16.0)]);
    let [latency, throughput, memory, power] = &found[..] else { panic!("{found:?}") };
    for (latency_ms, per_second) in
        [(latency.value, throughput.value), (latency.lower, throughput.upper), (latency.upper, throughput.lower)]
    {
        assert!((latency_ms * per_second / 16e3 - 1.0).abs() < 1e-12, "{latency_ms} {per_second}");
    }
    let truth = &tables.rows.iter().find(|row| {
        (row.model.as_str(), row.device.as_str()) == ("m7", "B") && row.batch_size.to_bits() == 16_f64.to_bits()
    });
    let truth = truth.expect("measured");
    for (answer, measured) in [(latency, truth.latency_ms), (memory, truth.memory_peak_mb), (power, truth.power_w)] {
        let measured = measured.expect("measured");
        assert!((answer.value / measured - 1.0).abs() < 0.2, "{answer:?}, not {measured}");
        assert!(answer.lower < answer.value && answer.value < answer.upper && answer.confidence > 0.3, "{answer:?}");
    }
    // Power was not measured on C, so C is new to it, and not to latency.
    let on_c = answers(&predictors, &tables, vec![asked("m7", "C", 16.0)]);
    assert_eq!((on_c[0].novelty, on_c[3].novelty), (Novelty::Configuration, Novelty::Device));
}

#[test]
fn a_table_of_throughputs_alone_trains_latency() {
    let mut tables = Tables::made_up();
    for row in &mut tables.rows {
        row.throughput_items_per_second = row.latency_ms.take().map(|latency_ms| row.batch_size * 1e3 / latency_ms);
        (row.memory_peak_mb, row.power_w) = (None, None);
    }
    let predictors = tables.train_all();
    assert_eq!(predictors.metrics(), [Metric::LatencyMs, Metric::ThroughputItemsPerSecond]);
    let never = predictors.ask(vec![asked("m7", "B", 16.0)], DeviceTable::new(), OperatorTable::new()).expect("asked");
    let error = predictors.predict(&never, Metric::PowerW).expect_err("never trained").to_string();
    assert_eq!(error, "`power_w` was never trained; this release has latency_ms, throughput_items_per_second");
}

#[test]
fn outside_the_known_domain_it_says_so_and_widens() {
    let tables = Tables::made_up();
    let predictors = tables.train(&[Metric::LatencyMs]);
    let ask = |batch_size| {
        let row = asked("m7", "B", batch_size);
        let questions = predictors.ask(vec![row], DeviceTable::new(), OperatorTable::new()).expect("asked");
        let answer = predictors.predict(&questions, Metric::LatencyMs).expect("answered")[0];
        (questions.outside(0).to_vec(), answer.upper / answer.lower, answer.confidence)
    };
    let (inside, width, confidence) = ask(16.0);
    assert_eq!(inside, [""; 0]);
    let (outside, far_width, far_confidence) = ask(1024.0);
    assert_eq!(outside, ["batch size 1024: measured was 8 to 32"]);
    assert!(far_width > 2.0 * width && far_confidence < confidence, "{width} {far_width}");
}

#[test]
fn what_does_not_fit_is_known_with_memory_trained_and_without() {
    let tables = Tables::made_up();
    let row = || vec![asked("m20", "A", 16.0), asked("m20", "A", 512.0)];
    for metrics in [&[Metric::LatencyMs][..], &[Metric::LatencyMs, Metric::MemoryPeakMb]] {
        let predictors = tables.train(metrics);
        let questions = predictors.ask(row(), DeviceTable::new(), OperatorTable::new()).expect("asked");
        let fits = predictors.memory_fits(&questions).expect("answered");
        assert!(!fits[0].is_too_large() && fits[1].is_too_large(), "{fits:?}");
        assert_eq!(fits[1].device_mb, Some(4_000.0));
    }
}

#[test]
fn what_is_so_far_outside_that_its_interval_says_nothing_is_refused_by_its_graph() {
    let mut tables = Tables::made_up();
    for (index, row) in tables.rows.iter_mut().enumerate() {
        let scatter = [0.05, 1.0, 20.0][index / 3 % 3];
        row.memory_peak_mb = row.memory_peak_mb.map(|megabytes| megabytes * scatter);
    }
    let predictors = tables.train(&[Metric::LatencyMs, Metric::MemoryPeakMb]);
    let rows = vec![asked("m20", "A", 1e6)];
    let questions = predictors.ask(rows, DeviceTable::new(), OperatorTable::new()).expect("asked");
    let memory = predictors.predict(&questions, Metric::MemoryPeakMb).expect("answered")[0];
    assert!(memory.lower < 4_000.0, "the interval alone lets it run: {memory:?}");
    let fits = predictors.memory_fits(&questions).expect("answered");
    assert!(fits[0].is_too_large(), "{fits:?}");
}

#[test]
fn errors_are_said_by_what_was_new() {
    let predictors = Tables::made_up().train(&[Metric::LatencyMs]);
    let of = |metric, grouping| {
        let mut found =
            predictors.evaluation().iter().filter(|found| found.metric == metric && found.grouping == grouping);
        *found.next().expect("evaluated")
    };
    for metric in [Metric::LatencyMs, Metric::ThroughputItemsPerSecond] {
        let [configuration, model, device] =
            [Grouping::Configuration, Grouping::Model, Grouping::Device].map(|grouping| of(metric, grouping));
        assert_eq!([configuration.rows, model.rows, device.rows], [180; 3]);
        assert!(configuration.mape_pct < configuration.roofline_mape_pct, "{configuration:?}");
        for evaluation in [configuration, model] {
            assert!((80.0..=100.0).contains(&evaluation.interval_90_coverage_pct), "{evaluation:?}");
        }
    }
}

#[test]
fn a_release_says_what_it_learned_from_and_is_rolled_back() {
    let (_directory, releases) = releases();
    let predictors = Tables::made_up().train(&[Metric::LatencyMs]);
    assert!(matches!(releases.rollback(), Err(PredictorError::NothingBefore { current: None, .. })));
    let (first, second) = (publish(&releases, &predictors), publish(&releases, &predictors));
    assert_eq!(releases.rollback().expect("rolled back"), first);
    assert_eq!(releases.current_id().expect("readable"), Some(first.clone()));
    assert!(matches!(releases.rollback(), Err(PredictorError::NothingBefore { current: Some(_), .. })));
    let manifests = releases.list().expect("listed");
    let [manifest, child] = &manifests[..] else { panic!("{manifests:?}") };
    let (manifest, child) = (manifest.as_ref().expect("readable"), child.as_ref().expect("readable"));
    assert_eq!((&child.release_id, child.parent.as_ref()), (&second, Some(&first)));
    assert_eq!((manifest.source, manifest.models, manifest.settings), (Source::Tables, 20, QUICK));
    assert_eq!(
        (&manifest.metrics[..], &manifest.devices[..]),
        (&[Metric::LatencyMs][..], &["A", "B", "C"].map(str::to_owned)[..])
    );
}

#[test]
fn a_release_of_another_schema_or_a_damaged_one_is_refused() {
    let (directory, releases) = releases();
    let release = publish(&releases, &Tables::made_up().train(&[Metric::LatencyMs]));
    let path = directory.path().join("releases").join(release.as_str());
    let manifest = fs::read_to_string(path.join("manifest.json")).expect("read");
    let other = manifest.replace(&features::schema_id(), "0123456789abcdef");
    fs::write(path.join("manifest.json"), other).expect("written");
    let error = releases.load(&release).expect_err("another schema");
    assert!(matches!(&error, PredictorError::FeatureSchema { found, .. } if found == "0123456789abcdef"), "{error}");
    fs::write(path.join("manifest.json"), manifest).expect("written");
    let mut bytes = fs::read(path.join("latency_ms.cbor")).expect("read");
    *bytes.last_mut().expect("bytes") ^= 1;
    fs::write(path.join("latency_ms.cbor"), bytes).expect("written");
    let error = releases.load(&release).expect_err("changed").to_string();
    assert!(error.ends_with("is damaged: `latency_ms.cbor` is not what was published"), "{error}");
}
