//! The other hardware that could run a candidate's model, as far as the predictors know it.

use features::{DeviceTable, MeasuredRow, OwnTables, Subject};
use messages::Metric;
use predictors::Predictors;

use crate::PlannerError;

/// Devices that a candidate's own is held against; the first of the release's in their order.
const DEVICES_MAX: usize = 16;

/// The best other device for a candidate's model and batch.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rival {
    pub(crate) device: String,
    /// Predicted milliseconds per batch there.
    pub(crate) latency_ms: f64,
}

/// The fastest other device for each subject; `None` if the release knows no other.
///
/// How it runs there (runtime, compiler, number format) is left to what was measured most often on it.
pub(crate) fn rivals(release: &Predictors, subjects: &[Subject]) -> Result<Vec<Option<Rival>>, PlannerError> {
    let OwnTables { rows, operators, .. } = OwnTables::asked(subjects);
    let mut best: Vec<Option<Rival>> = vec![None; subjects.len()];
    for device in release.devices().take(DEVICES_MAX) {
        let others: Vec<usize> = (0..rows.len()).filter(|index| rows[*index].device != device).collect();
        if others.is_empty() {
            continue;
        }
        let asked = others.iter().map(|index| elsewhere(&rows[*index], device)).collect();
        let questions = release.ask(asked, DeviceTable::new(), operators.clone())?;
        for (index, answer) in others.iter().zip(release.predict(&questions, Metric::LatencyMs)?) {
            let known = &mut best[*index];
            if known.as_ref().is_none_or(|known| answer.value < known.latency_ms) {
                *known = Some(Rival { device: device.to_owned(), latency_ms: answer.value });
            }
        }
    }
    Ok(best)
}

fn elsewhere(row: &MeasuredRow, device: &str) -> MeasuredRow {
    MeasuredRow {
        device: device.to_owned(),
        platform: None,
        backend: None,
        precision: None,
        threads: None,
        ..row.clone()
    }
}
