//! The daemons under `augur up`: child processes of the same program, watched, restarted, stopped in order.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use broker::AmqpUrl;
use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{Id, WaitPidFlag, waitid},
    },
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStderr, Command},
    sync::oneshot,
};
use tracing::{info, warn};

use crate::{context::Context, shutdown};

/// How long a daemon may take to say that it is ready; a worker measures its machine first, a browser pool tries every
/// browser.
const READY_MAX: Duration = Duration::from_mins(3);
/// How long a daemon may take to stop, above a worker's grace period, before it is killed.
const STOP_MAX: Duration = Duration::from_secs(30);
/// How often one daemon is started again after it died.
const RESTARTS_MAX: u32 = 5;

/// A stage that runs as a process of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Daemon {
    Aggregator,
    Updater,
    Worker(u32),
    /// The browser pool, with so many jobs at once.
    Browsers(u16),
}

impl Daemon {
    fn name(self) -> String {
        match self {
            Self::Aggregator => "aggregator".to_owned(),
            Self::Updater => "updater".to_owned(),
            Self::Worker(number) => format!("worker-{number}"),
            Self::Browsers(_) => "browsers".to_owned(),
        }
    }

    fn arguments(self) -> Vec<String> {
        let (noun, flags) = match self {
            Self::Aggregator => ("aggregator", Vec::new()),
            Self::Updater => ("updater", Vec::new()),
            Self::Worker(_) => ("worker", Vec::new()),
            Self::Browsers(concurrency) => ("browsers", vec!["--concurrency".to_owned(), concurrency.to_string()]),
        };
        [noun.to_owned(), "start".to_owned()].into_iter().chain(flags).collect()
    }

    /// Whether it takes jobs, so that its last results are still to be stored when it stops.
    const fn takes_jobs(self) -> bool {
        matches!(self, Self::Worker(_) | Self::Browsers(_))
    }
}

struct Running {
    daemon: Daemon,
    child: Child,
    restarts: u32,
}

/// The daemons of one `augur up`.
pub(super) struct Fleet {
    executable: PathBuf,
    environment: Vec<(String, String)>,
    logs: PathBuf,
    grace: Duration,
    running: Vec<Running>,
}

impl Fleet {
    pub(super) fn new(context: &Context, state: &Path, url: &AmqpUrl) -> anyhow::Result<Self> {
        let logs = state.join("logs");
        std::fs::create_dir_all(&logs).with_context(|| format!("failed to create {}", logs.display()))?;
        let mut environment = vec![("AUGUR_AMQP_URL".to_owned(), url.reveal())];
        if let Some(file) = &context.loaded.file {
            environment.push(("AUGUR_SETTINGS".to_owned(), file.display().to_string()));
        }
        Ok(Self {
            executable: std::env::current_exe().context("failed to find this program's own file")?,
            environment,
            logs,
            grace: Duration::from_secs(context.loaded.settings.worker.grace_s),
            running: Vec::new(),
        })
    }

    pub(super) fn log_directory(&self) -> &Path {
        &self.logs
    }

    /// Starts a daemon and waits until it is ready.
    pub(super) async fn start(&mut self, daemon: Daemon) -> anyhow::Result<()> {
        let child = self.spawn(daemon).await?;
        self.running.push(Running { daemon, child, restarts: 0 });
        Ok(())
    }

    async fn spawn(&self, daemon: Daemon) -> anyhow::Result<Child> {
        let name = daemon.name();
        let log = self.logs.join(format!("{name}.log"));
        let mut child = Command::new(&self.executable)
            .args(daemon.arguments())
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C in the terminal is ours to pass on, in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("failed to start the {name}"))?;
        if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
            shutdown::before_sudden_exit(move || pass_on(Pid::from_raw(pid)));
        }
        let stderr = child.stderr.take().expect("stderr is piped");
        let (ready, is_ready) = oneshot::channel();
        tokio::spawn(keep_log(stderr, log.clone(), ready));
        match tokio::time::timeout(READY_MAX, is_ready).await {
            Ok(Ok(())) => Ok(child),
            Ok(Err(_)) => {
                Err(anyhow!("the {name} ended before it was ready; {} says why", log.display()).context(tail(&log)))
            }
            Err(_) => Err(anyhow!("the {name} was not ready after {} s; see {}", READY_MAX.as_secs(), log.display())),
        }
    }

    /// Starts daemons again that died; returns only when one dies too often.
    pub(super) async fn watch(&mut self) -> anyhow::Error {
        loop {
            let (index, status) = {
                let waits = self.running.iter_mut().map(|running| Box::pin(running.child.wait()));
                let (status, index, _) = futures_util::future::select_all(waits).await;
                (index, status)
            };
            let (daemon, restarts) = (self.running[index].daemon, self.running[index].restarts + 1);
            let name = daemon.name();
            let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
            if restarts > RESTARTS_MAX {
                return anyhow!(
                    "the {name} died {restarts} times, the last time with {status}; see {}",
                    self.logs.display()
                );
            }
            warn!(daemon = name, status, restarts, "daemon died; starting it again");
            match self.spawn(daemon).await {
                Ok(child) => self.running[index] = Running { daemon, child, restarts },
                Err(error) => return error,
            }
        }
    }

    /// Stops workers first, so that their last results are still stored, then the rest.
    pub(super) async fn stop(&mut self) {
        let (workers, others): (Vec<_>, Vec<_>) =
            self.running.drain(..).partition(|running| running.daemon.takes_jobs());
        for group in [workers, others] {
            let stopping = group.into_iter().map(|running| stop_one(running, self.grace + STOP_MAX));
            futures_util::future::join_all(stopping).await;
        }
    }
}

/// Asks a daemon to end, because nobody else tells it of a sudden exit. If it has been asked before, it ends at once.
fn pass_on(daemon: Pid) {
    // Once it was collected, its number may be another's, which is no child of ours.
    let is_ours = waitid(Id::Pid(daemon), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT).is_ok();
    if is_ours && let Err(error) = kill(daemon, Signal::SIGTERM) {
        warn!(%daemon, %error, "SIGTERM did not arrive");
    }
}

async fn stop_one(mut running: Running, limit: Duration) {
    let name = running.daemon.name();
    if let Some(pid) = running.child.id().and_then(|pid| i32::try_from(pid).ok())
        && let Err(error) = kill(Pid::from_raw(pid), Signal::SIGTERM)
    {
        warn!(daemon = name, %error, "SIGTERM did not arrive");
    }
    match tokio::time::timeout(limit, running.child.wait()).await {
        Ok(Ok(status)) if status.success() => info!(daemon = name, "stopped"),
        Ok(Ok(status)) => warn!(daemon = name, %status, "stopped"),
        Ok(Err(error)) => warn!(daemon = name, %error, "could not be waited for"),
        Err(_) => {
            warn!(daemon = name, limit_s = limit.as_secs(), "did not stop in time; killing it");
            if let Err(error) = running.child.kill().await {
                warn!(daemon = name, %error, "could not be killed");
            }
        }
    }
}

/// Copies a daemon's log into its file; says when the daemon says that it is ready.
async fn keep_log(stderr: ChildStderr, path: PathBuf, ready: oneshot::Sender<()>) {
    let mut lines = BufReader::new(stderr).lines();
    let mut file = match tokio::fs::File::options().create(true).append(true).open(&path).await {
        Ok(file) => Some(file),
        Err(error) => {
            warn!(path = %path.display(), %error, "log file cannot be written");
            None
        }
    };
    let mut ready = Some(ready);
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(log) = &mut file
            && let Err(error) = log.write_all(format!("{line}\n").as_bytes()).await
        {
            warn!(path = %path.display(), %error, "log file cannot be written");
            file = None;
        }
        if [" aggregator ready", " updater ready", " worker ready"].iter().any(|text| line.contains(text))
            && let Some(ready) = ready.take()
        {
            // Nobody waits any more if starting took too long; that was reported then.
            ready.send(()).unwrap_or_default();
        }
    }
    // Written behind our back otherwise: who waits for the end reads the log for the reason.
    if let Some(log) = &mut file
        && let Err(error) = log.flush().await
    {
        warn!(path = %path.display(), %error, "log file cannot be written");
    }
}

/// The last lines of a log, for an error.
fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(6)..].join("\n")
}
