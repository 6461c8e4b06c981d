//! Why nothing could be proposed.

use features::FeatureError;
use messages::ModelRef;
use predictors::PredictorError;
use thiserror::Error;

/// Why nothing could be proposed.
#[derive(Debug, Error)]
pub enum PlannerError {
    /// The search space has more configurations than are looked at.
    #[error("the search space has {found} configurations, {limit} are possible; name fewer models, sizes or threads")]
    TooManyCandidates {
        /// Configurations that it has.
        found: u128,
        /// How many are possible.
        limit: usize,
    },
    /// The costs of a model at a shape could not be had.
    #[error("failed to get the graph costs of `{}` at {shape}", model.name)]
    Costs {
        /// The model.
        model: ModelRef,
        /// The shape, for people.
        shape: String,
        /// What the source of costs says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Configurations could not be described.
    #[error("failed to describe the candidates")]
    Describe {
        /// What is missing.
        #[from]
        source: FeatureError,
    },
    /// The predictors could not be asked.
    #[error("failed to predict the candidates")]
    Predict {
        /// What they say.
        #[from]
        source: PredictorError,
    },
}
