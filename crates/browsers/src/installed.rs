//! What is installed: each browser's executable, driver and versions, or why it cannot be used.

use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{process::Command, time};

use crate::{BrowserError, BrowserSettings, Family};

/// Longest wait for a program to say its version; a cold Firefox takes a second.
const VERSION_MAX: Duration = Duration::from_secs(20);

/// A browser that can be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Installed {
    pub(crate) settings: BrowserSettings,
    pub(crate) binary: PathBuf,
    pub(crate) driver: PathBuf,
    pub(crate) version: String,
    pub(crate) driver_version: String,
}

impl Installed {
    /// Looks for the browser and its driver.
    pub(crate) async fn find(settings: &BrowserSettings, tools: Option<&Path>) -> Result<Self, BrowserError> {
        let (binaries, driver) = usual_programs(settings.family);
        let missing = |reason: String| BrowserError::NotInstalled { browser: settings.name.clone(), reason };
        let binary = match &settings.binary {
            Some(path) => path
                .is_file()
                .then(|| path.clone())
                .ok_or_else(|| missing(format!("`{}` from the settings is not there", path.display()))),
            None => binaries
                .iter()
                .find_map(|name| search(name, None))
                .ok_or_else(|| missing(format!("none of {} is installed", binaries.join(", ")))),
        }?;
        let driver = match &settings.driver {
            Some(path) => path
                .is_file()
                .then(|| path.clone())
                .ok_or_else(|| missing(format!("its driver `{}` from the settings is not there", path.display()))),
            None => search(driver, tools)
                .ok_or_else(|| missing(format!("its driver {driver} is not installed ({})", remedy(settings.family)))),
        }?;
        let version = version_of(&binary).await.map_err(missing)?;
        let driver_version = version_of(&driver).await.map_err(missing)?;
        Ok(Self { settings: settings.clone(), binary, driver, version, driver_version })
    }

    pub(crate) fn name(&self) -> &str {
        &self.settings.name
    }
}

/// The usual executables, the likeliest first, and the driver.
fn usual_programs(family: Family) -> (&'static [&'static str], &'static str) {
    match family {
        // Debian's `chromium` on the search path is a script; the browser behind it is started without a detour.
        Family::Chromium => {
            (&["/usr/lib/chromium/chromium", "chromium", "google-chrome-stable", "google-chrome"], "chromedriver")
        }
        Family::Edge => (&["microsoft-edge-stable", "microsoft-edge"], "msedgedriver"),
        Family::Firefox => (&["firefox-esr", "firefox"], "geckodriver"),
    }
}

fn remedy(family: Family) -> &'static str {
    match family {
        Family::Chromium => "Debian: chromium-driver",
        Family::Edge => "it comes from Microsoft",
        Family::Firefox => "cargo install geckodriver",
    }
}

/// Looks for a program by absolute path, on the search path and in one folder more.
fn search(name: &str, tools: Option<&Path>) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(tools.map(Path::to_owned));
    folders.map(|folder| folder.join(name)).find(|candidate| candidate.is_file())
}

async fn version_of(program: &Path) -> Result<String, String> {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = time::timeout(VERSION_MAX, command.output())
        .await
        .map_err(|_| format!("`{} --version` does not answer", program.display()))?
        .map_err(|error| format!("`{}` does not start: {error}", program.display()))?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
        .ok_or_else(|| format!("`{} --version` says no version", program.display()))
}

/// The first word that begins with a digit, e.g. of `Mozilla Firefox 153.8.0esr`.
fn parse_version(text: &str) -> Option<String> {
    text.split_whitespace().find(|word| word.starts_with(|first: char| first.is_ascii_digit())).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_programs_print() {
        let check = |text, expected: Option<&str>| assert_eq!(parse_version(text).as_deref(), expected);
        check("Chromium 156.0.8078.108 built on Debian GNU/Linux 12 (bookworm)\n", Some("156.0.8078.108"));
        check("Mozilla Firefox 153.8.0esr", Some("153.8.0esr"));
        check("geckodriver 0.37.1\n\nThe source code of", Some("0.37.1"));
        check("no idea", None);
    }

    #[tokio::test]
    async fn what_is_not_there_is_said_to_be_missing() {
        let settings = BrowserSettings {
            binary: Some("/nonexistent/browser".into()),
            ..BrowserSettings::usual("custom", Family::Chromium)
        };
        let error = Installed::find(&settings, None).await.expect_err("not there").to_string();
        assert_eq!(error, "custom is unavailable, because `/nonexistent/browser` from the settings is not there");
    }
}
