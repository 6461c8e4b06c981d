//! Bad jobs among good ones: each becomes a dead letter, and none takes a neighbour with it.

use std::time::Duration;

use anyhow::{Context as _, Result};
use graphs::ModelCache;
use messages::{BODY_BYTES_MAX, Dispatch, Encoded, Job, JobId, Message, encode};
use testkit::builders;

use crate::{
    daemons::{FleetOptions, wait_until},
    evidence,
    jobs::Work,
    limits::STALL_MAX,
    measurements::MODEL,
    rig::{PART_SPREAD, Rig, Setup, ensure_faults},
    row::{Outcome, Trial},
    verdict::Expected,
    world::Broker,
};

/// Kinds of bad ones and their shares of all bad ones, in thousandths; of each there is one at least. A job that
/// kills its worker does so several times before it is given up, so there are few.
const SHARES: &[(Poison, usize)] = &[
    (Poison::KillWorker, 20),
    (Poison::Crash, 200),
    (Poison::OutOfMemory, 80),
    (Poison::Hang, 200),
    (Poison::Undecodable, 100),
    (Poison::TooLarge, 50),
    (Poison::TooLargeJob, 50),
    (Poison::WrongSchema, 150),
    (Poison::WrongType, 150),
];
/// Memory of a job's process, in MB: enough to load the model, with 14 MB of weights, not for its batch.
const CHILD_MEMORY_MB: u64 = 150;
/// Lease of a claim, in seconds: heartbeats come every 5.
const LEASE_S: u64 = 8;
/// Jobs beside each one that kills its worker that are as slow as that takes.
const NEIGHBOURS_SLOW: usize = 3;
/// How long each of them takes, in milliseconds.
const NEIGHBOUR_MS: u64 = 2_000;
/// A byte that `MessagePack` never uses.
const GARBAGE: u8 = 0xc1;
/// Length of a text, in bytes, with which a job has a little more than the 960 KiB that are possible, and far less than
/// the 1 MiB of a message.
const FILLING_BYTES: usize = 960 * 1024;
/// A schema version that no Augur has written.
const SCHEMA_UNKNOWN: u16 = 99;
/// How long one bad job may take to its end: a job that kills its worker takes two leases and several workers.
const PER_KILLER_MAX: Duration = Duration::from_secs(90);

#[derive(Debug, Clone, Copy)]
enum Poison {
    KillWorker,
    Crash,
    OutOfMemory,
    Hang,
    Undecodable,
    /// More bytes than any message has.
    TooLarge,
    /// A job that would pass if nobody looked at its size.
    TooLargeJob,
    WrongSchema,
    WrongType,
}

impl Poison {
    /// As what it may die. A job whose own process fails may lose its last attempt with a worker that another one
    /// kills.
    fn reasons(self) -> &'static [&'static str] {
        match self {
            Self::KillWorker => &["worker-lost"],
            Self::Crash => &["crashed", "worker-lost"],
            Self::OutOfMemory => &["out-of-memory", "worker-lost"],
            Self::Hang => &["timed-out", "worker-lost"],
            Self::TooLargeJob => &["rejected"],
            Self::Undecodable | Self::TooLarge | Self::WrongSchema | Self::WrongType => &["undecodable"],
        }
    }
}

pub(super) fn run(trial: &Trial) -> Result<Outcome> {
    let setup = Setup {
        fleet: FleetOptions { workers: 2, concurrency: 4, prefetch: 16, failpoints: String::new() },
        environment: vec![
            ("AUGUR_WORKER__LEASE_S", LEASE_S.to_string()),
            ("AUGUR_WORKER__CHILD_MEMORY_MB_MAX", CHILD_MEMORY_MB.to_string()),
        ],
        ..Setup::default()
    };
    let mut rig = Rig::new(trial, Broker::undisturbed(trial)?, setup)?;
    let bad = mixture(trial.amount.faults, &mut rig.random);
    let good = trial.amount.jobs.saturating_sub(bad.len()) / bad.len().max(1);
    for (number, poison) in bad.iter().enumerate() {
        let slow = if matches!(poison, Poison::KillWorker) { NEIGHBOURS_SLOW.min(good) } else { 0 };
        let mut quick = rig.load.jobs(good - slow, &Work::Nothing);
        let mut neighbours = rig.load.jobs(slow, &Work::Long { duration_ms: NEIGHBOUR_MS });
        // The second attempt of one that lost its worker runs alone: none needs more than usual.
        for job in quick.iter_mut().chain(&mut neighbours) {
            job.dispatch.attempts_max = Dispatch::ATTEMPTS_DEFAULT;
        }
        rig.load.publish_in_background(quick, Expected::Passed, PART_SPREAD);
        rig.load.publish(&neighbours, Expected::Passed)?;
        publish(&mut rig, *poison, number).with_context(|| format!("{poison:?}"))?;
        rig.progress.note_fault();
    }
    rig.load.wait_for_confirms()?;
    let killers = u32::try_from(bad.iter().filter(|poison| matches!(poison, Poison::KillWorker)).count())?;
    let expected = rig.load.ledger().expected.clone();
    let bad = expected.iter().filter(|(_, expected)| **expected != Expected::Passed).map(|(id, _)| id);
    let bad: Vec<&String> = bad.collect();
    // The others are of no run that could count them.
    let jobs = bad.iter().filter(|id| id.parse::<JobId>().is_ok()).count() as u64;
    wait_until("every bad job is a dead letter and counted", STALL_MAX + PER_KILLER_MAX * killers, || {
        rig.fleet.revive(&rig.world)?;
        let looking = evidence::dead_letters(&rig.world.url, rig.load.run.run_id);
        let dead = rig.world.runtime.block_on(looking)?;
        Ok(bad.iter().all(|id| dead.contains_key(*id)) && rig.progress.dead() >= jobs)
    })
    .unwrap_or_else(|late| rig.unexpected.push(format!("{late:#}")));
    rig.fleet.revive(&rig.world)?;
    ensure_faults(rig.finish()?)
}

/// The bad ones in a random order.
fn mixture(count: usize, random: &mut fastrand::Rng) -> Vec<Poison> {
    let mut mixture: Vec<_> =
        SHARES.iter().flat_map(|(poison, share)| vec![*poison; (count * share / 1_000).max(1)]).collect();
    random.shuffle(&mut mixture);
    mixture
}

fn publish(rig: &mut Rig, poison: Poison, number: usize) -> Result<()> {
    let expected = Expected::DeadLetter(poison.reasons());
    let bytes = |schema_version, body| Encoded { message_type: Job::TYPE, schema_version, body };
    let raw = |rig: &mut Rig, message| rig.load.publish_poison(format!("poison-{number}"), message, expected);
    let work = match poison {
        Poison::KillWorker => Work::KillWorker,
        Poison::Crash => Work::Crash,
        Poison::Hang => Work::Hang,
        Poison::OutOfMemory => {
            let cache = ModelCache::open(&rig.world.cache()?.join("models"))?;
            Work::OutOfMemory(cache.obtain(MODEL, messages::Precision::Fp32)?.model)
        }
        Poison::Undecodable => return raw(rig, bytes(1, vec![GARBAGE])),
        Poison::TooLarge => return raw(rig, bytes(1, vec![GARBAGE; BODY_BYTES_MAX + 1])),
        Poison::TooLargeJob => {
            let mut jobs = rig.load.jobs(1, &Work::Nothing);
            for job in &mut jobs {
                job.run.suite = "x".repeat(FILLING_BYTES);
            }
            return rig.load.publish(&jobs, expected);
        }
        Poison::WrongSchema => return raw(rig, bytes(SCHEMA_UNKNOWN, encode(&builders::test_job())?.body)),
        Poison::WrongType => return raw(rig, encode(&builders::test_result())?),
    };
    let jobs = rig.load.jobs(1, &work);
    rig.load.publish(&jobs, expected)
}
