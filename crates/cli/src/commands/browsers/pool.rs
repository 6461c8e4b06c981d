//! The pool's settings, from the section `browsers`.

use anyhow::{Context as _, bail};
use browsers::{BreakerSettings, BrowserSettings, Family, PoolSettings};

use crate::{context::Context, settings::BrowserSection};

/// Milliseconds in a second.
const MS: u64 = 1_000;

/// What the pool is to be.
///
/// # Errors
///
/// If a setting is impossible; the message names it.
pub(crate) fn settings(context: &Context) -> anyhow::Result<PoolSettings> {
    let section = &context.loaded.settings.browsers;
    let named = section.pool.iter().filter(|(_, browser)| browser.enabled);
    let browsers = named.map(|(name, section)| browser(name, section)).collect::<anyhow::Result<Vec<_>>>()?;
    let state_directory = context.made_state_directory()?.join("browsers");
    Ok(PoolSettings {
        ort_web_directory: context.ort_web_directory()?,
        tools_directory: Some(context.cache_directory()?.join("tools/bin")),
        browsers,
        memory_mb_max: (section.memory_mb_max > 0).then_some(section.memory_mb_max),
        session_memory_mb_max: section.session_memory_mb_max,
        jobs_per_session_max: section.jobs_per_session_max,
        waiting_max: section.waiting_max,
        promote_after_ms: section.promote_after_s * MS,
        idle_tab_ms_max: section.idle_tab_s_max * MS,
        idle_session_ms_max: section.idle_session_s_max * MS,
        start_ms_max: section.start_s_max * MS,
        open_ms_max: section.open_s_max * MS,
        silence_ms_max: section.silence_s_max * MS,
        probe_ms_max: section.probe_s_max * MS,
        probe_every_ms: section.probe_every_s * MS,
        breaker: BreakerSettings {
            failures_to_open: section.failures_to_open,
            open_ms: section.open_s * MS,
            open_ms_max: section.open_s_longest * MS,
        },
        deaths_max: section.deaths_max,
        ..PoolSettings::usual(state_directory)
    })
}

fn browser(name: &str, section: &BrowserSection) -> anyhow::Result<BrowserSettings> {
    let key = |field: &str| format!("browsers.pool.{name}.{field}");
    let family = match section.family.as_str() {
        "chromium" => Family::Chromium,
        "edge" => Family::Edge,
        "firefox" => Family::Firefox,
        other => bail!("{} is `{other}`; chromium, edge or firefox is possible", key("family")),
    };
    let limit = BrowserSettings::TABS_LIMIT;
    if section.sessions_max == 0 || !(1..=limit).contains(&section.tabs_max) {
        bail!("{} must be at least 1 and {} 1 to {limit}", key("sessions_max"), key("tabs_max"));
    }
    let absolute = |path: &Option<std::path::PathBuf>, field: &str| {
        path.as_ref().map(std::path::absolute).transpose().with_context(|| format!("{} is no path", key(field)))
    };
    Ok(BrowserSettings {
        binary: absolute(&section.binary, "binary")?,
        driver: absolute(&section.driver, "driver")?,
        arguments: section.arguments.clone(),
        attach: section.attach,
        sessions_max: section.sessions_max,
        tabs_max: section.tabs_max,
        ..BrowserSettings::usual(name, family)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(change: impl FnOnce(&mut BrowserSection)) -> anyhow::Result<BrowserSettings> {
        let mut section = crate::settings::load_defaults().settings.browsers.pool["firefox"].clone();
        change(&mut section);
        browser("mine", &section)
    }

    #[test]
    fn a_browser_keeps_its_own_name() {
        let browser = section(|section| section.binary = Some("/opt/firefox".into())).expect("possible");
        assert_eq!((browser.name.as_str(), browser.family, browser.tabs_max), ("mine", Family::Firefox, 3));
        assert_eq!(browser.binary.as_deref(), Some(std::path::Path::new("/opt/firefox")));
    }

    #[test]
    fn impossible_browsers_are_refused_with_their_key() {
        let check = |change: fn(&mut BrowserSection), expected: &str| {
            let error = section(change).expect_err("impossible").to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(|section| section.family = "lynx".to_owned(), "browsers.pool.mine.family is `lynx`");
        check(|section| section.tabs_max = 9, "browsers.pool.mine.tabs_max");
        check(|section| section.sessions_max = 0, "browsers.pool.mine.sessions_max");
    }
}
