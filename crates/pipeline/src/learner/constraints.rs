//! The file that says what a batch of proposals must keep to.

use std::{collections::BTreeMap, path::Path};

use messages::Platform;
use planner::Constraints;
use serde::Deserialize;

use crate::PipelineError;

/// The only version of the form so far.
const VERSION: u32 = 1;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConstraintsFile {
    version: u32,
    #[serde(default)]
    platforms: BTreeMap<String, PlatformEntry>,
    #[serde(default)]
    model_max: Option<usize>,
    #[serde(default)]
    budget_seconds: Option<f64>,
    #[serde(default)]
    diversity_weight: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlatformEntry {
    #[serde(default)]
    max: Option<usize>,
    #[serde(default)]
    availability: Option<f64>,
    #[serde(default)]
    memory_mb_max: Option<f64>,
}

/// Reads a file of constraints.
///
/// # Errors
///
/// [`PipelineError::File`] if it cannot be read, [`PipelineError::Constraints`] if it says what cannot be.
pub fn read_constraints(path: &Path) -> Result<Constraints, PipelineError> {
    let text = std::fs::read_to_string(path).map_err(|source| PipelineError::File {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    parse(&text).map_err(|reason| PipelineError::Constraints { path: path.to_owned(), reason })
}

fn parse(text: &str) -> Result<Constraints, String> {
    let file: ConstraintsFile = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    if file.version != VERSION {
        return Err(format!("version is {}; {VERSION} is possible", file.version));
    }
    let mut constraints = Constraints {
        model_max: file.model_max,
        budget_seconds: file.budget_seconds,
        diversity_weight: file.diversity_weight.unwrap_or_default(),
        ..Constraints::default()
    };
    for (platform, entry) in file.platforms {
        platform.parse::<Platform>().map_err(|error| error.to_string())?;
        let PlatformEntry { max, availability, memory_mb_max } = entry;
        constraints.platform_max.extend(max.map(|max| (platform.clone(), max)));
        constraints.availability.extend(availability.map(|weight| (platform.clone(), weight)));
        constraints.memory_mb_max.extend(memory_mb_max.map(|most| (platform, most)));
    }
    constraints.flaw().map_or(Ok(constraints), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_what_holds() {
        let text = "version: 1\nplatforms:\n  cpu: {max: 5, availability: 0.5, memory_mb_max: 8000}\n  cuda: {max: 2}\n\
                    model_max: 3\nbudget_seconds: 600\ndiversity_weight: 0.3\n";
        let constraints = parse(text).expect("constraints");
        assert_eq!(constraints.platform_max, [("cpu".to_owned(), 5), ("cuda".to_owned(), 2)].into());
        assert_eq!(constraints.availability, [("cpu".to_owned(), 0.5)].into());
        assert_eq!(constraints.memory_mb_max, [("cpu".to_owned(), 8000.0)].into());
        assert_eq!((constraints.model_max, constraints.budget_seconds), (Some(3), Some(600.0)));
        assert_eq!(parse("version: 1").expect("nothing is constrained"), Constraints::default());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (text, expected) in [
            ("version: 2", "version is 2"),
            ("version: 1\nplatform: {}", "platform"),
            ("version: 1\nplatforms: {abacus: {max: 1}}", "abacus"),
            ("version: 1\nplatforms: {cpu: {most: 1}}", "most"),
            ("version: 1\nplatforms: {cpu: {availability: 2}}", "the availability of cpu is 2"),
            ("version: 1\nbudget_seconds: 0", "the budget in seconds is not above 0"),
            ("version: 1\ndiversity_weight: -1", "the diversity weight is -1"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
