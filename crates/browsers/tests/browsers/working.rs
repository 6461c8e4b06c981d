//! Real headless Chromium and Firefox: right numbers, proven backends, warm tabs, refusals.

use std::{collections::BTreeMap, io::Write as _};

use browsers::{BrowserSettings, Family, WebError, WebRequest};
use messages::{FailureKind, Platform, Precision, Warmth};

use crate::support::{
    Bench, DENSE_OUTPUT, MIXER_OUTPUT, bench, dense, floats, gather, halves, mixer, model_file, until,
};

/// What all browsers may take: room for three tabs.
const BUDGET_MB: u64 = 3_000;

fn nodes(expected: &[(&str, u32)]) -> BTreeMap<String, u32> {
    expected.iter().map(|(provider, count)| ((*provider).to_owned(), *count)).collect()
}

/// Runs the mixer cold and warm and looks at everything that a result says.
async fn check(bench: &Bench, browser: &str, platform: Platform, provider: &str, node_count: u32) {
    let what = format!("{browser} {platform}");
    let request = WebRequest { browsers: vec![browser.to_owned()], keep_outputs: true, ..mixer(platform) };
    let cold = bench.run(request.clone()).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!((cold.browser.as_str(), cold.platform, cold.threads), (browser, platform, 1), "{what}");
    assert_eq!(cold.outputs.len(), 1, "{what}");
    assert_eq!((cold.outputs[0].name.as_str(), cold.outputs[0].dims.as_slice()), ("y", [2, 8].as_slice()), "{what}");
    for (computed, right) in floats(&cold.outputs[0].bytes).into_iter().zip(MIXER_OUTPUT) {
        assert!((computed - right).abs() < 1e-4, "{what}: {computed} instead of {right}");
    }
    assert_eq!(cold.nodes, nodes(&[(provider, node_count)]), "{what}");
    assert!((5..=10).contains(&cold.iterations_ms.len()), "{what}");
    assert_ne!(cold.warmth, Warmth::WarmModel, "{what}");
    assert!(cold.phases.session_ms > 0.0 && cold.phases.total_ms > cold.phases.session_ms, "{what}: {cold:?}");
    assert_eq!(cold.adapter.is_some(), platform == Platform::Webgpu, "{what}");
    assert_eq!(cold.recoveries, [""; 0], "{what}");
    assert_eq!(cold.backend_version, "1.30.0", "{what}");
    let warm = bench.run(request).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!((warm.warmth, warm.nodes), (Warmth::WarmModel, cold.nodes), "{what}");
    assert!(warm.phases.session_ms == 0.0, "{what}: nothing is loaded again");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_browsers_compute_right_on_wasm_and_webgpu() {
    let bench = bench(&[Family::Chromium, Family::Firefox], |_| {}).await;
    let capabilities = bench.pool.capabilities();
    for browser in ["chromium", "firefox"] {
        for platform in [Platform::Wasm, Platform::Webgpu, Platform::Webnn] {
            let found = capabilities
                .iter()
                .find(|capability| capability.browser == browser && capability.platform == platform)
                .expect("every platform is probed");
            assert_eq!(found.works, platform != Platform::Webnn, "{found:?}");
            assert_eq!(found.reason.is_none(), found.works, "{found:?}");
            assert_eq!(found.adapter.is_some(), platform == Platform::Webgpu, "{found:?}");
        }
        check(&bench, browser, Platform::Wasm, "CPUExecutionProvider", 3).await;
        check(&bench, browser, Platform::Webgpu, "WebGpuExecutionProvider", 6).await;
    }
    check_formats(&bench).await;
    let families: Vec<_> = bench.pool.status().speeds.into_iter().map(|speed| (speed.browser, speed.jobs)).collect();
    assert!(families.len() >= 4, "each browser and platform is rated: {families:?}");
    bench.end().await;
}

/// Runs a dense layer in the number format that `model` is named after.
async fn check_format(bench: &Bench, browser: &str, platform: Platform, model: &str, tolerance: f32) {
    let precision = match model {
        "half" => Precision::Fp16,
        "int8" => Precision::Int8,
        _ => Precision::Int4,
    };
    let what = format!("{browser} {platform} {precision}");
    let browsers = vec![browser.to_owned()];
    let request = WebRequest { browsers, keep_outputs: true, precision, ..dense(platform, model) };
    let ran = bench.run(request).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    let bytes = &ran.outputs[0].bytes;
    let computed = if model == "half" { halves(bytes) } else { floats(bytes) };
    assert_eq!(computed.len(), DENSE_OUTPUT.len(), "{what}");
    for (computed, right) in computed.into_iter().zip(DENSE_OUTPUT) {
        assert!((computed - right).abs() <= tolerance, "{what}: {computed} instead of {right}");
    }
}

/// 16-bit floats, 8-bit integers and 4-bit weights: the same numbers within what each format can say.
async fn check_formats(bench: &Bench) {
    for browser in ["chromium", "firefox"] {
        check_format(bench, browser, Platform::Wasm, "half", 0.0).await;
        // Inputs are rounded to one of 256 steps from -3 to 3.
        check_format(bench, browser, Platform::Wasm, "int8", 2.0).await;
        check_format(bench, browser, Platform::Wasm, "int4", 0.01).await;
        check_format(bench, browser, Platform::Webgpu, "int4", 0.01).await;
    }
    for capability in bench.pool.capabilities().into_iter().filter(|found| found.platform == Platform::Webgpu) {
        if capability.has_half_floats() {
            check_format(bench, &capability.browser, Platform::Webgpu, "half", 0.0).await;
            continue;
        }
        let browsers = vec![capability.browser];
        let half = WebRequest { browsers, precision: Precision::Fp16, ..dense(Platform::Webgpu, "half") };
        let error = bench.run(half).await.expect_err("its adapter has no 16-bit floats");
        assert!(error.to_string().contains("lacks shader-f16"), "{error}");
    }
}

/// Where a Chromium with a WebNN backend is, such as that of npm's `@sparticuz/chromium`; Debian's has none.
const WEBNN_BROWSER: &str = "WEBNN_BROWSER";

#[tokio::test(flavor = "multi_thread")]
async fn webnn_computes_right_where_a_browser_has_it() {
    let Some(binary) = std::env::var_os(WEBNN_BROWSER) else {
        // Not by a print macro: a test that passes shows none of those.
        let skipped = format!("skipped: WebNN, because {WEBNN_BROWSER} names no browser that has it\n");
        std::io::stderr().write_all(skipped.as_bytes()).expect("standard error");
        return;
    };
    let webnn = BrowserSettings {
        binary: Some(binary.into()),
        arguments: vec!["--enable-features=WebMachineLearningNeuralNetwork".to_owned()],
        attach: true,
        ..BrowserSettings::usual("webnn-chromium", Family::Chromium)
    };
    let bench = bench(&[], |settings| settings.browsers = vec![webnn]).await;
    let capabilities = bench.pool.capabilities();
    let found = capabilities.iter().find(|found| found.platform == Platform::Webnn).expect("it is probed");
    assert!(found.works, "{found:?}");
    check(&bench, "webnn-chromium", Platform::Webnn, "WebNNExecutionProvider", 1).await;
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chromium_says_what_it_does_and_why_it_cannot() {
    let bench = bench(&[Family::Chromium], |settings| {
        settings.memory_mb_max = Some(BUDGET_MB);
        settings.probe_every_ms = 1_000;
        // No page hangs here, and a tab that closes too slowly takes its browser along.
        settings.close_ms_max = 30_000;
    });
    let bench = bench.await;
    an_idle_browser_is_probed_again(&bench).await;
    nodes_that_stay_on_the_processor_are_told(&bench).await;
    several_tabs_of_one_browser_work_at_once(&bench).await;
    what_cannot_run_says_why(&bench).await;
    bench.end().await;
}

/// What works is probed again and again, and goes on to count as working.
async fn an_idle_browser_is_probed_again(bench: &Bench) {
    let probes = || bench.pool.status().counters.probes;
    // Wasm, WebGPU and WebNN at the start, of which WebNN does not work.
    assert!(probes() >= 3, "{}", probes());
    let before = probes();
    until("it is probed again", || probes() >= before + 2).await;
    let breakers = bench.pool.status().breakers;
    assert!(breakers.iter().all(|breaker| breaker.platform == "webnn" || breaker.opened == 0), "{breakers:?}");
    assert!(bench.pool.capabilities().iter().any(|found| found.platform == Platform::Webgpu && found.works));
}

async fn nodes_that_stay_on_the_processor_are_told(bench: &Bench) {
    let ran = bench.run(gather(Platform::Webgpu)).await.expect("it runs");
    // The int64 Mul, beside Gather, Tanh and the copy that ONNX Runtime adds between them.
    assert_eq!(ran.nodes, nodes(&[("CPUExecutionProvider", 1), ("WebGpuExecutionProvider", 3)]));
    assert!(ran.memory_peak_mb.is_some_and(|mb| mb > 100.0), "{:?}", ran.memory_peak_mb);
}

async fn several_tabs_of_one_browser_work_at_once(bench: &Bench) {
    let requests = [mixer(Platform::Wasm), gather(Platform::Wasm), WebRequest { threads: 2, ..mixer(Platform::Wasm) }];
    let runs = futures_util::future::join_all(requests.map(|request| bench.run(request))).await;
    let threads: Vec<u32> = runs.into_iter().map(|ran| ran.expect("it runs").threads).collect();
    assert_eq!(threads, [1, 1, 2]);
    let status = bench.pool.status();
    assert_eq!((status.sessions.len(), status.sessions[0].tabs.len()), (1, 3));

    let both = [mixer(Platform::Webgpu), gather(Platform::Webgpu)].map(|request| bench.run(request));
    for ran in futures_util::future::join_all(both).await {
        assert_eq!(ran.expect("it runs").platform, Platform::Webgpu);
    }
    let sessions = bench.pool.status().sessions;
    let on_gpu =
        sessions.iter().flat_map(|session| &session.tabs).filter(|tab| tab.platform.as_deref() == Some("webgpu"));
    assert_eq!(on_gpu.count(), 2, "each in a tab of its own: {sessions:?}");
}

async fn what_cannot_run_says_why(bench: &Bench) {
    let refused = async |request: WebRequest| bench.run(request).await.expect_err("it cannot run");

    let corrupt = bench.directory.path().join("corrupt.onnx");
    std::fs::write(&corrupt, b"not a model").expect("writable");
    let model = model_file("corrupt", corrupt, b"not a model");
    let error = refused(WebRequest { model, ..mixer(Platform::Wasm) }).await;
    assert_eq!((error.failure_kind(), error.is_charged()), (FailureKind::ModelCorrupt, true), "{error}");

    // With 400 MB for the browser itself.
    let error = refused(WebRequest { memory_mb: Some(BUDGET_MB - 399), ..mixer(Platform::Wasm) }).await;
    assert_eq!(error.failure_kind(), FailureKind::Unavailable, "{error}");
    let WebError::MemoryBudget { needed_mb, budget_mb: BUDGET_MB } = error else { panic!("{error}") };
    assert_eq!(needed_mb, BUDGET_MB + 1);

    let error = refused(mixer(Platform::Webnn)).await;
    assert_eq!(error.failure_kind(), FailureKind::Unavailable, "{error}");
    assert!(error.to_string().contains("chromium webnn: "), "{error}");

    let mut wrong = mixer(Platform::Wasm);
    "z".clone_into(&mut wrong.inputs[0].name);
    let error = refused(wrong).await;
    assert_eq!((error.failure_kind(), error.is_charged()), (FailureKind::BackendError, true), "{error}");

    let ran = bench.run(mixer(Platform::Wasm)).await.expect("the pool goes on");
    assert_eq!(ran.recoveries, [""; 0]);
}
