//! What a node consists of: its ports, its directory, its server process and the guard that cleans up after it.

use std::{
    fs,
    io::Write,
    net::TcpListener,
    os::unix::{
        fs::{DirBuilderExt, OpenOptionsExt},
        process::CommandExt,
    },
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::Receiver,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    PrivateNodeOptions,
    error::{PrivateNodeError, failed_to_run},
};

/// Where Erlang keeps the secret by which nodes know each other, in the node's directory.
pub(super) const COOKIE: &str = "home/.erlang.cookie";

#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    pub(super) amqp: u16,
    pub(super) distribution: u16,
    pub(super) epmd: u16,
}

#[derive(Debug)]
pub(super) struct Server {
    pub(super) child: Child,
    /// One message when it is ready, one when it has ended.
    pub(super) events: Receiver<ServerEvent>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum ServerEvent {
    Ready,
    Ended,
}

#[derive(Debug)]
pub(super) struct Guard {
    child: Child,
    /// `None` once it was told to clean up.
    stdin: Option<ChildStdin>,
}

/// Ends the node (its process id is the last line read) and its port mapper, and removes its directory, as soon as
/// nobody holds the other end of standard input. `epmd` agrees to go once it has noticed that the node is gone; a node
/// that uses another node's leaves it alone.
const GUARD: &str = r#"
trap '' HUP INT TERM
pid=0
while read -r line; do pid=$line; done
[ "$pid" = 0 ] || kill -KILL "$pid"
[ -z "$ERL_EPMD_PORT" ] || for attempt in 1 2 3 4 5 6 7 8 9 10; do epmd -kill && break; sleep 0.1; done
[ -z "$AUGUR_REMOVE" ] || rm -rf "$AUGUR_REMOVE"
"#;

impl Server {
    pub(super) fn signal(&self, signal: Signal) -> Result<(), PrivateNodeError> {
        let pid = i32::try_from(self.child.id()).map(Pid::from_raw);
        let pid = pid.map_err(|_| PrivateNodeError::NotRunning)?;
        kill(pid, signal).map_err(|errno| failed_to_run("kill", errno.into()))
    }

    /// Waits for the end, kills after `patience`, and collects the process.
    pub(super) fn end(&mut self, patience: Duration) -> Result<(), PrivateNodeError> {
        let ended = !patience.is_zero() && self.events.recv_timeout(patience) == Ok(ServerEvent::Ended);
        if !ended {
            self.child.kill().map_err(|source| failed_to_run("kill", source))?;
        }
        self.child.wait().map(drop).map_err(|source| failed_to_run("rabbitmq-server", source))
    }
}

impl Guard {
    pub(super) fn spawn(epmd: Option<u16>, remove: Option<&Path>) -> Result<Self, PrivateNodeError> {
        let mut child = Command::new("/bin/sh")
            .args(["-c", GUARD])
            .env("ERL_EPMD_PORT", epmd.map_or_else(String::new, |port| port.to_string()))
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("AUGUR_REMOVE", remove.unwrap_or(Path::new("")))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .process_group(0)
            .spawn()
            .map_err(|source| failed_to_run("/bin/sh", source))?;
        let stdin = child.stdin.take();
        Ok(Self { child, stdin })
    }

    /// Tells which process to kill in the end; 0 for none.
    pub(super) fn watch(&mut self, pid: u32) -> Result<(), PrivateNodeError> {
        let Some(stdin) = &mut self.stdin else { return Ok(()) };
        writeln!(stdin, "{pid}").map_err(|source| failed_to_run("/bin/sh", source))
    }

    pub(super) fn finish(&mut self) -> Result<(), PrivateNodeError> {
        drop(self.stdin.take());
        self.child.wait().map(drop).map_err(|source| failed_to_run("/bin/sh", source))
    }
}

impl Ports {
    /// Ports that nobody listens on now; all three are held until all are chosen, so they differ. `epmd` may be there.
    pub(super) fn free(amqp: Option<u16>, epmd: Option<u16>) -> Result<Self, PrivateNodeError> {
        let listen = || TcpListener::bind(("127.0.0.1", 0)).map_err(|source| failed_to_run("bind", source));
        let listeners = [listen()?, listen()?, listen()?];
        let port = |at: usize| listeners[at].local_addr().map(|address| address.port());
        let port = |at| port(at).map_err(|source| failed_to_run("bind", source));
        let amqp = amqp.map_or_else(|| port(0), Ok)?;
        Ok(Self { amqp, distribution: port(1)?, epmd: epmd.map_or_else(|| port(2), Ok)? })
    }
}

/// Writes the directory of a node; readable by this user only, for its cookie gives full power over the node.
pub(super) fn prepare(
    directory: &Path,
    name: &str,
    ports: Ports,
    options: &PrivateNodeOptions,
) -> Result<(), PrivateNodeError> {
    for path in [directory.to_owned(), directory.join("home"), directory.join("mnesia"), directory.join("log")] {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(failed_to_write(&path))?;
    }
    let write = |file: &str, text: String| {
        let path = directory.join(file);
        fs::write(&path, text).map_err(failed_to_write(&path))
    };
    write("rabbitmq.conf", configuration(name, ports, options))?;
    write("enabled_plugins", format!("[{}].\n", options.plugins.join(",")))?;
    if let Some(interval) = options.channel_tick_interval_ms {
        // The other file has no word for it.
        write("advanced.config", format!("[{{rabbit, [{{channel_tick_interval, {interval}}}]}}].\n"))?;
    }
    match &options.peer {
        Some(peer) => write_cookie(&directory.join(COOKIE), &peer.cookie),
        // Erlang makes one.
        None => Ok(()),
    }
}

fn configuration(name: &str, ports: Ports, options: &PrivateNodeOptions) -> String {
    let mut lines = vec![
        format!("listeners.tcp.1 = 127.0.0.1:{}", ports.amqp),
        // A small disk or a busy one must raise no alarm.
        "disk_free_limit.absolute = 50MB".to_owned(),
        "vm_memory_high_watermark.absolute = 1GB".to_owned(),
        "log.console.level = info".to_owned(),
    ];
    if let Some(peer) = &options.peer {
        lines.push(format!("cluster_formation.classic_config.nodes.1 = {}", peer.name));
        lines.push(format!("cluster_formation.classic_config.nodes.2 = {name}"));
    }
    lines.extend(options.consumer_timeout_ms.map(|timeout| format!("consumer_timeout = {timeout}")));
    lines.extend(options.configuration.iter().cloned());
    lines.join("\n") + "\n"
}

/// Erlang refuses a cookie that others may read.
fn write_cookie(path: &Path, cookie: &str) -> Result<(), PrivateNodeError> {
    let mut file = fs::OpenOptions::new();
    let written = file.write(true).create(true).truncate(true).mode(0o600).open(path);
    written.and_then(|mut file| file.write_all(cookie.as_bytes())).map_err(failed_to_write(path))
}

fn failed_to_write(path: &Path) -> impl FnOnce(std::io::Error) -> PrivateNodeError {
    let path = path.to_owned();
    move |source| PrivateNodeError::Directory { path, source }
}
