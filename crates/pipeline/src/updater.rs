//! The model-update stage: collects accepted measurements, trains predictors, publishes releases.
//!
//! It lives off the `measurements` stream and its own files: the training table and the stream offset behind it are
//! written together (the table first, under a name that holds the offset, then the pointer to it), so a crash at any
//! point repeats rows, which count once by job id, and skips none.

mod due;
mod evidence;
mod files;
mod lease;
mod making;
mod news;
mod split;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use broker::{AmqpUrl, Delivery, Patience, Publisher, Settlement, Subscription, resume};
use due::{Arrived, RESTS, Urgency};
use evidence::ROWS_MIN;
use features::TrainingTable;
use files::{Position, load_training, save_training};
use making::{Current, make};
use messages::AcceptedMeasurement;
use predictors::{PredictorError, Releases, TrainSettings, UpdateStrategy};
use split::Split;
use tokio_util::sync::CancellationToken;
use topology::names;
use tracing::{debug, info, warn};

use crate::{PipelineError, election::while_active, failpoint, retention, worker::chain};

pub use files::training_table;
pub use making::model_family;

/// Measurements read ahead.
const PREFETCH: u16 = 1_000;
/// Most measurements taken in before the table is written.
const BATCH_ROWS_MAX: usize = 1_000;
/// Longest wait for a batch to fill, from its first measurement.
const BATCH_WAIT_MAX: Duration = Duration::from_millis(200);
/// Wait before training is tried again that failed by no fault of the measurements: a full disk takes a while to clear.
const RETRY_WAIT: Duration = Duration::from_mins(1);

/// How the updater works.
#[derive(Debug, Clone)]
pub struct UpdaterSettings {
    /// Where releases and the training table are kept.
    pub releases_directory: PathBuf,
    /// Where this machine's devices are locked, so that training does not distort benchmarks that run beside it.
    pub lease_directory: PathBuf,
    /// Fewest new measurements that make a new release worth training soon.
    pub rows_new_min: usize,
    /// A release is trained once no measurement has come for this long, or when the first new one has waited for 20 times
    /// as long, or a hundred are new; at once when half as many are new as the last release was trained on.
    pub quiet: Duration,
    /// How a release learns of new measurements; `None` chooses by how far errors have drifted.
    pub strategy: Option<UpdateStrategy>,
    /// How to train.
    pub train: TrainSettings,
    /// Augur's version, for the manifest.
    pub version: String,
    /// How long the broker may take to appear.
    pub patience: Patience,
}

/// Updates until `stop`, while this is the active updater.
///
/// # Errors
///
/// [`PipelineError::Broker`] if no broker answers in time; [`PipelineError::Features`], [`PipelineError::File`] and
/// [`PipelineError::Predictors`] if its own files cannot be read or written. A training that fails is reported and
/// tried again, after a minute or, where the measurements were too few, with the next ones; the last good release stays.
pub async fn update(url: &AmqpUrl, settings: UpdaterSettings, stop: CancellationToken) -> Result<(), PipelineError> {
    let elected = ("updater", names::UPDATER_LEADER);
    while_active(url, elected, settings.patience, &stop, |stop| session(url, settings.clone(), stop)).await
}

/// Updates from the stored offset until `stop`.
async fn session(url: &AmqpUrl, settings: UpdaterSettings, stop: CancellationToken) -> Result<(), PipelineError> {
    let failed = || PipelineError::broker("updater");
    let publisher = Publisher::start(url, "augur updater publish", settings.patience, stop.clone())
        .await
        .map_err(failed())?
        .patient();
    let releases = Releases::open(&settings.releases_directory).map_err(PipelineError::predictors("updater"))?;
    let (table, position) = load_training(&settings.releases_directory)?;
    let (next_offset, last_message) = position.map_or((None, None), |at| (Some(at.next_offset), at.last_message));
    let start = resume(url, names::MEASUREMENTS, next_offset, last_message.as_deref()).await.map_err(failed())?;
    let next_offset = retention::first_expected(&start);
    let measurements =
        Subscription::start(url, "augur updater read", names::MEASUREMENTS, start, PREFETCH, settings.patience, &stop)
            .await
            .map_err(failed())?;
    releases.recover().map_err(PipelineError::predictors("updater"))?;
    let (arrived, urgency) = found(&releases, table.len()).map_err(PipelineError::predictors("updater"))?;
    info!(rows = table.len(), rows_tried = arrived.rows_trained(), "updater ready");
    let mut updater = Updater {
        measurements,
        next_offset,
        publisher,
        releases,
        current: None,
        table,
        arrived,
        urgency,
        not_before: None,
        settings,
        stop,
    };
    updater.announce_last().await?;
    updater.run().await?;
    info!("updater stopped");
    Ok(())
}

/// How many of the table's rows the updater made a release of last, a candidate included, and whether another is wanted
/// at once, because the current one is of no use.
fn found(releases: &Releases, rows: usize) -> Result<(Arrived, Urgency), PredictorError> {
    let of_rows = |rows_tried| Arrived::found(rows, rows_tried, Instant::now());
    match Current::load(releases) {
        Ok(None) => return Ok((of_rows(0), Urgency::Patient)),
        Ok(Some(_)) => {}
        Err(error) => {
            warn!(error = %chain(&error), "the current release is of no use; another is trained at once");
            return Ok((of_rows(0), Urgency::Unusable));
        }
    }
    let tried = releases.list()?.into_iter().flatten().filter_map(|manifest| manifest.update);
    let rows_tried = tried.map(|update| update.table_rows as usize).max().unwrap_or_default();
    if rows_tried > rows {
        warn!(rows, rows_tried, "the training table is not the one that releases were made of: it is shorter");
    }
    Ok((of_rows(rows_tried.min(rows)), Urgency::Patient))
}

struct Updater {
    measurements: Subscription,
    /// Of the measurement that should come next.
    next_offset: u64,
    publisher: Publisher,
    releases: Releases,
    /// The current release as it was loaded last.
    current: Option<Arc<Current>>,
    table: TrainingTable,
    arrived: Arrived,
    urgency: Urgency,
    /// When training may be tried again after it failed.
    not_before: Option<Instant>,
    settings: UpdaterSettings,
    stop: CancellationToken,
}

impl Updater {
    async fn run(&mut self) -> Result<(), PipelineError> {
        while !self.stop.is_cancelled() {
            let due_at = self.due_at();
            if due_at.is_some_and(|due_at| due_at <= Instant::now()) {
                self.train().await?;
                continue;
            }
            let due = tokio::time::sleep_until(due_at.unwrap_or_else(Instant::now).into());
            let first = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(()),
                first = self.measurements.next() => first,
                () = due, if due_at.is_some() => continue,
            };
            let Some(first) = first else { return Ok(()) };
            let batch = self.fill_batch(first).await;
            self.take_in(batch).await?;
            self.urgency = self.urgency.max(self.look().await?);
        }
        Ok(())
    }

    /// When to train next, which may be past; `None` if there is nothing to train on.
    fn due_at(&self) -> Option<Instant> {
        let due_at = self.arrived.due_at(self.urgency, self.settings.rows_new_min, self.settings.quiet);
        due_at.max(due_at.and(self.not_before))
    }

    /// Takes what arrives right behind the first measurement.
    async fn fill_batch(&mut self, first: Delivery) -> Vec<Delivery> {
        let mut batch = vec![first];
        let deadline = tokio::time::Instant::now() + BATCH_WAIT_MAX;
        while batch.len() < BATCH_ROWS_MAX {
            match tokio::time::timeout_at(deadline, self.measurements.next()).await {
                Ok(Some(delivery)) => batch.push(delivery),
                Ok(None) | Err(_) => break,
            }
        }
        batch
    }

    /// Adds measurements to the table, writes it with the offset behind them, then acks.
    async fn take_in(&mut self, batch: Vec<Delivery>) -> Result<(), PipelineError> {
        let decoded: Vec<AcceptedMeasurement> = batch
            .iter()
            .filter_map(|delivery| {
                delivery
                    .decode()
                    .inspect_err(|error| {
                        warn!(offset = delivery.stream_offset(), error = %chain(error), "measurement does not decode");
                    })
                    .ok()
            })
            .collect();
        let first_offset = batch.first().and_then(Delivery::stream_offset).expect("stream messages have offsets");
        if let Some(offsets_missing) = retention::offsets_missing(self.next_offset, first_offset) {
            warn!(
                offsets_missing,
                from_offset = self.next_offset,
                "retention took measurements from the stream before they were read; the database still has them: \
                 `augur predictor train --db` learns from it"
            );
        }
        let last = batch.into_iter().next_back().expect("a batch is never empty");
        let next_offset = last.stream_offset().expect("stream messages have offsets") + 1;
        self.next_offset = next_offset;
        let added = self.table.append(&decoded);
        self.arrived.grew(self.table.len(), Instant::now());
        let position = Position { next_offset, last_message: last.stream_fingerprint() };
        save_training(&self.settings.releases_directory, &self.table, &position)?;
        debug!(added, rows = self.table.len(), next_offset, "measurements taken in");
        if let Err(error) = last.settle(Settlement::DoneThrough).await {
            warn!(%error, "measurements could not be acked");
        }
        Ok(())
    }

    /// How urgent another release is by what came since the last one: the current one may err more than it promised, or be
    /// of no use any more. That nobody can say is no reason to stop collecting measurements.
    async fn look(&mut self) -> Result<Urgency, PipelineError> {
        let first = self.arrived.rows_trained();
        if self.table.len() < first + ROWS_MIN {
            return Ok(Urgency::Patient);
        }
        let (rows, releases, known) = (self.table.measurements().to_vec(), self.releases.clone(), self.current.take());
        let looking = tokio::task::spawn_blocking(move || {
            let current = still_current(&releases, known)?;
            let Some(of) = &current else { return Ok((current, Ok(false))) };
            let since = Split::since(&rows, &of.jobs, first);
            let has_drifted = since.evidence(&of.release.predictors).map(|evidence| evidence.has_drifted());
            Ok((current, has_drifted))
        });
        let looked: Result<_, PredictorError> =
            looking.await.map_err(|source| PipelineError::Panicked { stage: "updater", source })?;
        match looked {
            Err(error) => {
                warn!(error = %chain(&error), "the current release is of no use; another is trained at once");
                Ok(Urgency::Unusable)
            }
            Ok((current, looked)) => {
                self.current = current;
                let has_drifted = looked.unwrap_or_else(|error| {
                    warn!(error = %chain(&error), "whether predictions have drifted is not known");
                    false
                });
                if has_drifted && self.urgency < Urgency::Drifted {
                    info!("predictions have drifted; updating as soon as training has rested");
                }
                Ok(if has_drifted { Urgency::Drifted } else { Urgency::Patient })
            }
        }
    }

    /// Makes a release of the table, and says so to everyone; after the stop none.
    async fn train(&mut self) -> Result<(), PipelineError> {
        let lease = lease::turn(&self.settings.lease_directory, &self.stop).await;
        if self.stop.is_cancelled() {
            return Ok(());
        }
        let began = Instant::now();
        let rows = self.table.measurements().to_vec();
        let (settings, releases, stop) = (self.settings.clone(), self.releases.clone(), self.stop.clone());
        let training = tokio::task::spawn_blocking(move || {
            let _lease = lease;
            make(&rows, &settings, &releases, &stop)
        });
        let made = training.await.map_err(|source| PipelineError::Panicked { stage: "updater", source })?;
        let now = Instant::now();
        match made {
            Ok(None) => Ok(()),
            Ok(Some(manifest)) => {
                failpoint::hit(failpoint::UPDATER_BEFORE_NEWS);
                self.was_tried(began, now);
                self.announce(&manifest).await
            }
            Err(error) => {
                warn!(error = %chain(&error), "no release was made; the last one stays");
                match error {
                    PipelineError::Predictors { source: PredictorError::TooFewRows { .. }, .. } => {
                        self.was_tried(began, now);
                    }
                    // What fails for good must not keep the processor from benchmarks.
                    _ => self.not_before = Some(now + RETRY_WAIT.max(RESTS * (now - began))),
                }
                Ok(())
            }
        }
    }

    /// The table's rows were made a release of, or are too few for one.
    fn was_tried(&mut self, began: Instant, now: Instant) {
        self.arrived.trained(began, now);
        (self.urgency, self.not_before) = (Urgency::Patient, None);
    }
}

/// The current release, loaded unless it is the one that is known.
fn still_current(releases: &Releases, known: Option<Arc<Current>>) -> Result<Option<Arc<Current>>, PredictorError> {
    let current_id = releases.current_id()?;
    match known {
        Some(known) if current_id.as_ref() == Some(&known.release.manifest.release_id) => Ok(Some(known)),
        _ => Ok(Current::load(releases)?.map(Arc::new)),
    }
}
