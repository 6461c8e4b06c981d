//! Every kind of network that the zoo has, small, in every precision, in the real ONNX Runtime: it is measured, its
//! outputs are finite, and those of narrower formats are near those of fp32.

mod support;

use std::{borrow::Cow, path::Path};

use graphs::{ConcreteInput, Dim, ElementType, MINIATURES, OnnxModel, Shape};
use messages::{Backend, BenchmarkSpec, Configuration, FailureKind, JobSpec, ModelRef, Outcome, Platform, Precision};
use ort::{
    environment::Environment,
    session::{Session, SessionInputValue},
    value::{DynValue, Tensor},
};
use runner::{Runner, RunnerSettings};
use support::{Workplace, failed, job};
use tokio_util::sync::CancellationToken;

/// Largest distance that outputs may have from those of fp32, as a share of the latter's root mean square.
///
/// Half precision keeps 11 bits, of which a few layers lose some: 0.2 % is usual. T5 loses 1.3 % in ONNX Runtime 1.31.1,
/// but only at its highest level of optimisation, and 0.08 % in 1.32.0. 8-bit weights and activations keep 7 and 8, 4-bit
/// weights 3 and a sign: random weights have no structure that would make up for it.
fn tolerance(precision: Precision) -> f64 {
    match precision {
        Precision::Fp32 => 0.0,
        Precision::Fp16 => 0.02,
        Precision::Int8 => 0.1,
        Precision::Int4 => 0.45,
    }
}

/// A shape that the miniature takes: short and small.
fn shape(model: &OnnxModel, kind: &str) -> Shape {
    let has = |part: &str| {
        let mut dims = model.inputs().iter().flat_map(|input| &input.dims);
        dims.any(|dim| matches!(dim, Dim::Symbol(name) if name.contains(part)))
    };
    let sequence_length = if kind == "wav2vec2" { 4_000 } else { 12 };
    Shape {
        batch_size: 2,
        sequence_length: has("sequence").then_some(sequence_length),
        image_size: has("height").then_some(64),
    }
}

/// The same values in every precision: small waves, or integers below the bound.
fn tensor(input: &ConcreteInput) -> DynValue {
    let count: usize = input.dims.iter().product();
    let shape: Vec<i64> = input.dims.iter().map(|dim| i64::try_from(*dim).expect("small")).collect();
    match input.element {
        ElementType::Float32 => {
            let values: Vec<f32> = (0..count).map(|index| (index as f32 * 0.37).sin()).collect();
            Tensor::from_array((shape, values)).expect("a tensor").into_dyn()
        }
        ElementType::Int64 => {
            // Masks see everything.
            let values: Vec<i64> = match input.value_max {
                2 => vec![1; count],
                max => (0..count as u64).map(|index| i64::try_from(index * 37 % max).expect("small")).collect(),
            };
            Tensor::from_array((shape, values)).expect("a tensor").into_dyn()
        }
        other => panic!("no zoo model takes {other:?}"),
    }
}

/// Every output of the model at `path`, one after the other.
fn outputs(environment: &Environment, path: &Path, shape: &Shape) -> Vec<Vec<f32>> {
    let model = OnnxModel::read(path).expect("a model");
    let inputs = model.concrete_inputs(shape).expect("inputs");
    let tensors: Vec<_> = inputs.iter().map(|input| (input.name.clone(), tensor(input))).collect();
    let mut builder = Session::builder(environment).expect("a session").with_intra_threads(1).expect("one thread");
    let mut session = builder.commit_from_file(path).expect("ONNX Runtime takes the file");
    let views: Vec<(Cow<'_, str>, SessionInputValue<'_>)> =
        tensors.iter().map(|(name, tensor)| (Cow::Borrowed(name.as_str()), tensor.into())).collect();
    let found = session.run(views).expect("it runs");
    found.iter().map(|(_, value)| value.try_extract_tensor::<f32>().expect("floats").1.to_vec()).collect()
}

/// Root of the mean square of the differences, over that of `expected`.
fn distance(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let square = |values: &mut dyn Iterator<Item = f32>| values.map(|value| f64::from(value).powi(2)).sum::<f64>();
    let differences = square(&mut found.iter().zip(expected).map(|(found, expected)| found - expected));
    (differences / square(&mut expected.iter().copied()).max(f64::MIN_POSITIVE)).sqrt()
}

#[test]
fn outputs_are_finite_and_near_those_of_single_precision() {
    let workplace = Workplace::new();
    let library = workplace.settings().onnxruntime_library.expect("AUGUR_ONNXRUNTIME_LIBRARY is set");
    let environment = ort::init_from(library).expect("it loads").with_telemetry(false).build().expect("it starts");
    let mut misses = Vec::new();
    for kind in MINIATURES {
        let mut single: Vec<Vec<f32>> = Vec::new();
        for precision in [Precision::Fp32, Precision::Fp16, Precision::Int8, Precision::Int4] {
            let path = workplace.directory.path().join(format!("{kind}-{precision}.onnx"));
            graphs::build_miniature(kind, precision, &path).expect("built");
            let model = OnnxModel::read(&path).expect("a model");
            let found = outputs(&environment, &path, &shape(&model, kind));
            assert!(found.iter().flatten().all(|value| value.is_finite()), "{kind} {precision}");
            assert!(found.iter().all(|output| output.iter().any(|value| *value != 0.0)), "{kind} {precision}");
            if precision == Precision::Fp32 {
                single = found;
                continue;
            }
            for (index, (found, expected)) in found.iter().zip(&single).enumerate() {
                let distance = distance(found, expected);
                eprintln!("{kind} {precision} output {index}: {distance:.4}");
                if distance == 0.0 || distance > tolerance(precision) {
                    misses.push(format!("{kind} {precision} output {index}: {distance}"));
                }
            }
        }
    }
    assert!(misses.is_empty(), "{misses:#?}");
}

fn spec(model: ModelRef, precision: Precision, shape: Shape) -> BenchmarkSpec {
    let configuration = Configuration {
        model,
        platform: Platform::Cpu,
        backend: Backend::Onnxruntime,
        precision,
        batch_size: shape.batch_size,
        sequence_length: shape.sequence_length,
        image_size: shape.image_size,
        threads: 1,
        browser: None,
    };
    BenchmarkSpec { warmup_iterations: 1, iterations_min: 3, iterations_max: 3, ..BenchmarkSpec::usual(configuration) }
}

/// Runs a benchmark of the registered `model`.
async fn run(settings: &RunnerSettings, spec: BenchmarkSpec) -> runner::Execution {
    let job = job(JobSpec::Benchmark(Box::new(spec)));
    Runner::new(settings.clone(), support::processor()).run(&job, &CancellationToken::new()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_is_measured() {
    let workplace = Workplace::new();
    let settings = workplace.settings();
    for kind in MINIATURES {
        let path = workplace.directory.path().join("model.onnx");
        graphs::build_miniature(kind, Precision::Fp32, &path).expect("built");
        let registered = settings.models.register(&format!("miniature-{kind}"), &path).expect("registered");
        let shape = shape(&OnnxModel::read(&path).expect("a model"), kind);
        match run(&settings, spec(registered.model, Precision::Fp32, shape)).await.outcome {
            Outcome::Benchmark(outcome) => {
                let latencies = &outcome.latency_ms.iterations;
                assert!(latencies.iter().all(|ms| ms.is_finite() && *ms > 0.0), "{kind}: {latencies:?}");
                let memory = outcome.costs.memory.expect("the graph was read");
                assert!(memory.weight_bytes > 0 && memory.activation_peak_bytes >= memory.activation_max_bytes);
            }
            other => panic!("{kind}: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zoo_model_is_measured_in_every_precision() {
    let workplace = Workplace::new();
    let settings = workplace.settings();
    let shape = Shape { batch_size: 1, sequence_length: Some(16), image_size: None };
    for precision in Precision::ALL {
        let cached = settings.models.obtain("bert-tiny", *precision).expect("the zoo builds it");
        // A worker elsewhere has no such file yet and builds it.
        std::fs::remove_file(&cached.path).expect("removed");
        match run(&settings, spec(cached.model.clone(), *precision, shape)).await.outcome {
            Outcome::Benchmark(outcome) => assert!(outcome.latency_ms.p50 > 0.0),
            other => panic!("{precision}: {other:?}"),
        }
        assert!(cached.path.exists(), "{precision}");
    }
}

#[tokio::test]
async fn a_registered_file_is_measured_in_its_own_precision_only() {
    let workplace = Workplace::new();
    let settings = workplace.settings();
    let path = workplace.directory.path().join("model.onnx");
    graphs::build_miniature("bert", Precision::Fp16, &path).expect("built");
    let model = settings.models.register("mine", &path).expect("registered").model;
    let shape = Shape { batch_size: 1, sequence_length: Some(8), image_size: None };
    let failure = failed(run(&settings, spec(model.clone(), Precision::Int8, shape)).await);
    let expected = "model `mine` computes in fp16, not int8; register its int8 form under a name of its own";
    assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Unavailable, expected));
    let error = settings.models.obtain("mine", Precision::Fp32).expect_err("refused where it is submitted, too");
    assert!(error.to_string().starts_with("model `mine` computes in fp16, not fp32"), "{error}");
    assert!(matches!(run(&settings, spec(model, Precision::Fp16, shape)).await.outcome, Outcome::Benchmark(_)));
}
