//! A run's progress does not depend on the order of its records, nor on how often each comes.

use messages::{Cancel, FailureKind, Job, Platform};
use proptest::prelude::*;
use testkit::builders;

use super::*;

fn job(number: u64, replays: u32) -> Job {
    let mut job = Job { job_id: builders::job_id(number), ..builders::benchmark_job() };
    job.dispatch.replays = replays;
    job
}

fn result(number: u64) -> Record {
    Record::Result(Box::new(JobResult { job: job(number, 0), ..builders::job_result() }))
}

fn attempt(number: u64, replays: u32, attempt: u32, next: AfterFailure) -> Record {
    let failed = builders::failed_result(FailureKind::Crashed);
    Record::Attempt(Box::new(FailedAttempt {
        result: JobResult { job: job(number, replays), attempt, ..failed },
        next,
    }))
}

fn dead_lettered(number: u64, replays: u32) -> Record {
    Record::DeadLettered(DeadLettered {
        job_id: builders::job_id(number),
        run_id: builders::run_id(1),
        replays,
        attempt: 1,
        platform: Platform::Cpu,
        case: None,
        reason: "undecodable".to_owned(),
        message: "schema version 9".to_owned(),
        died_at: builders::time(8),
    })
}

fn replayed(number: u64, replays: u32) -> Record {
    let (job_id, run_id) = (builders::job_id(number), builders::run_id(1));
    Record::Replayed(DeadLetterReplayed { job_id, run_id, replays, replayed_at: builders::time(9) })
}

fn count(records: impl IntoIterator<Item = Record>) -> (Progress, Vec<RunNews>) {
    let mut count = RunCount::new(&builders::run_submitted());
    let news = records.into_iter().filter_map(|record| count.take(record)).collect();
    (count.progress, news)
}

#[test]
fn a_dead_letter_ends_a_job_and_a_late_result_beats_it_once() {
    let records = [
        attempt(1, 0, 1, AfterFailure::Retry),
        attempt(1, 0, 2, AfterFailure::DeadLetter),
        attempt(1, 0, 2, AfterFailure::DeadLetter),
    ];
    let (progress, news) = count(records.clone());
    assert_eq!((progress.done, progress.dead, progress.retried, progress.passed), (1, 1, 1, 0));
    assert!(matches!(news.as_slice(), [RunNews::Retried(_), RunNews::Dead(_)]), "{news:?}");
    let (progress, news) = count(records.into_iter().chain([result(1), result(1)]));
    assert_eq!((progress.done, progress.dead, progress.passed), (1, 0, 1));
    assert!(matches!(news.as_slice(), [_, _, RunNews::Ended(_)]), "{news:?}");
}

#[test]
fn a_dead_letter_of_the_brokers_own_ends_a_job_like_any_other() {
    let (progress, news) =
        count([dead_lettered(1, 0), dead_lettered(1, 0), attempt(1, 0, 1, AfterFailure::DeadLetter)]);
    assert_eq!((progress.done, progress.dead), (1, 1));
    let [RunNews::Dead(job)] = news.as_slice() else { panic!("{news:?}") };
    assert_eq!((job.case.as_deref(), job.name(), job.reason.as_str()), (None, job.job_id.to_string(), "undecodable"));
    let (progress, _) = count([dead_lettered(1, 0), replayed(1, 1)]);
    assert_eq!((progress.done, progress.dead), (0, 0));
}

#[test]
fn who_takes_back_the_only_job_takes_back_the_run() {
    let orders = [2, 1, 1].map(|number| {
        let target = CancelTarget::Job(builders::job_id(number));
        Record::Cancel(Cancel { target, requested_at: builders::time(8) })
    });
    let news = |only_job| {
        let mut count = RunCount::new(&RunSubmitted { only_job, ..builders::run_submitted() });
        orders.clone().into_iter().filter_map(|order| count.take(order)).collect::<Vec<_>>()
    };
    assert_eq!(news(Some(builders::job_id(1))), [RunNews::Cancelled], "once, and not for another's job");
    assert_eq!(news(None), []);
}

#[test]
fn a_dead_letter_that_was_sent_back_is_waited_for_again() {
    let dead = attempt(1, 0, 3, AfterFailure::DeadLetter);
    let (progress, news) = count([dead.clone(), replayed(1, 1), dead.clone()]);
    assert_eq!((progress.done, progress.dead), (0, 0));
    assert!(matches!(news.as_slice(), [RunNews::Dead(_), RunNews::Replayed(_)]), "{news:?}");
    let (progress, _) = count([dead, replayed(1, 1), attempt(1, 1, 3, AfterFailure::DeadLetter)]);
    assert_eq!((progress.done, progress.dead), (1, 1));
}

#[test]
fn a_cancel_is_noted_once_and_other_runs_are_not_ours() {
    let cancel = |run| messages::Cancel { target: CancelTarget::Run(run), requested_at: builders::time(4) };
    let (progress, news) = count([Record::Cancel(cancel(builders::run_id(2)))]);
    assert!(!progress.cancelled && news.is_empty());
    let (progress, news) = count([1, 1].map(|run| Record::Cancel(cancel(builders::run_id(run)))));
    assert!(progress.cancelled);
    assert_eq!(news, [RunNews::Cancelled]);
    let mut other = builders::job_result();
    other.job.run.run_id = builders::run_id(2);
    assert_eq!(count([Record::Result(Box::new(other))]).0.done, 0);
}

proptest! {
    #[test]
    fn order_and_repetition_change_no_end(picked in prop::collection::vec(0_usize..9, 0..40)) {
        let all = [
            result(1),
            attempt(1, 0, 1, AfterFailure::DeadLetter),
            attempt(2, 0, 1, AfterFailure::DeadLetter),
            replayed(2, 1),
            attempt(2, 1, 1, AfterFailure::DeadLetter),
            replayed(1, 1),
            attempt(2, 0, 1, AfterFailure::Retry),
            dead_lettered(1, 1),
            dead_lettered(2, 0),
        ];
        let ends = |records: Vec<Record>| {
            let progress = count(records).0;
            (progress.done, progress.passed, progress.dead)
        };
        let mut set = picked.clone();
        set.sort_unstable();
        set.dedup();
        let records = |indices: &[usize]| indices.iter().map(|index| all[*index].clone()).collect::<Vec<_>>();
        prop_assert_eq!(ends(records(&picked)), ends(records(&set)));
        prop_assert_eq!(ends(records(&picked)), ends(records(&set.into_iter().rev().collect::<Vec<_>>())));
    }
}
