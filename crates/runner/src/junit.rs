//! Reads the cases of a `JUnit` report, bounded so that they fit into a result.

use messages::{TestCase, TestCaseStatus, TestOutcome};
use quick_xml::{
    Reader, XmlVersion,
    escape::resolve_predefined_entity,
    events::{BytesStart, Event},
};

use crate::tail::beginning_of;

/// Longest report that is read, in bytes.
pub(crate) const REPORT_BYTES_MAX: u64 = 32 << 20;

/// Longest name of a module, class or case, in bytes.
const NAME_BYTES_MAX: usize = 300;

/// Longest message of a case, in bytes.
const MESSAGE_BYTES_MAX: usize = 2_000;

/// Longest trace of a case, in bytes.
const TRACEBACK_BYTES_MAX: usize = 8_000;

/// Bytes of all texts of all cases together: half of what a message may take.
const TEXT_BYTES_MAX: usize = 512 * 1024;

/// The cases of a report, at most [`TestOutcome::CASES_MAX`]; broken ones come first if some must go.
pub(crate) fn cases(report: &str) -> Result<Vec<TestCase>, quick_xml::Error> {
    let mut reader = Reader::from_str(report);
    let mut found = Vec::new();
    let mut current = None;
    let mut in_fault = false;
    loop {
        match reader.read_event()? {
            Event::Start(element) => match element.local_name().as_ref() {
                "testcase" => current = Some(case(&element)?),
                name => {
                    if let Some(case) = &mut current {
                        in_fault = judge(case, name, &element)?;
                    }
                }
            },
            Event::Empty(element) => match (element.local_name().as_ref(), &mut current) {
                ("testcase", _) => found.push(case(&element)?),
                (name, Some(case)) => {
                    judge(case, name, &element)?;
                }
                (_, None) => {}
            },
            Event::Text(text) if in_fault => add_trace(current.as_mut(), &text.xml10_content()),
            Event::CData(text) if in_fault => add_trace(current.as_mut(), &text.xml10_content()),
            Event::GeneralRef(reference) if in_fault => match reference.resolve_char_ref()? {
                Some(character) => add_trace(current.as_mut(), character.encode_utf8(&mut [0; 4])),
                None => add_trace(current.as_mut(), resolve_predefined_entity(&reference).unwrap_or("?")),
            },
            Event::End(element) => {
                in_fault = false;
                if element.local_name().as_ref() == "testcase" {
                    found.extend(current.take());
                }
            }
            Event::Eof => return Ok(bounded(found)),
            _ => {}
        }
    }
}

/// A case that passed unless an element inside it says otherwise.
fn case(element: &BytesStart<'_>) -> Result<TestCase, quick_xml::Error> {
    let (module, class) = match attribute(element, "classname")? {
        Some(name) => split_class(&name),
        None => (None, None),
    };
    let duration_s = attribute(element, "time")?.and_then(|text| text.parse::<f64>().ok());
    Ok(TestCase {
        module: module.map(|text| beginning_of(&text, NAME_BYTES_MAX).to_owned()),
        class: class.map(|text| beginning_of(&text, NAME_BYTES_MAX).to_owned()),
        name: beginning_of(&attribute(element, "name")?.unwrap_or_default(), NAME_BYTES_MAX).to_owned(),
        status: TestCaseStatus::Passed,
        duration_s: duration_s.filter(|seconds| seconds.is_finite() && *seconds >= 0.0).unwrap_or(0.0),
        message: None,
        traceback: None,
    })
}

/// Splits pytest's `tests.test_x.TestX`: a last part with a capital is the class, all else the module.
fn split_class(classname: &str) -> (Option<String>, Option<String>) {
    let is_class = |part: &str| part.starts_with(|first: char| first.is_ascii_uppercase());
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    match classname.rsplit_once('.') {
        Some((module, class)) if is_class(class) => (given(module), given(class)),
        None if is_class(classname) => (None, given(classname)),
        _ => (given(classname), None),
    }
}

/// Notes what an element inside a case says; returns whether its text is a trace.
fn judge(case: &mut TestCase, name: &str, element: &BytesStart<'_>) -> Result<bool, quick_xml::Error> {
    let status = match name {
        "failure" => TestCaseStatus::Failed,
        "error" => TestCaseStatus::Error,
        "skipped" => TestCaseStatus::Skipped,
        _ => return Ok(false),
    };
    case.status = status;
    case.message = attribute(element, "message")?.map(|text| beginning_of(&text, MESSAGE_BYTES_MAX).to_owned());
    Ok(status != TestCaseStatus::Skipped)
}

fn attribute(element: &BytesStart<'_>, name: &str) -> Result<Option<String>, quick_xml::Error> {
    let Some(attribute) = element.try_get_attribute(name)? else { return Ok(None) };
    Ok(Some(attribute.normalized_value(XmlVersion::Explicit1_0)?.into_owned()))
}

fn add_trace(case: Option<&mut TestCase>, text: &str) {
    let Some(case) = case else { return };
    let trace = case.traceback.get_or_insert_default();
    trace.push_str(beginning_of(text, TRACEBACK_BYTES_MAX.saturating_sub(trace.len())));
}

/// Drops cases above the most allowed, passed ones first, then traces and messages above the bytes allowed.
fn bounded(mut cases: Vec<TestCase>) -> Vec<TestCase> {
    let is_broken = |case: &TestCase| matches!(case.status, TestCaseStatus::Failed | TestCaseStatus::Error);
    if cases.len() > TestOutcome::CASES_MAX {
        tracing::warn!(cases = cases.len(), max = TestOutcome::CASES_MAX, "a test report has more cases than fit");
        cases.sort_by_key(|case| !is_broken(case));
        cases.truncate(TestOutcome::CASES_MAX);
    }
    let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let mut left = TEXT_BYTES_MAX;
    // Names first, so that no long trace takes the place of another case.
    cases.retain(|case| {
        let names = case.name.len() + length(&case.module) + length(&case.class);
        let fits = names <= left;
        left -= if fits { names } else { 0 };
        fits
    });
    for text in cases.iter_mut().flat_map(|case| [&mut case.message, &mut case.traceback]) {
        if length(text) > left {
            *text = None;
        }
        left -= length(text);
    }
    cases
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "these numbers are exact")]

    use super::*;

    /// What pytest 8 writes, shortened.
    const PYTEST: &str = r#"<?xml version="1.0" encoding="utf-8"?>
<testsuites name="pytest tests"><testsuite name="pytest" errors="1" failures="1" skipped="1" tests="4" time="0.1">
<testcase classname="tests.test_x.TestX" name="test_ok" time="0.001" />
<testcase classname="tests.test_x" name="test_bad[1&lt;2]" time="0.002"><failure message="assert 1 == 2&#10;second">def test_bad():
&gt;       assert 1 == 2&#33;</failure></testcase>
<testcase classname="tests.test_x" name="test_later" time="0"><skipped type="pytest.skip" message="not now">why</skipped></testcase>
<testcase classname="tests.test_x" name="test_broken" time="0.5"><error message="failed on setup"><![CDATA[a < b]]></error><system-out>noise</system-out></testcase>
</testsuite></testsuites>"#;

    #[test]
    fn pytest_reports_are_read() {
        let cases = cases(PYTEST).expect("well-formed");
        let statuses: Vec<_> = cases.iter().map(|case| (case.name.as_str(), case.status.as_str())).collect();
        assert_eq!(
            statuses,
            [("test_ok", "passed"), ("test_bad[1<2]", "failed"), ("test_later", "skipped"), ("test_broken", "error")]
        );
        assert_eq!((cases[0].module.as_deref(), cases[0].class.as_deref()), (Some("tests.test_x"), Some("TestX")));
        assert_eq!((cases[1].module.as_deref(), cases[1].class.as_deref()), (Some("tests.test_x"), None));
        assert_eq!(cases[1].message.as_deref(), Some("assert 1 == 2\nsecond"));
        assert_eq!(cases[1].traceback.as_deref(), Some("def test_bad():\n>       assert 1 == 2!"));
        assert_eq!((cases[2].message.as_deref(), cases[2].traceback.as_deref()), (Some("not now"), None));
        assert_eq!(cases[3].traceback.as_deref(), Some("a < b"));
        assert_eq!(cases[3].duration_s, 0.5);
    }

    #[test]
    fn malformed_reports_are_errors() {
        for bad in ["<testsuite><testcase name='a'></testsuite>", "<testcase name='a' time=>", "<a><![CDATA["] {
            assert!(cases(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_broken_cases_stay_when_there_are_too_many() {
        let passed = "<testcase name='ok'/>".repeat(TestOutcome::CASES_MAX);
        let report = format!("<s>{passed}<testcase name='bad'><failure message='no'/></testcase></s>");
        let cases = cases(&report).expect("well-formed");
        assert_eq!(cases.len(), TestOutcome::CASES_MAX);
        assert_eq!(cases[0].name, "bad");
    }

    #[test]
    fn texts_are_bounded_each_and_together() {
        let case = format!("<testcase name='{0}'><failure message='{0}'>{0}</failure></testcase>", "x".repeat(20_000));
        let cases = cases(&format!("<s>{}</s>", case.repeat(1_000))).expect("well-formed");
        assert_eq!(cases[0].name.len(), NAME_BYTES_MAX);
        assert_eq!(cases[0].message.as_ref().map(String::len), Some(MESSAGE_BYTES_MAX));
        assert_eq!(cases[0].traceback.as_ref().map(String::len), Some(TRACEBACK_BYTES_MAX));
        let text = |case: &TestCase| {
            case.name.len()
                + case.message.as_ref().map_or(0, String::len)
                + case.traceback.as_ref().map_or(0, String::len)
        };
        assert!(cases.iter().map(text).sum::<usize>() <= TEXT_BYTES_MAX);
        assert_eq!(cases.len(), 1_000, "names of all of them fit");
    }
}
