//! Dead letters are listed and stay, go back to their lanes once, and are deleted when that is asked for.

use broker::{Outgoing, Settlement, Start, Subscription};
use futures_util::future::join_all;
use messages::{DeadLetterReplayed, Job, encode};
use pipeline::dead_letters::{self, Fate, Filter, Summary};
use testkit::builders;
use topology::names;

use crate::support::{PATIENCE, World, bounded, garbage, job};

fn letter(job: &Job, reason: &str) -> Outgoing {
    Outgoing::new(names::DEAD_LETTERS, job.routing_key(), job.job_id.to_string(), encode(job).unwrap())
        .attempt(3)
        .reason(reason)
}

/// Reason and attempt of each letter that matches.
async fn listed(world: &World, filter: &Filter) -> Vec<(String, u32)> {
    let mut letters = Vec::new();
    dead_letters::list(&world.url, filter, PATIENCE, &world.stop, |letter, _| {
        letters.push((letter.reason.clone(), letter.attempt));
    })
    .await
    .unwrap();
    letters
}

/// What becomes of each letter that matches.
async fn replay(world: &World, filter: &Filter, dry_run: bool) -> (Summary, Vec<Fate>) {
    let mut fates = Vec::new();
    let summary = dead_letters::replay(&world.url, filter, dry_run, PATIENCE, &world.stop, |_, fate| fates.push(fate));
    (summary.await.unwrap(), fates)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_behind_very_many_others_is_found() {
    const OTHERS: usize = 10_100;
    bounded(async {
        let world = World::new().await;
        let other = letter(&job(1), "crashed");
        join_all((0..OTHERS).map(|_| world.publish(other.clone()))).await;
        world.publish(letter(&job(2), "timed-out")).await;
        let timed_out = Filter { reason: Some("timed-out".to_owned()), ..Filter::default() };
        assert_eq!(listed(&world, &timed_out).await, [("timed-out".to_owned(), 3)]);
        let (summary, fates) = replay(&world, &timed_out, false).await;
        assert_eq!((summary.looked_at, fates), (OTHERS as u64 + 1, vec![Fate::Replayed]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_stay_until_they_are_replayed_or_purged() {
    bounded(async {
        let world = World::new().await;
        let mut other = job(2);
        other.run.run_id = builders::run_id(2);
        world.publish(letter(&job(1), "crashed")).await;
        world.publish(letter(&other, "timed-out")).await;
        world.publish(letter(&job(1), "crashed")).await;
        world.publish(Outgoing::new(names::DEAD_LETTERS, "", "garbage", garbage())).await;

        let expected =
            [("crashed", 3), ("timed-out", 3), ("crashed", 3), ("undecodable", 1)].map(|(r, a)| (r.to_owned(), a));
        assert_eq!(listed(&world, &Filter::default()).await, expected);
        assert_eq!(listed(&world, &Filter::default()).await, expected, "looking changed something");
        let of_run = Filter { run: Some(builders::run_id(2)), ..Filter::default() };
        assert_eq!(listed(&world, &of_run).await, [("timed-out".to_owned(), 3)]);
        let first = Filter { limit: Some(1), ..Filter::default() };
        assert_eq!(listed(&world, &first).await, [("crashed".to_owned(), 3)]);

        let crashed = Filter { reason: Some("crashed".to_owned()), ..Filter::default() };
        let (dry, fates) = replay(&world, &crashed, true).await;
        assert_eq!((dry.in_queue, dry.matching, dry.replayed, dry.duplicates), (4, 2, 1, 1));
        assert_eq!(fates, [Fate::Replayed, Fate::Duplicate]);
        assert_eq!(listed(&world, &Filter::default()).await, expected, "a dry run changed something");

        assert_eq!(replay(&world, &crashed, false).await, (dry, fates));
        let subscribe = |queue: &'static str, start| {
            Subscription::start(&world.url, "test", queue, start, 10, PATIENCE, &world.stop)
        };
        let mut lane = subscribe("jobs.cpu.normal", Start::Queue).await.unwrap();
        let again = lane.next().await.unwrap();
        let sent: Job = again.decode().unwrap();
        assert_eq!((sent.job_id, sent.dispatch.replays, again.attempt()), (builders::job_id(1), 1, 1));
        again.settle(Settlement::Done).await.unwrap();
        let mut results = subscribe(names::RESULTS, Start::StreamFirst).await.unwrap();
        let news: DeadLetterReplayed = results.next().await.unwrap().decode().unwrap();
        assert_eq!((news.job_id, news.replays), (builders::job_id(1), 1));

        let (summary, fates) = replay(&world, &Filter::default(), false).await;
        assert_eq!(fates, [Fate::Replayed, Fate::Undecodable]);
        assert_eq!((summary.replayed, summary.undecodable), (1, 1));
        assert_eq!(listed(&world, &Filter::default()).await, [("undecodable".to_owned(), 1)]);

        for dry_run in [true, false] {
            let all = Filter::default();
            let purged = dead_letters::purge(&world.url, &all, dry_run, PATIENCE, &world.stop, |_, _| {}).await;
            assert_eq!(purged.unwrap().purged, 1);
        }
        assert!(listed(&world, &Filter::default()).await.is_empty());
    })
    .await;
}
