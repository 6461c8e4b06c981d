//! The stream read again, from everywhere, while connections are closed: always the same tables.
//!
//! Each replay fills a database of its own, at once or in two parts that meet at an offset or a moment: one that read
//! too little would leave a table that differs.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, bail};
use broker::stream_end;
use messages::Timestamp;
use topology::names;

use crate::{
    daemons::wait_until,
    jobs::Work,
    limits::{LOOK_AGAIN, READY_MAX},
    rig::{Rig, Setup, ensure_faults, parts},
    row::{Outcome, Trial},
    verdict::Expected,
    world::{Answer, Broker},
};

/// A replay that cannot reach the broker says so and is started again, this often at most.
const TRIES_MAX: usize = 5;
/// A replay that was over before its connection could be closed is no fault; another database is filled instead, this
/// often at most.
const UNDISTURBED_MAX: usize = 20;
/// Exit code of a command whose broker is not there.
const UNREACHABLE: i32 = 3;
/// From a replay's start to the end of all connections, at most.
const CLOSED_AFTER_MAX: Duration = Duration::from_millis(800);
/// Closes every connection of the node from its side, and counts those of a replay among them, which `pipeline` names
/// so. Unless `Always` is true, it closes none where there is no replay's: one that still looks for the end of the
/// stream would never find it. A client that has not said its name yet is nobody's.
const CLOSE_ALL_AND_COUNT_REPLAYS: &str = r#"
IsReplay = fun(C) ->
  case catch rabbit_networking:connection_info(C, [client_properties]) of
    [{_, [_ | _] = Properties}] ->
      case lists:keyfind(<<"connection_name">>, 1, Properties) of
        {_, _, <<"augur replay", _/binary>>} -> true;
        _ -> false
      end;
    _ -> false
  end
end,
Open = [{C, IsReplay(C)} || C <- rabbit_networking:local_connections()],
Chosen = case Always orelse lists:keymember(true, 2, Open) of true -> Open; false -> [] end,
Closed = [{R, (catch rabbit_networking:close_connection(C, "fault suite"))} || {C, R} <- Chosen],
length([closed || {true, ok} <- Closed])."#;

pub(super) fn run(trial: &Trial) -> Result<Outcome> {
    let mut rig = Rig::new(trial, Broker::undisturbed(trial)?, Setup::default())?;
    let mut between = 0;
    for count in parts(trial.amount.jobs, 2) {
        // Messages carry whole seconds: the second half begins in another one than the first ends in.
        wait_until("the second is over", READY_MAX, || Ok(Timestamp::now().as_seconds() > between))?;
        let jobs = rig.load.jobs(count, &Work::Nothing);
        rig.load.publish(&jobs, Expected::Passed)?;
        rig.wait_for_results()?;
        if between == 0 {
            between = Timestamp::now().as_seconds();
        }
    }
    let end = rig.world.runtime.block_on(stream_end(&rig.world.url, names::RESULTS))?.context("it is empty")?.offset;
    for number in 0..trial.amount.faults {
        let fills = match number % 3 {
            0 => vec![words(&["--from", "first"])],
            1 => {
                let cut = rig.random.u64(1..=end);
                two_parts(&(cut - 1).to_string(), &cut.to_string())
            }
            _ => {
                // Both parts have the messages of this second; they count once.
                let moment = Timestamp::from_micros(between * 1_000_000).to_string();
                two_parts(&moment, &moment)
            }
        };
        disturbed(&mut rig, number, &fills)?;
    }
    ensure_faults(rig.finish()?)
}

/// Where two replays begin and end that together read everything.
fn two_parts(until: &str, from: &str) -> Vec<Vec<String>> {
    vec![words(&["--from", "first", "--until", until]), words(&["--from", from])]
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Fills databases until a connection was closed that filled one; each must be complete.
fn disturbed(rig: &mut Rig, number: usize, fills: &[Vec<String>]) -> Result<()> {
    for attempt in 0..UNDISTURBED_MAX {
        let database = format!("replay-{number}-{attempt}.duckdb");
        let mut closed = 0;
        for (part, range) in fills.iter().enumerate() {
            let is_last = part + 1 == fills.len();
            let mut arguments = vec!["result", "replay", "--into", &database];
            arguments.extend(range.iter().map(String::as_str));
            arguments.extend(is_last.then_some("--compare"));
            let (answer, closed_now) = replay(rig, &arguments)?;
            closed += closed_now;
            if answer.code != Some(0) || (is_last && !answer.stdout.contains("every table is equal")) {
                rig.unexpected.push(format!("replay {number}, {arguments:?}, differs: {answer:?}"));
            }
        }
        if closed > 0 {
            rig.progress.note_fault();
            return Ok(());
        }
    }
    bail!("no connection of replay {number} could be closed before it was over, {UNDISTURBED_MAX} times in a row")
}

/// Replays while all connections are closed, until one of the replay's is among them; gives how many were. Tries again
/// where the broker could not even be asked.
fn replay(rig: &mut Rig, arguments: &[&str]) -> Result<(Answer, usize)> {
    let mut last = String::new();
    let mut closed = 0;
    for _ in 0..TRIES_MAX {
        let micros = u64::try_from(CLOSED_AFTER_MAX.as_micros()).unwrap_or(u64::MAX);
        let pause = Duration::from_micros(rig.random.u64(0..=micros));
        let world = &rig.world;
        let (answer, closing) = thread::scope(|scope| {
            let replaying = scope.spawn(move || world.augur(arguments));
            thread::sleep(pause);
            let mut closing = close_connections(rig, true);
            while matches!(closing, Ok(0)) && !replaying.is_finished() {
                thread::sleep(LOOK_AGAIN);
                closing = close_connections(rig, false);
            }
            (replaying.join(), closing)
        });
        closed += closing?;
        let Ok(answer) = answer else { bail!("the replaying thread panicked") };
        let answer = answer?;
        if answer.code != Some(UNREACHABLE) {
            return Ok((answer, closed));
        }
        last = answer.stderr;
    }
    bail!("the broker could not be reached {TRIES_MAX} times in a row; at last: {last}")
}

/// Closes all connections, or does so only if there is a replay's; gives how many of them were a replay's.
fn close_connections(rig: &Rig, always: bool) -> Result<usize> {
    let closed = rig.world.node()?.evaluate(&format!("Always = {always},{CLOSE_ALL_AND_COUNT_REPLAYS}"))?;
    closed.parse().with_context(|| format!("the node did not say how many connections it closed but: {closed}"))
}
