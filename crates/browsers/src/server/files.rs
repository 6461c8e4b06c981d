//! What pages load: themselves, the runtime, models, inputs.

use std::{io, path::Path, sync::Arc};

use axum::{
    body::{Body, Bytes},
    extract::{self, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use messages::ContentHash;
use tokio::{fs::File, io::AsyncReadExt};

use super::{Shared, lock};

/// Bytes read from a file at once: few reads for a large model.
const CHUNK_BYTES: usize = 256 << 10;

/// For what a name or a hash pins.
const FOR_EVER: &str = "private, max-age=31536000, immutable";

const INDEX: &str = include_str!("../page/index.html");
const PAGE: &str = include_str!("../page/page.js");
const WORKER: &str = include_str!("../page/worker.js");

pub(super) async fn index() -> Response {
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], INDEX).into_response()
}

pub(super) async fn page(extract::Path((_, file)): extract::Path<(String, String)>) -> Response {
    let script = match file.as_str() {
        "page.js" => PAGE,
        "worker.js" => WORKER,
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], script).into_response()
}

pub(super) async fn runtime(
    State(shared): State<Arc<Shared>>,
    extract::Path((_, file)): extract::Path<(String, String)>,
) -> Response {
    let kind = match Path::new(&file).extension().and_then(|extension| extension.to_str()) {
        Some("mjs") => "text/javascript; charset=utf-8",
        Some("wasm") => "application/wasm",
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    // One plain name: a path parameter has no unescaped slash, and an escaped one is not let through here.
    if file.contains(['/', '\\']) || file.starts_with('.') {
        return StatusCode::NOT_FOUND.into_response();
    }
    send(&shared.runtime_directory.join(file), kind).await
}

pub(super) async fn model(
    State(shared): State<Arc<Shared>>,
    extract::Path((_, sha256)): extract::Path<(String, String)>,
) -> Response {
    let path = sha256
        .parse::<ContentHash>()
        .ok()
        .and_then(|sha256| lock(&shared.models).get(&sha256).map(|model| model.path.clone()));
    match path {
        Some(path) => send(&path, "application/octet-stream").await,
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

pub(super) async fn input(
    State(shared): State<Arc<Shared>>,
    extract::Path((_, job, index)): extract::Path<(String, String, usize)>,
) -> Response {
    let bytes = lock(&shared.inputs).get(&job).and_then(|inputs| inputs.get(index).cloned());
    match bytes {
        Some(bytes) => ([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Streams a file from disk: models are larger than what should be in memory twice.
async fn send(path: &Path, kind: &'static str) -> Response {
    let opened = async {
        let file = File::open(path).await?;
        let length = file.metadata().await?.len();
        io::Result::Ok((file, length))
    };
    match opened.await {
        Ok((file, length)) => {
            let headers = [
                (header::CONTENT_TYPE, kind.to_owned()),
                (header::CONTENT_LENGTH, length.to_string()),
                (header::CACHE_CONTROL, FOR_EVER.to_owned()),
            ];
            (headers, Body::from_stream(stream::try_unfold(file, next_chunk))).into_response()
        }
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot serve a file to a browser");
            StatusCode::NOT_FOUND.into_response()
        }
    }
}

async fn next_chunk(mut file: File) -> io::Result<Option<(Bytes, File)>> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let length = file.read(&mut chunk).await?;
    chunk.truncate(length);
    Ok((length > 0).then(|| (Bytes::from(chunk), file)))
}
