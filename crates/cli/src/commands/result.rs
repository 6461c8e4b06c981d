//! `augur result replay|export`.

mod export;
mod lines;
mod place;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use messages::RunId;
use pipeline::{ReplayFrom, ReplayRange, ReplaySummary};
use store::{Record, Store, TableDigest};
use tokio_util::sync::CancellationToken;

use self::{
    export::ExportArguments,
    lines::{Lines, unless_gone},
    place::{From, Until},
};
use super::waiting;
use crate::{
    context::Context,
    exit::Exit,
    output::{self, Format},
    shutdown,
};

#[derive(Debug, Subcommand)]
pub(crate) enum ResultCommand {
    /// Reads the result stream, or its archive, again: as a table, as JSON lines, or into a database.
    #[command(
        after_help = "Examples:\n  augur result replay --from first --into fresh.duckdb --compare\n  augur result replay --from 2h --until 1h --format json\n  augur result replay --archive history/ --into fresh.duckdb\n  augur result replay --from next --follow"
    )]
    Replay(ReplayArguments),
    /// Writes the result stream as Parquet files; the next export goes on behind them.
    #[command(after_help = "Example: augur result export --output history/")]
    Export(ExportArguments),
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArguments {
    /// Where to begin: first, last, next, an offset, a moment (2026-11-22T08:00:00Z) or a duration back (90s, 15m, 2h).
    /// An archive is read from its beginning unless this says otherwise.
    #[arg(long, required_unless_present = "archive")]
    from: Option<From>,
    /// Where to end, itself included: an offset, a moment, a duration back, or now, which is where it ends anyway.
    #[arg(long)]
    until: Option<Until>,
    /// Reads what `result export` wrote instead of the stream; needs no broker.
    #[arg(long, value_name = "DIR", conflicts_with = "follow")]
    archive: Option<PathBuf>,
    /// Only what is about this run.
    #[arg(long)]
    run: Option<RunId>,
    /// Writes into this database instead of to stdout; it is made if it is not there.
    #[arg(long, value_name = "DB")]
    into: Option<PathBuf>,
    /// With `--into`: compares every table with the aggregator's, which have every run; exit 1 if one differs. With
    /// `--follow` it needs `--until`.
    #[arg(long, requires = "into")]
    compare: bool,
    /// Goes on with what arrives, until Ctrl-C, SIGTERM or `--until`.
    #[arg(long)]
    follow: bool,
    /// A line for each result as it is read: of a table, or of JSON.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl ReplayArguments {
    fn range(&self) -> ReplayRange {
        let until = match self.until {
            Some(Until::At(until)) => Some(until),
            Some(Until::Now) | None => None,
        };
        ReplayRange {
            from: self.from.map_or(ReplayFrom::First, |from| from.0),
            until,
            follow: self.follow && self.until != Some(Until::Now),
            run: self.run,
        }
    }
}

pub(crate) async fn run(command: ResultCommand, context: &Context) -> anyhow::Result<Exit> {
    match command {
        ResultCommand::Export(arguments) => export::run(arguments, context).await,
        ResultCommand::Replay(arguments) => {
            if arguments.compare && arguments.run.is_some() {
                bail!("--compare holds whole tables against the aggregator's, which have every run: leave --run out");
            }
            if arguments.compare && arguments.follow && arguments.until.is_none() {
                bail!("--compare compares in the end, and --follow has none: give --until, or leave one of them out");
            }
            let stop = shutdown::token()?;
            match &arguments.into {
                Some(db) => into_database(&arguments, db, context, &stop).await,
                None => to_stdout(&arguments, context, &stop).await,
            }
        }
    }
}

async fn to_stdout(arguments: &ReplayArguments, context: &Context, stop: &CancellationToken) -> anyhow::Result<Exit> {
    // Also ends when nobody reads what is written any more.
    let reading = stop.child_token();
    let mut lines = Lines::new(arguments.format, arguments.follow);
    let mut written = Ok(());
    let take = |offset, record| {
        let Record::Result(result) = record else { return Ok(()) };
        if written.is_ok() {
            written = lines.take(offset, &result);
            if written.is_err() {
                reading.cancel();
            }
        }
        Ok(())
    };
    let range = arguments.range();
    let summary = match &arguments.archive {
        Some(archive) => {
            tokio::task::block_in_place(|| pipeline::read_archived_results(archive, range, &reading, take))?
        }
        None => pipeline::read_results(&context.amqp_url()?, range, &reading, take).await?,
    };
    unless_gone(written.and_then(|()| lines.finish()))?;
    Ok(read(&summary))
}

/// Says on stderr what was read.
fn read(summary: &ReplaySummary) -> Exit {
    let ReplaySummary { messages, results, undecodable, .. } = summary;
    eprintln!("{messages} messages read, {results} of them results, {undecodable} not decodable");
    if *undecodable == 0 { Exit::Done } else { Exit::Unwelcome }
}

async fn into_database(
    arguments: &ReplayArguments,
    db: &Path,
    context: &Context,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    let store = tokio::task::block_in_place(|| Store::open(db))
        .with_context(|| format!("failed to open database {}", db.display()))?;
    let bar = waiting::bar(0);
    let progress = |count| bar.inc(count as u64);
    let range = arguments.range();
    let summary = match &arguments.archive {
        Some(archive) => {
            tokio::task::block_in_place(|| pipeline::replay_archive_into(archive, range, &store, stop, progress))?
        }
        None => pipeline::replay_into(&context.amqp_url()?, range, &store, stop, progress).await?,
    };
    bar.finish_and_clear();
    output::print(&format!(
        "{} messages replayed into {}: {} results, {} of them new",
        summary.messages,
        db.display(),
        summary.results,
        summary.results_new
    ))?;
    if !arguments.compare {
        return Ok(Exit::Done);
    }
    let ours = tokio::task::block_in_place(|| store.digest())?;
    let theirs: Vec<TableDigest> = context.api()?.get("/api/digest").await?;
    compare(&ours, &theirs)
}

/// Compares two databases table by table; prints the comparison.
fn compare(ours: &[TableDigest], theirs: &[TableDigest]) -> anyhow::Result<Exit> {
    let mut table = output::table(["table", "rows replayed", "rows of the aggregator", "equal"]);
    let mut equal = ours.len() == theirs.len();
    for digest in ours {
        let other = theirs.iter().find(|other| other.table == digest.table);
        let same = other.is_some_and(|other| other.digest == digest.digest && other.rows == digest.rows);
        equal &= same;
        table.add_row([
            digest.table.clone(),
            digest.rows.to_string(),
            output::text(other.map(|other| other.rows)),
            if same { "yes" } else { "NO" }.to_owned(),
        ]);
    }
    output::print(&table.to_string())?;
    output::print(if equal { "every table is equal" } else { "the tables DIFFER" })?;
    Ok(if equal { Exit::Done } else { Exit::Unwelcome })
}
