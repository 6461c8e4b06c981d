//! The model-update stage: collects accepted measurements, trains predictors, publishes releases.
//!
//! It lives off the `measurements` stream and its own files: the training table and the stream offset behind it are
//! written together (the table first, under a name that holds the offset, then the pointer to it), so a crash at any
//! point repeats rows, which count once by job id, and skips none.

mod due;
mod evidence;
mod files;
mod making;

use std::{path::PathBuf, time::Duration};

use broker::{AmqpUrl, Delivery, Outgoing, Patience, Publisher, Settlement, Start, Subscription, resume};
use due::TrainingDue;
use evidence::ROWS_MIN;
use features::TrainingTable;
use files::{Position, load_training, save_training};
use making::{Split, make, usable};
use messages::{AcceptedMeasurement, encode};
use predictors::{PredictorError, Releases, TrainSettings, Update, UpdateStrategy};
use tokio_util::sync::CancellationToken;
use topology::names;
use tracing::{debug, info, warn};

use crate::{PipelineError, election::while_active, worker::chain};

pub use files::training_table;
pub use making::model_family;

/// Measurements read ahead.
const PREFETCH: u16 = 1_000;
/// Most measurements taken in before the table is written.
const BATCH_ROWS_MAX: usize = 1_000;
/// Longest wait for a batch to fill, from its first measurement.
const BATCH_WAIT_MAX: Duration = Duration::from_millis(200);
/// How long training may wait for the benchmarks of this machine to let it in.
const LEASE_WAIT_MAX: Duration = Duration::from_mins(10);

/// How the updater works.
#[derive(Debug, Clone)]
pub struct UpdaterSettings {
    /// Where releases and the training table are kept.
    pub releases_directory: PathBuf,
    /// Where this machine's devices are locked, so that training does not distort benchmarks that run beside it.
    pub lease_directory: PathBuf,
    /// Fewest new measurements that make a new release worth training soon.
    pub rows_new_min: usize,
    /// A release is trained once no measurement has come for this long, or at once when half as many are new as the
    /// last release was trained on.
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
/// tried again with the next measurements; the last good release stays.
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
    let next_offset = if let Start::StreamOffset(offset) = start { offset } else { 0 };
    let measurements =
        Subscription::start(url, "augur updater read", names::MEASUREMENTS, start, PREFETCH, settings.patience, &stop)
            .await
            .map_err(failed())?;
    let rows_tried = rows_tried(&releases).map_err(PipelineError::predictors("updater"))?;
    info!(rows = table.len(), rows_tried, "updater ready");
    let mut updater = Updater { measurements, next_offset, publisher, releases, table, rows_tried, settings, stop };
    updater.run().await?;
    info!("updater stopped");
    Ok(())
}

/// How many of the table's rows the updater made a release of last, a candidate included; 0 if none is of use.
fn rows_tried(releases: &Releases) -> Result<usize, PredictorError> {
    let Some(release_id) = releases.current_id()? else { return Ok(0) };
    if let Err(error) = releases.manifest(&release_id) {
        warn!(%release_id, error = %chain(&error), "the current release is of no use; the next one replaces it");
        return Ok(0);
    }
    let tried = releases.list()?.into_iter().flatten().filter_map(|manifest| manifest.update);
    Ok(tried.map(|update| update.table_rows as usize).max().unwrap_or_default())
}

struct Updater {
    measurements: Subscription,
    /// Of the measurement that should come next.
    next_offset: u64,
    publisher: Publisher,
    releases: Releases,
    table: TrainingTable,
    /// The table's rows when a release was made last.
    rows_tried: usize,
    settings: UpdaterSettings,
    stop: CancellationToken,
}

impl Updater {
    async fn run(&mut self) -> Result<(), PipelineError> {
        loop {
            let quiet = self.due().quiet;
            let first = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(()),
                first = self.measurements.next() => first,
                () = tokio::time::sleep(quiet.unwrap_or_default()), if quiet.is_some() => {
                    self.train().await?;
                    continue;
                }
            };
            let Some(first) = first else { return Ok(()) };
            let batch = self.fill_batch(first).await;
            self.take_in(batch).await?;
            if self.due().is_now || self.has_drifted().await? {
                self.train().await?;
            }
        }
    }

    fn due(&self) -> TrainingDue {
        TrainingDue::of(self.table.len(), self.rows_tried, self.settings.rows_new_min, self.settings.quiet)
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
        if let Some(lost) = first_offset.checked_sub(self.next_offset).filter(|lost| *lost > 0) {
            warn!(
                lost,
                from_offset = self.next_offset,
                "retention took measurements from the stream before they were read; the database still has them: \
                 `augur predictor train --db` learns from it"
            );
        }
        let last = batch.into_iter().next_back().expect("a batch is never empty");
        let next_offset = last.stream_offset().expect("stream messages have offsets") + 1;
        self.next_offset = next_offset;
        let added = self.table.append(&decoded);
        let position = Position { next_offset, last_message: last.stream_fingerprint() };
        save_training(&self.settings.releases_directory, &self.table, &position)?;
        debug!(added, rows = self.table.len(), next_offset, "measurements taken in");
        if let Err(error) = last.settle(Settlement::DoneThrough).await {
            warn!(%error, "measurements could not be acked");
        }
        Ok(())
    }

    /// Whether what came since the last release says that the current one errs more than it promised.
    async fn has_drifted(&self) -> Result<bool, PipelineError> {
        if self.table.len() < self.rows_tried + ROWS_MIN {
            return Ok(false);
        }
        let rows = self.table.measurements().to_vec();
        let (releases, rows_tried) = (self.releases.clone(), self.rows_tried);
        let looking = tokio::task::spawn_blocking(move || {
            let Some(current) = usable(&releases) else { return Ok(false) };
            let since = Split::since(&rows, &current.manifest, rows_tried);
            Ok(since.evidence(&current.predictors)?.has_drifted())
        });
        let found: Result<bool, PredictorError> =
            looking.await.map_err(|source| PipelineError::Panicked { stage: "updater", source })?;
        let has_drifted = found.map_err(PipelineError::predictors("updater"))?;
        if has_drifted {
            info!("predictions have drifted; updating at once");
        }
        Ok(has_drifted)
    }

    /// Makes a release of the table, and says so to everyone.
    async fn train(&mut self) -> Result<(), PipelineError> {
        let rows = self.table.measurements().to_vec();
        self.rows_tried = rows.len();
        let (settings, releases) = (self.settings.clone(), self.releases.clone());
        let training = tokio::task::spawn_blocking(move || make(&rows, &settings, &releases));
        let manifest = match training.await.map_err(|source| PipelineError::Panicked { stage: "updater", source })? {
            Ok(manifest) => manifest,
            Err(error) => {
                warn!(error = %chain(&error), "no release was made; the last one stays");
                return Ok(());
            }
        };
        if let Some(Update { strategy, reason, is_promoted, .. }) = &manifest.update {
            let release_id = &manifest.release_id;
            info!(%release_id, training_rows = manifest.training_rows, %strategy, is_promoted, %reason, "release made");
        }
        // Of a candidate too: whoever waits for what comes of some measurements need not wait longer.
        let message = encode(&manifest.to_published())?;
        let outgoing = Outgoing::new(names::RELEASES, String::new(), manifest.release_id.to_string(), message);
        if let Err(error) = self.publisher.publish(outgoing).await {
            warn!(%error, "the release is on disk, but its news was not published");
        }
        Ok(())
    }
}
