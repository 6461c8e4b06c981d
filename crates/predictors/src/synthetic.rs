//! Made-up measurements for tests of logic: physics times a smooth efficiency, with a little noise.

use features::{FeatureFrame, OwnTables, Subject};
use messages::{
    AcceptedMeasurement, Backend, Configuration, ContentHash, Device, GraphCosts, JobId, Metric, ModelRef,
    OperatorCost, OperatorKind, Platform, Precision, RunId, Timestamp,
};

use crate::{PredictorError, Predictors, TrainSettings};

/// Subject of a made-up model: the larger its number, the larger it is and the more of it is depthwise.
pub(crate) fn subject(model: u8, batch_size: u32, threads: u32) -> Subject {
    let (size, batch) = (u64::from(model) + 1, u64::from(batch_size));
    let operator = |kind, macs: u64, elements: u64, weight_elements, count| OperatorCost {
        kind,
        macs: macs * batch,
        activation_elements: elements * batch,
        weight_elements,
        kernel_size: 3,
        count,
    };
    Subject {
        configuration: Configuration {
            model: ModelRef { name: format!("model-{model}"), sha256: ContentHash([model; 32]) },
            platform: Platform::Cpu,
            backend: Backend::Onnxruntime,
            precision: Precision::Fp32,
            batch_size,
            sequence_length: None,
            image_size: Some(224),
            threads,
            browser: None,
        },
        device: Device {
            compute_units: Some(4),
            peak_fp32_gflops: Some(200.0),
            memory_bandwidth_gb_per_s: Some(20.0),
            ..Device::unknown("Test CPU", Platform::Cpu)
        },
        costs: GraphCosts {
            parameters: 1_000_000 * size,
            operators: vec![
                operator(OperatorKind::Conv, 100_000_000, 500_000, 500_000, 4),
                operator(OperatorKind::Dw, 5_000_000 * size, 1_000_000, 10_000, 2 * u32::from(model)),
                operator(OperatorKind::Act, 0, 800_000, 0, 5),
            ],
            memory: None,
        },
    }
}

/// A measurement of a subject, its efficiency a smooth function of what the features see, times the noise.
pub(crate) fn measurement(subject: Subject, noise: f64) -> AcceptedMeasurement {
    let OwnTables { rows, devices, operators } = OwnTables::asked(std::slice::from_ref(&subject));
    let physics = FeatureFrame::build(&rows, &devices, &operators).expect("described");
    let depthwise = subject.costs.operators[1].macs as f64 / subject.costs.macs() as f64;
    let configuration = &subject.configuration;
    let slowdown = 1.4 + depthwise + 0.8 / f64::from(configuration.batch_size) + 0.1 * f64::from(configuration.threads);
    let latency_ms = physics.base(Metric::LatencyMs)[0] * slowdown * noise;
    AcceptedMeasurement {
        job_id: JobId::new(),
        run_id: RunId::new(),
        measured_at: Timestamp::from_micros(1_700_000_000_000_000),
        backend_version: "1".to_owned(),
        iterations: 10,
        latency_ms,
        throughput_items_per_second: f64::from(configuration.batch_size) * 1e3 / latency_ms,
        memory_peak_mb: Some(60.0 + 1.3 * physics.base(Metric::MemoryPeakMb)[0] * noise),
        power_w: None,
        load_ms: 10.0,
        configuration: subject.configuration,
        device: subject.device,
        costs: subject.costs,
    }
}

/// Every combination of models, batch sizes 1, 2, 4, 8 and threads 1, 2, 4, with noise of up to 2 %.
pub(crate) fn measurements(models: std::ops::Range<u8>) -> Vec<AcceptedMeasurement> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut rows = Vec::new();
    for model in models {
        for batch_size in [1, 2, 4, 8] {
            for threads in [1, 2, 4] {
                rows.push(measurement(subject(model, batch_size, threads), 0.98 + 0.04 * random.f64()));
            }
        }
    }
    rows
}

/// Trains every metric that enough configurations have, as the updater does.
pub(crate) fn train(rows: &[AcceptedMeasurement], settings: &TrainSettings) -> Result<Predictors, PredictorError> {
    let OwnTables { rows, devices, operators } = OwnTables::of(rows, |_| None);
    let metrics = Predictors::trainable(&rows);
    let metrics = if metrics.is_empty() { vec![Metric::LatencyMs] } else { metrics };
    Predictors::train(rows, &devices, &operators, &metrics, settings, |_| ())
}
