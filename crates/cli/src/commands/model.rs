//! `augur model list|inspect|build|register`.

use std::path::PathBuf;

use clap::Subcommand;
use graphs::{CachedModel, MINIATURES, zoo, zoo_entry};
use messages::Precision;
use serde::Serialize;

use crate::{
    context::Context,
    exit::Exit,
    output::{self, Format},
};

mod inspect;

#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Lists the zoo and the registered models.
    #[command(after_help = "Example: augur model list")]
    List {
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Shows what a model costs to run: parameters, MACs, bytes moved, memory held, operators.
    #[command(after_help = "Examples: augur model inspect model.onnx --batch-size 8\n          \
                            augur model inspect resnet50 --operators > operators.jsonl")]
    Inspect(inspect::InspectArguments),
    /// Writes a zoo model as ONNX, with its published architecture and seeded random weights.
    #[command(after_help = "Examples: augur model build resnet50 -o resnet50.onnx\n          \
                            augur model build gpt2 --precision int4 -o gpt2-int4.onnx\n          \
                            augur model build detr --miniature -o detr.onnx")]
    Build {
        /// Its name; `augur model list` shows them.
        name: String,
        /// `fp32`, `fp16`, `int8` (dynamic quantisation) or `int4` (weights in blocks of 32).
        #[arg(long, default_value = "fp32")]
        precision: Precision,
        /// Few and narrow layers, to try things out; NAME is then a kind of network, e.g. `bert` or `detr`.
        #[arg(long)]
        miniature: bool,
        #[arg(short, long)]
        output: PathBuf,
    },
    /// Adds an ONNX file to the models that jobs can name.
    #[command(after_help = "Example: augur model register my-model my-model.onnx")]
    Register {
        /// The name that jobs will use.
        name: String,
        /// The file; it is copied.
        file: PathBuf,
    },
}

#[derive(Serialize)]
struct ModelRow {
    name: String,
    family: Option<&'static str>,
    modality: Option<&'static str>,
    parameters: Option<u64>,
    /// The file in fp32, or the registered one.
    sha256: Option<String>,
    bytes: Option<u64>,
    /// Every precision that the cache has.
    cached: Vec<String>,
}

pub(crate) fn run(command: ModelCommand, context: &Context) -> anyhow::Result<Exit> {
    match command {
        ModelCommand::List { format } => {
            let rows = list(context)?;
            output::answer(format, &rows, |rows| models_table(rows))?;
        }
        ModelCommand::Inspect(arguments) => inspect::run(&arguments, context)?,
        ModelCommand::Build { name, precision, miniature, output } => {
            let build = if miniature { graphs::build_miniature } else { graphs::build };
            let sha256 = build(&name, precision, &output).map_err(|error| with_miniatures(error, miniature))?;
            output::print(&format!("{sha256}  {}", output.display()))?;
        }
        ModelCommand::Register { name, file } => {
            let cached = context.models()?.register(&name, &file)?;
            output::print(&format!("{}  {}", cached.model.sha256, cached.model.name))?;
        }
    }
    Ok(Exit::Done)
}

/// Says which miniatures there are if the one asked for is unknown.
fn with_miniatures(error: graphs::GraphError, miniature: bool) -> anyhow::Error {
    let is_unknown = matches!(error, graphs::GraphError::UnknownModel { .. });
    let error = anyhow::Error::from(error);
    if miniature && is_unknown { error.context(format!("miniatures are: {}", MINIATURES.join(", "))) } else { error }
}

fn list(context: &Context) -> anyhow::Result<Vec<ModelRow>> {
    let cached = context.models()?.list()?;
    let of_name = |name: &str| cached.iter().filter(|cached| cached.model.name == name).collect::<Vec<_>>();
    let row = |name: &str, files: &[&CachedModel]| {
        let entry = zoo_entry(name);
        let plain = files.iter().find(|file| !matches!(file.precision, Some(other) if other != Precision::Fp32));
        ModelRow {
            name: name.to_owned(),
            family: entry.map(|entry| entry.family),
            modality: entry.map(|entry| entry.modality),
            parameters: entry.map(|entry| entry.published_parameters),
            sha256: plain.map(|file| file.model.sha256.to_string()),
            bytes: plain.map(|file| file.bytes),
            cached: files.iter().map(|file| output::text(file.precision)).collect(),
        }
    };
    let mut rows: Vec<ModelRow> = zoo().iter().map(|entry| row(entry.name, &of_name(entry.name))).collect();
    let registered = cached.iter().filter(|cached| cached.precision.is_none());
    rows.extend(registered.map(|cached| row(&cached.model.name, &[cached])));
    Ok(rows)
}

fn models_table(rows: &[ModelRow]) -> comfy_table::Table {
    let mut table = output::table(["model", "family", "modality", "parameters", "cached", "sha256"]);
    for row in rows {
        table.add_row([
            row.name.clone(),
            output::text(row.family),
            output::text(row.modality),
            output::text(row.parameters),
            cached_text(row),
            row.sha256.as_deref().map_or_else(|| "–".to_owned(), |hash| hash[..12].to_owned()),
        ]);
    }
    table
}

/// The size of the plain file, and which other precisions are there.
fn cached_text(row: &ModelRow) -> String {
    let size = row.bytes.map(|bytes| format!("{:.1} MB", bytes as f64 / 1e6));
    let others = row.cached.iter().filter(|precision| *precision != "fp32" && *precision != "–").cloned();
    let parts: Vec<String> = size.into_iter().chain(others).collect();
    if parts.is_empty() { "no".to_owned() } else { parts.join(", ") }
}
