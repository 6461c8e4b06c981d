//! Models in real browsers: outputs are those of the native ONNX Runtime, and a web job says where and on what it ran.
//!
//! Browsers and drivers must be installed (`make setup`): a missing one is a failure, not a skipped test.

mod support;

use std::{
    borrow::Cow,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use browsers::{
    BrowserSettings, Family, InputTensor, ModelFile, OutputTensor, Pool, PoolSettings, WebError, WebRequest,
};
use graphs::{ConcreteInput, ElementType, ModelCache, OnnxModel, Shape};
use messages::{
    Backend, BenchmarkSpec, Configuration, FailureKind, Job, JobSpec, ModelRef, Outcome, Platform, Precision, Priority,
    WebSpec,
};
use ort::{
    environment::Environment,
    session::{Session, SessionInputValue},
    value::{DynValue, Tensor},
};
use runner::{Charge, Execute, WebRunner};
use support::{Workplace, job};
use tokio_util::sync::CancellationToken;

/// Largest distance of an output of a browser from the native one: absolute below 1, relative above.
const TOLERANCE: f32 = 1e-4;

/// Small networks of unlike operators, with a shape that each takes.
const MODELS: [(&str, Shape); 3] = [
    ("bert", Shape { batch_size: 2, sequence_length: Some(12), image_size: None }),
    ("resnet", Shape { batch_size: 1, sequence_length: None, image_size: Some(64) }),
    ("gpt2", Shape { batch_size: 1, sequence_length: Some(8), image_size: None }),
];

/// Where a Chromium with a WebNN backend is, such as that of npm's `@sparticuz/chromium`; Debian's has none.
const WEBNN_BROWSER: &str = "WEBNN_BROWSER";
const WEBNN_NAME: &str = "webnn-chromium";

/// A pool of this machine's browsers.
async fn pool(directory: &Path) -> Pool {
    let cache = match std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()) {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache"),
    };
    let ort_web = std::env::var_os("AUGUR_ORT_WEB_DIRECTORY").map(PathBuf::from);
    let settings = PoolSettings {
        ort_web_directory: Some(ort_web.unwrap_or_else(|| cache.join("augur/lib/ort-web"))),
        tools_directory: Some(cache.join("augur/tools/bin")),
        ..PoolSettings::usual(directory.join("pool"))
    };
    let browsers = settings.browsers.iter().cloned().chain(webnn_browser()).collect();
    let settings = PoolSettings { browsers, ..settings };
    Pool::start(settings).await.expect("a pool; `make setup` installs what it needs")
}

/// The same values natively and in a browser: small waves, or integers below the bound.
fn values(input: &ConcreteInput) -> (InputTensor, DynValue) {
    let count: usize = input.dims.iter().product();
    let shape: Vec<i64> = input.dims.iter().map(|dim| i64::try_from(*dim).expect("small")).collect();
    let (element, bytes, tensor) = match input.element {
        ElementType::Float32 => {
            let values: Vec<f32> = (0..count).map(|index| (index as f32 * 0.37).sin()).collect();
            let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            ("float32", bytes, Tensor::from_array((shape, values)).expect("a tensor").into_dyn())
        }
        ElementType::Int64 => {
            let below = |max: u64| (0..count as u64).map(move |index| if max == 2 { 1 } else { index * 37 % max });
            let values: Vec<i64> = below(input.value_max).map(|value| i64::try_from(value).expect("small")).collect();
            let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            ("int64", bytes, Tensor::from_array((shape, values)).expect("a tensor").into_dyn())
        }
        other => panic!("none of the models takes {other:?}"),
    };
    (InputTensor { name: input.name.clone(), element: element.to_owned(), dims: input.dims.clone(), bytes }, tensor)
}

fn native(environment: &Environment, path: &Path, inputs: &[(String, DynValue)]) -> Vec<(String, Vec<f32>)> {
    let mut builder = Session::builder(environment).expect("a session").with_intra_threads(1).expect("one thread");
    let mut session = builder.commit_from_file(path).expect("ONNX Runtime takes the file");
    let views: Vec<(Cow<'_, str>, SessionInputValue<'_>)> =
        inputs.iter().map(|(name, tensor)| (Cow::Borrowed(name.as_str()), tensor.into())).collect();
    let found = session.run(views).expect("it runs");
    let floats = found
        .iter()
        .map(|(name, value)| (name.to_owned(), value.try_extract_tensor::<f32>().expect("floats").1.to_vec()));
    floats.collect()
}

fn floats(tensor: &OutputTensor) -> Vec<f32> {
    assert_eq!(tensor.element, "float32", "{}", tensor.name);
    tensor.bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four bytes"))).collect()
}

/// Says where the first output is that is too far from the native one.
fn compare(found: &[OutputTensor], expected: &[(String, Vec<f32>)]) -> Result<(), String> {
    for (name, expected) in expected {
        let output = found.iter().find(|output| output.name == *name).ok_or_else(|| format!("no output {name}"))?;
        let found = floats(output);
        if found.len() != expected.len() {
            return Err(format!("{name} has {} elements, not {}", found.len(), expected.len()));
        }
        let far = found.iter().zip(expected).position(|(found, expected)| {
            let distance = (found - expected).abs();
            distance.is_nan() || distance > TOLERANCE * expected.abs().max(1.0)
        });
        if let Some(at) = far {
            return Err(format!("{name}[{at}] is {}, not {}", found[at], expected[at]));
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outputs_are_those_of_the_native_runtime() {
    let workplace = Workplace::new();
    let library =
        PathBuf::from(std::env::var_os("AUGUR_ONNXRUNTIME_LIBRARY").expect("AUGUR_ONNXRUNTIME_LIBRARY is set"));
    let environment = ort::init_from(library).expect("it loads").with_telemetry(false).build().expect("it starts");
    let pool = pool(workplace.directory.path()).await;
    if webnn_browser().is_none() {
        // Not by a print macro: a test that passes shows none of those.
        let skipped = format!("skipped: WebNN, because {WEBNN_BROWSER} names no browser that has it\n");
        std::io::stderr().write_all(skipped.as_bytes()).expect("standard error");
    }
    let mut misses = Vec::new();
    for (kind, shape) in MODELS {
        let path = workplace.directory.path().join(format!("{kind}.onnx"));
        let sha256 = graphs::build_miniature(kind, Precision::Fp32, &path).expect("built");
        let inputs = OnnxModel::read(&path).and_then(|model| model.concrete_inputs(&shape)).expect("inputs");
        let (inputs, tensors): (Vec<InputTensor>, Vec<(String, DynValue)>) = inputs
            .iter()
            .map(|input| {
                let (given, tensor) = values(input);
                (given, (input.name.clone(), tensor))
            })
            .unzip();
        let expected = native(&environment, &path, &tensors);
        for (browser, platform) in places() {
            let request = WebRequest {
                model: ModelFile {
                    name: kind.to_owned(),
                    family: None,
                    sha256,
                    bytes: path.metadata().expect("a file").len(),
                    path: path.clone(),
                },
                inputs: inputs.clone(),
                platforms: vec![platform],
                browsers: vec![browser.to_owned()],
                precision: Precision::Fp32,
                threads: 1,
                warmup_iterations: 1,
                iterations_min: 1,
                iterations_max: 1,
                median_interval_pct: 5.0,
                duration_ms_max: 60_000,
                timeout: Duration::from_mins(2),
                memory_mb: None,
                priority: Priority::Normal,
                keep_outputs: true,
            };
            match pool.run(request, &CancellationToken::new(), &|_| {}).await {
                Ok(run) => {
                    assert_eq!((run.browser.as_str(), run.platform), (browser, platform));
                    if let Err(miss) = compare(&run.outputs, &expected) {
                        misses.push(format!("{kind} on {platform} in {browser}: {miss}; nodes {:?}", run.nodes));
                    }
                }
                // ONNX Runtime Web 1.30 gives none of the convolutions to WebNN, and the pool says so.
                Err(WebError::NotOnPlatform { .. }) if (kind, platform) == ("resnet", Platform::Webnn) => {}
                Err(error) => misses.push(format!("{kind} on {platform} in {browser}: {error}")),
            }
        }
    }
    pool.stop().await;
    assert!(misses.is_empty(), "{misses:#?}");
}

/// Every browser and platform that this machine must have, and WebNN where a browser has it.
fn places() -> impl Iterator<Item = (&'static str, Platform)> {
    let installed = ["chromium", "firefox"].into_iter();
    let installed = installed.flat_map(|browser| [(browser, Platform::Wasm), (browser, Platform::Webgpu)]);
    installed.chain(webnn_browser().map(|_| (WEBNN_NAME, Platform::Webnn)))
}

/// The Chromium with a WebNN backend that [`WEBNN_BROWSER`] names.
fn webnn_browser() -> Option<BrowserSettings> {
    Some(BrowserSettings {
        binary: Some(std::env::var_os(WEBNN_BROWSER)?.into()),
        arguments: vec!["--enable-features=WebMachineLearningNeuralNetwork".to_owned()],
        attach: true,
        ..BrowserSettings::usual(WEBNN_NAME, Family::Chromium)
    })
}

fn web_job(model: ModelRef, platforms: &[Platform], browsers: &[&str]) -> Job {
    let configuration = Configuration {
        model,
        platform: platforms[0],
        backend: Backend::OrtWeb,
        precision: Precision::Fp32,
        batch_size: 2,
        sequence_length: Some(8),
        image_size: None,
        threads: 1,
        browser: None,
    };
    let benchmark = BenchmarkSpec {
        warmup_iterations: 1,
        iterations_min: 3,
        iterations_max: 3,
        ..BenchmarkSpec::usual(configuration)
    };
    let mut spec = WebSpec::new(benchmark, browsers.iter().map(|name| (*name).to_owned()).collect());
    spec.platforms = platforms[1..].to_vec();
    Job { platform: platforms[0], timeout_ms: 120_000, ..job(JobSpec::Web(Box::new(spec))) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_web_job_says_where_and_on_what_it_ran() {
    let workplace = Workplace::new();
    let models = ModelCache::open(&workplace.directory.path().join("models")).expect("a model cache");
    let path = workplace.directory.path().join("tiny.onnx");
    graphs::build_miniature("bert", Precision::Fp32, &path).expect("built");
    let model = models.register("tiny", &path).expect("registered").model;
    let leases = workplace.directory.path().join("leases");
    std::fs::create_dir_all(&leases).expect("a directory");
    let pool = pool(workplace.directory.path()).await;
    let runner = WebRunner::new(pool.clone(), models, support::processor(), leases);
    assert!(runner.platforms().contains(&Platform::Wasm), "{:?}", runner.places());

    let job = web_job(model.clone(), &[Platform::Wasm], &["firefox"]);
    let execution = runner.run(&job, &CancellationToken::new()).await;
    let Outcome::Web(web) = execution.outcome else { panic!("{:?}", execution.outcome) };
    assert_eq!(
        (web.browser.as_str(), web.platform, web.benchmark.latency_ms.iterations.len()),
        ("firefox", Platform::Wasm, 3)
    );
    assert!(web.benchmark.load_ms > 0.0 && !web.browser_version.is_empty(), "{web:?}");
    let conditions = web.benchmark.conditions.as_ref().expect("the machine was watched");
    assert!(conditions.after.load_average.is_some() && conditions.waited_pct.is_none(), "{conditions:?}");
    let device = execution.device.expect("a device");
    assert_eq!((device.name.as_str(), device.platform), ("test processor", Platform::Wasm));

    let missing = web_job(model.clone(), &[Platform::Wasm], &["lynx"]);
    assert_eq!(runner.unmet(&missing).as_deref(), Some("no wasm in lynx"), "another worker may have it");
    let cancelled = CancellationToken::new();
    cancelled.cancel();
    let execution = runner.run(&web_job(model, &[Platform::Wasm], &[]), &cancelled).await;
    let Outcome::Failed(failure) = execution.outcome else { panic!("{:?}", execution.outcome) };
    assert_eq!((failure.kind, execution.charge), (FailureKind::Cancelled, Charge::Attempt));
    pool.stop().await;
}
