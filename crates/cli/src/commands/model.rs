//! `augur model list|inspect|build|register`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use graphs::{OnnxModel, Shape, ShapeInput, zoo, zoo_entry};
use messages::OperatorKind;
use serde::Serialize;

use crate::{
    context::Context,
    exit::Exit,
    output::{self, Format},
};

#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Lists the zoo and the registered models.
    #[command(after_help = "Example: augur model list")]
    List {
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Shows what a model costs to run: parameters, MACs, activations, operators.
    #[command(after_help = "Example: augur model inspect model.onnx --batch-size 8")]
    Inspect {
        /// An ONNX file, or the name of a model.
        model: String,
        #[arg(long, default_value_t = 1)]
        batch_size: u32,
        #[arg(long)]
        sequence_length: Option<u32>,
        #[arg(long)]
        image_size: Option<u32>,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Writes a zoo model as ONNX, with its published architecture and seeded random weights.
    #[command(after_help = "Example: augur model build resnet50 -o resnet50.onnx")]
    Build {
        /// Its name; `augur model list` shows them.
        name: String,
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
    sha256: Option<String>,
    bytes: Option<u64>,
}

#[derive(Serialize)]
struct Inspection {
    model: String,
    opset: i64,
    parameters: u64,
    macs: u64,
    activation_elements: u64,
    operators: u64,
    kinds: Vec<KindRow>,
}

#[derive(Serialize)]
struct KindRow {
    kind: &'static str,
    operators: u64,
    macs: u64,
    activation_elements: u64,
    weight_elements: u64,
}

pub(crate) fn run(command: ModelCommand, context: &Context) -> anyhow::Result<Exit> {
    match command {
        ModelCommand::List { format } => {
            let rows = list(context)?;
            output::answer(format, &rows, |rows| models_table(rows))?;
        }
        ModelCommand::Inspect { model, batch_size, sequence_length, image_size, format } => {
            let shape = Shape { batch_size, sequence_length, image_size };
            let inspection = inspect(&model, shape, context)?;
            output::answer(format, &inspection, inspection_table)?;
        }
        ModelCommand::Build { name, output } => {
            let sha256 = graphs::build(&name, &output)?;
            output::print(&format!("{sha256}  {}", output.display()))?;
        }
        ModelCommand::Register { name, file } => {
            let cached = context.models()?.register(&name, &file)?;
            output::print(&format!("{}  {}", cached.model.sha256, cached.model.name))?;
        }
    }
    Ok(Exit::Done)
}

fn list(context: &Context) -> anyhow::Result<Vec<ModelRow>> {
    let cached = context.models()?.list()?;
    let of_name = |name: &str| cached.iter().find(|cached| cached.model.name == name);
    let mut rows: Vec<ModelRow> = zoo()
        .iter()
        .map(|entry| ModelRow {
            name: entry.name.to_owned(),
            family: Some(entry.family),
            modality: Some(entry.modality),
            parameters: Some(entry.published_parameters),
            sha256: of_name(entry.name).map(|cached| cached.model.sha256.to_string()),
            bytes: of_name(entry.name).map(|cached| cached.bytes),
        })
        .collect();
    rows.extend(cached.iter().filter(|cached| zoo_entry(&cached.model.name).is_none()).map(|cached| ModelRow {
        name: cached.model.name.clone(),
        family: None,
        modality: None,
        parameters: None,
        sha256: Some(cached.model.sha256.to_string()),
        bytes: Some(cached.bytes),
    }));
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
            row.bytes.map_or_else(|| "no".to_owned(), |bytes| format!("{:.1} MB", bytes as f64 / 1e6)),
            row.sha256.as_deref().map_or_else(|| "–".to_owned(), |hash| hash[..12].to_owned()),
        ]);
    }
    table
}

fn inspect(model: &str, mut shape: Shape, context: &Context) -> anyhow::Result<Inspection> {
    let path = if Path::new(model).is_file() { PathBuf::from(model) } else { context.models()?.obtain(model)?.path };
    match zoo_entry(model).map(|entry| &entry.shape) {
        Some(ShapeInput::Sequence { default, .. }) => shape.sequence_length = shape.sequence_length.or(Some(*default)),
        Some(ShapeInput::Image { default, .. }) => shape.image_size = shape.image_size.or(Some(*default)),
        Some(ShapeInput::AudioFrames { .. }) | None => {}
    }
    let graph = OnnxModel::read(&path)?;
    let costs = graph.costs(&shape).with_context(|| format!("failed to work out the costs of {model}"))?;
    let kinds = OperatorKind::ALL.iter().filter_map(|kind| {
        let mut row =
            KindRow { kind: kind.as_str(), operators: 0, macs: 0, activation_elements: 0, weight_elements: 0 };
        for operator in costs.operators.iter().filter(|operator| operator.kind == *kind) {
            let count = u64::from(operator.count);
            row.operators += count;
            row.macs += operator.macs * count;
            row.activation_elements += operator.activation_elements * count;
            row.weight_elements += operator.weight_elements * count;
        }
        (row.operators > 0).then_some(row)
    });
    Ok(Inspection {
        model: model.to_owned(),
        opset: graph.opset(),
        parameters: graph.parameters(),
        macs: costs.macs(),
        activation_elements: costs.activation_elements(),
        operators: costs.operator_count(),
        kinds: kinds.collect(),
    })
}

fn inspection_table(inspection: &Inspection) -> comfy_table::Table {
    let mut table = output::table(["operators", "count", "MMACs", "activations (M elements)", "weights (M elements)"]);
    let millions = |number: u64| output::number(Some(number as f64 / 1e6));
    for row in &inspection.kinds {
        table.add_row([
            row.kind.to_owned(),
            row.operators.to_string(),
            millions(row.macs),
            millions(row.activation_elements),
            millions(row.weight_elements),
        ]);
    }
    table.add_row([
        format!("all (opset {})", inspection.opset),
        inspection.operators.to_string(),
        millions(inspection.macs),
        millions(inspection.activation_elements),
        format!("{} parameters", inspection.parameters),
    ]);
    table
}
