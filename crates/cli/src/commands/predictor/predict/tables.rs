//! Predictions for any device that is described.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::bail;
use clap::Args;
use features::{MeasuredRow, read_devices};
use messages::{Metric, Platform};
use predictors::{Answer, FewShotDevice, GROUPS_MIN, MemoryFit, Questions, Release};

use super::{DeviceMemory, PredictArguments, PredictionRow, answers, asked};
use crate::context::Context;

/// What else is known of devices and models, and how the model is run.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct TableArguments {
    /// Published properties of more devices.
    #[arg(long, value_name = "FILE")]
    pub(super) device_table: Option<PathBuf>,
    /// Operators of more models, as JSON lines.
    #[arg(long, value_name = "FILE")]
    pub(super) operators: Option<PathBuf>,
    /// The runtime. Not given, like the next three: what was measured most.
    #[arg(long)]
    backend: Option<String>,
    #[arg(long)]
    backend_version: Option<String>,
    /// How the runtime prepares the model, e.g. `eager`.
    #[arg(long)]
    compiler: Option<String>,
    /// Order of tensor axes, e.g. `nchw`.
    #[arg(long)]
    layout: Option<String>,
}

impl TableArguments {
    /// Takes the devices of a file that may not be there, where no table of devices was named.
    pub(super) fn or_devices_of(&mut self, file: &Path) -> anyhow::Result<()> {
        if self.device_table.is_none() && file.try_exists()? {
            self.device_table = Some(file.to_owned());
        }
        Ok(())
    }
}

/// Predictions, with what notes need to know of them.
pub(super) struct Answered {
    pub(super) rows: Vec<PredictionRow>,
    questions: Questions,
    fits: Vec<MemoryFit>,
}

impl Answered {
    /// Memory by device, of the last question about each.
    pub(super) fn memory(&self) -> BTreeMap<String, DeviceMemory> {
        let of = |(question, fit): (usize, &MemoryFit)| {
            let memory = DeviceMemory { device_mb: fit.device_mb, training: self.questions.training_memory(question) };
            (self.questions.rows()[question].device.clone(), memory)
        };
        self.fits.iter().enumerate().map(of).collect()
    }
}

/// Names of all devices that the release or the table of devices knows.
pub(super) fn device_names(arguments: &PredictArguments, release: &Release) -> anyhow::Result<Vec<String>> {
    let table = arguments.tables.device_table.as_deref().map(read_devices).transpose()?.unwrap_or_default();
    let mut names: Vec<String> = release.predictors.devices().map(str::to_owned).collect();
    names.extend(table.into_keys().filter(|name| !release.predictors.devices().any(|known| known == name)));
    Ok(names)
}

pub(super) fn predict(arguments: &PredictArguments, release: &Release, context: &Context) -> anyhow::Result<()> {
    let Answered { rows, questions, fits } = ask(arguments, release, context)?;
    if fits.iter().all(MemoryFit::is_too_large) {
        let fit = &fits[0];
        bail!("{} does not fit: {}", asked::configuration(&questions.rows()[0]), does_not_fit(fit));
    }
    super::draw(arguments, &rows)?;
    answers::print(arguments.format, &rows)?;
    notes(release, &questions, &fits);
    notes_of_promises(&rows);
    Ok(())
}

/// Predicts everything that is asked about; a row that cannot run says why.
pub(super) fn ask(arguments: &PredictArguments, release: &Release, context: &Context) -> anyhow::Result<Answered> {
    let predictors = &release.predictors;
    let models = asked::models(arguments, predictors, context)?;
    let devices = asked::devices(arguments, predictors, context)?;
    let on_devices = |model| devices.places.iter().flat_map(move |place| rows(arguments, model, place));
    let rows = models.rows.iter().flat_map(on_devices).collect();
    let questions = predictors.ask(rows, devices.table, models.operators)?;
    let fits = predictors.memory_fits(&questions)?;
    let metrics = if arguments.metrics.is_empty() { predictors.metrics() } else { arguments.metrics.clone() };
    let answers =
        metrics.iter().map(|metric| predictors.predict(&questions, *metric)).collect::<Result<Vec<_>, _>>()?;
    let mut predicted = Vec::new();
    for (question, fit) in fits.iter().enumerate() {
        let impossible = fit.is_too_large().then(|| does_not_fit(fit));
        for answers in &answers {
            predicted.push(row(release, &questions, &answers[question], impossible.clone()));
        }
    }
    Ok(Answered { rows: predicted, questions, fits })
}

/// A row per precision, batch size and number of threads on one device.
fn rows(arguments: &PredictArguments, model: &MeasuredRow, place: &asked::Place) -> Vec<MeasuredRow> {
    let TableArguments { backend, backend_version, compiler, layout, .. } = &arguments.tables;
    let or_open = |count: usize| count.max(1);
    let mut rows = Vec::new();
    for precision in 0..or_open(arguments.precisions.len()) {
        for threads in 0..or_open(arguments.threads.len()) {
            for batch_size in &arguments.batch_sizes {
                rows.push(MeasuredRow {
                    device: place.device.clone(),
                    platform: place.platform.map(|platform| platform.to_string()),
                    backend: backend.clone(),
                    backend_version: backend_version.clone(),
                    compiler: compiler.clone().or_else(|| place.browser.clone()),
                    layout: layout.clone(),
                    precision: arguments.precisions.get(precision).cloned(),
                    threads: arguments.threads.get(threads).copied().map(f64::from),
                    batch_size: f64::from(*batch_size),
                    ..model.clone()
                });
            }
        }
    }
    rows
}

fn is_web(row: &MeasuredRow) -> bool {
    row.platform.as_deref().and_then(|platform| platform.parse().ok()).is_some_and(Platform::is_web)
}

fn row(release: &Release, questions: &Questions, answer: &Answer, impossible: Option<String>) -> PredictionRow {
    let asked = &questions.rows()[answer.question];
    let new = release.predictors.what_is_new(questions, answer.question);
    let possible = |value: f64| impossible.is_none().then_some(value);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "they come from small whole numbers")]
    let whole = |number: f64| number as u32;
    // What a configuration needs is said of one that does not fit, too.
    let shown = |value| if answer.metric == Metric::MemoryPeakMb { Some(value) } else { possible(value) };
    PredictionRow {
        release: release.manifest.release_id.to_string(),
        model: asked.model.clone(),
        device: asked.device.clone(),
        platform: asked.platform.clone(),
        browser: asked.compiler.clone().filter(|_| is_web(asked)),
        configuration: asked::configuration(asked),
        precision: asked.precision.clone(),
        batch_size: whole(asked.batch_size),
        threads: asked.threads.map(whole),
        metric: answer.metric.to_string(),
        predicted: shown(answer.value),
        lower: shown(answer.lower),
        upper: shown(answer.upper),
        confidence: shown(answer.confidence),
        novelty: answer.novelty.as_str(),
        shots: release.predictors.shots(answer.metric, &asked.device),
        interval_rests_on: answer.groups,
        rests_on_few: answer.rests_on_few(),
        known_model: !new.contains(&"model"),
        known_device: !new.contains(&"device"),
        outside: questions.outside(answer.question).to_vec(),
        impossible,
    }
}

fn does_not_fit(fit: &MemoryFit) -> String {
    let gigabytes = |megabytes: f64| format!("{:.1} GB", megabytes / 1e3);
    let device = fit.device_mb.map_or_else(|| "an unknown size".to_owned(), gigabytes);
    format!("its predicted peak is {}, the device has {device}", gigabytes(fit.peak_mb))
}

/// Says on stderr what a table has no room for.
fn notes(release: &Release, questions: &Questions, fits: &[MemoryFit]) {
    for (question, (row, fit)) in questions.rows().iter().zip(fits).enumerate() {
        let configuration = asked::configuration(row);
        if fit.is_too_large() {
            eprintln!("note: {configuration} does not fit: {}", does_not_fit(fit));
            continue;
        }
        if fit.device_mb.is_some_and(|device_mb| fit.peak_mb > device_mb) {
            eprintln!("note: {configuration} may not fit: {}", does_not_fit(fit));
        }
        let outside = questions.outside(question);
        if !outside.is_empty() {
            let reasons = outside.join("; ");
            eprintln!("note: {configuration} is outside the known domain, its intervals are wider: {reasons}");
        }
    }
    let few = |few_shot: &&FewShotDevice| questions.rows().iter().any(|row| row.device == few_shot.device);
    for FewShotDevice { metric, device, shots } in release.predictors.few_shots().iter().filter(few) {
        eprintln!("note: {device} is predicted in {metric} as if it were new, corrected by its {shots} measurements");
    }
    let new: Vec<&str> =
        (0..fits.len()).flat_map(|question| release.predictors.what_is_new(questions, question)).collect();
    for what in ["device", "model"] {
        if new.contains(&what) {
            eprintln!("note: a {what} that was never measured; its intervals are those of {what}s never seen");
        }
    }
}

/// Says on stderr which intervals rest on so few that their promise needs an assumption, once for each kind.
fn notes_of_promises(rows: &[PredictionRow]) {
    let few: BTreeSet<(&str, usize)> =
        rows.iter().filter(|row| row.rests_on_few).map(|row| (row.novelty, row.interval_rests_on)).collect();
    for (novelty, count) in few {
        let of = match (novelty, count) {
            ("model", 1) => "family of models",
            ("model", _) => "families of models",
            (_, 1) => "device",
            _ => "devices",
        };
        let new = if novelty == "few-shot" { "hardly measured device".to_owned() } else { format!("new {novelty}") };
        eprintln!(
            "note: the intervals of a {new} rest on {count} {of}; of fewer than {GROUPS_MIN}, 90 % hold only if \
             they differ as draws from a normal distribution do"
        );
    }
}
