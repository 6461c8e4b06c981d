//! Rows of `predictions` and `prediction_errors`: what a job's release said, and how right it was, unless another device
//! measured than it was said of.

use duckdb::{Connection, Result, params};
use messages::Prediction;

use super::{entries::Entry, moment};
use crate::accept::measured;

/// Appends the predictions that jobs carried and, where the metric was measured, their errors.
pub(super) fn append(connection: &Connection, entries: &[Entry<'_>]) -> Result<()> {
    let predicted: Vec<_> = entries.iter().filter_map(|entry| Some((entry, prediction(entry)?))).collect();
    if predicted.is_empty() {
        return Ok(());
    }
    let mut rows = connection.appender("predictions")?;
    for (entry, prediction) in &predicted {
        for metric in &prediction.metrics {
            rows.append_row(params![
                entry.job_id,
                entry.run_uuid,
                prediction.release_id.as_str(),
                metric.metric.as_str(),
                metric.value,
                metric.lower,
                metric.upper,
                moment(entry.result.job.submitted_at),
                prediction.device,
            ])?;
        }
    }
    rows.flush()?;
    append_errors(connection, &predicted)
}

fn append_errors(connection: &Connection, predicted: &[(&Entry<'_>, &Prediction)]) -> Result<()> {
    let mut rows = connection.appender("prediction_errors")?;
    for (entry, prediction) in predicted {
        let Ok(measurement) = &entry.measurement else { continue };
        if !prediction.is_of(&measurement.device) {
            continue;
        }
        for metric in &prediction.metrics {
            let Some(truth) = measured(measurement, metric.metric) else { continue };
            rows.append_row(params![
                entry.job_id,
                entry.run_uuid,
                prediction.release_id.as_str(),
                metric.metric.as_str(),
                metric.value,
                metric.lower,
                metric.upper,
                truth,
                100.0 * (metric.value - truth) / truth,
                (metric.lower..=metric.upper).contains(&truth),
                moment(entry.result.finished_at),
            ])?;
        }
    }
    rows.flush()
}

fn prediction<'a>(entry: &Entry<'a>) -> Option<&'a Prediction> {
    entry.result.job.spec.benchmark()?.prediction.as_ref()
}
