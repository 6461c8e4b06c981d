//! `augur dead-letter list|show|replay|purge`: jobs that used up their attempts, and what nobody could read.

mod rows;

use std::io::{self, BufRead as _, IsTerminal as _};

use anyhow::{anyhow, bail};
use broker::AmqpUrl;
use clap::{Args, Subcommand};
use messages::{JobId, RunId};
use pipeline::dead_letters::{self, DeadLetter, Fate, Filter, Summary};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use self::rows::{LetterDetails, LetterRow};
use crate::{
    context::Context,
    exit::Exit,
    output::{self, Format},
    shutdown,
};

/// Letters that `replay` and `purge` tell one by one; the others are counted.
const LETTERS_TOLD_MAX: usize = 1_000;

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetterCommand {
    /// Lists dead letters, the oldest first; leaves them where they are.
    #[command(after_help = "Example: augur dead-letter list --reason crashed")]
    List {
        #[command(flatten)]
        filter: FilterArguments,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Shows the whole history of a dead job: each attempt, its worker, its error, the end of its output.
    #[command(after_help = "Example: augur dead-letter show 0190b5a0-0000-7000-8000-000000000001")]
    Show {
        /// The job.
        job: JobId,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Sends dead jobs back to their lanes; their attempts count from 1 again, their history stays.
    #[command(after_help = "Example: augur dead-letter replay --run RUN --dry-run")]
    Replay {
        #[command(flatten)]
        filter: FilterArguments,
        /// Says what it would do and does nothing.
        #[arg(long)]
        dry_run: bool,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Deletes dead letters for good; the attempts stay in the database.
    #[command(after_help = "Example: augur dead-letter purge --reason invalid-job --dry-run")]
    Purge {
        #[command(flatten)]
        filter: FilterArguments,
        /// Deletes all of them; needed where no filter is given.
        #[arg(long)]
        all: bool,
        /// Says what it would do and does nothing.
        #[arg(long)]
        dry_run: bool,
        /// Does not ask first. Only a terminal is asked.
        #[arg(long)]
        yes: bool,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

/// Which dead letters; all filters must hold.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct FilterArguments {
    /// Only jobs of this run.
    #[arg(long)]
    run: Option<RunId>,
    /// Only those with this reason, e.g. crashed, timed-out, rejected.
    #[arg(long)]
    reason: Option<String>,
    /// Only this job.
    #[arg(long)]
    job: Option<JobId>,
    /// At most this many.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

impl FilterArguments {
    fn filter(&self) -> Filter {
        Filter { run: self.run, job: self.job, reason: self.reason.clone(), limit: self.limit }
    }

    /// Whether nothing narrows it down.
    fn is_everything(&self) -> bool {
        self.filter() == Filter::default()
    }
}

/// What `replay` and `purge` did.
#[derive(Serialize)]
struct Done {
    dry_run: bool,
    in_queue: u64,
    matching: u64,
    replayed: u64,
    duplicates: u64,
    undecodable: u64,
    purged: u64,
    /// The first letters that matched.
    letters: Vec<LetterRow>,
}

pub(crate) async fn run(command: DeadLetterCommand, context: &Context) -> anyhow::Result<Exit> {
    let queue = Queue { url: context.amqp_url()?, stop: shutdown::token()? };
    match command {
        DeadLetterCommand::List { filter, format } => {
            let (summary, rows) = queue.list(&filter.filter()).await?;
            if format == Format::Json || !rows.is_empty() {
                output::answer(format, &rows, |rows| rows::table(rows))?;
            }
            explain(&summary, &filter);
            Ok(Exit::Done)
        }
        DeadLetterCommand::Show { job, format } => {
            let details = queue.find(job).await?;
            match format {
                Format::Json => output::print(&serde_json::to_string_pretty(&details)?)?,
                Format::Table => output::print(&details.text())?,
            }
            Ok(Exit::Done)
        }
        DeadLetterCommand::Replay { filter, dry_run, format } => {
            let done = queue.replay(&filter, dry_run).await?;
            report(&done, format, replayed_text)
        }
        DeadLetterCommand::Purge { filter, all, dry_run, yes, format } => {
            if filter.is_everything() && !all {
                bail!(
                    "no filter is given; name --run, --job, --reason or --limit, or delete every dead letter with --all"
                );
            }
            if !dry_run && !yes && !queue.may_purge(&filter).await? {
                eprintln!("nothing was deleted");
                return Ok(Exit::Done);
            }
            let done = queue.purge(&filter, dry_run).await?;
            report(&done, format, purged_text)
        }
    }
}

/// The dead-letter queue of the settings' broker.
struct Queue {
    url: AmqpUrl,
    stop: CancellationToken,
}

impl Queue {
    async fn list(&self, filter: &Filter) -> anyhow::Result<(Summary, Vec<LetterRow>)> {
        let mut rows = Vec::new();
        let take = |letter: &DeadLetter, fate| rows.push(LetterRow::new(letter, fate));
        let summary = dead_letters::list(&self.url, filter, Context::command_patience(), &self.stop, take).await?;
        Ok((summary, rows))
    }

    async fn find(&self, job: JobId) -> anyhow::Result<LetterDetails> {
        let filter = Filter { job: Some(job), limit: Some(1), ..Filter::default() };
        let mut found = None;
        let take = |letter: &DeadLetter, _| found = Some(LetterDetails::new(letter));
        dead_letters::list(&self.url, &filter, Context::command_patience(), &self.stop, take).await?;
        found.ok_or_else(|| anyhow!("job {job} is not among the dead letters; `augur job show {job}` says where it is"))
    }

    async fn replay(&self, arguments: &FilterArguments, dry_run: bool) -> anyhow::Result<Done> {
        let (mut letters, filter) = (Vec::new(), arguments.filter());
        let take = |letter: &DeadLetter, fate| keep(&mut letters, letter, fate);
        let patience = Context::command_patience();
        let summary = dead_letters::replay(&self.url, &filter, dry_run, patience, &self.stop, take).await?;
        explain(&summary, arguments);
        Ok(Done::new(summary, dry_run, letters))
    }

    async fn purge(&self, arguments: &FilterArguments, dry_run: bool) -> anyhow::Result<Done> {
        let (mut letters, filter) = (Vec::new(), arguments.filter());
        let take = |letter: &DeadLetter, fate| keep(&mut letters, letter, fate);
        let patience = Context::command_patience();
        let summary = dead_letters::purge(&self.url, &filter, dry_run, patience, &self.stop, take).await?;
        explain(&summary, arguments);
        Ok(Done::new(summary, dry_run, letters))
    }

    /// Asks whoever sits at a terminal; a script has said what it wants.
    async fn may_purge(&self, arguments: &FilterArguments) -> anyhow::Result<bool> {
        if !io::stdin().is_terminal() {
            return Ok(true);
        }
        let patience = Context::command_patience();
        let filter = arguments.filter();
        let summary = dead_letters::purge(&self.url, &filter, true, patience, &self.stop, |_, _| ()).await?;
        if summary.matching == 0 {
            return Ok(true);
        }
        eprint!("delete {} dead letters for good? [y/N] ", summary.matching);
        let answer = tokio::task::block_in_place(|| {
            let mut line = String::new();
            io::stdin().lock().read_line(&mut line).map(|_| line)
        })?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }
}

impl Done {
    fn new(summary: Summary, dry_run: bool, letters: Vec<LetterRow>) -> Self {
        let Summary { in_queue, matching, replayed, duplicates, undecodable, purged, .. } = summary;
        Self { dry_run, in_queue, matching, replayed, duplicates, undecodable, purged, letters }
    }
}

fn keep(letters: &mut Vec<LetterRow>, letter: &DeadLetter, fate: Fate) {
    if letters.len() < LETTERS_TOLD_MAX {
        letters.push(LetterRow::new(letter, fate));
    }
}

/// Says on stderr why there is nothing, or why there may be more.
fn explain(summary: &Summary, arguments: &FilterArguments) {
    let Summary { in_queue, looked_at, matching, .. } = *summary;
    let is_cut = looked_at < in_queue && arguments.limit.is_none_or(|limit| matching < limit as u64);
    if in_queue == 0 {
        eprintln!("there are no dead letters");
    } else if matching == 0 && !is_cut {
        eprintln!("none of the {in_queue} dead letters matches");
    } else if is_cut {
        eprintln!(
            "only {looked_at} of {in_queue} dead letters were seen: somebody else has the others in hand; try again"
        );
    }
}

fn report(done: &Done, format: Format, text: fn(&Done) -> String) -> anyhow::Result<Exit> {
    if format == Format::Json {
        output::print(&serde_json::to_string_pretty(done)?)?;
        return Ok(Exit::Done);
    }
    if !done.letters.is_empty() {
        output::print(&rows::table(&done.letters).to_string())?;
        let more = done.matching.saturating_sub(done.letters.len() as u64);
        if more > 0 {
            output::print(&format!("… and {more} more"))?;
        }
    }
    output::print(&text(done))?;
    Ok(Exit::Done)
}

fn replayed_text(done: &Done) -> String {
    let Done { replayed, duplicates, undecodable, .. } = done;
    let would = if done.dry_run { "dry run, nothing was changed; it would have: " } else { "" };
    format!(
        "{would}{replayed} sent back, {duplicates} duplicates deleted, \
         {undecodable} left that do not decode or are too large"
    )
}

fn purged_text(done: &Done) -> String {
    let would = if done.dry_run { "dry run, nothing was changed; it would have: " } else { "" };
    format!("{would}{} deleted", done.purged)
}
