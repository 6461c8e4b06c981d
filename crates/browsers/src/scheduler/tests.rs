//! The scheduler, by hand-made pictures and by properties over random ones.

use proptest::prelude::*;

use super::*;

const ABLE: Readiness = Readiness::Able { half_floats: false };

fn browser(name: &str) -> BrowserPicture {
    BrowserPicture {
        name: name.to_owned(),
        sessions_max: 1,
        tabs_max: 2,
        platforms: vec![(Platform::Wasm, ABLE), (Platform::Webgpu, ABLE)],
    }
}

fn session(id: u64, browser: &str, tabs: Vec<TabPicture>) -> SessionPicture {
    let memory_mb = SESSION_BASE_MB + tabs.iter().map(|tab| tab.memory_mb).sum::<f64>();
    SessionPicture { id, browser: browser.to_owned(), is_ready: true, is_retiring: false, memory_mb, tabs, used: id }
}

fn tab(id: u64, holds: Option<&str>, is_busy: bool) -> TabPicture {
    let memory_mb = if holds.is_some() { 100.0 } else { 0.0 };
    let holds = holds.map(|model| (model.to_owned(), Platform::Wasm));
    TabPicture { id, is_busy, holds, memory_mb, used: id }
}

fn picture(sessions: Vec<SessionPicture>) -> Picture {
    Picture { browsers: vec![browser("chromium"), browser("firefox")], sessions, budget_mb: 10_000.0 }
}

fn need() -> Need {
    Need {
        platforms: vec![Platform::Wasm],
        browsers: Vec::new(),
        half_floats: false,
        model: "m".to_owned(),
        family: "f".to_owned(),
        memory_mb: 100.0,
        avoided: Vec::new(),
        alone: false,
    }
}

/// Nothing is known of any place.
fn untried(_: &str, _: Platform) -> Option<f64> {
    None
}

fn place(need: &Need, picture: &Picture, time: &dyn Fn(&str, Platform) -> Option<f64>) -> Place {
    match choose(need, picture, time) {
        Choice::Place(place) => place,
        other => panic!("no place but {other:?}"),
    }
}

fn check(need: &Need, picture: &Picture, expected_browser: &str, expected_way: Way) -> Place {
    let place = place(need, picture, &untried);
    assert_eq!((place.browser.as_str(), place.way), (expected_browser, expected_way));
    place
}

#[test]
fn a_warm_model_comes_first_then_a_warm_page_then_a_new_tab() {
    let warm = picture(vec![
        session(1, "chromium", vec![tab(11, None, false)]),
        session(2, "firefox", vec![tab(21, Some("m"), false)]),
    ]);
    check(&need(), &warm, "firefox", Way::WarmModel { session: 2, tab: 21 });
    let page = picture(vec![session(1, "chromium", vec![tab(11, None, false)]), session(2, "firefox", Vec::new())]);
    check(&need(), &page, "chromium", Way::WarmPage { session: 1, tab: 11 });
    check(&need(), &picture(vec![session(2, "firefox", Vec::new())]), "firefox", Way::NewTab { session: 2 });
    check(&need(), &picture(Vec::new()), "chromium", Way::NewSession);
}

#[test]
fn what_was_learned_decides_between_places_that_are_equally_warm() {
    let faster_firefox = |browser: &str, _| Some(if browser == "firefox" { 1.0 } else { 1.7 });
    let picture = picture(vec![session(1, "chromium", vec![tab(11, None, false)])]);
    let chosen = place(&need(), &picture, &faster_firefox);
    assert_eq!((chosen.browser.as_str(), chosen.way), ("firefox", Way::NewSession));
    let untried_chromium = |browser: &str, _| (browser == "firefox").then_some(1.0);
    assert_eq!(place(&need(), &picture, &untried_chromium).browser, "chromium", "how else would it become known");
}

#[test]
fn the_jobs_own_order_comes_before_warmth() {
    let picture = picture(vec![session(2, "firefox", vec![tab(21, Some("m"), false)])]);
    let need = Need { browsers: vec!["chromium".to_owned(), "firefox".to_owned()], ..need() };
    check(&need, &picture, "chromium", Way::NewSession);
}

#[test]
fn a_later_platform_is_used_only_where_the_first_cannot_be_had() {
    let both = Need { platforms: vec![Platform::Webgpu, Platform::Wasm], ..need() };
    let mut picture = picture(Vec::new());
    assert_eq!(place(&both, &picture, &untried).platform, Platform::Webgpu);
    for browser in &mut picture.browsers {
        browser.platforms[1].1 = Readiness::Unable { reason: "no adapter".to_owned() };
    }
    assert_eq!(place(&both, &picture, &untried).platform, Platform::Wasm);
    // Busy is not impossible.
    let mut busy = self::picture(vec![
        session(1, "chromium", vec![tab(11, Some("a"), true), tab(12, Some("b"), true)]),
        session(2, "firefox", vec![tab(21, Some("a"), true), tab(22, Some("b"), true)]),
    ]);
    assert!(matches!(choose(&both, &busy, &untried), Choice::Wait(Waiting::Busy)));
    busy.sessions[1].tabs.pop();
    check(&both, &busy, "firefox", Way::NewTab { session: 2 });
}

#[test]
fn half_floats_need_an_adapter_that_has_them() {
    let mut picture = picture(Vec::new());
    let half = Need { platforms: vec![Platform::Webgpu], half_floats: true, ..need() };
    let Choice::Never(WebError::Unavailable { reason }) = choose(&half, &picture, &untried) else {
        panic!("no adapter has them");
    };
    assert!(reason.contains("firefox webgpu: its adapter lacks shader-f16"), "{reason}");
    picture.browsers[1].platforms[1].1 = Readiness::Able { half_floats: true };
    check(&half, &picture, "firefox", Way::NewSession);
}

#[test]
fn what_broke_is_waited_for_and_what_cannot_be_is_refused() {
    let mut picture = picture(Vec::new());
    picture.browsers[0].platforms[0].1 = Readiness::Broken;
    check(&need(), &picture, "firefox", Way::NewSession);
    picture.browsers[1].platforms[0].1 = Readiness::Unable { reason: "it does not start".to_owned() };
    assert!(matches!(choose(&need(), &picture, &untried), Choice::Wait(Waiting::Broken)));
    let elsewhere = Need { browsers: vec!["edge".to_owned()], ..need() };
    let Choice::Never(error) = choose(&elsewhere, &picture, &untried) else { panic!("there is no Edge") };
    assert_eq!(error.to_string(), "unavailable, because edge is not in the settings");
}

#[test]
fn a_browser_that_died_under_the_job_is_used_only_if_there_is_no_other() {
    let avoiding =
        |browsers: &[&str]| Need { avoided: browsers.iter().map(|name| (*name).to_owned()).collect(), ..need() };
    check(&avoiding(&["chromium"]), &picture(Vec::new()), "firefox", Way::NewSession);
    check(&avoiding(&["chromium", "firefox"]), &picture(Vec::new()), "chromium", Way::NewSession);
}

#[test]
fn idle_tabs_then_idle_sessions_make_room_and_running_jobs_never_do() {
    let mut full = picture(vec![
        session(1, "chromium", vec![tab(11, Some("a"), false), tab(12, Some("b"), true)]),
        session(2, "firefox", vec![tab(21, Some("c"), false)]),
    ]);
    let only_chromium = Need { browsers: vec!["chromium".to_owned()], memory_mb: 300.0, ..need() };
    // 600 + 500 are taken; the tab that must go anyway, and Firefox's, make 200 of the 300.
    full.budget_mb = 1_200.0;
    let place = check(&only_chromium, &full, "chromium", Way::NewTab { session: 1 });
    assert_eq!((place.close_tabs, place.end_sessions), (vec![(1, 11), (2, 21)], vec![]));
    full.budget_mb = 900.0;
    let place = check(&only_chromium, &full, "chromium", Way::NewTab { session: 1 });
    assert_eq!((place.close_tabs, place.end_sessions), (vec![(1, 11)], vec![2]));
    full.budget_mb = 790.0;
    assert!(matches!(choose(&only_chromium, &full, &untried), Choice::Wait(Waiting::Memory)));
    let huge = Need { memory_mb: 500.0, ..need() };
    let Choice::Never(error) = choose(&huge, &full, &untried) else { panic!("it can never fit") };
    assert_eq!(
        error.to_string(),
        "it needs 900 MB of memory and all browsers together may take 790 MB",
        "the browser itself counts"
    );
}

#[test]
fn an_idle_browser_that_has_grown_makes_room_for_another_of_its_kind() {
    let mut grown = session(1, "chromium", vec![tab(11, Some("a"), false)]);
    grown.memory_mb = 2_500.0;
    let mut picture = Picture { budget_mb: 2_000.0, ..picture(vec![grown]) };
    picture.browsers.pop();
    let place = check(&need(), &picture, "chromium", Way::NewSession);
    assert_eq!((place.close_tabs, place.end_sessions), (vec![], vec![1]));
    picture.sessions[0].tabs[0].is_busy = true;
    assert!(matches!(choose(&need(), &picture, &untried), Choice::Wait(Waiting::Memory)));
}

#[test]
fn who_must_be_alone_gets_a_browser_of_its_own() {
    let alone = Need { browsers: vec!["chromium".to_owned()], alone: true, ..need() };
    let mut picture = picture(vec![session(1, "chromium", vec![tab(11, Some("m"), false)])]);
    let place = check(&alone, &picture, "chromium", Way::NewSession);
    assert_eq!(place.end_sessions, [1], "though it has the model");
    picture.sessions[0].tabs[0].is_busy = true;
    assert!(matches!(choose(&alone, &picture, &untried), Choice::Wait(Waiting::Busy)));
    picture.sessions[0].is_retiring = true;
    assert_eq!(check(&alone, &picture, "chromium", Way::NewSession).end_sessions, [0; 0]);
}

fn any_tab() -> impl Strategy<Value = (bool, Option<u8>)> {
    (any::<bool>(), prop::option::of(0_u8..3))
}

proptest! {
    /// Whatever the pool looks like: no busy tab goes, no slot is exceeded, no broken place is used, and the budget
    /// holds once those who leave have left.
    #[test]
    fn a_place_keeps_every_limit(
        tabs in prop::collection::vec((0_usize..2, any_tab()), 0..6),
        states in prop::collection::vec((any::<bool>(), any::<bool>()), 2),
        broken in prop::collection::vec(any::<bool>(), 2),
        budget_mb in 300.0_f64..2_500.0,
        memory_mb in 1.0_f64..600.0,
    ) {
        let names = ["chromium", "firefox"];
        let mut sessions: Vec<SessionPicture> = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let of_session = tabs.iter().enumerate().filter(|(_, (at, _))| *at == index).take(2);
            let tabs: Vec<TabPicture> = of_session
                .map(|(id, (_, (is_busy, holds)))| {
                    let model = holds.map(|number| ["m", "a", "b"][usize::from(number)]);
                    tab(id as u64 + 10, model, *is_busy)
                })
                .collect();
            let (is_there, is_retiring) = states[index];
            if is_there {
                sessions.push(SessionPicture { is_retiring, ..session(index as u64 + 1, name, tabs) });
            }
        }
        let mut picture = Picture { budget_mb, ..picture(sessions) };
        for (browser, broken) in picture.browsers.iter_mut().zip(&broken) {
            if *broken {
                browser.platforms[0].1 = Readiness::Broken;
            }
        }
        let need = Need { memory_mb, ..need() };
        let Choice::Place(place) = choose(&need, &picture, &untried) else {
            let is_idle = picture.sessions.iter().all(SessionPicture::is_idle);
            let fits = memory_mb + SESSION_BASE_MB <= budget_mb && broken.contains(&false);
            prop_assert!(!(is_idle && fits), "nothing stands in its way");
            return Ok(());
        };
        let of_browser = picture.browsers.iter().find(|browser| browser.name == place.browser).expect("known");
        prop_assert_eq!(&of_browser.platforms[0].1, &ABLE);
        let session_of = |id: u64| picture.sessions.iter().find(|session| session.id == id).expect("known");
        for (session, tab) in &place.close_tabs {
            let tab = session_of(*session).tabs.iter().find(|known| known.id == *tab).expect("known");
            prop_assert!(!tab.is_busy);
        }
        if place.way == Way::NewSession {
            let staying = picture.sessions_of(of_browser).filter(|session| !place.end_sessions.contains(&session.id));
            prop_assert!(staying.count() < of_browser.sessions_max);
        }
        for session in &place.end_sessions {
            prop_assert!(session_of(*session).tabs.iter().all(|tab| !tab.is_busy));
        }
        let into = match place.way {
            Way::WarmModel { session, .. } | Way::WarmPage { session, .. } | Way::NewTab { session } => Some(session),
            Way::NewSession => None,
        };
        if let Some(into) = into {
            prop_assert!(!place.end_sessions.contains(&into));
            prop_assert!(!session_of(into).is_retiring);
            let closed = place.close_tabs.iter().filter(|(session, _)| *session == into).count();
            let opened = usize::from(matches!(place.way, Way::NewTab { .. }));
            prop_assert!(session_of(into).tabs.len() - closed + opened <= of_browser.tabs_max);
        }
        if !matches!(place.way, Way::WarmModel { .. }) {
            let wanted_mb = memory_mb + if into.is_none() { SESSION_BASE_MB } else { 0.0 };
            let ended = |id: u64| place.end_sessions.contains(&id);
            let staying_mb: f64 = picture.sessions.iter().filter(|one| !ended(one.id)).map(|one| one.memory_mb).sum();
            let closed_mb: f64 = place
                .close_tabs
                .iter()
                .map(|(session, id)| {
                    session_of(*session).tabs.iter().find(|tab| tab.id == *id).map_or(0.0, |tab| tab.memory_mb)
                })
                .sum();
            prop_assert!(staying_mb - closed_mb + wanted_mb <= budget_mb + 1e-6);
        }
    }
}
