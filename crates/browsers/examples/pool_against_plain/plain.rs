//! The usual way: a driver, a browser and a page for each job, and WebDriver to wait for its answer.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{Path as UrlPath, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;
use thirtyfour::{Capabilities, WebDriver};
use tokio::{net::TcpListener, process::Command};

use super::AnyError;

/// The whole page.
const PAGE: &str = include_str!("plain.html");

/// Longest script.
const SCRIPT_MAX: Duration = Duration::from_mins(1);

/// Where files are.
struct Files {
    runtime: PathBuf,
    model: PathBuf,
}

/// Runs jobs one after the other; gives what each took in milliseconds, from starting the driver to its end.
pub(super) async fn jobs(model: &Path, runtime: &Path, iterations: u32, jobs: usize) -> Result<Vec<f64>, AnyError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let root = format!("http://{}", listener.local_addr()?);
    let files = Arc::new(Files { runtime: runtime.to_owned(), model: model.to_owned() });
    let router = Router::new().route("/{file}", get(serve)).with_state(files);
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let mut took_ms = Vec::new();
    for _ in 0..jobs {
        let began = Instant::now();
        job(&root, iterations).await?;
        took_ms.push(began.elapsed().as_secs_f64() * 1e3);
    }
    serving.abort();
    Ok(took_ms)
}

async fn job(root: &str, iterations: u32) -> Result<(), AnyError> {
    let port = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
    let mut driver = Command::new("chromedriver")
        .arg(format!("--port={port}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let url = format!("http://127.0.0.1:{port}");
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let capabilities = json!({
        "browserName": "chrome",
        "goog:chromeOptions": {
            "binary": "/usr/lib/chromium/chromium",
            "args": ["--headless=new", "--no-sandbox", "--no-first-run", "--disable-quic", "--disable-background-networking"],
        },
    });
    let serde_json::Value::Object(capabilities) = capabilities else { return Err("not an object".into()) };
    let web = WebDriver::new(url, Capabilities::from(capabilities)).await?;
    web.set_script_timeout(SCRIPT_MAX).await?;
    web.goto(format!("{root}/plain.html")).await?;
    let script = "const done = arguments[arguments.length - 1]; \
                  window.measure(arguments[0]).then((ms) => done({ ms }), (error) => done({ error: String(error) }));";
    let answer = web.execute_async(script, vec![json!(iterations)]).await?;
    let answer = answer.json().clone();
    web.quit().await?;
    driver.kill().await?;
    if answer["ms"].as_array().is_some_and(|ms| ms.len() == iterations as usize) {
        return Ok(());
    }
    Err(format!("the plain page answers {answer}").into())
}

async fn serve(State(files): State<Arc<Files>>, UrlPath(file): UrlPath<String>) -> Response {
    let (bytes, kind) = match file.as_str() {
        "plain.html" => (Ok(PAGE.as_bytes().to_vec()), "text/html"),
        "model.onnx" => (tokio::fs::read(&files.model).await, "application/octet-stream"),
        name => {
            let kind = if Path::new(name).extension().is_some_and(|ending| ending == "wasm") {
                "application/wasm"
            } else {
                "text/javascript"
            };
            (tokio::fs::read(files.runtime.join(name)).await, kind)
        }
    };
    let Ok(bytes) = bytes else { return StatusCode::NOT_FOUND.into_response() };
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    headers.insert("cross-origin-embedder-policy", HeaderValue::from_static("require-corp"));
    (headers, bytes).into_response()
}
