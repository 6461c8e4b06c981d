use messages::{Device, Platform};

use super::*;
use crate::synthetic::{measurement, measurements, subject};

const QUICK: TrainSettings = TrainSettings { rounds: 80, ensemble: 3, folds: 4, threads: 2, seed: 3 };

fn evaluation(predictors: &Predictors, metric: Metric, grouping: Grouping) -> Evaluation {
    let found = predictors.evaluation().iter().find(|found| found.metric == metric && found.grouping == grouping);
    *found.expect("evaluated")
}

#[test]
fn predictions_come_close_where_the_roofline_does_not() {
    let rows = measurements(0..8);
    let predictors = Predictors::train(&rows, &TrainSettings::default()).expect("trained");
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
    let predicted = predictors.predict(&[Subject::from(&truth)]).expect("described").remove(0);
    let latency = predicted.metric(Metric::LatencyMs).expect("trained");
    assert!((latency.value / truth.latency_ms - 1.0).abs() < 0.15, "{latency:?}, truly {}", truth.latency_ms);
    let memory = predicted.metric(Metric::MemoryPeakMb).expect("trained");
    let true_mb = truth.memory_peak_mb.expect("measured");
    assert!((memory.value / true_mb - 1.0).abs() < 0.15, "{memory:?}, truly {true_mb}");
}

#[test]
fn throughput_is_batch_size_over_latency_and_its_interval_turned_over() {
    let predictors = Predictors::train(&measurements(0..4), &QUICK).expect("trained");
    let predicted = predictors.predict(&[subject(2, 8, 2)]).expect("described").remove(0);
    let metrics: Vec<_> = predicted.metrics.iter().map(|predicted| predicted.metric).collect();
    assert_eq!(metrics, [Metric::LatencyMs, Metric::ThroughputItemsPerSecond, Metric::MemoryPeakMb]);
    let [latency, throughput, _] = predicted.metrics[..] else { panic!("three metrics") };
    for (ms, per_second) in
        [(latency.value, throughput.value), (latency.lower, throughput.upper), (latency.upper, throughput.lower)]
    {
        assert!((ms * per_second - 8_000.0).abs() < 1e-6, "{latency:?} {throughput:?}");
    }
    for metric in &predicted.metrics {
        assert!(0.0 < metric.lower && metric.lower < metric.value && metric.value < metric.upper, "{metric:?}");
    }
}

#[test]
fn a_new_model_has_a_wider_interval_of_its_own_calibration() {
    let predictors = Predictors::train(&measurements(0..6), &QUICK).expect("trained");
    let known = subject(3, 4, 2);
    let mut renamed = known.clone();
    renamed.configuration.model.name = "another".to_owned();
    renamed.configuration.model.sha256 = messages::ContentHash([99; 32]);
    let mut elsewhere = known.clone();
    elsewhere.device.name = "Another CPU".to_owned();
    let predicted = predictors.predict(&[known, renamed, elsewhere]).expect("described");
    let seen: Vec<_> = predicted.iter().map(|predicted| (predicted.known_model, predicted.known_device)).collect();
    assert_eq!(seen, [(true, true), (false, true), (false, false)]);
    let [known, renamed, elsewhere] = [0, 1, 2].map(|index| predicted[index].metrics[0]);
    assert_eq!(known.value.to_bits(), renamed.value.to_bits(), "names are no features");
    let estimator = &predictors.estimators[0];
    let new_model = estimator.new_model.expect("six models");
    let half_width = new_model.half_width(renamed.spread_log);
    assert!(((renamed.upper / renamed.value).ln() - half_width).abs() < 1e-9, "{renamed:?} {new_model:?}");
    assert!((elsewhere.upper - renamed.upper).abs() < 1e-9, "a known model on another device is new there");
    assert_ne!(estimator.known_model, new_model);
}

#[test]
fn two_models_are_too_few_to_know_errors_on_a_third() {
    let predictors = Predictors::train(&measurements(0..2), &QUICK).expect("trained");
    assert!(predictors.evaluation().iter().all(|found| found.grouping == Grouping::Configuration));
    assert!(predictors.estimators.iter().all(|estimator| estimator.new_model.is_none()));
}

#[test]
fn too_few_rows_are_an_error_with_both_numbers() {
    let rows = measurements(0..8);
    let error = Predictors::train(&rows[..19], &QUICK).expect_err("too few");
    assert!(matches!(error, PredictorError::TooFewRows { found: 19, needed: ROWS_NEEDED }), "{error}");
    let repeated: Vec<_> = rows[..19].iter().cycle().take(100).cloned().collect();
    let error = Predictors::train(&repeated, &QUICK).expect_err("repeats are no new configurations");
    assert!(matches!(error, PredictorError::TooFewRows { found: 19, .. }), "{error}");
    assert!(matches!(Predictors::train(&[], &QUICK), Err(PredictorError::TooFewRows { found: 0, .. })));
}

#[test]
fn rows_that_cannot_be_learned_from_are_left_out() {
    let good = measurements(0..3);
    let mut rows = good.clone();
    let mut undescribed = good[0].clone();
    undescribed.device = Device::unknown("New NPU", Platform::Qnn);
    let (mut negative, mut empty) = (good[1].clone(), good[2].clone());
    negative.latency_ms = f64::NAN;
    empty.costs.operators.clear();
    rows.extend([undescribed, negative, empty]);
    assert_eq!(Predictors::train(&rows, &QUICK).expect("trained").training_rows(), 36);
}

#[test]
fn a_metric_that_was_hardly_measured_is_not_predicted() {
    let mut rows = measurements(0..3);
    rows.iter_mut().skip(ROWS_NEEDED - 1).for_each(|row| row.memory_peak_mb = None);
    let predictors = Predictors::train(&rows, &QUICK).expect("latency is there");
    let predicted = predictors.predict(&[subject(1, 1, 1)]).expect("described").remove(0);
    assert_eq!(predicted.metric(Metric::MemoryPeakMb), None);
    assert!(predicted.metric(Metric::LatencyMs).is_some());
    assert!(predictors.evaluation().iter().all(|found| found.metric != Metric::MemoryPeakMb));
}

#[test]
fn what_cannot_be_described_is_named() {
    let predictors = Predictors::train(&measurements(0..3), &QUICK).expect("trained");
    let mut unknown = subject(1, 1, 1);
    unknown.device = Device::unknown("New NPU", Platform::Qnn);
    let error = predictors.predict(&[subject(0, 1, 1), unknown]).expect_err("undescribed");
    let PredictorError::Features { source } = error else { panic!("{error}") };
    assert!(source.to_string().contains("`New NPU`"), "{source}");
    assert_eq!(predictors.predict(&[]).expect("nothing asked"), []);
}

#[test]
fn threads_change_nothing_but_time() {
    let rows = measurements(0..3);
    let train = |threads| Predictors::train(&rows, &TrainSettings { threads, ..QUICK }).expect("trained");
    let subjects = [subject(0, 3, 1), subject(9, 16, 3)];
    let (one, three) = (train(1), train(3));
    assert_eq!(one.predict(&subjects).expect("described"), three.predict(&subjects).expect("described"));
    assert_eq!(one.evaluation(), three.evaluation());
}

#[test]
fn several_threads_may_ask_at_once() {
    fn check_send_and_sync(_: &(impl Send + Sync)) {}
    let predictors = Predictors::train(&measurements(0..3), &QUICK).expect("trained");
    check_send_and_sync(&predictors);
    let subjects: Vec<_> = (1..9).map(|batch_size| subject(1, batch_size, 2)).collect();
    let expected = predictors.predict(&subjects).expect("described");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(predictors.predict(&subjects).expect("described"), expected);
                }
            });
        }
    });
}
