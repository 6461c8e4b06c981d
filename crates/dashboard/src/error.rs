//! What goes wrong, and how a client is told: `{"error": …, "hint": …}`.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use predictors::PredictorError;
use serde::Serialize;
use store::StoreError;
use thiserror::Error;

/// Why the dashboard ended.
#[derive(Debug, Error)]
pub enum DashboardError {
    /// The listener broke.
    #[error("failed to serve the dashboard")]
    Serve {
        /// Why.
        source: std::io::Error,
    },
}

/// Why a request has no other answer.
#[derive(Debug, Error)]
pub(crate) enum ApiError {
    /// An id or a parameter is malformed.
    #[error("{reason}")]
    BadRequest { reason: String, hint: &'static str },
    /// No such run.
    #[error("no run {id} is known")]
    NoSuchRun { id: String },
    /// No such job, or it has not ended.
    #[error("no result of job {id} is known")]
    NoSuchJob { id: String },
    /// No such job, or no attempt at it has ended.
    #[error("no attempt at job {id} is known")]
    NoAttempts { id: String },
    /// No such path.
    #[error("there is nothing at this address")]
    NoSuchPath,
    /// Something else than GET.
    #[error("this API only reads")]
    ReadOnly,
    /// Too many clients wait.
    #[error("too many clients wait already")]
    Busy,
    /// The store failed; what it says stays in the log, since it may name files.
    #[error("the database could not be read")]
    Store(#[from] StoreError),
    /// A read panicked.
    #[error("the database could not be read")]
    Panicked,
    /// Nothing was trained yet.
    #[error("there is no release of predictors yet")]
    NoRelease,
    /// The release knows no such name.
    #[error("the current release did not learn from a {what} `{name}`")]
    NotLearned { what: &'static str, name: String },
    /// The release cannot be used; what it says stays in the log, since it may name files.
    #[error("the current release cannot be asked")]
    Predictors(#[from] PredictorError),
}

impl ApiError {
    fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest { .. } => StatusCode::BAD_REQUEST,
            Self::NoSuchRun { .. }
            | Self::NoSuchJob { .. }
            | Self::NoAttempts { .. }
            | Self::NoSuchPath
            | Self::NoRelease
            | Self::NotLearned { .. } => StatusCode::NOT_FOUND,
            Self::ReadOnly => StatusCode::METHOD_NOT_ALLOWED,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Store(_) | Self::Panicked | Self::Predictors(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::BadRequest { hint, .. } => hint,
            Self::NoSuchRun { .. } => "`augur run list` shows the runs that have begun",
            Self::NoSuchJob { .. } => "a job is known here once its result has arrived",
            Self::NoAttempts { .. } => "a job is known here once an attempt at it has ended",
            Self::NoSuchPath => "the API begins at /api/health",
            Self::ReadOnly => "use GET; jobs are submitted through the broker",
            Self::Busy => "try again in a few seconds",
            Self::Store(_) | Self::Panicked | Self::Predictors(_) => "the aggregator's log says why",
            Self::NoRelease => "the updater trains one once 20 configurations are measured",
            Self::NotLearned { .. } => {
                "`augur predictor show --format json` names what it learned from; `augur predictor predict` answers for \
                 other models and devices too"
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body {
            error: String,
            hint: &'static str,
        }
        if let Self::Store(error) = &self {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            tracing::error!(%error, cause, "a read for the dashboard failed");
        }
        if let Self::Predictors(error) = &self {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            tracing::error!(%error, cause, "a prediction for the dashboard failed");
        }
        let body = Body { error: self.to_string(), hint: self.hint() };
        (self.status(), [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
    }
}
