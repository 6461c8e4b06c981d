//! The command line of a test profile: made from the worker's settings and checked selectors only.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use messages::{Failure, FailureKind};

use crate::{
    Profile, ProfileRunner,
    failure::{FailureExt, failure},
    selectors::Selectors,
};

/// Prefix of our own variables, which no test inherits: the broker's URL may hold a password.
const OUR_PREFIX: &str = "AUGUR_";

/// Name of the nextest profile that writes the report.
const NEXTEST_PROFILE: &str = "augur";

/// A command and where its report will be.
#[derive(Debug)]
pub(crate) struct TestCommand {
    /// Ready to run.
    pub(crate) command: Command,
    /// The `JUnit` file that it writes, if its kind does.
    pub(crate) report: Option<PathBuf>,
}

/// Builds the command of `profile`; reports and configuration go to `scratch`, an absolute directory.
pub(crate) fn build(profile: &Profile, selectors: &Selectors, scratch: &Path) -> Result<TestCommand, Failure> {
    let mut command = Command::new(program(profile)?);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with(OUR_PREFIX) {
            command.env_remove(name);
        }
    }
    command.env("NO_COLOR", "1").env("CARGO_TERM_COLOR", "never");
    if let Some(directory) = &profile.working_directory {
        if !directory.is_dir() {
            let message = format!("the profile's working directory `{}` does not exist here", directory.display());
            return Err(failure(FailureKind::Unavailable, message).suggest("correct the profile's `working_directory`"));
        }
        command.current_dir(directory);
    }
    command.args(&profile.arguments);
    let report = match profile.runner {
        ProfileRunner::Pytest => Some(pytest(&mut command, selectors, scratch)?),
        ProfileRunner::CargoNextest => Some(nextest(&mut command, selectors, scratch)?),
        ProfileRunner::Command | ProfileRunner::Noop => None,
    };
    if profile.runner == ProfileRunner::Command {
        let named = [("MODULE", &selectors.module), ("CLASS", &selectors.class), ("METHOD", &selectors.method)];
        for (name, value) in named {
            if let Some(value) = value {
                command.env(format!("{OUR_PREFIX}TEST_{name}"), value);
            }
        }
    }
    command.envs(&profile.environment);
    Ok(TestCommand { command, report })
}

/// The program to run, with the arguments that make it a test runner still to come.
fn program(profile: &Profile) -> Result<PathBuf, Failure> {
    match (&profile.program, profile.runner) {
        (Some(program), _) => Ok(program.clone()),
        (None, ProfileRunner::Pytest) => Ok("python3".into()),
        (None, ProfileRunner::CargoNextest) => Ok("cargo".into()),
        (None, ProfileRunner::Command | ProfileRunner::Noop) => {
            let failed = failure(FailureKind::Unavailable, "the profile has no program");
            Err(failed.suggest("set the profile's `program` in this worker's settings"))
        }
    }
}

/// Adds `-m pytest [file::class::method] --junitxml=…`; says where the report will be.
fn pytest(command: &mut Command, selectors: &Selectors, scratch: &Path) -> Result<PathBuf, Failure> {
    command.args(["-m", "pytest"]);
    match (&selectors.module, &selectors.class, &selectors.method) {
        (Some(module), class, method) => {
            let mut node = Selectors::python_file(module)?.into_os_string();
            for part in [class, method].into_iter().flatten() {
                node.push("::");
                node.push(part);
            }
            command.arg(node);
        }
        (None, None, None) => {}
        (None, _, _) => {
            let message = "a pytest job names a class or method without its module";
            return Err(failure(FailureKind::InvalidJob, message));
        }
    }
    let report = scratch.join("report.xml");
    let mut argument = std::ffi::OsString::from("--junitxml=");
    argument.push(&report);
    command.arg(argument);
    Ok(report)
}

/// Adds `nextest run` with a filter and a configuration that asks for a report; says where it will be.
fn nextest(command: &mut Command, selectors: &Selectors, scratch: &Path) -> Result<PathBuf, Failure> {
    let (report, configuration) = (scratch.join("report.xml"), scratch.join("nextest.toml"));
    let machine = |error: io::Error| {
        let message = format!("failed to write `{}`: {error}", configuration.display());
        failure(FailureKind::Machine, message)
    };
    // JSON's string escapes are TOML's too.
    let path = serde_json::to_string(&report).map_err(|error| machine(error.into()))?;
    let text =
        format!("[profile.{NEXTEST_PROFILE}]\nfail-fast = false\n[profile.{NEXTEST_PROFILE}.junit]\npath = {path}\n");
    fs::write(&configuration, text).map_err(machine)?;
    command.args(["nextest", "run", "--profile", NEXTEST_PROFILE, "--tool-config-file"]);
    let mut tool = std::ffi::OsString::from("augur:");
    tool.push(&configuration);
    command.arg(tool);
    if let Some(filter) = nextest_filter(selectors) {
        command.args(["--filterset", &filter]);
    }
    Ok(report)
}

/// A filter expression (<https://nexte.st/docs/filtersets/reference/>); no selector can end its parenthesis.
fn nextest_filter(selectors: &Selectors) -> Option<String> {
    let package = selectors.module.as_ref().map(|module| format!("package(={module})"));
    let test = match (&selectors.class, &selectors.method) {
        (Some(class), Some(method)) => Some(format!("test(={class}::{method})")),
        (Some(class), None) => Some(format!("test(~{class}::)")),
        (None, Some(method)) => Some(format!("test(={method})")),
        (None, None) => None,
    };
    let terms: Vec<_> = [package, test].into_iter().flatten().collect();
    (!terms.is_empty()).then(|| terms.join(" & "))
}

/// What would make a missing program appear.
pub(crate) fn how_to_install(runner: ProfileRunner) -> &'static str {
    match runner {
        ProfileRunner::Pytest => {
            "install the package `python3-pytest`, or set the profile's `program` to a Python with it"
        }
        ProfileRunner::CargoNextest => "install cargo-nextest: `cargo install --locked cargo-nextest`",
        ProfileRunner::Command | ProfileRunner::Noop => "install the profile's program, or correct its `program`",
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    fn selectors(module: Option<&str>, class: Option<&str>, method: Option<&str>) -> Selectors {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Selectors { module: owned(module), class: owned(class), method: owned(method) }
    }

    fn arguments(command: &TestCommand) -> Vec<&OsStr> {
        command.command.get_args().collect()
    }

    #[test]
    fn pytest_gets_a_node_id() {
        let profile = Profile { arguments: vec!["-B".to_owned()], ..Profile::usual(ProfileRunner::Pytest) };
        let chosen = selectors(Some("tests.test_x"), Some("TestX"), Some("test_y[1]"));
        let command = build(&profile, &chosen, Path::new("/scratch")).expect("built");
        assert_eq!(command.command.get_program(), "python3");
        assert_eq!(
            arguments(&command),
            ["-B", "-m", "pytest", "tests/test_x.py::TestX::test_y[1]", "--junitxml=/scratch/report.xml"]
        );
    }

    #[test]
    fn pytest_needs_a_module_for_a_class() {
        let profile = Profile::usual(ProfileRunner::Pytest);
        let failed = build(&profile, &selectors(None, Some("TestX"), None), Path::new("/scratch"));
        assert_eq!(failed.expect_err("invalid").kind, FailureKind::InvalidJob);
    }

    #[test]
    fn nextest_gets_a_filter_expression() {
        let check = |module, class, method, expected: Option<&str>| {
            assert_eq!(nextest_filter(&selectors(module, class, method)).as_deref(), expected);
        };
        check(None, None, None, None);
        check(Some("runner"), None, None, Some("package(=runner)"));
        check(Some("runner"), Some("tail::tests"), Some("x"), Some("package(=runner) & test(=tail::tests::x)"));
        check(None, Some("tail::tests"), None, Some("test(~tail::tests::)"));
        check(None, None, Some("x"), Some("test(=x)"));
    }

    #[test]
    fn a_command_gets_selectors_as_variables_only() {
        let profile = Profile { program: Some("true".into()), ..Profile::usual(ProfileRunner::Command) };
        let command = build(&profile, &selectors(Some("a"), None, Some("b")), Path::new("/scratch")).expect("built");
        assert!(arguments(&command).is_empty());
        let variable = |name: &str| {
            command.command.get_envs().find(|(key, _)| *key == name).and_then(|(_, value)| value).map(OsStr::to_owned)
        };
        assert_eq!(variable("AUGUR_TEST_MODULE"), Some("a".into()));
        assert_eq!(variable("AUGUR_TEST_METHOD"), Some("b".into()));
        assert_eq!(variable("AUGUR_TEST_CLASS"), None);
    }

    #[test]
    fn a_missing_directory_is_unavailable() {
        let profile =
            Profile { working_directory: Some("/no/such/directory".into()), ..Profile::usual(ProfileRunner::Pytest) };
        let failed = build(&profile, &Selectors::default(), Path::new("/scratch")).expect_err("unavailable");
        assert_eq!(failed.kind, FailureKind::Unavailable);
        assert!(failed.message.contains("/no/such/directory"));
    }
}
