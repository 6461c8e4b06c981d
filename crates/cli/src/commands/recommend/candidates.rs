//! The devices that could run the model, each with what the current release predicts on it.

use anyhow::bail;
use messages::Metric;
use planner::{Estimate, Excluded, Goal, HardwareCandidate};

use super::{HardwareArguments, Task};
use crate::{
    commands::predictor::predict::{self, DeviceMemory, OnEveryDevice, PredictionRow, Question},
    context::Context,
};

/// What may be ranked, what may not, and which release said it.
pub(super) struct Asked {
    pub(super) candidates: Vec<HardwareCandidate>,
    pub(super) excluded: Vec<Excluded>,
    pub(super) release: String,
}

/// Asks the current release about every device.
pub(super) fn of(arguments: &HardwareArguments, context: &Context) -> anyhow::Result<Asked> {
    let is_platform = |word: &String| messages::Platform::ALL.iter().any(|platform| platform.as_str() == word);
    let question = Question {
        model: arguments.model.clone(),
        batch_size: arguments.batch_size,
        threads: arguments.threads,
        precision: arguments.precision.clone(),
        sequence_length: arguments.sequence_length,
        image_size: arguments.image_size,
        tables: arguments.tables.clone(),
        releases: arguments.releases.clone(),
        devices: arguments.available.iter().filter(|word| !is_platform(word)).cloned().collect(),
    };
    let OnEveryDevice { mut rows, memory } = predict::on_every_device(question, context)?;
    let release = rows.first().map(|row| row.release.clone()).unwrap_or_default();
    let is_asked = |row: &PredictionRow, word: &String| {
        word.eq_ignore_ascii_case(&row.device) || row.platform.as_ref().is_some_and(|platform| platform == word)
    };
    for word in &arguments.available {
        if !rows.iter().any(|row| is_asked(row, word)) {
            bail!("the release `{release}` can be asked about no device or platform `{word}`");
        }
    }
    if !arguments.available.is_empty() {
        rows.retain(|row| arguments.available.iter().any(|word| is_asked(row, word)));
    }
    let (mut candidates, mut excluded): (Vec<HardwareCandidate>, Vec<Excluded>) = (Vec::new(), Vec::new());
    let mut rest: Vec<&PredictionRow> = rows.iter().collect();
    while let Some(first) = rest.first() {
        let (same, others): (Vec<&PredictionRow>, Vec<&PredictionRow>) =
            rest.iter().partition(|row| row.device == first.device);
        let found = candidate(&same, context).and_then(|candidate| match arguments.task {
            Task::Inference => Ok(candidate),
            Task::Training => for_training(candidate, first, memory.get(&first.device), arguments),
        });
        match found {
            Ok(candidate) => candidates.push(candidate),
            Err(reason) => excluded.push(Excluded { device: first.device.clone(), reason }),
        }
        rest = others;
    }
    Ok(Asked { candidates, excluded, release })
}

/// A device with all that is predicted on it, or why nothing can run there; `rows` are a device's, at least one.
fn candidate(rows: &[&PredictionRow], context: &Context) -> Result<HardwareCandidate, String> {
    let first = rows[0];
    if let Some(reason) = &first.impossible {
        return Err(format!("it does not fit: {reason}"));
    }
    let estimate = |metric: Metric| {
        let row = rows.iter().find(|row| row.metric == metric.as_str())?;
        Some(Estimate { value: row.predicted?, lower: row.lower?, upper: row.upper?, confidence: row.confidence })
    };
    let mut notes = Vec::new();
    if !first.known_device {
        notes.push("nothing was measured on this device".to_owned());
    }
    if let Some(shots) = first.shots {
        notes.push(format!("only {shots} measurements of this device are known"));
    }
    if !first.known_model {
        notes.push("the model was never measured".to_owned());
    }
    notes.extend(first.outside.iter().map(|reason| format!("outside the known domain: {reason}")));
    Ok(HardwareCandidate {
        device: first.device.clone(),
        platform: first.platform.clone().unwrap_or_default(),
        latency_ms: estimate(Metric::LatencyMs),
        throughput_items_per_second: estimate(Metric::ThroughputItemsPerSecond),
        memory_peak_mb: estimate(Metric::MemoryPeakMb),
        power_w: estimate(Metric::PowerW),
        // What does not fit was excluded above, by what the release knows of the device.
        memory_mb: None,
        price_per_hour: context.loaded.settings.recommend.price(&first.device),
        notes,
    })
}

/// The same device for training, or why it is unavailable; `row` is one of the device's.
fn for_training(
    candidate: HardwareCandidate,
    row: &PredictionRow,
    memory: Option<&DeviceMemory>,
    arguments: &HardwareArguments,
) -> Result<HardwareCandidate, String> {
    if let Some(precision) = row.precision.as_deref().filter(|precision| matches!(*precision, "int8" | "int4")) {
        return Err(format!(
            "training in {precision} is unavailable, because gradients are too small for its steps; ask with --precision \
             fp32"
        ));
    }
    let training = memory.and_then(|memory| memory.training);
    if training.is_none() && (arguments.optimize == Goal::Memory || arguments.max_memory_mb.is_some()) {
        return Err(
            "memory for training is unavailable, because the release does not know the model's operators; name \
                    a table of them with --operators"
                .to_owned(),
        );
    }
    let candidate = planner::as_training(candidate, training);
    Ok(HardwareCandidate { memory_mb: memory.and_then(|memory| memory.device_mb), ..candidate })
}
