//! What a node consists of: its ports, its directory, its server process and the guard that cleans up after it.

use std::{
    fs,
    io::Write,
    net::TcpListener,
    os::unix::{fs::DirBuilderExt, process::CommandExt},
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
/// nobody holds the other end of standard input. `epmd` agrees to go once it has noticed that the node is gone.
const GUARD: &str = r#"
trap '' HUP INT TERM
pid=0
while read -r line; do pid=$line; done
[ "$pid" = 0 ] || kill -KILL "$pid"
for attempt in 1 2 3 4 5 6 7 8 9 10; do epmd -kill && break; sleep 0.1; done
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
    pub(super) fn spawn(ports: Ports, remove: Option<&Path>) -> Result<Self, PrivateNodeError> {
        let mut child = Command::new("/bin/sh")
            .args(["-c", GUARD])
            .env("ERL_EPMD_PORT", ports.epmd.to_string())
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
    /// Ports that nobody listens on now; all three are held until all are chosen, so they differ.
    pub(super) fn free(amqp: Option<u16>) -> Result<Self, PrivateNodeError> {
        let listen = || TcpListener::bind(("127.0.0.1", 0)).map_err(|source| failed_to_run("bind", source));
        let listeners = [listen()?, listen()?, listen()?];
        let port = |at: usize| listeners[at].local_addr().map(|address| address.port());
        let port = |at| port(at).map_err(|source| failed_to_run("bind", source));
        Ok(Self { amqp: amqp.map_or_else(|| port(0), Ok)?, distribution: port(1)?, epmd: port(2)? })
    }
}

/// Writes the directory of a node; readable by this user only, for its cookie gives full power over the node.
pub(super) fn prepare(directory: &Path, ports: Ports, options: &PrivateNodeOptions) -> Result<(), PrivateNodeError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        |source| PrivateNodeError::Directory { path, source }
    };
    for path in [directory.to_owned(), directory.join("home"), directory.join("mnesia"), directory.join("log")] {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(failed(&path))?;
    }
    // No plugin: each costs start time, and none is needed. A small disk or a busy one must raise no alarm.
    let mut configuration = vec![
        format!("listeners.tcp.1 = 127.0.0.1:{}", ports.amqp),
        "disk_free_limit.absolute = 50MB".to_owned(),
        "vm_memory_high_watermark.absolute = 1GB".to_owned(),
        "log.console.level = info".to_owned(),
    ];
    configuration.extend(options.consumer_timeout_ms.map(|timeout| format!("consumer_timeout = {timeout}")));
    configuration.extend(options.configuration.iter().cloned());
    for (name, text) in [("rabbitmq.conf", configuration.join("\n") + "\n"), ("enabled_plugins", "[].\n".to_owned())] {
        let path = directory.join(name);
        fs::write(&path, text).map_err(failed(&path))?;
    }
    Ok(())
}
