//! A claimed job whose worker is silent goes to its next attempt, or to the dead letters.

use broker::Settlement;
use messages::{AfterFailure, FailureKind, Job, JobClaimed};
use pipeline::dead_letters;
use store::Store;
use testkit::builders;

use crate::support::{PATIENCE, World, bounded, job};

/// Short, so that the tests are: nobody renews these.
const LEASE_MS: u64 = 200;

fn claim(number: u64, attempt: u32) -> JobClaimed {
    let (job, worker_id) = (job(number), builders::worker_id());
    JobClaimed { job, attempt, worker_id, claimed_at: builders::time(10), lease_ms: LEASE_MS }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lapsed_lease_costs_an_attempt_and_the_last_one_makes_a_dead_letter() {
    bounded(async {
        let world = World::new().await;
        let store = Store::in_memory().unwrap();
        let (aggregating, mut commits) = world.aggregate(&store);
        world.record("run", &builders::run_submitted()).await;
        world.record("1", &claim(1, 1)).await;
        world.record("2", &claim(2, 3)).await;

        let mut lane = world.lane("jobs.cpu.normal").await;
        let again = lane.next().await.unwrap();
        assert_eq!(again.attempt(), 2);
        let sent: Job = again.decode().unwrap();
        assert_eq!(sent.job_id, builders::job_id(1));
        assert_eq!(sent.dispatch.history[0].failure.kind, FailureKind::WorkerLost);
        again.settle(Settlement::Done).await.unwrap();

        // The news of both has come round through the stream.
        let attempts = |number| store.attempts(builders::job_id(number)).unwrap();
        while attempts(1).is_empty() || attempts(2).is_empty() {
            commits.changed().await.unwrap();
        }
        assert!(store.open_claims().unwrap().is_empty());
        assert_eq!(attempts(2)[0].next.as_deref(), Some(AfterFailure::DeadLetter.as_str()));
        let mut letters = Vec::new();
        let filter = dead_letters::Filter { reason: Some("worker-lost".to_owned()), ..Default::default() };
        dead_letters::list(&world.url, &filter, PATIENCE, &world.stop, |letter, _| {
            letters.push(letter.job.as_ref().map(|job| job.job_id).ok());
        })
        .await
        .unwrap();
        // One that was sent on again before its news was known counts once all the same.
        assert!(!letters.is_empty() && letters.iter().all(|job| *job == Some(builders::job_id(2))), "{letters:?}");

        world.stop.cancel();
        aggregating.await.unwrap().unwrap();
    })
    .await;
}
