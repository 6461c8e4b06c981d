//! What browsers did is stored beside what they measured.

use messages::{Failure, FailureKind, Outcome, Platform};

use super::{
    builders::{failed_web_benchmark, job_id, record, run, run_id, stream, web_benchmark},
    commit::count,
};
use crate::{OutboxMode, Record, Store, TableDigest};

/// A web job of each of two browsers, one that failed and one that was cancelled.
fn web_stream() -> Vec<Record> {
    let run = run(3);
    let mut cancelled = failed_web_benchmark(&run, 24);
    cancelled.outcome = Outcome::Failed(Failure {
        kind: FailureKind::Cancelled,
        message: "cancelled".to_owned(),
        output_tail: String::new(),
        suggestion: None,
    });
    vec![
        record(web_benchmark(&run, 21, "firefox")),
        record(web_benchmark(&run, 22, "chromium")),
        record(failed_web_benchmark(&run, 23)),
        record(cancelled),
    ]
}

fn filled() -> Store {
    let store = Store::in_memory().expect("a store");
    store.commit(&web_stream(), None, OutboxMode::Feed).expect("stored");
    store
}

#[test]
fn a_web_job_fills_the_tables_of_the_benchmark_schema() {
    let store = filled();
    assert_eq!(count(&store, "SELECT count(*) FROM performance_results"), 2);
    let told = "SELECT count(*) FROM web_platform_results WHERE model_id IS NOT NULL AND platform = 'webgpu'";
    assert_eq!(count(&store, told), 3);
    let measured = "SELECT count(*) FROM web_platform_results WHERE success AND browser = 'firefox' \
                    AND browser_version = '153.0' AND load_time_ms = 10 AND initialization_time_ms = 20 \
                    AND inference_time_ms = 23 AND total_time_ms = 500 AND shader_compilation_time_ms = 77 \
                    AND memory_usage_mb = 200 AND hardware_id IS NOT NULL AND error_message IS NULL";
    assert_eq!(count(&store, measured), 1);
    let failed = "SELECT count(*) FROM web_platform_results WHERE NOT success AND load_time_ms IS NULL \
                  AND error_message = 'unsupported operator'";
    assert_eq!(count(&store, failed), 1);
    let features = "SELECT count(*) FROM webgpu_advanced_features f JOIN web_platform_results w USING (result_id) \
                    WHERE w.success AND compute_shader_support AND workgroup_size = 256 AND NOT pre_compiled_pipeline \
                    AND parallel_compilation IS NULL AND json_extract_string(f.metadata, '$.vendor') = 'mesa'";
    assert_eq!(count(&store, features), 2);
    assert_eq!(count(&store, "SELECT count(*) FROM hardware_compatibility WHERE is_compatible"), 2);
}

#[test]
fn results_of_browsers_say_what_ran_where() {
    let store = filled();
    let row = store.job(job_id(21)).expect("read").expect("there");
    assert_eq!((row.kind.as_str(), row.platform.as_str(), row.browser.as_deref()), ("web", "webgpu", Some("firefox")));
    let web = row.web.expect("a browser measured");
    assert_eq!(
        (web.adapter.as_deref(), web.is_fallback, web.warmth.as_str()),
        (Some("llvmpipe"), Some(true), "warm-page")
    );
    assert_eq!((web.first_run_ms, web.nodes["WebGpuExecutionProvider"]), (Some(100.0), 40));
    let failed = store.job(job_id(23)).expect("read").expect("there");
    assert_eq!((failed.browser, failed.web), (None, None), "two browsers were possible, and neither measured");
    let run = store.run(run_id(3)).expect("read").expect("there");
    assert_eq!((run.passed, run.error, run.cancelled), (2, 1, 1));
}

/// The lane is what was asked for; a browser may have had to fall back to another platform.
#[test]
fn what_is_learned_is_what_ran_and_two_browsers_are_two_configurations() {
    let mut fallen_back = web_benchmark(&run(3), 25, "firefox");
    if let Outcome::Web(web) = &mut fallen_back.outcome {
        web.platform = Platform::Wasm;
        web.threads = 2;
    }
    let store = filled();
    store.commit(&[record(fallen_back)], None, OutboxMode::Feed).expect("stored");
    let learned = store.accepted_measurements().expect("read");
    let learned: Vec<_> = learned
        .iter()
        .map(|of| (of.configuration.platform, of.configuration.threads, of.configuration.browser.as_deref()))
        .collect();
    assert_eq!(
        learned,
        [
            (Platform::Webgpu, 1, Some("firefox")),
            (Platform::Webgpu, 1, Some("chromium")),
            (Platform::Wasm, 2, Some("firefox"))
        ]
    );
    let sent = store.outbox_batch(10).expect("read");
    assert_eq!(sent.len(), 3);
    assert!(sent.iter().all(|row| row.schema_version == 2), "older readers refuse it");
    let table = store.table_rows().expect("read").rows;
    let mut places: Vec<_> =
        table.iter().map(|row| (row.platform.as_deref(), row.backend.as_deref(), row.compiler.as_deref())).collect();
    places.sort_unstable();
    assert_eq!(
        places,
        [
            (Some("wasm"), Some("ort-web"), Some("firefox")),
            (Some("webgpu"), Some("ort-web"), Some("chromium")),
            (Some("webgpu"), Some("ort-web"), Some("firefox"))
        ]
    );
    assert_eq!(store.measured().expect("read").len(), 3);
}

#[test]
fn a_stream_with_web_jobs_replays_to_the_same_tables() {
    let digest = |batches: &[&[Record]]| -> Vec<TableDigest> {
        let store = Store::in_memory().expect("a store");
        for batch in batches {
            store.commit(batch, None, OutboxMode::Skip).expect("stored");
        }
        store.digest().expect("a digest")
    };
    let whole: Vec<Record> = stream().into_iter().chain(web_stream()).collect();
    let once = digest(&[&whole]);
    let rows = |table: &str| once.iter().find(|digest| digest.table == table).expect("a table").rows;
    assert_eq!((rows("web_platform_results"), rows("webgpu_advanced_features")), (3, 2));
    assert_eq!(digest(&[&whole, &whole]), once, "twice");
    let mut backwards = whole.clone();
    backwards.reverse();
    assert_eq!(digest(&[&backwards]), once, "backwards");
    assert_eq!(digest(&whole.chunks(2).collect::<Vec<_>>()), once, "in pieces");
}
