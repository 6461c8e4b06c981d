//! The plain queries: each reads once and answers with JSON.

use std::str::FromStr;

use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::header,
    response::{IntoResponse, Response},
};
use messages::{IdError, JobId, RunId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{ApiError, state::Shared};

/// Rows of a list that are given unless asked otherwise.
const LIMIT_DEFAULT: usize = 50;

/// Most rows of a list that may be asked for.
const LIMIT_MAX: usize = 1_000;

/// How long a run may be open before its configurations may be proposed again, in seconds: a queue may be long.
const QUEUED_S_MAX: i64 = 7 * 24 * 3_600;

/// How long a configuration that failed, or a dead one, is left alone, in seconds.
const FAILED_S_MAX: i64 = 24 * 3_600;

/// Answers of `/api/health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `ok`; anything else is an error answer.
    pub status: String,
    /// Augur's version.
    pub version: String,
    /// Where each stream is read on.
    pub streams: Vec<store::OffsetRow>,
    /// Commits since the aggregator started.
    pub changes: u64,
}

/// A JSON answer that nobody keeps.
pub(crate) struct Answer<T>(pub(crate) T);

impl<T: Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        ([(header::CACHE_CONTROL, "no-store"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")], Json(self.0))
            .into_response()
    }
}

pub(crate) type Answered<T> = Result<Answer<T>, ApiError>;

/// Query parameters, checked.
pub(crate) type Parameters<T> = Result<Query<T>, QueryRejection>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limit {
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OfRun {
    run: Option<String>,
}

pub(crate) async fn health(State(shared): State<Shared>) -> Answered<Health> {
    let streams = shared.read(store::Store::stream_offsets).await?;
    let changes = *shared.state.changes.borrow();
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Ok(Answer(Health { status: "ok".to_owned(), version, streams, changes }))
}

pub(crate) async fn runs(State(shared): State<Shared>, limit: Parameters<Limit>) -> Answered<Vec<store::RunSummary>> {
    let limit = rows(limit)?;
    shared.read(move |store| store.runs(limit)).await.map(Answer)
}

pub(crate) async fn run(State(shared): State<Shared>, Path(id): Path<String>) -> Answered<store::RunSummary> {
    let run: RunId = parse(&id)?;
    shared.read(move |store| store.run(run)).await?.map(Answer).ok_or(ApiError::NoSuchRun { id })
}

pub(crate) async fn run_results(
    State(shared): State<Shared>,
    Path(id): Path<String>,
) -> Answered<Vec<store::ResultRow>> {
    let run: RunId = parse(&id)?;
    let results = shared.read(move |store| store.run(run)?.map(|_| store.run_results(run)).transpose()).await?;
    results.map(Answer).ok_or(ApiError::NoSuchRun { id })
}

pub(crate) async fn latest_results(
    State(shared): State<Shared>,
    limit: Parameters<Limit>,
) -> Answered<Vec<store::ResultRow>> {
    let limit = rows(limit)?;
    shared.read(move |store| store.latest_results(limit)).await.map(Answer)
}

pub(crate) async fn job(State(shared): State<Shared>, Path(id): Path<String>) -> Answered<store::ResultRow> {
    let job: JobId = parse(&id)?;
    shared.read(move |store| store.job(job)).await?.map(Answer).ok_or(ApiError::NoSuchJob { id })
}

pub(crate) async fn iterations(State(shared): State<Shared>, Path(id): Path<String>) -> Answered<Vec<f64>> {
    let job: JobId = parse(&id)?;
    let iterations = shared.read(move |store| store.job(job)?.map(|_| store.iterations_ms(job)).transpose()).await?;
    iterations.map(Answer).ok_or(ApiError::NoSuchJob { id })
}

pub(crate) async fn job_attempts(
    State(shared): State<Shared>,
    Path(id): Path<String>,
) -> Answered<Vec<store::AttemptRow>> {
    let job: JobId = parse(&id)?;
    let attempts = shared.read(move |store| store.attempts(job)).await?;
    if attempts.is_empty() { Err(ApiError::NoAttempts { id }) } else { Ok(Answer(attempts)) }
}

pub(crate) async fn run_attempts(
    State(shared): State<Shared>,
    Path(id): Path<String>,
) -> Answered<Vec<store::AttemptRow>> {
    let run: RunId = parse(&id)?;
    let attempts = shared.read(move |store| store.run(run)?.map(|_| store.run_attempts(run)).transpose()).await?;
    attempts.map(Answer).ok_or(ApiError::NoSuchRun { id })
}

pub(crate) async fn workers(State(shared): State<Shared>) -> Answered<Vec<store::WorkerRow>> {
    shared.read(store::Store::workers).await.map(Answer)
}

pub(crate) async fn quarantine(
    State(shared): State<Shared>,
    of: Parameters<OfRun>,
) -> Answered<Vec<store::HeldBackRow>> {
    let run = checked(of)?.run.map(|id| parse(&id)).transpose()?;
    shared.read(move |store| store.quarantined(run)).await.map(Answer)
}

pub(crate) async fn withheld(State(shared): State<Shared>) -> Answered<store::WithheldRows> {
    let now = Timestamp::now().as_seconds();
    let [due_since, failed_since] =
        [QUEUED_S_MAX, FAILED_S_MAX].map(|age_s| Timestamp::from_micros((now - age_s) * 1_000_000));
    shared.read(move |store| store.withheld(due_since, failed_since)).await.map(Answer)
}

pub(crate) async fn measured(State(shared): State<Shared>) -> Answered<Vec<store::MeasuredRow>> {
    shared.read(store::Store::measured).await.map(Answer)
}

pub(crate) async fn coverage(State(shared): State<Shared>) -> Answered<Vec<store::CoverageCell>> {
    shared.read(store::Store::coverage).await.map(Answer)
}

pub(crate) async fn releases(State(shared): State<Shared>) -> Answered<Vec<store::ReleaseRow>> {
    shared.read(store::Store::releases).await.map(Answer)
}

pub(crate) async fn prediction_errors(
    State(shared): State<Shared>,
    of: Parameters<OfRun>,
) -> Answered<Vec<store::PredictionErrorRow>> {
    let run = checked(of)?.run.map(|id| parse(&id)).transpose()?;
    shared.read(move |store| store.prediction_errors(run)).await.map(Answer)
}

pub(crate) async fn digest(State(shared): State<Shared>) -> Answered<Vec<store::TableDigest>> {
    shared.read(store::Store::digest).await.map(Answer)
}

/// Reads an id of the path or the query.
pub(crate) fn parse<T: FromStr<Err = IdError>>(text: &str) -> Result<T, ApiError> {
    text.parse().map_err(|error: IdError| ApiError::BadRequest {
        reason: error.to_string(),
        hint: "ids look like 0193fa4a-7b1c-7000-8000-000000000001",
    })
}

/// Takes the query parameters or says what is wrong with them.
pub(crate) fn checked<T>(parameters: Parameters<T>) -> Result<T, ApiError> {
    parameters.map(|Query(parameters)| parameters).map_err(|rejection| ApiError::BadRequest {
        reason: rejection.body_text(),
        hint: "docs/operator.md lists each address with its parameters",
    })
}

fn rows(limit: Parameters<Limit>) -> Result<usize, ApiError> {
    let limit = checked(limit)?.limit.unwrap_or(LIMIT_DEFAULT);
    if (1..=LIMIT_MAX).contains(&limit) {
        return Ok(limit);
    }
    Err(ApiError::BadRequest { reason: format!("limit is {limit}"), hint: "1 to 1000 rows are possible" })
}
