//! Predictors of our own jobs' measurements: tens of rows on one device.

use super::*;
use crate::{
    Grouping, Learner,
    synthetic::{measurement, measurements, subject, train},
};

const QUICK: TrainSettings = TrainSettings {
    learner: Learner::GradientBoosting,
    rounds: 80,
    ensemble: 3,
    folds: 4,
    few_shot_below: 50,
    threads: 2,
    seed: 3,
};

fn evaluation(predictors: &Predictors, metric: Metric, grouping: Grouping) -> Evaluation {
    let found = predictors.evaluation().iter().find(|found| found.metric == metric && found.grouping == grouping);
    *found.expect("evaluated")
}

#[test]
fn predictions_come_close_where_physics_alone_does_not() {
    let predictors = train(&measurements(0..8), &TrainSettings::default()).expect("trained");
    for metric in [Metric::LatencyMs, Metric::ThroughputItemsPerSecond, Metric::MemoryPeakMb] {
        let known = evaluation(&predictors, metric, Grouping::Configuration);
        assert!(known.mape_pct < 10.0 && known.mape_pct < known.roofline_mape_pct / 3.0, "{known:?}");
        assert!((75.0..=100.0).contains(&known.interval_90_coverage_pct), "{known:?}");
        assert_eq!((known.rows, known.folds), (96, 5));
        let new = evaluation(&predictors, metric, Grouping::Model);
        assert!(new.mape_pct < new.roofline_mape_pct / 2.0, "{new:?}");
    }
    assert_eq!(predictors.training_rows(), 96);

    // A configuration between measured ones; its truth has no noise.
    let truth = measurement(subject(3, 6, 2), 1.0);
    let predicted = predictors.predict_subjects(&[Subject::from(&truth)]).expect("described").remove(0);
    let latency = predicted.metric(Metric::LatencyMs).expect("trained");
    assert!((latency.value / truth.latency_ms - 1.0).abs() < 0.15, "{latency:?}, truly {}", truth.latency_ms);
    let memory = predicted.metric(Metric::MemoryPeakMb).expect("trained");
    let true_mb = truth.memory_peak_mb.expect("measured");
    assert!((memory.value / true_mb - 1.0).abs() < 0.15, "{memory:?}, truly {true_mb}");
    let metrics: Vec<_> = predicted.metrics.iter().map(|predicted| predicted.metric).collect();
    assert_eq!(metrics, [Metric::LatencyMs, Metric::ThroughputItemsPerSecond, Metric::MemoryPeakMb]);
    assert!(predicted.metrics.iter().all(|metric| metric.spread_log > 0.0), "{predicted:?}");
}

#[test]
fn too_few_configurations_are_an_error_with_both_numbers() {
    let rows = measurements(0..8);
    let error = train(&rows[..19], &QUICK).expect_err("too few");
    assert!(matches!(error, PredictorError::TooFewRows { found: 19, needed: ROWS_NEEDED }), "{error}");
    let repeated: Vec<_> = rows[..19].iter().cycle().take(100).cloned().collect();
    let error = train(&repeated, &QUICK).expect_err("repeats are no new configurations");
    assert!(matches!(error, PredictorError::TooFewRows { found: 19, .. }), "{error}");
}

#[test]
fn a_metric_that_was_hardly_measured_is_not_predicted() {
    let mut rows = measurements(0..3);
    rows.iter_mut().skip(ROWS_NEEDED - 1).for_each(|row| row.memory_peak_mb = None);
    let predictors = train(&rows, &QUICK).expect("latency is there");
    assert_eq!(predictors.metrics(), [Metric::LatencyMs, Metric::ThroughputItemsPerSecond]);
    assert!(predictors.evaluation().iter().all(|found| found.metric != Metric::MemoryPeakMb));
}

#[test]
fn repeats_that_disagree_widen_the_interval() {
    let width = |noise: f64| {
        let mut rows = measurements(0..4);
        let again: Vec<_> = rows
            .iter()
            .cloned()
            .map(|row| messages::AcceptedMeasurement {
                job_id: messages::JobId::new(),
                latency_ms: row.latency_ms * noise,
                ..row
            })
            .collect();
        rows.extend(again);
        let predictors = train(&rows, &QUICK).expect("trained");
        let predicted = predictors.predict_subjects(&[subject(2, 4, 2)]).expect("described").remove(0);
        let latency = *predicted.metric(Metric::LatencyMs).expect("trained");
        (latency.upper / latency.lower).ln() / 2.0
    };
    let (alike, apart) = (width(1.0), width(1.5));
    // Half of the repeats lie ln(1.5) / 2 above the middle of their configuration, half below.
    assert!(alike < 0.15 && apart > 0.2, "{alike} {apart}");
}

#[test]
fn threads_change_nothing_but_time() {
    let rows = measurements(0..3);
    let train = |threads| train(&rows, &TrainSettings { threads, ..QUICK }).expect("trained");
    let subjects = [subject(0, 3, 1), subject(9, 16, 3)];
    let (one, three) = (train(1), train(3));
    let ask = |predictors: &Predictors| predictors.predict_subjects(&subjects).expect("described");
    assert_eq!(ask(&one), ask(&three));
    assert_eq!(one.evaluation(), three.evaluation());
}

#[test]
fn several_threads_may_ask_at_once() {
    fn check_send_and_sync(_: &(impl Send + Sync)) {}
    let predictors = train(&measurements(0..3), &QUICK).expect("trained");
    check_send_and_sync(&predictors);
    let subjects: Vec<_> = (1..9).map(|batch_size| subject(1, batch_size, 2)).collect();
    let expected = predictors.predict_subjects(&subjects).expect("described");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    assert_eq!(predictors.predict_subjects(&subjects).expect("described"), expected);
                }
            });
        }
    });
    assert_eq!(predictors.predict_subjects(&[]).expect("nothing asked"), []);
}
