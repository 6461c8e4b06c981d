//! The usual way: a driver, a browser and a page, and WebDriver to wait for the page's answer.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    extract::{Path as UrlPath, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};
use thirtyfour::{Capabilities, WebDriver};
use tokio::{
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    task::JoinHandle,
    time,
};

use super::AnyError;

/// The whole page.
const PAGE: &str = include_str!("plain.html");

/// Longest script.
const SCRIPT_MAX: Duration = Duration::from_mins(1);

/// Time between two looks at whether the driver listens.
const LISTEN_POLL: Duration = Duration::from_millis(10);

/// Serves page, runtime and model until dropped.
pub(super) struct Server {
    root: String,
    serving: JoinHandle<std::io::Result<()>>,
}

/// Where files are.
struct Files {
    runtime: PathBuf,
    model: PathBuf,
}

impl Server {
    pub(super) async fn start(model: &Path, runtime: &Path) -> Result<Self, AnyError> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let root = format!("http://{}", listener.local_addr()?);
        let files = Arc::new(Files { runtime: runtime.to_owned(), model: model.to_owned() });
        let router = Router::new().route("/{file}", get(serve)).with_state(files);
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { root, serving })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A browser with its driver.
pub(super) struct Browser {
    driver: Child,
    web: WebDriver,
}

impl Browser {
    pub(super) async fn start() -> Result<Self, AnyError> {
        let port = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            time::sleep(LISTEN_POLL).await;
        }
        let capabilities = json!({
            "browserName": "chrome",
            "goog:chromeOptions": {
                "binary": "/usr/lib/chromium/chromium",
                "args": ["--headless=new", "--no-sandbox", "--no-first-run", "--disable-quic",
                         "--disable-background-networking"],
            },
        });
        let Value::Object(capabilities) = capabilities else { return Err("not an object".into()) };
        let web = WebDriver::new(format!("http://127.0.0.1:{port}"), Capabilities::from(capabilities)).await?;
        web.set_script_timeout(SCRIPT_MAX).await?;
        Ok(Self { driver, web })
    }

    /// Loads the page and waits until it has run the model.
    pub(super) async fn job(&self, server: &Server, iterations: u32) -> Result<(), AnyError> {
        self.web.goto(format!("{}/plain.html", server.root)).await?;
        let script = "const done = arguments[arguments.length - 1]; \
                      window.measure(arguments[0]).then((ms) => done({ ms }), (error) => done({ error: String(error) }));";
        let answer = self.web.execute_async(script, vec![json!(iterations)]).await?;
        let answer = answer.json();
        if answer["ms"].as_array().is_some_and(|ms| ms.len() == iterations as usize) {
            return Ok(());
        }
        Err(format!("the plain page answers {answer}").into())
    }

    pub(super) async fn end(mut self) -> Result<(), AnyError> {
        self.web.quit().await?;
        Ok(self.driver.kill().await?)
    }
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
