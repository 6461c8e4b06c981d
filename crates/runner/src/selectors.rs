//! Module, class and method of a test job, checked: none can be an option, a path or an expression.

use std::path::PathBuf;

use messages::{Failure, FailureKind, TestSpec};

use crate::failure::failure;

/// Longest selector, in bytes.
const SELECTOR_BYTES_MAX: usize = 400;

/// A test job's selectors after the check.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Selectors {
    /// Dotted module or package name.
    pub(crate) module: Option<String>,
    /// Class, or the path of a test module.
    pub(crate) class: Option<String>,
    /// Function or method, perhaps with pytest's `[parameters]`.
    pub(crate) method: Option<String>,
}

impl Selectors {
    /// Checks a job's selectors; the failure is an invalid job.
    pub(crate) fn of(spec: &TestSpec) -> Result<Self, Failure> {
        let check = |field: &str, value: &Option<String>| match value {
            None => Ok(None),
            Some(text) => match fault(text) {
                None => Ok(Some(text.clone())),
                Some(reason) => Err(failure(
                    FailureKind::InvalidJob,
                    format!("test {field} `{}` {reason}", crate::tail::beginning_of(text, SELECTOR_BYTES_MAX)),
                )),
            },
        };
        Ok(Self {
            module: check("module", &spec.module)?,
            class: check("class", &spec.class)?,
            method: check("method", &spec.method)?,
        })
    }

    /// The file of a dotted Python module, relative: `tests.unit.test_x` is `tests/unit/test_x.py`.
    pub(crate) fn python_file(module: &str) -> Result<PathBuf, Failure> {
        let identifier = |part: &str| {
            part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
                && !part.is_empty()
                && !part.starts_with('-')
        };
        if !module.split('.').all(identifier) {
            let message = format!("test module `{module}` is not a dotted Python module");
            return Err(failure(FailureKind::InvalidJob, message));
        }
        let mut path: PathBuf = module.split('.').collect();
        path.set_extension("py");
        Ok(path)
    }
}

/// What is wrong with a selector, as the end of a sentence.
fn fault(text: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_.:-[]".contains(c);
    if text.is_empty() {
        Some("is empty".to_owned())
    } else if text.len() > SELECTOR_BYTES_MAX {
        Some(format!("is {} bytes long; {SELECTOR_BYTES_MAX} are possible", text.len()))
    } else if text.starts_with('-') {
        Some("starts with `-`".to_owned())
    } else if text.contains("..") {
        Some("contains `..`".to_owned())
    } else {
        text.chars()
            .find(|c| !allowed(*c))
            .map(|c| format!("contains {c:?}; letters, digits and `_ . : - [ ]` are possible"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn module(text: &str) -> Result<Selectors, Failure> {
        Selectors::of(&TestSpec { module: Some(text.to_owned()), ..TestSpec::default() })
    }

    #[test]
    fn usual_names_pass() {
        for text in ["tests.unit.test_x", "TestCase", "a::b::c", "test_sum[1-2]", "my-package"] {
            assert_eq!(module(text).expect("valid").module.as_deref(), Some(text));
        }
    }

    #[test]
    fn the_failure_names_the_field_and_the_fault() {
        let message = |text| module(text).expect_err("invalid").message;
        assert_eq!(message("../x"), "test module `../x` contains `..`");
        assert_eq!(message("--version"), "test module `--version` starts with `-`");
        assert_eq!(message("a b"), "test module `a b` contains ' '; letters, digits and `_ . : - [ ]` are possible");
        assert_eq!(message(""), "test module `` is empty");
    }

    #[test]
    fn modules_become_relative_files() {
        let file = |module| Selectors::python_file(module);
        assert_eq!(file("tests.unit.test_x").expect("valid"), PathBuf::from("tests/unit/test_x.py"));
        for bad in ["a..b", ".a", "a.", "a:b", "a.-b", "a[0]"] {
            assert!(file(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_passes_is_an_option_or_leaves_the_directory(text in "[-a-zA-Z0-9_.:/\\\\ \\[\\]\\PC]{0,12}") {
            if let Ok(selectors) = module(&text) {
                let passed = selectors.module.expect("given");
                prop_assert!(!passed.starts_with('-') && !passed.is_empty());
                prop_assert!(!passed.contains(['/', '\\', ' ', '\0', '\n']) && !passed.contains(".."));
                if let Ok(file) = Selectors::python_file(&passed) {
                    prop_assert!(file.is_relative());
                    let plain = |part| matches!(part, std::path::Component::Normal(_));
                    prop_assert!(file.components().all(plain));
                }
            }
        }
    }
}
