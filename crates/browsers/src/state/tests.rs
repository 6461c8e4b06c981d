//! The line of waiting jobs, with time told.

use super::*;
use crate::{BrowserSettings, Family};

const PROMOTE_AFTER: Duration = Duration::from_secs(30);

#[test]
fn the_longest_hold_beyond_a_timeout_is_kept() {
    let mut counters = Counters::default();
    let second = Duration::from_secs(1);
    for (held, expected_ms) in [(second / 2, 0), (second * 3, 2_000), (second * 2, 2_000)] {
        counters.note_held(held, second);
        assert_eq!(counters.held_beyond_ms_max, expected_ms);
    }
}

/// A pool with one browser, room for one tab and nothing running.
fn state(directory: &std::path::Path, budget_mb: f64) -> State {
    let settings = PoolSettings::usual(directory.to_owned());
    let mut state = State::new(&settings, budget_mb);
    let settings = BrowserSettings { tabs_max: 1, ..BrowserSettings::usual("chromium", Family::Chromium) };
    let path = std::path::PathBuf::from("/nowhere");
    state.browsers.push(Installed {
        settings,
        binary: path.clone(),
        driver: path,
        version: "1".to_owned(),
        driver_version: "1".to_owned(),
    });
    let works =
        Capability { works: true, reason: None, ..Capability::lacking("chromium", Platform::Wasm, String::new()) };
    state.capabilities.insert(("chromium".to_owned(), Platform::Wasm), works);
    state
}

fn wait(state: &mut State, priority: Priority, since: Instant, memory_mb: f64) -> u64 {
    let id = state.next_id();
    let need = Need {
        platforms: vec![Platform::Wasm],
        browsers: Vec::new(),
        half_floats: false,
        model: "m".to_owned(),
        family: "f".to_owned(),
        memory_mb,
        avoided: Vec::new(),
        alone: false,
    };
    state.waiting.push(Waiter { id, priority, since, need });
    id
}

fn has_place(state: &State, waiter: u64, now: Instant) -> bool {
    matches!(state.decide(waiter, now, PROMOTE_AFTER), Choice::Place(_))
}

#[test]
fn the_higher_priority_goes_first_and_waiting_promotes() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut state = state(directory.path(), 10_000.0);
    let now = Instant::now();
    let low = wait(&mut state, Priority::Low, now, 100.0);
    let high = wait(&mut state, Priority::High, now, 100.0);
    assert!(has_place(&state, high, now));
    assert!(!has_place(&state, low, now), "it is not its turn");
    // Two classes higher after a minute, and then it was there first.
    let later = now + 2 * PROMOTE_AFTER;
    state.waiting[1].since = later;
    assert!(has_place(&state, low, later));
    assert!(!has_place(&state, high, later));
}

#[test]
fn who_waits_for_memory_is_not_overtaken_by_who_would_take_it() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut state = state(directory.path(), 1_000.0);
    state.browsers[0].settings.sessions_max = 3;
    let now = Instant::now();
    let mut running = SessionSlot::starting("chromium", now);
    running.tabs.insert(90, TabSlot::lent(now));
    state.sessions.insert(9, running);
    let large = wait(&mut state, Priority::Normal, now, 500.0);
    let small = wait(&mut state, Priority::Normal, now, 50.0);
    assert!(matches!(state.decide(large, now, PROMOTE_AFTER), Choice::Wait(Waiting::Memory)));
    assert!(matches!(state.decide(small, now, PROMOTE_AFTER), Choice::Wait(Waiting::Memory)), "it would fit");
    state.waiting.remove(0);
    assert!(has_place(&state, small, now));
}

#[test]
fn nobody_comes_to_who_is_alone() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut state = state(directory.path(), 10_000.0);
    state.browsers[0].settings.tabs_max = 2;
    let now = Instant::now();
    let suspect = wait(&mut state, Priority::Normal, now, 100.0);
    let other = wait(&mut state, Priority::Normal, now, 100.0);
    state.waiting[0].need.alone = true;
    let Choice::Place(place) = state.decide(suspect, now, PROMOTE_AFTER) else { panic!("it is free") };
    let need = state.waiting.remove(0).need;
    let (session, ..) = state.reserve(&place, &need);
    let Choice::Place(beside) = state.decide(other, now, PROMOTE_AFTER) else { panic!("a browser of its own") };
    assert_eq!((state.sessions[&session].is_retiring, beside.way), (true, Way::NewSession));
}

#[test]
fn a_session_is_weighed_again_when_its_models_may_have_grown() {
    let now = Instant::now();
    let mut slot = SessionSlot::starting("chromium", now);
    slot.pss_mb = 900.0;
    slot.weighed_jobs = Some(0);
    assert!(!slot.needs_weighing());
    slot.jobs = JOBS_UNWEIGHED;
    assert!(slot.needs_weighing(), "its models may have grown");
    slot.jobs = 0;
    slot.tabs.insert(1, TabSlot::lent(now));
    assert!(!slot.needs_weighing());
    slot.tabs.insert(2, TabSlot { is_measured: false, ..TabSlot::lent(now) });
    assert!(slot.needs_weighing(), "it has loaded another");
}

#[test]
fn a_place_is_taken_and_given_back() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut state = state(directory.path(), 10_000.0);
    let now = Instant::now();
    let first = wait(&mut state, Priority::Normal, now, 100.0);
    let second = wait(&mut state, Priority::Normal, now, 100.0);
    let Choice::Place(place) = state.decide(first, now, PROMOTE_AFTER) else { panic!("it is free") };
    let need = state.waiting.remove(0).need;
    let (session, tab, _leaving) = state.reserve(&place, &need);
    assert_eq!(state.running(), 1);
    assert!(matches!(state.decide(second, now, PROMOTE_AFTER), Choice::Wait(Waiting::Busy)));
    assert!(state.take_tab(session, tab).is_none(), "a lent tab is nobody's to take");
    state.sessions.remove(&session);
    assert!(has_place(&state, second, now));
}
