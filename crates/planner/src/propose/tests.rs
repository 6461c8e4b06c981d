use std::sync::LazyLock;

use features::{FeatureFrame, OwnTables};
use messages::{
    AcceptedMeasurement, Backend, ContentHash, Device, GraphCosts, JobId, ModelRef, OperatorCost, OperatorKind,
    Platform, Precision, RunId, Timestamp,
};
use predictors::TrainSettings;
use proptest::prelude::{ProptestConfig, prop, prop_assert, prop_assert_eq, proptest};

use super::*;

fn subject(model: u8, batch_size: u32, threads: u32) -> Subject {
    let macs = 50_000_000 * u64::from(model + 1) * u64::from(batch_size);
    let operator = |kind, macs| OperatorCost {
        kind,
        macs,
        activation_elements: 100_000 * u64::from(batch_size),
        weight_elements: 200_000,
        kernel_size: 0,
        count: 1 + u32::from(model),
    };
    Subject {
        configuration: Configuration {
            model: ModelRef { name: format!("model-{model}"), sha256: ContentHash([model; 32]) },
            platform: Platform::Cpu,
            backend: Backend::Onnxruntime,
            precision: Precision::Fp32,
            batch_size,
            sequence_length: None,
            image_size: None,
            threads,
            browser: None,
        },
        device: Device {
            compute_units: Some(4),
            peak_fp32_gflops: Some(100.0),
            memory_bandwidth_gb_per_s: Some(20.0),
            ..Device::unknown("Test CPU", Platform::Cpu)
        },
        costs: GraphCosts {
            parameters: 1_000_000,
            operators: vec![operator(OperatorKind::Linear, macs), operator(OperatorKind::Act, 0)],
            memory: None,
        },
    }
}

/// Trained on models 0 to 3 with a smooth efficiency, so that the boosters have something to agree on.
static RELEASE: LazyLock<Predictors> = LazyLock::new(|| {
    let mut rows = Vec::new();
    for model in 0..4 {
        for batch_size in [1, 2, 4, 8] {
            for threads in [1, 4] {
                let subject = subject(model, batch_size, threads);
                let OwnTables { rows: row, devices, operators } = OwnTables::asked(std::slice::from_ref(&subject));
                let physics = FeatureFrame::build(&row, &devices, &operators).expect("described");
                let latency_ms =
                    physics.base(Metric::LatencyMs)[0] * (1.5 + 1.0 / f64::from(batch_size) + 0.1 * f64::from(model));
                rows.push(AcceptedMeasurement {
                    job_id: JobId::new(),
                    run_id: RunId::new(),
                    measured_at: Timestamp::from_micros(0),
                    configuration: subject.configuration,
                    device: subject.device,
                    costs: subject.costs,
                    backend_version: "1".to_owned(),
                    iterations: 10,
                    latency_ms,
                    throughput_items_per_second: f64::from(batch_size) * 1e3 / latency_ms,
                    memory_peak_mb: None,
                    power_w: None,
                    load_ms: 1.0,
                });
            }
        }
    }
    let settings = TrainSettings { rounds: 30, ensemble: 3, ..TrainSettings::default() };
    let OwnTables { rows, devices, operators } = OwnTables::of(&rows, |_| None);
    Predictors::train(rows, &devices, &operators, &[Metric::LatencyMs], &settings, |_| ()).expect("enough rows")
});

fn candidates(of: &[(u8, u32, u32)]) -> Vec<Candidate> {
    of.iter().map(|(model, batch, threads)| Candidate { subject: subject(*model, *batch, *threads) }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn constraints_hold_whatever_is_asked(
        grid in prop::collection::vec((0_u8..6, 1_u32..6, 1_u32..4), 0..60),
        measured in prop::collection::vec((0_u8..6, 1_u32..6, 1_u32..4), 0..20),
        count in 0_usize..20,
        random: bool,
        seed: u64,
    ) {
        let strategy = if random { Strategy::Random } else { Strategy::Uncertainty };
        let measured: HashSet<_> =
            candidates(&measured).into_iter().map(|candidate| candidate.subject.configuration).collect();
        let candidates = candidates(&grid);
        let proposals = propose(strategy, &RELEASE, &candidates, &measured, count, seed).expect("described");

        prop_assert!(proposals.len() <= count);
        let proposed: HashSet<_> = proposals.iter().map(|proposal| &proposal.configuration).collect();
        prop_assert_eq!(proposed.len(), proposals.len(), "nothing twice");
        prop_assert!(proposed.is_disjoint(&measured.iter().collect()), "nothing measured");
        let possible: HashSet<_> = candidates.iter().map(|candidate| &candidate.subject.configuration).collect();
        prop_assert!(proposed.is_subset(&possible), "candidates only");
        let mut of_model: HashMap<&str, usize> = HashMap::new();
        for configuration in &proposed {
            *of_model.entry(&configuration.model.name).or_default() += 1;
        }
        prop_assert!(of_model.values().all(|chosen| *chosen <= count.div_ceil(2)), "at most half of one model");
        // Nothing is held back: what was not proposed was measured, over its model's share, or one too many.
        if proposals.len() < count {
            for left in possible.difference(&proposed).filter(|left| !measured.contains(**left)) {
                prop_assert_eq!(of_model.get(left.model.name.as_str()), Some(&count.div_ceil(2)), "{}", left);
            }
        }
        if strategy == Strategy::Uncertainty {
            prop_assert!(proposals.windows(2).all(|pair| pair[0].spread_log >= pair[1].spread_log));
        }
        prop_assert!(proposals.iter().all(|proposal| proposal.expected_seconds > 0.0));
    }
}

#[test]
fn a_seed_repeats_itself() {
    let candidates: Vec<_> = (0..6).flat_map(|model| candidates(&[(model, 3, 1), (model, 5, 2)])).collect();
    let run = |seed| propose(Strategy::Random, &RELEASE, &candidates, &HashSet::new(), 5, seed).expect("described");
    assert_eq!(run(1), run(1));
    assert!((2..20).any(|seed| run(seed) != run(1)), "the seed matters");
}

#[test]
fn the_most_uncertain_comes_first() {
    let candidates: Vec<_> = (0..6).flat_map(|model| candidates(&[(model, 3, 1), (model, 5, 2)])).collect();
    let subjects: Vec<_> = candidates.iter().map(|candidate| candidate.subject.clone()).collect();
    let predicted = RELEASE.predict_subjects(&subjects).expect("described");
    let largest = predicted
        .iter()
        .map(|predicted| predicted.metric(Metric::LatencyMs).expect("trained").spread_log)
        .max_by(f64::total_cmp);
    let proposals = propose(Strategy::Uncertainty, &RELEASE, &candidates, &HashSet::new(), 3, 1).expect("described");
    assert_eq!(Some(proposals[0].spread_log), largest);
    assert!(proposals[0].why.contains("number 1 of 12 unmeasured candidates"), "{}", proposals[0].why);
}

#[test]
fn expected_time_stops_at_the_limits_of_the_usual_benchmark() {
    let configuration = subject(0, 1, 1).configuration;
    let check = |latency_ms, expected: f64| {
        let found = expected_seconds(&configuration, latency_ms);
        assert!((found - expected).abs() < 1e-9, "{latency_ms} ms: {found} s, not {expected}");
    };
    check(1.0, 0.103); // 3 warm-ups and 100 iterations
    check(1_000.0, 9.0); // 3 warm-ups, then 5 s and the iteration that runs at their end
    check(10_000.0, 80.0); // 3 warm-ups and the fewest iterations, 5
}

#[test]
fn strategies_have_words() {
    for strategy in Strategy::ALL {
        assert_eq!(strategy.as_str().parse(), Ok(*strategy));
    }
    assert_eq!(
        "greedy".parse::<Strategy>().expect_err("no such strategy").to_string(),
        "`greedy` is not a strategy; one of uncertainty, random was expected"
    );
}
