//! What becomes of jobs that do not end at their first attempt.

use messages::{CancelTarget, FailureKind, JobClaimed, Need, Outcome, Platform, Requirements, Timestamp};

use super::{
    builders::{
        JOBS_TOTAL, benchmark, cancel, claim, dead, dead_again, died, job_id, record, replayed, retried, returned, run,
        run_id, seconds, submitted, test_result,
    },
    commit::count,
};
use crate::{OutboxMode, Record, RunSummary, Store};

fn commit(store: &Store, records: &[Record]) {
    store.commit(records, None, OutboxMode::Feed).expect("stored");
}

fn stored(records: &[Record]) -> Store {
    let store = Store::in_memory().expect("a store");
    commit(&store, records);
    store
}

fn summary(store: &Store, n: u32) -> RunSummary {
    store.run(run_id(n)).expect("read").expect("there")
}

/// Done, dead and retried.
fn counts(store: &Store, n: u32) -> (u32, u32, u32) {
    let run = summary(store, n);
    (run.done, run.dead, run.retried)
}

/// Results of all jobs of the first run but the first.
fn others() -> Vec<Record> {
    (2..=JOBS_TOTAL).map(|n| record(benchmark(&run(1), n))).collect()
}

#[test]
fn an_unannounced_run_begins_with_a_failed_attempt() {
    let store = stored(&[retried(&run(1), 1, 1)]);
    assert_eq!(counts(&store, 1), (0, 0, 1));
    assert_eq!(summary(&store, 1).submitted_at, seconds(1).to_string());
    assert_eq!(summary(&store, 1).jobs_total, JOBS_TOTAL);
    assert_eq!(count(&store, "SELECT count(*) FROM test_runs WHERE completed_at IS NULL"), 1);
    assert!(store.job(job_id(1)).expect("read").is_none(), "a failed attempt is no result");
}

#[test]
fn a_run_is_complete_when_the_rest_of_it_is_dead() {
    let store = stored(&others());
    commit(&store, &[retried(&run(1), 1, 1), dead(&run(1), 1, 2)]);
    let run = summary(&store, 1);
    assert_eq!((run.done, run.dead, run.retried, run.is_complete()), (5, 1, 1, true));
    assert_eq!(run.completed_at, Some(seconds(1 + 40 + 3).to_string()), "when the last attempt of the dead one ended");
    assert_eq!(count(&store, "SELECT count(*) FROM test_runs WHERE NOT success"), 1);
    assert_eq!(store.attempt_counts(run_id(1)).expect("read").dead_lettered, 1);
}

#[test]
fn a_job_that_the_broker_made_a_dead_letter_ends_like_any_other() {
    let run = run(1);
    let store = stored(&others());
    commit(&store, &[died(&run, 1, 0), died(&run, 1, 0)]);
    commit(&store, &[died(&run, 1, 0)]);
    assert_eq!((counts(&store, 1), summary(&store, 1).is_complete()), ((5, 1, 0), true));
    let dead = store.dead_letters(run_id(1), 10).expect("read");
    assert_eq!((dead.len(), dead[0].case.as_deref(), dead[0].name()), (1, None, job_id(1).to_string().as_str()));
    assert_eq!((dead[0].worker_id.as_str(), dead[0].failure_type.as_deref()), ("broker", Some("undecodable")));
    assert_eq!(store.attempts(job_id(1)).expect("read").len(), 1);
    assert_eq!(store.ended_by_platform(run_id(1)).expect("read")["cpu"], 6);
    commit(&store, &[replayed(&run, 1, 1)]);
    assert_eq!(counts(&store, 1), (5, 0, 0));
    commit(&store, &[died(&run, 1, 1)]);
    assert_eq!(counts(&store, 1), (5, 1, 0));
    commit(&store, &[record(benchmark(&run, 1))]);
    assert_eq!(counts(&store, 1), (6, 0, 0));
}

#[test]
fn a_death_that_is_told_before_its_run_counts_once_the_run_begins() {
    let run = run(1);
    let store = stored(&[died(&run, 1, 0)]);
    assert!(store.run(run_id(1)).expect("read").is_none(), "nothing is known of it but its id");
    commit(&store, &[Record::Run(submitted(&run))]);
    assert_eq!(counts(&store, 1), (0, 1, 0));
}

#[test]
fn a_replay_opens_the_run_again_and_its_result_ends_it() {
    let run = run(1);
    let store = stored(&others());
    commit(&store, &[dead(&run, 1, 3)]);
    commit(&store, &[replayed(&run, 1, 1)]);
    assert_eq!(counts(&store, 1), (5, 0, 0));
    assert_eq!((summary(&store, 1).is_complete(), summary(&store, 1).completed_at), (false, None));
    commit(&store, &[dead_again(&run, 1, 3, 1)]);
    assert_eq!(counts(&store, 1), (5, 1, 0), "dead once more, and counted once");
    assert_eq!(store.dead_letters(run_id(1), 10).expect("read")[0].replays, 1);
    commit(&store, &[replayed(&run, 1, 2), replayed(&run, 1, 1), dead(&run, 1, 3)]);
    assert_eq!(counts(&store, 1), (5, 0, 0), "older news changes nothing");
    commit(&store, &[record(benchmark(&run, 1))]);
    assert_eq!((counts(&store, 1), summary(&store, 1).is_complete()), ((6, 0, 0), true));
}

#[test]
fn a_result_beats_a_dead_letter_whichever_is_read_first() {
    let records = [dead(&run(1), 1, 3), record(benchmark(&run(1), 1))];
    let backwards = [records[1].clone(), records[0].clone()];
    for store in [stored(&records), stored(&backwards)] {
        assert_eq!(counts(&store, 1), (1, 0, 0));
        assert!(store.dead_letters(run_id(1), 10).expect("read").is_empty());
    }
    let store = stored(&records[..1]);
    assert_eq!(store.commit(&records[1..], None, OutboxMode::Feed).expect("stored").runs_touched, [run_id(1)]);
    assert_eq!(counts(&store, 1), (1, 0, 0), "in another batch, too");
}

/// They were proposed again, to die again.
#[test]
fn what_died_a_short_while_ago_is_withheld() {
    let run = run(1);
    let Record::Attempt(attempt) = dead(&run, 1, 3) else { panic!("an attempt") };
    let (case, died_at) = (attempt.result.job.case.clone(), attempt.result.finished_at);
    let since = |store: &Store, later_us| {
        store.withheld(died_at, Timestamp::from_micros(died_at.as_micros() + later_us)).expect("read").dead
    };
    // The broker's news of the other names no case.
    let store = stored(&[dead(&run, 1, 3), died(&run, 2, 0)]);
    assert_eq!((since(&store, 0), since(&store, 1)), (vec![case.clone()], Vec::new()));
    commit(&store, &[replayed(&run, 1, 1)]);
    assert!(since(&store, 0).is_empty(), "it is on its way again");
    commit(&store, &[dead_again(&run, 1, 3, 1)]);
    assert_eq!(since(&store, 0), [case]);
    commit(&store, &[record(benchmark(&run, 1))]);
    assert!(since(&store, 0).is_empty(), "it was measured after all");
}

#[test]
fn a_store_that_was_opened_again_still_knows_its_dead() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("augur.duckdb");
    commit(&Store::open(&path).expect("a new file"), &[dead(&run(1), 1, 3)]);
    let store = Store::open(&path).expect("the same file");
    commit(&store, &[record(benchmark(&run(1), 1))]);
    assert_eq!(counts(&store, 1), (1, 0, 0));
}

#[test]
fn only_a_crash_or_want_of_memory_says_something_of_the_hardware_and_says_it_once() {
    let died_of = |n, kind| {
        let Record::Attempt(mut attempt) = dead(&run(1), n, 3) else { panic!("an attempt") };
        let Outcome::Failed(failure) = &mut attempt.result.outcome else { panic!("a failure") };
        failure.kind = kind;
        Record::Attempt(attempt)
    };
    let store = stored(&[
        died_of(1, FailureKind::Crashed),
        died_of(2, FailureKind::OutOfMemory),
        died_of(3, FailureKind::WorkerLost),
        died_of(4, FailureKind::TimedOut),
        retried(&run(1), 5, 1),
    ]);
    commit(&store, &[died_of(1, FailureKind::Crashed)]);
    let verdicts = "SELECT count(*) FROM hardware_compatibility c JOIN models USING (model_id) \
                    JOIN hardware_platforms USING (hardware_id) JOIN test_runs t ON t.run_id = c.run_id \
                    WHERE NOT is_compatible AND error_type IN ('crashed', 'out-of-memory')";
    assert_eq!(count(&store, verdicts), 2);
    assert_eq!(count(&store, "SELECT count(*) FROM hardware_compatibility"), 2);
}

#[test]
fn a_dead_test_has_no_test_result() {
    let Record::Attempt(mut attempt) = dead(&run(1), 1, 3) else { panic!("an attempt") };
    attempt.result.job = test_result(&run(1), 1).job;
    let store = stored(&[Record::Attempt(attempt)]);
    assert_eq!(counts(&store, 1), (0, 1, 0));
    assert_eq!(count(&store, "SELECT count(*) FROM integration_test_results"), 0);
    assert_eq!(count(&store, "SELECT count(*) FROM hardware_compatibility"), 0);
}

#[test]
fn attempts_are_told_with_their_failures() {
    let mut last = benchmark(&run(1), 1);
    last.attempt = 2;
    last.started_at = seconds(100);
    let store = stored(&[retried(&run(1), 1, 1), retried(&run(1), 1, 1), record(last)]);
    let attempts = store.attempts(job_id(1)).expect("read");
    let told: Vec<_> = attempts.iter().map(|row| (row.attempt, row.status.as_str(), row.next.as_deref())).collect();
    assert_eq!(told, [(1, "error", Some("retry")), (2, "passed", None)]);
    assert_eq!(attempts[0].failure_type.as_deref(), Some("crashed"));
    assert_eq!(attempts[0].failure_message.as_deref(), Some("unsupported operator"));
    assert_eq!(attempts[0].output_tail.as_deref(), Some("last words"));
    assert_eq!((attempts[1].name(), attempts[1].failure_type.as_deref()), ("case-1", None));
    assert_eq!(attempts[1].run_id, run_id(1).to_string());
    assert_eq!(store.run_attempts(run_id(1)).expect("read"), attempts);
    assert!(store.run_attempts(run_id(2)).expect("read").is_empty());
    let counts = store.attempt_counts(run_id(1)).expect("read");
    assert_eq!((counts.counted, counts.retried, counts.dead_lettered), (1, 1, 0));
}

#[test]
fn a_job_of_two_runs_has_one_result_and_counts_in_both() {
    let alone = |n| messages::RunRef { jobs_total: 1, ..run(n) };
    let store = stored(&[record(benchmark(&alone(1), 1))]);
    let summary_of_second = store.commit(&[record(benchmark(&alone(2), 1))], None, OutboxMode::Feed).expect("stored");
    assert_eq!((summary_of_second.results_new, summary_of_second.results_duplicate), (0, 1));
    commit(&store, &[record(benchmark(&alone(2), 1)), record(benchmark(&alone(1), 1))]);
    for n in [1, 2] {
        let run = summary(&store, n);
        assert_eq!((run.done, run.passed, run.is_complete()), (1, 1, true), "run {n}");
        assert_eq!(store.run_results(run_id(n)).expect("read").len(), 1, "run {n}");
    }
    assert_eq!(count(&store, "SELECT count(*) FROM jobs"), 1);
    assert_eq!(count(&store, "SELECT count(*) FROM outbox"), 1);
}

#[test]
fn a_job_that_died_in_one_run_and_has_a_result_in_another_is_done_in_both() {
    let records = [dead(&run(1), 1, 3), record(benchmark(&run(2), 1))];
    let backwards = [records[1].clone(), records[0].clone()];
    for (name, order) in [("died first", &records), ("died last", &backwards)] {
        let store = Store::in_memory().expect("a store");
        for record in order {
            commit(&store, std::slice::from_ref(record));
        }
        assert_eq!((counts(&store, 1), counts(&store, 2)), ((1, 0, 0), (1, 0, 0)), "{name}");
    }
}

#[test]
fn needs_due_time_and_cancellation_are_those_of_the_run() {
    let requirements =
        Requirements { device_memory_mb_min: Some(8_000), tags: vec!["lab".to_owned()], ..Requirements::default() };
    let need = |platform, requirements| Need { platform, requirements, jobs: 3 };
    let announced = messages::RunSubmitted {
        needs: vec![need(Platform::Cuda, requirements.clone()), need(Platform::Cpu, Requirements::default())],
        due_at: Some(seconds(50)),
        ..submitted(&run(1))
    };
    let store = stored(&[cancel(CancelTarget::Run(run_id(1)), 9), cancel(CancelTarget::Job(job_id(1)), 3)]);
    commit(&store, &[Record::Run(announced.clone()), cancel(CancelTarget::Run(run_id(1)), 12)]);
    commit(&store, &[Record::Run(announced)]);
    let needs = store.run_needs(run_id(1)).expect("read");
    let told: Vec<_> = needs.iter().map(|need| (need.platform.as_str(), need.requirements(), need.jobs)).collect();
    assert_eq!(told, [("cpu", Requirements::default(), 3), ("cuda", requirements, 3)]);
    let run = summary(&store, 1);
    assert_eq!((run.due_at, run.cancelled_at), (Some(seconds(50).to_string()), Some(seconds(9).to_string())));
}

#[test]
fn a_run_of_one_is_cancelled_with_its_job_and_no_other_is() {
    let of_one = |n, only_job| Record::Run(messages::RunSubmitted { only_job, ..submitted(&run(n)) });
    let store = stored(&[
        of_one(1, Some(job_id(1))),
        of_one(2, Some(job_id(2))),
        of_one(3, None),
        cancel(CancelTarget::Job(job_id(1)), 9),
        cancel(CancelTarget::Job(job_id(1)), 7),
        cancel(CancelTarget::Run(run_id(1)), 8),
    ]);
    assert_eq!(summary(&store, 1).cancelled_at, Some(seconds(7).to_string()), "the first order counts");
    assert_eq!((summary(&store, 2).cancelled_at, summary(&store, 3).cancelled_at), (None, None));
}

fn open(store: &Store) -> Vec<JobClaimed> {
    store.open_claims().expect("read").into_iter().map(|open| open.claim).collect()
}

#[test]
fn a_claim_is_open_until_something_ends_it() {
    let run = run(1);
    let claims =
        [claim(&run, 1, 1, 1, 10), claim(&run, 2, 1, 2, 11), claim(&run, 3, 1, 3, 12), claim(&run, 4, 2, 4, 13)];
    let records: Vec<_> = claims.iter().cloned().map(|claim| Record::Claim(Box::new(claim))).collect();
    let store = stored(&records);
    commit(&store, &records);
    assert_eq!(open(&store), claims, "each once, whole");
    commit(&store, &[returned(&claims[0], 9), retried(&run, 4, 1)]);
    assert_eq!(open(&store), claims, "an older return or attempt ends nothing");
    commit(&store, &[returned(&claims[0], 10), record(benchmark(&run, 2)), dead(&run, 4, 2)]);
    assert_eq!(open(&store), claims[2..3]);
    let again = claim(&run, 1, 1, 5, 20);
    commit(&store, &[Record::Claim(Box::new(again.clone()))]);
    assert_eq!(open(&store), [claims[2].clone(), again.clone()], "by another worker");
    commit(&store, &[returned(&again, 21)]);
    assert_eq!(open(&store), claims[2..3], "the earlier claim of that job does not open again");
}

#[test]
fn an_order_is_open_until_what_it_is_about_has_ended() {
    let run = run(1);
    let orders = |n| [cancel(CancelTarget::Job(job_id(n)), 3), cancel(CancelTarget::Run(run_id(1)), 4)];
    let store = stored(&others());
    commit(&store, &orders(1));
    commit(&store, &[cancel(CancelTarget::Job(job_id(2)), 5), cancel(CancelTarget::Job(job_id(1)), 6)]);
    let open = |since, limit| {
        let orders = store.open_cancels(seconds(since), limit).expect("read");
        orders.into_iter().map(|order| (order.target, order.requested_at)).collect::<Vec<_>>()
    };
    let [of_job, of_run] = [(CancelTarget::Job(job_id(1)), seconds(6)), (CancelTarget::Run(run_id(1)), seconds(4))];
    assert_eq!(open(0, 10), [of_job, of_run], "the other job has ended");
    assert_eq!((open(0, 1), open(5, 10)), (vec![of_job], vec![of_job]));
    commit(&store, &[record(benchmark(&run, 1))]);
    assert!(open(0, 10).is_empty(), "the run is complete");
}
