//! Makes the next release: chooses how to learn, holds rows back to judge it on, and promotes it if it is not worse.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Display,
};

use features::OwnTables;
use messages::{AcceptedMeasurement, JobId, Metric, Platform, Timestamp};
use predictors::{
    Judged, KnownJobs, Manifest, PredictorError, Predictors, Provenance, Release, Releases, Source, TrainSettings,
    Update, UpdateStrategy, judge,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    UpdaterSettings,
    evidence::{AMENDMENTS_MAX, Choice, Evidence, Learned},
    split::{Split, halves, spared},
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

/// Makes a release of the training table's rows; `None` after `stop`.
///
/// # Errors
///
/// [`PipelineError::Predictors`]; the current release is what it was then.
pub(super) fn make(
    rows: &[AcceptedMeasurement],
    settings: &UpdaterSettings,
    releases: &Releases,
    stop: &CancellationToken,
) -> Result<Option<Manifest>, PipelineError> {
    let (predictors, provenance) = learned(rows, settings, releases).map_err(PipelineError::predictors("updater"))?;
    failpoint::hit(failpoint::UPDATER_BEFORE_RELEASE);
    if stop.is_cancelled() {
        // Another updater may be the active one by now.
        info!("told to end; what was learned is not released");
        return Ok(None);
    }
    let published = releases.publish(&predictors, provenance, Timestamp::now(), &settings.version);
    published.map(Some).map_err(PipelineError::predictors("updater"))
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

/// Learns of all rows that count but those for the next release to be judged on, with nothing to hold this one against.
fn first(
    rows: &[AcceptedMeasurement],
    settings: &UpdaterSettings,
    dropped: BTreeSet<JobId>,
    reason: String,
) -> Result<(Predictors, Provenance), PredictorError> {
    let Split { unseen, .. } = Split::of(rows, &KnownJobs { dropped: dropped.clone(), ..KnownJobs::default() });
    let spared = spared(&unseen, &BTreeMap::new(), rows.len() as u64);
    let lesson = without(&unseen, &spared);
    let predictors = learn(&lesson, &settings.train)?;
    let update = update(Choice { strategy: UpdateStrategy::Full, reason }, rows.len(), lesson.len());
    let update = Update { held_out: spared.into_iter().collect(), ..update };
    let jobs = KnownJobs { learned: ids(&lesson), dropped };
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
    let judged_before: BTreeSet<JobId> = manifest.update.iter().flat_map(|update| &update.held_out).copied().collect();
    split.age(&judged_before, |row| evidence.has_changed(row));
    let whole_rows = manifest.update.as_ref().map_or(split.seen.len(), |update| update.whole_rows as usize);
    let choice = match settings.strategy {
        None => evidence.choose(Learned {
            whole_rows,
            rows_since: (split.seen.len() + split.unseen.len()).saturating_sub(whole_rows),
            unseen: split.unseen.len(),
            amendments: before.amendments(),
            is_small: split.is_small(),
            is_of_tables: manifest.source == Source::Tables || jobs.learned.len() > split.seen.len(),
        }),
        Some(strategy) => Choice { strategy, reason: "the settings say so".to_owned() },
    };
    let seed = rows.len() as u64;
    let is_small = choice.strategy != UpdateStrategy::Incremental && split.is_small();
    let held_out = if is_small { BTreeSet::new() } else { split.hold_back(&judged_before, seed) };
    let is_judge = |row: &&AcceptedMeasurement| held_out.contains(&row.job_id);
    let (judges, new): (Vec<_>, Vec<_>) = split.unseen.iter().copied().partition(is_judge);
    let old = Old { rows, seen: &split.seen, judges: &judges, evidence: &evidence };
    let stand_ins = if is_small { stand_ins(&choice, &old, halves(&new, seed), &settings.train)? } else { Vec::new() };
    let next = if choice.strategy == UpdateStrategy::Incremental {
        learn_on(choice, &old, &new, current, releases, whole_rows)?
    } else {
        learn_again(choice, &old, &new, &settings.train)?
    };
    let Next { choice, predictors, source, kept, spared, whole_rows } = next;
    let mut trials: Vec<(&Predictors, OwnTables)> =
        stand_ins.iter().map(|(stand_in, rows)| (stand_in, tables(rows))).collect();
    trials.extend((!judges.is_empty()).then(|| (&predictors, tables(&judges))));
    let update = decided(
        update(choice, rows.len(), whole_rows),
        judge(&trials, before)?,
        &predicted_there(&split.seen, &to_judge(&predictors, before)),
        lost(&predictors, before, manifest.source),
    );
    let update = Update { held_out: held_out.union(&spared).copied().collect(), ..update };
    let kept = ids(&kept);
    let gone = &ids(&split.seen) - &kept;
    let of_before = if update.strategy == UpdateStrategy::Incremental { &jobs.learned - &gone } else { kept };
    let jobs = KnownJobs { learned: &(&of_before | &ids(&new)) - &spared, dropped: &jobs.dropped | &gone };
    Ok((predictors, Provenance { source, jobs, update: Some(update) }))
}

/// What stands in for a release that learns from all rows, each with the half of the new rows that it did not learn from.
fn stand_ins<'a>(
    choice: &Choice,
    old: &Old<'a>,
    [first, second]: [Vec<&'a AcceptedMeasurement>; 2],
    settings: &TrainSettings,
) -> Result<Vec<(Predictors, Vec<&'a AcceptedMeasurement>)>, PredictorError> {
    let mut stand_ins = Vec::new();
    for (learned, held) in [(first.clone(), second.clone()), (second, first)] {
        match learn_again(choice.clone(), old, &learned, settings) {
            Ok(next) => stand_ins.push((next.predictors, held)),
            // Without one, fewer rows judge, which the release says.
            Err(PredictorError::TooFewRows { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(stand_ins)
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
    /// Rows that the next release is judged on.
    judges: &'a [&'a AcceptedMeasurement],
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
    /// Those of the kept and of the new ones that it did not learn from: they are for the one after it to be judged on.
    spared: BTreeSet<JobId>,
    whole_rows: usize,
}

/// Has the current release learn more, or the one that it began from, once that was too often.
fn learn_on<'a>(
    choice: Choice,
    old: &Old<'a>,
    new: &[&'a AcceptedMeasurement],
    current: &Current,
    releases: &Releases,
    whole_rows: usize,
) -> Result<Next<'a>, PredictorError> {
    let manifest = &current.release.manifest;
    let kept = old.kept(UpdateStrategy::Incremental, new.len());
    let predictors = match origin(releases, current)? {
        None => learn_more(releases.load(&manifest.release_id)?.predictors, new)?,
        Some(Current { release, jobs }) => {
            let since = kept.iter().chain(new).filter(|row| !jobs.learned.contains(&row.job_id)).copied();
            learn_more(release.predictors, &since.collect::<Vec<_>>())?
        }
    };
    Ok(Next { choice, predictors, source: manifest.source, kept, spared: BTreeSet::new(), whole_rows })
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
    let mut judges = BTreeMap::new();
    for row in old.judges {
        *judges.entry(row.configuration.platform).or_default() += 1;
    }
    let spared = spared(&rows, &judges, old.rows.len() as u64);
    let rows = without(&rows, &spared);
    match learn(&rows, settings) {
        Err(PredictorError::TooFewRows { found, .. }) if choice.strategy == UpdateStrategy::Window => {
            let reason = format!("{}; {found} rows since are too few alone", choice.reason);
            learn_again(Choice { strategy: UpdateStrategy::Weighted, reason }, old, new, settings)
        }
        learned => {
            Ok(Next { choice, predictors: learned?, source: Source::Jobs, kept, spared, whole_rows: rows.len() })
        }
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

/// The metrics that a release is judged in: those that the current one predicts too. Throughput follows from latency.
fn to_judge(candidate: &Predictors, current: &Predictors) -> Vec<Metric> {
    let of_current = current.metrics();
    let is_judged = |metric: &Metric| *metric != Metric::ThroughputItemsPerSecond && of_current.contains(metric);
    candidate.metrics().into_iter().filter(is_judged).collect()
}

/// The platforms of rows, each with those of the metrics that any of its rows has.
fn predicted_there(rows: &[&AcceptedMeasurement], metrics: &[Metric]) -> BTreeMap<Platform, BTreeSet<Metric>> {
    let mut places: BTreeMap<Platform, BTreeSet<Metric>> = BTreeMap::new();
    for (row, measured) in rows.iter().zip(tables(rows).rows) {
        let is_measured = |metric: &&Metric| measured.measured(**metric).is_some();
        places.entry(row.configuration.platform).or_default().extend(metrics.iter().filter(is_measured));
    }
    places
}

/// Decides whether a release takes the place of the current one, and says why not, or what of it nobody could judge;
/// `places` are the platforms of what that one learned with the metrics that both predict there, `lost` is what only it
/// knows.
fn decided(
    mut update: Update,
    judged: Vec<Judged>,
    places: &BTreeMap<Platform, BTreeSet<Metric>>,
    lost: Option<String>,
) -> Update {
    let worse = |Judged { metric, platform, rows, mape_pct, current_mape_pct, .. }: &Judged| {
        format!("it errs more in {metric} on {platform}, {mape_pct:.1} % after {current_mape_pct:.1} % on {rows} rows")
    };
    let worse = judged.iter().filter(|judged| judged.is_worse).map(worse);
    let against: Vec<String> = lost.into_iter().chain(worse).collect();
    update.is_promoted = against.is_empty();
    let unjudged: Vec<String> =
        places.iter().filter_map(|(platform, metrics)| undecided(&judged, *platform, metrics)).collect();
    if !against.is_empty() {
        update.reason = format!("{}; not promoted: {}", update.reason, against.join(", "));
    } else if !unjudged.is_empty() {
        update.reason = format!("{}; too few new rows to judge it {}", update.reason, unjudged.join(", "));
    }
    Update { judged, ..update }
}

/// Where too few rows judged a release: on all of a platform, or in some of its metrics there.
fn undecided(judged: &[Judged], platform: Platform, metrics: &BTreeSet<Metric>) -> Option<String> {
    let there = judged.iter().filter(|of| of.is_decided() && of.platform == platform.as_str());
    let decided: BTreeSet<Metric> = there.map(|of| of.metric).collect();
    if decided.is_empty() {
        return Some(format!("on {platform}"));
    }
    let open: Vec<&str> = metrics.difference(&decided).map(|metric| metric.as_str()).collect();
    (!open.is_empty()).then(|| format!("in {} on {platform}", open.join(" and ")))
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

fn without<'a>(rows: &[&'a AcceptedMeasurement], spared: &BTreeSet<JobId>) -> Vec<&'a AcceptedMeasurement> {
    rows.iter().copied().filter(|row| !spared.contains(&row.job_id)).collect()
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
