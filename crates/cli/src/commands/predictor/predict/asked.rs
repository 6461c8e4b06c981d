//! What a release is asked about: a model and devices, found by name.

use std::path::Path;

use anyhow::{Context as _, bail};
use features::{
    DeviceTable, MeasuredRow, ModelOperators, OperatorTable, PublishedDevice, read_devices, read_operators,
};
use graphs::{OnnxModel, Shape, nearest, zoo, zoo_entry, zoo_structure};
use messages::{Device, Platform};
use predictors::Predictors;

use super::PredictArguments;
use crate::context::Context;

/// Models, with what is known of them beside the release.
pub(super) struct AskedModels {
    /// Each model and its shape; all else is open.
    pub(super) rows: Vec<MeasuredRow>,
    pub(super) operators: OperatorTable,
}

/// Devices, with what is known of them beside the release.
pub(super) struct AskedDevices {
    pub(super) places: Vec<Place>,
    pub(super) table: DeviceTable,
}

/// A device, and what of it is asked about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) device: String,
    /// Open if the device has only one, or its first one will do.
    pub(super) platform: Option<Platform>,
    /// The browser, on a web platform.
    pub(super) browser: Option<String>,
}

/// A configuration for people.
pub(super) fn configuration(row: &MeasuredRow) -> String {
    let numbers = [("image", row.image_size), ("sequence", row.sequence_length), ("threads", row.threads)];
    let words = [&row.backend, &row.backend_version, &row.compiler, &row.precision, &row.layout];
    let mut parts = vec![format!("{} on {} batch {}", row.model, row.device, row.batch_size)];
    parts.extend(numbers.into_iter().filter_map(|(name, number)| Some(format!("{name} {}", number?))));
    parts.extend(words.into_iter().flatten().cloned());
    parts.join(" ")
}

/// Finds the models: in the release, in `--operators`, as files, in the zoo, among the registered ones.
pub(super) fn models(
    arguments: &PredictArguments,
    predictors: &Predictors,
    context: &Context,
) -> anyhow::Result<AskedModels> {
    let operators = arguments.tables.operators.as_deref().map(read_operators).transpose()?.unwrap_or_default();
    let mut models = AskedModels { rows: Vec::new(), operators };
    for name in &arguments.models {
        let (row, operators) = model(arguments, name, &models.operators, predictors, context)?;
        if let Some(twice) = models.rows.iter().find(|other| other.model == row.model) {
            bail!("two models of the question are named `{}`; ask about each once, in two commands", twice.model);
        }
        models.operators.extend(operators.map(|operators| (row.model.clone(), vec![operators])));
        models.rows.push(row);
    }
    Ok(models)
}

/// Finds a model, and its operators where they come from its graph.
fn model(
    arguments: &PredictArguments,
    name: &str,
    operators: &OperatorTable,
    predictors: &Predictors,
    context: &Context,
) -> anyhow::Result<(MeasuredRow, Option<ModelOperators>)> {
    let row = MeasuredRow {
        model: name.to_owned(),
        image_size: arguments.image_size.map(f64::from),
        sequence_length: arguments.sequence_length.map(f64::from),
        ..MeasuredRow::default()
    };
    // Attention grows with the square of the sequence, so a length that was not measured needs the graph itself.
    let is_graph_needed = arguments
        .sequence_length
        .is_some_and(|length| zoo_entry(name).is_some() && !predictors.knows_sequence_length(name, f64::from(length)));
    if operators.contains_key(name) || (!is_graph_needed && predictors.models().any(|known| known == name)) {
        return Ok((row, None));
    }
    let path = Path::new(name);
    let (graph, family) = if path.is_file() {
        (OnnxModel::read(path)?, None)
    } else if let Some(entry) = zoo_entry(name) {
        (zoo_structure(name)?, Some(entry.family))
    } else {
        let models = context.models()?;
        let registered: Vec<String> = models.list()?.into_iter().map(|cached| cached.model.name).collect();
        if !registered.iter().any(|known| known == name) {
            let names = predictors.models().chain(zoo().iter().map(|entry| entry.name));
            bail!(unknown("model", name, names.chain(registered.iter().map(String::as_str))));
        }
        (OnnxModel::read(&models.obtain_registered(name)?.path)?, None)
    };
    let (row, operators) = of_graph(arguments, &graph, row, family)?;
    Ok((row, Some(operators)))
}

/// A model that is known by its graph alone.
fn of_graph(
    arguments: &PredictArguments,
    graph: &OnnxModel,
    row: MeasuredRow,
    family: Option<&str>,
) -> anyhow::Result<(MeasuredRow, ModelOperators)> {
    let (usual_length, usual_size) = zoo_entry(&row.model).map_or((None, None), |entry| entry.shape.usual());
    let shape = Shape {
        batch_size: 1,
        sequence_length: arguments.sequence_length.or(usual_length),
        image_size: arguments.image_size.or(usual_size),
    };
    let profile = graph.profile(&shape).with_context(|| format!("failed to work out the costs of {}", row.model))?;
    let image_size = shape.image_size.or_else(|| graph.fixed_image_size()).map(f64::from);
    let entry = ModelOperators {
        image_size,
        sequence_length: shape.sequence_length.map(f64::from),
        activation_peak_elements: Some(profile.activation_peak_elements()),
        operators: profile.costs.operators.clone(),
    };
    let path = Path::new(&row.model);
    let name = if path.is_file() {
        path.file_stem().map_or_else(|| row.model.clone(), |stem| stem.to_string_lossy().into_owned())
    } else {
        row.model.clone()
    };
    let row = MeasuredRow {
        model: name,
        family: family.map(str::to_owned),
        image_size,
        sequence_length: shape.sequence_length.map(f64::from),
        params_m: Some(graph.parameters() as f64 / 1e6),
        gmacs: Some(profile.costs.macs() as f64 / 1e9),
        ..row
    };
    Ok((row, entry))
}

/// Finds the devices: this machine's by platform, or by name in `--device-table` and in the release.
pub(super) fn devices(
    arguments: &PredictArguments,
    predictors: &Predictors,
    context: &Context,
) -> anyhow::Result<AskedDevices> {
    let mut table = arguments.tables.device_table.as_deref().map(read_devices).transpose()?.unwrap_or_default();
    let mut places = Vec::new();
    let mut platforms = arguments.platforms.clone();
    if platforms.is_empty() && arguments.devices.is_empty() {
        let cpu = crate::commands::device::of_platform(context, Platform::Cpu)?;
        platforms.extend(predictors.devices().any(|known| known == cpu.name).then_some(Platform::Cpu));
    }
    for platform in platforms {
        if platform.is_web() {
            let here = crate::commands::device::detect(context)?.devices;
            places.extend(web_places(arguments, predictors, platform, &here)?);
            continue;
        }
        let device = crate::commands::device::of_platform(context, platform)?;
        places.push(Place { device: device.name.clone(), ..Place::default() });
        table.entry(device.name.clone()).or_insert_with(|| PublishedDevice::from(&device));
    }
    for name in &arguments.devices {
        let known: Vec<&str> = predictors.devices().chain(table.keys().map(String::as_str)).collect();
        match known.iter().find(|known| known.eq_ignore_ascii_case(name)) {
            Some(known) if places.iter().any(|place| place.device == **known) => {}
            Some(known) => places.push(Place { device: (*known).to_owned(), ..Place::default() }),
            None => bail!(unknown("device", name, known.into_iter())),
        }
    }
    if places.is_empty() {
        let known: Vec<&str> = predictors.devices().collect();
        bail!(
            "say with --devices or --platforms what to predict for; this release was trained on {}",
            known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        );
    }
    Ok(AskedDevices { places, table })
}

/// Where browsers of this machine were measured on a web platform.
fn web_places(
    arguments: &PredictArguments,
    predictors: &Predictors,
    platform: Platform,
    here: &[Device],
) -> anyhow::Result<Vec<Place>> {
    // An adapter that computes on a processor is named after it.
    let is_here =
        |name: &str| here.iter().any(|device| name == device.name || name.ends_with(&format!(" on {}", device.name)));
    let is_asked = |browser: &str| arguments.browsers.is_empty() || arguments.browsers.iter().any(|of| of == browser);
    let measured: Vec<(&str, &str)> =
        predictors.measured_on(platform.as_str()).filter_map(|(device, browser)| Some((device, browser?))).collect();
    let asked = measured.iter().filter(|(device, browser)| is_here(device) && is_asked(browser));
    let places: Vec<Place> = asked
        .map(|(device, browser)| Place {
            device: (*device).to_owned(),
            platform: Some(platform),
            browser: Some((*browser).to_owned()),
        })
        .collect();
    if places.is_empty() {
        let known = measured.iter().map(|(device, browser)| format!("{browser} on `{device}`")).collect::<Vec<_>>();
        let known = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
        let browsers =
            if arguments.browsers.is_empty() { "a browser".to_owned() } else { arguments.browsers.join(" or ") };
        bail!(
            "the release knows no {platform} in {browsers} of this machine; of {platform} it knows {known}; a suite with \
             a section `web` measures more, where `augur browsers start` runs"
        );
    }
    Ok(places)
}

fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let near: Vec<String> = nearest(name, known).into_iter().map(|name| format!("`{name}`")).collect();
    let near = if near.is_empty() { String::new() } else { format!("; near it are {}", near.join(", ")) };
    format!("no {what} is named `{name}`{near}")
}
