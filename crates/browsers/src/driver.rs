//! One driver process (chromedriver, geckodriver), and the browser itself where the driver cannot start it.
//!
//! Every driver serves one session: geckodriver can do no more, and a killed chromedriver then takes one session along
//! and not all. Both get a folder of their own as home, temporary and profile folder, so that nothing of a session
//! outlives it and nothing, such as compiled shaders, is warm before its time.

use std::{
    collections::VecDeque,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::unix::pipe,
    process::{Child, Command},
    time,
};

use crate::{
    BrowserError, Family,
    installed::Installed,
    processes::{MARK_VARIABLE, Mark, Tree, is_alive},
};

/// Lines of a program's output that are kept for errors.
const TAIL_LINES_MAX: usize = 20;

/// Longest line that is kept, in bytes.
const LINE_BYTES_MAX: usize = 500;

/// Longest wait for a program to say its port.
const PORT_MAX: Duration = Duration::from_secs(20);

/// Folder of caches in a driver's own.
const CACHE: &str = "cache";

/// A driver that listens; ends with its whole tree when dropped.
#[derive(Debug)]
pub(crate) struct Driver {
    program: Program,
    /// The browser that we started ourselves, with the port of its debugger.
    attached: Option<Program>,
    tree: EndedTree,
    folder: TempDir,
    /// Browsers that it has started.
    browsers: AtomicU32,
}

/// A tree that ends when dropped, as that of a start that is given up must.
#[derive(Debug)]
struct EndedTree(Tree);

impl Drop for EndedTree {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A process of ours that said on which port it listens.
#[derive(Debug)]
struct Program {
    child: Child,
    port: u16,
    tail: Tail,
}

/// The last lines that a program printed.
type Tail = Arc<Mutex<VecDeque<String>>>;

impl Driver {
    /// Starts the driver of a browser. `folders` is where sessions have their folders: a short path, because browsers
    /// put sockets there.
    pub(crate) async fn start(installed: &Installed, mark: Mark, folders: &Path) -> Result<Self, BrowserError> {
        let folder = tempfile::Builder::new().prefix("s").tempdir_in(folders).map_err(|source| BrowserError::File {
            action: "create a folder in",
            path: folders.to_owned(),
            source,
        })?;
        let mut tree = EndedTree(Tree::new(mark));
        let attached = if installed.settings.attach {
            let mut command = command(&installed.binary, &tree.0, folder.path());
            command.args(chromium_arguments(installed, &profile(folder.path(), 0))).args([
                "--no-zygote",
                "--remote-debugging-port=0",
                "about:blank",
            ]);
            Some(Program::start(&installed.binary, command, "DevTools listening on ws://", &mut tree.0).await?)
        } else {
            None
        };
        let mut command = command(&installed.driver, &tree.0, folder.path());
        let announcement = match installed.settings.family {
            Family::Chromium | Family::Edge => {
                command.arg("--port=0");
                if installed.settings.attach {
                    command.arg("--disable-build-check");
                }
                "started successfully on port "
            }
            Family::Firefox => {
                command.args(["--port", "0", "--profile-root"]).arg(folder.path());
                "Listening on "
            }
        };
        let program = Program::start(&installed.driver, command, announcement, &mut tree.0).await?;
        Ok(Self { program, attached, tree, folder, browsers: AtomicU32::new(0) })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.program.port)
    }

    /// Where the browser's debugger listens, if we started the browser.
    pub(crate) fn debugger_address(&self) -> Option<String> {
        self.attached.as_ref().map(|browser| format!("127.0.0.1:{}", browser.port))
    }

    /// Where the next browser that it starts has its profile. What the one before left there goes, and so do caches: a
    /// new browser is a cold one.
    pub(crate) async fn new_profile(&self) -> PathBuf {
        let (folder, number) = (self.folder.path(), self.browsers.fetch_add(1, Ordering::Relaxed));
        if let Some(before) = number.checked_sub(1) {
            for left in [profile(folder, before), folder.join(CACHE)] {
                if let Err(error) = tokio::fs::remove_dir_all(&left).await
                    && error.kind() != ErrorKind::NotFound
                {
                    tracing::warn!(path = %left.display(), %error, "a browser's folder is not removed");
                }
            }
        }
        profile(folder, number)
    }

    pub(crate) fn tree(&self) -> &Tree {
        &self.tree.0
    }

    /// Whether the driver, and the browser if it is ours, are there.
    pub(crate) fn is_alive(&self) -> bool {
        let alive = |program: &Program| program.pid().is_some_and(is_alive);
        alive(&self.program) && self.attached.as_ref().is_none_or(alive)
    }

    /// Process id of the browser, if we started it ourselves.
    pub(crate) fn attached_pid(&self) -> Option<i32> {
        self.attached.as_ref().and_then(Program::pid)
    }

    /// The end of what the driver and its browser printed.
    pub(crate) fn output_tail(&self) -> String {
        text_of(&self.program.tail)
    }

    /// Kills it with its browser and removes their folder.
    pub(crate) async fn end(self) {
        end_tree(self.tree()).await;
        // Dropping finds nobody alive any more, so it does not block.
    }
}

/// Kills everyone in the tree without blocking the runtime.
pub(crate) async fn end_tree(tree: &Tree) {
    let tree = tree.clone();
    let mark = tree.mark().clone();
    match tokio::task::spawn_blocking(move || tree.end()).await {
        Ok(ended) => tracing::debug!(%mark, ended, "ended the processes of a browser"),
        Err(error) => tracing::warn!(%mark, %error, "cannot end the processes of a browser"),
    }
}

/// Arguments that any Chromium gets.
pub(crate) fn chromium_arguments(installed: &Installed, profile: &Path) -> Vec<String> {
    // No sandbox: it cannot be had as root or in most containers, and the pages are ours. The four about backgrounds
    // keep a tab that is not in front at full speed.
    const ARGUMENTS: [&str; 15] = [
        "--headless=new",
        "--no-sandbox",
        "--no-first-run",
        "--no-default-browser-check",
        "--disable-quic",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-breakpad",
        "--disable-extensions",
        "--disable-background-timer-throttling",
        "--disable-backgrounding-occluded-windows",
        "--disable-renderer-backgrounding",
        "--disable-hang-monitor",
        "--enable-unsafe-webgpu",
    ];
    let mut arguments = ARGUMENTS.map(str::to_owned).to_vec();
    arguments.push(format!("--user-data-dir={}", profile.display()));
    arguments.extend(installed.settings.arguments.iter().cloned());
    arguments
}

fn profile(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("profile-{number}"))
}

/// A command that is marked, in a group of its own, at home in the session's folder.
fn command(program: &Path, tree: &Tree, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env(MARK_VARIABLE, tree.mark().to_string())
        .env("HOME", folder)
        .env("TMPDIR", folder)
        .env("XDG_CACHE_HOME", folder.join(CACHE))
        .env("XDG_CONFIG_HOME", folder.join("config"))
        .stdin(Stdio::null())
        .process_group(0);
    command
}

impl Program {
    /// `None` once it was collected.
    fn pid(&self) -> Option<i32> {
        self.child.id().and_then(|id| i32::try_from(id).ok())
    }

    /// Starts a program and waits until it prints `announcement` and, in the same line, its port.
    async fn start(
        path: &Path,
        mut command: Command,
        announcement: &'static str,
        tree: &mut Tree,
    ) -> Result<Self, BrowserError> {
        let failed = |source| BrowserError::Start { program: path.to_owned(), source };
        let (reader, writer) = std::io::pipe().map_err(failed)?;
        command.stdout(writer.try_clone().map_err(failed)?).stderr(writer);
        let child = command.spawn().map_err(failed)?;
        // Only the program and what it starts hold the pipe's write end now.
        drop(command);
        if let Some(group) = child.id().and_then(|id| i32::try_from(id).ok()) {
            tree.add_group(group);
        }
        let mut lines = BufReader::new(pipe::Receiver::from_owned_fd(reader.into()).map_err(failed)?);
        let tail = Tail::default();
        let said = time::timeout(PORT_MAX, port_after(announcement, &mut lines, &tail)).await;
        let Ok(Some(port)) = said else {
            end_tree(tree).await;
            let reason = if said.is_err() { "it does not say its port" } else { "it ended" }.to_owned();
            return Err(BrowserError::NotReady { program: path.to_owned(), reason, output_tail: text_of(&tail) });
        };
        // A program whose output nobody reads would stop at a full pipe. Ends with the last holder of its other end.
        tokio::spawn(keep_reading(lines, Arc::clone(&tail)));
        Ok(Self { child, port, tail })
    }
}

async fn port_after(announcement: &str, lines: &mut BufReader<pipe::Receiver>, tail: &Tail) -> Option<u16> {
    loop {
        let line = next_line(lines).await?;
        keep(tail, &line);
        if let Some((_, rest)) = line.split_once(announcement) {
            return parse_port(rest);
        }
    }
}

async fn keep_reading(mut lines: BufReader<pipe::Receiver>, tail: Tail) {
    while let Some(line) = next_line(&mut lines).await {
        keep(&tail, &line);
    }
}

/// `None` at the end of the output.
async fn next_line(lines: &mut BufReader<pipe::Receiver>) -> Option<String> {
    let mut line = Vec::new();
    match lines.read_until(b'\n', &mut line).await {
        Ok(0) => None,
        Ok(_) => {
            line.truncate(LINE_BYTES_MAX);
            Some(String::from_utf8_lossy(&line).trim_end().to_owned())
        }
        Err(error) => {
            tracing::debug!(%error, "cannot read what a driver prints");
            None
        }
    }
}

fn keep(tail: &Tail, line: &str) {
    let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
    if tail.len() == TAIL_LINES_MAX {
        tail.pop_front();
    }
    tail.push_back(line.to_owned());
}

fn text_of(tail: &Tail) -> String {
    tail.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect::<Vec<_>>().join("\n")
}

/// The port in `43305.`, `127.0.0.1:43305` or `127.0.0.1:43305/devtools/…`.
fn parse_port(text: &str) -> Option<u16> {
    let text = text.rsplit_once(':').map_or(text, |(_, port)| port);
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_from_announcements() {
        let check = |text, expected| assert_eq!(parse_port(text), expected, "{text}");
        check("43305.", Some(43_305));
        check("127.0.0.1:4444", Some(4_444));
        check("127.0.0.1:9222/devtools/browser/abc", Some(9_222));
        check("nowhere", None);
    }
}
