//! Predictions by a release that learned from jobs, for this machine's devices.

use anyhow::bail;
use messages::{Backend, Configuration, ModelRef, Platform, Precision};
use pipeline::{prediction_subject, resolve_shape};
use predictors::Release;

use super::{PredictArguments, PredictionRow, answers};
use crate::context::Context;

pub(super) fn predict(arguments: &PredictArguments, release: &Release, context: &Context) -> anyhow::Result<()> {
    let rows = ask(arguments, release, context)?;
    super::draw(arguments, &rows)?;
    answers::print(arguments.format, &rows)?;
    if rows.iter().any(|row| !row.known_device) {
        eprintln!("note: nothing was measured on this device yet; the intervals promise too much");
    } else if rows.iter().any(|row| !row.known_model) {
        eprintln!("note: this model was not measured on this device yet; the intervals are those of models never seen");
    }
    Ok(())
}

/// Predicts everything that is asked about.
pub(super) fn ask(
    arguments: &PredictArguments,
    release: &Release,
    context: &Context,
) -> anyhow::Result<Vec<PredictionRow>> {
    let precisions = if arguments.precisions.is_empty() {
        vec![Precision::Fp32]
    } else {
        arguments.precisions.iter().map(|word| word.parse()).collect::<Result<Vec<Precision>, _>>()?
    };
    if let Some(precision) = precisions.iter().find(|precision| **precision != Precision::Fp32) {
        bail!("{precision} is unavailable, because this version measures fp32 only and has nothing to learn it from");
    }
    let platforms = if arguments.platforms.is_empty() { vec![Platform::Cpu] } else { arguments.platforms.clone() };
    let threads = if arguments.threads.is_empty() { vec![1] } else { arguments.threads.clone() };
    let models = context.models()?;
    let cached = arguments.models.iter().map(|model| models.obtain(model, Precision::Fp32));
    let cached = cached.collect::<Result<Vec<_>, _>>()?;
    let mut subjects = Vec::new();
    for (cached, platform) in cached.iter().flat_map(|cached| platforms.iter().map(move |platform| (cached, *platform)))
    {
        let device = crate::commands::device::of_platform(context, platform)?;
        for &precision in &precisions {
            for &batch_size in &arguments.batch_sizes {
                for &threads in &threads {
                    let mut configuration = Configuration {
                        model: ModelRef::clone(&cached.model),
                        platform,
                        backend: Backend::Onnxruntime,
                        precision,
                        batch_size,
                        sequence_length: arguments.sequence_length,
                        image_size: arguments.image_size,
                        threads,
                    };
                    resolve_shape(&mut configuration);
                    configuration.validate()?;
                    subjects.push(prediction_subject(&models, configuration, device.clone())?);
                }
            }
        }
    }
    let predicted = release.predictors.predict(&subjects)?;
    let mut rows = Vec::new();
    for (subject, predicted) in subjects.iter().zip(&predicted) {
        let is_wanted = |metric| arguments.metrics.is_empty() || arguments.metrics.contains(metric);
        for metric in predicted.metrics.iter().filter(|predicted| is_wanted(&predicted.metric)) {
            let configuration = &subject.configuration;
            rows.push(PredictionRow {
                release: release.manifest.release_id.to_string(),
                model: configuration.model.name.clone(),
                device: subject.device.name.clone(),
                platform: Some(subject.device.platform.to_string()),
                configuration: configuration.to_string(),
                precision: Some(configuration.precision.to_string()),
                batch_size: configuration.batch_size,
                threads: Some(configuration.threads),
                metric: metric.metric.to_string(),
                predicted: Some(metric.value),
                lower: Some(metric.lower),
                upper: Some(metric.upper),
                confidence: None,
                novelty: match (predicted.known_device, predicted.known_model) {
                    (false, _) => "device",
                    (true, false) => "model",
                    (true, true) => "configuration",
                },
                known_model: predicted.known_model,
                known_device: predicted.known_device,
                outside: Vec::new(),
                impossible: None,
            });
        }
    }
    Ok(rows)
}
