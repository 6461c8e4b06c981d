//! What is done with an arbitrary suite file; apart from `inputs.rs` because it needs the crate `pipeline`.

use pipeline::Suite;

/// Expands a suite; its cases, if there are any, keep what the file promises.
pub(crate) fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(suite) = Suite::parse("fuzz.yaml", text) else { return };
    assert!(!suite.cases.is_empty(), "a suite without cases was accepted");
    assert!(suite.cases.iter().all(|case| !case.timeout.is_zero()), "a case without time was accepted");
}
