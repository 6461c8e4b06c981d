//! Settings in layers: embedded defaults, a file, the environment. Unknown keys are errors; every value has an origin.

mod sections;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow, bail};
use config::{Config, FileFormat};

pub(crate) use sections::{BrowserSection, ProfileSection, Settings, WorkerSection};

/// The commented defaults, which list every key.
pub(crate) const DEFAULTS: &str = include_str!("settings/defaults.toml");
/// File in the working directory that is read if no other is named.
const LOCAL_FILE: &str = "augur.toml";
/// Variables that begin like settings and are none.
const OTHER_VARIABLES: &[&str] = &["AUGUR_SETTINGS", "AUGUR_LOG", "AUGUR_SHARED_DATA"];
/// Keys whose value is shown as `***`.
const SECRET_KEYS: &[&str] = &["amqp_url", "broker.management_url"];

/// One setting as `settings show` prints it.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub(crate) struct Shown {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) origin: String,
}

/// Settings with the origin of every value.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    pub(crate) settings: Settings,
    pub(crate) shown: Vec<Shown>,
    /// The file that was read, for handing it to child processes.
    pub(crate) file: Option<PathBuf>,
}

/// Reads all layers; `file` comes from the flag.
///
/// # Errors
///
/// If a file cannot be read, a key is unknown or a value has the wrong type; the message names key and origin.
pub(crate) fn load(file: Option<&Path>) -> anyhow::Result<Loaded> {
    let environment = std::env::vars().filter(|(name, _)| name.starts_with("AUGUR_")).collect();
    let named = file.map(Path::to_owned).or_else(|| std::env::var_os("AUGUR_SETTINGS").map(PathBuf::from));
    let path = match named {
        Some(path) => Some(path),
        None => [Some(PathBuf::from(LOCAL_FILE)), user_file()].into_iter().flatten().find(|path| path.is_file()),
    };
    let text = match &path {
        Some(path) => {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("failed to read settings {}", path.display()))?;
            Some((path.display().to_string(), text))
        }
        None => None,
    };
    let mut loaded = merge(text.as_ref(), &environment)?;
    loaded.file = path.map(|path| std::path::absolute(&path).unwrap_or(path));
    Ok(loaded)
}

/// The defaults alone, for tests of what reads them.
#[cfg(test)]
pub(crate) fn load_defaults() -> Loaded {
    merge(None, &BTreeMap::new()).expect("the embedded defaults are valid")
}

fn user_file() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")))?;
    Some(base.join("augur/augur.toml"))
}

/// Merges the defaults, a file's text under its name, and the environment.
fn merge(file: Option<&(String, String)>, environment: &BTreeMap<String, String>) -> anyhow::Result<Loaded> {
    let mut origins = BTreeMap::new();
    let defaults = toml::from_str::<toml::Table>(DEFAULTS).expect("a test reads the embedded defaults");
    note_origins(&defaults, "", "default", &mut origins);
    let known: BTreeMap<String, String> = origins.keys().map(|key| (variable(key), key.clone())).collect();
    let mut builder = Config::builder().add_source(config::File::from_str(DEFAULTS, FileFormat::Toml));
    let mut of_file = toml::Table::new();
    if let Some((name, text)) = file {
        let table = toml::from_str::<toml::Table>(text).map_err(|error| anyhow!("settings {name}: {error}"))?;
        note_origins(&table, "", name, &mut origins);
        builder = builder.add_source(config::File::from_str(text, FileFormat::Toml));
        of_file = table;
    }
    for (variable, value) in environment {
        if OTHER_VARIABLES.contains(&variable.as_str()) || variable.starts_with("AUGUR_TEST_") {
            continue;
        }
        let Some(key) = known.get(variable) else {
            bail!(
                "environment variable {variable} is no setting; `unset {variable}`, then `augur settings show` lists the keys (worker.grace_s is AUGUR_WORKER__GRACE_S)"
            )
        };
        let is_list = matches!(lookup(&defaults, key), Some(toml::Value::Array(_)));
        builder = if is_list {
            let items: Vec<String> =
                value.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect();
            builder.set_override(key, items)?
        } else {
            builder.set_override(key, value.as_str())?
        };
        origins.insert(key.clone(), format!("environment {variable}"));
    }
    let merged = builder.build()?;
    let settings: Settings = merged.clone().try_deserialize().map_err(|error| {
        let place = file.map_or("the environment".to_owned(), |(name, _)| format!("{name} or the environment"));
        anyhow!("settings from {place} are not valid: {error}")
    })?;
    let shown = origins
        .into_iter()
        .map(|(key, origin)| {
            let value = merged.get::<config::Value>(&key).map(|value| show(&value));
            // A name with blanks is no path of `config`'s; only a file can have one.
            let in_file = || Some(lookup(&of_file, &key)?.to_string());
            let value = value.ok().or_else(in_file).unwrap_or_default();
            let secret = SECRET_KEYS.contains(&key.as_str()) && !value.is_empty();
            let value = if secret { hide(&value) } else { value };
            Shown { key, value, origin }
        })
        .collect();
    Ok(Loaded { settings, shown, file: None })
}

/// The variable of a key: `worker.grace_s` is `AUGUR_WORKER__GRACE_S`.
pub(crate) fn variable(key: &str) -> String {
    format!("AUGUR_{}", key.replace('.', "__").to_uppercase())
}

fn hide(value: &str) -> String {
    value.parse::<broker::AmqpUrl>().map_or_else(|_| "***".to_owned(), |url| url.to_string())
}

fn note_origins(table: &toml::Table, prefix: &str, origin: &str, origins: &mut BTreeMap<String, String>) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            toml::Value::Table(inner) => note_origins(inner, &key, origin, origins),
            _ => drop(origins.insert(key, origin.to_owned())),
        }
    }
}

fn lookup<'a>(table: &'a toml::Table, key: &str) -> Option<&'a toml::Value> {
    let (first, rest) = key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
    match (table.get(first)?, rest) {
        (toml::Value::Table(inner), Some(rest)) => lookup(inner, rest),
        (value, None) => Some(value),
        _ => None,
    }
}

fn show(value: &config::Value) -> String {
    match &value.kind {
        config::ValueKind::Array(items) => items.iter().map(show).collect::<Vec<_>>().join(", "),
        _ => value.clone().into_string().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(file: Option<&str>, environment: &[(&str, &str)]) -> anyhow::Result<Loaded> {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        merge(file.map(|text| ("test.toml".to_owned(), text.to_owned())).as_ref(), &environment)
    }

    fn origin<'a>(loaded: &'a Loaded, key: &str) -> (&'a str, &'a str) {
        let shown = loaded.shown.iter().find(|shown| shown.key == key).expect("a known key");
        (&shown.value, &shown.origin)
    }

    #[test]
    fn later_layers_win_and_are_named() {
        let loaded = merged(
            Some("[worker]\ngrace_s = 7\nconcurrency = 2\n"),
            &[("AUGUR_WORKER__CONCURRENCY", "3"), ("AUGUR_WORKER__PLATFORMS", "cpu, cuda")],
        )
        .expect("good settings");
        assert_eq!((loaded.settings.worker.grace_s, loaded.settings.worker.concurrency), (7, 3));
        assert_eq!(loaded.settings.worker.platforms, ["cpu", "cuda"]);
        assert_eq!(origin(&loaded, "worker.grace_s"), ("7", "test.toml"));
        assert_eq!(origin(&loaded, "worker.concurrency"), ("3", "environment AUGUR_WORKER__CONCURRENCY"));
        assert_eq!(origin(&loaded, "worker.prefetch").1, "default");
    }

    #[test]
    fn unknown_keys_are_refused_and_named() {
        let file = merged(Some("[worker]\nconcurency = 2\n"), &[]).expect_err("no such key").to_string();
        assert!(file.contains("concurency") && file.contains("test.toml"), "{file}");
        let variable = merged(None, &[("AUGUR_WROKER__X", "1")]).expect_err("no such variable").to_string();
        assert!(variable.contains("AUGUR_WROKER__X"), "{variable}");
    }

    #[test]
    fn a_password_is_hidden() {
        let loaded = merged(None, &[("AUGUR_AMQP_URL", "amqp://u:hunter2@127.0.0.1:5672/%2f")]).expect("good settings");
        assert_eq!(origin(&loaded, "amqp_url").0, "amqp://u:***@127.0.0.1:5672/%2f");
        assert!(!format!("{:?}", loaded.shown).contains("hunter2"));
    }

    #[test]
    fn a_rate_limit_can_be_set_per_platform() {
        let loaded =
            merged(Some("[worker.rate_limit_per_s]\ncuda = 2\n"), &[("AUGUR_WORKER__RATE_LIMIT_PER_S__CPU", "0.5")]);
        let limits = loaded.expect("good settings").settings.worker.rate_limit_per_s;
        assert_eq!((limits["cpu"], limits["cuda"], limits["wasm"]), (0.5, 2.0, 0.0));
    }

    #[test]
    fn every_platform_has_a_rate_limit_to_set() {
        let limits = merged(None, &[]).expect("good settings").settings.worker.rate_limit_per_s;
        let mut platforms: Vec<_> = messages::Platform::ALL.iter().map(|platform| platform.as_str()).collect();
        platforms.sort_unstable();
        assert_eq!(limits.into_keys().collect::<Vec<_>>(), platforms);
    }

    #[test]
    fn a_cluster_is_one_url_whose_password_is_hidden() {
        let url = "amqp://u:hunter2@one:5672,two:5673/augur";
        let loaded = merged(None, &[("AUGUR_AMQP_URL", url)]).expect("good settings");
        assert_eq!(loaded.settings.amqp_url, url);
        assert_eq!(origin(&loaded, "amqp_url").0, "amqp://u:***@one:5672,two:5673/augur");
    }

    #[test]
    fn a_device_has_a_price_whatever_its_case() {
        let loaded = merged(Some("[recommend.price_per_hour]\n\"Tesla T4\" = 0.35\n"), &[]).expect("good settings");
        let recommend = &loaded.settings.recommend;
        assert_eq!(
            (recommend.price("Tesla T4"), recommend.price("tesla t4"), recommend.price("L4")),
            (Some(0.35), Some(0.35), None)
        );
        assert_eq!(origin(&loaded, "recommend.price_per_hour.Tesla T4"), ("0.35", "test.toml"));
    }

    #[test]
    fn a_new_profile_in_a_file_needs_no_default() {
        let loaded = merged(
            Some("[worker.profiles.mine]\nrunner = \"command\"\nenabled = true\nprogram = \"/bin/true\"\n"),
            &[],
        )
        .expect("good settings");
        assert!(loaded.settings.worker.profiles["mine"].enabled);
        assert!(!loaded.settings.worker.profiles["command"].enabled, "off unless switched on");
    }
}
