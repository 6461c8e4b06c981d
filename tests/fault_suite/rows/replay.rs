//! The stream read again, from everywhere, while connections are closed: always the same tables.

use std::{thread, time::Duration};

use anyhow::{Result, bail};
use broker::stream_end;
use topology::names;

use crate::{
    jobs::Work,
    rig::{Rig, Setup, ensure_faults},
    row::{Outcome, Trial},
    rows::CLOSE_ALL_CONNECTIONS,
    verdict::Expected,
    world::{Answer, Broker},
};

/// A replay that cannot reach the broker says so and is started again, this often at most.
const TRIES_MAX: usize = 5;
/// Exit code of a command whose broker is not there.
const UNREACHABLE: i32 = 3;
/// From a replay's start to the end of all connections, at most.
const CLOSED_AFTER_MAX: Duration = Duration::from_millis(800);

pub(super) fn run(trial: &Trial) -> Result<Outcome> {
    let mut rig = Rig::new(trial, Broker::undisturbed(trial)?, Setup::default())?;
    let jobs = rig.load.jobs(trial.amount.jobs, &Work::Nothing);
    rig.load.publish(&jobs, Expected::Passed)?;
    rig.wait_for_results()?;
    let end = rig.world.runtime.block_on(stream_end(&rig.world.url, names::RESULTS))?.map_or(0, |end| end.offset);
    for number in 0..trial.amount.faults {
        // The first of each three fills a database; the others read parts of the stream into it again.
        let database = format!("replay-{}.duckdb", number / 3);
        let from = match number % 3 {
            0 => "first".to_owned(),
            1 => rig.random.u64(0..=end).to_string(),
            _ => format!("{}s", rig.random.u64(1..=60)),
        };
        rig.progress.note_fault();
        let answer = replay(&mut rig, &from, &database)?;
        if answer.code != Some(0) || !answer.stdout.contains("every table is equal") {
            rig.unexpected.push(format!("replay {number} from {from} into {database} differs: {answer:?}"));
        }
    }
    ensure_faults(rig.finish()?)
}

/// Replays while all connections are closed once; tries again where the broker could not even be asked.
fn replay(rig: &mut Rig, from: &str, database: &str) -> Result<Answer> {
    let mut last = String::new();
    for _ in 0..TRIES_MAX {
        let arguments = ["result", "replay", "--from", from, "--into", database, "--compare"];
        let (answer, closed) = thread::scope(|scope| {
            let world = &rig.world;
            let replaying = scope.spawn(move || world.augur(&arguments));
            let micros = u64::try_from(CLOSED_AFTER_MAX.as_micros()).unwrap_or(u64::MAX);
            thread::sleep(Duration::from_micros(rig.random.u64(0..=micros)));
            let closed = world.node().and_then(|node| Ok(node.evaluate(CLOSE_ALL_CONNECTIONS)?));
            (replaying.join(), closed)
        });
        closed?;
        let Ok(answer) = answer else { bail!("the replaying thread panicked") };
        let answer = answer?;
        if answer.code != Some(UNREACHABLE) {
            return Ok(answer);
        }
        last = answer.stderr;
    }
    bail!("the broker could not be reached {TRIES_MAX} times in a row; at last: {last}")
}
