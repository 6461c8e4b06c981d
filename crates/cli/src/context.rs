//! What commands share: settings turned into paths, addresses and openers.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use broker::{AmqpUrl, Patience};
use features::DeviceTable;
use graphs::ModelCache;

use crate::{api::Api, settings::Loaded};

/// File in the state directory in which `augur up` leaves its broker's URL for other commands.
pub(crate) const BROKER_URL_FILE: &str = "broker.url";
/// How long a command, unlike a daemon, waits for the broker.
const COMMAND_PATIENCE: Duration = Duration::from_secs(5);

/// Settings and what follows from them.
#[derive(Debug)]
pub(crate) struct Context {
    /// The settings with their origins.
    pub(crate) loaded: Loaded,
}

impl Context {
    pub(crate) fn new(loaded: Loaded) -> Self {
        Self { loaded }
    }

    /// The broker's URL: the one of the settings, else that of a running `augur up`.
    ///
    /// # Errors
    ///
    /// If there is neither, or it is no AMQP URL.
    pub(crate) fn amqp_url(&self) -> anyhow::Result<AmqpUrl> {
        self.amqp_url_if_set()?.ok_or_else(|| {
            anyhow!("no broker is named: set AUGUR_AMQP_URL or `amqp_url` (`augur up` starts a private one)")
        })
    }

    pub(crate) fn amqp_url_if_set(&self) -> anyhow::Result<Option<AmqpUrl>> {
        let url = &self.loaded.settings.amqp_url;
        if !url.is_empty() {
            return Ok(Some(url.parse()?));
        }
        let left_by_up = self.state_directory()?.join(BROKER_URL_FILE);
        match std::fs::read_to_string(&left_by_up) {
            Ok(url) => Ok(Some(url.parse()?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("failed to read {}", left_by_up.display())),
        }
    }

    /// How long daemons wait for the broker at their start.
    pub(crate) fn daemon_patience(&self) -> Patience {
        Patience::For(Duration::from_secs(self.loaded.settings.broker.patience_s))
    }

    /// How long other commands wait for it.
    pub(crate) const fn command_patience() -> Patience {
        Patience::For(COMMAND_PATIENCE)
    }

    /// The aggregator's HTTP API.
    pub(crate) fn api(&self) -> anyhow::Result<Api> {
        Api::new(&self.loaded.settings.aggregator_url)
    }

    /// Where state that must not be lost is kept.
    pub(crate) fn state_directory(&self) -> anyhow::Result<PathBuf> {
        directory(&self.loaded.settings.state_directory, "XDG_STATE_HOME", ".local/state")
    }

    /// Where what can be made again is kept.
    pub(crate) fn cache_directory(&self) -> anyhow::Result<PathBuf> {
        directory(&self.loaded.settings.cache_directory, "XDG_CACHE_HOME", ".cache")
    }

    /// The database, unless a flag names another: `augur.duckdb` in the state directory, which is made.
    pub(crate) fn database(&self, flag: Option<PathBuf>) -> anyhow::Result<PathBuf> {
        match flag {
            Some(path) => Ok(path),
            None => Ok(self.made_state_directory()?.join("augur.duckdb")),
        }
    }

    /// Where `device import` keeps published devices.
    pub(crate) fn devices_file(&self) -> anyhow::Result<PathBuf> {
        Ok(self.state_directory()?.join("devices.csv"))
    }

    /// The published devices that were imported; none if none were.
    pub(crate) fn published_devices(&self) -> anyhow::Result<DeviceTable> {
        let path = self.devices_file()?;
        let is_there = path.try_exists().with_context(|| format!("failed to look for {}", path.display()))?;
        if is_there { Ok(features::read_devices(&path)?) } else { Ok(DeviceTable::new()) }
    }

    /// The state directory, made if it is not there.
    pub(crate) fn made_state_directory(&self) -> anyhow::Result<PathBuf> {
        let directory = self.state_directory()?;
        std::fs::create_dir_all(&directory).with_context(|| format!("failed to create {}", directory.display()))?;
        Ok(directory)
    }

    /// Where releases are kept, unless a flag says otherwise.
    pub(crate) fn releases_directory(&self, flag: Option<&Path>) -> anyhow::Result<PathBuf> {
        match flag {
            Some(path) => Ok(path.to_owned()),
            None => Ok(self.state_directory()?.join("releases")),
        }
    }

    /// Where this machine's devices are locked.
    pub(crate) fn lease_directory(&self) -> anyhow::Result<PathBuf> {
        let path = self.cache_directory()?.join("leases");
        std::fs::create_dir_all(&path).with_context(|| format!("failed to create {}", path.display()))?;
        Ok(path)
    }

    /// The cache of built and registered models.
    pub(crate) fn models(&self) -> anyhow::Result<ModelCache> {
        Ok(ModelCache::open(&self.cache_directory()?.join("models"))?)
    }

    /// Where ONNX Runtime Web is, if it is anywhere.
    pub(crate) fn ort_web_directory(&self) -> anyhow::Result<Option<PathBuf>> {
        let named = &self.loaded.settings.ort_web_directory;
        if !named.is_empty() {
            return Ok(Some(std::path::absolute(named).with_context(|| format!("`{named}` is no path"))?));
        }
        // Where deploy/setup.sh puts it.
        let installed = self.cache_directory()?.join("lib/ort-web");
        Ok(installed.is_dir().then_some(installed))
    }

    /// ONNX Runtime's shared library, if one is named.
    pub(crate) fn onnxruntime_library(&self) -> anyhow::Result<Option<PathBuf>> {
        let named = &self.loaded.settings.onnxruntime_library;
        if !named.is_empty() {
            return Ok(Some(PathBuf::from(named)));
        }
        // Where deploy/setup.sh puts it.
        let installed = self.cache_directory()?.join("lib/libonnxruntime.so");
        Ok(installed.is_file().then_some(installed))
    }
}

fn directory(named: &str, variable: &str, below_home: &str) -> anyhow::Result<PathBuf> {
    if !named.is_empty() {
        return std::path::absolute(named).with_context(|| format!("`{named}` is no path"));
    }
    let base = match std::env::var_os(variable).filter(|value| !value.is_empty()) {
        Some(base) => PathBuf::from(base),
        None => PathBuf::from(
            std::env::var_os("HOME").ok_or_else(|| anyhow!("neither {variable} nor HOME is set; set one of them"))?,
        )
        .join(below_home),
    };
    Ok(base.join("augur"))
}
