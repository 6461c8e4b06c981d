//! Whether the test runners that the profiles name are there.

use std::{collections::BTreeMap, ffi::OsStr, io, process::Stdio, time::Duration};

use runner::{Profile, ProfileRunner};
use tokio::process::Command;

use super::{Finding, FindingState, machine};

const AREA: &str = "tests";
/// How long a test runner may take to say its version, in seconds: the first start from a cold disk is slow.
const VERSION_S_MAX: u64 = 20;
/// Prefix of our own variables, which may hold secrets and which no test runner gets.
const OUR_PREFIX: &str = "AUGUR_";

/// Examines the profiles in the order of their names.
pub(super) async fn examine(profiles: &BTreeMap<String, Profile>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, profile) in profiles {
        findings.push(one(name, profile).await);
    }
    findings
}

async fn one(name: &str, profile: &Profile) -> Finding {
    let finding = |state, detail: &str| Finding::new(AREA, format!("profile {name}"), state, detail);
    if !profile.enabled {
        let remedy = format!("to use it, set `enabled = true` under `[worker.profiles.{name}]`");
        return finding(FindingState::Missing, "switched off by the settings").remedy(remedy);
    }
    if let Some(directory) = profile.working_directory.as_ref().filter(|directory| !directory.is_dir()) {
        let detail = format!("its working directory {} does not exist", directory.display());
        return finding(FindingState::Broken, &detail).remedy("correct the profile's `working_directory`");
    }
    let (program, question, remedy) = match profile.runner {
        ProfileRunner::Noop => return finding(FindingState::Works, "needs no program"),
        ProfileRunner::Command => return command(finding, profile),
        ProfileRunner::Pytest => {
            ("python3", ["-m", "pytest", "--version"].as_slice(), "apt-get install python3-pytest")
        }
        ProfileRunner::CargoNextest => {
            ("cargo", ["nextest", "--version"].as_slice(), "cargo install --locked cargo-nextest")
        }
    };
    let program = profile.program.as_deref().map_or(OsStr::new(program), |program| program.as_os_str());
    match asked(program, question, profile).await {
        Ok((true, answer)) => finding(FindingState::Works, &answer),
        Ok((false, answer)) => finding(FindingState::Missing, &answer).remedy(remedy),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            finding(FindingState::Missing, &format!("no program `{}` on PATH", program.display())).remedy(remedy)
        }
        Err(error) => finding(FindingState::Broken, &format!("`{}`: {error}", program.display())).remedy(remedy),
    }
}

/// A command of the user's own is looked for and never run: what it would do is not known.
fn command(finding: impl Fn(FindingState, &str) -> Finding, profile: &Profile) -> Finding {
    let Some(program) = &profile.program else {
        return finding(FindingState::Broken, "has no program").remedy("set the profile's `program`");
    };
    match machine::program(program.as_os_str(), &machine::search_path()) {
        Some(path) => finding(FindingState::Unknown, &format!("found at {}, not run", path.display())),
        None => finding(FindingState::Missing, &format!("no program `{}`", program.display()))
            .remedy("install it, or correct the profile's `program`"),
    }
}

/// Runs a program with the profile's environment; answers whether it succeeded, and the line it said that tells most.
async fn asked(program: &OsStr, question: &[&str], profile: &Profile) -> io::Result<(bool, String)> {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with(OUR_PREFIX) {
            command.env_remove(name);
        }
    }
    if let Some(directory) = &profile.working_directory {
        command.current_dir(directory);
    }
    command.args(&profile.arguments).args(question).envs(&profile.environment).env("NO_COLOR", "1");
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(VERSION_S_MAX), command.output())
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {VERSION_S_MAX} s")))??;
    Ok((output.status.success(), telling(output.status.success(), &output.stdout, &output.stderr)))
}

/// The first line that a program that succeeded said, or the last one of a program that did not.
fn telling(success: bool, stdout: &[u8], stderr: &[u8]) -> String {
    let text = format!("{}\n{}", String::from_utf8_lossy(stdout), String::from_utf8_lossy(stderr));
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = if success { lines.next() } else { lines.next_back() };
    line.unwrap_or("said nothing").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(profile: Profile, state: FindingState, detail: &str) {
        let findings = examine(&BTreeMap::from([("mine".to_owned(), profile)])).await;
        assert_eq!(findings.len(), 1);
        assert_eq!((findings[0].subject.as_str(), findings[0].state), ("profile mine", state), "{findings:?}");
        assert!(findings[0].detail.contains(detail), "{findings:?}");
    }

    fn with(runner: ProfileRunner, program: Option<&str>) -> Profile {
        Profile { enabled: true, program: program.map(Into::into), ..Profile::usual(runner) }
    }

    #[tokio::test]
    async fn each_kind_of_profile_has_its_own_answer() {
        check(Profile::usual(ProfileRunner::Command), FindingState::Missing, "switched off").await;
        check(with(ProfileRunner::Noop, None), FindingState::Works, "needs no program").await;
        check(with(ProfileRunner::Command, None), FindingState::Broken, "has no program").await;
        check(with(ProfileRunner::Command, Some("/bin/sh")), FindingState::Unknown, "not run").await;
        check(with(ProfileRunner::Command, Some("/nowhere/x")), FindingState::Missing, "/nowhere/x").await;
        check(with(ProfileRunner::Pytest, Some("/nowhere/python3")), FindingState::Missing, "/nowhere/python3").await;
        check(with(ProfileRunner::Pytest, Some("/bin/echo")), FindingState::Works, "-m pytest --version").await;
        check(with(ProfileRunner::CargoNextest, Some("/bin/false")), FindingState::Missing, "said nothing").await;
        let elsewhere = Profile { working_directory: Some("/nowhere".into()), ..with(ProfileRunner::Pytest, None) };
        check(elsewhere, FindingState::Broken, "/nowhere").await;
    }

    #[test]
    fn a_traceback_is_told_by_its_last_line() {
        assert_eq!(telling(false, b"", b"Traceback\n  line 1\nNo module named pytest\n"), "No module named pytest");
        assert_eq!(telling(true, b"\npytest 8.1\nplugins\n", b""), "pytest 8.1");
    }
}
