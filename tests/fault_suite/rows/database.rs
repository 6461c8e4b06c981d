//! An aggregator whose disk is full, or whose database another process holds when it starts.

use std::{process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};

use crate::{
    children::hold_child,
    limits::READY_MAX,
    rig::{Rig, Setup, ensure_faults, parts},
    row::{Outcome, Trial},
    world::Broker,
};

/// Writing past the limit then fails with an error, as on a full disk, instead of ending the process.
const WRAPPER: &str = r#"trap "" XFSZ; exec "$@""#;
/// No file of the aggregator may be written beyond this, in bytes, while its disk is "full".
const FULL_BYTES: &str = "4096";
/// How long the disk stays full, or the file held, at most.
const FAULT_MAX: Duration = Duration::from_secs(2);

pub(super) fn run(trial: &Trial) -> Result<Outcome> {
    let mut rig = Rig::new(trial, Broker::undisturbed(trial)?, Setup::default())?;
    rig.aggregator.stop()?;
    rig.aggregator.start_through(&rig.world, "", Some(WRAPPER))?;
    for (number, jobs) in parts(trial.amount.jobs, trial.amount.faults).into_iter().enumerate() {
        rig.publish_nothing(jobs / 2);
        rig.pause(FAULT_MAX);
        rig.progress.note_fault();
        let rest = jobs - jobs / 2;
        if number % 2 == 0 { fill_disk(&mut rig, rest)? } else { hold_database(&mut rig, rest)? }
    }
    ensure_faults(rig.finish()?)
}

/// Jobs come after the disk is full, so that there is something to commit.
fn fill_disk(rig: &mut Rig, jobs: usize) -> Result<()> {
    limit_file_size(rig.aggregator.pid()?, FULL_BYTES)?;
    rig.publish_nothing(jobs);
    let refused = rig.aggregator.wait_for_line("batch was not committed");
    rig.pause(FAULT_MAX);
    limit_file_size(rig.aggregator.pid()?, "unlimited")?;
    refused.context("the aggregator did not notice that its disk is full")
}

fn hold_database(rig: &mut Rig, jobs: usize) -> Result<()> {
    rig.aggregator.stop()?;
    let mut holder = hold_child(&rig.world, &rig.world.database())?;
    holder.wait_for_line("holding", READY_MAX)?;
    rig.publish_nothing(jobs);
    let refused = rig.world.augur(&["aggregator", "start", "--listen", "127.0.0.1:0"])?;
    ensure!(
        refused.code == Some(2) && refused.stderr.contains(&holder.pid().to_string()),
        "an aggregator without its database does not say who holds it: {refused:#?}"
    );
    rig.pause(FAULT_MAX);
    holder.kill()?;
    rig.aggregator.start_through(&rig.world, "", Some(WRAPPER))
}

/// Limits how large any file of a process may get (`prlimit` of util-linux); the hard limit stays.
fn limit_file_size(pid: u32, bytes: &str) -> Result<()> {
    let status = Command::new("prlimit")
        .args(["--pid", &pid.to_string(), &format!("--fsize={bytes}:")])
        .status()
        .context("failed to run prlimit of util-linux")?;
    ensure!(status.success(), "prlimit ended with {status}");
    Ok(())
}
