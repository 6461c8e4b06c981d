//! `augur job show`: how a job ended, or what became of it so far.

use dashboard::RunState;
use messages::JobId;
use reqwest::StatusCode;
use serde::Serialize;
use store::{AttemptRow, ResultRow};

use crate::{
    api::{Api, ApiError},
    commands::{
        attempts::{AttemptText, paragraphs},
        run::result_details,
        waiting::DEAD,
    },
    context::Context,
    exit::Exit,
    output::{self, Format},
};

/// A job that has a result.
#[derive(Serialize)]
struct EndedJob {
    #[serde(flatten)]
    result: ResultRow,
    attempts: Vec<AttemptRow>,
}

/// A job of which only failed attempts are known.
#[derive(Serialize)]
struct OpenJob {
    job_id: String,
    run_id: String,
    case: Option<String>,
    /// `pending` or `dead`.
    status: &'static str,
    attempts: Vec<AttemptRow>,
}

pub(super) async fn show(job: JobId, format: Format, context: &Context) -> anyhow::Result<Exit> {
    let api = context.api()?;
    let result: Result<ResultRow, ApiError> = api.get(&format!("/api/jobs/{job}")).await;
    let unknown = match result {
        Ok(result) => {
            let attempts = attempts(&api, job).await?;
            show_ended(&EndedJob { result, attempts }, format)?;
            return Ok(Exit::Done);
        }
        Err(error @ ApiError::Answer { status: StatusCode::NOT_FOUND, .. }) => error,
        Err(error) => return Err(error.into()),
    };
    let attempts = attempts(&api, job).await?;
    let Some(last) = attempts.last() else { return Err(unknown.into()) };
    let state: RunState = api.get(&format!("/api/runs/{}/state", last.run_id)).await?;
    // The last attempt says that it died, the state whether it was sent back since; the state may list only some.
    let is_listed = state.dead.iter().any(|dead| dead.job_id == last.job_id);
    let is_cut = state.dead.len() < state.run.dead as usize;
    let is_dead = last.next.as_deref() == Some("dead-letter") && (is_listed || is_cut);
    let open = OpenJob {
        job_id: last.job_id.clone(),
        run_id: last.run_id.clone(),
        case: last.case.clone(),
        status: if is_dead { DEAD } else { "pending" },
        attempts,
    };
    show_open(&open, format)?;
    Ok(Exit::Done)
}

/// The attempts of a job in their order; none if nothing is known of it.
async fn attempts(api: &Api, job: JobId) -> Result<Vec<AttemptRow>, ApiError> {
    match api.get(&format!("/api/jobs/{job}/attempts")).await {
        Err(ApiError::Answer { status: StatusCode::NOT_FOUND, .. }) => Ok(Vec::new()),
        answer => answer,
    }
}

fn show_ended(job: &EndedJob, format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::print(&serde_json::to_string_pretty(job)?);
    }
    output::print(&result_details(&job.result).to_string())?;
    let failed: Vec<_> = job.attempts.iter().filter(|attempt| attempt.next.is_some()).map(AttemptText::from).collect();
    if failed.is_empty() { Ok(()) } else { output::print(&format!("\n{}", paragraphs(failed))) }
}

fn show_open(job: &OpenJob, format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::print(&serde_json::to_string_pretty(job)?);
    }
    let OpenJob { job_id, run_id, case, status, attempts } = job;
    let case = output::text(case.as_ref());
    let history = paragraphs(attempts.iter().map(AttemptText::from));
    output::print(&format!("{status}: {case}\njob {job_id} of run {run_id}\n\n{history}"))?;
    if *status == DEAD {
        eprintln!("hint: `augur dead-letter replay --job {job_id}` sends it back to its lane");
    }
    Ok(())
}
