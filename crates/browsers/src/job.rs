//! One job from its place to its measurements, with as many tries as its browsers' deaths allow.

mod memory;
mod verdict;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use messages::{LatencySummary, Platform, Precision, Progress, Warmth, WebPhases};
use tokio::time;

use crate::{
    WebError, WebRequest, WebRun,
    inner::Inner,
    lease::Lease,
    placements::{Nodes, describe, provider_of},
    protocol::{InputLocation, LoadCommand, ModelLocation, RunCommand},
    recovery::{Break, Ladder, Rung},
    scheduler::{Need, Way},
    session::Session,
    speeds::Ran,
    tab::{Measured, Step},
};
use verdict::{End, judge};

/// How long a browser may take to end after a page of it, where it does.
const FOLLOW_MAX: Duration = Duration::from_secs(2);

/// Time between two looks at whether it has.
const FOLLOW_POLL: Duration = Duration::from_millis(20);

/// What a job reports while it runs.
pub(crate) type ProgressSink<'a> = &'a (dyn Fn(Progress) + Sync);

/// How often the pool may end a job's browser for reasons that are not the job's. Each time begins another try, and
/// tries must have an end; a pool under which that happens so often cannot run the job now.
const TAKEN_MAX: usize = 10;

/// What a job is at before anything of it runs.
const OPENING: &str = "opening a tab";

/// What went wrong with a job's browsers so far.
#[derive(Debug, Default)]
struct Trail {
    ladder: Ladder,
    /// Browsers and tabs that died under it.
    deaths: Vec<String>,
    /// Browsers that did not start for it.
    failed_starts: Vec<String>,
    /// Browsers that the pool ended under it.
    taken: Vec<String>,
    recoveries: Vec<String>,
}

impl Trail {
    /// Whether one more death would make the job poison: then it must not be a neighbour's doing.
    fn is_suspect(&self, deaths_max: u32) -> bool {
        !self.deaths.is_empty() && self.deaths.len() + 1 >= deaths_max as usize
    }
}

impl Need {
    fn of(request: &WebRequest) -> Self {
        Self {
            platforms: request.platforms.clone(),
            browsers: request.browsers.clone(),
            half_floats: request.precision == Precision::Fp16,
            model: request.model_key(),
            family: request.family().to_owned(),
            memory_mb: request.needed_mb(),
            avoided: Vec::new(),
            alone: false,
        }
    }
}

/// Runs a job to its end; dropping the future ends it and frees its slot.
///
/// Each try has the job's whole time: what a browser took along when it died is not the job's. But nobody has a slot for
/// longer than that: a job whose page was only loaded again has what is left, and begins anew elsewhere if that is over.
/// Deaths, failed starts and what the pool ends have limits, and so have tries.
pub(crate) async fn run(
    inner: &Arc<Inner>,
    request: &WebRequest,
    step: &Step,
    progress: ProgressSink<'_>,
) -> Result<WebRun, WebError> {
    let mut need = Need::of(request);
    let mut trail = Trail::default();
    let mut broken: Option<(Lease, Rung)> = None;
    loop {
        let rest = broken.as_ref().filter(|(_, rung)| *rung == Rung::Reload).map(|(lease, _)| lease.rest());
        let mut at = None;
        let trying = async {
            let held = match broken.take() {
                Some((lease, rung)) => climb(inner, lease, rung, &mut need, step).await,
                None => None,
            };
            let mut lease = match held {
                Some(lease) => lease,
                None => inner.place(&need, request.priority, request.timeout, step).await?,
            };
            at = Some((lease.place().browser.clone(), lease.place().platform));
            let ended = attempt(inner, &mut lease, request, step, progress).await;
            Ok::<_, WebError>((lease, ended))
        };
        let Ok(tried) = time::timeout(rest.unwrap_or(request.timeout), trying).await else {
            if rest.is_some() {
                leave_for_time(inner, &mut trail);
                continue;
            }
            return Err(timed_out(inner, request, &trail, at, step));
        };
        let (lease, ended) = tried?;
        match ended {
            Ok(run) => {
                succeed(inner, &lease, request, &run);
                lease.keep();
                return Ok(WebRun { recoveries: trail.recoveries, ..run });
            }
            Err(End::Answer(error)) => return Err(error),
            Err(End::Broken(what, why)) => {
                let what = in_all(&lease, what).await;
                let rung = note(inner, &lease, &mut trail, what, &why)?;
                // The death that would make it poison must not be a neighbour's doing.
                need.alone = trail.is_suspect(inner.settings.deaths_max);
                broken = Some((lease, rung));
            }
        }
    }
}

/// Says whose time was over: the job's once it runs, and the pool's while it only waits or has no other browser yet.
fn timed_out(
    inner: &Inner,
    request: &WebRequest,
    trail: &Trail,
    at: Option<(String, Platform)>,
    step: &Step,
) -> WebError {
    let phase = step.get();
    let only_waited = phase.starts_with("waiting") || (phase == OPENING && !trail.recoveries.is_empty());
    let Some((browser, platform)) = at.filter(|_| !only_waited) else {
        return WebError::NoBrowser { reasons: vec![format!("the job's time was over while {phase}")] };
    };
    inner.state().counters.watchdog_ended += 1;
    let timeout_ms = u64::try_from(request.timeout.as_millis()).unwrap_or(u64::MAX);
    WebError::TimedOut { browser, platform, timeout_ms, phase }
}

/// Counts that a job goes on in another tab because it had its slot for as long as it may. A browser's page is loaded
/// again once for a job at most, so this comes to an end.
fn leave_for_time(inner: &Inner, trail: &mut Trail) {
    let rung = Rung::NewTab;
    trail.recoveries.push(format!("{} after a reload: the slot's time was over", rung.as_str()));
    *inner.state().counters.rungs.entry(rung).or_default() += 1;
}

/// What broke in all: the end of a page may be seen before that of its browser, and geckodriver tells Firefox to quit
/// when a page of it dies. That is one death and not two.
async fn in_all(lease: &Lease, broken: Break) -> Break {
    let Some(session) = lease.session().filter(|_| broken == Break::Page) else { return broken };
    let following = async {
        while session.is_alive() {
            time::sleep(FOLLOW_POLL).await;
        }
    };
    time::timeout(FOLLOW_MAX, following).await.map_or(broken, |()| Break::Browser)
}

/// Counts what broke and says which step comes next, or that it was enough.
fn note(inner: &Inner, lease: &Lease, trail: &mut Trail, broken: Break, why: &str) -> Result<Rung, WebError> {
    let (browser, platform) = (&lease.place().browser, lease.place().platform);
    let told = format!("{browser}: {why}");
    match broken {
        Break::Start => trail.failed_starts.push(told),
        Break::Ours => trail.taken.push(told),
        Break::Device | Break::Page | Break::Browser => trail.deaths.push(told),
    }
    let rung = match trail.ladder.climb(browser, broken) {
        Rung::Reload | Rung::NewTab if trail.is_suspect(inner.settings.deaths_max) => Rung::NewBrowser,
        rung => rung,
    };
    tracing::warn!(%browser, %platform, why, next = rung.as_str(), "a browser broke under a job");
    trail.recoveries.push(format!("{} after {browser}: {why}", rung.as_str()));
    let mut state = inner.state();
    if broken != Break::Ours {
        state.breaker(browser, platform, &inner.settings).fail(Instant::now());
    }
    let limit = inner.settings.deaths_max as usize;
    if trail.deaths.len() >= limit {
        state.counters.poisoned += 1;
        return Err(WebError::Poison { deaths: trail.deaths.clone() });
    }
    if trail.failed_starts.len() >= limit {
        return Err(WebError::NoBrowser { reasons: trail.failed_starts.clone() });
    }
    if trail.taken.len() >= TAKEN_MAX {
        return Err(WebError::NoBrowser { reasons: trail.taken.clone() });
    }
    *state.counters.rungs.entry(rung).or_default() += 1;
    Ok(rung)
}

/// Does what the step says; a lease that is still good goes on.
async fn climb(inner: &Arc<Inner>, mut lease: Lease, rung: Rung, need: &mut Need, step: &Step) -> Option<Lease> {
    step.set("waiting for its browser to be mended");
    let (browser, session_id) = (lease.place().browser.clone(), lease.session_id());
    if lease.session().is_some_and(|session| !session.is_alive()) {
        // Whatever the step, it begins with a browser that lives.
        drop(lease);
        inner.end_session(session_id, false).await;
        avoid(need, rung, browser);
        return None;
    }
    match rung {
        Rung::Reload => match lease.reload().await {
            Ok(()) => Some(lease),
            Err(error) => {
                tracing::debug!(%error, "a page does not load again; the next tab will do");
                None
            }
        },
        Rung::NewTab => None,
        Rung::NewSession | Rung::NewBrowser | Rung::OtherBrowser => {
            lease.abandon().await;
            inner.end_session(session_id, rung == Rung::NewSession).await;
            avoid(need, rung, browser);
            None
        }
    }
}

fn avoid(need: &mut Need, rung: Rung, browser: String) {
    if rung == Rung::OtherBrowser && !need.avoided.contains(&browser) {
        need.avoided.push(browser);
    }
}

fn succeed(inner: &Inner, lease: &Lease, request: &WebRequest, run: &WebRun) {
    let place = lease.place();
    let mut state = inner.state();
    state.breaker(&place.browser, place.platform, &inner.settings).succeed();
    if let Some(summary) = LatencySummary::from_iterations(run.iterations_ms.clone()) {
        let version = format!("{} {}", run.browser_version, inner.runtime);
        let ran = Ran { browser: &run.browser, version: &version, platform: run.platform };
        state.speeds.learn(request.family(), &request.shape_key(), ran, summary.p50);
        state.is_unsaved = true;
    }
}

async fn attempt(
    inner: &Arc<Inner>,
    lease: &mut Lease,
    request: &WebRequest,
    step: &Step,
    progress: ProgressSink<'_>,
) -> Result<WebRun, End> {
    let place = lease.place().clone();
    let warmth = match place.way {
        Way::WarmModel { .. } => Warmth::WarmModel,
        Way::WarmPage { .. } => Warmth::WarmPage,
        Way::NewTab { .. } => Warmth::WarmSession,
        Way::NewSession => Warmth::ColdBrowser,
    };
    if let Some(why) = lease.is_stale() {
        return Err(End::Broken(Break::Ours, why.to_owned()));
    }
    step.set(OPENING);
    if let Err(error) = lease.enter().await {
        let is_gone = lease.session().is_some_and(|session| !session.is_alive() && !session.was_ended());
        let broken = if is_gone { Break::Browser } else { Break::Start };
        return Err(End::Broken(broken, error.to_string()));
    }
    let version = inner.state().installed(&place.browser).map(|found| found.version.clone()).unwrap_or_default();
    let job = format!("job-{}", uuid::Uuid::now_v7().simple());
    let inputs = request.inputs.iter().map(|input| input.bytes.clone()).collect();
    let _offer = inner.server.offer(&job, request.model.sha256, request.model.path.clone(), inputs);
    let command = run_command(request, place.platform, &job);
    let nodes = verified(inner, lease, request, &version, command.load.clone(), step).await?;
    let (measured, memory_peak_mb) = measure(inner, lease, request, command, step, progress).await?;
    let Measured { done, iterations_ms, stop, outputs } = measured;
    Ok(WebRun {
        platform: place.platform,
        browser: place.browser,
        browser_version: version,
        adapter: done.adapter.map(Into::into),
        nodes,
        phases: WebPhases {
            fetch_ms: done.fetch_ms,
            session_ms: done.session_ms,
            first_run_ms: done.first_run_ms,
            total_ms: done.total_ms,
        },
        warmth,
        threads: done.threads,
        iterations_ms,
        stop,
        memory_peak_mb,
        backend_version: done.backend_version,
        outputs,
        recoveries: Vec::new(),
    })
}

fn run_command(request: &WebRequest, platform: Platform, job: &str) -> RunCommand {
    let model = ModelLocation { key: request.model_key(), path: format!("models/{}", request.model.sha256) };
    let threads = if platform == Platform::Wasm { request.threads } else { 1 };
    let inputs = request.inputs.iter().enumerate().map(|(index, input)| InputLocation {
        name: input.name.clone(),
        element: input.element.clone(),
        dims: input.dims.clone(),
        path: format!("inputs/{job}/{index}"),
    });
    RunCommand {
        inputs: inputs.collect(),
        load: LoadCommand { job: job.to_owned(), platform: platform.as_str(), threads, model },
        warmup_iterations: request.warmup_iterations,
        iterations_first: 0,
        keep_outputs: request.keep_outputs,
    }
}

/// Where the model's nodes run: known, or found out in a session of its own before anything is measured.
async fn verified(
    inner: &Inner,
    lease: &mut Lease,
    request: &WebRequest,
    version: &str,
    load: LoadCommand,
    step: &Step,
) -> Result<Nodes, End> {
    let (browser, platform) = (lease.place().browser.clone(), lease.place().platform);
    let runtime = &inner.runtime;
    let key = format!("{browser} {version} {runtime} {platform} {} {}", request.model.sha256, request.precision);
    let known = inner.state().placements.get(&key).cloned();
    let nodes = if let Some(nodes) = known {
        nodes
    } else {
        let (session, tab) = parts(lease)?;
        let found = tab.verify(load, step).await;
        let nodes = found.map_err(|end| judge(end, session, &browser, platform, inner, step))?;
        let mut state = inner.state();
        state.placements.insert(key, nodes.clone());
        state.is_unsaved = true;
        nodes
    };
    if nodes.get(provider_of(platform)).is_none_or(|count| *count == 0) {
        return Err(End::Answer(WebError::NotOnPlatform { browser, platform, nodes: describe(&nodes) }));
    }
    Ok(nodes)
}

async fn measure(
    inner: &Inner,
    lease: &mut Lease,
    request: &WebRequest,
    command: RunCommand,
    step: &Step,
    progress: ProgressSink<'_>,
) -> Result<(Measured, Option<f64>), End> {
    let place = lease.place().clone();
    let (session_id, tab_id) = (lease.session_id(), lease.tab_id());
    memory::note_shape(inner, session_id, tab_id, &request.shape_key());
    let (session, tab) = parts(lease)?;
    let session = Arc::clone(session);
    let running = tab.run(command, request.stopping_rule(), step, progress);
    let (ran, peak_mb) = memory::watch(session.tree(), step, running).await;
    let measured = ran.map_err(|end| judge(end, &session, &place.browser, place.platform, inner, step))?;
    let is_warm = matches!(place.way, Way::WarmModel { .. });
    let mut now_mb = None;
    // A session that always has a job is measured by nobody else.
    if !is_warm || memory::is_long_unseen(inner, session_id) {
        now_mb = memory::now_mb(session.tree()).await;
        memory::note(inner, session_id, tab_id, now_mb);
    }
    let memory_peak_mb =
        if is_warm { memory::known_mb(inner, session_id, tab_id) } else { memory::max(peak_mb, now_mb) };
    Ok((measured, memory_peak_mb.filter(|_| memory::is_alone(inner, session_id))))
}

fn parts(lease: &mut Lease) -> Result<(&Arc<Session>, &mut crate::tab::Tab), End> {
    lease.parts().ok_or_else(|| End::Broken(Break::Page, "its tab is not open".to_owned()))
}
