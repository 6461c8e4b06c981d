//! What the broker makes a dead letter by itself ends its job in its run.

use broker::{BrokerError, Outgoing, Settlement};
use messages::{Encoded, Job, Message, Outcome, RunSubmitted, encode};
use pipeline::{
    ReplayFrom, ReplayRange,
    dead_letters::{self, Filter},
    replay_into,
};
use store::{RunSummary, Store};
use testkit::builders;
use tokio::sync::watch;
use topology::names;

use crate::support::{PATIENCE, World, bounded, declare, garbage, job, result};

const LANE: &str = "jobs.cpu.normal";
/// Deliveries of a message before its lane gives it up; `x-delivery-limit` of `queues.yaml` counts the returns.
const DELIVERIES_MAX: usize = 21;

fn of_lane(message_id: impl Into<String>, message: Encoded) -> Outgoing {
    Outgoing::new(names::JOBS, "cpu.normal", message_id, message).attempt(1)
}

/// The run once it is as wanted.
async fn run(store: &Store, commits: &mut watch::Receiver<u64>, wanted: fn(&RunSummary) -> bool) -> RunSummary {
    loop {
        if let Some(run) = store.run(builders::run_id(1)).unwrap().filter(wanted) {
            return run;
        }
        commits.changed().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_comes_back_too_often_or_cannot_be_read_is_dead_in_its_run_until_it_is_replayed() {
    bounded(async {
        let world = World::new().await;
        let store = Store::in_memory().unwrap();
        let (aggregating, mut commits) = world.aggregate(&store);
        world.record("run", &RunSubmitted { jobs_total: 2, ..builders::run_submitted() }).await;
        let mut lane = world.lane(LANE).await;

        let returned = job(1);
        world.publish(of_lane(returned.job_id.to_string(), encode(&returned).unwrap())).await;
        for _ in 0..DELIVERIES_MAX {
            lane.next().await.unwrap().settle(Settlement::Return).await.unwrap();
        }
        let unread = Encoded { schema_version: Job::SCHEMA_VERSION + 1, ..encode(&job(2)).unwrap() };
        world.publish(of_lane(builders::job_id(2).to_string(), unread).of_run(builders::run_id(1), 0)).await;
        // Of no job and no run: nothing can be told of it, and it stands in nobody's way.
        world.publish(of_lane("garbage", garbage())).await;
        for _ in 0..2 {
            lane.next().await.unwrap().settle(Settlement::DeadLetter).await.unwrap();
        }

        assert!(run(&store, &mut commits, |run| run.dead == 2).await.is_complete());
        let mut told: Vec<_> = store
            .dead_letters(builders::run_id(1), 10)
            .unwrap()
            .into_iter()
            .map(|dead| (dead.case, dead.failure_type))
            .collect();
        told.sort();
        let why = |reason: &str| Some(reason.to_owned());
        assert_eq!(told, [(None, why("undecodable")), (Some(returned.case.clone()), why("delivery-limit"))]);

        let of_run = Filter { run: Some(builders::run_id(1)), ..Filter::default() };
        let replaying = dead_letters::replay(&world.url, &of_run, false, PATIENCE, &world.stop, |_, _| {});
        let replayed = replaying.await.unwrap();
        assert_eq!((replayed.matching, replayed.replayed, replayed.undecodable), (2, 1, 1));
        run(&store, &mut commits, |run| run.dead == 1).await;
        let again = lane.next().await.unwrap();
        assert_eq!((again.run_id(), again.replays()), (Some(builders::run_id(1)), 1));
        again.settle(Settlement::DeadLetter).await.unwrap();
        run(&store, &mut commits, |run| run.dead == 2).await;
        world.record("late", &result(1)).await;
        let ended = run(&store, &mut commits, |run| run.done == 1).await;
        assert_eq!((ended.dead, ended.is_complete()), (1, true), "a result beats the dead letter, and counts once");

        world.stop.cancel();
        aggregating.await.unwrap().unwrap();
    })
    .await;
}

/// They lay in a queue that nobody read, and their run never ended.
#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_come_back_to_no_lane_are_dead_in_their_run_until_they_are_replayed() {
    bounded(async {
        let world = World::new().await;
        let store = Store::in_memory().unwrap();
        let (aggregating, mut commits) = world.aggregate(&store);
        world.record("run", &RunSubmitted { jobs_total: 2, ..builders::run_submitted() }).await;
        world.vhost.node().ctl(&["delete_queue", "-p", world.vhost.name(), LANE]).unwrap();
        let job_to = |exchange: &str, number| {
            let job = job(number);
            Outgoing::new(exchange, job.routing_key(), job.job_id.to_string(), encode(&job).unwrap()).attempt(2)
        };
        let submitted = world.publisher.publish(job_to(names::JOBS, 3)).await;
        assert!(matches!(submitted, Err(BrokerError::Unroutable { .. })), "its publisher is told: {submitted:?}");
        world.publish(job_to(names::JOBS_DUE, 1)).await;
        world.publish(job_to(&names::retries("1s"), 2).expiration_ms(1)).await;

        assert!(run(&store, &mut commits, |run| run.dead == 2).await.is_complete());
        for dead in store.dead_letters(builders::run_id(1), 10).unwrap() {
            let why = (dead.attempt, dead.failure_type.as_deref(), dead.failure_message.as_deref());
            assert_eq!(why, (2, Some("unroutable"), Some("no lane takes `cpu.normal`")));
        }

        declare(&world.url).await;
        let unroutable = Filter { reason: Some("unroutable".to_owned()), ..Filter::default() };
        let replaying = dead_letters::replay(&world.url, &unroutable, false, PATIENCE, &world.stop, |_, _| {});
        let replayed = replaying.await.unwrap();
        assert_eq!((replayed.in_queue, replayed.replayed), (2, 2));
        run(&store, &mut commits, |run| run.dead == 0).await;
        let mut lane = world.lane(LANE).await;
        let mut back = Vec::new();
        for _ in 0..2 {
            let delivery = lane.next().await.unwrap();
            back.push((delivery.message_id().map(str::to_owned), delivery.replays()));
            delivery.settle(Settlement::Done).await.unwrap();
        }
        back.sort();
        assert_eq!(back, [1, 2].map(|number| (Some(builders::job_id(number).to_string()), 1)));

        world.stop.cancel();
        aggregating.await.unwrap().unwrap();
    })
    .await;
}

/// It was tried again for ever, and nothing behind it was counted any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_cannot_be_stored_is_dead_in_its_run_and_its_neighbours_count() {
    bounded(async {
        let world = World::new().await;
        let mut spoilt = result(2);
        let Outcome::Benchmark(benchmark) = &mut spoilt.outcome else { panic!("a benchmark") };
        // It decodes, and its column is an INTEGER.
        benchmark.warmup_iterations = u32::MAX;
        world.record("run", &RunSubmitted { jobs_total: 4, ..builders::run_submitted() }).await;
        world.record("1", &result(1)).await;
        world.record("2", &spoilt).await;
        world.record("3", &result(3)).await;
        let store = Store::in_memory().unwrap();
        let (aggregating, mut commits) = world.aggregate(&store);

        let ended = run(&store, &mut commits, |run| run.ended() == 3).await;
        assert_eq!((ended.done, ended.dead), (2, 1));
        let dead = store.dead_letters(builders::run_id(1), 10).unwrap();
        assert_eq!((dead.len(), dead[0].failure_type.as_deref()), (1, Some("unstorable")));
        assert_eq!(dead[0].job_id, builders::job_id(2).to_string());
        let mut letters = Vec::new();
        let all = Filter::default();
        let list = dead_letters::list(&world.url, &all, PATIENCE, &world.stop, |letter, _| {
            letters.push((letter.reason.clone(), letter.message_id.clone(), letter.body_bytes));
        });
        list.await.unwrap();
        let body = encode(&spoilt).unwrap().body.len();
        assert_eq!(letters, [("unstorable".to_owned(), Some("2".to_owned()), body)]);

        world.record("4", &result(4)).await;
        run(&store, &mut commits, RunSummary::is_complete).await;
        let copy = Store::in_memory().unwrap();
        let whole = ReplayRange::from(ReplayFrom::First);
        let replayed = replay_into(&world.url, whole, &copy, &world.stop, |_| {}).await.unwrap();
        assert_eq!((replayed.results, replayed.results_new), (4, 3));
        assert_eq!(copy.digest().unwrap(), store.digest().unwrap());

        world.stop.cancel();
        aggregating.await.unwrap().unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_told_itself_is_not_told_again() {
    bounded(async {
        let world = World::new().await;
        let store = Store::in_memory().unwrap();
        let (aggregating, mut commits) = world.aggregate(&store);
        world.record("run", &RunSubmitted { jobs_total: 2, ..builders::run_submitted() }).await;
        let letter = |number, reason: Option<&str>| {
            let letter = job(number);
            let outgoing = Outgoing::new(
                names::DEAD_LETTERS,
                letter.routing_key(),
                letter.job_id.to_string(),
                encode(&letter).unwrap(),
            );
            Outgoing { reason: reason.map(str::to_owned), ..outgoing }
        };
        world.publish(letter(1, Some("crashed"))).await;
        // The broker's own, in the same lane behind it, shows that the first was seen.
        world.publish(of_lane(builders::job_id(2).to_string(), encode(&job(2)).unwrap())).await;
        let mut lane = world.lane(LANE).await;
        lane.next().await.unwrap().settle(Settlement::DeadLetter).await.unwrap();
        run(&store, &mut commits, |run| run.dead == 1).await;
        let told = store.dead_letters(builders::run_id(1), 10).unwrap();
        assert_eq!((told.len(), &told[0].job_id), (1, &builders::job_id(2).to_string()));
        world.stop.cancel();
        aggregating.await.unwrap().unwrap();
    })
    .await;
}
