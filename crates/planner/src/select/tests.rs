use proptest::prelude::{
    Just, ProptestConfig, Strategy as _, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest,
};

use super::*;
use crate::landscape::tests::{landscape, row};

/// Tenths of convolutions, whether on the GPU, batch size, seconds, MB.
type Made = (u32, bool, u32, f64, f64);

fn made() -> impl proptest::strategy::Strategy<Value = Made> {
    (0_u32..=10, any::<bool>(), 1_u32..5, 0.1..5.0, 10.0..2_000.0)
}

fn device(gpu: bool) -> &'static str {
    if gpu { "gpu" } else { "x" }
}

fn outlook(&(tenths, gpu, batch_size, expected_seconds, memory_mb): &Made) -> Outlook {
    Outlook {
        platform: if gpu { "cuda" } else { "cpu" }.to_owned(),
        device: device(gpu).to_owned(),
        model: format!("0.{tenths}"),
        deviation_log: 0.1 + 0.01 * f64::from(batch_size),
        spread_log: 0.01 * f64::from(tenths),
        expected_seconds,
        memory_mb: Some(memory_mb),
        is_impossible: memory_mb > 1_900.0,
        decision_value: 0.001 * f64::from(tenths),
    }
}

struct World {
    landscape: Landscape,
    outlooks: Vec<Outlook>,
    measured_devices: Vec<String>,
}

impl World {
    fn new(candidates: &[Made], measured: &[Made]) -> Self {
        let rows: Vec<_> = candidates
            .iter()
            .chain(measured)
            .map(|(tenths, gpu, batch_size, ..)| row(&format!("0.{tenths}"), device(*gpu), *batch_size))
            .collect();
        Self {
            landscape: landscape(&rows),
            outlooks: candidates.iter().map(outlook).collect(),
            measured_devices: measured.iter().map(|(_, gpu, ..)| device(*gpu).to_owned()).collect(),
        }
    }

    fn select(&self, strategy: Strategy, count: usize, constraints: &Constraints, seed: u64) -> Selection {
        let Self { landscape, outlooks, measured_devices } = self;
        select(strategy, Pool { landscape, outlooks, measured_devices }, count, constraints, seed)
    }
}

fn named(of: BTreeMap<&str, f64>) -> BTreeMap<String, f64> {
    of.into_iter().map(|(platform, number)| (platform.to_owned(), number)).collect()
}

fn constraints() -> impl proptest::strategy::Strategy<Value = Constraints> {
    let of_platform = |value| prop::collection::btree_map(prop_oneof![Just("cpu"), Just("cuda")], value, 0..3);
    let counts = prop::collection::btree_map(prop_oneof![Just("cpu"), Just("cuda")], 0_usize..4, 0..3);
    (
        counts,
        of_platform(prop_oneof![Just(0.0), Just(0.3), Just(1.0)].boxed()),
        of_platform((100.0..1_500.0).boxed()),
        prop::option::of(1_usize..3),
        prop::option::of(0.5..10.0),
        0.0..=1.0,
    )
        .prop_map(|(counts, availability, memory, model_max, budget_seconds, diversity_weight)| Constraints {
            platform_max: counts.into_iter().map(|(platform, most)| (platform.to_owned(), most)).collect(),
            availability: named(availability),
            memory_mb_max: named(memory),
            model_max,
            budget_seconds,
            diversity_weight,
        })
}

/// Every prefix of the picks keeps to the constraints, so that each pick did.
fn each_pick_keeps_to(constraints: &Constraints, outlooks: &[Outlook], selection: &Selection) -> Result<(), String> {
    let mut of_platform: HashMap<&str, usize> = HashMap::new();
    let mut of_model: HashMap<&str, usize> = HashMap::new();
    let mut seconds = 0.0;
    for pick in &selection.picks {
        let outlook = &outlooks[pick.candidate];
        let platform = outlook.platform.as_str();
        let picked_there = of_platform.entry(platform).or_default();
        let of_model = of_model.entry(&outlook.model).or_default();
        (*picked_there, *of_model) = (*picked_there + 1, *of_model + 1);
        seconds += outlook.expected_seconds;
        let holds = [
            ("fits", !outlook.is_impossible),
            ("platform", constraints.platform_max.get(platform).is_none_or(|most| *picked_there <= *most)),
            ("availability", constraints.availability.get(platform).is_none_or(|weight| *weight > 0.0)),
            (
                "memory",
                constraints
                    .memory_mb_max
                    .get(platform)
                    .is_none_or(|most| outlook.memory_mb.is_some_and(|mb| mb <= *most)),
            ),
            ("model", constraints.model_max.is_none_or(|most| *of_model <= most)),
            ("budget", constraints.budget_seconds.is_none_or(|budget| seconds <= budget + 1e-9)),
        ];
        if let Some((broken, _)) = holds.iter().find(|(_, holds)| !holds) {
            return Err(format!("pick {} breaks `{broken}`", pick.selection_order));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn constraints_hold_for_every_pick(
        candidates in prop::collection::vec(made(), 0..30),
        measured in prop::collection::vec(made(), 0..8),
        constraints in constraints(),
        strategy in 0..Strategy::ALL.len(),
        count in 0_usize..12,
        seed: u64,
    ) {
        let world = World::new(&candidates, &measured);
        let strategy = Strategy::ALL[strategy];
        let selection = world.select(strategy, count, &constraints, seed);
        let picks = &selection.picks;
        prop_assert!(picks.len() <= count);
        let distinct: std::collections::HashSet<_> = picks.iter().map(|pick| pick.candidate).collect();
        prop_assert_eq!(distinct.len(), picks.len(), "nothing twice");
        prop_assert!(picks.iter().enumerate().all(|(index, pick)| pick.selection_order == index + 1));
        each_pick_keeps_to(&constraints, &world.outlooks, &selection).map_err(proptest::test_runner::TestCaseError::fail)?;
        for pick in picks {
            prop_assert!((0.0..=1.0).contains(&pick.score), "{:?}", pick);
            prop_assert!((0.0..=100.0).contains(&pick.information_gain_pct), "{:?}", pick);
            prop_assert!(pick.parts.iter().all(|(_, part)| (0.0..=1.0).contains(part)), "{:?}", pick);
        }
        // Nothing is held back: what was not picked was refused, or one too many.
        let refused: usize = selection.refused.values().sum();
        prop_assert!(picks.len() == count || picks.len() + refused == candidates.len());
        prop_assert_eq!(world.select(strategy, count, &constraints, seed), selection, "a seed repeats itself");
    }
}

/// Models of 0, 1, 2, 7, 8, 9 tenths of convolutions.
fn two_groups(measured: &[u32]) -> World {
    let made = |tenths: &u32| (*tenths, false, 2, 1.0, 100.0);
    let candidates: Vec<Made> = [0, 1, 2, 7, 8, 9].iter().map(made).collect();
    World::new(&candidates, &measured.iter().map(made).collect::<Vec<_>>())
}

fn models(world: &World, strategy: Strategy, count: usize) -> Vec<String> {
    let selection = world.select(strategy, count, &Constraints::default(), 1);
    selection.picks.iter().map(|pick| world.outlooks[pick.candidate].model.clone()).collect()
}

#[test]
fn each_strategy_picks_what_it_is_for() {
    assert_eq!(models(&two_groups(&[]), Strategy::Uncertainty, 2), ["0.9", "0.8"]);
    assert_eq!(models(&two_groups(&[0]), Strategy::Diversity, 1), ["0.9"]);
    assert_eq!(models(&two_groups(&[1]), Strategy::Representative, 1), ["0.8"]);
    assert_eq!(models(&two_groups(&[1]), Strategy::Hybrid, 1), ["0.8"], "little is measured on the device");
    assert_eq!(models(&two_groups(&[0, 1, 2]), Strategy::InformationGain, 1), ["0.8"]);
    let strange: Vec<String> = models(&two_groups(&[]), Strategy::Random, 6);
    assert_eq!(strange.len(), 6);
}

#[test]
fn a_device_that_is_known_gets_what_is_uncertain() {
    let pick = |measured: &[u32]| two_groups(measured).select(Strategy::Hybrid, 1, &Constraints::default(), 1);
    assert!(pick(&[0; REPRESENTATIVE_FIRST - 1]).picks[0].represents);
    let selection = pick(&[0; REPRESENTATIVE_FIRST]);
    assert!(!selection.picks[0].represents, "{selection:?}");
    assert_eq!(selection.picks[0].parts[0].0, "diversity with uncertainty");
}

#[test]
fn integrated_weighs_information_and_the_recommendation() {
    let mut world = two_groups(&[]);
    world.outlooks.iter_mut().for_each(|outlook| outlook.decision_value = 0.0);
    world.outlooks[5].decision_value = 0.2;
    let selection = world.select(Strategy::Integrated, 1, &Constraints::default(), 1);
    let pick = &selection.picks[0];
    assert_eq!((pick.candidate, pick.parts[1]), (5, ("recommendation", 1.0)));
    assert!((pick.score - f64::midpoint(pick.parts[0].1, 1.0)).abs() < 1e-9, "{pick:?}");
}

#[test]
fn availability_and_diversity_weigh() {
    let made = |tenths, gpu| (tenths, gpu, 2, 1.0, 100.0);
    // Boosters disagree more about what has more tenths.
    let world = World::new(&[made(9, true), made(8, false), made(7, false), made(1, false)], &[]);
    let picked = |constraints: &Constraints| -> Vec<usize> {
        let selection = world.select(Strategy::Uncertainty, 2, constraints, 1);
        selection.picks.iter().map(|pick| pick.candidate).collect()
    };
    assert_eq!(picked(&Constraints::default()), [0, 1]);
    let rare = Constraints { availability: [("cuda".to_owned(), 0.5)].into(), ..Constraints::default() };
    assert_eq!(picked(&rare), [1, 2]);
    let unlike =
        Constraints { platform_max: [("cuda".to_owned(), 0)].into(), diversity_weight: 0.9, ..Constraints::default() };
    assert_eq!(picked(&unlike), [1, 3]);
}

/// They drew the medoids, and the information, to what nobody may measure.
#[test]
fn what_may_never_be_measured_is_not_to_be_stood_for() {
    let cpu = |tenths| (tenths, false, 2, 1.0, 100.0);
    let mut made: Vec<Made> = [0, 1, 2, 7].map(cpu).to_vec();
    made.extend([(8, true, 2, 9.0, 100.0); 60]);
    let world = World::new(&made, &[]);
    let first = |strategy, constraints: &Constraints| world.select(strategy, 1, constraints, 1).picks[0].candidate;
    let unserved = Constraints { platform_max: [("cuda".to_owned(), 0)].into(), ..Constraints::default() };
    let budget = Constraints { budget_seconds: Some(2.0), ..Constraints::default() };
    for strategy in [Strategy::Representative, Strategy::InformationGain] {
        assert!(first(strategy, &unserved) < 3, "{strategy}: amid what may be measured");
        assert_eq!(first(strategy, &budget), 3, "{strategy}: what costs too much now may be measured another time");
    }
}
