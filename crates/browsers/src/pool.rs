//! The pool as others see it.

use std::{
    env,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use messages::{ContentHash, Progress};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use crate::{
    BrowserError, Capability, Detected, PoolSettings, PoolStatus, WebError, WebRequest, WebRun,
    capability::write_probe,
    care,
    driver::end_tree,
    inner::Inner,
    installed::Installed,
    job,
    processes::{Mark, Tree},
    server::Server,
    session::Launch,
    state_file,
    status::Address,
    tab::Step,
};

/// A file of ONNX Runtime Web that must be there.
const RUNTIME_FILE: &str = "ort.wasm.min.mjs";

/// Longest that an exit waits for browsers that are being started, to end them as well.
const KILL_MAX: Duration = Duration::from_secs(2);

/// Time between two looks at whether one is.
const KILL_POLL: Duration = Duration::from_millis(10);

/// Memory of the machine that all browsers may take if the settings do not say, as one part of so many.
const MEMORY_DIVISOR: f64 = 2.0;

/// Browsers, started as jobs need them; clones are the same pool.
///
/// Whatever ends it ends its browsers: [`Pool::stop`], dropping the last clone, or, after a SIGKILL of this process, the
/// next start with the same state directory.
#[derive(Debug, Clone)]
pub struct Pool {
    inner: Arc<Inner>,
    _held: Arc<Held>,
}

/// What goes with the last clone.
#[derive(Debug)]
struct Held {
    /// Keeps the lock on the state directory.
    _lock: File,
    address: PathBuf,
    folders: PathBuf,
}

impl Drop for Held {
    fn drop(&mut self) {
        for removed in [fs::remove_file(&self.address), fs::remove_dir_all(&self.folders)] {
            if let Err(error) = removed {
                tracing::debug!(%error, "a file of the browser pool is not removed");
            }
        }
    }
}

impl Pool {
    /// Ends what an earlier pool of this state directory left behind, starts the server, looks for the browsers and
    /// probes each of them.
    ///
    /// # Errors
    ///
    /// [`BrowserError::StateInUse`], [`BrowserError::File`], [`BrowserError::RuntimeMissing`] and
    /// [`BrowserError::Serve`]. A browser that does not start is no error: [`Pool::capabilities`] says why.
    pub async fn start(settings: PoolSettings) -> Result<Self, BrowserError> {
        let directory = settings.state_directory.clone();
        fs::create_dir_all(&directory).map_err(|source| file_error("create", &directory, source))?;
        let lock = lock(&directory.join("pool.lock"))?;
        let pool_id = pool_id(&directory)?;
        let folders = env::temp_dir().join(format!("augur-browsers-{}", short(&pool_id)));
        let reaped = reap(&pool_id, &folders).await?;
        let directory_of_runtime = runtime_directory(&settings)?;
        let runtime = runtime_name(&directory_of_runtime)?;
        let server = Server::start(directory_of_runtime).await?;
        let probe_path = write_probe(&directory)?;
        let budget_mb = settings.memory_mb_max.map_or_else(|| memory_mb() / MEMORY_DIVISOR, |mb| mb as f64);
        let launch = Launch::new(&settings, pool_id, folders.clone());
        let inner = Arc::new(Inner::new(settings, launch, server, probe_path, runtime, budget_mb));
        inner.state().counters.reaped = reaped as u64;
        let address = directory.join(Address::FILE);
        let held = Held { _lock: lock, address: address.clone(), folders };
        tell_address(&inner, &address)?;
        let pool = Self { inner, _held: Arc::new(held) };
        pool.find_browsers().await;
        tokio::spawn(care::look_after(Arc::downgrade(&pool.inner)));
        Ok(pool)
    }

    /// Runs a job to its end.
    ///
    /// Cancelling, the job's timeout, or dropping the future ends it and frees its slot at once; its tab is closed
    /// within [`PoolSettings::close_ms_max`], or its browser is killed. The timeout begins anew whenever a browser broke
    /// under the job, which happens a limited number of times. `progress` is told 0 when the first timed iteration
    /// begins, in each browser.
    ///
    /// # Errors
    ///
    /// [`WebError`] says what happened, what kind of failure that is, and whether it is the job's.
    pub async fn run(
        &self,
        request: WebRequest,
        cancel: &CancellationToken,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<WebRun, WebError> {
        request.check()?;
        let step = Step::new("waiting");
        let ended = tokio::select! {
            biased;
            () = cancel.cancelled() => Err(WebError::Cancelled { phase: step.get() }),
            ended = job::run(&self.inner, &request, &step, progress) => ended,
        };
        let mut state = self.inner.state();
        match &ended {
            Ok(_) => state.counters.jobs_done += 1,
            Err(_) => state.counters.jobs_failed += 1,
        }
        drop(state);
        ended
    }

    /// What the pool does and knows.
    pub fn status(&self) -> PoolStatus {
        PoolStatus::of(&self.inner)
    }

    /// Memory of all browsers now (PSS of their process trees), in MB; `None` if none runs.
    pub async fn memory_mb(&self) -> Option<f64> {
        let tree = Tree::new(Mark::of_pool(&self.inner.launch.pool));
        tokio::task::spawn_blocking(move || tree.pss_mb()).await.ok().flatten()
    }

    /// Each browser's platforms, as probed.
    pub fn capabilities(&self) -> Vec<Capability> {
        self.inner.state().capabilities.values().cloned().collect()
    }

    /// Ends every browser; jobs that run or wait end with [`WebError::Stopping`] or for want of their browser.
    pub async fn stop(&self) {
        let (sessions, drivers, endings) = {
            let mut state = self.inner.state();
            state.is_stopping = true;
            let ids: Vec<u64> = state.sessions.keys().copied().collect();
            let sessions: Vec<_> = ids.into_iter().filter_map(|id| state.take_session(id)).collect();
            (sessions, std::mem::take(&mut state.spare_drivers), state.endings.clone())
        };
        self.inner.changed.notify_waiters();
        for taken in sessions {
            taken.session.kill_as_ours().await;
        }
        for driver in drivers.into_values() {
            driver.end().await;
        }
        // Browsers that are being started: those starts fail, no other begins, and then nobody is left.
        let everything = Tree::new(Mark::of_pool(&self.inner.launch.pool));
        end_tree(&everything).await;
        drop(self.inner.starts.write().await);
        // Those that someone else is ending.
        endings.closed().await;
        end_tree(&everything).await;
        care::save(&self.inner).await;
    }

    /// What ends every process of the pool at once, on the thread that calls it, for whoever exits without
    /// [`Pool::stop`]. It does not keep the pool.
    pub fn killer(&self) -> impl Fn() + Send + use<> {
        let (pool, tree) = (Arc::downgrade(&self.inner), Tree::new(Mark::of_pool(&self.inner.launch.pool)));
        move || {
            let pool = pool.upgrade();
            if let Some(inner) = &pool {
                inner.state().is_stopping = true;
            }
            let began = Instant::now();
            // A browser that was being started may come after the others; no other start begins.
            let is_starting = || pool.as_ref().is_some_and(|inner| inner.starts.try_write().is_err());
            loop {
                tree.end();
                if !is_starting() || began.elapsed() >= KILL_MAX {
                    break;
                }
                thread::sleep(KILL_POLL);
            }
        }
    }

    /// What was found of each browser of the settings.
    pub(crate) fn detected(&self) -> Vec<Detected> {
        let state = self.inner.state();
        let of = |settings: &crate::BrowserSettings| {
            let installed = state.installed(&settings.name);
            Detected {
                browser: settings.name.clone(),
                family: settings.family,
                binary: installed.map(|found| found.binary.clone()),
                version: installed.map(|found| found.version.clone()),
                driver_version: installed.map(|found| found.driver_version.clone()),
                reason: state.missing.get(&settings.name).cloned(),
                capabilities: state
                    .capabilities
                    .values()
                    .filter(|capability| capability.browser == settings.name)
                    .cloned()
                    .collect(),
            }
        };
        self.inner.settings.browsers.iter().map(of).collect()
    }

    async fn find_browsers(&self) {
        let settings = &self.inner.settings;
        let mut proofs = tokio::task::JoinSet::new();
        for browser in &settings.browsers {
            match Installed::find(browser, settings.tools_directory.as_deref()).await {
                Ok(mut installed) => {
                    installed.settings.tabs_max =
                        installed.settings.tabs_max.clamp(1, crate::BrowserSettings::TABS_LIMIT);
                    self.inner.state().browsers.push(installed);
                    proofs.spawn(care::prove_browser(Arc::clone(&self.inner), browser.name.clone()));
                }
                Err(error) => {
                    self.inner.state().missing.insert(browser.name.clone(), error.to_string());
                }
            }
        }
        while let Some(proved) = proofs.join_next().await {
            if let Err(error) = proved {
                tracing::error!(%error, "probing a browser broke");
            }
        }
    }
}

/// Every browser and backend of the settings, probed in a pool that lasts as long as that takes. It can run beside
/// another pool: it has a state directory of its own, within that of the settings, so that what a killed one leaves is
/// ended by the next. Dropping the future ends its browsers.
///
/// # Errors
///
/// As [`Pool::start`].
pub async fn detect(settings: &PoolSettings) -> Result<Vec<Detected>, BrowserError> {
    let settings = PoolSettings { state_directory: settings.state_directory.join("detect"), ..settings.clone() };
    let pool = Pool::start(settings).await?;
    let detected = pool.detected();
    pool.stop().await;
    Ok(detected)
}

fn file_error(action: &'static str, path: &Path, source: std::io::Error) -> BrowserError {
    BrowserError::File { action, path: path.to_owned(), source }
}

/// Locks the state directory; the kernel frees it when this process ends.
fn lock(path: &Path) -> Result<File, BrowserError> {
    let mut options = File::options();
    // Never truncated: it has no content, and another process may hold it.
    options.read(true).write(true).create(true).truncate(false);
    let file = options.open(path).map_err(|source| file_error("open the lock file", path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(BrowserError::StateInUse { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(file_error("lock", path, source)),
    }
}

/// The pool's name in marks: the same for each pool of a state directory, one after the other.
fn pool_id(directory: &Path) -> Result<String, BrowserError> {
    let path = directory.join("pool.id");
    let known = fs::read_to_string(&path).ok().and_then(|text| uuid::Uuid::parse_str(text.trim()).ok());
    if let Some(id) = known {
        return Ok(id.simple().to_string());
    }
    let id = uuid::Uuid::now_v7().simple().to_string();
    fs::write(&path, &id).map_err(|source| file_error("write", &path, source))?;
    Ok(id)
}

/// What tells a pool's folders from others' in little room: the random end of its name.
fn short(pool_id: &str) -> &str {
    &pool_id[20..]
}

/// Ends processes and removes folders that an earlier pool left; says how many processes there were.
async fn reap(pool_id: &str, folders: &Path) -> Result<usize, BrowserError> {
    let tree = Tree::new(Mark::of_pool(pool_id));
    let reaped = tokio::task::spawn_blocking(move || tree.end()).await.unwrap_or(0);
    if reaped > 0 {
        tracing::warn!(processes = reaped, "ended what an earlier browser pool had left behind");
    }
    if folders.exists() {
        fs::remove_dir_all(folders).map_err(|source| file_error("remove", folders, source))?;
    }
    fs::create_dir_all(folders).map_err(|source| file_error("create", folders, source))?;
    Ok(reaped)
}

fn runtime_directory(settings: &PoolSettings) -> Result<PathBuf, BrowserError> {
    let directory = settings.ort_web_directory.clone().ok_or_else(|| BrowserError::RuntimeMissing {
        reason: "the settings name no folder of it (ort_web_directory)".to_owned(),
    })?;
    if directory.join(RUNTIME_FILE).is_file() {
        return Ok(directory);
    }
    Err(BrowserError::RuntimeMissing { reason: format!("`{}` has no {RUNTIME_FILE}", directory.display()) })
}

/// Names a build of ONNX Runtime Web, so that what was learned of another one does not count.
fn runtime_name(directory: &Path) -> Result<String, BrowserError> {
    let path = directory.join(RUNTIME_FILE);
    let bytes = fs::read(&path).map_err(|source| file_error("read", &path, source))?;
    Ok(ContentHash(Sha256::digest(bytes).into()).to_string())
}

/// Memory of this machine, in MB.
fn memory_mb() -> f64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
    kibibytes.unwrap_or_default() * 1024.0 / 1e6
}

/// Writes where `/status` is, for `augur browsers status`.
fn tell_address(inner: &Arc<Inner>, path: &Path) -> Result<(), BrowserError> {
    let pool = Arc::downgrade(inner);
    inner.server.tell_status(move || {
        let status = pool.upgrade().map(|inner| PoolStatus::of(&inner));
        serde_json::to_string(&status).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    });
    state_file::write(path, &Address { pid: std::process::id(), status_url: inner.server.status_url() })
}
