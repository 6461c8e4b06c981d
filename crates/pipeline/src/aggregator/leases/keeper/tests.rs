//! A lease lives as long as its worker speaks, and not much longer.

use messages::{AfterFailure, DeadLettered, FailedAttempt, FailureKind, JobResult, Platform};
use proptest::prelude::*;
use testkit::builders;

use super::*;

const LEASE_MS: u64 = 60_000;
/// The lease's length as this side counts it.
const HERE_MS: u64 = LEASE_MS + LEASE_MS * MARGIN_PCT as u64 / 100;

fn claim(replays: u32, attempt: u32, claimed_at_s: i64) -> JobClaimed {
    let mut job = builders::benchmark_job();
    job.dispatch.replays = replays;
    let (worker_id, claimed_at) = (builders::worker_id(), builders::time(claimed_at_s));
    JobClaimed { job, attempt, worker_id, claimed_at, lease_ms: LEASE_MS }
}

fn heartbeat(worker: &str, attempt: u32, leased: bool) -> Heartbeat {
    let mut heartbeat = builders::heartbeat();
    heartbeat.worker_id = WorkerId::parse(worker).expect("a valid name");
    heartbeat.running[0].attempt = attempt;
    heartbeat.running[0].leased = leased;
    heartbeat
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn failed(replays: u32, attempt: u32) -> Record {
    let mut result = JobResult { attempt, ..builders::failed_result(FailureKind::Crashed) };
    result.job.dispatch.replays = replays;
    Record::Attempt(Box::new(FailedAttempt { result, next: AfterFailure::Retry }))
}

fn dead_lettered(replays: u32, attempt: u32) -> Record {
    Record::DeadLettered(DeadLettered {
        job_id: builders::job_id(1),
        run_id: builders::run_id(1),
        replays,
        attempt,
        platform: Platform::Cpu,
        case: None,
        reason: "delivery-limit".to_owned(),
        message: String::new(),
        died_at: builders::time(20),
    })
}

fn returned(worker: &str, returned_at_s: i64) -> Record {
    Record::ClaimReturned(ClaimReturned {
        job_id: builders::job_id(1),
        run_id: builders::run_id(1),
        attempt: 1,
        worker_id: WorkerId::parse(worker).expect("a valid name"),
        returned_at: builders::time(returned_at_s),
    })
}

/// Whether the claim of attempt 2 at second 10 is still open after `record`.
fn is_open_after(record: &Record) -> bool {
    let (mut keeper, now) = (LeaseKeeper::default(), Instant::now());
    keeper.open(claim(1, 2, 10), now);
    keeper.take(record, now);
    keeper.next_deadline().is_some()
}

#[test]
fn what_ends_a_claim_closes_its_lease_and_nothing_else_does() {
    assert!(!is_open_after(&Record::Result(Box::new(builders::job_result()))));
    assert!(!is_open_after(&failed(1, 2)) && !is_open_after(&failed(1, 3)));
    assert!(is_open_after(&failed(1, 1)), "an earlier attempt");
    assert!(is_open_after(&failed(0, 2)), "an attempt of an earlier life");
    assert!(!is_open_after(&dead_lettered(1, 2)) && is_open_after(&dead_lettered(0, 2)));
    let ours = builders::worker_id();
    assert!(!is_open_after(&returned(ours.as_str(), 10)));
    assert!(is_open_after(&returned(ours.as_str(), 9)), "an earlier claim was returned");
    assert!(is_open_after(&returned("other:1:0", 11)), "somebody else returned it");
    let mut other = builders::job_result();
    other.job.job_id = builders::job_id(2);
    assert!(is_open_after(&Record::Result(Box::new(other))));
    assert!(is_open_after(&Record::Run(builders::run_submitted())));
}

#[test]
fn only_its_holder_renews_a_lease() {
    for (renewing, is_renewed) in [
        (heartbeat("test-host:100:0", 1, true), true),
        (heartbeat("test-host:100:0", 1, false), false),
        (heartbeat("test-host:100:0", 2, true), false),
        (heartbeat("other:1:0", 1, true), false),
    ] {
        let (mut keeper, start) = (LeaseKeeper::default(), Instant::now());
        keeper.open(claim(0, 1, 0), start);
        keeper.renew(&renewing, start + ms(1_000));
        let expected = if is_renewed { HERE_MS + 1_000 } else { HERE_MS };
        assert_eq!(keeper.next_deadline(), Some(start + ms(expected)), "{renewing:?}");
    }
}

#[test]
fn the_latest_claim_counts() {
    let (mut keeper, start) = (LeaseKeeper::default(), Instant::now());
    for late in [claim(0, 2, 20), claim(0, 1, 10), claim(0, 2, 20)] {
        keeper.open(late, start);
    }
    assert_eq!(keeper.lapsed(start + ms(HERE_MS)), [claim(0, 2, 20)]);
    keeper.forget(&claim(0, 1, 10));
    assert!(keeper.next_deadline().is_some(), "another claim was forgotten");
    keeper.postpone(&claim(0, 2, 20), ms(5_000), start + ms(HERE_MS));
    assert_eq!(keeper.next_deadline(), Some(start + ms(HERE_MS + 5_000)));
    keeper.forget(&claim(0, 2, 20));
    assert_eq!(keeper.next_deadline(), None);
}

proptest! {
    #[test]
    fn no_lease_lapses_while_it_is_renewed(pauses_ms in prop::collection::vec(0..HERE_MS, 1..50)) {
        let (mut keeper, mut now) = (LeaseKeeper::default(), Instant::now());
        keeper.open(claim(0, 1, 0), now);
        for pause_ms in pauses_ms {
            now += ms(pause_ms);
            prop_assert!(keeper.lapsed(now).is_empty());
            keeper.renew(&heartbeat("test-host:100:0", 1, true), now);
        }
    }

    #[test]
    fn every_lease_lapses_in_silence(pauses_ms in prop::collection::vec(0..HERE_MS, 0..50), renew_all in any::<bool>()) {
        let (mut keeper, mut now) = (LeaseKeeper::default(), Instant::now());
        keeper.open(claim(0, 1, 0), now);
        for pause_ms in pauses_ms {
            now += ms(pause_ms);
            keeper.renew(&heartbeat("test-host:100:0", 1, true), now);
        }
        if renew_all {
            keeper.renew_all(now);
        }
        let silent_until = now + ms(HERE_MS);
        prop_assert_eq!(keeper.next_deadline(), Some(silent_until));
        prop_assert!(keeper.lapsed(silent_until.checked_sub(ms(1)).expect("after the start")).is_empty());
        prop_assert_eq!(keeper.lapsed(silent_until), vec![claim(0, 1, 0)]);
    }

    /// Whatever came before, a job with a result is held by nobody.
    #[test]
    fn a_result_closes_every_claim_of_its_job(claims in prop::collection::vec((0_u32..3, 1_u32..4, 0_i64..100), 0..20)) {
        let (mut keeper, now) = (LeaseKeeper::default(), Instant::now());
        for (replays, attempt, claimed_at_s) in claims {
            keeper.take(&Record::Claim(Box::new(claim(replays, attempt, claimed_at_s))), now);
        }
        keeper.take(&Record::Result(Box::new(builders::job_result())), now);
        prop_assert_eq!(keeper.next_deadline(), None);
    }
}
