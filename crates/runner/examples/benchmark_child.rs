//! What `augur internal-benchmark` is to a worker, for this crate's tests; with `hold <directory>` a worker with one
//! endless job, for the test that kills it.

use std::{collections::BTreeMap, path::Path, process::ExitCode};

use messages::{Dispatch, Job, JobId, JobSpec, Origin, Platform, Priority, RunId, RunRef, TestSpec, Timestamp};
use runner::{BENCHMARK_SUBCOMMAND, Profile, ProfileRunner, Runner, RunnerSettings};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [BENCHMARK_SUBCOMMAND] => runner::benchmark_child(),
        ["hold", directory] => hold(Path::new(directory)),
        other => {
            eprintln!("unknown arguments {other:?}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a job that says `started` on the FIFO `life` in `directory` and then only waits.
fn hold(directory: &Path) -> ExitCode {
    let profile = Profile {
        enabled: true,
        program: Some("sh".into()),
        arguments: vec!["-c".to_owned(), "exec 9>life; echo started >&9; exec sleep 600".to_owned()],
        working_directory: Some(directory.to_owned()),
        ..Profile::usual(ProfileRunner::Command)
    };
    let settings = RunnerSettings {
        executable: "unused".into(),
        onnxruntime_library: None,
        models: graphs::ModelCache::open(&directory.join("models")).expect("a model cache"),
        lease_directory: directory.to_owned(),
        profiles: BTreeMap::from([("hold".to_owned(), profile)]),
        output_tail_bytes_max: 1024,
        child_memory_mb_max: None,
        waited_pct_max: RunnerSettings::WAITED_PCT_MAX,
        arithmetic_pct_min: RunnerSettings::ARITHMETIC_PCT_MIN,
        handoff_ns: None,
    };
    let job = Job {
        job_id: JobId::new(),
        run: RunRef { run_id: RunId::new(), suite: "hold".to_owned(), jobs_total: 1, origin: Origin::Client },
        case: "hold".to_owned(),
        priority: Priority::Normal,
        platform: Platform::Cpu,
        submitted_at: Timestamp::now(),
        timeout_ms: 600_000,
        dispatch: Dispatch::default(),
        spec: JobSpec::Test(TestSpec { profile: "hold".to_owned(), ..TestSpec::default() }),
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(Runner::new(settings, Vec::new()).run(&job, &CancellationToken::new()));
    ExitCode::SUCCESS
}
