//! A summary and tables in GitHub's Markdown.

use std::fmt::{self, Write};

use store::{AttemptRow, ResultRow, RunSummary};

use super::{accuracy::accuracy, figures, sections::Sections};

pub(super) fn render(run: &RunSummary, results: &[ResultRow], dead: &[AttemptRow]) -> Result<String, fmt::Error> {
    let sections = Sections::new(results);
    let mut out = String::new();
    summary(&mut out, run)?;
    failures(&mut out, &sections)?;
    dead_letters(&mut out, dead)?;
    benchmarks(&mut out, &sections.measured)?;
    predictions(&mut out, &sections.measured)?;
    tests(&mut out, &sections.tests)?;
    Ok(out)
}

fn summary(out: &mut String, run: &RunSummary) -> fmt::Result {
    writeln!(out, "# {}\n", text(&run.suite))?;
    writeln!(out, "- Run `{}`, asked for by the {}", run.run_id, text(&run.origin))?;
    let ended = match (&run.completed_at, run.duration_s) {
        (Some(at), Some(seconds)) => format!("completed {} after {}", figures::moment(at), figures::duration(seconds)),
        _ => format!("not complete: {} of {} jobs have ended", run.ended(), run.jobs_total),
    };
    writeln!(out, "- Submitted {}, {ended}", figures::moment(&run.submitted_at))?;
    if let Some(commit) = &run.git_commit {
        let branch = run.git_branch.as_ref().map(|branch| format!(" on {}", text(branch))).unwrap_or_default();
        writeln!(out, "- Commit `{}`{branch}", text(commit))?;
    }
    let RunSummary { jobs_total, passed, failed, error, cancelled, dead, .. } = run;
    let dead = if *dead > 0 { format!(", {dead} dead") } else { String::new() };
    writeln!(out, "- {jobs_total} jobs: {passed} passed, {failed} failed, {error} broken, {cancelled} cancelled{dead}")
}

fn failures(out: &mut String, sections: &Sections<'_>) -> fmt::Result {
    if !sections.failures.is_empty() {
        writeln!(out, "\n## Failures")?;
    }
    for row in &sections.failures {
        writeln!(out, "\n### {}\n", text(&row.case))?;
        let kind = row.failure_type.as_deref().unwrap_or(&row.status);
        writeln!(out, "**{}**: {}", text(kind), text(row.failure_message.as_deref().unwrap_or("no message")))?;
        if let Some(suggestion) = &row.suggestion {
            writeln!(out, "\nWhat would help: {}", text(suggestion))?;
        }
        output_end(out, row.output_tail.as_deref())?;
    }
    if !sections.cancelled.is_empty() {
        let cases: Vec<String> = sections.cancelled.iter().map(|row| text(&row.case)).collect();
        writeln!(out, "\nCancelled: {}.", cases.join(", "))?;
    }
    Ok(())
}

fn output_end(out: &mut String, output: Option<&str>) -> fmt::Result {
    let Some(output) = output else { return Ok(()) };
    let output = quick_junit::XmlString::new(output);
    let fence = fence(output.as_str());
    writeln!(out, "\n{fence}\n{}\n{fence}", output.as_str().trim_end())
}

fn dead_letters(out: &mut String, dead: &[AttemptRow]) -> fmt::Result {
    if !dead.is_empty() {
        writeln!(out, "\n## Dead letters")?;
    }
    for last in dead {
        let kind = last.failure_type.as_deref().unwrap_or(&last.status);
        let message = last.failure_message.as_deref().unwrap_or("no message");
        writeln!(out, "\n### {}\n", text(last.name()))?;
        writeln!(out, "**{}** after {} attempts: {}", text(kind), last.attempt, text(message))?;
        output_end(out, last.output_tail.as_deref())?;
    }
    Ok(())
}

fn benchmarks(out: &mut String, rows: &[&ResultRow]) -> fmt::Result {
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n## Benchmarks\n\nLatency in ms per batch, memory in MB.\n")?;
    writeln!(
        out,
        "| model | platform | batch | shape | threads | p50 | p90 | p99 | items/s | peak memory | load ms | iterations |\n\
         |---|---|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|"
    )?;
    for row in rows {
        let cells = [
            text(row.model.as_deref().unwrap_or(figures::UNKNOWN))
                + if row.accepted == Some(false) { " (rejected)" } else { "" },
            text(&figures::platform(row)),
            figures::count(row.batch_size),
            figures::shape(row),
            figures::count(row.threads),
            figures::maybe(row.latency_p50_ms),
            figures::maybe(row.latency_p90_ms),
            figures::maybe(row.latency_p99_ms),
            figures::maybe(row.throughput_items_per_second),
            figures::maybe(row.memory_peak_mb),
            figures::maybe(row.load_ms),
            figures::count(row.iterations),
        ];
        writeln!(out, "| {} |", cells.join(" | "))?;
    }
    Ok(())
}

fn predictions(out: &mut String, rows: &[&ResultRow]) -> fmt::Result {
    let metrics = accuracy(rows);
    if metrics.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n## Predicted before, measured now\n")?;
    writeln!(out, "| metric | predictions | median error | inside the 90 % interval |\n|---|--:|--:|--:|")?;
    for metric in metrics {
        let (n, error) = (metric.points.len(), figures::percent(metric.error_pct_median));
        writeln!(out, "| {} | {n} | {error} | {} of {n} |", text(metric.metric), metric.inside)?;
    }
    Ok(())
}

fn tests(out: &mut String, rows: &[&ResultRow]) -> fmt::Result {
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n## Tests\n\n| case | status | cases | failed | took |\n|---|---|--:|--:|--:|")?;
    for row in rows {
        let [total, failed] = [row.tests_total, row.tests_failed].map(figures::count);
        let took = figures::duration(row.duration_s);
        writeln!(out, "| {} | {} | {total} | {failed} | {took} |", text(&row.case), text(&row.status))?;
    }
    Ok(())
}

/// Text on one line in which Markdown finds nothing to format.
fn text(plain: &str) -> String {
    let mut safe = String::with_capacity(plain.len());
    for character in plain.chars() {
        match character {
            '\n' | '\r' | '\t' => safe.push(' '),
            '<' => safe.push_str("&lt;"),
            '&' => safe.push_str("&amp;"),
            '\\' | '|' | '`' | '*' | '_' | '[' | ']' | '#' | '~' => safe.extend(['\\', character]),
            _ if character.is_control() => {}
            _ => safe.push(character),
        }
    }
    safe
}

/// A fence longer than any row of backticks in `output`.
fn fence(output: &str) -> String {
    let longest = output.split(|character| character != '`').map(str::len).max().unwrap_or(0);
    "`".repeat(longest.max(2) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn a_run_with_everything() {
        insta::assert_snapshot!(render(&fixture::run(), &fixture::results(), &[]).expect("report"), @r##"
        # nightly &lt;main>

        - Run `0193a1b2-0000-7000-8000-000000000001`, asked for by the client
        - Submitted 2026-11-22 09:00:00 UTC, completed 2026-11-22 09:03:12 UTC after 3 min 12 s
        - Commit `4f2c1d9e8b7a6053` on main
        - 7 jobs: 4 passed, 1 failed, 1 broken, 1 cancelled

        ## Failures

        ### broken-model

        **model-missing**: no model \`broken\` \| with that hash

        What would help: run \`augur model build broken\`

        ### unit

        **test-failed**: 1 of 3 tests failed

        ````
        E  assert 1 < "2" & ```
        </pre><script>alert(1)</script>
        ````

        Cancelled: late.

        ## Benchmarks

        Latency in ms per batch, memory in MB.

        | model | platform | batch | shape | threads | p50 | p90 | p99 | items/s | peak memory | load ms | iterations |
        |---|---|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|
        | bert-base-uncased | cpu | 1 | 128 tokens | 2 | 102 | 112 | 127 | 9.85 | 640 | 812 | 30 |
        | bert-base-uncased (rejected) | cpu | 4 | 128 tokens | 2 | 390 | 429 | 488 | 10.3 | – | 812 | 30 |
        | resnet50 | cpu | 1 | 224 px | 2 | 45.1 | 49.6 | 56.4 | 22.2 | 210 | 812 | 30 |

        ## Predicted before, measured now

        | metric | predictions | median error | inside the 90 % interval |
        |---|--:|--:|--:|
        | latency\_ms | 2 | 15% | 1 of 2 |
        | throughput\_items\_per\_second | 1 | 10% | 1 of 1 |

        ## Tests

        | case | status | cases | failed | took |
        |---|---|--:|--:|--:|
        | checks | passed | 12 | 0 | 1.50 s |
        | unit | failed | 3 | 1 | 1.50 s |
        "##);
    }

    #[test]
    fn a_run_that_goes_on_says_how_far_it_is() {
        let run = RunSummary { completed_at: None, duration_s: None, done: 3, ..fixture::run() };
        let report = render(&run, &[], &[]).expect("report");
        assert!(report.contains("not complete: 3 of 7 jobs have ended"), "{report}");
        assert!(!report.contains("##  "), "{report}");
    }

    #[test]
    fn a_dead_job_is_told_with_its_last_attempt() {
        let run = RunSummary { dead: 1, ..fixture::run() };
        let report = render(&run, &[], &fixture::dead()).expect("report");
        assert!(report.contains("1 cancelled, 1 dead\n"), "{report}");
        assert!(report.contains("### poison\n\n**crashed** after 3 attempts: killed by SIGSEGV\n"), "{report}");
        assert!(report.contains("```\nFATAL\n```"), "{report}");
    }

    #[test]
    fn nothing_in_a_name_is_markup() {
        assert_eq!(text("a|b*c\nd<e>`f`"), "a\\|b\\*c d&lt;e>\\`f\\`");
    }
}
