//! The aggregator's HTTP API, asked.

use std::time::Duration;

use reqwest::StatusCode;
use serde::{Deserialize, de::DeserializeOwned};
use thiserror::Error;

/// Longest wait for an answer; a long poll asks for less.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);

/// Why the API gave no answer.
#[derive(Debug, Error)]
pub(crate) enum ApiError {
    /// Nobody is there.
    #[error("failed to reach the aggregator at {url}")]
    Unreachable { url: String, source: reqwest::Error },
    /// It answered with an error.
    #[error("the aggregator answers: {error}")]
    Answer { status: StatusCode, error: String, hint: Option<String> },
    /// It answered something that this version does not understand.
    #[error("the aggregator's answer to {url} is not understood")]
    Malformed { url: String, source: reqwest::Error },
}

#[derive(Deserialize)]
struct ErrorBody {
    error: String,
    hint: Option<String>,
}

/// A client of the API.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    base: String,
    client: reqwest::Client,
}

impl Api {
    pub(crate) fn new(base: &str) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder().timeout(ANSWER_TIMEOUT).no_proxy().build()?;
        Ok(Self { base: base.trim_end_matches('/').to_owned(), client })
    }

    /// Asks `path`, e.g. `/api/runs`.
    ///
    /// # Errors
    ///
    /// [`ApiError`]
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        let url = format!("{}{path}", self.base);
        let response = self
            .client
            .get(&url)
            .send()
            .await
            .map_err(|source| ApiError::Unreachable { url: self.base.clone(), source })?;
        let status = response.status();
        if !status.is_success() {
            let text = response.text().await.unwrap_or_default();
            let body =
                serde_json::from_str(&text).unwrap_or(ErrorBody { error: format!("status {status}"), hint: None });
            return Err(ApiError::Answer { status, error: body.error, hint: body.hint });
        }
        response.json().await.map_err(|source| ApiError::Malformed { url, source })
    }
}
