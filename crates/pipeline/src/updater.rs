//! The model-update stage: collects accepted measurements, trains predictors, publishes releases.
//!
//! It lives off the `measurements` stream and its own files: the training table and the stream offset behind it are
//! written together (the table first, under a name that holds the offset, then the pointer to it), so a crash at any
//! point repeats rows, which count once by job id, and skips none.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use broker::{AmqpUrl, Delivery, Outgoing, Patience, Publisher, Settlement, Subscription, resume};
use features::TrainingTable;
use hardware::DeviceLease;
use messages::{AcceptedMeasurement, Platform, Timestamp, encode};
use predictors::{Manifest, Predictors, ROWS_NEEDED, Releases, TrainSettings};
use tokio_util::sync::CancellationToken;
use topology::names;
use tracing::{debug, info, warn};

use crate::{PipelineError, worker::chain};

/// Measurements read ahead.
const PREFETCH: u16 = 1_000;
/// Most measurements taken in before the table is written.
const BATCH_ROWS_MAX: usize = 1_000;
/// Longest wait for a batch to fill, from its first measurement.
const BATCH_WAIT_MAX: Duration = Duration::from_millis(200);
/// How long training may wait for the benchmarks of this machine to let it in.
const LEASE_WAIT_MAX: Duration = Duration::from_mins(10);
/// Fewer new measurements than are worth a release wait this many times longer for more; they are not left out for ever.
const FEW_ROWS_QUIETS: u32 = 5;
/// Folder of the training table beside the releases.
const TRAINING_DIRECTORY: &str = "training";
/// File that names the current training table.
const POSITION_FILE: &str = "position";

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
    /// How to train.
    pub train: TrainSettings,
    /// Augur's version, for the manifest.
    pub version: String,
    /// How long the broker may take to appear.
    pub patience: Patience,
}

/// Updates until `stop`.
///
/// # Errors
///
/// [`PipelineError::Broker`] if no broker answers in time; [`PipelineError::Features`], [`PipelineError::File`] and
/// [`PipelineError::Predictors`] if its own files cannot be read or written. A training that fails is reported and
/// tried again with the next measurements; the last good release stays.
pub async fn update(url: &AmqpUrl, settings: UpdaterSettings, stop: CancellationToken) -> Result<(), PipelineError> {
    let failed = || PipelineError::broker("updater");
    let publisher =
        Publisher::start(url, "augur updater publish", settings.patience, stop.clone()).await.map_err(failed())?;
    let releases = Releases::open(&settings.releases_directory).map_err(PipelineError::predictors("updater"))?;
    let (table, next_offset) = load_training(&settings.releases_directory)?;
    let start = resume(url, names::MEASUREMENTS, next_offset).await.map_err(failed())?;
    let measurements =
        Subscription::start(url, "augur updater read", names::MEASUREMENTS, start, PREFETCH, settings.patience, &stop)
            .await
            .map_err(failed())?;
    let rows_trained = releases
        .current_id()
        .and_then(|current| current.map(|release_id| releases.load(&release_id)).transpose())
        .map_err(PipelineError::predictors("updater"))?
        .map_or(0, |release| release.manifest.training_rows as usize);
    info!(rows = table.len(), rows_trained, "updater ready");
    let mut updater = Updater { measurements, publisher, releases, table, rows_trained, settings, stop };
    updater.run().await?;
    info!("updater stopped");
    Ok(())
}

struct Updater {
    measurements: Subscription,
    publisher: Publisher,
    releases: Releases,
    table: TrainingTable,
    rows_trained: usize,
    settings: UpdaterSettings,
    stop: CancellationToken,
}

impl Updater {
    async fn run(&mut self) -> Result<(), PipelineError> {
        loop {
            let (quiet, is_untrained) = (self.quiet(), self.rows_new() > 0);
            let first = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(()),
                first = self.measurements.next() => first,
                () = tokio::time::sleep(quiet), if is_untrained => {
                    self.train().await?;
                    continue;
                }
            };
            let Some(first) = first else { return Ok(()) };
            let batch = self.fill_batch(first).await;
            self.take_in(batch).await?;
            if self.rows_new() >= self.settings.rows_new_min.max(self.rows_trained / 2) {
                self.train().await?;
            }
        }
    }

    /// How long no measurement must have come before a release is trained.
    fn quiet(&self) -> Duration {
        let patience = if self.rows_new() >= self.settings.rows_new_min { 1 } else { FEW_ROWS_QUIETS };
        self.settings.quiet * patience
    }

    fn rows_new(&self) -> usize {
        // A table below the minimum is nothing to train on yet.
        if self.table.len() < ROWS_NEEDED { 0 } else { self.table.len() - self.rows_trained.min(self.table.len()) }
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
        let next_offset =
            batch.iter().filter_map(Delivery::stream_offset).max().expect("stream messages have offsets") + 1;
        let added = self.table.append(&decoded);
        save_training(&self.settings.releases_directory, &self.table, next_offset)?;
        debug!(added, rows = self.table.len(), next_offset, "measurements taken in");
        let last = batch.into_iter().next_back().expect("a batch is never empty");
        if let Err(error) = last.settle(Settlement::DoneThrough).await {
            warn!(%error, "measurements could not be acked");
        }
        Ok(())
    }

    /// Trains on the whole table and publishes the release.
    async fn train(&mut self) -> Result<(), PipelineError> {
        let rows = self.table.measurements().to_vec();
        self.rows_trained = rows.len();
        let (settings, releases) = (self.settings.clone(), self.releases.clone());
        let training = tokio::task::spawn_blocking(move || train(&rows, &settings, &releases));
        let manifest = match training.await.map_err(|source| PipelineError::Panicked { stage: "updater", source })? {
            Ok(manifest) => manifest,
            Err(error) => {
                warn!(error = %chain(&error), "no release was made; the last one stays");
                return Ok(());
            }
        };
        info!(release_id = %manifest.release_id, training_rows = manifest.training_rows, "release made");
        let outgoing = Outgoing {
            exchange: names::RELEASES.to_owned(),
            routing_key: String::new(),
            message_id: manifest.release_id.to_string(),
            attempt: None,
            message: encode(&manifest.to_published())?,
        };
        if let Err(error) = self.publisher.publish(outgoing).await {
            warn!(%error, "the release is on disk, but its news was not published");
        }
        Ok(())
    }
}

fn train(
    rows: &[AcceptedMeasurement],
    settings: &UpdaterSettings,
    releases: &Releases,
) -> Result<Manifest, PipelineError> {
    let lease = DeviceLease::shared(&settings.lease_directory, Platform::Cpu, LEASE_WAIT_MAX);
    if let Err(error) = &lease {
        warn!(error = %chain(error), "training beside a benchmark");
    }
    let predictors = Predictors::train(rows, &settings.train).map_err(PipelineError::predictors("updater"))?;
    drop(lease);
    releases.publish(&predictors, Timestamp::now(), &settings.version).map_err(PipelineError::predictors("updater"))
}

/// The measurements that the updater has collected so far.
///
/// # Errors
///
/// [`PipelineError::Features`] or [`PipelineError::File`] if its files cannot be read.
pub fn training_table(releases_directory: &Path) -> Result<TrainingTable, PipelineError> {
    load_training(releases_directory).map(|(table, _)| table)
}

fn file_error(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> PipelineError {
    let path = path.to_owned();
    move |source| PipelineError::File { action, path, source }
}

fn table_path(releases_directory: &Path, next_offset: u64) -> PathBuf {
    releases_directory.join(TRAINING_DIRECTORY).join(format!("{next_offset}.parquet"))
}

fn load_training(releases_directory: &Path) -> Result<(TrainingTable, Option<u64>), PipelineError> {
    let position = releases_directory.join(TRAINING_DIRECTORY).join(POSITION_FILE);
    let text = match std::fs::read_to_string(&position) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((TrainingTable::empty(), None)),
        Err(source) => return Err(PipelineError::File { action: "read", path: position, source }),
    };
    let next_offset = text.trim().parse().map_err(|_| PipelineError::File {
        action: "understand",
        path: position,
        source: std::io::Error::other(format!("`{}` is no stream offset", text.trim())),
    })?;
    let table = TrainingTable::read(&table_path(releases_directory, next_offset))
        .map_err(PipelineError::features("updater"))?;
    Ok((table, Some(next_offset)))
}

fn save_training(releases_directory: &Path, table: &TrainingTable, next_offset: u64) -> Result<(), PipelineError> {
    let directory = releases_directory.join(TRAINING_DIRECTORY);
    std::fs::create_dir_all(&directory).map_err(file_error("create", &directory))?;
    let path = table_path(releases_directory, next_offset);
    table.write(&path).map_err(PipelineError::features("updater"))?;
    let position = directory.join(POSITION_FILE);
    let mut new = tempfile::NamedTempFile::new_in(&directory).map_err(file_error("write", &position))?;
    std::io::Write::write_all(&mut new, format!("{next_offset}\n").as_bytes())
        .map_err(file_error("write", &position))?;
    new.as_file().sync_all().map_err(file_error("write", &position))?;
    new.persist(&position).map_err(|error| file_error("write", &position)(error.error))?;
    for entry in std::fs::read_dir(&directory).map_err(file_error("list", &directory))? {
        let old = entry.map_err(file_error("list", &directory))?.path();
        if old.extension().is_some_and(|extension| extension == "parquet") && old != path {
            std::fs::remove_file(&old).map_err(file_error("remove", &old))?;
        }
    }
    Ok(())
}
