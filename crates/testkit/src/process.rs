//! A program under test: its own process group, its output read as it comes, and ended with its handle.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill, killpg},
        wait::{Id, WaitPidFlag, waitid},
    },
    unistd::Pid,
};
use thiserror::Error;

/// How many of the last lines of output an error shows.
const LINES_SHOWN_MAX: usize = 40;

/// Standard output among a program's outputs.
const STDOUT: usize = 0;
/// Standard error among them.
const STDERR: usize = 1;

/// Why a program under test did not do as expected.
#[derive(Debug, Error)]
pub enum ProcessError {
    /// It could not be started, signalled or waited for, or its output not be kept.
    #[error("failed to {action} `{name}`")]
    System {
        /// What was attempted.
        action: &'static str,
        /// Which program, by the name that the test gave.
        name: String,
        /// What the system says.
        source: io::Error,
    },
    /// It ended, or its time was over, without printing the line.
    #[error("`{name}` printed no line with `{pattern}` {how}; its last lines:\n{output}")]
    NoLine {
        /// Which program.
        name: String,
        /// What was waited for.
        pattern: String,
        /// `before it ended` or `within … ms`.
        how: String,
        /// The end of its output.
        output: String,
    },
    /// It still runs.
    #[error("`{name}` did not end within {waited_ms} ms; its last lines:\n{output}")]
    StillRunning {
        /// Which program.
        name: String,
        /// How long was waited, in milliseconds.
        waited_ms: u128,
        /// The end of its output.
        output: String,
    },
}

/// A program under test; dropping it kills its process group.
#[derive(Debug)]
pub struct AugurProcess {
    name: String,
    child: Child,
    shared: Arc<Shared>,
    /// How many lines of standard output and of standard error earlier waits have gone past.
    lines_seen: [usize; 2],
    status: Option<ExitStatus>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Standard output and standard error.
    lines: [Vec<String>; 2],
    outputs_open: u8,
    exited: bool,
}

impl AugurProcess {
    /// Starts `binary` with nothing on its standard input; `environment` is added to this process's own.
    ///
    /// Its output is kept in `<directory>/<name>.stdout` and `.stderr`, for people, and in memory, for the test.
    ///
    /// # Errors
    ///
    /// [`ProcessError::System`] if it cannot be started or the files cannot be made.
    pub fn spawn(
        name: &str,
        binary: &Path,
        arguments: &[&str],
        environment: &[(&str, &str)],
        directory: &Path,
    ) -> Result<Self, ProcessError> {
        let failed = |action| move |source| ProcessError::System { action, name: name.to_owned(), source };
        let file = |kind: &str| File::create(directory.join(format!("{name}.{kind}"))).map_err(failed("log"));
        let files = [file("stdout")?, file("stderr")?];
        let mut child = Command::new(binary)
            .args(arguments)
            .envs(environment.iter().copied())
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(failed("start"))?;
        let shared = Arc::new(Shared::default());
        lock(&shared.state).outputs_open = 2;
        let [stdout_file, stderr_file] = files;
        if let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) {
            read_lines(stdout, stdout_file, Arc::clone(&shared), STDOUT);
            read_lines(stderr, stderr_file, Arc::clone(&shared), STDERR);
        }
        let process = Self { name: name.to_owned(), child, shared, lines_seen: [0; 2], status: None };
        process.watch_exit()?;
        Ok(process)
    }

    /// Its process id, which is also its group's.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the next line of standard error that contains `pattern` and gives it; lines printed since the
    /// last such wait count.
    ///
    /// # Errors
    ///
    /// [`ProcessError::NoLine`] if the program ends first or `limit` is over.
    pub fn wait_for_line(&mut self, pattern: &str, limit: Duration) -> Result<String, ProcessError> {
        self.wait_for(STDERR, pattern, limit)
    }

    /// The same on standard output.
    ///
    /// # Errors
    ///
    /// As [`Self::wait_for_line`].
    pub fn wait_for_answer(&mut self, pattern: &str, limit: Duration) -> Result<String, ProcessError> {
        self.wait_for(STDOUT, pattern, limit)
    }

    fn wait_for(&mut self, output: usize, pattern: &str, limit: Duration) -> Result<String, ProcessError> {
        let deadline = Instant::now() + limit;
        let shared = Arc::clone(&self.shared);
        let mut state = lock(&shared.state);
        loop {
            let unseen = state.lines[output].iter().enumerate().skip(self.lines_seen[output]);
            if let Some((at, line)) = unseen.into_iter().find(|(_, line)| line.contains(pattern)) {
                self.lines_seen[output] = at + 1;
                return Ok(line.clone());
            }
            self.lines_seen[output] = state.lines[output].len();
            let over = state.exited && state.outputs_open == 0;
            let patience = deadline.saturating_duration_since(Instant::now());
            if over || patience.is_zero() {
                let how = if over { "before it ended".to_owned() } else { format!("within {} ms", limit.as_millis()) };
                let (name, pattern) = (self.name.clone(), pattern.to_owned());
                return Err(ProcessError::NoLine { name, pattern, how, output: tail(&state.lines[STDERR]) });
            }
            state = self.shared.wait(state, patience);
        }
    }

    /// Sends a signal to the program itself, not to its group.
    ///
    /// # Errors
    ///
    /// [`ProcessError::System`] if it was already waited for.
    pub fn signal(&self, signal: Signal) -> Result<(), ProcessError> {
        let sent = if self.status.is_some() { Err(Errno::ESRCH) } else { kill(self.group(), signal) };
        sent.map_err(|errno| self.failed("signal", errno.into()))
    }

    /// Kills the program alone (SIGKILL), as an out-of-memory killer would, and waits for it.
    ///
    /// # Errors
    ///
    /// [`ProcessError::System`] if it cannot be killed or waited for.
    pub fn kill(&mut self) -> Result<ExitStatus, ProcessError> {
        if self.status.is_none() {
            self.signal(Signal::SIGKILL)?;
        }
        self.collect()
    }

    /// Waits until the program has ended by itself.
    ///
    /// # Errors
    ///
    /// [`ProcessError::StillRunning`] if it has not after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus, ProcessError> {
        let deadline = Instant::now() + limit;
        let mut state = lock(&self.shared.state);
        while !state.exited {
            let patience = deadline.saturating_duration_since(Instant::now());
            if patience.is_zero() {
                let (name, output) = (self.name.clone(), tail(&state.lines[STDERR]));
                return Err(ProcessError::StillRunning { name, waited_ms: limit.as_millis(), output });
            }
            state = self.shared.wait(state, patience);
        }
        drop(state);
        self.collect()
    }

    /// Everything that it has printed on standard output so far.
    pub fn stdout(&self) -> String {
        lock(&self.shared.state).lines[STDOUT].join("\n")
    }

    /// Everything that it has printed on standard error so far.
    pub fn stderr(&self) -> String {
        lock(&self.shared.state).lines[STDERR].join("\n")
    }

    fn collect(&mut self) -> Result<ExitStatus, ProcessError> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        let status = self.child.wait().map_err(|source| self.failed("wait for", source))?;
        self.status = Some(status);
        Ok(status)
    }

    /// Notices the end without collecting the process, so that its id stays its own until [`Self::collect`].
    fn watch_exit(&self) -> Result<(), ProcessError> {
        let (group, shared) = (self.group(), Arc::clone(&self.shared));
        let watch = move || {
            while waitid(Id::Pid(group), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(Errno::EINTR) {}
            lock(&shared.state).exited = true;
            shared.changed.notify_all();
        };
        thread::Builder::new().spawn(watch).map(drop).map_err(|source| self.failed("watch", source))
    }

    fn group(&self) -> Pid {
        // A process id of Linux is below 2^22.
        Pid::from_raw(self.child.id().cast_signed())
    }

    fn failed(&self, action: &'static str, source: io::Error) -> ProcessError {
        ProcessError::System { action, name: self.name.clone(), source }
    }
}

impl Drop for AugurProcess {
    fn drop(&mut self) {
        match killpg(self.group(), Signal::SIGKILL) {
            // ESRCH: nothing of the group is left.
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => eprintln!("failed to kill the group of `{}`: {errno}", self.name),
        }
        if let Err(error) = self.collect() {
            eprintln!("{error}");
        }
    }
}

impl Shared {
    fn wait<'a>(&self, state: MutexGuard<'a, State>, patience: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner).0
    }
}

fn read_lines(from: impl Read + Send + 'static, mut file: File, shared: Arc<Shared>, output: usize) {
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut bytes = Vec::new();
        while from.read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
            // The file is for people; a full disk must not block the program under test.
            file.write_all(&bytes).unwrap_or_default();
            let line = String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned();
            lock(&shared.state).lines[output].push(line);
            shared.changed.notify_all();
            bytes.clear();
        }
        lock(&shared.state).outputs_open -= 1;
        shared.changed.notify_all();
    });
}

fn tail(lines: &[String]) -> String {
    lines[lines.len().saturating_sub(LINES_SHOWN_MAX)..].join("\n")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    /// Long enough for any machine; reached only by a failing test.
    const LIMIT: Duration = Duration::from_mins(1);

    fn shell(directory: &Path, script: &str) -> AugurProcess {
        AugurProcess::spawn("shell", Path::new("/bin/sh"), &["-c", script], &[("WORD", "given")], directory)
            .expect("a shell")
    }

    #[test]
    fn output_is_read_as_it_comes() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut process = shell(directory.path(), "echo out; echo one $WORD >&2; echo two >&2; read _; kill -STOP $$");
        assert_eq!(process.wait_for_line("one", LIMIT).expect("printed"), "one given");
        assert_eq!(process.wait_for_line("two", LIMIT).expect("printed"), "two");
        process.kill().expect("killed");
        let error = process.wait_for_line("one", LIMIT).expect_err("seen before");
        assert!(error.to_string().starts_with("`shell` printed no line with `one` before it ended"), "{error}");
        assert_eq!((process.stdout().as_str(), process.stderr().as_str()), ("out", "one given\ntwo"));
        let kept = std::fs::read_to_string(directory.path().join("shell.stderr")).expect("kept");
        assert_eq!(kept, "one given\ntwo\n");
    }

    #[test]
    fn a_signal_reaches_it_and_its_status_comes_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let script = "trap 'exit 7' TERM; echo ready >&2; sleep 1000 & wait $!";
        let mut process = shell(directory.path(), script);
        process.wait_for_line("ready", LIMIT).expect("ready");
        assert!(matches!(process.wait(Duration::ZERO), Err(ProcessError::StillRunning { .. })));
        process.signal(Signal::SIGTERM).expect("signalled");
        assert_eq!(process.wait(LIMIT).expect("ended").code(), Some(7));
        assert!(process.signal(Signal::SIGTERM).is_err());
    }

    #[test]
    fn dropping_it_kills_its_children_too() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut process = shell(directory.path(), "sleep 1000 & echo $! >&2; wait");
        let line = process.wait_for_line("", LIMIT).expect("the child's id");
        let child = Pid::from_raw(line.parse().expect("a process id"));
        kill(child, None).expect("it runs");
        let shared = Arc::clone(&process.shared);
        drop(process);
        // The pipes close once nobody of the group is left to write.
        let mut state = lock(&shared.state);
        while state.outputs_open > 0 {
            state = shared.wait(state, LIMIT);
        }
    }

    #[test]
    fn a_killed_program_says_so() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut process = shell(directory.path(), "exec sleep 1000");
        assert_eq!(process.kill().expect("killed").signal(), Some(9));
        assert_eq!(process.wait(LIMIT).expect("ended").signal(), Some(9));
    }
}
