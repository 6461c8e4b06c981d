//! `augur model inspect`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use graphs::{GraphProfile, KindProfile, OnnxModel, Shape, zoo_entry};
use messages::{GraphCosts, OperatorCost, OperatorKind, Precision};
use serde::Serialize;
use serde_json::json;

use crate::{
    context::Context,
    output::{self, Format},
};

#[derive(Debug, Args)]
pub(crate) struct InspectArguments {
    /// An ONNX file, or the name of a model.
    model: String,
    #[arg(long, default_value_t = 1)]
    batch_size: u32,
    #[arg(long)]
    sequence_length: Option<u32>,
    #[arg(long)]
    image_size: Option<u32>,
    /// The precision of a zoo model; files are what they are.
    #[arg(long, default_value = "fp32")]
    precision: Precision,
    /// Write the operators table of predictors: one line of JSON, for a batch of one.
    #[arg(long, conflicts_with_all = ["batch_size", "format"])]
    operators: bool,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Serialize)]
struct Inspection {
    model: String,
    opset: i64,
    precision: String,
    batch_size: u32,
    sequence_length: Option<u32>,
    image_size: Option<u32>,
    parameters: u64,
    macs: u64,
    /// Multiply-accumulates per byte of activations and weights.
    macs_per_byte: f64,
    activation_elements: u64,
    /// Operators that run, each a kernel launch if nothing is fused.
    operators: u64,
    activation_peak_bytes: u64,
    largest_activation: Option<Largest>,
    weight_bytes: Vec<StoredWeights>,
    kinds: Vec<KindRow>,
}

#[derive(Serialize)]
struct Largest {
    name: String,
    bytes: u64,
}

#[derive(Serialize)]
struct StoredWeights {
    format: &'static str,
    bytes: u64,
}

#[derive(Serialize)]
struct KindRow {
    kind: &'static str,
    operators: u64,
    macs: u64,
    macs_share: f64,
    activation_elements: u64,
    weight_elements: u64,
    activation_bytes: u64,
    weight_bytes: u64,
}

pub(super) fn run(arguments: &InspectArguments, context: &Context) -> anyhow::Result<()> {
    let graph = OnnxModel::read(&file(arguments, context)?)?;
    let (usual_length, usual_size) = zoo_entry(&arguments.model).map_or((None, None), |entry| entry.shape.usual());
    let shape = Shape {
        batch_size: arguments.batch_size,
        sequence_length: arguments.sequence_length.or(usual_length),
        image_size: arguments.image_size.or(usual_size),
    };
    let profile = graph.profile(&shape);
    let profile = profile.with_context(|| format!("failed to work out the costs of {}", arguments.model))?;
    let shape = Shape { image_size: shape.image_size.or_else(|| graph.fixed_image_size()), ..shape };
    if arguments.operators {
        let line = operators_line(&arguments.model, shape, &profile);
        return output::print(&line.to_string());
    }
    let inspection = inspection(&arguments.model, &graph, shape, profile);
    output::answer(arguments.format, &inspection, kinds_table)?;
    if arguments.format == Format::Table {
        output::print(&format!("\n{}", memory_table(&inspection)))?;
    }
    Ok(())
}

/// The file meant: itself, or that of a zoo model or a registered one.
fn file(arguments: &InspectArguments, context: &Context) -> anyhow::Result<PathBuf> {
    let model = &arguments.model;
    if Path::new(model).is_file() {
        return Ok(PathBuf::from(model));
    }
    let models = context.models()?;
    let cached = match zoo_entry(model) {
        Some(_) => models.obtain(model, arguments.precision)?,
        None => models.obtain_registered(model)?,
    };
    Ok(cached.path)
}

/// One line of an operators table, as `predictor train --operators` reads it.
fn operators_line(model: &str, shape: Shape, profile: &GraphProfile) -> serde_json::Value {
    let name = Path::new(model).file_stem().map_or(model.into(), |stem| stem.to_string_lossy());
    let cells = |cost: &OperatorCost| {
        let OperatorCost { kind, macs, activation_elements, weight_elements, kernel_size, count } = *cost;
        json!([kind.as_str(), macs, activation_elements, weight_elements, kernel_size, count])
    };
    let mut line = json!({
        "model": if Path::new(model).is_file() { name.as_ref() } else { model },
        "image_size": shape.image_size,
        "fields": ["kind", "macs", "activation_elements", "weight_elements", "kernel_size", "count"],
        "activation_peak_elements": profile.activation_peak_elements(),
        "operators": profile.costs.operators.iter().map(cells).collect::<Vec<_>>(),
    });
    if let Some(length) = shape.sequence_length {
        line["sequence_length"] = json!(length);
    }
    line
}

fn inspection(model: &str, graph: &OnnxModel, shape: Shape, profile: GraphProfile) -> Inspection {
    let GraphProfile { costs, kinds, weight_bytes, largest_activation, activation_peak_bytes } = profile;
    let macs = costs.macs();
    let bytes: u64 = kinds.iter().map(|kind| kind.activation_bytes + kind.weight_bytes).sum();
    Inspection {
        model: model.to_owned(),
        opset: graph.opset(),
        precision: graph.precision().to_string(),
        batch_size: shape.batch_size,
        sequence_length: shape.sequence_length,
        image_size: shape.image_size,
        parameters: graph.parameters(),
        macs,
        macs_per_byte: macs as f64 / bytes.max(1) as f64,
        activation_elements: costs.activation_elements(),
        operators: costs.operator_count(),
        activation_peak_bytes,
        largest_activation: largest_activation.map(|(name, bytes)| Largest { name, bytes }),
        weight_bytes: weight_bytes
            .into_iter()
            .map(|(element, bytes)| StoredWeights { format: element.as_str(), bytes })
            .collect(),
        kinds: kinds.iter().map(|kind| kind_row(kind, &costs, macs)).collect(),
    }
}

fn kind_row(profile: &KindProfile, costs: &GraphCosts, macs: u64) -> KindRow {
    let KindProfile { kind, operators, macs: of_kind, activation_bytes, weight_bytes } = *profile;
    let sum = |count: fn(&OperatorCost) -> u64| {
        let of_kind = costs.operators.iter().filter(|operator| operator.kind == kind);
        of_kind.map(|operator| count(operator) * u64::from(operator.count)).sum()
    };
    KindRow {
        kind: kind.as_str(),
        operators,
        macs: of_kind,
        macs_share: of_kind as f64 / macs.max(1) as f64,
        activation_elements: sum(|operator| operator.activation_elements),
        weight_elements: sum(|operator| operator.weight_elements),
        activation_bytes,
        weight_bytes,
    }
}

/// What people call a kind.
fn in_words(kind: &str) -> &str {
    match kind.parse() {
        Ok(OperatorKind::Conv) => "convolution",
        Ok(OperatorKind::Conv1) => "convolution 1×1",
        Ok(OperatorKind::Gconv) => "convolution, grouped",
        Ok(OperatorKind::Dw) => "convolution, depthwise",
        Ok(OperatorKind::Linear) => "product with weights",
        Ok(OperatorKind::Bmm) => "attention (products)",
        Ok(OperatorKind::Sdpa) => "attention (fused)",
        Ok(OperatorKind::Norm) => "norm",
        Ok(OperatorKind::Act) => "activation",
        Ok(OperatorKind::Copy) => "copy",
        Ok(OperatorKind::Reduce) => "reduction",
        Ok(OperatorKind::Elem) => "element-wise",
        Ok(OperatorKind::Softmax) | Err(_) => kind,
    }
}

fn kinds_table(inspection: &Inspection) -> comfy_table::Table {
    let mut table =
        output::table(["operators", "count", "MMACs", "share", "activations moved (MB)", "weights read (MB)"]);
    let millions = |number: u64| output::number(Some(number as f64 / 1e6));
    for row in &inspection.kinds {
        table.add_row([
            in_words(row.kind).to_owned(),
            row.operators.to_string(),
            millions(row.macs),
            format!("{:.1} %", 100.0 * row.macs_share),
            millions(row.activation_bytes),
            millions(row.weight_bytes),
        ]);
    }
    let sum = |bytes: fn(&KindRow) -> u64| millions(inspection.kinds.iter().map(bytes).sum());
    table.add_row([
        "all".to_owned(),
        inspection.operators.to_string(),
        millions(inspection.macs),
        String::new(),
        sum(|row| row.activation_bytes),
        sum(|row| row.weight_bytes),
    ]);
    table
}

fn memory_table(inspection: &Inspection) -> comfy_table::Table {
    let mut table = output::table(["model", ""]);
    let megabytes = |bytes: u64| format!("{} MB", output::number(Some(bytes as f64 / 1e6)));
    table.add_row(["parameters".to_owned(), inspection.parameters.to_string()]);
    for stored in &inspection.weight_bytes {
        table.add_row([format!("weights stored in {}", stored.format), megabytes(stored.bytes)]);
    }
    table.add_row(["activations at their peak".to_owned(), megabytes(inspection.activation_peak_bytes)]);
    if let Some(largest) = &inspection.largest_activation {
        let text = format!("{} ({})", megabytes(largest.bytes), largest.name);
        table.add_row(["largest activation".to_owned(), text]);
    }
    table.add_row(["MACs per byte moved".to_owned(), output::number(Some(inspection.macs_per_byte))]);
    table.add_row(["precision, operator set".to_owned(), format!("{}, {}", inspection.precision, inspection.opset)]);
    table
}
