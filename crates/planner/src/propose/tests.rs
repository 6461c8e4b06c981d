use std::sync::LazyLock;

use features::FeatureFrame;
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

/// What was measured of models 0 to 3 on the device of [`subject`], with a smooth efficiency, so that the boosters have
/// something to agree on.
fn measurements() -> Vec<AcceptedMeasurement> {
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
    rows
}

fn trained(rows: &[AcceptedMeasurement]) -> Predictors {
    let settings = TrainSettings { rounds: 30, ensemble: 3, ..TrainSettings::default() };
    let OwnTables { rows, devices, operators } = OwnTables::of(rows, |_| None);
    Predictors::train(rows, &devices, &operators, &[Metric::LatencyMs], &settings, |_| ()).expect("enough rows")
}

static RELEASE: LazyLock<Predictors> = LazyLock::new(|| trained(&measurements()));

/// The same subject on a device that is so many times slower.
fn on(name: &str, times: f64, subject: Subject) -> Subject {
    let slower = |peak: Option<f64>| peak.map(|peak| peak / times);
    let device = Device {
        name: name.to_owned(),
        peak_fp32_gflops: slower(subject.device.peak_fp32_gflops),
        memory_bandwidth_gb_per_s: slower(subject.device.memory_bandwidth_gb_per_s),
        ..subject.device
    };
    Subject { device, ..subject }
}

/// The same subject in a browser on its device.
fn in_firefox(subject: Subject) -> Subject {
    let mut subject = subject;
    subject.device.platform = Platform::Wasm;
    subject.configuration.platform = Platform::Wasm;
    subject.configuration.backend = Backend::OrtWeb;
    subject.configuration.browser = Some("firefox".to_owned());
    subject
}

/// What was measured, and the same elsewhere, where all takes so many times as long.
fn also(times: f64, elsewhere: impl Fn(Subject) -> Subject) -> Vec<AcceptedMeasurement> {
    let moved = |row: AcceptedMeasurement| {
        let Subject { configuration, device, costs } = elsewhere(Subject::from(&row));
        let latency_ms = times * row.latency_ms;
        let throughput_items_per_second = row.throughput_items_per_second / times;
        AcceptedMeasurement { configuration, device, costs, latency_ms, throughput_items_per_second, ..row }
    };
    measurements().into_iter().map(moved).collect()
}

fn candidates(of: &[(u8, u32, u32)]) -> Vec<Candidate> {
    of.iter().map(|(model, batch, threads)| Candidate { subject: subject(*model, *batch, *threads) }).collect()
}

fn subjects(of: &[(u8, u32, u32)]) -> Vec<Subject> {
    candidates(of).into_iter().map(|candidate| candidate.subject).collect()
}

static FREE: LazyLock<Constraints> = LazyLock::new(Constraints::default);

fn wish(strategy: Strategy, count: usize, seed: u64) -> Wish<'static> {
    Wish { strategy, count, constraints: &FREE, seed }
}

/// Proposes with nothing barred.
fn plan(release: Option<&Predictors>, candidates: &[Candidate], measured: &[Subject], wish: Wish<'_>) -> Plan {
    propose(release, candidates, Past { measured, barred: &Barred::default() }, wish).expect("described")
}

/// Says that the device of a subject refuses its model.
fn incompatible(subject: &Subject) -> Incompatible {
    let Subject { configuration, device, .. } = subject;
    let (model, platform) = (configuration.model.name.clone(), configuration.platform);
    Incompatible { model, platform, device: device.name.clone() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn only_what_may_be_measured_is_proposed(
        grid in prop::collection::vec((0_u8..6, 1_u32..6, 1_u32..4), 0..60),
        measured in prop::collection::vec((0_u8..6, 1_u32..6, 1_u32..4), 0..20),
        withheld in prop::collection::vec((0_u8..6, 1_u32..6, 1_u32..4), 0..20),
        refused in prop::collection::vec(0_u8..6, 0..3),
        count in 0_usize..20,
        strategy in 0..Strategy::ALL.len(),
        is_first: bool,
        seed: u64,
    ) {
        let release = (!is_first).then_some(&*RELEASE);
        let (measured, candidates) = (subjects(&measured), candidates(&grid));
        let why = |index: usize| if index.is_multiple_of(2) { Withheld::Queued } else { Withheld::Failed };
        let withheld = subjects(&withheld).into_iter().enumerate();
        let barred = Barred {
            configurations: withheld.map(|(index, of)| (of.configuration.to_string(), why(index))).collect(),
            incompatible: refused.iter().map(|model| incompatible(&subject(*model, 1, 1))).collect(),
            measured: HashSet::new(),
        };
        let past = Past { measured: &measured, barred: &barred };
        let plan = propose(release, &candidates, past, wish(Strategy::ALL[strategy], count, seed)).expect("described");

        let proposals = &plan.proposals;
        prop_assert!(proposals.len() <= count);
        let proposed: HashSet<_> = proposals.iter().map(|proposal| &proposal.configuration).collect();
        prop_assert_eq!(proposed.len(), proposals.len(), "nothing twice");
        prop_assert!(measured.iter().all(|of| !proposed.contains(&of.configuration)), "nothing measured");
        let is_withheld = |of: &Configuration| barred.configurations.contains_key(&of.to_string());
        prop_assert!(!proposed.iter().any(|of| is_withheld(of)), "nothing queued or failed");
        let is_refused = |of: &Configuration| barred.incompatible.iter().any(|refused| refused.model == of.model.name);
        prop_assert!(!proposed.iter().any(|of| is_refused(of)), "nothing that a device refuses");
        let possible: HashSet<_> = candidates.iter().map(|candidate| &candidate.subject.configuration).collect();
        prop_assert!(proposed.is_subset(&possible), "candidates only");
        let mut of_model: HashMap<&str, usize> = HashMap::new();
        for configuration in &proposed {
            *of_model.entry(&configuration.model.name).or_default() += 1;
        }
        prop_assert!(of_model.values().all(|chosen| *chosen <= count.div_ceil(2)), "at most half of one model");
        if proposals.len() < count {
            let passed_over: usize = plan.passed_over.values().sum();
            prop_assert_eq!(passed_over + proposals.len(), possible.len(), "each candidate is accounted for");
        }
        prop_assert!(proposals.iter().all(|of| of.expected_seconds > 0.0 && !of.why.is_empty()));
        prop_assert!(proposals.iter().all(|of| of.predicted.metrics.is_empty() == is_first));
    }
}

/// Twelve, none of which was trained on.
fn fresh() -> Vec<Candidate> {
    (0..6).flat_map(|model| candidates(&[(model, 3, 1), (model, 5, 2)])).collect()
}

#[test]
fn a_seed_repeats_itself() {
    let run = |seed| plan(Some(&RELEASE), &fresh(), &[], wish(Strategy::Random, 5, seed));
    assert_eq!(run(1), run(1));
    assert!((2..20).any(|seed| run(seed) != run(1)), "the seed matters");
}

#[test]
fn the_most_uncertain_comes_first() {
    let candidates = fresh();
    let subjects: Vec<_> = candidates.iter().map(|candidate| candidate.subject.clone()).collect();
    let predicted = RELEASE.predict_subjects(&subjects).expect("described");
    let largest = predicted
        .iter()
        .map(|predicted| predicted.metric(Metric::LatencyMs).expect("trained").spread_log)
        .max_by(f64::total_cmp);
    let plan = plan(Some(&RELEASE), &candidates, &[], wish(Strategy::Uncertainty, 3, 1));
    assert_eq!(Some(plan.proposals[0].spread_log), largest);
    assert!(plan.proposals.windows(2).all(|pair| pair[0].spread_log >= pair[1].spread_log));
    assert!(plan.proposals[0].why.starts_with("boosters disagree by "), "{}", plan.proposals[0].why);
}

#[test]
fn without_a_release_the_batch_is_representative() {
    let plan = plan(None, &fresh(), &[], wish(Strategy::Uncertainty, 4, 1));
    assert_eq!(plan.proposals.len(), 4);
    for proposal in &plan.proposals {
        assert_eq!(proposal.parts[0].0, "representative");
        assert!(proposal.why.contains("nothing is predicted yet"), "{}", proposal.why);
    }
}

#[test]
fn what_cannot_be_proposed_is_counted_with_its_reason() {
    let mut candidates = fresh();
    for candidate in &mut candidates[..2] {
        // Not even the weights fit.
        candidate.subject.device.memory_mb = Some(0.001);
    }
    let measured: Vec<Subject> = candidates[2..4].iter().map(|candidate| candidate.subject.clone()).collect();
    let withheld = [(candidates[4].subject.configuration.to_string(), Withheld::Failed)].into();
    let elsewhere = Incompatible { device: "another".to_owned(), ..incompatible(&candidates[5].subject) };
    let mut barred = Barred { configurations: withheld, incompatible: [elsewhere].into(), measured: HashSet::new() };
    let past = Past { measured: &measured, barred: &barred };
    let plan = propose(Some(&RELEASE), &candidates, past, wish(Strategy::InformationGain, 20, 1)).expect("described");
    assert_eq!(plan.proposals.len(), 7);
    let expected = [
        (PassedOver::Measured, 2),
        (PassedOver::Withheld(Withheld::Failed), 1),
        (PassedOver::Refused(Refusal::Impossible), 2),
    ];
    assert_eq!(plan.passed_over, expected.into());
    barred.incompatible.insert(incompatible(&candidates[5].subject));
    let past = Past { measured: &measured, barred: &barred };
    let plan = propose(Some(&RELEASE), &candidates, past, wish(Strategy::InformationGain, 20, 1)).expect("described");
    let model = &candidates[5].subject.configuration.model;
    assert!(!plan.proposals.is_empty() && plan.proposals.iter().all(|of| of.configuration.model != *model));
    assert!(plan.passed_over[&PassedOver::Incompatible] >= 1, "{:?}", plan.passed_over);
    let text = candidates[6].subject.configuration.to_string();
    let measured_on = |device: &str| {
        let barred = Barred { measured: [(device.to_owned(), text.clone())].into(), ..Barred::default() };
        let past = Past { measured: &measured, barred: &barred };
        let plan = propose(Some(&RELEASE), &candidates, past, wish(Strategy::Random, 20, 1)).expect("described");
        plan.passed_over[&PassedOver::Measured]
    };
    let of_table = measured_on("another");
    assert_eq!(measured_on(&candidates[6].subject.device.name), of_table + 1, "the predictors need not have seen it");
    let everything: Vec<Subject> = candidates.iter().map(|candidate| candidate.subject.clone()).collect();
    let nothing = super::tests::plan(Some(&RELEASE), &candidates, &everything, wish(Strategy::Hybrid, 5, 1));
    assert_eq!((nothing.proposals.len(), nothing.passed_over), (0, [(PassedOver::Measured, 12)].into()));
}

#[test]
fn integrated_says_when_no_recommendation_depends_on_it() {
    let plan = plan(Some(&RELEASE), &fresh(), &[], wish(Strategy::Integrated, 2, 1));
    assert!(plan.proposals[0].why.contains("no other device is known"), "{}", plan.proposals[0].why);
    assert_eq!(
        plan.proposals[0].parts.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        ["information gain", "recommendation"]
    );
}

/// The places of the best rivals of subjects.
fn rival_places(release: &Predictors, subjects: &[Subject]) -> Vec<Option<String>> {
    let rivals = rivals(release, subjects).expect("described");
    rivals.into_iter().map(|rival| rival.map(|rival| rival.place)).collect()
}

#[test]
fn integrated_prefers_what_could_change_the_recommendation() {
    let [near, far] = [("near", 1.0), ("far", 8.0)].map(|(name, times)| also(times, |of| on(name, times, of)));
    let release = trained(&[measurements(), near, far].concat());
    // Only one of them is on a device that another comes close to.
    let mut subjects: Vec<Subject> = (1..6).map(|model| on("far", 8.0, subject(model, 3, 1))).collect();
    // As many threads as rivals are asked about.
    subjects.push(subject(0, 3, 4));
    let candidates: Vec<Candidate> = subjects.into_iter().map(|subject| Candidate { subject }).collect();
    let plan = plan(Some(&release), &candidates, &[], wish(Strategy::Integrated, 1, 1));
    let proposal = &plan.proposals[0];
    assert_eq!((proposal.device.as_str(), proposal.parts[1]), ("Test CPU", ("recommendation", 1.0)));
    assert!(proposal.why.contains("whoever could take near (cpu) instead"), "{}", proposal.why);
}

/// Places in browsers carry the processor's own name.
#[test]
fn a_processor_and_a_browser_on_it_are_rivals() {
    let release = trained(&[measurements(), also(3.0, in_firefox)].concat());
    let native = subject(1, 3, 1);
    let places = rival_places(&release, &[native.clone(), in_firefox(native)]);
    assert_eq!(places, [Some("Test CPU (wasm in firefox)".to_owned()), Some("Test CPU (cpu)".to_owned())]);
}

#[test]
fn what_does_not_fit_is_no_rival() {
    let tiny = also(0.1, |subject| {
        let mut tiny = on("tiny", 0.1, subject);
        // Less than the weights alone.
        tiny.device.memory_mb = Some(1.0);
        tiny
    });
    let slow = also(2.0, |subject| on("slow", 2.0, subject));
    let places = rival_places(&trained(&[measurements(), tiny, slow].concat()), &[subject(1, 3, 1)]);
    assert_eq!(places, [Some("slow (cpu)".to_owned())]);
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
