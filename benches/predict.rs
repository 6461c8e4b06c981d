//! What one prediction with its interval costs, and one of 10,000 in a batch, features given; and what the features of
//! 10,000 rows cost.
//!
//! The predictors have the default number of boosters and trees and learn from a third of a published table (see
//! `tests/shared_tables`), since depth and number of trees decide. Questions are new configurations of known models, for
//! which the most trees are asked; models never seen; and devices never seen.

#[path = "../crates/predictors/tests/shared_tables/mod.rs"]
mod shared_tables;

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, Throughput};
use features::{DeviceTable, FeatureFrame, MeasuredRow, OperatorTable};
use messages::Metric;
use predictors::{Predictors, Questions, TrainSettings};

/// Questions of a large batch.
const BATCH: usize = 10_000;
/// Every so many models are learned from.
const STEP: usize = 3;

fn main() {
    let mut criterion = Criterion::default()
        .configure_from_args()
        .sample_size(30)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(4));
    let (Some(all), Some(tables)) = (shared_tables::every(1), shared_tables::every(STEP)) else { return };
    let rows = tables.rows.clone();
    // Two folds instead of five train faster and leave the released boosters as they are.
    let settings = TrainSettings { folds: 2, ..TrainSettings::default() };
    let predictors =
        Predictors::train(tables.rows, &tables.devices, &tables.operators, &[Metric::LatencyMs], &settings, |step| {
            eprintln!("{step}");
        })
        .expect("trained");
    let operators = tables.operators;
    let ask = |change: &dyn Fn(&mut MeasuredRow)| -> Vec<Questions> {
        let question = |row: &MeasuredRow| {
            let mut row = MeasuredRow { latency_ms: None, throughput_items_per_second: None, ..row.clone() };
            let known = operators.get(&row.model).cloned();
            change(&mut row);
            (row.clone(), known.map(|entries| (row.model, entries)))
        };
        let asked: Vec<_> = rows.iter().cycle().take(BATCH).map(question).collect();
        let operators: OperatorTable = asked.iter().filter_map(|(_, operators)| operators.clone()).collect();
        let all: Vec<MeasuredRow> = asked.iter().map(|(row, _)| row.clone()).collect();
        let mut questions: Vec<Questions> = all
            .iter()
            .take(64)
            .map(|row| predictors.ask(vec![row.clone()], DeviceTable::new(), operators.clone()).expect("asked"))
            .collect();
        questions.push(predictors.ask(all, DeviceTable::new(), operators).expect("asked"));
        questions
    };
    let kinds: [(&str, Vec<Questions>); 3] = [
        ("new_configuration", ask(&|row| row.batch_size = (row.batch_size / 2.0).max(1.0))),
        ("new_model", ask(&|row| row.model = format!("new {}", row.model))),
        ("new_device", ask(&|row| "a new one".clone_into(&mut row.device))),
    ];
    let mut group = criterion.benchmark_group("features");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("batch_10000", |bencher| {
        let rows = black_box(&all.rows[..BATCH]);
        bencher.iter(|| FeatureFrame::build(rows, &all.devices, &all.operators).expect("described"));
    });
    group.finish();
    let mut group = criterion.benchmark_group("predict");
    for (name, questions) in &kinds {
        let (batch, single) = questions.split_last().expect("a batch and some");
        let mut one = single.iter().cycle();
        let mut next = || one.next().expect("a cycle has no end");
        let answer = |questions: &Questions| predictors.predict(questions, Metric::LatencyMs).expect("answered");
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("{name}_single"), |bencher| bencher.iter(|| answer(black_box(next()))));
        group.throughput(Throughput::Elements(BATCH as u64));
        group.bench_function(format!("{name}_batch_10000"), |bencher| bencher.iter(|| answer(black_box(batch))));
    }
    group.finish();
    criterion.final_summary();
}
