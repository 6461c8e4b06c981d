//! Messages that are not what they say they are, or more than may be.

use broker::{AmqpUrl, Outgoing, Patience, Publisher, Settlement, Start, Subscription};
use messages::{Encoded, Job, JobSpec, Message, RunSubmitted, TestSpec, encode};
use testkit::builders;
use tokio_util::sync::CancellationToken;
use topology::names;

use crate::support::{LIMIT, World, assert_counts, block_on, text};

/// A byte that `MessagePack` never uses.
const GARBAGE: [u8; 1] = [0xc1];

fn publish_garbage(url: &AmqpUrl, exchange: &str, routing_key: &str, message_type: &'static str) {
    let garbage = Encoded { message_type, schema_version: 1, body: GARBAGE.to_vec() };
    publish(url, [Outgoing::new(exchange, routing_key, "garbage", garbage).attempt(1)]);
}

fn publish<const N: usize>(url: &AmqpUrl, messages: [Outgoing; N]) {
    block_on(async {
        let publisher = Publisher::start(url, "test", Patience::For(LIMIT), CancellationToken::new()).await;
        let publisher = publisher.expect("a broker");
        for message in messages {
            publisher.publish(message).await.expect("stored");
        }
    });
}

/// Takes one message from the dead letters.
fn dead_letter(url: &AmqpUrl) -> Vec<u8> {
    block_on(async {
        let stop = CancellationToken::new();
        let subscribed =
            Subscription::start(url, "test", names::DEAD_LETTERS, Start::Queue, 1, Patience::For(LIMIT), &stop).await;
        let delivery = subscribed.expect("a broker").next().await.expect("a dead letter");
        let body = delivery.body().to_vec();
        delivery.settle(Settlement::Done).await.expect("settled");
        body
    })
}

#[test]
fn a_result_that_does_not_decode_becomes_a_dead_letter_and_later_ones_count() {
    let world = World::new();
    let url = world.url().parse().expect("a URL");
    let mut aggregator = world.aggregator();
    publish_garbage(&url, names::RESULTS, "", "result");
    aggregator.wait_for_line("result does not decode; it becomes a dead letter", LIMIT).expect("a warning");
    let _worker = world.worker("w1", &[]);
    let run = world.submit("tests:\n  - {name: nothing, profile: noop, repeat: 3}");
    assert_counts(&world.complete(&run), 3, [3, 0, 0, 0]);
    assert_eq!(dead_letter(&url), GARBAGE);
    let replayed = world.augur(&["result", "replay", "--from", "first"]);
    assert_eq!(replayed.code, Some(1), "{replayed:?}");
    assert!(replayed.stderr.contains("3 of them results, 1 not decodable"), "{replayed:?}");
}

#[test]
fn a_job_that_does_not_decode_becomes_a_dead_letter_and_its_neighbours_run() {
    let world = World::new();
    let url = world.url().parse().expect("a URL");
    let _aggregator = world.aggregator();
    let before = world.submit("tests:\n  - {name: before, profile: noop, repeat: 2}");
    publish_garbage(&url, names::JOBS, "cpu.normal", "job");
    let behind = world.submit("tests:\n  - {name: behind, profile: noop, repeat: 2}");
    let mut worker = world.worker("w1", &[]);
    worker.wait_for_line("job does not decode; it becomes a dead letter", LIMIT).expect("a warning");
    for run in [before, behind] {
        assert_counts(&world.complete(&run), 2, [2, 0, 0, 0]);
    }
    assert_eq!(dead_letter(&url), GARBAGE);
}

#[test]
fn a_job_of_a_newer_schema_is_dead_in_its_run() {
    let world = World::new();
    let url = world.url().parse().expect("a URL");
    let _aggregator = world.aggregator();
    let _worker = world.worker("w1", &[]);
    let run = RunSubmitted { jobs_total: 1, ..builders::run_submitted() };
    let (run_id, job) = (run.run_id.to_string(), builders::test_job());
    let newer = Encoded { schema_version: Job::SCHEMA_VERSION + 1, ..encode(&job).expect("small") };
    let announcement = Outgoing::new(names::RESULTS, "", run_id.clone(), encode(&run).expect("small"));
    let newer = Outgoing::new(names::JOBS, job.routing_key(), job.job_id.to_string(), newer).of_run(run.run_id, 0);
    publish(&url, [announcement, newer]);

    assert_eq!(world.augur(&["run", "wait", &run_id, "--timeout-s", "60"]).code, Some(1), "a dead job is unwelcome");
    let shown = world.augur(&["run", "show", &run_id, "--format", "json"]).json();
    assert_eq!((shown["done"].as_u64(), shown["dead"].as_u64()), (Some(0), Some(1)), "{shown:#}");
    let told = &shown["dead_letters"][0];
    assert_eq!((text(told, "job_id"), text(told, "failure_type")), (&*job.job_id.to_string(), "undecodable"));
    let unknown = format!("schema version {}", Job::SCHEMA_VERSION + 1);
    assert!(text(told, "failure_message").contains(&unknown), "{told:#}");
    let letters = world.augur(&["dead-letter", "list", "--run", &run_id, "--format", "json"]).json();
    assert_eq!(text(&letters[0], "job_id"), job.job_id.to_string(), "{letters:#}");
    let compared = ["result", "replay", "--from", "first", "--into", "fresh.duckdb", "--compare"];
    world.augur(&compared).expect(0);
}

#[test]
fn a_job_that_is_too_large_is_dead_in_its_run_and_is_not_sent_back() {
    const JOB_BYTES_MAX: usize = 960 * 1024;
    let world = World::new();
    let url = world.url().parse().expect("a URL");
    let _aggregator = world.aggregator();
    let mut worker = world.worker("w1", &[]);
    let run = RunSubmitted { jobs_total: 1, ..builders::run_submitted() };
    let test = TestSpec { module: Some("m".repeat(JOB_BYTES_MAX)), ..TestSpec::default() };
    let job = Job { spec: JobSpec::Test(test), ..builders::test_job() };
    let (run_id, job_id) = (run.run_id.to_string(), job.job_id.to_string());
    let announcement = Outgoing::new(names::RESULTS, "", run_id.clone(), encode(&run).expect("small"));
    let message = encode(&job).expect("a message");
    let large = Outgoing::new(names::JOBS, job.routing_key(), job_id.clone(), message).of_run(run.run_id, 0);
    publish(&url, [announcement, large]);

    worker.wait_for_line("job is too large; it becomes a dead letter", LIMIT).expect("a warning");
    assert_eq!(world.augur(&["run", "wait", &run_id, "--timeout-s", "60"]).code, Some(1), "a dead job is unwelcome");
    let shown = world.augur(&["run", "show", &run_id, "--format", "json"]).json();
    assert_eq!((shown["done"].as_u64(), shown["dead"].as_u64()), (Some(0), Some(1)), "{shown:#}");
    let list = || world.augur(&["dead-letter", "list", "--run", &run_id, "--format", "json"]).json();
    let letters = list();
    assert_eq!(letters.as_array().map(Vec::len), Some(1), "{letters:#}");
    let details = world.augur(&["dead-letter", "show", &job_id, "--format", "json"]).json();
    let limit = format!("the limit is {JOB_BYTES_MAX}");
    for letter in [&letters[0], &details] {
        assert_eq!((text(letter, "job_id"), text(letter, "reason")), (&*job_id, "rejected"));
        assert!(text(letter, "message").contains(&limit), "{letter:#}");
    }

    let replay = ["dead-letter", "replay", "--job", &job_id];
    let refused = world.augur(&[&replay[..], &["--format", "json"]].concat()).json();
    assert_eq!((refused["replayed"].as_u64(), refused["undecodable"].as_u64()), (Some(0), Some(1)), "{refused:#}");
    let letter = &refused["letters"][0];
    assert!(text(letter, "fate") == "undecodable" && text(letter, "message").contains(&limit), "{letter:#}");
    let refused = world.augur(&replay).expect(0);
    let expected = "0 sent back, 0 duplicates deleted, 1 left that do not decode or are too large";
    assert!(refused.contains(expected), "{refused}");
    assert_eq!(list(), letters, "it is where it was");
}
