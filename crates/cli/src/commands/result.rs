//! `augur result replay`.

use std::{path::PathBuf, str::FromStr, time::Duration};

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand};
use messages::{JobResult, Outcome, RunId, Timestamp};
use pipeline::ReplayFrom;
use serde::Serialize;
use store::{Record, Store, TableDigest};
use tokio_util::sync::CancellationToken;

use super::waiting;
use crate::{
    context::Context,
    exit::Exit,
    output::{self, Format},
    shutdown,
};

#[derive(Debug, Subcommand)]
pub(crate) enum ResultCommand {
    /// Reads the result stream again: as a table, as JSON lines, or into a database.
    #[command(after_help = "Example: augur result replay --from first --into fresh.duckdb --compare")]
    Replay(ReplayArguments),
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArguments {
    /// Where to begin: first, last, next, an offset, a moment (2026-11-22T08:00:00Z) or a duration back (90s, 15m, 2h).
    #[arg(long)]
    from: From,
    /// Only results of this run.
    #[arg(long, conflicts_with = "into")]
    run: Option<RunId>,
    /// Writes into this database instead of to stdout; it is made if it is not there.
    #[arg(long, value_name = "DB")]
    into: Option<PathBuf>,
    /// With `--into`: compares every table with the aggregator's; exit 1 if one differs.
    #[arg(long, requires = "into")]
    compare: bool,
    /// Goes on with what arrives, until Ctrl-C.
    #[arg(long, conflicts_with = "into")]
    follow: bool,
    /// A table at the end, or JSON lines as they are read.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// The word after `--from`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct From(ReplayFrom);

impl FromStr for From {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let from = match text {
            "first" => ReplayFrom::First,
            "last" => ReplayFrom::Last,
            "next" => ReplayFrom::Next,
            _ => match (text.parse::<u64>(), duration(text), chrono::DateTime::parse_from_rfc3339(text)) {
                (Ok(offset), ..) => ReplayFrom::Offset(offset),
                (_, Some(back), _) => {
                    let now = Timestamp::now().as_seconds();
                    ReplayFrom::Timestamp(u64::try_from(now).unwrap_or_default().saturating_sub(back.as_secs()))
                }
                (.., Ok(moment)) => ReplayFrom::Timestamp(u64::try_from(moment.timestamp()).unwrap_or_default()),
                _ => {
                    return Err(anyhow!(
                        "`{text}` is no place in a stream: first, last, next, an offset, a moment such as \
                         2026-11-22T08:00:00Z or a duration such as 90s, 15m, 2h or 7d is"
                    ));
                }
            },
        };
        Ok(Self(from))
    }
}

fn duration(text: &str) -> Option<Duration> {
    let unit = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    let count: u64 = text[..text.len() - 1].parse().ok()?;
    Some(Duration::from_secs(count.checked_mul(unit)?))
}

/// One result as a line.
#[derive(Serialize)]
struct Line {
    offset: u64,
    job_id: String,
    run_id: String,
    suite: String,
    case: String,
    status: &'static str,
    attempt: u32,
    worker_id: String,
    started_at: String,
    finished_at: String,
    latency_p50_ms: Option<f64>,
    throughput_items_per_second: Option<f64>,
    memory_peak_mb: Option<f64>,
    failure: Option<String>,
}

pub(crate) async fn run(command: ResultCommand, context: &Context) -> anyhow::Result<Exit> {
    let ResultCommand::Replay(arguments) = command;
    let stop = shutdown::token()?;
    match &arguments.into {
        Some(db) => into_database(&arguments, db, context, &stop).await,
        None => to_stdout(&arguments, context, &stop).await,
    }
}

async fn to_stdout(arguments: &ReplayArguments, context: &Context, stop: &CancellationToken) -> anyhow::Result<Exit> {
    let mut lines = Vec::new();
    let mut written = Ok(());
    let take = |offset, record| {
        let Record::Result(result) = record else { return Ok(()) };
        if arguments.run.is_some_and(|run| run != result.job.run.run_id) || written.is_err() {
            return Ok(());
        }
        let line = line(offset, &result);
        match arguments.format {
            Format::Json => {
                written = serde_json::to_string(&line).map_err(Into::into).and_then(|text| output::print(&text));
            }
            Format::Table => lines.push(line),
        }
        Ok(())
    };
    let summary = pipeline::read_results(&context.amqp_url()?, arguments.from.0, arguments.follow, stop, take).await?;
    written?;
    if arguments.format == Format::Table {
        output::print(&table(&lines).to_string())?;
    }
    eprintln!(
        "{} messages read, {} of them results, {} not decodable",
        summary.messages, summary.results, summary.undecodable
    );
    Ok(if summary.undecodable == 0 { Exit::Done } else { Exit::Unwelcome })
}

async fn into_database(
    arguments: &ReplayArguments,
    db: &std::path::Path,
    context: &Context,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    let store = tokio::task::block_in_place(|| Store::open(db))
        .with_context(|| format!("failed to open database {}", db.display()))?;
    let bar = waiting::bar(0);
    let summary = pipeline::replay_into(&context.amqp_url()?, arguments.from.0, &store, stop, |count| {
        bar.inc(count as u64);
    })
    .await?;
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

fn line(offset: u64, result: &JobResult) -> Line {
    let benchmark = match &result.outcome {
        Outcome::Benchmark(benchmark) => Some(benchmark),
        _ => None,
    };
    Line {
        offset,
        job_id: result.job.job_id.to_string(),
        run_id: result.job.run.run_id.to_string(),
        suite: result.job.run.suite.clone(),
        case: result.job.case.clone(),
        status: result.status().as_str(),
        attempt: result.attempt,
        worker_id: result.worker_id.to_string(),
        started_at: result.started_at.to_string(),
        finished_at: result.finished_at.to_string(),
        latency_p50_ms: benchmark.map(|benchmark| benchmark.latency_ms.p50),
        throughput_items_per_second: benchmark.map(|benchmark| benchmark.throughput_items_per_second),
        memory_peak_mb: benchmark.and_then(|benchmark| benchmark.memory_peak_mb),
        failure: match &result.outcome {
            Outcome::Failed(failure) => Some(format!("{}: {}", failure.kind, failure.message)),
            _ => None,
        },
    }
}

fn table(lines: &[Line]) -> comfy_table::Table {
    let mut table = output::table(["offset", "case", "status", "p50 ms", "items/s", "memory MB", "finished"]);
    for line in lines {
        table.add_row([
            line.offset.to_string(),
            line.case.clone(),
            line.failure.clone().unwrap_or_else(|| line.status.to_owned()),
            output::number(line.latency_p50_ms),
            output::number(line.throughput_items_per_second),
            output::number(line.memory_peak_mb),
            line.finished_at.clone(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_a_stream_are_understood() {
        let from = |text: &str| text.parse::<From>().map(|from| from.0);
        assert_eq!(from("first").expect("a word"), ReplayFrom::First);
        assert_eq!(from("1234").expect("an offset"), ReplayFrom::Offset(1234));
        assert_eq!(from("2026-11-22T08:00:00Z").expect("a moment"), ReplayFrom::Timestamp(1_795_334_400));
        assert!(matches!(from("15m").expect("a duration"), ReplayFrom::Timestamp(_)));
        for bad in ["", "soon", "-3", "5x", "m"] {
            assert!(from(bad).expect_err("no place").to_string().contains("is no place in a stream"), "{bad}");
        }
    }
}
