//! The tabs' mail: commands go out on one stream per page, which is also its sign of life; reports come in.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{Path, Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use super::{Shared, lock};
use crate::protocol::{Command, Report};

/// Commands that wait for a page at most; it gets one at a time.
const COMMANDS_MAX: usize = 4;

/// Reports of a tab that wait for the pool at most. A page waits for the answer to each, so there are few.
const REPORTS_MAX: usize = 64;

/// The server's end of a tab's mailbox.
pub(super) struct Port {
    presence: watch::Sender<Presence>,
    commands: Option<mpsc::Sender<Command>>,
    reports: mpsc::Sender<Incoming>,
}

/// Whether a page is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Presence {
    /// How many pages have been there: a reload makes a new one.
    pub(crate) pages: u64,
    /// Whether the latest still is.
    pub(crate) is_there: bool,
}

/// A report and the way to answer it.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) report: Report,
    /// How many iterations more; dropping it says none.
    pub(crate) more: oneshot::Sender<u32>,
}

/// The pool's end of a tab's mailbox; removes it when dropped.
pub(crate) struct TabLink {
    shared: Arc<Shared>,
    tab: u64,
    pub(crate) presence: watch::Receiver<Presence>,
    pub(crate) reports: mpsc::Receiver<Incoming>,
}

impl std::fmt::Debug for TabLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TabLink").field("tab", &self.tab).finish_non_exhaustive()
    }
}

impl TabLink {
    pub(super) fn register(shared: Arc<Shared>, tab: u64) -> Self {
        let (presence_in, presence) = watch::channel(Presence::default());
        let (reports_in, reports) = mpsc::channel(REPORTS_MAX);
        let port = Port { presence: presence_in, commands: None, reports: reports_in };
        lock(&shared.tabs).insert(tab, port);
        Self { shared, tab, presence, reports }
    }

    /// The address of the tab's page.
    pub(crate) fn url(&self) -> String {
        format!("{}page/?tab={}", self.shared.root(), self.tab)
    }

    /// Sends a command; says whether a page is there to take it.
    pub(crate) fn send(&self, command: Command) -> bool {
        let commands = lock(&self.shared.tabs).get(&self.tab).and_then(|port| port.commands.clone());
        commands.is_some_and(|commands| commands.try_send(command).is_ok())
    }
}

impl Drop for TabLink {
    fn drop(&mut self) {
        lock(&self.shared.tabs).remove(&self.tab);
    }
}

/// Says that a page is gone once its stream is dropped.
struct Departure {
    shared: Arc<Shared>,
    tab: u64,
    page: u64,
}

impl Drop for Departure {
    fn drop(&mut self) {
        if let Some(port) = lock(&self.shared.tabs).get_mut(&self.tab) {
            // A page that was reloaded may go after its successor has come.
            port.presence.send_if_modified(|presence| {
                let is_latest = presence.pages == self.page && presence.is_there;
                presence.is_there &= !is_latest;
                is_latest
            });
        }
    }
}

/// The stream of a page, open as long as the page is.
pub(super) async fn commands(State(shared): State<Arc<Shared>>, Path((_, tab)): Path<(String, u64)>) -> Response {
    let (sender, receiver) = mpsc::channel(COMMANDS_MAX);
    let page = {
        let mut tabs = lock(&shared.tabs);
        let Some(port) = tabs.get_mut(&tab) else { return StatusCode::NOT_FOUND.into_response() };
        port.commands = Some(sender);
        let page = port.presence.borrow().pages + 1;
        port.presence.send_replace(Presence { pages: page, is_there: true });
        page
    };
    let departure = Departure { shared, tab, page };
    let lines = stream::unfold(
        (receiver, departure),
        |(mut receiver, departure): (mpsc::Receiver<Command>, Departure)| async move {
            let command = receiver.recv().await?;
            let line = line_of(&command)?;
            Some((Ok::<_, Infallible>(line), (receiver, departure)))
        },
    );
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

fn line_of(command: &Command) -> Option<Bytes> {
    match serde_json::to_vec(command) {
        Ok(mut line) => {
            line.push(b'\n');
            Some(Bytes::from(line))
        }
        Err(error) => {
            tracing::error!(%error, "a command has no JSON form");
            None
        }
    }
}

#[derive(Serialize)]
pub(super) struct Answer {
    more: u32,
}

pub(super) async fn report(
    State(shared): State<Arc<Shared>>,
    Path((_, tab)): Path<(String, u64)>,
    body: Bytes,
) -> Response {
    match serde_json::from_slice(&body) {
        Ok(report) => deliver(&shared, tab, report).await,
        Err(error) => {
            tracing::warn!(tab, %error, "a page reports what is not understood");
            StatusCode::BAD_REQUEST.into_response()
        }
    }
}

#[derive(Deserialize)]
pub(super) struct OutputQuery {
    job: String,
    name: String,
    element: String,
    dims: String,
}

pub(super) async fn output(
    State(shared): State<Arc<Shared>>,
    Path((_, tab)): Path<(String, u64)>,
    Query(query): Query<OutputQuery>,
    body: Bytes,
) -> Response {
    // A scalar has no dimensions at all.
    let dims = query.dims.split(',').filter(|dim| !dim.is_empty()).map(str::parse).collect();
    let Ok(dims) = dims else { return StatusCode::BAD_REQUEST.into_response() };
    let OutputQuery { job, name, element, .. } = query;
    deliver(&shared, tab, Report::Output { job, name, element, dims, bytes: body.to_vec() }).await
}

async fn deliver(shared: &Shared, tab: u64, report: Report) -> Response {
    let reports = lock(&shared.tabs).get(&tab).map(|port| port.reports.clone());
    let Some(reports) = reports else { return StatusCode::NOT_FOUND.into_response() };
    let (more, answer) = oneshot::channel();
    if reports.send(Incoming { report, more }).await.is_err() {
        return StatusCode::NOT_FOUND.into_response();
    }
    Json(Answer { more: answer.await.unwrap_or(0) }).into_response()
}
