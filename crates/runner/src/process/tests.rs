use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    os::unix::process::ExitStatusExt,
    path::Path,
};

use nix::{sys::stat::Mode, unistd::mkfifo};
use tokio::task::spawn_blocking;

use super::*;

/// Longer than any test that works.
const NEVER: Duration = Duration::from_mins(10);

/// A script whose every process holds the write end of a FIFO: once open it says `started`, and it ends when all
/// of them have.
struct Family {
    directory: tempfile::TempDir,
}

impl Family {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        mkfifo(&directory.path().join("life"), Mode::S_IRWXU).expect("fifo");
        Self { directory }
    }

    fn command(&self, before: &str) -> Command {
        let script = format!("exec 9>life; {before} sleep 600 & echo started >&9; sleep 600");
        let mut command = Command::new("sh");
        command.args(["-c", &script]).current_dir(self.directory.path());
        command
    }

    /// Returns once the script has its processes, with the FIFO.
    async fn started(directory: &Path) -> BufReader<File> {
        let fifo = directory.join("life");
        let opened = spawn_blocking(move || {
            let mut reader = BufReader::new(File::open(fifo).expect("opened"));
            let mut line = String::new();
            reader.read_line(&mut line).expect("read");
            assert_eq!(line, "started\n");
            reader
        });
        opened.await.expect("joined")
    }

    /// Returns once the last process has ended.
    async fn over(mut fifo: BufReader<File>) {
        let ended = spawn_blocking(move || {
            let mut rest = Vec::new();
            fifo.read_to_end(&mut rest).expect("read");
        });
        ended.await.expect("joined");
    }
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

fn limits(cancel: &CancellationToken, timeout: Duration) -> Limits<'_> {
    Limits { timeout, cancel, output_tail_bytes_max: 1024, memory_bytes_max: None, progress: &|_| {} }
}

async fn finish(command: Command, dialogue: Dialogue) -> Finished {
    run(command, dialogue, &limits(&CancellationToken::new(), NEVER)).await.expect("it ran")
}

#[tokio::test]
async fn both_outputs_arrive_in_order_and_bounded() {
    let finished = finish(shell("echo one; echo two >&2; exit 3"), Dialogue::None).await;
    assert_eq!(finished.output_tail, "one\ntwo\n");
    assert!(matches!(finished.ending, Ending::Exited(status) if status.code() == Some(3)));

    let finished = finish(shell("yes | head -c 3000000; echo; echo the end"), Dialogue::None).await;
    assert!(finished.output_tail.len() <= 1024 && finished.output_tail.ends_with("the end\n"));
    assert!(finished.output_tail.starts_with('['), "it says how much is missing: {}", finished.output_tail);
}

#[tokio::test]
async fn a_request_is_answered_apart_from_the_prints() {
    let finished = finish(shell("cat; echo print >&2"), Dialogue::Request(b"question".to_vec())).await;
    assert_eq!((finished.answer.as_slice(), finished.output_tail.as_str()), (&b"question"[..], "print\n"));
}

#[tokio::test]
async fn a_child_that_does_not_read_its_request_still_ends() {
    let finished = finish(shell("exit 0"), Dialogue::Request(vec![b'x'; 1 << 20])).await;
    assert!(matches!(finished.ending, Ending::Exited(status) if status.success()));
}

#[tokio::test]
async fn a_timeout_ends_the_whole_group() {
    let family = Family::new();
    let cancel = CancellationToken::new();
    // Long enough for a shell to start on a busy machine: nobody comes to the FIFO of one that is ended before.
    let limits = limits(&cancel, Duration::from_secs(4));
    let (finished, fifo) =
        tokio::join!(run(family.command(""), Dialogue::None, &limits), Family::started(family.directory.path()));
    assert_eq!(finished.expect("it ran").ending, Ending::TimedOut);
    Family::over(fifo).await;
}

#[tokio::test]
async fn processes_that_ignore_sigterm_are_killed() {
    let family = Family::new();
    let cancel = CancellationToken::new();
    let limits = limits(&cancel, NEVER);
    let cancelling = async {
        let fifo = Family::started(family.directory.path()).await;
        cancel.cancel();
        fifo
    };
    let (finished, fifo) = tokio::join!(run(family.command("trap '' TERM;"), Dialogue::None, &limits), cancelling);
    assert_eq!(finished.expect("it ran").ending, Ending::Cancelled);
    Family::over(fifo).await;
}

#[tokio::test]
async fn dropping_the_future_kills_the_whole_group() {
    let family = Family::new();
    let cancel = CancellationToken::new();
    let limits = limits(&cancel, NEVER);
    let fifo = {
        let running = run(family.command(""), Dialogue::None, &limits);
        tokio::select! {
            _ = running => panic!("it never ends by itself"),
            fifo = Family::started(family.directory.path()) => fifo,
        }
    };
    Family::over(fifo).await;
}

#[tokio::test]
async fn what_a_child_leaves_behind_ends_with_it() {
    let family = Family::new();
    let mut command = shell("exec 9>life; sleep 600 & echo started >&9");
    command.current_dir(family.directory.path());
    let cancel = CancellationToken::new();
    let limits = limits(&cancel, NEVER);
    let (finished, fifo) =
        tokio::join!(run(command, Dialogue::None, &limits), Family::started(family.directory.path()));
    assert!(matches!(finished.expect("it ran").ending, Ending::Exited(status) if status.success()));
    Family::over(fifo).await;
}

/// A job that used up the machine's memory could take the worker or the broker along.
#[tokio::test]
async fn a_job_and_what_it_starts_go_first_when_memory_runs_out() {
    let finished = finish(shell("cat /proc/$$/oom_score_adj; cat /proc/self/oom_score_adj"), Dialogue::None).await;
    assert_eq!(finished.output_tail, "1000\n1000\n");
}

#[tokio::test]
async fn a_foreign_signal_is_reported() {
    let finished = finish(shell("kill -SEGV $$"), Dialogue::None).await;
    assert!(matches!(finished.ending, Ending::Exited(status) if status.signal() == Some(11)));
}

#[tokio::test]
async fn a_missing_program_does_not_start() {
    let cancel = CancellationToken::new();
    let outcome = run(Command::new("no-such-program-here"), Dialogue::None, &limits(&cancel, NEVER)).await;
    assert!(matches!(outcome, Err(ProcessError::Start(error)) if error.kind() == io::ErrorKind::NotFound));
}
