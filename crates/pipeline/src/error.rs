//! What ends a stage.

use std::path::PathBuf;

use broker::BrokerError;
use thiserror::Error;

/// Why a stage could not start or go on.
#[derive(Debug, Error)]
pub enum PipelineError {
    /// The broker.
    #[error("the broker failed the {stage}")]
    Broker {
        /// Which stage, e.g. `worker`.
        stage: &'static str,
        /// What it said.
        source: BrokerError,
    },
    /// Part of a run is on its way and the rest is not.
    #[error("run {run_id} is incomplete: {confirmed} of {total} jobs were confirmed by the broker")]
    Incomplete {
        /// The run.
        run_id: messages::RunId,
        /// Jobs that the broker has stored.
        confirmed: usize,
        /// Jobs of the run.
        total: usize,
        /// Why the first of the others failed.
        source: BrokerError,
    },
    /// A message of ours is too large.
    #[error("failed to encode a message")]
    Encode(#[from] messages::EncodeError),
    /// The database.
    #[error("the database failed the {stage}")]
    Store {
        /// Which stage.
        stage: &'static str,
        /// What it said.
        source: store::StoreError,
    },
    /// The suite.
    #[error(transparent)]
    Suite(#[from] crate::SuiteError),
    /// A model's graph.
    #[error("failed to describe model `{model}`")]
    Graph {
        /// The model.
        model: String,
        /// What is wrong.
        source: graphs::GraphError,
    },
    /// The predictors or their releases.
    #[error("the predictors failed the {stage}")]
    Predictors {
        /// Which stage.
        stage: &'static str,
        /// What is wrong.
        source: predictors::PredictorError,
    },
    /// The training table.
    #[error("the training table failed the {stage}")]
    Features {
        /// Which stage.
        stage: &'static str,
        /// What is wrong.
        source: features::FeatureError,
    },
    /// The planner.
    #[error("failed to plan the next benchmarks")]
    Planner(#[from] planner::PlannerError),
    /// It is not known what would measure.
    #[error("{} holds no measurement yet, and no device is named to begin with", directory.display())]
    NoDevice {
        /// Where measurements were looked for.
        directory: PathBuf,
    },
    /// A file of constraints says what cannot be.
    #[error("the constraints in {} are not valid: {reason}", path.display())]
    Constraints {
        /// The file.
        path: PathBuf,
        /// What is wrong there.
        reason: String,
    },
    /// Jobs would wait for ever.
    #[error("nothing was queued for {platform}: {reason}")]
    Unserved {
        /// The platform.
        platform: messages::Platform,
        /// Why no worker would take them.
        reason: String,
    },
    /// A file of ours.
    #[error("failed to {action} {path}")]
    File {
        /// What was attempted, e.g. `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// What an archive holds is not what the stream of that name was.
    #[error(
        "{} ends with the message {last} of another result stream (this one has {found} there): export into another \
         directory", directory.display()
    )]
    OtherStream {
        /// The archive.
        directory: PathBuf,
        /// Offset and id of its last message.
        last: String,
        /// What the stream has in its place.
        found: String,
    },
    /// A task of ours ended by a panic.
    #[error("a task of the {stage} panicked")]
    Panicked {
        /// Which stage.
        stage: &'static str,
        /// What is known.
        source: tokio::task::JoinError,
    },
}

impl PipelineError {
    pub(crate) fn broker(stage: &'static str) -> impl FnOnce(BrokerError) -> Self {
        move |source| Self::Broker { stage, source }
    }

    pub(crate) fn store(stage: &'static str) -> impl FnOnce(store::StoreError) -> Self {
        move |source| Self::Store { stage, source }
    }

    pub(crate) fn predictors(stage: &'static str) -> impl FnOnce(predictors::PredictorError) -> Self {
        move |source| Self::Predictors { stage, source }
    }

    pub(crate) fn features(stage: &'static str) -> impl FnOnce(features::FeatureError) -> Self {
        move |source| Self::Features { stage, source }
    }

    /// Whether the same call may succeed later without anyone's help.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, Self::Broker { source, .. } if source.is_transient())
    }

    /// Whether jobs may be with the broker where this is why a run could not be submitted: it confirmed some, or one
    /// could not be encoded when others were on their way.
    pub fn is_partly_submitted(&self) -> bool {
        matches!(self, Self::Incomplete { confirmed: 1.., .. } | Self::Encode(_))
    }

    /// Whether the broker could not be reached.
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::Broker {
                source: BrokerError::Connect { .. } | BrokerError::Unconfirmed { .. } | BrokerError::Version { .. },
                ..
            }
        )
    }
}
