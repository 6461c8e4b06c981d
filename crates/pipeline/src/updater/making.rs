//! Makes the next release: chooses how to learn, holds rows back to judge it on, and promotes it if it is not worse.

use std::{borrow::Borrow, collections::HashSet};

use features::OwnTables;
use hardware::DeviceLease;
use messages::{AcceptedMeasurement, JobId, Metric, Platform, Timestamp};
use predictors::{
    Judged, Manifest, PredictorError, Predictors, Release, Releases, Source, TrainSettings, Update, UpdateStrategy,
    judge,
};
use tracing::{debug, warn};

use super::{
    LEASE_WAIT_MAX, UpdaterSettings,
    evidence::{Choice, Evidence, Learned, ROWS_MIN},
};
use crate::{PipelineError, worker::chain};

/// One of so many new rows is held back to judge the release on.
const ROWS_PER_JUDGE: usize = 5;
/// Fewest and most rows held back; below [`ROWS_MIN`] new rows none is.
const JUDGES: (usize, usize) = (5, 50);

/// The table's rows as the current release sees them.
pub(super) struct Split<'a> {
    /// Those that it learned from, or could have.
    pub(super) seen: Vec<&'a AcceptedMeasurement>,
    /// Those that it did not.
    pub(super) unseen: Vec<&'a AcceptedMeasurement>,
}

impl<'a> Split<'a> {
    pub(super) fn of(rows: &'a [AcceptedMeasurement], current: &Manifest) -> Self {
        match (&current.update, current.source) {
            (Some(update), _) => Self::behind(rows, update.table_rows, &update.held_out),
            (None, Source::Jobs) => Self::behind(rows, current.training_rows, &[]),
            // Someone trained it from tables, which these rows are not of.
            (None, Source::Tables) => Self::behind(rows, 0, &[]),
        }
    }

    /// The same, but that only the rows from `first` on are unseen: those before were made a release of already.
    pub(super) fn since(rows: &'a [AcceptedMeasurement], current: &Manifest, first: usize) -> Self {
        let recent: HashSet<&JobId> = rows.iter().skip(first).map(|row| &row.job_id).collect();
        let mut split = Self::of(rows, current);
        split.unseen.retain(|row| recent.contains(&row.job_id));
        split
    }

    /// The first rows were seen, but for those held out.
    fn behind(rows: &'a [AcceptedMeasurement], table_rows: u32, held_out: &[JobId]) -> Self {
        let held_out: HashSet<&JobId> = held_out.iter().collect();
        let is_seen = |(index, row): &(usize, &AcceptedMeasurement)| {
            *index < table_rows as usize && !held_out.contains(&row.job_id)
        };
        let (seen, unseen): (Vec<_>, Vec<_>) = rows.iter().enumerate().partition(is_seen);
        let rows = |part: Vec<(usize, &'a AcceptedMeasurement)>| part.into_iter().map(|(_, row)| row).collect();
        Self { seen: rows(seen), unseen: rows(unseen) }
    }

    /// What the unseen rows say of a release.
    pub(super) fn evidence(&self, predictors: &Predictors) -> Result<Evidence, PredictorError> {
        Evidence::of(predictors, &self.seen, &self.unseen, &tables(&self.unseen))
    }

    /// Holds unseen rows back, chosen at random.
    fn hold_back(&self, seed: u64) -> HashSet<JobId> {
        let count = match self.unseen.len() {
            few if few < ROWS_MIN => 0,
            rows => (rows / ROWS_PER_JUDGE).clamp(JUDGES.0, JUDGES.1),
        };
        let chosen = fastrand::Rng::with_seed(seed).choose_multiple(self.unseen.iter(), count);
        chosen.into_iter().map(|row| row.job_id).collect()
    }
}

/// Makes a release of the training table's rows; nobody benchmarks on this machine meanwhile.
///
/// # Errors
///
/// [`PipelineError::Predictors`]; the current release is what it was then.
pub(super) fn make(
    rows: &[AcceptedMeasurement],
    settings: &UpdaterSettings,
    releases: &Releases,
) -> Result<Manifest, PipelineError> {
    let lease = DeviceLease::shared(&settings.lease_directory, Platform::Cpu, LEASE_WAIT_MAX);
    if let Err(error) = &lease {
        warn!(error = %chain(error), "training beside a benchmark");
    }
    let made = learned(rows, settings, releases).map_err(PipelineError::predictors("updater"))?;
    drop(lease);
    let (predictors, update) = made;
    let published =
        releases.publish_update(&predictors, Source::Jobs, Timestamp::now(), &settings.version, Some(update));
    published.map_err(PipelineError::predictors("updater"))
}

/// The release that is current, if it is of use.
pub(super) fn usable(releases: &Releases) -> Option<Release> {
    releases.current().unwrap_or_else(|error| {
        warn!(error = %chain(&error), "the current release is of no use; the next one replaces it");
        None
    })
}

fn learned(
    rows: &[AcceptedMeasurement],
    settings: &UpdaterSettings,
    releases: &Releases,
) -> Result<(Predictors, Update), PredictorError> {
    let Some(current) = usable(releases) else {
        let predictors = learn(rows, &settings.train)?;
        let reason = "there was no release before".to_owned();
        return Ok((predictors, update(Choice { strategy: UpdateStrategy::Full, reason }, rows.len(), rows.len())));
    };
    let split = Split::of(rows, &current.manifest);
    let evidence = split.evidence(&current.predictors)?;
    let whole_rows = current.manifest.update.as_ref().map_or(split.seen.len(), |update| update.whole_rows as usize);
    let choice = match settings.strategy {
        None => evidence.choose(Learned {
            whole_rows,
            rows_since: (split.seen.len() + split.unseen.len()).saturating_sub(whole_rows),
            amendments: current.predictors.amendments(),
        }),
        Some(strategy) => Choice { strategy, reason: "the settings say so".to_owned() },
    };
    let held_out = split.hold_back(rows.len() as u64);
    let (judges, new): (Vec<_>, Vec<_>) = split.unseen.iter().partition(|row| held_out.contains(&row.job_id));
    let Next { choice, predictors, whole_rows } = if choice.strategy == UpdateStrategy::Incremental {
        let own = releases.load(&current.manifest.release_id)?.predictors;
        Next { choice, predictors: learn_more(own, &split.seen, &new)?, whole_rows }
    } else {
        learn_again(choice, &split.seen, new, &evidence, &settings.train)?
    };
    let judgements =
        if judges.is_empty() { Vec::new() } else { judge(&predictors, &current.predictors, &tables(&judges))? };
    let update = Update {
        held_out: held_out.into_iter().collect(),
        ..decided(
            update(choice, rows.len(), whole_rows),
            judgements,
            &predictors.metrics(),
            &current.predictors.metrics(),
        )
    };
    Ok((predictors, update))
}

/// The next release before it is judged.
struct Next {
    choice: Choice,
    predictors: Predictors,
    whole_rows: usize,
}

/// Learns from the beginning, from those of the rows that the strategy keeps.
fn learn_again(
    choice: Choice,
    seen: &[&AcceptedMeasurement],
    new: Vec<&AcceptedMeasurement>,
    evidence: &Evidence,
    settings: &TrainSettings,
) -> Result<Next, PredictorError> {
    let changed = evidence.changed_devices();
    let old = match choice.strategy {
        UpdateStrategy::Window => {
            seen.iter().copied().filter(|row| !changed.contains(row.device.name.as_str())).collect()
        }
        UpdateStrategy::Weighted => weighted(seen, new.len()),
        UpdateStrategy::Full | UpdateStrategy::Incremental => seen.to_vec(),
    };
    let rows = [old, new.clone()].concat();
    match learn(&rows, settings) {
        Err(PredictorError::TooFewRows { found, .. }) if choice.strategy == UpdateStrategy::Window => {
            let reason = format!("{}; {found} rows since are too few alone", choice.reason);
            learn_again(Choice { strategy: UpdateStrategy::Weighted, reason }, seen, new, evidence, settings)
        }
        learned => Ok(Next { choice, predictors: learned?, whole_rows: rows.len() }),
    }
}

fn update(Choice { strategy, reason }: Choice, table_rows: usize, whole_rows: usize) -> Update {
    let count = |rows| u32::try_from(rows).unwrap_or(u32::MAX);
    Update {
        strategy,
        reason,
        table_rows: count(table_rows),
        whole_rows: count(whole_rows),
        held_out: Vec::new(),
        judged: Vec::new(),
        is_promoted: true,
    }
}

/// Decides whether a release takes the place of the current one, and says why not.
fn decided(mut update: Update, judged: Vec<Judged>, metrics: &[Metric], of_current: &[Metric]) -> Update {
    let lost = of_current.iter().find(|metric| !metrics.contains(metric));
    let against = lost.map(|lost| format!("it does not predict {lost}, as the current release does"));
    let worse = |Judged { metric, platform, rows, mape_pct, current_mape_pct, .. }: &Judged| {
        format!("it errs more in {metric} on {platform}, {mape_pct:.1} % after {current_mape_pct:.1} % on {rows} rows")
    };
    let against: Vec<String> =
        against.into_iter().chain(judged.iter().filter(|judged| judged.is_worse).map(worse)).collect();
    update.is_promoted = against.is_empty();
    if !against.is_empty() {
        update.reason = format!("{}; not promoted: {}", update.reason, against.join(", "));
    } else if judged.is_empty() {
        update.reason = format!("{}; too few new rows to judge it on", update.reason);
    }
    Update { judged, ..update }
}

/// Old rows, each kept with a chance that halves with every so many newer ones: half of all, or as many as are new.
fn weighted<'a>(seen: &[&'a AcceptedMeasurement], new: usize) -> Vec<&'a AcceptedMeasurement> {
    let half_life = new.max(seen.len() / 2).max(1) as f64;
    let mut random = fastrand::Rng::with_seed(seen.len() as u64);
    let age = |index: usize| (seen.len() - index) as f64;
    let kept = seen.iter().enumerate().filter(|(index, _)| random.f64() < (-age(*index) / half_life).exp2());
    kept.map(|(_, row)| *row).collect()
}

fn learn_more(
    mut predictors: Predictors,
    seen: &[&AcceptedMeasurement],
    new: &[&AcceptedMeasurement],
) -> Result<Predictors, PredictorError> {
    let OwnTables { mut rows, devices, operators } = tables(&[seen, new].concat());
    let new = rows.split_off(seen.len());
    predictors.learn_more(&rows, new, &devices, &operators)?;
    Ok(predictors)
}

/// Trains all metrics that enough configurations have, latency among them.
fn learn(rows: &[impl Borrow<AcceptedMeasurement>], settings: &TrainSettings) -> Result<Predictors, PredictorError> {
    let OwnTables { rows, devices, operators } = tables(rows);
    let mut metrics = Predictors::trainable(&rows);
    if !metrics.contains(&Metric::LatencyMs) {
        // Too few is said where it is counted.
        metrics = vec![Metric::LatencyMs];
    }
    Predictors::train(rows, &devices, &operators, &metrics, settings, |step| debug!("{step}"))
}

fn tables(rows: &[impl Borrow<AcceptedMeasurement>]) -> OwnTables {
    OwnTables::of(rows, model_family)
}

/// The family of a model of the zoo.
pub fn model_family(model: &str) -> Option<String> {
    graphs::zoo_entry(model).map(|entry| entry.family.to_owned())
}

#[cfg(test)]
mod tests {
    use testkit::builders;

    use super::*;

    fn rows(count: usize) -> Vec<AcceptedMeasurement> {
        let row = |_| AcceptedMeasurement { job_id: JobId::new(), ..builders::accepted_measurement() };
        (0..count).map(row).collect()
    }

    #[test]
    fn what_judged_a_release_is_new_to_it_and_learned_from_next() {
        let rows = rows(100);
        let first = Split::behind(&rows, 60, &[]);
        assert_eq!((first.seen.len(), first.unseen.len()), (60, 40));
        let judges: Vec<JobId> = first.hold_back(1).into_iter().collect();
        assert_eq!(judges.len(), 8);
        let next = Split::behind(&rows, 100, &judges);
        assert_eq!((next.seen.len(), next.unseen.len()), (92, 8));
        assert!(next.unseen.iter().all(|row| judges.contains(&row.job_id)));
        assert_eq!(next.hold_back(1).len(), 0, "too few to spare any");
    }

    #[test]
    fn the_older_a_row_is_the_likelier_it_is_left_out() {
        let rows = rows(1_000);
        let kept = weighted(&rows.iter().collect::<Vec<_>>(), 100);
        let is_old = |row: &&&AcceptedMeasurement| rows[..500].iter().any(|old| old.job_id == row.job_id);
        let old = kept.iter().filter(is_old).count();
        // Chances are 1/4 to 1/2 for the older half, 1/2 to 1 for the newer one.
        assert!((120..240).contains(&old) && (300..430).contains(&(kept.len() - old)), "{old} of {}", kept.len());
    }

    #[test]
    fn only_what_is_not_worse_anywhere_is_promoted() {
        let judged = |platform: &str, is_worse| Judged {
            metric: Metric::LatencyMs,
            platform: platform.to_owned(),
            rows: 12,
            mape_pct: 12.0,
            current_mape_pct: 8.0,
            inside_pct: 75.0,
            is_worse,
        };
        let made = || update(Choice { strategy: UpdateStrategy::Full, reason: "new devices: X".to_owned() }, 100, 88);
        let both = [Metric::LatencyMs, Metric::MemoryPeakMb];
        let decide = |judged, metrics: &[Metric]| decided(made(), judged, metrics, &both);
        let good = decide(vec![judged("cpu", false), judged("wasm", false)], &both);
        assert!(good.is_promoted && good.reason == "new devices: X", "{good:?}");
        let bad = decide(vec![judged("cpu", false), judged("wasm", true)], &both);
        assert!(!bad.is_promoted, "{bad:?}");
        assert!(bad.reason.ends_with("latency_ms on wasm, 12.0 % after 8.0 % on 12 rows"), "{bad:?}");
        let poorer = decide(vec![judged("cpu", false)], &both[..1]);
        assert!(!poorer.is_promoted && poorer.reason.contains("does not predict memory_peak_mb"), "{poorer:?}");
        let few = decide(Vec::new(), &both);
        assert!(few.is_promoted && few.reason.ends_with("too few new rows to judge it on"), "{few:?}");
    }
}
