//! Makes the next release: chooses how to learn, holds rows back to judge it on, and promotes it if it is not worse.

use std::{
    borrow::Borrow,
    collections::{BTreeSet, HashMap},
    fmt::Display,
};

use features::OwnTables;
use hardware::DeviceLease;
use messages::{AcceptedMeasurement, JobId, Metric, Platform, Timestamp};
use predictors::{
    Judged, KnownJobs, Manifest, PredictorError, Predictors, Provenance, Release, Releases, Source, TrainSettings,
    Update, UpdateStrategy, judge,
};
use tracing::{debug, warn};

use super::{
    LEASE_WAIT_MAX, UpdaterSettings,
    evidence::{AMENDMENTS_MAX, Choice, Evidence, Learned},
    split::Split,
};
use crate::{PipelineError, failpoint, worker::chain};

/// The release that is current, and which jobs it knows.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) release: Release,
    pub(super) jobs: KnownJobs,
}

impl Current {
    /// Loads it; `None` if there is none yet.
    pub(super) fn load(releases: &Releases) -> Result<Option<Self>, PredictorError> {
        let Some(release) = releases.current()? else { return Ok(None) };
        let jobs = releases.known_jobs(&release.manifest)?;
        Ok(Some(Self { release, jobs }))
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
    let (predictors, provenance) = made;
    failpoint::hit(failpoint::UPDATER_BEFORE_RELEASE);
    let published = releases.publish(&predictors, provenance, Timestamp::now(), &settings.version);
    published.map_err(PipelineError::predictors("updater"))
}

fn learned(
    rows: &[AcceptedMeasurement],
    settings: &UpdaterSettings,
    releases: &Releases,
) -> Result<(Predictors, Provenance), PredictorError> {
    match Current::load(releases) {
        Ok(Some(current)) => learned_after(&current, rows, settings, releases),
        Ok(None) => first(rows, settings, BTreeSet::new(), "there was no release before".to_owned()),
        Err(error) => {
            let reason = format!("the release before is of no use: {}", chain(&error));
            first(rows, settings, dropped_before(releases).unwrap_or_default(), reason)
        }
    }
}

/// What does not count any more by a current release that cannot be used, as far as that can be read.
fn dropped_before(releases: &Releases) -> Result<BTreeSet<JobId>, PredictorError> {
    let Some(release_id) = releases.current_id()? else { return Ok(BTreeSet::new()) };
    Ok(releases.known_jobs(&releases.manifest(&release_id)?)?.dropped)
}

/// Learns of all rows that count, with nothing to hold the release against.
fn first(
    rows: &[AcceptedMeasurement],
    settings: &UpdaterSettings,
    dropped: BTreeSet<JobId>,
    reason: String,
) -> Result<(Predictors, Provenance), PredictorError> {
    let Split { unseen, .. } = Split::of(rows, &KnownJobs { dropped: dropped.clone(), ..KnownJobs::default() });
    let predictors = learn(&unseen, &settings.train)?;
    let update = update(Choice { strategy: UpdateStrategy::Full, reason }, rows.len(), unseen.len());
    let jobs = KnownJobs { learned: ids(&unseen), dropped };
    Ok((predictors, Provenance { source: Source::Jobs, jobs, update: Some(update) }))
}

fn learned_after(
    current: &Current,
    rows: &[AcceptedMeasurement],
    settings: &UpdaterSettings,
    releases: &Releases,
) -> Result<(Predictors, Provenance), PredictorError> {
    let Current { release: Release { manifest, predictors: before }, jobs } = current;
    let mut split = Split::of(rows, jobs);
    let evidence = split.evidence(before)?;
    let tried = manifest.update.as_ref().map_or(0, |update| update.table_rows as usize);
    split.age(rows.iter().take(tried), |row| evidence.has_changed(row));
    let whole_rows = manifest.update.as_ref().map_or(split.seen.len(), |update| update.whole_rows as usize);
    let choice = match settings.strategy {
        None => evidence.choose(Learned {
            whole_rows,
            rows_since: (split.seen.len() + split.unseen.len()).saturating_sub(whole_rows),
            amendments: before.amendments(),
            is_of_tables: manifest.source == Source::Tables || jobs.learned.len() > split.seen.len(),
        }),
        Some(strategy) => Choice { strategy, reason: "the settings say so".to_owned() },
    };
    let held_out = split.hold_back(rows.len() as u64);
    let is_judge = |row: &&AcceptedMeasurement| held_out.contains(&row.job_id);
    let (judges, new): (Vec<_>, Vec<_>) = split.unseen.iter().copied().partition(is_judge);
    let old = Old { rows, seen: &split.seen, evidence: &evidence };
    let next = if choice.strategy == UpdateStrategy::Incremental {
        let kept = old.kept(UpdateStrategy::Incremental, new.len());
        let predictors = match origin(releases, current)? {
            None => learn_more(releases.load(&manifest.release_id)?.predictors, &new)?,
            Some(Current { release, jobs }) => {
                let since = kept.iter().chain(&new).filter(|row| !jobs.learned.contains(&row.job_id)).copied();
                learn_more(release.predictors, &since.collect::<Vec<_>>())?
            }
        };
        Next { choice, predictors, source: manifest.source, kept, whole_rows }
    } else {
        learn_again(choice, &old, &new, &settings.train)?
    };
    let Next { choice, predictors, source, kept, whole_rows } = next;
    let judgements = if judges.is_empty() { Vec::new() } else { judge(&predictors, before, &tables(&judges))? };
    let update = Update {
        held_out: held_out.into_iter().collect(),
        ..decided(update(choice, rows.len(), whole_rows), judgements, lost(&predictors, before, manifest.source))
    };
    let kept = ids(&kept);
    let gone: BTreeSet<JobId> = ids(&split.seen).difference(&kept).copied().collect();
    let of_before = if update.strategy == UpdateStrategy::Incremental { &jobs.learned - &gone } else { kept };
    let jobs = KnownJobs { learned: &of_before | &ids(&new), dropped: &jobs.dropped | &gone };
    Ok((predictors, Provenance { source, jobs, update: Some(update) }))
}

/// What learned more is slower each time. The release from which a current one began, once that was too often, for all
/// since then to be learned at once; `None` where it was not, or where that release is gone.
fn origin(releases: &Releases, current: &Current) -> Result<Option<Current>, PredictorError> {
    if current.release.predictors.amendments() < AMENDMENTS_MAX {
        return Ok(None);
    }
    let mut manifest = current.release.manifest.clone();
    while manifest.update.as_ref().is_some_and(|update| update.strategy == UpdateStrategy::Incremental) {
        let parent = manifest.parent.as_ref().map(|parent| releases.manifest(parent));
        match parent {
            Some(Ok(parent)) => manifest = parent,
            Some(Err(error)) => {
                warn!(error = %chain(&error), "the release that this one began from is gone; it grows on");
                return Ok(None);
            }
            None => return Ok(None),
        }
    }
    let jobs = releases.known_jobs(&manifest)?;
    Ok(Some(Current { release: releases.load(&manifest.release_id)?, jobs }))
}

/// What a release learned from, for the next one to choose what of it still counts.
struct Old<'a> {
    /// The whole table.
    rows: &'a [AcceptedMeasurement],
    seen: &'a [&'a AcceptedMeasurement],
    evidence: &'a Evidence,
}

impl<'a> Old<'a> {
    /// The rows that a strategy keeps; the others count no more, neither now nor later.
    fn kept(&self, strategy: UpdateStrategy, new: usize) -> Vec<&'a AcceptedMeasurement> {
        match strategy {
            UpdateStrategy::Full => self.seen.to_vec(),
            UpdateStrategy::Weighted => self.weighted(new),
            UpdateStrategy::Window | UpdateStrategy::Incremental => {
                self.seen.iter().copied().filter(|row| !self.evidence.has_changed(row)).collect()
            }
        }
    }

    /// Rows from where errors have grown or a device has changed, or all if that is nowhere, each kept with a chance that
    /// halves with every so many newer ones: half of the table, or as many as are new. A row's luck stays what it was, so
    /// that nothing is gained or lost by drawing again; the other rows are all kept.
    fn weighted(&self, new: usize) -> Vec<&'a AcceptedMeasurement> {
        let half_life = new.max(self.rows.len() / 2).max(1) as f64;
        let ages: HashMap<&JobId, usize> = self.rows.iter().rev().map(|row| &row.job_id).zip(1..).collect();
        let (drifted, has_cause) = (self.evidence.drifted_platforms(), self.evidence.has_drifted());
        let is_kept = |row: &&AcceptedMeasurement| {
            let is_astray = drifted.contains(&row.configuration.platform) || self.evidence.has_changed(row);
            (has_cause && !is_astray) || luck(&row.job_id) < (-(ages[&row.job_id] as f64) / half_life).exp2()
        };
        self.seen.iter().copied().filter(is_kept).collect()
    }
}

/// A number from 0 to 1 that is a job's for ever.
fn luck(job_id: &JobId) -> f64 {
    // The first half of an id is mostly the time of its making.
    let random = job_id.as_bytes().last_chunk().expect("an id has 16 bytes");
    fastrand::Rng::with_seed(u64::from_be_bytes(*random)).f64()
}

/// The next release before it is judged.
struct Next<'a> {
    choice: Choice,
    predictors: Predictors,
    source: Source,
    /// Of what the release before learned from, the rows that still count.
    kept: Vec<&'a AcceptedMeasurement>,
    whole_rows: usize,
}

/// Learns from the beginning, from those of the rows that the strategy keeps.
fn learn_again<'a>(
    choice: Choice,
    old: &Old<'a>,
    new: &[&'a AcceptedMeasurement],
    settings: &TrainSettings,
) -> Result<Next<'a>, PredictorError> {
    let kept = old.kept(choice.strategy, new.len());
    let rows = [&kept[..], new].concat();
    match learn(&rows, settings) {
        Err(PredictorError::TooFewRows { found, .. }) if choice.strategy == UpdateStrategy::Window => {
            let reason = format!("{}; {found} rows since are too few alone", choice.reason);
            learn_again(Choice { strategy: UpdateStrategy::Weighted, reason }, old, new, settings)
        }
        learned => Ok(Next { choice, predictors: learned?, source: Source::Jobs, kept, whole_rows: rows.len() }),
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

/// Decides whether a release takes the place of the current one, and says why not; `lost` is what only that one knows.
fn decided(mut update: Update, judged: Vec<Judged>, lost: Option<String>) -> Update {
    let worse = |Judged { metric, platform, rows, mape_pct, current_mape_pct, .. }: &Judged| {
        format!("it errs more in {metric} on {platform}, {mape_pct:.1} % after {current_mape_pct:.1} % on {rows} rows")
    };
    let worse = judged.iter().filter(|judged| judged.is_worse).map(worse);
    let against: Vec<String> = lost.into_iter().chain(worse).collect();
    update.is_promoted = against.is_empty();
    if !against.is_empty() {
        update.reason = format!("{}; not promoted: {}", update.reason, against.join(", "));
    } else if judged.is_empty() {
        update.reason = format!("{}; too few new rows to judge it on", update.reason);
    }
    Update { judged, ..update }
}

/// Says what a release knows nothing of that the current one knows: metrics, platforms, devices of tables.
fn lost(candidate: &Predictors, current: &Predictors, source: Source) -> Option<String> {
    let metrics = missing(current.metrics(), &candidate.metrics());
    let platforms = missing(current.platforms(), &candidate.platforms());
    let devices = match source {
        Source::Jobs => Vec::new(),
        Source::Tables => missing(current.devices(), &candidate.devices().collect::<Vec<_>>()),
    };
    let lost = [metrics, platforms, devices].concat().join(", ");
    (!lost.is_empty()).then(|| format!("it knows nothing of {lost}, as the current release does"))
}

fn missing<T: PartialEq + Display>(wanted: impl IntoIterator<Item = T>, there: &[T]) -> Vec<String> {
    wanted.into_iter().filter(|wanted| !there.contains(wanted)).map(|wanted| wanted.to_string()).collect()
}

fn ids(rows: &[&AcceptedMeasurement]) -> BTreeSet<JobId> {
    rows.iter().map(|row| row.job_id).collect()
}

fn learn_more(mut predictors: Predictors, new: &[&AcceptedMeasurement]) -> Result<Predictors, PredictorError> {
    let OwnTables { rows, devices, operators } = tables(new);
    predictors.learn_more(rows, &devices, &operators)?;
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

pub(super) fn tables(rows: &[impl Borrow<AcceptedMeasurement>]) -> OwnTables {
    OwnTables::of(rows, model_family)
}

/// The family of a model of the zoo.
pub fn model_family(model: &str) -> Option<String> {
    graphs::zoo_entry(model).map(|entry| entry.family.to_owned())
}

#[cfg(test)]
mod tests;
