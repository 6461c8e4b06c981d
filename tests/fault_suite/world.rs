//! One Augur of a row's own: broker, directory, settings, commands and daemons of the real binary.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use broker::AmqpUrl;
use nix::sys::signal::Signal;
use testkit::{AugurProcess, Cluster, PrivateNode, PrivateNodeOptions, Vhost, shared_vhost};
use tokio::runtime::Runtime;

use crate::{
    jobs,
    limits::{COMMAND_MAX, STOP_MAX},
    row::Trial,
};

/// Where a row's messages go.
#[derive(Debug)]
pub(crate) enum Broker {
    /// A virtual host on the node that quick rows share.
    Shared(Vhost),
    /// A node of the row's own, which it may stop, kill and frighten.
    Own(PrivateNode),
    /// A cluster of the row's own, of which it may kill one node at a time.
    Cluster(Cluster),
}

impl Broker {
    /// For rows that leave the broker alone: a node of its own at full size, where one row's load must not disturb
    /// another's, and a virtual host of a shared one at quick size, because a node takes seconds to start.
    ///
    /// # Errors
    ///
    /// What the node says.
    pub(crate) fn undisturbed(trial: &Trial) -> Result<Self> {
        if trial.is_full { Self::own(trial, PrivateNodeOptions::default()) } else { Ok(Self::Shared(shared_vhost()?)) }
    }

    /// A node of the row's own, whose log stays with the row's.
    ///
    /// # Errors
    ///
    /// What the node says.
    pub(crate) fn own(trial: &Trial, options: PrivateNodeOptions) -> Result<Self> {
        let directory = Some(trial.directory.join("node"));
        Ok(Self::Own(PrivateNode::start_with(&PrivateNodeOptions { directory, ..options })?))
    }

    /// Where clients find it.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Shared(vhost) => vhost.url(),
            Self::Own(node) => node.url(),
            Self::Cluster(cluster) => cluster.url(),
        }
    }

    /// The port of the row's own node.
    pub(crate) fn port(&self) -> Option<u16> {
        match self {
            Self::Own(node) => Some(node.port()),
            Self::Shared(_) | Self::Cluster(_) => None,
        }
    }
}

/// An Augur of a row's own. Daemons started from it must be dropped before it.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) directory: PathBuf,
    /// Where the harness itself publishes and reads.
    pub(crate) url: AmqpUrl,
    /// The aggregator's HTTP API.
    pub(crate) api: String,
    listen: String,
    environment: Vec<(String, String)>,
    pub(crate) runtime: Runtime,
    broker: Broker,
}

/// How a command ended and what it said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl World {
    /// Writes its settings and applies the topology.
    ///
    /// # Errors
    ///
    /// If a file cannot be written or the topology not be applied.
    pub(crate) fn new(directory: &Path, broker: Broker) -> Result<Self> {
        let url = broker.url();
        let port = free_port()?;
        let listen = format!("127.0.0.1:{port}");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let mut world = Self {
            directory: directory.to_owned(),
            url: url.parse()?,
            api: format!("http://{listen}"),
            listen,
            environment: Vec::new(),
            runtime,
            broker,
        };
        let settings = directory.join("faults.toml");
        std::fs::write(&settings, jobs::profiles(directory)).context("failed to write settings")?;
        let cache = world.cache()?;
        world.set("AUGUR_SETTINGS", settings.display().to_string());
        world.set("AUGUR_AMQP_URL", &url);
        world.set("AUGUR_AGGREGATOR_URL", world.api.clone());
        world.set("AUGUR_STATE_DIRECTORY", directory.join("state").display().to_string());
        world.set("AUGUR_CACHE_DIRECTORY", cache.display().to_string());
        world.set("NO_COLOR", "1");
        if std::env::var_os("AUGUR_ONNXRUNTIME_LIBRARY").is_none() {
            let library = machine_cache()?.join("lib/libonnxruntime.so");
            world.set("AUGUR_ONNXRUNTIME_LIBRARY", library.display().to_string());
        }
        world.expect(&["topology", "apply"], 0)?;
        Ok(world)
    }

    /// A cache of its own with this machine's measured peaks, so that no two rows wait for each other's devices.
    pub(crate) fn cache(&self) -> Result<PathBuf> {
        let cache = self.directory.join("cache");
        std::fs::create_dir_all(&cache).context("failed to make a cache")?;
        let (measured, own) = (machine_cache()?.join("hardware.json"), cache.join("hardware.json"));
        // Where nobody has measured them yet, the first worker does.
        if measured.is_file() && !own.is_file() {
            std::fs::copy(&measured, &own).with_context(|| format!("failed to copy {}", measured.display()))?;
        }
        Ok(cache)
    }

    /// Sets an environment variable of all later commands and daemons.
    pub(crate) fn set(&mut self, variable: &str, value: impl Into<String>) {
        self.environment.retain(|(name, _)| name != variable);
        self.environment.push((variable.to_owned(), value.into()));
    }

    /// The node, where the row has one to itself or shares it.
    ///
    /// # Errors
    ///
    /// If there are several.
    pub(crate) fn node(&self) -> Result<&PrivateNode> {
        match &self.nodes()[..] {
            [node] => Ok(node),
            nodes => Err(anyhow!("{} nodes are behind {}, no single one", nodes.len(), self.url)),
        }
    }

    /// All nodes of its broker.
    pub(crate) fn nodes(&self) -> Vec<&PrivateNode> {
        match &self.broker {
            Broker::Shared(vhost) => vec![vhost.node()],
            Broker::Own(node) => vec![node],
            Broker::Cluster(cluster) => cluster.nodes().iter().collect(),
        }
    }

    /// Queues that hold messages, with their leader, as the broker lists them: where jobs are that were not counted.
    ///
    /// # Errors
    ///
    /// If no node answers.
    pub(crate) fn queues_with_messages(&self) -> Result<String> {
        let columns = ["name", "messages_ready", "messages_unacknowledged", "consumers", "leader"];
        let arguments = [&["list_queues", "--vhost", self.virtual_host()][..], &columns[..]].concat();
        let node = *self.nodes().first().context("there is no node")?;
        let listed = node.ctl(&arguments)?;
        let is_empty = |line: &&str| matches!(line.split('\t').collect::<Vec<_>>()[..], [_, "0", "0", ..]);
        Ok(listed.lines().filter(|line| !is_empty(line)).collect::<Vec<_>>().join("; "))
    }

    /// Jobs in all lanes, delivered or not; the broker counts them every few seconds.
    ///
    /// # Errors
    ///
    /// If no node answers.
    pub(crate) fn jobs_queued(&self) -> Result<usize> {
        let node = *self.nodes().first().context("there is no node")?;
        let listed = node.ctl(&["list_queues", "--vhost", self.virtual_host(), "name", "messages"])?;
        let lanes = listed.lines().filter(|line| line.starts_with("jobs."));
        lanes.map(|line| Ok(line.split('\t').nth(1).context("a lane without a number")?.parse::<usize>()?)).sum()
    }

    /// The name of the virtual host as `rabbitmqctl` takes it.
    pub(crate) fn virtual_host(&self) -> &str {
        match &self.broker {
            Broker::Shared(vhost) => vhost.name(),
            Broker::Own(_) | Broker::Cluster(_) => "/",
        }
    }

    /// The database of its aggregator.
    pub(crate) fn database(&self) -> PathBuf {
        self.directory.join("state/augur.duckdb")
    }

    /// What the aggregator is told about where to listen.
    pub(crate) fn listen(&self) -> &str {
        &self.listen
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub(crate) fn augur(&self, arguments: &[&str]) -> Result<Answer> {
        let output = Command::new("timeout")
            .args(["--kill-after=5", &COMMAND_MAX.as_secs().to_string()])
            .arg(binary())
            .args(arguments)
            .envs(self.environment.iter().cloned())
            .current_dir(&self.directory)
            .output()
            .context("failed to run timeout of coreutils")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Answer { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) })
    }

    /// Standard output of a command that must end with this exit code.
    ///
    /// # Errors
    ///
    /// With all that it said if it ends otherwise.
    pub(crate) fn expect(&self, arguments: &[&str], code: i32) -> Result<String> {
        let answer = self.augur(arguments)?;
        ensure!(answer.code == Some(code), "augur {arguments:?} did not end with {code}: {answer:#?}");
        Ok(answer.stdout)
    }

    /// Starts a program that goes on; `name` is that of its log files, `environment` comes on top.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub(crate) fn spawn(
        &self,
        name: &str,
        program: &Path,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<AugurProcess> {
        let own = self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let all: Vec<_> = own.chain(environment.iter().copied()).collect();
        Ok(AugurProcess::spawn(name, program, arguments, &all, &self.directory)?)
    }
}

/// The program under test.
pub(crate) fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_augur"))
}

/// Sends SIGTERM and waits for an end in good order.
///
/// # Errors
///
/// If it takes too long or ends with anything but 0.
pub(crate) fn terminate(process: &mut AugurProcess) -> Result<()> {
    process.signal(Signal::SIGTERM)?;
    let status = process.wait(STOP_MAX)?;
    ensure!(status.code() == Some(0), "a daemon told to stop ended with {status}:\n{}", last_lines(&process.stderr()));
    Ok(())
}

/// The end of a long output.
pub(crate) fn last_lines(text: &str) -> String {
    const LINES: usize = 15;
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// A port that nobody listens on now: chosen once, it is the same at every start of whoever is told to listen there.
///
/// # Errors
///
/// What the system says.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("failed to find a free port")?;
    Ok(listener.local_addr()?.port())
}

/// Where this machine keeps its measured peaks.
fn machine_cache() -> Result<PathBuf> {
    let set = |variable: &str| std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(cache) = set("AUGUR_CACHE_DIRECTORY") {
        return Ok(cache);
    }
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    Ok(base.context("neither XDG_CACHE_HOME nor HOME is set")?.join("augur"))
}
