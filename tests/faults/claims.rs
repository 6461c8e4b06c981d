//! Claims whose confirm is late, and claimed jobs that nobody wants any more.

use broker::{Patience, Start, Subscription};
use messages::{ClaimReturned, JobClaimed, JobResult, Message};
use nix::sys::signal::Signal;
use tokio_util::sync::CancellationToken;
use topology::names;

use crate::support::{LIMIT, World, assert_counts, block_on, text};

/// Suspends or resumes whoever writes the result stream: until then nothing on it is confirmed.
fn result_stream(world: &World, verb: &str) {
    let (node, name) = world.node();
    let queue = format!("rabbit_misc:r(<<\"{name}\">>, queue, <<\"{}\">>)", names::RESULTS);
    let expressions = format!("{{ok, Q}} = rabbit_amqqueue:lookup({queue}), sys:{verb}(amqqueue:get_pid(Q)).");
    node.evaluate(&expressions).expect(verb);
}

/// What workers said of claims, up to the first result.
fn claims_and_returns(world: &World) -> [Vec<String>; 2] {
    block_on(async {
        let (url, stop) = (world.url().parse().expect("a URL"), CancellationToken::new());
        let (start, patience) = (Start::StreamFirst, Patience::For(LIMIT));
        let mut stream =
            Subscription::start(&url, "test", names::RESULTS, start, 100, patience, &stop).await.expect("it");
        let [mut claims, mut returns] = [Vec::new(), Vec::new()];
        loop {
            let record = stream.next().await.expect("a record");
            match record.message_type() {
                Some(JobClaimed::TYPE) => {
                    claims.push(record.decode::<JobClaimed>().expect("a claim").worker_id.to_string());
                }
                Some(ClaimReturned::TYPE) => {
                    returns.push(record.decode::<ClaimReturned>().expect("a return").worker_id.to_string());
                }
                Some(JobResult::TYPE) => return [claims, returns],
                _ => {}
            }
        }
    })
}

/// Its lease lapsed, and the attempt was charged.
#[test]
fn a_claim_that_is_not_confirmed_when_its_job_is_handed_back_is_returned() {
    let world = World::new();
    world.set("AUGUR_WORKER__CLAIM_AFTER_S", "0");
    world.set("AUGUR_WORKER__GRACE_S", "0");
    world.set("AUGUR_LOG", "info,pipeline=debug");
    let _aggregator = world.aggregator();
    let (_, run) = world.submit_hold("long");
    result_stream(&world, "suspend");
    let mut first = world.worker("first", &[]);
    let process = world.holds().next();
    first.wait_for_line("claiming the job", LIMIT).expect("it claims");
    first.signal(Signal::SIGTERM).expect("sent");
    process.gone();
    result_stream(&world, "resume");
    assert_eq!(first.wait(LIMIT).expect("an end").code(), Some(0), "{}", first.stderr());

    let _second = world.worker("second", &[]);
    world.holds().next();
    world.holds().let_go(1);
    assert_counts(&world.complete(&run), 1, [1, 0, 0, 0]);
    assert_eq!(world.results(&run)[0]["attempt"], 1);
    let [claims, returns] = claims_and_returns(&world);
    assert!(claims.contains(&"first".to_owned()), "{claims:?}");
    assert_eq!(returns, ["first"]);
}

#[test]
fn a_claimed_job_that_is_cancelled_ends_with_its_process_and_counts_once() {
    let world = World::new();
    world.set("AUGUR_WORKER__CLAIM_AFTER_S", "0");
    world.set("AUGUR_WORKER__LEASE_S", "4");
    let _aggregator = world.aggregator();
    let mut first = world.worker("first", &[]);
    let (job, run) = world.submit_hold("unwanted");
    let process = world.holds().next();
    first.wait_for_line("job claimed", LIMIT).expect("claimed");
    let mut waiting = world.spawn("wait", &["run", "wait", &run]);
    world.augur(&["job", "cancel", &job]).expect(0);
    process.gone();
    assert_eq!(waiting.wait(LIMIT).expect("an end").code(), Some(1), "not passed is unwelcome");
    assert!(!waiting.stderr().contains("no worker reached"), "{}", waiting.stderr());
    assert_counts(&world.complete(&run), 1, [0, 0, 0, 1]);
    let shown = world.augur(&["job", "show", &job, "--format", "json"]).json();
    assert_eq!((text(&shown, "status"), text(&shown, "failure_type")), ("cancelled", "cancelled"));

    // If its claim were still open, its lease would lapse before that of this one, and the job would be put back first.
    let (_, later) = world.submit_hold("later");
    let orphan = world.holds().next();
    first.wait_for_line("job claimed", LIMIT).expect("claimed");
    let _second = world.worker("second", &[]);
    first.kill().expect("killed");
    orphan.gone();
    assert_eq!(world.holds().next().name, "later", "the lease lapsed");
    world.holds().let_go(1);
    assert_counts(&world.complete(&later), 1, [1, 0, 0, 0]);
    let replayed = world.augur(&["result", "replay", "--from", "first"]);
    assert!(replayed.stderr.contains(", 2 of them results"), "{replayed:?}");
}
