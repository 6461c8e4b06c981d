//! `augur doctor`: what works on this machine and what does not, with the remedy.
//!
//! Everything is tried rather than looked up where trying is cheap, and what was not tried is said to be unknown.
//! Nothing is changed, apart from the processor's peaks, which `hardware` measures once and keeps.

mod browsers;
mod machine;
mod profiles;
mod services;

use std::{collections::BTreeMap, error::Error, path::PathBuf};

use comfy_table::{Attribute, Cell, Color, Table};
use runner::Profile;
use serde::Serialize;

use crate::output;

/// What the settings say that is to be examined.
#[derive(Debug)]
pub(crate) struct DoctorInputs {
    /// The broker; `None` if `augur up` is to start a private one.
    pub(crate) amqp_url: Option<broker::AmqpUrl>,
    /// Where the aggregator's HTTP API is expected.
    pub(crate) aggregator_url: String,
    /// Augur's own executable.
    pub(crate) executable: PathBuf,
    /// ONNX Runtime's shared library.
    pub(crate) onnxruntime_library: Option<PathBuf>,
    /// Where models and measured peaks are kept.
    pub(crate) cache_directory: PathBuf,
    /// Where databases and releases are kept.
    pub(crate) state_directory: PathBuf,
    /// Profiles of test jobs by name.
    pub(crate) profiles: BTreeMap<String, Profile>,
    /// ONNX Runtime Web.
    pub(crate) ort_web_directory: Option<PathBuf>,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FindingState {
    /// It was tried and works.
    Works,
    /// It is not there, or not switched on.
    Missing,
    /// It is there, or ought to be, and does not work.
    Broken,
    /// It was not or could not be tried.
    Unknown,
}

/// One thing that was examined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// The part of Augur that needs it.
    pub(crate) area: &'static str,
    /// What was examined.
    pub(crate) subject: String,
    /// How it is.
    pub(crate) state: FindingState,
    /// What was seen.
    pub(crate) detail: String,
    /// What would help, where anything is wrong and something would.
    pub(crate) remedy: Option<String>,
}

impl Finding {
    fn new(area: &'static str, subject: impl Into<String>, state: FindingState, detail: impl Into<String>) -> Self {
        Self { area, subject: subject.into(), state, detail: detail.into(), remedy: None }
    }

    fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }
}

/// Examines everything, in the order in which one would repair it; takes seconds.
pub(crate) async fn examine(inputs: &DoctorInputs) -> Vec<Finding> {
    let mut findings = services::broker(inputs.amqp_url.as_ref()).await;
    findings.push(services::private_broker());
    findings.push(services::aggregator(&inputs.aggregator_url).await);
    findings.push(machine::onnxruntime(&inputs.executable, inputs.onnxruntime_library.as_deref()).await);
    findings.extend(machine::devices(&inputs.cache_directory).await);
    findings.extend(profiles::examine(&inputs.profiles).await);
    findings.push(machine::disk("cache directory", &inputs.cache_directory));
    findings.push(machine::disk("state directory", &inputs.state_directory));
    let mut path = machine::search_path();
    path.push(inputs.cache_directory.join(browsers::TOOLS));
    findings.extend(browsers::examine(&path, inputs.ort_web_directory.as_deref()).await);
    findings
}

/// The findings as a table, areas named once.
pub(crate) fn table(findings: &[Finding]) -> Table {
    let mut table = output::table(["area", "what", "state", "seen", "remedy"]);
    let mut last = "";
    for finding in findings {
        let area = if finding.area == last { "" } else { finding.area };
        last = finding.area;
        let (word, color) = match finding.state {
            FindingState::Works => ("works", Color::Green),
            FindingState::Missing => ("missing", Color::Yellow),
            FindingState::Broken => ("broken", Color::Red),
            FindingState::Unknown => ("unknown", Color::Grey),
        };
        table.add_row([
            Cell::new(area).add_attribute(Attribute::Bold),
            Cell::new(&finding.subject),
            Cell::new(word).fg(color),
            Cell::new(&finding.detail),
            Cell::new(finding.remedy.as_deref().unwrap_or_default()),
        ]);
    }
    table
}

/// An error with its causes on one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let more = source.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Vec<Finding> {
        vec![
            Finding::new("broker", "server", FindingState::Works, "RabbitMQ 3.10.8"),
            Finding::new("broker", "topology", FindingState::Missing, "3 of 40 are not declared")
                .remedy("augur topology apply"),
            Finding::new("disk", "cache directory", FindingState::Broken, "not writable"),
        ]
    }

    #[test]
    fn the_table_names_an_area_once_and_has_every_remedy() {
        let mut table = table(&findings());
        table.force_no_tty();
        let text = table.to_string();
        let rows: Vec<Vec<&str>> = text
            .lines()
            .filter(|line| !line.contains(['─', '═']))
            .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
            .collect();
        let expected: [&[&str]; 4] = [
            &["area", "what", "state", "seen", "remedy"],
            &["broker", "server", "works", "RabbitMQ 3.10.8"],
            &["topology", "missing", "3 of 40 are not declared", "augur topology apply"],
            &["disk", "cache directory", "broken", "not writable"],
        ];
        assert_eq!(rows, expected, "{text}");
    }

    #[test]
    fn scripts_get_every_field() {
        let json = serde_json::to_string(&findings()[1]).expect("JSON");
        assert_eq!(
            json,
            r#"{"area":"broker","subject":"topology","state":"missing","detail":"3 of 40 are not declared","remedy":"augur topology apply"}"#
        );
    }

    #[test]
    fn a_cause_is_not_said_twice() {
        #[derive(Debug)]
        struct Layer(&'static str, Option<Box<Layer>>);
        impl std::fmt::Display for Layer {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.0)
            }
        }
        impl Error for Layer {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                self.1.as_deref().map(|layer| layer as _)
            }
        }
        let cause = Layer("refused", Some(Box::new(Layer("code 111", None))));
        assert_eq!(chain(&Layer("failed: refused", Some(Box::new(cause)))), "failed: refused: code 111");
    }

    #[tokio::test]
    async fn a_bare_machine_is_examined_without_an_error() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let inputs = DoctorInputs {
            amqp_url: None,
            aggregator_url: "http://127.0.0.1:1".to_owned(),
            executable: "/nowhere/augur".into(),
            onnxruntime_library: None,
            cache_directory: directory.path().join("cache"),
            state_directory: directory.path().join("state"),
            profiles: BTreeMap::new(),
            ort_web_directory: None,
        };
        let findings = examine(&inputs).await;
        let state = |area, subject: &str| {
            findings.iter().find(|one| one.area == area && one.subject == subject).map(|one| one.state)
        };
        assert_eq!(state("broker", "server"), Some(FindingState::Missing));
        assert_eq!(state("aggregator", "HTTP API"), Some(FindingState::Missing));
        assert_eq!(state("benchmarks", "ONNX Runtime"), Some(FindingState::Missing));
        assert_eq!(state("browsers", "ONNX Runtime Web"), Some(FindingState::Missing));
        assert!(findings.iter().any(|one| one.area == "devices" && one.state == FindingState::Works));
        for finding in &findings {
            assert!(finding.state != FindingState::Works || finding.remedy.is_none(), "{finding:?}");
        }
    }
}
