//! What came with anomalies: the machine's conditions in a result, and the end of a quarantine.

use super::{benchmark_result, check_golden, job_id};
use crate::{Conditions, JobResult, MachineState, Mark, Outcome, QuarantineLifted, Timestamp, decode, encode};

/// A result that says what its machine was doing, which the first ones did not.
fn benchmark_result_with_conditions() -> JobResult {
    let before = MachineState { clock_mhz: Some(3_400.0), temperature_c: Some(71.5), load_average: Some(2.25) };
    let mut result = benchmark_result();
    if let Outcome::Benchmark(outcome) = &mut result.outcome {
        outcome.conditions = Some(Conditions {
            before,
            after: MachineState { clock_mhz: Some(2_100.0), temperature_c: None, ..before },
            busy_elsewhere_cpus: Some(0.25),
            waited_pct: Some(3.5),
            stolen_pct: None,
            arithmetic_pct: None,
            handoff_ns: None,
            throttle_events: Some(2),
            mark: Some(Mark::Throttled("2 cores were slowed down because of heat".to_owned())),
        });
    }
    result
}

#[test]
fn golden_files_decode_and_bytes_are_frozen() {
    check_golden("result-benchmark-conditions", &benchmark_result_with_conditions());
    check_golden("quarantine-lifted", &QuarantineLifted { job_id: job_id(), lifted_at: Timestamp::from_micros(17) });
}

/// Earlier readers do not know it and earlier writers do not say it.
#[test]
fn what_the_processor_did_around_a_benchmark_travels_where_it_was_measured() {
    let mut result = benchmark_result_with_conditions();
    if let Outcome::Benchmark(outcome) = &mut result.outcome {
        let conditions = outcome.conditions.as_mut().unwrap();
        (conditions.arithmetic_pct, conditions.handoff_ns) = (Some(49.5), Some(330.0));
    }
    let body = encode(&result).unwrap().body;
    assert_eq!(decode::<JobResult>(Some("result"), Some(1), &body).unwrap(), result);
}

#[test]
fn a_mark_that_nobody_knows_is_refused() {
    let mut body = encode(&benchmark_result_with_conditions()).unwrap().body;
    let at = body.windows(9).position(|window| window == b"throttled").unwrap();
    body[at..at + 9].copy_from_slice(b"moonstruk");
    let error = decode::<JobResult>(Some("result"), Some(1), &body).unwrap_err().to_string();
    assert!(error.contains("`moonstruk` is no mark"), "{error}");
}
