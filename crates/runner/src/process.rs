//! One child process in a group of its own: output bounded, ended as a whole on timeout, cancellation or drop.
//!
//! The group gets SIGTERM, a grace, then SIGKILL. If the future that runs it is dropped the group is killed at once,
//! and if this process itself dies by SIGKILL the kernel kills the child (not its grandchildren, whom it does not
//! know). The kernel ties that to the *thread* that started the child, so [`run`] must be polled on a thread that
//! stays: a runtime's worker thread, never `spawn_blocking`, whose threads end when idle. If the machine's memory runs
//! out, the kernel kills such children before anything else.

use std::{
    fs, io,
    os::unix::process::CommandExt,
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    sys::{
        prctl,
        resource::{Resource, setrlimit},
        signal::{Signal, killpg},
        stat::Mode,
    },
    unistd::{Pid, getppid, write},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader},
    net::unix::pipe,
    process::{Child, ChildStdin},
    time,
};
use tokio_util::sync::CancellationToken;

use crate::{protocol::Report, tail::TailBuffer};

/// Time between SIGTERM and SIGKILL: enough to write a report, short against any job.
const TERMINATE_GRACE: Duration = Duration::from_secs(2);

/// Longest wait for the rest of the output after the process has ended; only a process that left the group can keep
/// the pipe open.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// Longest answer on standard output, in bytes: 10,000 iterations of about 20 bytes, with room.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// Written to a process's `oom_score_adj`, the most that the kernel takes: of all processes it kills one of these first. A
/// job that uses up the memory then ends itself, not the broker or the worker beside it. Raising it needs no privilege.
const FIRST_TO_GO: &str = "1000";

/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;

/// What goes to the child and comes back apart from its prints.
pub(crate) enum Dialogue {
    /// Nothing: standard input is empty, both outputs are prints.
    None,
    /// These bytes go to standard input; standard output is lines of progress and the answer, standard error the
    /// prints.
    Request(Vec<u8>),
}

/// How far a process may go.
pub(crate) struct Limits<'a> {
    /// Until SIGTERM.
    pub(crate) timeout: Duration,
    /// Ends it before.
    pub(crate) cancel: &'a CancellationToken,
    /// Bytes of its prints that are kept.
    pub(crate) output_tail_bytes_max: usize,
    /// Bytes that it may allocate.
    pub(crate) memory_bytes_max: Option<u64>,
    /// Told each line of progress.
    pub(crate) progress: &'a ProgressSink<'a>,
}

/// Takes what a process says of how far it is.
pub(crate) type ProgressSink<'a> = dyn Fn(Report) + Sync + 'a;

/// A process that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// How.
    pub(crate) ending: Ending,
    /// Its answer; empty without a request.
    pub(crate) answer: Vec<u8>,
    /// The end of its prints.
    pub(crate) output_tail: String,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// By itself, or by a signal that is not ours.
    Exited(ExitStatus),
    /// We ended it: too late.
    TimedOut,
    /// We ended it: cancelled.
    Cancelled,
}

/// Why there is no ending to report.
#[derive(Debug)]
pub(crate) enum ProcessError {
    /// It did not start.
    Start(io::Error),
    /// The operating system failed while it ran; it was killed.
    Lost(io::Error),
}

/// A signal's name, e.g. `SIGSEGV`.
pub(crate) fn signal_name(number: i32) -> String {
    Signal::try_from(number).map_or_else(|_| format!("signal {number}"), |signal| signal.as_str().to_owned())
}

/// Runs `command` to its end.
pub(crate) async fn run(
    mut command: Command,
    dialogue: Dialogue,
    limits: &Limits<'_>,
) -> Result<Finished, ProcessError> {
    let (reader, writer) = io::pipe().map_err(ProcessError::Start)?;
    let request = match dialogue {
        Dialogue::None => {
            command.stdin(Stdio::null()).stdout(writer.try_clone().map_err(ProcessError::Start)?);
            None
        }
        Dialogue::Request(request) => {
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            Some(request)
        }
    };
    command.stderr(writer).process_group(0);
    die_with_parent(&mut command, limits.memory_bytes_max);
    let mut command = tokio::process::Command::from(command);
    let mut child = command.kill_on_drop(true).spawn().map_err(ProcessError::Start)?;
    // Only the child may hold the pipe's write end: the end of the output is the end of all who print.
    drop(command);
    let mut group = Group::led_by(&child);
    warn_unless_first_to_go(&child);
    let prints = pipe::Receiver::from_owned_fd(reader.into()).map_err(ProcessError::Lost)?;

    let mut tail = TailBuffer::new(limits.output_tail_bytes_max);
    let mut answer = Vec::new();
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let ended = CancellationToken::new();
    let waiting = async {
        let ending = wait(&mut child, &group, limits).await;
        // Grandchildren that the child left behind end with it.
        group.signal(Signal::SIGKILL);
        ended.cancel();
        ending
    };
    let pumping = async {
        let pump = async {
            tokio::join!(
                keep_tail(prints, &mut tail),
                keep_answer(stdout, &mut answer, limits.progress),
                feed(stdin, request)
            );
        };
        let too_long = async {
            ended.cancelled().await;
            time::sleep(DRAIN_MAX).await;
        };
        tokio::select! {
            () = pump => {}
            () = too_long => tracing::warn!("a process outside its job's group keeps the job's output open"),
        }
    };
    let (ending, ()) = tokio::join!(waiting, pumping);
    let ending = ending.map_err(ProcessError::Lost)?;
    group.ended = true;
    Ok(Finished { ending, answer, output_tail: tail.into_text() })
}

/// Waits for the child and ends its group when it is time.
async fn wait(child: &mut Child, group: &Group, limits: &Limits<'_>) -> io::Result<Ending> {
    let ours = tokio::select! {
        status = child.wait() => return status.map(Ending::Exited),
        () = time::sleep(limits.timeout) => Ending::TimedOut,
        () = limits.cancel.cancelled() => Ending::Cancelled,
    };
    group.signal(Signal::SIGTERM);
    if time::timeout(TERMINATE_GRACE, child.wait()).await.is_err() {
        group.signal(Signal::SIGKILL);
        child.wait().await?;
    }
    Ok(ours)
}

/// The child's process group; killed when dropped before its end.
struct Group {
    leader: Option<Pid>,
    ended: bool,
}

impl Group {
    fn led_by(child: &Child) -> Self {
        let leader = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        Self { leader, ended: false }
    }

    fn signal(&self, signal: Signal) {
        let Some(leader) = self.leader else { return };
        match killpg(leader, signal) {
            // ESRCH: nobody is left. The number cannot be another group's: the kernel hands out process ids in
            // order and is a whole round away from this one.
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => tracing::warn!(%leader, %signal, %error, "cannot signal a job's process group"),
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.ended {
            self.signal(Signal::SIGKILL);
        }
    }
}

/// Asks the kernel to kill the child when this thread ends, and before others when memory runs out, and limits the memory
/// that it may allocate.
///
/// The limit is on data (`RLIMIT_DATA`), not on addresses: allocators reserve far more addresses than they use.
#[expect(unsafe_code, reason = "the standard library has no safe way to run code between fork and exec")]
fn die_with_parent(command: &mut Command, memory_bytes_max: Option<u64>) {
    let parent = Pid::this();
    let before_exec = move || {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        if getppid() != parent {
            // The parent died before the line above; nobody waits for this child.
            return Err(Errno::ESRCH.into());
        }
        if let Some(bytes) = memory_bytes_max {
            setrlimit(Resource::RLIMIT_DATA, bytes, bytes)?;
        }
        // A job may run without; the parent looks and says so.
        go_first().unwrap_or_default();
        Ok(())
    };
    // SAFETY: the closure makes only the system calls prctl, getppid, setrlimit, open, write and close, which are
    // async-signal-safe; it neither allocates nor locks.
    unsafe {
        command.pre_exec(before_exec);
    }
}

/// Makes this process the first that the kernel kills when memory runs out; what it starts inherits that.
fn go_first() -> nix::Result<()> {
    let score = open(c"/proc/self/oom_score_adj", OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    write(&score, FIRST_TO_GO.as_bytes()).map(drop)
}

/// Warns if a child could not do [`go_first`]; one that has ended already is no danger.
fn warn_unless_first_to_go(child: &Child) {
    let Some(id) = child.id() else { return };
    match fs::read_to_string(format!("/proc/{id}/oom_score_adj")) {
        Ok(score) if score.trim_end() == FIRST_TO_GO => {}
        Ok(score) => {
            tracing::warn!(score = score.trim_end(), "a job that uses up the memory may take other processes along");
        }
        Err(error) => tracing::warn!(%error, "a job that uses up the memory may take other processes along"),
    }
}

async fn keep_tail(mut prints: pipe::Receiver, tail: &mut TailBuffer) {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match prints.read(&mut buffer).await {
            Ok(0) => return,
            Ok(length) => tail.push(&buffer[..length]),
            Err(error) => return tracing::warn!(%error, "cannot read a job's output"),
        }
    }
}

/// Reads lines: those of progress go to `progress`, the last other one is the answer.
async fn keep_answer(stdout: Option<impl AsyncRead + Unpin>, answer: &mut Vec<u8>, progress: &ProgressSink<'_>) {
    let Some(stdout) = stdout else { return };
    // Dropping the pipe at the limit lets a babbling child fail on its next write instead of waiting.
    let mut lines = BufReader::new(stdout.take(ANSWER_BYTES_MAX));
    let mut line = Vec::new();
    loop {
        line.clear();
        match lines.read_until(b'\n', &mut line).await {
            Ok(0) => return,
            Ok(_) => match serde_json::from_slice::<Report>(&line) {
                Ok(report) => progress(report),
                Err(_) => std::mem::swap(answer, &mut line),
            },
            Err(error) => return tracing::warn!(%error, "cannot read a job's answer"),
        }
    }
}

async fn feed(stdin: Option<ChildStdin>, request: Option<Vec<u8>>) {
    let (Some(mut stdin), Some(request)) = (stdin, request) else { return };
    // A child that ends early does not read its request; how it ended is what counts.
    if let Err(error) = stdin.write_all(&request).await {
        tracing::debug!(%error, "a job's process did not read its request");
    }
}

#[cfg(test)]
mod tests;
