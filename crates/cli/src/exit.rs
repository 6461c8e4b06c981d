//! Exit codes, and errors as people see them.

use std::{io::Write as _, process::ExitCode};

use broker::BrokerError;
use pipeline::PipelineError;

use crate::api::ApiError;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It did what was asked.
    Done = 0,
    /// It did, and the answer is unwelcome: a failed test, drift, a regression.
    Unwelcome = 1,
    /// Wrong usage, settings or input.
    Usage = 2,
    /// A service did not answer.
    Unreachable = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Prints an error with its chain of causes and a hint, and chooses its exit code.
pub(crate) fn report(error: &anyhow::Error) -> Exit {
    let mut chain = error.chain().map(ToString::to_string).collect::<Vec<_>>();
    chain.dedup();
    let exit = code(error);
    let first = |depth| if depth == 0 { "error: " } else { "  caused by: " };
    let mut lines: Vec<String> =
        chain.iter().enumerate().map(|(depth, text)| format!("{}{text}", first(depth))).collect();
    lines.extend(hint(error, exit).map(|hint| format!("hint: {hint}")));
    // Where nobody reads it, the exit code still tells.
    drop(writeln!(std::io::stderr(), "{}", lines.join("\n")));
    exit
}

fn code(error: &anyhow::Error) -> Exit {
    let unreachable = error.chain().any(|cause| {
        cause.downcast_ref::<PipelineError>().is_some_and(PipelineError::is_unreachable)
            || matches!(
                cause.downcast_ref(),
                Some(BrokerError::Connect { .. } | BrokerError::Version { .. } | BrokerError::Unconfirmed { .. })
            )
            || matches!(cause.downcast_ref(), Some(ApiError::Unreachable { .. }))
            || cause.downcast_ref::<reqwest::Error>().is_some_and(|error| error.is_connect() || error.is_timeout())
    });
    if unreachable { Exit::Unreachable } else { Exit::Usage }
}

fn hint(error: &anyhow::Error, exit: Exit) -> Option<String> {
    if let Some(ApiError::Answer { hint: Some(hint), .. }) = error.chain().find_map(|cause| cause.downcast_ref()) {
        return Some(hint.clone());
    }
    if let Some(graphs::GraphError::ModelMissing { .. }) = error.chain().find_map(|cause| cause.downcast_ref()) {
        return Some("`augur model list` shows the models; `augur model register NAME FILE.onnx` adds one".to_owned());
    }
    if let Some(store::StoreError::Locked { .. }) = error.chain().find_map(|cause| cause.downcast_ref()) {
        return Some("one process owns a database: stop the aggregator, or name another file with --db".to_owned());
    }
    if exit != Exit::Unreachable {
        return None;
    }
    if error.chain().any(|cause| cause.downcast_ref::<ApiError>().is_some()) {
        return Some("is an aggregator running (`augur aggregator start`, `augur up`) at `aggregator_url`?".to_owned());
    }
    if error.chain().any(|cause| cause.downcast_ref::<reqwest::Error>().is_some()) {
        return Some("does RabbitMQ's management API listen at `broker.management_url`?".to_owned());
    }
    Some("set AUGUR_AMQP_URL to a running broker, or start one with `augur up`; `augur doctor` looks closer".to_owned())
}
