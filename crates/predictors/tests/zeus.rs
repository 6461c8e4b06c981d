//! Power on real measurements: six networks trained on four GPUs under different power limits.
//!
//! A GPU under another limit is another device, since the limit is what physics takes the ratio to. Where the data lie is
//! said in `shared_tables`.

mod shared_tables;

use features::{DeviceTable, MeasuredRow, OperatorTable, PublishedDevice};
use messages::Metric;
use predictors::{Evaluation, Grouping, Learner, Predictors, TrainSettings};

const QUICK: TrainSettings = TrainSettings {
    learner: Learner::GradientBoosting,
    rounds: 150,
    ensemble: 2,
    folds: 5,
    few_shot_below: 50,
    threads: 2,
    seed: 1,
};

/// Rows and devices of one GPU's trace.
fn trace(text: &str, gpu: &str, rows: &mut Vec<MeasuredRow>, devices: &mut DeviceTable) {
    for line in text.lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        let number = |index: usize| cells[index].parse::<f64>().expect("a number");
        let device = format!("{gpu} at {} W", cells[4]);
        let published = PublishedDevice { tdp_w: Some(number(4)), ..PublishedDevice::default() };
        devices.insert(device.clone(), published);
        rows.push(MeasuredRow {
            model: cells[1].to_owned(),
            device,
            platform: Some("cuda".to_owned()),
            // What else was set: no column of its own fits.
            compiler: Some(cells[3].to_owned()),
            batch_size: number(2),
            power_w: Some(number(6)),
            ..MeasuredRow::default()
        });
    }
}

#[test]
fn power_is_learned_below_the_limit() {
    let Some(folder) = shared_tables::folder("zeus") else { return };
    let (mut rows, mut devices) = (Vec::new(), DeviceTable::new());
    for gpu in ["a40", "p100", "rtx6000", "v100"] {
        let text = std::fs::read_to_string(folder.join(format!("summary_power_{gpu}.csv"))).expect("read");
        trace(&text, gpu, &mut rows, &mut devices);
    }
    assert_eq!(rows.len(), 1_609);
    assert_eq!(Predictors::trainable(&rows), [Metric::PowerW], "nothing else was measured");
    let predictors =
        Predictors::train(rows, &devices, &OperatorTable::new(), &[Metric::PowerW], &QUICK, |_| ()).expect("trained");
    let of = |grouping| -> Evaluation {
        let mut found = predictors.evaluation().iter().filter(|found| found.grouping == grouping);
        *found.next().expect("evaluated")
    };
    let [configuration, model, device] = [Grouping::Configuration, Grouping::Model, Grouping::Device].map(of);
    // Half of the rows are of devices with too few configurations to count as known: they are predicted as new ones.
    assert!(configuration.mape_pct < 5.0, "{configuration:?}");
    // Of a network never seen nothing is known here but the batch size, and none is known by its graph, so predictions
    // for others and elsewhere are rough; their intervals say so.
    for found in [configuration, model, device] {
        assert!(found.mape_pct < found.roofline_mape_pct, "{found:?}");
        assert!((80.0..=97.0).contains(&found.interval_90_coverage_pct), "{found:?}");
    }
    // Nobody measured latency, so nothing is said of it.
    assert_eq!(predictors.metrics(), [Metric::PowerW]);
}
