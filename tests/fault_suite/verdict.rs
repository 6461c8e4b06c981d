//! What became of every job, from four sides: confirms, table, stream, dead letters.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use anyhow::{Result, ensure};

/// What must become of a confirmed message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// One counted result, passed.
    Passed,
    /// At least one dead letter, for one of these reasons, and no result: dead-lettering is at least once.
    DeadLetter(&'static [&'static str]),
}

/// Everything that was published, by message id; of jobs that is the job id.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    pub(crate) expected: BTreeMap<String, Expected>,
    pub(crate) confirmed: BTreeSet<String>,
}

/// One row of the aggregator's table.
#[derive(Debug, Clone)]
pub(crate) struct Counted {
    pub(crate) job_id: String,
    pub(crate) status: String,
}

/// What lies with the dead letters under one message id, in one copy or several.
#[derive(Debug, Clone, Default)]
pub(crate) struct Letter {
    /// Why, in the words that operators read; copies may differ.
    pub(crate) reasons: BTreeSet<String>,
    /// Whether it says that it belongs to the run.
    pub(crate) is_of_run: bool,
}

/// What was found afterwards.
#[derive(Debug, Clone, Default)]
pub(crate) struct Evidence {
    /// Rows of the table.
    pub(crate) counted: Vec<Counted>,
    /// Results that the run counts: its counters are added to, while a job has one row however often it is stored.
    pub(crate) results_counted: usize,
    /// Dead jobs that the run counts.
    pub(crate) dead_counted: usize,
    /// Attempts of the result records on the stream, by job.
    pub(crate) on_stream: BTreeMap<String, Vec<u32>>,
    /// Highest attempt of any record on the stream, by job.
    pub(crate) attempts: BTreeMap<String, u32>,
    /// Dead letters, by message id.
    pub(crate) dead: BTreeMap<String, Letter>,
}

/// The gates.
#[derive(Debug, Clone, Default)]
pub(crate) struct Verdict {
    pub(crate) submitted: usize,
    pub(crate) confirmed: usize,
    /// Confirmed, and neither counted nor a dead letter.
    pub(crate) lost: Vec<String>,
    pub(crate) counted_twice: Vec<String>,
    /// Anything else that should not be, with its reason.
    pub(crate) unexpected: Vec<String>,
    /// Result records beyond one per job, and jobs that took more than one attempt.
    pub(crate) redeliveries: usize,
}

impl Verdict {
    pub(crate) fn is_clean(&self) -> bool {
        self.lost.is_empty() && self.counted_twice.is_empty() && self.unexpected.is_empty()
    }
}

/// Holds what was confirmed against what was found.
pub(crate) fn judge(ledger: &Ledger, evidence: &Evidence) -> Verdict {
    let mut verdict =
        Verdict { submitted: ledger.expected.len(), confirmed: ledger.confirmed.len(), ..Verdict::default() };
    let mut counted: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for row in &evidence.counted {
        counted.entry(&row.job_id).or_default().push(&row.status);
    }
    for (id, expected) in &ledger.expected {
        let rows = counted.get(id.as_str()).map_or(&[][..], Vec::as_slice);
        let letter = evidence.dead.get(id);
        let (is_counted, is_dead) = (!rows.is_empty(), letter.is_some());
        if rows.len() > 1 {
            verdict.counted_twice.push(id.clone());
        }
        if !is_counted && evidence.on_stream.contains_key(id) {
            verdict.lost.push(format!("{id} (its result is on the stream)"));
        } else if ledger.confirmed.contains(id) && !is_counted && !is_dead {
            verdict.lost.push(id.clone());
        }
        if is_counted && !evidence.on_stream.contains_key(id) {
            verdict.unexpected.push(format!("{id} is counted and has no result on the stream"));
        }
        let failed = rows.iter().find(|status| **status != "passed");
        match expected {
            Expected::Passed if is_dead => verdict.unexpected.push(format!("{id} is a dead letter")),
            Expected::Passed => verdict.unexpected.extend(failed.map(|status| format!("{id} is counted as {status}"))),
            Expected::DeadLetter(_) if is_counted => verdict.unexpected.push(format!("{id} is counted as {}", rows[0])),
            Expected::DeadLetter(reasons) => {
                let found = letter.into_iter().flat_map(|letter| &letter.reasons);
                let wrong = found.filter(|found| !reasons.contains(&found.as_str()));
                let wrong = wrong.map(|wrong| format!("{id} died as {wrong}, not as {}", reasons.join(" or ")));
                verdict.unexpected.extend(wrong);
            }
        }
    }
    let (results, jobs) = (evidence.results_counted, evidence.counted.len());
    match results.cmp(&jobs) {
        Ordering::Greater => verdict.counted_twice.push(format!("the run counts {results} results of {jobs} jobs")),
        Ordering::Less => verdict.lost.push(format!("the run counts only {results} results of {jobs} jobs")),
        Ordering::Equal => {}
    }
    let strangers = counted.keys().copied().chain(evidence.dead.keys().map(String::as_str));
    let strangers: BTreeSet<_> = strangers.filter(|id| !ledger.expected.contains_key(*id)).collect();
    verdict.unexpected.extend(strangers.into_iter().map(|id| format!("{id} was never submitted")));
    // What nobody can read may belong to no run.
    let (dead, letters) = (evidence.dead_counted, evidence.dead.values().filter(|letter| letter.is_of_run).count());
    if dead != letters {
        verdict.unexpected.push(format!("the run counts {dead} dead jobs and has {letters} among the dead letters"));
    }
    verdict.redeliveries = evidence.on_stream.values().map(|records| records.len() - 1).sum::<usize>()
        + evidence.attempts.values().filter(|attempt| **attempt > 1).count();
    verdict
}

/// Shows the judge one crime of each kind.
///
/// # Errors
///
/// If it overlooks one, or accuses the innocent.
pub(crate) fn check_the_judge() -> Result<()> {
    let id = |text: &str| text.to_owned();
    let confirmed = ["good", "lost", "twice", "failed", "dead", "poison", "garbage", "mistaken", "unstored"];
    let mut ledger = Ledger::default();
    for name in confirmed {
        let expected = match name {
            "poison" | "mistaken" => Expected::DeadLetter(&["crashed", "worker-lost"]),
            "garbage" => Expected::DeadLetter(&["undecodable"]),
            _ => Expected::Passed,
        };
        ledger.expected.insert(id(name), expected);
        ledger.confirmed.insert(id(name));
    }
    // Not confirmed: it may be there or not.
    ledger.expected.insert(id("unconfirmed"), Expected::Passed);
    let row = |name: &str, status: &str| Counted { job_id: id(name), status: id(status) };
    let counted = vec![
        row("good", "passed"),
        row("twice", "passed"),
        row("twice", "passed"),
        row("failed", "error"),
        row("stranger", "passed"),
    ];
    let streamed = [("good", vec![1, 1]), ("twice", vec![1]), ("failed", vec![2]), ("unstored", vec![1])];
    let letter = |name: &str, reasons: &[&str], is_of_run| {
        (id(name), Letter { reasons: reasons.iter().copied().map(id).collect(), is_of_run })
    };
    let letters = [
        letter("dead", &["crashed"], true),
        letter("poison", &["crashed", "worker-lost"], true),
        letter("garbage", &["undecodable"], false),
        letter("mistaken", &["crashed", "timed-out"], true),
    ];
    let evidence = Evidence {
        results_counted: counted.len() + 1,
        dead_counted: 2,
        counted,
        on_stream: streamed.iter().map(|(name, attempts)| (id(name), attempts.clone())).collect(),
        attempts: BTreeMap::from([(id("good"), 1), (id("failed"), 2)]),
        dead: BTreeMap::from(letters),
    };
    let verdict = judge(&ledger, &evidence);
    let found = (&verdict.lost[..], &verdict.counted_twice[..], verdict.redeliveries);
    let lost = [id("lost"), id("unstored (its result is on the stream)")];
    let twice = [id("twice"), id("the run counts 6 results of 5 jobs")];
    ensure!(found == (&lost[..], &twice[..], 2), "the judge is blind: {verdict:?}");
    let unexpected = [
        "dead is a dead letter",
        "failed is counted as error",
        "mistaken died as timed-out, not as crashed or worker-lost",
        "stranger was never submitted",
        "the run counts 2 dead jobs and has 3 among the dead letters",
    ];
    ensure!(verdict.unexpected == unexpected, "the judge is blind: {verdict:?}");
    let (results_counted, dead_counted) = (evidence.counted.len() - 1, 3);
    let verdict = judge(&ledger, &Evidence { results_counted, dead_counted, ..evidence });
    ensure!(verdict.unexpected == unexpected[..4], "the judge accuses the innocent: {verdict:?}");
    let found = (&verdict.lost[2..], &verdict.counted_twice[..]);
    let fewer = [id("the run counts only 4 results of 5 jobs")];
    ensure!(found == (&fewer[..], &twice[..1]), "the judge is blind: {verdict:?}");
    Ok(())
}
