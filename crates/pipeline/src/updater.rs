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
use features::{OwnTables, TrainingTable};
use hardware::DeviceLease;
use messages::{AcceptedMeasurement, Metric, Platform, Timestamp, encode};
use predictors::{Manifest, PredictorError, Predictors, ROWS_NEEDED, Releases, Source, TrainSettings};
use tokio_util::sync::CancellationToken;
use topology::names;
use tracing::{debug, info, warn};

use crate::{PipelineError, election::while_active, worker::chain};

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
    let measurements =
        Subscription::start(url, "augur updater read", names::MEASUREMENTS, start, PREFETCH, settings.patience, &stop)
            .await
            .map_err(failed())?;
    let rows_trained = rows_trained(&releases).map_err(PipelineError::predictors("updater"))?;
    info!(rows = table.len(), rows_trained, "updater ready");
    let mut updater = Updater { measurements, publisher, releases, table, rows_trained, settings, stop };
    updater.run().await?;
    info!("updater stopped");
    Ok(())
}

/// How many of our jobs' measurements the current release was trained on.
fn rows_trained(releases: &Releases) -> Result<usize, PredictorError> {
    let Some(release_id) = releases.current_id()? else { return Ok(0) };
    Ok(match releases.manifest(&release_id) {
        Ok(manifest) if manifest.source == Source::Jobs => manifest.training_rows as usize,
        // A release that someone trained from tables has none of them.
        Ok(_) => 0,
        Err(error) => {
            warn!(%release_id, error = %chain(&error), "the current release is of no use; the next one replaces it");
            0
        }
    })
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
            if self.due().is_now {
                self.train().await?;
            }
        }
    }

    fn due(&self) -> TrainingDue {
        TrainingDue::of(self.table.len(), self.rows_trained, self.settings.rows_new_min, self.settings.quiet)
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
        let last = batch.into_iter().next_back().expect("a batch is never empty");
        let next_offset = last.stream_offset().expect("stream messages have offsets") + 1;
        let added = self.table.append(&decoded);
        let position = Position { next_offset, last_message: last.stream_fingerprint() };
        save_training(&self.settings.releases_directory, &self.table, &position)?;
        debug!(added, rows = self.table.len(), next_offset, "measurements taken in");
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
        let message = encode(&manifest.to_published())?;
        let outgoing = Outgoing::new(names::RELEASES, String::new(), manifest.release_id.to_string(), message);
        if let Err(error) = self.publisher.publish(outgoing).await {
            warn!(%error, "the release is on disk, but its news was not published");
        }
        Ok(())
    }
}

/// When to train next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TrainingDue {
    /// At once: enough has come.
    is_now: bool,
    /// Once no measurement has come for this long; `None` if there is nothing to train on.
    quiet: Option<Duration>,
}

impl TrainingDue {
    fn of(rows: usize, rows_trained: usize, rows_new_min: usize, quiet: Duration) -> Self {
        // A table below the minimum is nothing to train on yet.
        let rows_new = if rows < ROWS_NEEDED { 0 } else { rows - rows_trained.min(rows) };
        if rows_new == 0 {
            return Self { is_now: false, quiet: None };
        }
        let quiets = if rows_new >= rows_new_min { 1 } else { FEW_ROWS_QUIETS };
        Self { is_now: rows_new >= rows_new_min.max(rows_trained / 2), quiet: Some(quiet * quiets) }
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
    let predictors = learn(rows, &settings.train).map_err(PipelineError::predictors("updater"))?;
    drop(lease);
    let published = releases.publish(&predictors, Source::Jobs, Timestamp::now(), &settings.version);
    published.map_err(PipelineError::predictors("updater"))
}

/// Trains all metrics that enough configurations have, latency among them.
fn learn(rows: &[AcceptedMeasurement], settings: &TrainSettings) -> Result<Predictors, PredictorError> {
    let OwnTables { rows, devices, operators } = OwnTables::of(rows, model_family);
    let mut metrics = Predictors::trainable(&rows);
    if !metrics.contains(&Metric::LatencyMs) {
        // Too few is said where it is counted.
        metrics = vec![Metric::LatencyMs];
    }
    Predictors::train(rows, &devices, &operators, &metrics, settings, |step| debug!("{step}"))
}

/// The family of a model of the zoo.
pub fn model_family(model: &str) -> Option<String> {
    graphs::zoo_entry(model).map(|entry| entry.family.to_owned())
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

/// Where to go on reading the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Position {
    next_offset: u64,
    /// What tells the message before that offset from others.
    last_message: Option<String>,
}

impl Position {
    /// Reads the offset on the first line and, if there is a second, the message on that.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let next_offset = lines.next()?.trim().parse().ok()?;
        Some(Self { next_offset, last_message: lines.next().map(str::to_owned) })
    }

    fn to_text(&self) -> String {
        let last_message = self.last_message.as_ref().map(|message| format!("{message}\n"));
        format!("{}\n{}", self.next_offset, last_message.unwrap_or_default())
    }
}

fn load_training(releases_directory: &Path) -> Result<(TrainingTable, Option<Position>), PipelineError> {
    let path = releases_directory.join(TRAINING_DIRECTORY).join(POSITION_FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((TrainingTable::empty(), None)),
        Err(source) => return Err(PipelineError::File { action: "read", path, source }),
    };
    let position = Position::parse(&text).ok_or_else(|| PipelineError::File {
        action: "understand",
        path,
        source: std::io::Error::other(format!("`{}` does not begin with a stream offset", text.trim())),
    })?;
    let table = TrainingTable::read(&table_path(releases_directory, position.next_offset))
        .map_err(PipelineError::features("updater"))?;
    Ok((table, Some(position)))
}

fn save_training(releases_directory: &Path, table: &TrainingTable, position: &Position) -> Result<(), PipelineError> {
    let directory = releases_directory.join(TRAINING_DIRECTORY);
    std::fs::create_dir_all(&directory).map_err(file_error("create", &directory))?;
    let path = table_path(releases_directory, position.next_offset);
    table.write(&path).map_err(PipelineError::features("updater"))?;
    let position_path = directory.join(POSITION_FILE);
    let failed = || file_error("write", &position_path);
    let mut new = tempfile::NamedTempFile::new_in(&directory).map_err(failed())?;
    std::io::Write::write_all(&mut new, position.to_text().as_bytes()).map_err(failed())?;
    new.as_file().sync_all().map_err(failed())?;
    new.persist(&position_path).map_err(|error| failed()(error.error))?;
    for entry in std::fs::read_dir(&directory).map_err(file_error("list", &directory))? {
        let old = entry.map_err(file_error("list", &directory))?.path();
        if old.extension().is_some_and(|extension| extension == "parquet") && old != path {
            std::fs::remove_file(&old).map_err(file_error("remove", &old))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_was_written_also_without_its_message() {
        for last_message in [None, Some("6:0190b5a0".to_owned())] {
            let position = Position { next_offset: 7, last_message };
            assert_eq!(Position::parse(&position.to_text()), Some(position));
        }
        assert_eq!(Position::parse("7\n"), Some(Position { next_offset: 7, last_message: None }));
        assert_eq!([Position::parse(""), Position::parse("soon\n")], [None, None]);
    }

    const QUIET: Duration = Duration::from_secs(10);

    fn check(rows: usize, rows_trained: usize, is_now: bool, quiet: Option<Duration>) {
        let due = TrainingDue::of(rows, rows_trained, 20, QUIET);
        assert_eq!(due, TrainingDue { is_now, quiet }, "{rows} rows, {rows_trained} trained on");
    }

    #[test]
    fn nothing_new_is_no_reason_to_train() {
        check(0, 0, false, None);
        check(ROWS_NEEDED - 1, 0, false, None);
        check(500, 500, false, None);
        // Another release was promoted, which had seen more.
        check(500, 600, false, None);
    }

    #[test]
    fn enough_new_measurements_are_trained_after_one_quiet_or_at_once() {
        check(520, 500, false, Some(QUIET));
        check(749, 500, false, Some(QUIET));
        check(750, 500, true, Some(QUIET));
    }

    /// The last few measurements of a run were never trained on when only enough of them were worth a release.
    #[test]
    fn a_few_new_measurements_are_trained_after_a_longer_quiet() {
        check(501, 500, false, Some(QUIET * FEW_ROWS_QUIETS));
        check(519, 500, false, Some(QUIET * FEW_ROWS_QUIETS));
    }
}
