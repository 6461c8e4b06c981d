//! The benchmark child: a process that measures one configuration, answers and ends.
//!
//! It is a process of its own so that its peak memory is that job's, and so that a crash, an out-of-memory kill or an
//! endless loop in the backend is a result and not a lost worker.

mod calm;
mod inputs;
mod machine;
mod power;
mod session;

use std::{
    fs::File,
    io::{self, BufRead, Read, Write},
    os::fd::AsFd,
    process::ExitCode,
};

use messages::FailureKind;
use serde::Serialize;

use crate::{
    failure::failure,
    protocol::{Answer, REQUEST_BYTES_MAX, Report, Request},
};

pub(crate) use inputs::bytes as input_bytes;
pub(crate) use machine::Watch;
pub(crate) use session::is_out_of_memory;

/// Reads one request from standard input, does it and writes one answer to standard output.
///
/// Standard output carries nothing else: what libraries print there goes to standard error. The exit code says
/// whether there was an answer, not whether it is a good one.
pub fn benchmark_child() -> ExitCode {
    match converse() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the benchmark child cannot answer: {error}");
            ExitCode::FAILURE
        }
    }
}

fn converse() -> io::Result<()> {
    let mut answers = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    nix::unistd::dup2_stdout(io::stderr())?;
    let mut line = String::new();
    io::stdin().lock().take(REQUEST_BYTES_MAX).read_line(&mut line)?;
    let answer = match serde_json::from_str::<Request>(&line) {
        Ok(request) => answer(request, &mut |report| write_line(&mut answers, &report)),
        Err(error) => {
            Answer::failed(failure(FailureKind::Machine, format!("the benchmark child got no request: {error}")))
        }
    };
    write_line(&mut answers, &answer)
}

fn write_line(answers: &mut File, line: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_string(line)?;
    text.push('\n');
    answers.write_all(text.as_bytes())
}

fn answer(request: Request, report: &mut dyn FnMut(Report) -> io::Result<()>) -> Answer {
    let done = match request {
        Request::Probe { library } => session::version(&library).map(|version| Answer::Probe { version }),
        Request::Benchmark(request) => session::measure(&request, report).map(Box::new).map(Answer::Benchmark),
    };
    done.unwrap_or_else(Answer::failed)
}
