//! Predictions per second, one at a time and many at once, and what their features alone cost.
//!
//! The predictors have the default number of boosters and trees, trained on made-up measurements: the time of a
//! prediction depends on their number and depth, not on what they learned.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, Throughput};
use features::{FeatureFrame, Subject};
use messages::{AcceptedMeasurement, Configuration, GraphCosts, OperatorCost};
use predictors::{Predictors, TrainSettings};
use testkit::builders;

/// Subjects of a large batch.
const BATCH: usize = 10_000;
const MODELS: u32 = 8;
const BATCH_SIZES: [u32; 4] = [1, 2, 4, 8];
const THREADS: [u32; 3] = [1, 2, 4];

fn main() {
    let mut criterion = Criterion::default()
        .configure_from_args()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(5));
    let measurements = measurements();
    // Two folds instead of five train faster and leave the released boosters as they are.
    let settings = TrainSettings { folds: 2, ..TrainSettings::default() };
    let predictors = Predictors::train(&measurements, &settings).expect("enough measurements");
    let subjects: Vec<Subject> = measurements.iter().map(Subject::from).cycle().take(BATCH).collect();

    let mut group = criterion.benchmark_group("predict");
    // A different subject each time, as `augur predictor predict` and the learner ask.
    let mut one = subjects.chunks(1).cycle();
    let mut next = || one.next().expect("a cycle has no end");
    group.throughput(Throughput::Elements(1));
    group
        .bench_function("single", |bencher| bencher.iter(|| predictors.predict(black_box(next())).expect("described")));
    group.bench_function("features_single", |bencher| bencher.iter(|| features_of(black_box(next()))));
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("batch_10000", |bencher| {
        bencher.iter(|| predictors.predict(black_box(&subjects)).expect("described"));
    });
    group.bench_function("features_batch_10000", |bencher| bencher.iter(|| features_of(black_box(&subjects))));
    group.finish();
    criterion.final_summary();
}

fn features_of(subjects: &[Subject]) -> Vec<f32> {
    FeatureFrame::build(subjects).expect("described").to_matrix()
}

/// Every combination of models, batch sizes and threads, slower the larger it is.
fn measurements() -> Vec<AcceptedMeasurement> {
    let mut rows = Vec::new();
    for model in 1..=MODELS {
        for batch_size in BATCH_SIZES {
            for threads in THREADS {
                rows.push(measurement(model, batch_size, threads));
            }
        }
    }
    rows
}

/// A model `size` times as large as the sample one.
fn measurement(size: u32, batch_size: u32, threads: u32) -> AcceptedMeasurement {
    let sample = builders::accepted_measurement();
    let number = u64::from((size * 100 + batch_size) * 100 + threads);
    // The sample has batch 4; the smallest scale is a quarter of it.
    let scale = |operator: OperatorCost| OperatorCost {
        macs: operator.macs / 4 * u64::from(batch_size * size),
        activation_elements: operator.activation_elements / 4 * u64::from(batch_size),
        weight_elements: operator.weight_elements * u64::from(size),
        ..operator
    };
    let (work, threads_lost) = (f64::from(batch_size * size), 1.0 + 0.1 * f64::from(threads));
    let latency_ms = sample.latency_ms / 4.0 * work * threads_lost / f64::from(threads);
    AcceptedMeasurement {
        job_id: builders::job_id(number),
        latency_ms,
        throughput_items_per_second: f64::from(batch_size) * 1e3 / latency_ms,
        memory_peak_mb: Some(60.0 + 30.0 * f64::from(size) + 5.0 * work),
        configuration: Configuration {
            model: builders::model(&format!("model-{size}")),
            batch_size,
            threads,
            ..sample.configuration
        },
        costs: GraphCosts {
            parameters: sample.costs.parameters * u64::from(size),
            operators: sample.costs.operators.into_iter().map(scale).collect(),
            memory: None,
        },
        ..sample
    }
}
