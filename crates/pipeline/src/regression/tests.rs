use proptest::prelude::{ProptestConfig, prop, prop_assert, proptest};

use super::*;

/// Replays a benchmark: repeats whose level and iterations scatter, with now and then a wild one.
struct Machine {
    random: fastrand::Rng,
    /// Standard deviation of a repeat's level and of an iteration, as logs.
    noise: [f64; 2],
    /// One repeat of so many takes half as long again.
    wild_every: Option<u32>,
}

impl Machine {
    fn new(seed: u64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), noise: [0.02, 0.05], wild_every: Some(50) }
    }

    /// A normal value: the sum of twelve uniform ones.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.random.f64()).sum::<f64>() - 6.0
    }

    fn repeat(&mut self, ms: f64) -> Vec<f64> {
        let is_wild = self.wild_every.is_some_and(|every| self.random.u32(0..every) == 0);
        let wild = if is_wild { 1.5 } else { 1.0 };
        let level = ms * wild * (self.noise[0] * self.normal()).exp();
        (0..20).map(|_| level * (self.noise[1] * self.normal()).exp()).collect()
    }

    fn repeats(&mut self, name: String, [run_ms, baseline_ms]: [f64; 2], count: usize) -> Repeats {
        let mut all = |ms| (0..count).map(|_| self.repeat(ms)).collect();
        Repeats { name, place: "cpu on EPYC".to_owned(), run: all(run_ms), baseline: all(baseline_ms) }
    }

    /// So many configurations, of which one is slower by a factor.
    fn runs(&mut self, configurations: usize, count: usize, slower: Option<(usize, f64)>) -> Vec<Repeats> {
        (0..configurations)
            .map(|index| {
                // Some configurations are noisier than others.
                self.noise[0] = if index % 5 == 0 { 0.06 } else { 0.02 };
                let ms = 1.0 + index as f64;
                let factor = slower.filter(|(slower, _)| *slower == index).map_or(1.0, |(_, factor)| factor);
                self.repeats(format!("c{index}"), [ms * factor, ms], count)
            })
            .collect()
    }
}

/// A machine without wild repeats.
fn calm(seed: u64) -> Machine {
    Machine { wild_every: None, ..Machine::new(seed) }
}

fn called(compared: &Comparison, verdict: Verdict) -> Vec<&str> {
    compared.all().filter(|of| of.verdict == verdict).map(|of| of.name.as_str()).collect()
}

/// Share of whole comparisons of equal runs in which anything is called different.
fn false_alarms(configurations: usize, count: usize, settings: &CompareSettings, times: u64) -> f64 {
    let alarmed = (0..times).filter(|seed| {
        let compared = compare_repeats(&Machine::new(*seed).runs(configurations, count, None), settings);
        compared.all().any(|of| matches!(of.verdict, Verdict::Regression | Verdict::Improvement))
    });
    alarmed.count() as f64 / times as f64
}

/// Any difference counts, so that only chance is tested.
const STRICT: CompareSettings = CompareSettings { false_alarms: 0.05, threshold_pct: 0.0 };

#[test]
fn a_slowdown_of_a_tenth_in_one_of_200_configurations_is_found() {
    for seed in 0..20 {
        let compared = compare_repeats(&calm(seed).runs(200, 10, Some((77, 1.1))), &CompareSettings::default());
        assert_eq!(called(&compared, Verdict::Regression), ["c77"], "seed {seed}");
        let found = &compared.configurations[77];
        assert!((found.ratio - 1.1).abs() < 0.05, "{found:?}");
        let [lower, upper] = found.interval.expect("a test was made");
        assert!(1.0 < lower && lower < found.ratio && found.ratio < upper, "{found:?}");
    }
}

#[test]
fn wild_repeats_hide_few_slowdowns_and_make_none() {
    // A wild repeat of the baseline above all of the run's is what hides one: in 10 of 50, 18 % of the times.
    let found = (0..50).map(|seed| {
        let compared = compare_repeats(&Machine::new(seed).runs(200, 10, Some((77, 1.1))), &CompareSettings::default());
        let regressions = called(&compared, Verdict::Regression);
        assert!(regressions.iter().all(|name| *name == "c77"), "seed {seed}: {regressions:?}");
        regressions.len()
    });
    let found = found.sum::<usize>();
    assert!(found >= 32, "{found} of 50");
}

#[test]
fn equal_runs_are_called_different_no_more_often_than_promised() {
    // 5 % are promised; of 400 comparisons 20, and by chance up to 32.
    let alarms = false_alarms(30, 10, &STRICT, 400);
    assert!(alarms <= 0.08, "{alarms}");
    assert!(false_alarms(30, 10, &CompareSettings::default(), 100) <= 0.08);
    assert!(false_alarms(30, 3, &CompareSettings::default(), 20) == 0.0, "nothing is decided");
}

#[test]
fn few_repeats_decide_nothing() {
    for count in [1, 3] {
        let compared = compare_repeats(&calm(1).runs(60, count, Some((7, 1.5))), &CompareSettings::default());
        assert_eq!(called(&compared, Verdict::Undecided).len(), 60);
        let slower = &compared.configurations[7];
        assert_eq!((slower.p, slower.interval), (None, None));
        assert!(slower.ratio > 1.2, "the effect is estimated all the same: {slower:?}");
    }
    // Five are enough for a few configurations.
    let compared = compare_repeats(&calm(2).runs(5, 5, Some((2, 1.5))), &CompareSettings::default());
    assert_eq!(called(&compared, Verdict::Regression), ["c2"]);
    assert_eq!(compare_repeats(&[], &CompareSettings::default()).all().count(), 0);
}

#[test]
fn a_device_is_slower_if_most_of_its_configurations_are_however_few_the_repeats() {
    let runs = |machine: &mut Machine, slower: f64| -> Vec<Repeats> {
        (0..40).map(|index| machine.repeats(format!("c{index}"), [slower, 1.0], 1)).collect()
    };
    for seed in 0..20 {
        let compared = compare_repeats(&runs(&mut calm(seed), 1.1), &CompareSettings::default());
        assert_eq!(
            called(&compared, Verdict::Regression),
            ["40 configurations of cpu on EPYC together"],
            "seed {seed}"
        );
        let [device] = &compared.devices[..] else { panic!("one device: {:?}", compared.devices) };
        let [lower, upper] = device.interval.expect("a test was made");
        assert!(1.05 < lower && (lower..upper).contains(&1.1), "{device:?}");
        let compared = compare_repeats(&runs(&mut calm(seed), 1.02), &CompareSettings::default());
        assert!(called(&compared, Verdict::Regression).is_empty(), "2 % do not matter");
    }
    let five = &runs(&mut calm(1), 1.5)[..5];
    assert_eq!(called(&compare_repeats(five, &CompareSettings::default()), Verdict::Undecided).len(), 6);
}

#[test]
fn faster_is_an_improvement() {
    let compared = compare_repeats(&Machine::new(3).runs(20, 10, Some((4, 0.8))), &CompareSettings::default());
    assert_eq!(called(&compared, Verdict::Improvement), ["c4"]);
    assert!(called(&compared, Verdict::Regression).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_was_measured_is_compared_in_order(
        repeats in prop::collection::vec(
            (
                prop::collection::vec(prop::collection::vec(0.01..1e4, 1..6), 1..7),
                prop::collection::vec(prop::collection::vec(0.01..1e4, 1..6), 1..7),
            ),
            0..15,
        ),
    ) {
        let repeats: Vec<Repeats> = repeats
            .into_iter()
            .enumerate()
            .map(|(index, (run, baseline))| {
                Repeats { name: index.to_string(), place: (index % 2).to_string(), run, baseline }
            })
            .collect();
        let compared = compare_repeats(&repeats, &CompareSettings::default());
        prop_assert!(compared.configurations.iter().map(|of| &of.name).eq(repeats.iter().map(|of| &of.name)));
        for of in compared.all() {
            prop_assert!(of.ratio > 0.0 && of.p.is_none_or(|p| (0.0..=1.0).contains(&p)), "{:?}", of);
            prop_assert!(of.p.zip(of.p_corrected).is_none_or(|(p, corrected)| p <= corrected), "{:?}", of);
            prop_assert!(of.interval.is_none_or(|[lower, upper]| lower <= of.ratio && of.ratio <= upper), "{:?}", of);
        }
    }
}
