//! What the jobs of the suite do.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result};
use messages::{BenchmarkSpec, Configuration, Dispatch, Job, JobId, JobSpec, ModelRef, RunRef, TestSpec, Timestamp};
use testkit::builders;
use uuid::Uuid;

/// Attempts of a job that does nothing wrong: a row that kills hundreds of workers may catch the same job's worker
/// more often than a usual job is tried, and that would be a rightful dead letter.
const ATTEMPTS_HEALTHY: u32 = Dispatch::ATTEMPTS_LIMIT;
/// Attempts of a job that is bound to fail.
const ATTEMPTS_POISON: u32 = 2;
/// How long an attempt of a job that never ends may take, in milliseconds.
const HANG_TIMEOUT_MS: u64 = 500;

/// What a job does.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Work {
    /// Nothing.
    Nothing,
    /// Writes its id into the file `executed`, then takes this many milliseconds.
    Long { duration_ms: u64 },
    /// Outlasts its timeout.
    Hang,
    /// Dies of a signal, alone.
    Crash,
    /// Kills the worker that runs it.
    KillWorker,
    /// Asks for more memory than its worker may give (`worker.child_memory_mb_max`).
    OutOfMemory(ModelRef),
    /// Measures a model with images of this many pixels squared.
    Measure { model: ModelRef, image_size: u32 },
    /// Outlasts its timeout until the file `mended` is there.
    HangUntilMended,
}

/// The runner profiles of the suite, as settings; scripts run in `directory`.
pub(crate) fn profiles(directory: &Path) -> String {
    // The worker is the parent: jobs run in groups of their own.
    let scripts = [
        ("long", r#"echo "$AUGUR_TEST_METHOD" >>executed; sleep "$AUGUR_TEST_CLASS""#),
        ("hang", "exec sleep 600"),
        ("crash", "kill -SEGV $$"),
        ("kill-worker", "kill -KILL $PPID; sleep 600"),
        ("hang-until-mended", "[ -e mended ] || exec sleep 600"),
    ];
    let profile = |(name, script): &(&str, &str)| {
        format!(
            "[worker.profiles.{name}]\nrunner = \"command\"\nenabled = true\nprogram = \"/bin/sh\"\n\
             arguments = [\"-c\", '''{script}''']\nworking_directory = \"{}\"\n",
            directory.display()
        )
    };
    scripts.iter().map(profile).collect()
}

/// A job that does `work`.
pub(crate) fn job(run: &RunRef, job_id: JobId, work: &Work) -> Job {
    let test = |profile: &str| TestSpec { profile: profile.to_owned(), ..TestSpec::default() };
    let usual = Job {
        job_id,
        run: run.clone(),
        case: "nothing".to_owned(),
        submitted_at: Timestamp::now(),
        dispatch: Dispatch { attempts_max: ATTEMPTS_HEALTHY, ..Dispatch::default() },
        spec: JobSpec::Test(test("noop")),
        priority: messages::Priority::Normal,
        ..builders::test_job()
    };
    let poison = |case: &str, spec| Job {
        case: case.to_owned(),
        dispatch: Dispatch { attempts_max: ATTEMPTS_POISON, ..Dispatch::default() },
        spec,
        ..usual.clone()
    };
    match work {
        Work::Nothing => usual,
        Work::Long { duration_ms } => {
            let test = TestSpec {
                class: Some(format!("{}.{:03}", duration_ms / 1_000, duration_ms % 1_000)),
                method: Some(job_id.to_string()),
                ..test("long")
            };
            Job { case: "long".to_owned(), spec: JobSpec::Test(test), ..usual }
        }
        Work::Hang => Job { timeout_ms: HANG_TIMEOUT_MS, ..poison("hang", JobSpec::Test(test("hang"))) },
        Work::HangUntilMended => {
            Job { timeout_ms: HANG_TIMEOUT_MS, ..poison("hang until mended", JobSpec::Test(test("hang-until-mended"))) }
        }
        Work::Crash => poison("crash", JobSpec::Test(test("crash"))),
        Work::KillWorker => poison("kill worker", JobSpec::Test(test("kill-worker"))),
        Work::OutOfMemory(model) => {
            let configuration = Configuration {
                model: model.clone(),
                // 512 images of 96 by 96 are far beyond what the row's workers may give.
                batch_size: 512,
                image_size: Some(96),
                ..builders::configuration()
            };
            poison("out of memory", JobSpec::Benchmark(Box::new(BenchmarkSpec::usual(configuration))))
        }
        Work::Measure { model, image_size } => {
            let configuration = Configuration {
                model: model.clone(),
                batch_size: 1,
                image_size: Some(*image_size),
                threads: 1,
                ..builders::configuration()
            };
            let usual_spec = BenchmarkSpec::usual(configuration);
            let spec = BenchmarkSpec { warmup_iterations: 1, iterations_min: 3, iterations_max: 6, ..usual_spec };
            Job { case: "measure".to_owned(), spec: JobSpec::Benchmark(Box::new(spec)), ..usual }
        }
    }
}

/// How often each long job was begun, by its id.
///
/// # Errors
///
/// If none was.
pub(crate) fn times_begun(directory: &Path) -> Result<BTreeMap<String, usize>> {
    let executed = std::fs::read_to_string(directory.join("executed")).context("no long job ran")?;
    let mut times = BTreeMap::new();
    for job_id in executed.lines() {
        *times.entry(job_id.to_owned()).or_default() += 1;
    }
    Ok(times)
}

/// Job ids that follow from the seed, so that a client that was killed submits the same ones again.
pub(crate) fn job_ids(random: &mut fastrand::Rng, count: usize) -> Vec<JobId> {
    (0..count).map(|_| JobId::from(Uuid::from_u128(random.u128(..)))).collect()
}
