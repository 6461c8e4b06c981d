//! Holds complete runs against what was measured before them, beside the reader and off its way.
//!
//! A run is looked at once all its jobs have ended, not at each of its results: the correction for many comparisons needs
//! to know how many there are, and looking again and again would find a false alarm in the end. What is compared, and how,
//! is [`crate::compare_repeats`]'s business; here the baseline is the latest earlier measurements of the same
//! configuration on the same device, whichever runs they came from.

use std::{sync::Arc, time::Duration};

use messages::{RunId, Timestamp};
use store::{ComparableRow, JudgementRow, RegressionRow, Store, StoreError};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::blocking;
use crate::{CompareSettings, Compared, Comparison, Repeats, Verdict, compare_repeats, worker::chain};

/// Runs that are looked at, and stored, at once.
const RUNS_MAX: usize = 100;
/// Earlier measurements that a configuration is held against, at most; older ones say little of today's machine. A single
/// repeat is beyond so many by chance in 2 of 61 cases: fewer could never tell that it is slower.
const EARLIER_MAX: u32 = 60;
/// Wait between two looks, so that many small runs are looked at together and leave the machine to the reader.
const LOOK_WAIT: Duration = Duration::from_secs(1);

/// Looks at runs whenever some may have become complete.
pub(super) async fn keep(store: Store, ended: Arc<Notify>, changes: watch::Sender<u64>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = ended.notified() => {}
        }
        let looking = store.clone();
        match blocking(move || look(&looking)).await {
            Ok(0) => {}
            Ok(runs) => {
                changes.send_modify(|version| *version += 1);
                if runs == RUNS_MAX {
                    ended.notify_one();
                }
            }
            Err(error) => warn!(error = %chain(&error), "runs were not held against earlier ones"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_WAIT) => {}
        }
    }
}

/// Judges the complete runs that nobody judged yet; returns how many.
fn look(store: &Store) -> Result<usize, StoreError> {
    let settings = CompareSettings::default();
    let judged = |(run, done): (RunId, u32)| {
        let rows = store.comparable(run, EARLIER_MAX)?;
        Ok(judgement(run, done, &rows, &settings))
    };
    let judgements = store.unjudged_runs(RUNS_MAX)?.into_iter().map(judged).collect::<Result<Vec<_>, StoreError>>()?;
    if !judgements.is_empty() {
        store.judge(&judgements, Timestamp::now())?;
    }
    for of in &judgements {
        tell(of);
    }
    Ok(judgements.len())
}

fn tell(of: &JudgementRow) {
    for row in &of.regressions {
        warn!(
            run_id = of.run_id,
            configuration = row.configuration,
            difference_pct = row.difference_pct,
            run_ms = row.run_ms,
            baseline_ms = row.baseline_ms,
            p_corrected = row.p_corrected,
            "regression found"
        );
    }
    if of.compared > 0 {
        let JudgementRow { run_id, compared, undecided, improvements, .. } = of;
        info!(run_id, compared, undecided, improvements, regressions = of.regressions.len(), "run compared");
    }
}

fn compare(rows: &[ComparableRow], settings: &CompareSettings) -> Comparison {
    // The median of one iteration is that iteration.
    let jobs = |medians: &[f64]| medians.iter().map(|median| vec![*median]).collect();
    let repeats = |row: &ComparableRow| Repeats {
        name: row.configuration.clone(),
        place: row.place.clone(),
        run: jobs(&row.run_ms),
        baseline: jobs(&row.earlier_ms),
    };
    compare_repeats(&rows.iter().map(repeats).collect::<Vec<_>>(), settings)
}

fn judgement(run: RunId, done: u32, rows: &[ComparableRow], settings: &CompareSettings) -> JudgementRow {
    let compared = compare(rows, settings);
    let count = |verdict| whole(compared.configurations.iter().filter(|of| of.verdict == verdict).count());
    JudgementRow {
        run_id: run.to_string(),
        judged_at: String::new(),
        done,
        compared: whole(compared.configurations.len()),
        undecided: count(Verdict::Undecided),
        improvements: count(Verdict::Improvement),
        threshold_pct: settings.threshold_pct,
        false_alarms: settings.false_alarms,
        regressions: compared.all().filter(|of| of.verdict == Verdict::Regression).map(regression).collect(),
    }
}

fn regression(of: &Compared) -> RegressionRow {
    let percent = |ratio: f64| 100.0 * (ratio - 1.0);
    RegressionRow {
        configuration: of.name.clone(),
        run_repeats: whole(of.repeats[0]),
        baseline_repeats: whole(of.repeats[1]),
        run_ms: of.run_ms,
        baseline_ms: of.baseline_ms,
        difference_pct: percent(of.ratio),
        lower_pct: of.interval.map(|[lower, _]| percent(lower)),
        upper_pct: of.interval.map(|[_, upper]| percent(upper)),
        p: of.p.unwrap_or(1.0),
        p_corrected: of.p_corrected.unwrap_or(1.0),
    }
}

fn whole(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use messages::{JobResult, JobSpec, LatencySummary, Outcome, RunRef};
    use store::{OutboxMode, Record};
    use testkit::builders;

    use super::*;

    /// Configurations of a run, and repeats of each.
    const CONFIGURATIONS: u64 = 200;
    const REPEATS: u64 = 10;

    /// Results of run `number`, each repeat's level scattered by a few percent; configurations take so many times as long.
    fn results(number: u64, configurations: u64, slower: impl Fn(u64) -> f64) -> Vec<Record> {
        let mut random = fastrand::Rng::with_seed(number);
        let jobs_total = whole(usize::try_from(configurations * REPEATS).expect("few"));
        let run = RunRef { run_id: builders::run_id(number), jobs_total, ..builders::run_ref() };
        let result = |index: u64| {
            let configuration = index % configurations;
            let scatter: f64 = (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
            let ms = (20.0 + configuration as f64) * (0.02 * scatter).exp() * slower(configuration);
            Record::Result(Box::new(measured(&run, 10_000 * number + index, configuration, ms)))
        };
        (0..configurations * REPEATS).map(result).collect()
    }

    /// Submitted and ended in the run's own hour.
    fn measured(run: &RunRef, job: u64, configuration: u64, ms: f64) -> JobResult {
        let hour = 3_600 * i64::try_from(job / 10_000).expect("few");
        let mut result = builders::job_result();
        (result.job.job_id, result.job.run) = (builders::job_id(job), run.clone());
        result.job.submitted_at = builders::time(hour);
        (result.started_at, result.finished_at) = (builders::time(hour + 1), builders::time(hour + 4));
        if let JobSpec::Benchmark(spec) = &mut result.job.spec {
            spec.configuration.batch_size = u32::try_from(configuration + 1).expect("few");
        }
        if let Outcome::Benchmark(outcome) = &mut result.outcome {
            outcome.latency_ms = LatencySummary::from_iterations(vec![ms; 5]).expect("positive");
        }
        result
    }

    fn commit(store: &Store, records: &[Record]) {
        store.commit(records, None, OutboxMode::Skip).expect("stored");
    }

    fn judged(store: &Store, number: u64) -> JudgementRow {
        store.judgement(builders::run_id(number)).expect("read").expect("judged")
    }

    #[test]
    fn a_planted_slow_down_is_found_among_all_that_is_equal_and_each_run_is_judged_once() {
        let store = Store::in_memory().expect("a store");
        commit(&store, &results(1, CONFIGURATIONS, |_| 1.0));
        assert_eq!(look(&store).expect("read"), 1);
        assert_eq!(judged(&store, 1).compared, 0, "nothing was measured before");
        commit(&store, &results(2, CONFIGURATIONS, |_| 1.0));
        commit(&store, &results(3, CONFIGURATIONS, |number| if number == 77 { 1.1 } else { 1.0 }));
        assert_eq!(look(&store).expect("read"), 2);
        assert_eq!(look(&store).expect("read"), 0);

        let same = judged(&store, 2);
        assert_eq!((same.compared, same.undecided, same.improvements), (200, 0, 0));
        assert_eq!(same.regressions, []);
        let slower = judged(&store, 3);
        let [found] = &slower.regressions[..] else { panic!("one is slower: {:#?}", slower.regressions) };
        let name = "resnet50 cpu fp32 batch 78 image 224 threads 2 on Test CPU 8-Core";
        assert_eq!((found.configuration.as_str(), found.run_repeats, found.baseline_repeats), (name, 10, 20));
        assert!((5.0..15.0).contains(&found.difference_pct) && found.p_corrected <= 0.05, "{found:?}");
        commit(&store, &results(4, CONFIGURATIONS, |_| 1.1));
        look(&store).expect("read");
        let slower = judged(&store, 4).regressions;
        let device = "200 configurations of cpu on Test CPU 8-Core together";
        assert!(slower.iter().any(|row| row.configuration == device), "{slower:#?}");
    }

    /// So many configurations of one device, each measured so often in a run that is slower by a factor, and before.
    fn rows(
        random: &mut fastrand::Rng,
        configurations: u32,
        [run, earlier]: [u32; 2],
        slower: f64,
    ) -> Vec<ComparableRow> {
        let mut repeats = |count: u32, ms: f64| -> Vec<f64> {
            (0..count).map(|_| ms * (0.02 * ((0..12).map(|_| random.f64()).sum::<f64>() - 6.0)).exp()).collect()
        };
        let mut row = |index: u32| ComparableRow {
            configuration: index.to_string(),
            place: "cpu on EPYC".to_owned(),
            run_ms: repeats(run, 10.0 * slower),
            earlier_ms: repeats(earlier, 10.0),
        };
        (0..configurations).map(&mut row).collect()
    }

    #[test]
    fn equal_runs_alarm_no_more_often_than_promised() {
        // Any difference counts, so that only chance is tested; 5 % are promised: 10 of 200, and by chance up to 19.
        let settings = CompareSettings { threshold_pct: 0.0, ..CompareSettings::default() };
        for (configurations, repeats) in [(20, [8, EARLIER_MAX]), (30, [1, 20]), (30, [1, 1]), (1, [1, EARLIER_MAX])] {
            let mut random = fastrand::Rng::with_seed(5);
            let mut alarmed = || {
                let judged = compare(&rows(&mut random, configurations, repeats, 1.0), &settings);
                judged.all().any(|of| matches!(of.verdict, Verdict::Improvement | Verdict::Regression))
            };
            let alarms = (0..200).filter(|_| alarmed()).count();
            assert!(alarms <= 19, "{alarms} of 200: {configurations} configurations, {repeats:?}");
        }
    }

    /// A suite of one repeat each said nothing, whatever had become of the machine.
    #[test]
    fn a_suite_that_is_measured_once_says_that_its_device_is_slower() {
        let settings = CompareSettings::default();
        for seed in 0..20 {
            let rows = rows(&mut fastrand::Rng::with_seed(seed), 24, [1, 10], 1.1);
            let judged = judgement(builders::run_id(1), 24, &rows, &settings);
            let [found] = &judged.regressions[..] else { panic!("seed {seed}: {:#?}", judged.regressions) };
            assert_eq!(found.configuration, "24 configurations of cpu on EPYC together");
            assert_eq!((found.run_repeats, found.baseline_repeats, judged.undecided), (24, 240, 24));
            assert!((7.0..13.0).contains(&found.difference_pct) && found.p_corrected < 0.001, "{found:?}");
        }
        let one = rows(&mut fastrand::Rng::with_seed(1), 1, [1, EARLIER_MAX], 10.0);
        let judged = judgement(builders::run_id(1), 1, &one, &settings);
        assert_eq!((judged.compared, judged.regressions.len()), (1, 1), "one configuration, ten times slower");
    }

    #[test]
    fn what_is_not_learned_from_is_not_compared_and_a_late_result_is() {
        let store = Store::in_memory().expect("a store");
        commit(&store, &results(1, 1, |_| 1.0));
        let mut later = results(2, 1, |_| 1.0);
        let Some(Record::Result(poisoned)) = later.first_mut() else { panic!("a result") };
        if let Outcome::Benchmark(outcome) = &mut poisoned.outcome {
            outcome.latency_ms.mean = 0.0;
        }
        commit(&store, &later);
        look(&store).expect("read");
        let rows = store.comparable(builders::run_id(2), EARLIER_MAX).expect("read");
        assert_eq!((rows[0].run_ms.len(), rows[0].earlier_ms.len()), (9, 10));
        // A job of the run that was dead has a result after all.
        let run = RunRef { run_id: builders::run_id(2), ..builders::run_ref() };
        commit(&store, &[Record::Result(Box::new(measured(&run, 20_500, 0, 20.0)))]);
        assert_eq!(look(&store).expect("read"), 1);
        assert_eq!(judged(&store, 2).done, 11);
    }
}
