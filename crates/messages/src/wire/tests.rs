//! The wire format holds: golden files decode for ever, everything round-trips, no bytes panic.

#![expect(clippy::unwrap_used, reason = "tests")]

mod conditions;
mod samples;
mod web;

use std::path::PathBuf;

use proptest::prelude::*;
use samples::{
    accepted, benchmark_job, benchmark_result, benchmark_result_with_memory, configuration, dispatched_job,
    failed_result, full_heartbeat, heartbeat, job, job_id, job_predicted_on_a_device, release, requirements, result,
    run, run_id, test_result,
};

use crate::{
    AcceptedMeasurement, AfterFailure, Backend, BenchmarkSpec, Cancel, CancelTarget, ClaimReturned, Configuration,
    ContentHash, DeadLetterReplayed, DeadLettered, DecodeError, Device, FailedAttempt, Failure, FailureKind, Heartbeat,
    Job, JobClaimed, JobResult, JobSpec, LatencySummary, Message, ModelRef, Need, Outcome, Platform, Precision,
    Priority, RunSubmitted, TestSpec, Timestamp, WorkerId, codec, decode, encode,
};

/// Checks a round trip and the golden file; `UPDATE_GOLDEN=1` writes the file of a version not yet released.
fn check_golden<M: Message + PartialEq + std::fmt::Debug>(name: &str, message: &M) {
    let encoded = encode(message).unwrap();
    let back: M = decode(Some(encoded.message_type), Some(encoded.schema_version), &encoded.body).unwrap();
    assert_eq!(&back, message);
    let version = encoded.schema_version;
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("golden/{name}.v{version}.msgpack"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() && !path.exists() {
        std::fs::write(&path, &encoded.body).unwrap();
    }
    let golden = std::fs::read(&path).unwrap();
    let old: M = decode(Some(M::TYPE), Some(version), &golden).unwrap();
    assert_eq!(&old, message, "the golden file of {name} no longer decodes to the same message");
    assert_eq!(golden, encoded.body, "schema {version} of {name} is released: its bytes may not change");
}

#[test]
fn golden_files_decode_and_bytes_are_frozen() {
    check_golden("job-benchmark", &benchmark_job());
    check_golden("job-predicted-device", &job_predicted_on_a_device());
    check_golden(
        "job-test",
        &job(JobSpec::Test(TestSpec {
            profile: "pytest".to_owned(),
            module: Some("m".to_owned()),
            ..TestSpec::default()
        })),
    );
    check_golden("result-benchmark", &benchmark_result());
    check_golden("result-benchmark-memory", &benchmark_result_with_memory());
    check_golden("result-test", &test_result());
    check_golden("result-failed", &failed_result());
    check_golden("job-dispatched", &dispatched_job());
    check_golden("attempt", &FailedAttempt { result: failed_result(), next: AfterFailure::DeadLetter });
    check_golden(
        "claim",
        &JobClaimed {
            job: benchmark_job(),
            attempt: 2,
            worker_id: WorkerId::parse("host:42:0").unwrap(),
            claimed_at: Timestamp::from_micros(12),
            lease_ms: 60_000,
        },
    );
    check_golden(
        "claim-returned",
        &ClaimReturned {
            job_id: job_id(),
            run_id: run_id(),
            attempt: 2,
            worker_id: WorkerId::parse("host:42:0").unwrap(),
            returned_at: Timestamp::from_micros(15),
        },
    );
    check_golden(
        "replayed",
        &DeadLetterReplayed { job_id: job_id(), run_id: run_id(), replays: 1, replayed_at: Timestamp::from_micros(13) },
    );
    check_golden(
        "dead-lettered",
        &DeadLettered {
            job_id: job_id(),
            run_id: run_id(),
            replays: 1,
            attempt: 2,
            platform: Platform::Cpu,
            case: None,
            reason: "undecodable".to_owned(),
            message: "job message has schema version 9; this build reads up to 1".to_owned(),
            died_at: Timestamp::from_micros(16_000_000),
        },
    );
    check_golden("heartbeat", &heartbeat());
    check_golden("heartbeat-full", &full_heartbeat());
    let needs = vec![Need { platform: Platform::Cpu, requirements: requirements(), jobs: 61 }];
    check_golden("run-needs", &RunSubmitted { needs, due_at: Some(Timestamp::from_micros(14)), ..run() });
    let configurations = vec!["resnet50 cpu fp32 batch 4 image 224 threads 2".to_owned()];
    check_golden("run-configurations", &RunSubmitted { configurations, ..run() });
    check_golden("measurement", &accepted());
    check_golden("release", &release());
    check_golden("run", &run());
    check_golden("run-of-one", &RunSubmitted { jobs_total: 1, only_job: Some(job_id()), ..run() });
    check_golden(
        "cancel-job",
        &Cancel { target: CancelTarget::Job(job_id()), requested_at: Timestamp::from_micros(8) },
    );
    check_golden(
        "cancel-run",
        &Cancel { target: CancelTarget::Run(run_id()), requested_at: Timestamp::from_micros(8) },
    );
}

#[test]
fn a_field_from_the_future_is_ignored() {
    let mut body = encode(&benchmark_job()).unwrap().body;
    assert_eq!(body[0] & 0xf0, 0x80, "a job is a MessagePack fixmap");
    body[0] += 1;
    body.extend(rmp_serde::to_vec("invented_later").unwrap());
    body.extend(rmp_serde::to_vec(&42).unwrap());
    assert_eq!(decode::<Job>(Some("job"), Some(1), &body).unwrap(), benchmark_job());
}

#[test]
fn every_wrong_byte_has_its_error() {
    let good = encode(&benchmark_job()).unwrap().body;
    let error = |kind: Option<&str>, version, body: &[u8]| decode::<Job>(kind, version, body).unwrap_err().to_string();
    let check = |found: String, expected: &str| assert!(found.contains(expected), "{found:?} lacks {expected:?}");
    check(error(None, Some(1), &good), "no `type` property");
    check(error(Some("result"), Some(1), &good), "of type `result`; `job` was expected");
    check(error(Some("job"), None, &good), "no usable `schema-version`");
    check(error(Some("job"), Some(9), &good), "schema version 9; this build reads up to 2");
    check(error(Some("job"), Some(1), &[]), "empty");
    check(error(Some("job"), Some(1), &good[..good.len() / 2]), "failed to decode job message");
    check(error(Some("job"), Some(1), &vec![0; codec::BODY_BYTES_MAX + 1]), "the limit is 1048576");
    check(error(Some("job"), Some(1), &[&good[..], &[0xc0]].concat()), "1 bytes too many");
    let at = good.windows(6).position(|window| window == b"normal").unwrap();
    check(
        error(Some("job"), Some(1), &[&good[..at], b"sooner", &good[at + 6..]].concat()),
        "`sooner` is not a priority",
    );
    let invalid = |job: Job| error(Some("job"), Some(1), &encode(&job).unwrap().body);
    check(invalid(Job { timeout_ms: 0, ..benchmark_job() }), "timeout_ms is not possible");
    check(
        invalid(Job { platform: Platform::Cuda, ..benchmark_job() }),
        "the job is for cuda, its configuration for cpu",
    );
}

#[test]
fn a_batch_of_zero_and_a_nan_are_refused() {
    let mut zero = configuration();
    zero.batch_size = 0;
    let body = encode(&job(JobSpec::Benchmark(Box::new(BenchmarkSpec::usual(zero))))).unwrap().body;
    let error = decode::<Job>(Some("job"), Some(1), &body).unwrap_err();
    assert!(matches!(error, DecodeError::Invalid { field: "batch_size", .. }), "{error}");

    let mut nan = accepted();
    nan.latency_ms = f64::NAN;
    let body = encode(&nan).unwrap().body;
    let error = decode::<AcceptedMeasurement>(Some("measurement"), Some(1), &body).unwrap_err();
    assert!(matches!(error, DecodeError::Invalid { field: "latency_ms", .. }), "{error}");
}

/// The database has no place for them: the aggregator tried to store such a result for ever.
#[test]
fn more_units_than_an_integer_holds_are_refused() {
    let check = |change: fn(&mut Device, Option<u32>), field: &str| {
        let with = |count| {
            let mut result = benchmark_result();
            change(result.device.as_mut().unwrap(), Some(count));
            decode::<JobResult>(Some("result"), Some(1), &encode(&result).unwrap().body)
        };
        with(Device::UNITS_MAX).unwrap();
        let error = with(Device::UNITS_MAX + 1).unwrap_err();
        assert!(matches!(error, DecodeError::Invalid { field: found, .. } if found == field), "{error}");
    };
    check(|device, count| device.compute_units = count, "device.compute_units");
    check(|device, count| device.hardware_threads = count, "device.hardware_threads");
}

#[test]
fn too_large_a_message_is_not_sent() {
    let mut huge = failed_result();
    if let Outcome::Failed(failure) = &mut huge.outcome {
        failure.output_tail = "x".repeat(codec::BODY_BYTES_MAX);
    }
    assert!(encode(&huge).is_err());
}

fn words<T: Copy + std::fmt::Debug>(all: &'static [T]) -> impl Strategy<Value = T> {
    proptest::sample::select(all)
}

prop_compose! {
    fn any_configuration()(
        name in "[a-z0-9-]{1,40}", hash in any::<[u8; 32]>(), platform in words(Platform::ALL),
        precision in words(Precision::ALL), batch_size in 1..=65_536u32, sequence_length in proptest::option::of(1..=4096u32),
        image_size in proptest::option::of(1..=1024u32), threads in 1..=256u32,
    ) -> Configuration {
        Configuration {
            model: ModelRef { name, sha256: ContentHash(hash) }, platform, backend: Backend::Onnxruntime, precision,
            batch_size, sequence_length, image_size, threads, browser: None,
        }
    }
}

proptest! {
    #[test]
    fn jobs_round_trip(
        configuration in any_configuration(), id in any::<u128>(), case in ".{0,60}", priority in words(Priority::ALL),
        at in any::<i64>(), timeout_ms in 1..=Job::TIMEOUT_MS_LIMIT, iterations in 1..=BenchmarkSpec::ITERATIONS_LIMIT,
        duration_ms_max in any::<u64>(), share in 0.0..100.0f64,
    ) {
        let platform = configuration.platform;
        let spec = BenchmarkSpec {
            iterations_min: 1, iterations_max: iterations, duration_ms_max, median_interval_pct: share,
            ..BenchmarkSpec::usual(configuration)
        };
        let job = Job {
            job_id: uuid::Uuid::from_u128(id).into(), case, priority, platform, timeout_ms,
            submitted_at: Timestamp::from_micros(at), ..job(JobSpec::Benchmark(Box::new(spec)))
        };
        let encoded = encode(&job).unwrap();
        prop_assert_eq!(decode::<Job>(Some("job"), Some(1), &encoded.body).unwrap(), job);
    }

    #[test]
    fn results_round_trip(
        iterations in proptest::collection::vec(1e-6..1e9f64, 1..200), memory in proptest::option::of(0.0..1e9f64),
        kind in words(FailureKind::ALL), tail in ".{0,200}", attempt in 1..u32::MAX,
    ) {
        let mut benchmark = benchmark_result();
        benchmark.attempt = attempt;
        if let Outcome::Benchmark(outcome) = &mut benchmark.outcome {
            outcome.latency_ms = LatencySummary::from_iterations(iterations).unwrap();
            outcome.memory_peak_mb = memory;
        }
        let failed = result(Outcome::Failed(Failure {
            kind, message: tail.clone(), output_tail: tail, suggestion: None,
        }));
        for result in [benchmark, failed] {
            let encoded = encode(&result).unwrap();
            prop_assert_eq!(decode::<JobResult>(Some("result"), Some(1), &encoded.body).unwrap(), result);
        }
    }

    #[test]
    fn no_bytes_panic(body in proptest::collection::vec(any::<u8>(), 0..2_000), version in any::<u16>()) {
        // Whether it decodes does not matter, only that it answers.
        drop(decode::<Job>(Some("job"), Some(version % 3), &body));
        drop(decode::<JobResult>(Some("result"), Some(1), &body));
        drop(decode::<Heartbeat>(Some("heartbeat"), Some(1), &body));
        drop(decode::<AcceptedMeasurement>(Some("measurement"), Some(1), &body));
    }

    #[test]
    fn damaged_messages_never_panic(position in 0..300usize, byte in any::<u8>()) {
        let mut body = encode(&benchmark_result()).unwrap().body;
        let at = position % body.len();
        body[at] = byte;
        drop(decode::<JobResult>(Some("result"), Some(1), &body));
    }
}
