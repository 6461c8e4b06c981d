//! Asks a child process whether ONNX Runtime loads: a bad library must not take this process with it.

use std::{path::Path, process::Command, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    BENCHMARK_SUBCOMMAND, RunnerError, RunnerSettings,
    process::{self, Dialogue, Ending, Limits, ProcessError},
    protocol::{Answer, Request},
};

/// Longest time for a library to load: a cold disk reads its 30 to 400 MB within this.
const PROBE_TIMEOUT: Duration = Duration::from_mins(1);

/// The version of ONNX Runtime at `library`, as a child of `executable` loads it.
///
/// # Errors
///
/// [`RunnerError::Start`] if `executable` cannot be started, [`RunnerError::Library`] if the library does not load.
pub async fn onnxruntime_version(executable: &Path, library: &Path) -> Result<String, RunnerError> {
    let bad = |reason: String| RunnerError::Library { library: library.to_owned(), reason };
    let start = |source| RunnerError::Start { executable: executable.to_owned(), source };
    let request = Request::Probe { library: library.to_owned() };
    let mut line = serde_json::to_vec(&request).map_err(|error| bad(error.to_string()))?;
    line.push(b'\n');
    let mut command = Command::new(executable);
    command.arg(BENCHMARK_SUBCOMMAND);
    let limits = Limits {
        timeout: PROBE_TIMEOUT,
        cancel: &CancellationToken::new(),
        output_tail_bytes_max: RunnerSettings::OUTPUT_TAIL_BYTES_MAX,
        memory_bytes_max: None,
        progress: &|_| {},
    };
    let finished = process::run(command, Dialogue::Request(line), &limits).await.map_err(|error| match error {
        ProcessError::Start(source) | ProcessError::Lost(source) => start(source),
    })?;
    match (finished.ending, serde_json::from_slice::<Answer>(&finished.answer)) {
        (Ending::Exited(_), Ok(Answer::Probe { version })) => Ok(version),
        (Ending::Exited(_), Ok(Answer::Failed { message, .. })) => Err(bad(message)),
        (Ending::TimedOut, _) => Err(bad(format!("it did not load within {} s", PROBE_TIMEOUT.as_secs()))),
        (Ending::Exited(status), _) => {
            Err(bad(format!("the process that loaded it ended with {status}: {}", finished.output_tail.trim())))
        }
        (Ending::Cancelled, _) => Err(bad("the probe was cancelled".to_owned())),
    }
}
