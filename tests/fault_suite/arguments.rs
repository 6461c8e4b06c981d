//! The command line, which must also take what `cargo test` passes to every test binary.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

/// What to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Run rows whose names contain one of these; all without any. A filter that no row's name contains is an error if
    /// this is strict; else it may be meant for another test binary.
    Rows { filters: Vec<String>, is_full: bool, seed: u64, is_strict: bool },
    /// Random faults under steady load for this long.
    Soak { minutes: f64, seed: u64 },
    /// Show the rows.
    List,
    /// Be the client that is killed.
    Submit,
    /// Be the process that holds a database.
    Hold { database: PathBuf },
}

/// Flags of Rust's own test harness, which change nothing here.
const IGNORED: &[&str] =
    &["--nocapture", "--no-capture", "--show-output", "--exact", "--include-ignored", "--quiet", "-q", "--test"];
/// The same with a value.
const IGNORED_WITH_VALUE: &[&str] = &["--test-threads", "--color", "--format", "--skip", "-Z", "--logfile"];

/// Reads the arguments behind the program's name.
///
/// # Errors
///
/// If a flag is unknown or lacks its value.
pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Command> {
    let (mut filters, mut is_full, mut is_quick) = (Vec::new(), false, false);
    let (mut seed, mut minutes) = (None, None);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--full" => is_full = true,
            "--quick" => is_quick = true,
            "--seed" => seed = Some(value()?.parse().context("--seed needs a number")?),
            "--soak" => minutes = Some(value()?.parse().context("--soak needs a number of minutes")?),
            "--list" => return Ok(Command::List),
            "--submit-child" => return Ok(Command::Submit),
            "--hold-database" => return Ok(Command::Hold { database: value()?.into() }),
            // Only tests that are marked `ignored` are asked for, and here is none: no row has this name.
            "--ignored" => filters.push("\0".to_owned()),
            flag if IGNORED.contains(&flag) => {}
            flag if IGNORED_WITH_VALUE.contains(&flag) => drop(value()?),
            flag if flag.starts_with('-') && flag.contains('=') => {}
            flag if flag.starts_with('-') => bail!("unknown flag {flag}"),
            filter => filters.push(filter.to_owned()),
        }
    }
    let is_strict = is_full || is_quick || seed.is_some();
    let seed = seed.unwrap_or_else(|| fastrand::u64(0..1_000_000));
    Ok(match minutes {
        Some(minutes) => Command::Soak { minutes, seed },
        None => Command::Rows { filters, is_full, seed, is_strict },
    })
}
