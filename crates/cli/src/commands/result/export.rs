//! `augur result export`: the result stream as Parquet files, before retention takes it.

use std::path::PathBuf;

use clap::Args;
use pipeline::PipelineError;
use serde::Serialize;

use crate::{
    commands::waiting,
    context::Context,
    exit::Exit,
    output::{self, Format},
    shutdown,
};

#[derive(Debug, Args)]
pub(crate) struct ExportArguments {
    /// Where the files go; made if it is not there.
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// The offset to begin with. Not given: behind the last message of the files that are there.
    #[arg(long, value_name = "OFFSET")]
    from: Option<u64>,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What was written.
#[derive(Serialize)]
struct Exported {
    messages: usize,
    body_bytes: u64,
    first_offset: Option<u64>,
    last_offset: Option<u64>,
    /// Last offset archived before and first one that there still is, where retention was faster.
    gap: Option<(u64, u64)>,
    files: Vec<String>,
}

pub(super) async fn run(arguments: ExportArguments, context: &Context) -> anyhow::Result<Exit> {
    let ExportArguments { output: directory, from, format } = arguments;
    let bar = waiting::bar(0);
    let stop = shutdown::token()?;
    let summary = pipeline::export_results(&context.amqp_url()?, &directory, from, &stop, |count| {
        bar.inc(count as u64);
    })
    .await;
    bar.finish_and_clear();
    let summary = match summary {
        Err(other @ PipelineError::OtherStream { .. }) => {
            eprintln!("{other}");
            return Ok(Exit::Unwelcome);
        }
        summary => summary?,
    };
    if let Some((last, first)) = summary.gap {
        eprintln!("retention was faster: what came between offsets {last} and {first} is not in the archive");
    }
    let exported = Exported {
        messages: summary.messages,
        body_bytes: summary.body_bytes,
        first_offset: summary.first_offset,
        last_offset: summary.last_offset,
        gap: summary.gap,
        files: summary.files.iter().map(|file| file.display().to_string()).collect(),
    };
    match format {
        Format::Json => output::print(&serde_json::to_string_pretty(&exported)?)?,
        Format::Table => output::print(&text(&exported, &directory.display().to_string()))?,
    }
    Ok(Exit::Done)
}

fn text(exported: &Exported, directory: &str) -> String {
    let Exported { messages, body_bytes, first_offset: Some(first), last_offset: Some(last), files, .. } = exported
    else {
        return format!("nothing is new: {directory} is up to date");
    };
    let megabytes = output::number(Some(*body_bytes as f64 / 1e6));
    format!("{messages} messages ({megabytes} MB), offsets {first} to {last}, exported to\n{}", files.join("\n"))
}
