//! One self-contained page: no script, no network, light or dark as the reader's system is.
//!
//! Everything that comes from a run passes through [`Escaped`] on its way into the page, and the page's own policy
//! forbids scripts and requests all the same.

use std::fmt::{self, Write};

use store::{AttemptRow, ResultRow, RunSummary};

use super::{
    accuracy::{MetricAccuracy, accuracy},
    charts, figures,
    sections::{Sections, distinct},
};

/// Text with everything that HTML could take for markup escaped; right in text and in quoted attributes.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\n' | '\t' => f.write_char(character)?,
                _ if character.is_control() => {}
                _ => f.write_char(character)?,
            }
        }
        Ok(())
    }
}

pub(super) fn render(run: &RunSummary, results: &[ResultRow], dead: &[AttemptRow]) -> Result<String, fmt::Error> {
    let sections = Sections::new(results);
    let metrics = accuracy(&sections.measured);
    let mut out = String::new();
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{} – Augur</title>\n<style>\n{}</style>\n</head>\n<body>\n",
        Escaped(&run.suite),
        include_str!("style.css")
    )?;
    header(&mut out, run, results)?;
    out.push_str("<main>\n");
    failures(&mut out, &sections)?;
    dead_letters(&mut out, dead)?;
    latency(&mut out, &sections.measured)?;
    predictions(&mut out, &metrics)?;
    benchmarks(&mut out, &sections.measured)?;
    tests(&mut out, &sections.tests)?;
    if results.is_empty() {
        out.push_str("<section><p class=\"caption\">No job of this run has ended yet.</p></section>\n");
    }
    writeln!(out, "</main>\n<footer>Written by augur {}</footer>\n</body>\n</html>", env!("CARGO_PKG_VERSION"))?;
    Ok(out)
}

fn header(out: &mut String, run: &RunSummary, results: &[ResultRow]) -> fmt::Result {
    let (class, verdict) = match run {
        run if run.failed + run.error + run.dead > 0 => ("bad", "failed"),
        run if !run.is_complete() => ("open", "running"),
        run if run.cancelled > 0 => ("open", "cancelled in part"),
        _ => ("good", "passed"),
    };
    write!(
        out,
        "<header>\n<p class=\"eyebrow\">Augur run report</p>\n<h1>{} <span class=\"chip {class}\">{verdict}</span></h1>\n<dl>",
        Escaped(&run.suite)
    )?;
    let commit = run.git_commit.as_ref().map(|commit| commit.chars().take(12).collect::<String>());
    let commit =
        commit.map(|commit| run.git_branch.as_ref().map_or(commit.clone(), |branch| format!("{commit} on {branch}")));
    let devices = distinct(results.iter().filter_map(|row| row.device.as_deref())).join(", ");
    let workers = distinct(results.iter().map(|row| row.worker_id.as_str())).len();
    let facts = [
        ("Run", Some(run.run_id.clone())),
        ("Asked for by", Some(run.origin.clone())),
        ("Commit", commit),
        ("Submitted", Some(figures::moment(&run.submitted_at))),
        ("Completed", run.completed_at.as_deref().map(figures::moment)),
        ("Took", run.duration_s.map(figures::duration)),
        ("Devices", Some(devices).filter(|devices| !devices.is_empty())),
        ("Workers", (workers > 0).then(|| workers.to_string())),
    ];
    for (name, value) in facts.iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
        write!(out, "<div><dt>{name}</dt><dd>{}</dd></div>", Escaped(value))?;
    }
    out.push_str("</dl>\n");
    counts(out, run)?;
    out.push_str("</header>\n");
    Ok(())
}

/// A tile per count, and a bar of their shares.
fn counts(out: &mut String, run: &RunSummary) -> fmt::Result {
    let open = run.jobs_total.saturating_sub(run.ended());
    let parts = [
        ("passed", run.passed, true),
        ("failed", run.failed, true),
        ("error", run.error, true),
        ("cancelled", run.cancelled, run.cancelled > 0),
        ("dead", run.dead, run.dead > 0),
        ("open", open, open > 0),
    ];
    write!(out, "<div class=\"tiles\"><div class=\"tile\"><b>{}</b><span>jobs</span></div>", run.jobs_total)?;
    for (name, count, _) in parts.iter().filter(|(_, _, shown)| *shown) {
        let none = if *count == 0 { " none" } else { "" };
        write!(out, "<div class=\"tile {name}{none}\"><b>{count}</b><span>{name}</span></div>")?;
    }
    out.push_str("</div>\n<div class=\"bar\" aria-hidden=\"true\">");
    for (name, count, _) in parts.iter().filter(|(_, count, _)| *count > 0) {
        write!(out, "<i class=\"{name}\" style=\"flex-grow:{count}\"></i>")?;
    }
    out.push_str("</div>\n");
    Ok(())
}

fn output_end(out: &mut String, tail: Option<&str>) -> fmt::Result {
    let Some(tail) = tail.filter(|tail| !tail.trim().is_empty()) else { return Ok(()) };
    // The XML string is what takes terminal colours out.
    let tail = quick_junit::XmlString::new(tail);
    write!(out, "<details open><summary>End of its output</summary><pre>{}</pre></details>", Escaped(tail.as_str()))
}

/// Jobs that used up their attempts, each with the last one.
fn dead_letters(out: &mut String, dead: &[AttemptRow]) -> fmt::Result {
    if dead.is_empty() {
        return Ok(());
    }
    out.push_str("<section>\n<h2>Dead letters</h2>\n");
    for last in dead {
        let (case, kind) = (Escaped(last.name()), Escaped(last.failure_type.as_deref().unwrap_or(&last.status)));
        write!(out, "<article class=\"failure\"><h3>{case} <span class=\"chip bad\">{kind}</span></h3>")?;
        write!(out, "<p>{}</p>", Escaped(last.failure_message.as_deref().unwrap_or("No message was given.")))?;
        write!(out, "<p class=\"caption\">on {}, attempt {}</p>", Escaped(&last.worker_id), last.attempt)?;
        output_end(out, last.output_tail.as_deref())?;
        out.push_str("</article>\n");
    }
    out.push_str("</section>\n");
    Ok(())
}

fn failures(out: &mut String, sections: &Sections<'_>) -> fmt::Result {
    if sections.failures.is_empty() && sections.cancelled.is_empty() {
        return Ok(());
    }
    out.push_str("<section>\n<h2>What did not pass</h2>\n");
    for row in &sections.failures {
        let (case, kind) = (Escaped(&row.case), Escaped(row.failure_type.as_deref().unwrap_or(&row.status)));
        let on = row.device.as_deref().unwrap_or(&row.worker_id);
        write!(out, "<article class=\"failure\"><h3>{case} <span class=\"chip bad\">{kind}</span></h3>")?;
        write!(out, "<p>{}</p>", Escaped(row.failure_message.as_deref().unwrap_or("No message was given.")))?;
        if let Some(suggestion) = &row.suggestion {
            write!(out, "<p class=\"suggestion\"><b>What would help</b> {}</p>", Escaped(suggestion))?;
        }
        let took = figures::duration(row.duration_s);
        write!(
            out,
            "<p class=\"caption\">{} on {}, attempt {}, after {took}</p>",
            Escaped(&row.kind),
            Escaped(on),
            row.attempt
        )?;
        output_end(out, row.output_tail.as_deref())?;
        out.push_str("</article>\n");
    }
    if !sections.cancelled.is_empty() {
        let cases = sections.cancelled.iter().map(|row| row.case.as_str()).collect::<Vec<_>>().join(", ");
        writeln!(out, "<p class=\"caption\">Cancelled: {}</p>", Escaped(&cases))?;
    }
    out.push_str("</section>\n");
    Ok(())
}

fn latency(out: &mut String, rows: &[&ResultRow]) -> fmt::Result {
    if rows.is_empty() {
        return Ok(());
    }
    out.push_str("<section>\n<h2>Latency by batch size</h2>\n");
    charts::latency(out, rows)?;
    out.push_str("</section>\n");
    Ok(())
}

fn predictions(out: &mut String, metrics: &[MetricAccuracy<'_>]) -> fmt::Result {
    if metrics.is_empty() {
        return Ok(());
    }
    out.push_str(
        "<section>\n<h2>Predicted before, measured now</h2>\n<ul class=\"legend\">\
         <li class=\"inside\"><i></i>truth inside the 90% interval</li><li class=\"outside\"><i></i>outside</li>\
         <li class=\"note\">on the diagonal a prediction is right; bars are 90% intervals</li></ul>\n<div class=\"panels\">",
    );
    for metric in metrics {
        charts::predicted_against_measured(out, metric)?;
    }
    out.push_str("</div>\n<details><summary>All predictions</summary>");
    table_start(out, &["case", "metric", "release"], &["predicted", "from", "to", "measured", "error"], &[])?;
    for point in metrics.iter().flat_map(|metric| &metric.points) {
        let class = if point.is_inside() { "" } else { " class=\"outside\"" };
        let prediction = point.prediction;
        let [case, metric, release] =
            [&point.row.case, &prediction.metric, &prediction.release_id].map(|text| Escaped(text));
        write!(out, "<tr{class}><td>{case}</td><td>{metric}</td><td>{release}</td>")?;
        let [lower, upper] = [prediction.lower, prediction.upper].map(figures::maybe);
        let (predicted, measured) = (figures::number(point.predicted), figures::number(point.measured));
        let error = figures::percent(point.error_pct());
        numbers(out, &[predicted, lower, upper, measured, error])?;
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div></details>\n</section>\n");
    Ok(())
}

fn benchmarks(out: &mut String, rows: &[&ResultRow]) -> fmt::Result {
    if rows.is_empty() {
        return Ok(());
    }
    let backends = distinct(rows.iter().filter_map(|row| row.backend.as_deref())).join(", ");
    let versions = distinct(rows.iter().filter_map(|row| row.backend_version.as_deref())).join(", ");
    let precisions = distinct(rows.iter().filter_map(|row| row.precision.as_deref())).join(", ");
    write!(
        out,
        "<section>\n<h2>Benchmarks</h2>\n<p class=\"caption\">{} {}, {}; latency per batch</p>\n",
        Escaped(&backends),
        Escaped(&versions),
        Escaped(&precisions)
    )?;
    let columns = ["batch", "threads", "p50 ms", "p90 ms", "p99 ms", "items/s", "peak MB", "load ms", "iterations"];
    table_start(out, &["model", "platform", "shape"], &columns, &["stopped by"])?;
    let mut last = None;
    for row in rows {
        let model = row.model.as_deref().unwrap_or(figures::UNKNOWN);
        let class = if last.is_some_and(|last| last != model) { " class=\"first\"" } else { "" };
        let shown = if last == Some(model) { " class=\"again\"" } else { "" };
        last = Some(model);
        let platform = figures::platform(row);
        let [model, platform] = [model, &platform].map(Escaped);
        write!(out, "<tr{class}><th scope=\"row\"{shown}>{model}</th><td>{platform}</td>")?;
        write!(out, "<td>{}</td>", Escaped(&figures::shape(row)))?;
        let [p50, p90, p99] = [row.latency_p50_ms, row.latency_p90_ms, row.latency_p99_ms].map(figures::maybe);
        let [batch, threads, iterations] = [row.batch_size, row.threads, row.iterations].map(figures::count);
        let [throughput, memory, load] =
            [row.throughput_items_per_second, row.memory_peak_mb, row.load_ms].map(figures::maybe);
        numbers(out, &[batch, threads, p50, p90, p99, throughput, memory, load, iterations])?;
        write!(
            out,
            "<td class=\"why\">{}",
            Escaped(&row.stop_reason.as_deref().unwrap_or(figures::UNKNOWN).replace('-', " "))
        )?;
        if row.accepted == Some(false) {
            let why = row.rejection.as_deref().unwrap_or("no reason given");
            write!(out, " <small>not learned from: {}</small>", Escaped(why))?;
        }
        out.push_str("</td></tr>");
    }
    out.push_str("</tbody></table></div>\n</section>\n");
    Ok(())
}

fn tests(out: &mut String, rows: &[&ResultRow]) -> fmt::Result {
    if rows.is_empty() {
        return Ok(());
    }
    out.push_str("<section>\n<h2>Tests</h2>\n");
    table_start(out, &["case", "status"], &["cases", "failed", "exit code", "took"], &[])?;
    for row in rows {
        let class = if row.status == "passed" { "good" } else { "bad" };
        let (case, status) = (Escaped(&row.case), Escaped(&row.status));
        write!(out, "<tr><th scope=\"row\">{case}</th><td><span class=\"chip {class}\">{status}</span></td>")?;
        let [total, failed] = [row.tests_total, row.tests_failed].map(figures::count);
        let exit = row.exit_code.map_or_else(|| figures::UNKNOWN.to_owned(), |code| code.to_string());
        numbers(out, &[total, failed, exit, figures::duration(row.duration_s)])?;
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div>\n</section>\n");
    Ok(())
}

/// Opens a table that scrolls sideways where it must: columns of words, of numbers, and of words again.
fn table_start(out: &mut String, words: &[&str], numbers: &[&str], after: &[&str]) -> fmt::Result {
    out.push_str("<div class=\"scroll\"><table><thead><tr>");
    for (names, class) in [(words, ""), (numbers, " class=\"n\""), (after, "")] {
        for name in names {
            write!(out, "<th scope=\"col\"{class}>{}</th>", Escaped(name))?;
        }
    }
    out.push_str("</tr></thead><tbody>");
    Ok(())
}

fn numbers(out: &mut String, cells: &[String]) -> fmt::Result {
    cells.iter().try_for_each(|cell| write!(out, "<td class=\"n\">{}</td>", Escaped(cell)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    fn page() -> String {
        render(&fixture::run(), &fixture::results(), &fixture::dead()).expect("page")
    }

    #[test]
    fn nothing_in_a_run_becomes_markup() {
        assert_eq!(
            Escaped("<a b=\"c\" d='e'>&\u{1b}[0m").to_string(),
            "&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;[0m"
        );
        let hostile = "x\"></title><script>alert('1')</script>&";
        let mut results = fixture::results();
        for row in &mut results {
            for text in [&mut row.case, &mut row.kind, &mut row.platform, &mut row.worker_id, &mut row.priority] {
                if !matches!(text.as_str(), "benchmark" | "test" | "web") {
                    *text = hostile.to_owned();
                }
            }
            let texts = [
                &mut row.model,
                &mut row.device,
                &mut row.backend,
                &mut row.backend_version,
                &mut row.precision,
                &mut row.stop_reason,
                &mut row.rejection,
                &mut row.failure_type,
                &mut row.failure_message,
                &mut row.suggestion,
                &mut row.output_tail,
            ];
            for text in texts {
                *text = Some(hostile.to_owned());
            }
            for prediction in &mut row.predictions {
                prediction.metric = hostile.to_owned();
                prediction.release_id = hostile.to_owned();
            }
        }
        let run = RunSummary {
            suite: hostile.to_owned(),
            run_id: hostile.to_owned(),
            origin: hostile.to_owned(),
            submitted_at: hostile.to_owned(),
            completed_at: Some(hostile.to_owned()),
            git_commit: Some(hostile.to_owned()),
            git_branch: Some(hostile.to_owned()),
            ..fixture::run()
        };
        let page = render(&run, &results, &[]).expect("page");
        assert!(!page.contains("<script"), "{page}");
        assert!(!page.contains(hostile), "{page}");
        assert_eq!(page.matches("</title>").count(), 1 + page.matches("<circle").count());
    }

    #[test]
    fn the_page_asks_for_nothing_from_anywhere() {
        let page = page();
        for request in ["src=", "href=", "url(", "@import", "http:", "https:"] {
            assert!(!page.contains(request), "the page contains {request}");
        }
    }

    #[test]
    fn a_run_with_everything_shows_it() {
        let page = page();
        for shown in [
            "nightly &lt;main&gt; <span class=\"chip bad\">failed</span>",
            "4f2c1d9e8b7a on main",
            "<dd>3 min 12 s</dd>",
            "<span class=\"chip bad\">model-missing</span>",
            "run `augur model build broken`",
            "E  assert 1 &lt; &quot;2&quot;",
            "Cancelled: late",
            "not learned from: too few iterations",
            "<td class=\"n\">102</td><td class=\"n\">112</td><td class=\"n\">127</td>",
            "1 of 2 inside the interval",
            "poison <span class=\"chip bad\">crashed</span>",
            "<pre>FATAL\n</pre>",
        ] {
            assert!(page.contains(shown), "the page lacks {shown}");
        }
        assert_eq!(page.matches("<tr").count(), page.matches("</tr>").count());
    }

    #[test]
    fn the_verdict_is_of_the_whole_run() {
        let run = RunSummary { passed: 7, failed: 0, error: 0, cancelled: 0, ..fixture::run() };
        let verdict = |run: &RunSummary| {
            let page = render(run, &[], &[]).expect("page");
            let end = page.find("</span></h1>").expect("a verdict");
            page[..end].rsplit('>').next().map(str::to_owned)
        };
        assert_eq!(verdict(&run).as_deref(), Some("passed"));
        assert_eq!(verdict(&RunSummary { done: 3, passed: 3, ..run.clone() }).as_deref(), Some("running"));
        assert_eq!(verdict(&RunSummary { error: 1, ..run.clone() }).as_deref(), Some("failed"));
        assert_eq!(verdict(&RunSummary { done: 6, passed: 6, dead: 1, ..run.clone() }).as_deref(), Some("failed"));
        assert_eq!(verdict(&RunSummary { cancelled: 1, passed: 6, ..run }).as_deref(), Some("cancelled in part"));
    }
}
