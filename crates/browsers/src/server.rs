//! The pool's own HTTP server, on 127.0.0.1 only: the page, the runtime, models, inputs, and the tabs' mail.
//!
//! Every path begins with a random token, and requests for another host or from another origin are refused, so that
//! neither other local pages nor rebound names can talk to it. The headers make pages cross-origin isolated, without
//! which there are no threads in WebAssembly.

mod files;
mod mail;

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use messages::ContentHash;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::BrowserError;

pub(crate) use mail::{Incoming, TabLink};

/// Largest body that a page may send, in bytes: one output tensor.
const BODY_BYTES_MAX: usize = 256 << 20;

/// The server, running until dropped.
#[derive(Debug)]
pub(crate) struct Server {
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

/// What requests are answered from.
struct Shared {
    address: SocketAddr,
    token: String,
    runtime_directory: PathBuf,
    models: Mutex<HashMap<ContentHash, Model>>,
    inputs: Mutex<HashMap<String, Vec<Vec<u8>>>>,
    tabs: Mutex<HashMap<u64, mail::Port>>,
    status: OnceLock<Box<dyn Fn() -> String + Send + Sync>>,
}

/// A file that pages may fetch, as long as a job needs it.
#[derive(Debug)]
struct Model {
    path: PathBuf,
    jobs: usize,
}

/// Lets pages fetch a model and a job's inputs until dropped.
pub(crate) struct Offer {
    shared: Arc<Shared>,
    sha256: ContentHash,
    job: String,
}

impl Server {
    /// Starts serving on a free port.
    pub(crate) async fn start(runtime_directory: PathBuf) -> Result<Self, BrowserError> {
        let failed = |source| BrowserError::Serve { source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
        let shared = Arc::new(Shared {
            address: listener.local_addr().map_err(failed)?,
            token: format!("{}{}", uuid::Uuid::now_v7().simple(), uuid::Uuid::now_v7().simple()),
            runtime_directory,
            models: Mutex::default(),
            inputs: Mutex::default(),
            tabs: Mutex::default(),
            status: OnceLock::new(),
        });
        let router = router(Arc::clone(&shared));
        let serving = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the browser pool's server broke");
            }
        });
        Ok(Self { shared, serving })
    }

    /// Decides what `/status` answers.
    pub(crate) fn tell_status(&self, status: impl Fn() -> String + Send + Sync + 'static) {
        if self.shared.status.set(Box::new(status)).is_err() {
            tracing::debug!("the status is told already");
        }
    }

    /// Where `/status` is.
    pub(crate) fn status_url(&self) -> String {
        format!("{}status", self.shared.root())
    }

    /// Makes a mailbox for a tab.
    pub(crate) fn tab(&self, tab: u64) -> TabLink {
        TabLink::register(Arc::clone(&self.shared), tab)
    }

    /// Lets pages fetch these for one request.
    pub(crate) fn offer(&self, job: &str, sha256: ContentHash, path: PathBuf, inputs: Vec<Vec<u8>>) -> Offer {
        lock(&self.shared.models).entry(sha256).or_insert(Model { path, jobs: 0 }).jobs += 1;
        lock(&self.shared.inputs).insert(job.to_owned(), inputs);
        Offer { shared: Arc::clone(&self.shared), sha256, job: job.to_owned() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        lock(&self.shared.inputs).remove(&self.job);
        let mut models = lock(&self.shared.models);
        if let Some(model) = models.get_mut(&self.sha256) {
            model.jobs -= 1;
            if model.jobs == 0 {
                models.remove(&self.sha256);
            }
        }
    }
}

impl Shared {
    /// With a slash at its end.
    fn root(&self) -> String {
        format!("http://{}/{}/", self.address, self.token)
    }
}

impl std::fmt::Debug for Shared {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("address", &self.address).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked held it for one insertion or removal, which leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/{token}/page/", get(files::index))
        .route("/{token}/page/{file}", get(files::page))
        .route("/{token}/runtime/{file}", get(files::runtime))
        .route("/{token}/models/{sha256}", get(files::model))
        .route("/{token}/inputs/{job}/{index}", get(files::input))
        .route("/{token}/tabs/{tab}/commands", get(mail::commands))
        .route("/{token}/tabs/{tab}/reports", post(mail::report))
        .route("/{token}/tabs/{tab}/outputs", post(mail::output))
        .route("/{token}/status", get(status))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), guard))
        .with_state(shared)
}

/// Refuses strangers, isolates pages.
async fn guard(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    if !is_ours(&shared, &request) {
        return StatusCode::FORBIDDEN.into_response();
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-embedder-policy", "require-corp"),
        ("cross-origin-resource-policy", "same-origin"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn is_ours(shared: &Shared, request: &Request) -> bool {
    let text = |name| request.headers().get(name).map(|value| value.to_str().unwrap_or_default());
    let host = shared.address.to_string();
    let from_here = text(header::ORIGIN).is_none_or(|origin| origin.strip_prefix("http://") == Some(host.as_str()));
    let token = request.uri().path().trim_start_matches('/').split('/').next();
    text(header::HOST) == Some(host.as_str()) && from_here && token == Some(shared.token.as_str())
}

async fn status(State(shared): State<Arc<Shared>>) -> Response {
    match shared.status.get() {
        Some(status) => ([(header::CONTENT_TYPE, "application/json")], status()).into_response(),
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

#[cfg(test)]
mod tests;
