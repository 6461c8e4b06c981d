//! A RabbitMQ node of one's own: unprivileged, on free ports of 127.0.0.1, in a directory of its own.
//!
//! It runs Debian's scripts in `/usr/lib/rabbitmq/bin`, which unlike those in `/usr/sbin` neither change user nor
//! directory, with a port mapper (epmd) of its own, so that nothing is shared with another node on the machine.
//! A small guard process ends the node and removes its directory when the [`PrivateNode`] is dropped, and also when
//! the process that holds it dies in whatever way. `augur up` runs on one, and so do the tests. Nothing here knows
//! AMQP.

mod error;
mod faults;
mod parts;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
        mpsc::{RecvTimeoutError, channel},
    },
    thread,
    time::Duration,
};

use nix::sys::signal::Signal;

pub use error::PrivateNodeError;
use parts::{COOKIE, Guard, Ports, Server, ServerEvent, prepare};

/// How long a node may take to start: seconds on an idle machine, much more while it compiles.
const START_MAX: Duration = Duration::from_mins(2);
/// How long a node may take to stop before it is killed.
const STOP_MAX: Duration = Duration::from_secs(30);
/// How often to try other ports when another process took one between choosing and listening.
const START_ATTEMPTS_MAX: u32 = 3;
/// How many of the last lines of the node's log an error shows.
const LOG_LINES_MAX: usize = 80;

/// Where Debian's package keeps the scripts that change neither user nor directory.
const SCRIPTS: &str = "/usr/lib/rabbitmq/bin";

/// How to run a private node.
#[derive(Debug, Clone, Default)]
pub struct PrivateNodeOptions {
    /// Keeps the node's data here; without it, data live in a temporary directory that is removed in the end.
    pub directory: Option<PathBuf>,
    /// Listens for AMQP here instead of on a free port.
    pub port: Option<u16>,
    /// RabbitMQ's acknowledgement timeout, in milliseconds; its default is 30 minutes.
    pub consumer_timeout_ms: Option<u64>,
    /// How often a channel looks at its acknowledgement timeout, in milliseconds; RabbitMQ's default is a minute.
    pub channel_tick_interval_ms: Option<u64>,
    /// A running node whose cluster it joins when it starts for the first time.
    pub peer: Option<Peer>,
    /// Plugins to enable; each costs start time, and none is needed.
    pub plugins: Vec<String>,
    /// Further lines of `rabbitmq.conf`.
    pub configuration: Vec<String>,
    /// Where the scripts are, if not where Debian has them.
    pub scripts: Option<PathBuf>,
}

/// What a node must know of another one to join its cluster.
#[derive(Debug, Clone)]
pub struct Peer {
    name: String,
    epmd: u16,
    cookie: String,
}

/// A running or stopped node; dropping it ends everything that it started.
#[derive(Debug)]
pub struct PrivateNode {
    scripts: PathBuf,
    directory: PathBuf,
    name: String,
    ports: Ports,
    server: Mutex<Option<Server>>,
    guard: Mutex<Guard>,
}

impl PrivateNode {
    /// Starts a node with a temporary directory and waits until it takes connections.
    ///
    /// # Errors
    ///
    /// As [`PrivateNode::start_with`].
    pub fn start() -> Result<Self, PrivateNodeError> {
        Self::start_with(&PrivateNodeOptions::default())
    }

    /// Starts a node and waits until it takes connections; blocks for some seconds.
    ///
    /// # Errors
    ///
    /// [`PrivateNodeError`] says what is missing, or shows the end of the node's log.
    pub fn start_with(options: &PrivateNodeOptions) -> Result<Self, PrivateNodeError> {
        let mut attempt = 1;
        loop {
            match Self::start_once(options) {
                Err(PrivateNodeError::Ended { log })
                    if attempt < START_ATTEMPTS_MAX && (log.contains("eaddrinuse") || log.contains("in use")) =>
                {
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    fn start_once(options: &PrivateNodeOptions) -> Result<Self, PrivateNodeError> {
        let scripts = options.scripts.clone().unwrap_or_else(|| PathBuf::from(SCRIPTS));
        let path = scripts.join("rabbitmq-server");
        if !path.is_file() {
            return Err(PrivateNodeError::NotInstalled { path });
        }
        let ports = Ports::free(options.port, options.peer.as_ref().map(|peer| peer.epmd))?;
        let unique = unique();
        let directory =
            options.directory.clone().unwrap_or_else(|| std::env::temp_dir().join(format!("augur-node-{unique}")));
        // Data belong to a node's name, so a node that keeps its data keeps its name.
        let name = if options.directory.is_some() {
            "augur@localhost".to_owned()
        } else {
            format!("augur-{unique}@localhost")
        };
        prepare(&directory, &name, ports, options)?;
        let epmd = options.peer.is_none().then_some(ports.epmd);
        let guard = Guard::spawn(epmd, options.directory.is_none().then_some(directory.as_path()))?;
        let node = Self { scripts, directory, name, ports, server: Mutex::new(None), guard: Mutex::new(guard) };
        node.restart()?;
        Ok(node)
    }

    /// The URL of its default virtual host, for the user `guest`.
    pub fn url(&self) -> String {
        self.url_of("%2f")
    }

    /// The URL of a virtual host, percent-encoded by the caller where it needs to be.
    pub fn url_of(&self, virtual_host: &str) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/{virtual_host}", self.ports.amqp)
    }

    /// The port on which it takes AMQP connections.
    pub fn port(&self) -> u16 {
        self.ports.amqp
    }

    /// Its Erlang name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it keeps its data and its log (`console.log`).
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What another node needs to join this one's cluster; it may be used for as long as this node exists.
    ///
    /// # Errors
    ///
    /// [`PrivateNodeError::Directory`] if the node's cookie cannot be read.
    pub fn peer(&self) -> Result<Peer, PrivateNodeError> {
        let path = self.directory.join(COOKIE);
        let cookie = fs::read_to_string(&path).map_err(|source| PrivateNodeError::Directory { path, source })?;
        Ok(Peer { name: self.name.clone(), epmd: self.ports.epmd, cookie })
    }

    /// The process id of the server while it runs.
    pub fn pid(&self) -> Option<u32> {
        lock(&self.server).as_ref().map(|server| server.child.id())
    }

    /// Runs `rabbitmqctl` against this node and gives what it printed.
    ///
    /// # Errors
    ///
    /// [`PrivateNodeError::Tool`] with its output if it failed.
    pub fn ctl(&self, arguments: &[&str]) -> Result<String, PrivateNodeError> {
        let mut command = self.command(&self.scripts.join("rabbitmqctl"));
        command.args(["-q", "-n", &self.name]).args(arguments).stdin(Stdio::null());
        run(command)
    }

    /// Evaluates Erlang expressions on the node and gives what they are worth; in some ten milliseconds, where
    /// `rabbitmqctl` takes a second.
    ///
    /// # Errors
    ///
    /// [`PrivateNodeError::Tool`] if the expressions do not end in a value.
    pub fn evaluate(&self, expressions: &str) -> Result<String, PrivateNodeError> {
        let mut command = self.command(Path::new("erl_call"));
        // Without a name of its own, erl_call is named after the user, and two at once get in each other's way.
        let caller = format!("call-{}", unique());
        command.args(["-sname", &self.name, "-h", &caller, "-e"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let failed = |source| PrivateNodeError::Run { program: "erl_call".to_owned(), source };
        let mut child = command.spawn().map_err(failed)?;
        // Taken, so that it is closed here: erl_call reads to the end.
        let mut stdin = child.stdin.take().ok_or(PrivateNodeError::NotRunning)?;
        writeln!(stdin, "{expressions}").map_err(failed)?;
        drop(stdin);
        let output = child.wait_with_output().map_err(failed)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        match text.strip_prefix("{ok, ").and_then(|rest| rest.strip_suffix('}')) {
            Some(value) if output.status.success() => Ok(value.to_owned()),
            _ => Err(PrivateNodeError::Tool {
                command: format!("erl_call: {expressions}"),
                output: format!("{text}{}", String::from_utf8_lossy(&output.stderr)),
            }),
        }
    }

    /// Stops the server in good order; its data and its port stay. Does nothing if it is stopped.
    ///
    /// # Errors
    ///
    /// [`PrivateNodeError::Run`] if it cannot be signalled or waited for.
    pub fn stop(&self) -> Result<(), PrivateNodeError> {
        let mut server = lock(&self.server);
        let Some(mut running) = server.take() else { return Ok(()) };
        lock(&self.guard).watch(0)?;
        running.signal(Signal::SIGTERM)?;
        running.end(STOP_MAX)
    }

    /// Kills the server as a crash would; its data and its port stay. Does nothing if it is stopped.
    ///
    /// # Errors
    ///
    /// [`PrivateNodeError::Run`] if it cannot be killed or waited for.
    pub fn kill(&self) -> Result<(), PrivateNodeError> {
        let mut server = lock(&self.server);
        let Some(mut running) = server.take() else { return Ok(()) };
        lock(&self.guard).watch(0)?;
        running.end(Duration::ZERO)
    }

    /// Starts the server again on the same port with the same data; stops it first if it runs.
    ///
    /// # Errors
    ///
    /// [`PrivateNodeError::Ended`] or [`PrivateNodeError::TooSlow`] with the end of its log.
    pub fn restart(&self) -> Result<(), PrivateNodeError> {
        self.stop()?;
        let mut server = lock(&self.server);
        let mut starting = self.spawn()?;
        lock(&self.guard).watch(starting.child.id())?;
        let event = starting.events.recv_timeout(START_MAX);
        if event == Ok(ServerEvent::Ready) {
            *server = Some(starting);
            return Ok(());
        }
        lock(&self.guard).watch(0)?;
        starting.end(Duration::ZERO)?;
        let log = self.log_end();
        Err(match event {
            Err(RecvTimeoutError::Timeout) => PrivateNodeError::TooSlow { waited_s: START_MAX.as_secs(), log },
            _ => PrivateNodeError::Ended { log },
        })
    }

    /// Stops the server's processor time until [`PrivateNode::resume`]: connections stay open and fall silent.
    ///
    /// # Errors
    ///
    /// [`PrivateNodeError::NotRunning`] if it is stopped.
    pub fn pause(&self) -> Result<(), PrivateNodeError> {
        lock(&self.server).as_ref().ok_or(PrivateNodeError::NotRunning)?.signal(Signal::SIGSTOP)
    }

    /// Ends a pause.
    ///
    /// # Errors
    ///
    /// [`PrivateNodeError::NotRunning`] if it is stopped.
    pub fn resume(&self) -> Result<(), PrivateNodeError> {
        lock(&self.server).as_ref().ok_or(PrivateNodeError::NotRunning)?.signal(Signal::SIGCONT)
    }

    fn spawn(&self) -> Result<Server, PrivateNodeError> {
        let program = self.scripts.join("rabbitmq-server");
        let log_path = self.directory.join("console.log");
        let mut log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log_path)
            .map_err(|source| PrivateNodeError::Directory { path: log_path.clone(), source })?;
        let errors = log.try_clone().map_err(|source| PrivateNodeError::Directory { path: log_path, source })?;
        let mut command = self.command(&program);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors).process_group(0);
        let failed = |source| PrivateNodeError::Run { program: program.display().to_string(), source };
        let mut child = command.spawn().map_err(failed)?;
        let stdout = child.stdout.take().ok_or(PrivateNodeError::NotRunning)?;
        let (sender, events) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // The log is for people; a full disk must not stop the watching of the node.
                writeln!(log, "{line}").unwrap_or_default();
                if line.contains("Server startup complete") {
                    // Nobody listens any more once the start was given up.
                    sender.send(ServerEvent::Ready).unwrap_or_default();
                }
            }
            sender.send(ServerEvent::Ended).unwrap_or_default();
        });
        Ok(Server { child, events })
    }

    /// A command with the node's environment and none of ours, so that no setting of another node leaks in.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        let directory = &self.directory;
        command
            .env_clear()
            .current_dir(directory)
            .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into()))
            .env("LANG", "C.UTF-8")
            // Erlang makes its cookie there.
            .env("HOME", directory.join("home"))
            .env("RABBITMQ_NODENAME", &self.name)
            .env("RABBITMQ_DIST_PORT", self.ports.distribution.to_string())
            .env("RABBITMQ_MNESIA_BASE", directory.join("mnesia"))
            .env("RABBITMQ_LOG_BASE", directory.join("log"))
            .env("RABBITMQ_LOGS", "-")
            .env("RABBITMQ_PID_FILE", directory.join("server.pid"))
            .env("RABBITMQ_CONFIG_FILE", directory.join("rabbitmq.conf"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", directory.join("advanced.config"))
            .env("RABBITMQ_CONF_ENV_FILE", directory.join("no-rabbitmq-env.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", directory.join("enabled_plugins"))
            // A node that does not start says why in its log; its crash dump would help nobody.
            .env("ERL_CRASH_DUMP_SECONDS", "0")
            .env("ERL_EPMD_PORT", self.ports.epmd.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            // The default range of 11 ports is too narrow for many tests that run rabbitmqctl at once.
            .env("RABBITMQ_CTL_DIST_PORT_MIN", "35672")
            .env("RABBITMQ_CTL_DIST_PORT_MAX", "36671")
            // Lets the start script become the server instead of a shell that waits for it, so that signals arrive.
            .env("RUNNING_UNDER_SYSTEMD", "true")
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}",
            );
        command
    }

    fn log_end(&self) -> String {
        let log = fs::read(self.directory.join("console.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_MAX)..].join("\n")
    }
}

impl Drop for PrivateNode {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("failed to end the RabbitMQ node {}: {error}", self.name);
        }
        if let Err(error) = lock(&self.guard).finish() {
            eprintln!("failed to clean up after the RabbitMQ node {}: {error}", self.name);
        }
    }
}

fn run(mut command: Command) -> Result<String, PrivateNodeError> {
    let shown = format!("{command:?}");
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|source| PrivateNodeError::Run { program: program.clone(), source })?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let arguments = shown.rsplit(&program).next().unwrap_or_default().trim_start_matches('"');
    let output = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    Err(PrivateNodeError::Tool { command: format!("{program}{arguments}"), output })
}

/// Differs for every node that this machine has at once.
fn unique() -> String {
    static STARTED: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed))
}

/// A panic in another test says nothing about the state behind the lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
