//! What concerns browsers is of the second schema version, and holds as the first does.

use proptest::prelude::*;

use super::{
    accepted, any_configuration, benchmark_job, benchmark_result, check_golden, configuration, failed_result,
    heartbeat, job, result, words,
};
use crate::{
    AcceptedMeasurement, Adapter, AfterFailure, Backend, BenchmarkSpec, Configuration, FailedAttempt, Job, JobClaimed,
    JobResult, JobSpec, LatencySummary, Outcome, Platform, Timestamp, Warmth, WebOutcome, WebPhases, WebSpec, WorkerId,
    codec, decode, encode,
};

fn web_job() -> Job {
    let configuration =
        Configuration { platform: Platform::Webgpu, backend: Backend::OrtWeb, threads: 1, ..configuration() };
    let mut web = WebSpec::new(BenchmarkSpec::usual(configuration), vec!["firefox".to_owned()]);
    web.platforms = vec![Platform::Wasm];
    web.memory_mb = Some(1_500);
    Job { platform: Platform::Webgpu, ..job(JobSpec::Web(Box::new(web))) }
}

fn web_result() -> JobResult {
    let Outcome::Benchmark(benchmark) = benchmark_result().outcome else { unreachable!() };
    let adapter = Adapter {
        vendor: "mesa".to_owned(),
        architecture: "llvmpipe".to_owned(),
        device: String::new(),
        description: "llvmpipe (LLVM 15.0.6, 256 bits)".to_owned(),
        is_fallback: true,
        features: vec!["shader-f16".to_owned()],
        limits: [("maxBufferSize".to_owned(), 268_435_456.0)].into(),
    };
    let web = WebOutcome {
        benchmark: *benchmark,
        platform: Platform::Webgpu,
        browser: "firefox".to_owned(),
        browser_version: "153.0".to_owned(),
        adapter: Some(adapter),
        nodes: [("WebGpuExecutionProvider".to_owned(), 40), ("CPUExecutionProvider".to_owned(), 2)].into(),
        phases: WebPhases { fetch_ms: 12.5, session_ms: 350.0, first_run_ms: 90.25, total_ms: 900.0 },
        warmth: Warmth::WarmSession,
        threads: 1,
        recoveries: vec!["new tab: the page did not answer".to_owned()],
    };
    JobResult { job: web_job(), ..result(Outcome::Web(Box::new(web))) }
}

/// What was measured in a browser, which is part of its configuration.
fn accepted_of_a_browser() -> AcceptedMeasurement {
    let configuration = web_result().configuration().unwrap().into_owned();
    AcceptedMeasurement { configuration, ..accepted() }
}

#[test]
fn golden_files_decode_and_bytes_are_frozen() {
    check_golden("job-web", &web_job());
    check_golden("result-web", &web_result());
    check_golden("measurement-web", &accepted_of_a_browser());
}

/// Readers of version 1 know no browsers: what they can read stays version 1, and what they cannot says so.
#[test]
fn only_what_concerns_browsers_needs_the_second_version() {
    let version = |encoded: Result<codec::Encoded, codec::EncodeError>| encoded.unwrap().schema_version;
    assert_eq!([version(encode(&benchmark_job())), version(encode(&web_job()))], [1, 2]);
    assert_eq!([version(encode(&benchmark_result())), version(encode(&web_result()))], [1, 2]);
    assert_eq!([version(encode(&accepted())), version(encode(&accepted_of_a_browser()))], [1, 2]);
    let died = |job: Job| JobResult { job, ..failed_result() };
    let attempt = |job: Job| encode(&FailedAttempt { result: died(job), next: AfterFailure::Retry });
    assert_eq!([version(attempt(benchmark_job())), version(attempt(web_job()))], [1, 2]);
    let claim = |job: Job| {
        let worker_id = WorkerId::parse("host:42:0").unwrap();
        encode(&JobClaimed { job, attempt: 1, worker_id, claimed_at: Timestamp::from_micros(1), lease_ms: 1 })
    };
    assert_eq!([version(claim(benchmark_job())), version(claim(web_job()))], [1, 2]);
    assert_eq!(version(encode(&heartbeat())), 1);
}

#[test]
fn what_no_browser_does_is_refused() {
    let error = |result: &JobResult| {
        let encoded = encode(result).unwrap();
        decode::<JobResult>(Some("result"), Some(2), &encoded.body).unwrap_err().to_string()
    };
    let changed = |change: fn(&mut WebOutcome)| {
        let mut result = web_result();
        if let Outcome::Web(web) = &mut result.outcome {
            change(web);
        }
        error(&result)
    };
    let check = |found: String, expected: &str| assert!(found.contains(expected), "{found:?} lacks {expected:?}");
    check(changed(|web| web.platform = Platform::Cuda), "no browser gives cuda");
    check(changed(|web| web.threads = 0), "web.threads is not possible");
    check(changed(|web| web.browser = "fire fox".to_owned()), "web.browser is not possible");
    check(changed(|web| web.phases.fetch_ms = f64::NAN), "web.fetch_ms is not possible");
    check(changed(|web| web.recoveries = vec![String::new(); 65]), "65 is more than 64");
    check(error(&JobResult { job: benchmark_job(), ..web_result() }), "a job that is not for browsers");
}

proptest! {
    #[test]
    fn web_jobs_round_trip(
        configuration in any_configuration(), web_platforms in proptest::collection::vec(words(&Platform::WEB), 1..6),
        browsers in proptest::collection::vec("[a-z][a-z0-9._-]{0,20}", 0..=WebSpec::BROWSERS_MAX),
        memory_mb in any::<Option<u64>>(),
    ) {
        let platform = web_platforms[0];
        let configuration = Configuration { platform, backend: Backend::OrtWeb, ..configuration };
        let mut web = WebSpec::new(BenchmarkSpec::usual(configuration), browsers);
        web.platforms = web_platforms;
        web.memory_mb = memory_mb;
        let job = Job { platform, ..job(JobSpec::Web(Box::new(web))) };
        let encoded = encode(&job).unwrap();
        prop_assert_eq!(decode::<Job>(Some("job"), Some(encoded.schema_version), &encoded.body).unwrap(), job);
    }

    #[test]
    fn web_results_round_trip(
        iterations in proptest::collection::vec(1e-6..1e9f64, 1..50), platform in words(&Platform::WEB),
        warmth in words(Warmth::ALL), nodes in proptest::collection::btree_map("[A-Za-z]{1,30}", any::<u32>(), 0..8),
        limits in proptest::collection::btree_map("[A-Za-z]{1,30}", 0.0..1e15f64, 0..8), is_fallback in any::<bool>(),
        times in any::<[u32; 4]>(), threads in 1..u32::MAX, has_adapter in any::<bool>(), text in ".{0,100}",
    ) {
        let mut result = web_result();
        if let Outcome::Web(web) = &mut result.outcome {
            let [fetch_ms, session_ms, first_run_ms, total_ms] = times.map(f64::from);
            web.benchmark.latency_ms = LatencySummary::from_iterations(iterations).unwrap();
            web.phases = WebPhases { fetch_ms, session_ms, first_run_ms, total_ms };
            web.adapter = has_adapter.then(|| Adapter { is_fallback, limits, vendor: text.clone(), ..Adapter::default() });
            (web.platform, web.warmth, web.nodes, web.threads) = (platform, warmth, nodes, threads);
            (web.browser_version, web.recoveries) = (text.clone(), vec![text]);
        }
        let encoded = encode(&result).unwrap();
        prop_assert_eq!(decode::<JobResult>(Some("result"), Some(encoded.schema_version), &encoded.body).unwrap(), result);
    }
}
