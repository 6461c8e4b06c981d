//! Delays stay on the ladder, histories within their limits, and every message names its lane and its attempt.

use messages::{FailureKind, JobSpec, TestSpec, decode};
use proptest::prelude::*;
use testkit::builders;

use super::*;

fn after_seconds(seconds: i64) -> Timestamp {
    builders::time(seconds)
}

fn failed_with(output_tail: String, message: String) -> Failure {
    Failure { output_tail, message, ..builders::failure(FailureKind::Crashed) }
}

fn after_attempts(job: Job, attempts: u32, failure: &Failure) -> Job {
    (1..=attempts).fold(job, |job, attempt| {
        retry(job, attempt, &builders::worker_id(), after_seconds(3), after_seconds(4), failure)
    })
}

fn decoded(message: &Encoded) -> Job {
    decode(Some(message.message_type), Some(message.schema_version), &message.body).expect("a job")
}

#[test]
fn attempts_climb_the_ladder_and_stay_on_its_last_step() {
    let mut random = fastrand::Rng::with_seed(1);
    let steps: Vec<_> = (0..8).map(|attempt| next_delay(attempt, &mut random).step).collect();
    assert_eq!(steps, ["1s", "1s", "5s", "30s", "2m", "10m", "10m", "10m"]);
}

#[test]
fn a_due_time_is_neared_by_the_largest_step_that_fits() {
    let check = |rest_us: i64, expected: Option<(&str, u64)>| {
        let now = after_seconds(0);
        let due_at = Timestamp::from_micros(now.as_micros() + rest_us);
        let found = delay_until(due_at, now).map(|delay| (delay.step, delay.expiration_ms));
        assert_eq!(found, expected, "{rest_us} us to go");
    };
    check(-5_000_000, None);
    check(0, None);
    check(1, Some(("1s", 1)));
    check(999_001, Some(("1s", 1_000)));
    check(4_999_000, Some(("1s", 1_000)));
    check(5_000_000, Some(("5s", 5_000)));
    check(599_999_000, Some(("2m", 120_000)));
    check(601_000_000, Some(("10m", 600_000)));
}

#[test]
fn what_was_no_fault_of_the_job_costs_it_no_attempt() {
    let last = || Job { dispatch: Dispatch { attempts_max: 2, ..Dispatch::default() }, ..builders::web_job() };
    let check = |charge, next, attempts_max| {
        let mut job = last();
        assert_eq!((charged(&mut job, 2, charge), job.dispatch.attempts_max), (next, attempts_max), "{charge:?}");
    };
    check(Charge::Attempt, AfterFailure::DeadLetter, 2);
    check(Charge::Nothing, AfterFailure::Retry, 3);
    check(Charge::Everything, AfterFailure::DeadLetter, 2);
    let mut first = last();
    assert_eq!(charged(&mut first, 1, Charge::Everything), AfterFailure::DeadLetter, "whatever attempts are left");
    let mut spared = last();
    let endless = (1..=Dispatch::ATTEMPTS_LIMIT).map(|attempt| charged(&mut spared, attempt, Charge::Nothing));
    let ended = endless.into_iter().position(|next| next == AfterFailure::DeadLetter);
    assert_eq!(ended, Some(Dispatch::ATTEMPTS_LIMIT as usize - 1), "it ends even where nothing ever runs it");
}

#[test]
fn a_failed_attempt_is_kept_and_nothing_else_changes() {
    let job = builders::benchmark_job();
    let failure = failed_with("ä".repeat(Dispatch::OUTPUT_TAIL_BYTES_MAX), "broke".to_owned());
    let next = retry(job.clone(), 2, &builders::worker_id(), after_seconds(3), after_seconds(4), &failure);
    let [past] = next.dispatch.history.as_slice() else { panic!("one attempt") };
    assert_eq!((past.attempt, past.failure.message.as_str()), (2, "broke"));
    assert_eq!(past.failure.output_tail, "ä".repeat(Dispatch::OUTPUT_TAIL_BYTES_MAX / 2));
    assert_eq!(Job { dispatch: Dispatch { history: Vec::new(), ..next.dispatch.clone() }, ..next }, job);
}

#[test]
fn the_newest_attempts_stay_when_there_are_more_than_may_travel() {
    let job = after_attempts(builders::benchmark_job(), 25, &failed_with(String::new(), String::new()));
    let attempts: Vec<_> = job.dispatch.history.iter().map(|past| past.attempt).collect();
    assert_eq!(attempts, (6..=25).collect::<Vec<_>>());
    assert_eq!(decoded(&encode(&job).expect("small")), job);
}

fn filled(job: Job, bytes: usize) -> Job {
    let spec = |bytes| JobSpec::Test(TestSpec { module: Some("m".repeat(bytes)), ..TestSpec::default() });
    let empty = Job { spec: spec(bytes), ..job.clone() };
    let surplus = empty.to_bytes().expect("a message").len() - bytes;
    Job { spec: spec(bytes - surplus), ..job }
}

#[test]
fn a_job_that_fills_a_message_travels_without_its_history() {
    let job = filled(builders::test_job(), JOB_BYTES_MAX);
    let failure = failed_with("x".repeat(4_096), "y".repeat(4_096));
    let sent = outgoing_dead_letter(&after_attempts(job.clone(), 10, &failure), 1, "crashed").expect("it fits");
    assert_eq!(decoded(&sent.message), job);
    let too_large = filled(builders::test_job(), BODY_BYTES_MAX + 1);
    assert!(matches!(outgoing_dead_letter(&too_large, 1, "crashed"), Err(EncodeError::TooLarge { .. })));
}

/// Its attempt could not be told of and began again, and its next one was sent on each time.
#[test]
fn whatever_carries_the_largest_job_is_a_message() {
    let bare = filled(builders::test_job(), JOB_BYTES_MAX);
    assert_eq!(outgoing_submitted(&bare).expect("it fits").message.body.len(), JOB_BYTES_MAX);
    let failure = failed_with("x".repeat(BODY_BYTES_MAX), "y".repeat(BODY_BYTES_MAX));
    let job = after_attempts(bare.clone(), 20, &failure);
    ensure_fits(&job, BODY_BYTES_MAX).expect("a history does not count");
    let outcome = Outcome::Failed(failure);
    let result = JobResult { job: job.clone(), outcome, ..builders::failed_result(FailureKind::Crashed) };
    let told = outgoing_failed_attempt(result, AfterFailure::Retry).expect("it fits").message;
    let told: FailedAttempt = decode(Some(told.message_type), Some(told.schema_version), &told.body).expect("it");
    assert_eq!(told.result.job, bare);
    let (worker_id, claimed_at) = (builders::worker_id(), after_seconds(3));
    let claim = JobClaimed { job, attempt: 2, worker_id, claimed_at, lease_ms: 60_000 };
    let claim = outgoing_claim(claim).expect("it fits").message;
    let claim: JobClaimed = decode(Some(claim.message_type), Some(claim.schema_version), &claim.body).expect("it");
    assert_eq!(claim.job, bare);

    let larger = filled(builders::test_job(), JOB_BYTES_MAX + 1);
    for refused in [outgoing_submitted(&larger).map(drop), ensure_fits(&larger, JOB_BYTES_MAX + 1)] {
        assert!(matches!(refused, Err(EncodeError::TooLarge { limit_bytes: JOB_BYTES_MAX, .. })), "{refused:?}");
    }
}

#[test]
fn the_last_attempt_is_followed_by_none() {
    let mut job = builders::benchmark_job();
    job.dispatch.attempts_max = 2;
    assert_eq!(
        [1, 2, 3].map(|attempt| after_failure(&job, attempt)),
        [AfterFailure::Retry, AfterFailure::DeadLetter, AfterFailure::DeadLetter]
    );
}

#[test]
fn every_message_goes_where_its_lane_is_found_again() {
    let job = builders::test_job();
    let delay = Delay { step: "5s", expiration_ms: 2_500 };
    let retried = outgoing_retry(&job, 2, delay).expect("small");
    assert_eq!((retried.exchange.as_str(), retried.routing_key.as_str()), ("retries.5s", "cpu.high"));
    assert_eq!((retried.attempt, retried.expiration_ms), (Some(2), Some(2_500)));
    let returned = outgoing_hand_back(&job, 1, None).expect("small");
    assert_eq!((returned.exchange.as_str(), returned.routing_key.as_str()), ("jobs.due", "cpu.high"));
    assert_eq!((returned.attempt, returned.expiration_ms), (Some(1), None));
    let early = outgoing_hand_back(&job, 1, Some(delay)).expect("small");
    assert_eq!((early.exchange.as_str(), early.attempt), ("retries.5s", Some(1)));
    let dead = outgoing_dead_letter(&job, 3, FailureKind::Crashed.as_str()).expect("small");
    assert_eq!((dead.exchange.as_str(), dead.attempt), ("dead-letters", Some(3)));
    assert_eq!(dead.reason.as_deref(), Some("crashed"));
    for outgoing in [retried, returned, early, dead] {
        assert_eq!(outgoing.message_id, job.job_id.to_string());
        assert_eq!(decoded(&outgoing.message), job);
    }
}

proptest! {
    #[test]
    fn a_delay_is_the_second_half_of_its_step(attempt in any::<u32>(), seed in any::<u64>()) {
        let delay = next_delay(attempt, &mut fastrand::Rng::with_seed(seed));
        let (_, step_ms) = names::DELAYS.iter().find(|(step, _)| *step == delay.step).expect("a step");
        prop_assert!((step_ms / 2..=*step_ms).contains(&delay.expiration_ms), "{delay:?}");
    }

    /// Sent on from lane to lane, a job arrives at its due time: never before, and within a millisecond.
    #[test]
    fn lane_after_lane_a_job_reaches_its_due_time(rest_us in 1_i64..40_000_000_000) {
        let due_at = after_seconds(0);
        let mut now = Timestamp::from_micros(due_at.as_micros() - rest_us);
        let mut lanes = 0;
        while let Some(delay) = delay_until(due_at, now) {
            let lane_ms = names::DELAYS.iter().find(|(step, _)| *step == delay.step).expect("a step").1;
            prop_assert!((1..=lane_ms).contains(&delay.expiration_ms), "{delay:?}");
            now = Timestamp::from_micros(now.as_micros() + i64::try_from(delay.expiration_ms).expect("small") * 1_000);
            lanes += 1;
        }
        prop_assert!((0..1_000).contains(&(now.as_micros() - due_at.as_micros())), "{now} instead of {due_at}");
        prop_assert!(lanes < 100, "{lanes} lanes");
    }

    #[test]
    fn a_history_fits_into_a_message(output in "\\PC{0,6000}", message in "\\PC{0,6000}", attempts in 1_u32..40) {
        let job = after_attempts(builders::benchmark_job(), attempts, &failed_with(output, message));
        for past in &job.dispatch.history {
            prop_assert!(past.failure.output_tail.len() <= Dispatch::OUTPUT_TAIL_BYTES_MAX);
            prop_assert!(past.failure.message.len() <= Dispatch::OUTPUT_TAIL_BYTES_MAX);
        }
        prop_assert!(encode(&job).expect("it fits").body.len() < BODY_BYTES_MAX / 4);
    }

    #[test]
    fn cutting_keeps_characters_whole(text in "\\PC{0,200}", bytes_max in 0_usize..300) {
        let (mut end, mut begin) = (text.clone(), text.clone());
        keep_end(&mut end, bytes_max);
        keep_begin(&mut begin, bytes_max);
        prop_assert!(text.ends_with(&end) && text.starts_with(&begin));
        // At most three bytes of a character that did not fit whole are missing.
        for cut in [end, begin] {
            prop_assert!(cut.len() <= bytes_max && cut.len() + 4 > bytes_max.min(text.len()));
        }
    }
}
