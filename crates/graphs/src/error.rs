//! What can go wrong with a graph, a model file or the cache.

use std::{io, path::PathBuf};

use messages::{ContentHash, Precision};
use thiserror::Error;

/// Why a model could not be read, built, costed or found.
#[derive(Debug, Error)]
pub enum GraphError {
    /// A file or folder could not be used.
    #[error("failed to {action} `{}`", path.display())]
    Io {
        /// What was attempted, e.g. `read`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The bytes are no ONNX model: cut short, empty, or something else entirely.
    #[error("`{}` is not an ONNX model: {reason}", path.display())]
    NotOnnx {
        /// The file.
        path: PathBuf,
        /// What is wrong with its bytes.
        reason: String,
    },
    /// The weights lie in files beside the model, which the cache cannot follow.
    #[error("`{}` keeps the weights of `{tensor}` in another file; save the model as one file", path.display())]
    ExternalWeights {
        /// The file.
        path: PathBuf,
        /// The first such tensor.
        tensor: String,
    },
    /// An operator whose output shapes are neither known nor given in the file.
    #[error("operator `{operator}` of node `{node}` is unknown and the file does not give its output shapes")]
    UnknownOperator {
        /// Its name, with its domain if that is not ONNX's own.
        operator: String,
        /// The node.
        node: String,
    },
    /// An operator that does not fit its inputs.
    #[error("failed to infer the output of node `{node}` ({operator}): {reason}")]
    Inference {
        /// The node.
        node: String,
        /// Its operator.
        operator: String,
        /// What does not fit.
        reason: String,
    },
    /// A shape that the model cannot take.
    #[error("{dimension} {asked} does not fit the model: {possible}")]
    ShapeMismatch {
        /// What was asked for, e.g. `sequence length`.
        dimension: &'static str,
        /// The value asked for.
        asked: u64,
        /// What is possible, e.g. `at most 512 is possible`.
        possible: String,
    },
    /// A dimension that the model needs and the shape does not give.
    #[error("the model needs a {dimension} for input `{input}`, and none is given")]
    MissingDimension {
        /// What is missing, e.g. `sequence length`.
        dimension: &'static str,
        /// The input that needs it.
        input: String,
    },
    /// A symbolic dimension that is neither batch, sequence nor image.
    #[error("input `{input}` has a dimension `{symbol}` that is neither batch, sequence nor image")]
    UnknownDimension {
        /// The input.
        input: String,
        /// Its dimension's name.
        symbol: String,
    },
    /// More distinct operators than a message can carry.
    #[error("the graph has {found} distinct operators; at most {max} are possible")]
    TooManyOperators {
        /// How many it has.
        found: usize,
        /// How many are possible.
        max: usize,
    },
    /// A name that cannot name a model.
    #[error("`{name}` cannot name a model: {reason}")]
    BadName {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A registration under a name that the zoo owns.
    #[error("`{name}` is a model of the zoo; register under another name")]
    ZooName {
        /// The name.
        name: String,
    },
    /// No model of that name.
    #[error("no model is named `{name}`{}", suggestion(nearest))]
    UnknownModel {
        /// The name asked for.
        name: String,
        /// Names like it, nearest first.
        nearest: Vec<String>,
    },
    /// No file with that content.
    #[error("model `{name}` with SHA-256 {sha256} is not in the cache{}", suggestion(nearest))]
    ModelMissing {
        /// The model's name.
        name: String,
        /// The content asked for.
        sha256: ContentHash,
        /// Names in the cache like it, nearest first.
        nearest: Vec<String>,
    },
    /// A registered file whose bytes have changed.
    #[error("file `{}` of model `{name}` is damaged: its SHA-256 is {found}, expected {expected}", path.display())]
    ModelCorrupt {
        /// The model's name.
        name: String,
        /// The file.
        path: PathBuf,
        /// The content that was registered.
        expected: ContentHash,
        /// The content found.
        found: ContentHash,
    },
    /// A registered model in another precision than the one asked for.
    #[error("model `{name}` computes in {found}, not {asked}; register its {asked} form under a name of its own")]
    OtherPrecision {
        /// The model's name.
        name: String,
        /// What its file computes in.
        found: Precision,
        /// What was asked for.
        asked: Precision,
    },
    /// A file of the cache that says which model a name means, and cannot be understood.
    #[error("`{}` does not name a model's content: {reason}", path.display())]
    BadRecord {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl GraphError {
    /// Adapts an [`io::Error`], for `map_err`.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

fn suggestion(nearest: &[String]) -> String {
    if nearest.is_empty() {
        return String::new();
    }
    let names: Vec<_> = nearest.iter().map(|name| format!("`{name}`")).collect();
    format!("; near it are {}", names.join(", "))
}
