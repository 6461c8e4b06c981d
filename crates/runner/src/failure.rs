//! Short ways to say why a job failed.

use messages::{Failure, FailureKind};

/// What helps where ONNX Runtime is missing or does not load.
pub(crate) const ONNXRUNTIME_REMEDY: &str = "set AUGUR_ONNXRUNTIME_LIBRARY to a libonnxruntime.so, or run `make setup`";

/// A failure without output.
pub(crate) fn failure(kind: FailureKind, message: impl Into<String>) -> Failure {
    Failure { kind, message: message.into(), output_tail: String::new(), suggestion: None }
}

/// Adds to a failure what is known beside its message.
pub(crate) trait FailureExt {
    /// Says what would help.
    fn suggest(self, suggestion: impl Into<String>) -> Self;
    /// Attaches what the process printed.
    fn with_output(self, output_tail: String) -> Self;
}

impl FailureExt for Failure {
    fn suggest(self, suggestion: impl Into<String>) -> Self {
        Self { suggestion: Some(suggestion.into()), ..self }
    }

    fn with_output(self, output_tail: String) -> Self {
        Self { output_tail, ..self }
    }
}

/// An error with its causes, as one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
