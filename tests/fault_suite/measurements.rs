//! Real benchmarks, and what becomes of what they measured: each measurement that counts reaches its stream, and from
//! there the updater's table.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use broker::{Patience, Start, Subscription, stream_end};
use graphs::ModelCache;
use messages::{AcceptedMeasurement, Job, Precision};
use testkit::AugurProcess;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use topology::names;

use crate::{
    daemons::wait_until,
    jobs::Work,
    limits::{CONFIRM_MAX, EVIDENCE_PREFETCH, FIRST_DELIVERY_MAX, READY_MAX, STALL_MAX},
    load::Load,
    verdict::Expected,
    world::{World, binary, terminate},
};

/// The zoo's smallest model.
pub(crate) const MODEL: &str = "mobilenet-v2";
/// How many benchmarks a row runs.
pub(crate) const BENCHMARKS: usize = IMAGE_SIZES.len();
/// Sizes of their images, in pixels.
const IMAGE_SIZES: [u32; 4] = [32, 48, 64, 80];

/// The updater, and the benchmarks whose measurements it must have in the end.
#[derive(Debug)]
pub(crate) struct Measuring {
    updater: AugurProcess,
    starts: usize,
    job_ids: BTreeSet<String>,
}

impl Measuring {
    /// Publishes the benchmarks and starts the updater.
    ///
    /// # Errors
    ///
    /// If the model cannot be built, a job is refused, or the updater does not start.
    pub(crate) fn start(world: &World, load: &mut Load) -> Result<Self> {
        let model = ModelCache::open(&world.cache()?.join("models"))?.obtain(MODEL, Precision::Fp32)?.model;
        let works = IMAGE_SIZES.map(|image_size| Work::Measure { model: model.clone(), image_size });
        let jobs: Vec<Job> = works.iter().flat_map(|work| load.jobs(1, work)).collect();
        load.publish(&jobs, Expected::Passed)?;
        let job_ids = jobs.iter().map(|job| job.job_id.to_string()).collect();
        Ok(Self { updater: start_updater(world, 0)?, starts: 1, job_ids })
    }

    /// `kill -9` the updater, and starts another.
    ///
    /// # Errors
    ///
    /// If that one does not become ready.
    pub(crate) fn kill_updater(&mut self, world: &World) -> Result<()> {
        self.updater.kill()?;
        self.updater = start_updater(world, self.starts)?;
        self.starts += 1;
        Ok(())
    }

    /// Waits until the stream has every measurement and the updater has read it; gives what is wrong then. The results
    /// must be counted, and the aggregator must live.
    ///
    /// # Errors
    ///
    /// If the broker or the updater does not do its part in time.
    pub(crate) fn finish(mut self, world: &World) -> Result<Vec<String>> {
        let mut streamed = BTreeSet::new();
        wait_until("every measurement is on its stream", STALL_MAX, || {
            streamed = world.runtime.block_on(on_stream(world))?;
            Ok(self.job_ids.is_subset(&streamed))
        })?;
        let releases = world.directory.join("state/releases");
        wait_until("the updater has read the stream", STALL_MAX, || {
            let end = world.runtime.block_on(stream_end(&world.url, names::MEASUREMENTS))?.context("it is empty")?;
            let read = std::fs::read_to_string(releases.join("training/position")).unwrap_or_default();
            Ok(read.lines().next() == Some(&(end.offset + 1).to_string()))
        })?;
        terminate(&mut self.updater).context("the updater")?;
        let table = pipeline::training_table(&releases)?;
        let learned = table.measurements().iter().map(|row| row.job_id.to_string()).collect();
        let differing = |place: &str, found: &BTreeSet<String>| -> Vec<String> {
            let differing = found.symmetric_difference(&self.job_ids);
            differing.map(|id| format!("{id}: measured or {place}, not both")).collect()
        };
        Ok([differing("on the stream", &streamed), differing("in the updater's table", &learned)].concat())
    }
}

/// Starts an updater; `number` tells its log files from others'.
///
/// # Errors
///
/// If it does not become ready.
pub(crate) fn start_updater(world: &World, number: usize) -> Result<AugurProcess> {
    let mut updater = world.spawn(&format!("updater-{number}"), binary(), &["updater", "start"], &[])?;
    updater.wait_for_line("updater ready", READY_MAX).context("the updater did not start")?;
    Ok(updater)
}

/// The jobs whose measurements are on the stream, each once or more: it has them at least once.
async fn on_stream(world: &World) -> Result<BTreeSet<String>> {
    let Some(end) = stream_end(&world.url, names::MEASUREMENTS).await? else { return Ok(BTreeSet::new()) };
    let (stop, patience) = (CancellationToken::new(), Patience::For(CONFIRM_MAX));
    let (name, queue) = ("fault suite measurements", names::MEASUREMENTS);
    let start = Start::StreamFirst;
    let mut stream = Subscription::start(&world.url, name, queue, start, EVIDENCE_PREFETCH, patience, &stop).await?;
    let mut job_ids = BTreeSet::new();
    loop {
        let next = timeout(FIRST_DELIVERY_MAX, stream.next()).await;
        let delivery = next.context("the stream falls silent before its end")?.context("the stream ended")?;
        job_ids.insert(delivery.decode::<AcceptedMeasurement>()?.job_id.to_string());
        if delivery.stream_offset().is_some_and(|offset| offset >= end.offset) {
            return Ok(job_ids);
        }
    }
}
