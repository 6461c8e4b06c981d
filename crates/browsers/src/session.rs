//! One WebDriver session: a browser with its driver, whose tabs are opened, reloaded and closed.
//!
//! WebDriver does nothing else here: work reaches a page through the pool's server. Every call has a limit, because a
//! driver whose page hangs answers nothing, not even that the session shall end.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde_json::{Map, Value, json};
use thirtyfour::{
    Capabilities, WebDriver, WindowHandle,
    common::command::Command,
    error::{WebDriverError, WebDriverResult},
};
use tokio::{sync::Mutex, time};

use crate::{
    BrowserError, Family, PoolSettings,
    driver::{Driver, chromium_arguments, end_tree},
    installed::Installed,
    processes::{Mark, Tree, is_alive},
};

/// What the starts of sessions share.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    /// The pool's own name in marks.
    pub(crate) pool: String,
    /// Where sessions have their folders.
    pub(crate) folders: PathBuf,
    /// Longest start.
    pub(crate) start_max: Duration,
    /// Longest opening of a tab.
    pub(crate) open_max: Duration,
    /// Longest polite closing.
    pub(crate) close_max: Duration,
}

impl Launch {
    pub(crate) fn new(settings: &PoolSettings, pool: String, folders: PathBuf) -> Self {
        Self {
            pool,
            folders,
            start_max: Duration::from_millis(settings.start_ms_max),
            open_max: Duration::from_millis(settings.open_ms_max),
            close_max: Duration::from_millis(settings.close_ms_max),
        }
    }
}

/// A browser under way.
#[derive(Debug)]
pub(crate) struct Session {
    web: Mutex<WebDriver>,
    /// The browser's own empty window, which stays open.
    first_window: WindowHandle,
    driver: Driver,
    browser_pid: Option<i32>,
    open_max: Duration,
    close_max: Duration,
    was_ended: AtomicBool,
}

impl Session {
    /// Starts a driver, unless one is given that has lost its session, and with it a browser.
    pub(crate) async fn start(
        installed: &Installed,
        launch: &Launch,
        id: u64,
        driver: Option<Driver>,
    ) -> Result<Self, BrowserError> {
        let starting = async {
            let driver = match driver {
                Some(driver) => driver,
                None => Driver::start(installed, Mark::of_session(&launch.pool, id), &launch.folders).await?,
            };
            let profile = driver.new_profile().await;
            let capabilities = capabilities(installed, &driver, &profile);
            let connecting = WebDriver::builder(driver.url(), capabilities).request_timeout(launch.start_max).connect();
            let connected = async {
                let web = connecting.await?;
                // From here on nobody ends the session by dropping it, which would block: we end processes.
                if let Err(error) = web.clone().leak() {
                    tracing::debug!(%error, "a session that just began has ended");
                }
                let first_window = web.window().await?;
                Ok::<_, WebDriverError>((web, first_window))
            };
            match connected.await {
                Ok((web, first_window)) => Ok((web, first_window, driver)),
                Err(error) => {
                    let output_tail = driver.output_tail();
                    driver.end().await;
                    let reason = first_line(&error.to_string());
                    Err(BrowserError::NotReady { program: installed.binary.clone(), reason, output_tail })
                }
            }
        };
        let (web, first_window, driver) = time::timeout(launch.start_max, starting).await.unwrap_or_else(|_| {
            let reason = format!("it took longer than {} ms", launch.start_max.as_millis());
            Err(BrowserError::NotReady { program: installed.binary.clone(), reason, output_tail: String::new() })
        })?;
        let pid_of = |name: &str| {
            let pid = web.capabilities().get(name).and_then(Value::as_i64);
            pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0)
        };
        let said = ["goog:processID", "ms:processID", "moz:processID"].into_iter().find_map(pid_of);
        // A driver does not know the browser that it only attaches to; we do.
        let browser_pid = said.or_else(|| driver.attached_pid());
        let Launch { open_max, close_max, .. } = *launch;
        Ok(Self {
            web: Mutex::new(web),
            first_window,
            driver,
            browser_pid,
            open_max,
            close_max,
            was_ended: AtomicBool::new(false),
        })
    }

    /// Opens a tab at `url` and gives its handle.
    pub(crate) async fn open_tab(&self, url: &str) -> Result<WindowHandle, BrowserError> {
        let opening = async {
            let web = self.web.lock().await;
            // A tab cannot be opened from one that is closed.
            web.switch_to_window(self.first_window.clone()).await?;
            let handle = web.new_tab().await?;
            web.switch_to_window(handle.clone()).await?;
            web.goto(url).await?;
            Ok::<_, WebDriverError>(handle)
        };
        within("open a tab", self.open_max, opening).await
    }

    /// Closes a tab, politely.
    pub(crate) async fn close_tab(&self, handle: &WindowHandle) -> Result<(), BrowserError> {
        let closing = async {
            let web = self.web.lock().await;
            web.switch_to_window(handle.clone()).await?;
            web.close_window().await
        };
        within("close a tab", self.close_max, closing).await
    }

    /// Loads a tab's page again.
    pub(crate) async fn reload_tab(&self, handle: &WindowHandle) -> Result<(), BrowserError> {
        let reloading = async {
            let web = self.web.lock().await;
            web.switch_to_window(handle.clone()).await?;
            web.refresh().await
        };
        within("reload a tab", self.open_max, reloading).await
    }

    /// Whether the driver and the browser's main process are there; says nothing about pages.
    pub(crate) fn is_alive(&self) -> bool {
        self.driver.is_alive() && self.browser_pid.is_none_or(is_alive)
    }

    /// Its processes.
    pub(crate) fn tree(&self) -> &Tree {
        self.driver.tree()
    }

    /// Process id of the browser, where the driver says it or we started it ourselves.
    pub(crate) fn browser_pid(&self) -> Option<i32> {
        self.browser_pid
    }

    /// Kills everything of it, whoever still holds the session; that is then no fault of a job in it, unless its browser
    /// was dead already.
    pub(crate) async fn kill_as_ours(&self) {
        if self.browser_pid.is_none_or(is_alive) {
            self.was_ended.store(true, Ordering::Relaxed);
        }
        end_tree(self.driver.tree()).await;
    }

    /// Whether the pool ended it.
    pub(crate) fn was_ended(&self) -> bool {
        self.was_ended.load(Ordering::Relaxed)
    }

    /// Ends the browser but keeps the driver for another; `None` if the driver does not do it in time, and then
    /// everything is killed.
    pub(crate) async fn end_keeping_driver(self) -> Option<Driver> {
        let ending = async { self.web.lock().await.handle().cmd(Command::DeleteSession).await.map(drop) };
        match within("end a session", self.close_max, ending).await {
            Ok(()) if self.driver.is_alive() => Some(self.driver),
            Ok(()) => None,
            Err(error) => {
                tracing::debug!(%error, "a browser does not end politely");
                self.driver.end().await;
                None
            }
        }
    }
}

/// Gives a call to a driver its limit. Calls lock the session, one at a time: which window they mean is its state.
async fn within<T>(
    action: &'static str,
    limit: Duration,
    call: impl Future<Output = WebDriverResult<T>>,
) -> Result<T, BrowserError> {
    let reason = match time::timeout(limit, call).await {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => first_line(&error.to_string()),
        Err(_) => format!("the driver does not answer within {} ms", limit.as_millis()),
    };
    Err(BrowserError::Driver { action, reason })
}

/// What a driver is told about the browser that it shall start, or attach to.
fn capabilities(installed: &Installed, driver: &Driver, profile: &Path) -> Capabilities {
    let chromium = |key: &str, browser_name: &str| {
        let options = match driver.debugger_address() {
            Some(address) => json!({ "debuggerAddress": address }),
            None => json!({ "binary": installed.binary, "args": chromium_arguments(installed, profile) }),
        };
        json!({ "browserName": browser_name, key: options })
    };
    let capabilities = match installed.settings.family {
        Family::Chromium => chromium("goog:chromeOptions", "chrome"),
        Family::Edge => chromium("ms:edgeOptions", "MicrosoftEdge"),
        Family::Firefox => firefox(installed),
    };
    match capabilities {
        Value::Object(map) => Capabilities::from(map),
        _ => Capabilities::from(Map::new()),
    }
}

fn firefox(installed: &Installed) -> Value {
    let mut arguments = vec!["-headless".to_owned()];
    arguments.extend(installed.settings.arguments.iter().cloned());
    json!({
        "browserName": "firefox",
        "moz:firefoxOptions": {
            "binary": installed.binary,
            "args": arguments,
            "prefs": {
                "dom.webgpu.enabled": true,
                // Software adapters are on the list.
                "gfx.webgpu.ignore-blocklist": true,
                // Milliseconds with fractions.
                "privacy.reduceTimerPrecision": false,
                "browser.tabs.unloadOnLowMemory": false,
            },
        },
    })
}

/// Drivers append a stack of addresses to what they say.
fn first_line(text: &str) -> String {
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no reason given").to_owned()
}
