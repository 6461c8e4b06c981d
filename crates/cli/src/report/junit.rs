//! `JUnit` XML: benchmarks, web jobs, tests and dead letters as cases of four suites; what was cancelled counts as skipped.

use std::time::Duration;

use anyhow::Context;
use chrono::DateTime;
use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};
use store::{AttemptRow, ResultRow, RunSummary};
use uuid::Uuid;

pub(super) fn render(run: &RunSummary, results: &[ResultRow], dead: &[AttemptRow]) -> anyhow::Result<String> {
    let mut report = Report::new(run.suite.as_str());
    if let Ok(uuid) = run.run_id.parse::<Uuid>() {
        report.set_uuid(uuid);
    }
    if let Ok(submitted_at) = DateTime::parse_from_rfc3339(&run.submitted_at) {
        report.set_timestamp(submitted_at);
    }
    report.time = run.duration_s.and_then(time);
    let cases = |kind: &'static str| {
        let rows = results.iter().filter(move |row| row.kind == kind);
        rows.map(|row| case(&run.suite, row)).collect::<Vec<_>>()
    };
    let dead = dead.iter().map(|last| dead_case(&run.suite, last)).collect();
    for (name, cases) in
        [("benchmarks", cases("benchmark")), ("web", cases("web")), ("tests", cases("test")), ("dead letters", dead)]
    {
        let mut suite = TestSuite::new(name);
        suite.add_test_cases(cases);
        suite.time = Some(suite.test_cases.iter().filter_map(|case| case.time).sum());
        if suite.tests > 0 {
            report.add_test_suite(suite);
        }
    }
    let mut text = report.to_string().context("failed to write a run as JUnit XML")?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

fn case(suite: &str, row: &ResultRow) -> TestCase {
    let mut case = TestCase::new(row.case.as_str(), status(row));
    case.set_classname(format!("{suite}.{}", row.kind));
    case.time = time(row.duration_s);
    if let Ok(started_at) = DateTime::parse_from_rfc3339(&row.started_at) {
        case.set_timestamp(started_at);
    }
    if let Some(output) = &row.output_tail {
        case.set_system_out(output.as_str());
    }
    let measured = [
        ("latency_p50_ms", row.latency_p50_ms),
        ("latency_p99_ms", row.latency_p99_ms),
        ("throughput_items_per_second", row.throughput_items_per_second),
        ("memory_peak_mb", row.memory_peak_mb),
    ];
    let named = [("job_id", &row.job_id), ("worker_id", &row.worker_id), ("platform", &row.platform)];
    case.properties.extend(named.map(|(name, value)| Property::new(name, value.as_str())));
    case.properties.extend(row.browser.as_ref().map(|browser| Property::new("browser", browser.as_str())));
    let known = measured.into_iter().filter_map(|(name, value)| Some(Property::new(name, value?.to_string())));
    case.properties.extend(known);
    case
}

/// A job that used up its attempts is an error, as told by the last of them.
fn dead_case(suite: &str, last: &AttemptRow) -> TestCase {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
    status.set_message(last.failure_message.as_deref().unwrap_or(&last.status));
    status.set_type(last.failure_type.as_deref().unwrap_or(&last.status));
    let mut case = TestCase::new(last.name(), status);
    case.set_classname(format!("{suite}.dead-letter"));
    if let Some(output) = &last.output_tail {
        case.set_system_out(output.as_str());
    }
    let attempts = last.attempt.to_string();
    let named = [("job_id", &last.job_id), ("worker_id", &last.worker_id), ("attempts", &attempts)];
    case.properties.extend(named.map(|(name, value)| Property::new(name, value.as_str())));
    case
}

/// A status that this program does not know is an error: it is certainly no success.
fn status(row: &ResultRow) -> TestCaseStatus {
    let mut status = match row.status.as_str() {
        "passed" => return TestCaseStatus::success(),
        "cancelled" => TestCaseStatus::skipped(),
        "failed" => TestCaseStatus::non_success(NonSuccessKind::Failure),
        _ => TestCaseStatus::non_success(NonSuccessKind::Error),
    };
    status.set_message(row.failure_message.as_deref().unwrap_or(&row.status));
    if let Some(kind) = &row.failure_type {
        status.set_type(kind.as_str());
    }
    if let Some(suggestion) = &row.suggestion {
        status.set_description(suggestion.as_str());
    }
    status
}

/// A time in seconds, unless it is negative because two clocks disagree.
fn time(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn statuses_become_failures_errors_and_skips() {
        let mut results = fixture::results();
        results.drain(..2);
        insta::assert_snapshot!(render(&fixture::run(), &results, &[]).expect("report"), @r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <testsuites name="nightly &lt;main&gt;" tests="5" skipped="1" failures="1" errors="1" uuid="0193a1b2-0000-7000-8000-000000000001" timestamp="2026-11-22T09:00:00.000+00:00" time="192.000">
            <testsuite name="benchmarks" tests="2" skipped="0" errors="1" failures="0" time="3.000">
                <testcase name="resnet-b1" classname="nightly &lt;main&gt;.benchmark" timestamp="2026-11-22T09:00:02.000+00:00" time="1.500">
                    <properties>
                        <property name="job_id" value="job-resnet-b1"/>
                        <property name="worker_id" value="worker-1"/>
                        <property name="platform" value="cpu"/>
                        <property name="latency_p50_ms" value="45.125"/>
                        <property name="latency_p99_ms" value="56.40625"/>
                        <property name="throughput_items_per_second" value="22.16"/>
                        <property name="memory_peak_mb" value="210"/>
                    </properties>
                </testcase>
                <testcase name="broken-model" classname="nightly &lt;main&gt;.benchmark" timestamp="2026-11-22T09:00:02.000+00:00" time="1.500">
                    <properties>
                        <property name="job_id" value="job-broken-model"/>
                        <property name="worker_id" value="worker-1"/>
                        <property name="platform" value="cpu"/>
                    </properties>
                    <error message="no model `broken` | with that hash" type="model-missing">run `augur model build broken`</error>
                </testcase>
            </testsuite>
            <testsuite name="tests" tests="3" skipped="1" errors="0" failures="1" time="4.500">
                <testcase name="checks" classname="nightly &lt;main&gt;.test" timestamp="2026-11-22T09:00:02.000+00:00" time="1.500">
                    <properties>
                        <property name="job_id" value="job-checks"/>
                        <property name="worker_id" value="worker-1"/>
                        <property name="platform" value="cpu"/>
                    </properties>
                </testcase>
                <testcase name="unit" classname="nightly &lt;main&gt;.test" timestamp="2026-11-22T09:00:02.000+00:00" time="1.500">
                    <properties>
                        <property name="job_id" value="job-unit"/>
                        <property name="worker_id" value="worker-1"/>
                        <property name="platform" value="cpu"/>
                    </properties>
                    <failure message="1 of 3 tests failed" type="test-failed"/>
                    <system-out>E  assert 1 &lt; &quot;2&quot; &amp; ```
        &lt;/pre&gt;&lt;script&gt;alert(1)&lt;/script&gt;
        </system-out>
                </testcase>
                <testcase name="late" classname="nightly &lt;main&gt;.test" timestamp="2026-11-22T09:00:02.000+00:00" time="1.500">
                    <properties>
                        <property name="job_id" value="job-late"/>
                        <property name="worker_id" value="worker-1"/>
                        <property name="platform" value="cpu"/>
                    </properties>
                    <skipped message="cancelled"/>
                </testcase>
            </testsuite>
        </testsuites>
        "#);
    }

    #[test]
    fn an_unknown_status_is_no_success_and_a_negative_time_is_left_out() {
        let mut row = fixture::results().remove(4);
        row.status = "lost".to_owned();
        row.duration_s = -1.0;
        let text = render(&fixture::run(), &[row], &[]).expect("report");
        assert!(text.contains(r#"tests="1" skipped="0" failures="0" errors="1""#), "{text}");
        assert!(text.contains(r#"<error message="lost"/>"#), "{text}");
        assert!(
            text.contains(r#"classname="nightly &lt;main&gt;.test" timestamp="2026-11-22T09:00:02.000+00:00">"#),
            "{text}"
        );
    }

    #[test]
    fn a_dead_job_is_an_error() {
        let text = render(&fixture::run(), &[], &fixture::dead()).expect("report");
        for part in
            ["errors=\"1\"", "<error message=\"killed by SIGSEGV\" type=\"crashed\"", "name=\"attempts\" value=\"3\""]
        {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }
}
