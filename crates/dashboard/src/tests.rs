//! The API over a real socket.

use std::time::{Duration, Instant};

use messages::{
    AfterFailure, Cancel, CancelTarget, Dispatch, FailedAttempt, Failure, FailureKind, Heartbeat, Job, JobId,
    JobResult, JobSpec, Need, Offer, Origin, Outcome, Platform, Priority, Progress, Requirements, RunId, RunRef,
    RunSubmitted, RunningJob, TestSpec, Timestamp, WorkerId,
};
use serde_json::{Value, json};
use store::{OutboxMode, Record, Store, StreamPosition};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{oneshot, watch},
    task::JoinHandle,
};

use crate::{ApiState, DashboardError, Forecaster, predict::tests::publish, serve};

const RUN: &str = "0193fa4a-1111-7000-8000-000000000001";
const ABSENT: &str = "0193fa4a-1111-7000-8000-0000000000ff";

/// How long a small release may take to be loaded.
const LOADED_MAX: Duration = Duration::from_mins(1);

struct Server {
    address: std::net::SocketAddr,
    store: Store,
    releases: tempfile::TempDir,
    forecaster: Forecaster,
    changes: watch::Sender<u64>,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), DashboardError>>,
}

async fn server() -> Server {
    let store = Store::in_memory().expect("a store");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (changes, receiver) = watch::channel(0);
    let (stop, stopped) = oneshot::channel();
    let releases = tempfile::tempdir().expect("a directory");
    let forecaster = Forecaster::open(releases.path()).expect("opened");
    let state = ApiState { store: store.clone(), changes: receiver, forecaster: forecaster.clone() };
    let ended = tokio::spawn(serve(listener, state, async {
        stopped.await.expect("told to stop");
    }));
    Server { address, store, releases, forecaster, changes, stop, ended }
}

impl Server {
    async fn send(&self, method: &str, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.expect("connected");
        let request = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        stream
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let (status, _, body) = answer(self.send("GET", path).await).await;
        (status, serde_json::from_str(&body).expect(&body))
    }

    fn commit(&self, records: &[Record]) {
        let position = StreamPosition { stream: "results", next_offset: 42, last_message: None };
        self.store.commit(records, Some(position), OutboxMode::Skip).expect("stored");
        self.changes.send_modify(|changes| *changes += 1);
    }
}

/// Reads an answer: status, head and body, which this server never sends in chunks.
async fn answer(mut stream: TcpStream) -> (u16, String, String) {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, head.to_owned(), body.to_owned())
}

fn run_id() -> RunId {
    RUN.parse().expect("a UUID")
}

fn begun() -> Record {
    Record::Run(RunSubmitted {
        run_id: run_id(),
        suite: "<b>demo</b>".to_owned(),
        origin: Origin::Client,
        submitted_at: Timestamp::from_micros(0),
        jobs_total: 2,
        only_job: None,
        needs: Vec::new(),
        configurations: Vec::new(),
        due_at: None,
        git_commit: None,
        git_branch: None,
        command_line: None,
    })
}

fn job_id(n: u8) -> JobId {
    format!("0193fa4a-2222-7000-8000-0000000000{n:02x}").parse().expect("a UUID")
}

fn failed(n: u8) -> Record {
    Record::Result(Box::new(failure(n)))
}

fn dead(n: u8) -> Record {
    Record::Attempt(Box::new(FailedAttempt { result: failure(n), next: AfterFailure::DeadLetter }))
}

fn failure(n: u8) -> JobResult {
    JobResult {
        job: Job {
            job_id: job_id(n),
            run: RunRef { run_id: run_id(), suite: "<b>demo</b>".to_owned(), jobs_total: 2, origin: Origin::Client },
            case: "case".to_owned(),
            priority: Priority::Normal,
            platform: Platform::Cpu,
            submitted_at: Timestamp::from_micros(0),
            timeout_ms: 1_000,
            dispatch: Dispatch::default(),
            spec: JobSpec::Test(TestSpec::default()),
        },
        attempt: 1,
        worker_id: WorkerId::parse("host:1:0").expect("a name"),
        device: None,
        started_at: Timestamp::from_micros(1_000_000),
        finished_at: Timestamp::from_micros(2_000_000),
        outcome: Outcome::Failed(Failure {
            kind: FailureKind::Unavailable,
            message: "no pytest".to_owned(),
            output_tail: String::new(),
            suggestion: None,
        }),
    }
}

#[tokio::test]
async fn every_address_answers_with_json() {
    let server = server().await;
    server.commit(&[begun(), failed(1)]);
    let health = json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION"), "changes": 1,
        "streams": [{ "stream": "results", "next_offset": 42 }] });
    assert_eq!(server.get("/api/health").await, (200, health));
    let (_, runs) = server.get("/api/runs?limit=5").await;
    assert_eq!((&runs[0]["run_id"], &runs[0]["done"], &runs[0]["error"]), (&json!(RUN), &json!(1), &json!(1)));
    assert_eq!(server.get(&format!("/api/runs/{RUN}")).await, (200, runs[0].clone()));
    let (_, results) = server.get(&format!("/api/runs/{RUN}/results")).await;
    assert_eq!(results[0]["failure_message"], "no pytest");
    assert_eq!(server.get(&format!("/api/jobs/{}", job_id(1))).await, (200, results[0].clone()));
    assert_eq!(server.get("/api/results").await, (200, results));
    for path in
        ["workers", "measured", "releases", "quarantine", "prediction-errors", &format!("prediction-errors?run={RUN}")]
    {
        assert_eq!(server.get(&format!("/api/{path}")).await, (200, json!([])), "{path}");
    }
    let nothing = json!({ "queued": [], "dead": [], "failed": [], "incompatible": [] });
    assert_eq!(server.get("/api/withheld").await, (200, nothing));
    assert_eq!(server.get(&format!("/api/jobs/{}/iterations", job_id(1))).await, (200, json!([])));
    let (_, attempts) = server.get(&format!("/api/jobs/{}/attempts", job_id(1))).await;
    assert_eq!((&attempts[0]["failure_type"], &attempts[0]["next"]), (&json!("unavailable"), &Value::Null));
    assert_eq!(server.get(&format!("/api/runs/{RUN}/attempts")).await, (200, attempts));
    let digest = serde_json::to_value(server.store.digest().expect("a digest")).expect("JSON");
    assert_eq!(server.get("/api/digest").await, (200, digest));
}

#[tokio::test]
async fn refusals_say_why_and_what_to_do() {
    let server = server().await;
    for (path, status, error) in [
        (format!("/api/runs/{ABSENT}"), 404, format!("no run {ABSENT} is known")),
        (format!("/api/runs/{ABSENT}/results"), 404, format!("no run {ABSENT} is known")),
        (format!("/api/runs/{ABSENT}/wait?timeout_s=0"), 404, format!("no run {ABSENT} is known")),
        (format!("/api/runs/{ABSENT}/attempts"), 404, format!("no run {ABSENT} is known")),
        (format!("/api/runs/{ABSENT}/state"), 404, format!("no run {ABSENT} is known")),
        (format!("/api/jobs/{ABSENT}/attempts"), 404, format!("no attempt at job {ABSENT} is known")),
        (format!("/api/jobs/{ABSENT}"), 404, format!("no result of job {ABSENT} is known")),
        ("/api/nothing".to_owned(), 404, "there is nothing at this address".to_owned()),
        ("/api/runs?limit=0".to_owned(), 400, "limit is 0".to_owned()),
    ] {
        let (found, body) = server.get(&path).await;
        assert_eq!((found, &body["error"]), (status, &json!(error)), "{path}");
        assert!(body["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{path}: {body}");
    }
    for path in
        ["/api/runs/seven", "/api/jobs/7", "/api/prediction-errors?run=x", "/api/runs?limit=many", "/api/runs?x=1"]
    {
        let (status, body) = server.get(path).await;
        assert_eq!(status, 400, "{path}: {body}");
    }
    let (status, _, body) = answer(server.send("DELETE", "/api/runs").await).await;
    assert_eq!((status, body.contains("this API only reads")), (405, true));
}

#[tokio::test]
async fn a_wait_ends_with_news_of_the_run() {
    let server = server().await;
    // The run is not known yet: its client waits for it all the same.
    let waiting = server.send("GET", &format!("/api/runs/{RUN}/wait?timeout_s=60&seen=0")).await;
    server.commit(&[begun()]);
    server.commit(&[failed(1)]);
    let (status, _, body) = answer(waiting).await;
    let summary: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((status, &summary["done"]), (200, &json!(1)));

    let waiting = server.send("GET", &format!("/api/runs/{RUN}/wait?timeout_s=60")).await;
    server.commit(&[failed(2)]);
    let summary: Value = serde_json::from_str(&answer(waiting).await.2).expect("JSON");
    assert_eq!(summary["done"], 2, "without `seen` it waits for the end");

    let (_, summary) = server.get(&format!("/api/runs/{RUN}/wait?timeout_s=60&seen=2")).await;
    assert_eq!(summary["done"], 2, "a complete run has no more news");
    let (_, changes) = server.get("/api/changes?timeout_s=60&seen=1").await;
    assert_eq!(changes, json!({ "changes": 3 }));
}

/// The first request after a release waited for it to be loaded.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_loaded_on_the_news_of_it_and_not_by_a_request() {
    let server = server().await;
    let releases = predictors::Releases::open(server.releases.path()).expect("opened");
    for slower in [1.0, 2.0] {
        let release = publish(&releases, slower);
        server.changes.send_modify(|changes| *changes += 1);
        // What the task does is seen only by looking.
        let deadline = Instant::now() + LOADED_MAX;
        while !server.forecaster.has_loaded(&release) {
            assert!(Instant::now() < deadline, "{release} is not loaded");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    server.stop.send(()).expect("running");
    server.ended.await.expect("no panic").expect("no error");
}

#[tokio::test]
async fn a_cancelled_run_is_news_once() {
    let server = server().await;
    server.commit(&[begun()]);
    let waiting = server.send("GET", &format!("/api/runs/{RUN}/wait?timeout_s=60&seen=0&seen_cancelled=false")).await;
    let requested_at = Timestamp::from_micros(3_000_000);
    server.commit(&[Record::Cancel(Cancel { target: CancelTarget::Run(run_id()), requested_at })]);
    let summary: Value = serde_json::from_str(&answer(waiting).await.2).expect("JSON");
    assert_eq!((&summary["done"], &summary["cancelled_at"]), (&json!(0), &json!(requested_at.to_string())));
    let waiting = server.send("GET", &format!("/api/runs/{RUN}/wait?timeout_s=60&seen=0&seen_cancelled=true")).await;
    server.commit(&[failed(1)]);
    let summary: Value = serde_json::from_str(&answer(waiting).await.2).expect("JSON");
    assert_eq!(summary["done"], 1, "who knows of it waits for more");
}

#[tokio::test]
async fn a_dead_job_ends_a_wait_as_a_result_does() {
    let server = server().await;
    server.commit(&[begun()]);
    let waiting = server.send("GET", &format!("/api/runs/{RUN}/wait?timeout_s=60&seen=0")).await;
    server.commit(&[dead(1)]);
    let summary: Value = serde_json::from_str(&answer(waiting).await.2).expect("JSON");
    assert_eq!((&summary["done"], &summary["dead"]), (&json!(0), &json!(1)));
    let waiting = server.send("GET", &format!("/api/runs/{RUN}/wait?timeout_s=60")).await;
    server.commit(&[failed(2)]);
    let summary: Value = serde_json::from_str(&answer(waiting).await.2).expect("JSON");
    assert_eq!((&summary["done"], &summary["dead"]), (&json!(1), &json!(1)), "the rest of the run is dead");
}

fn heartbeat(sent_at: Timestamp) -> Heartbeat {
    let running = |run_id| RunningJob {
        job_id: job_id(2),
        run_id,
        case: "case".to_owned(),
        attempt: 2,
        started_at: sent_at,
        progress: Some(Progress { done: 3, total: 9 }),
        leased: true,
    };
    Heartbeat {
        worker_id: WorkerId::parse("host:1").expect("a name"),
        host: "host".to_owned(),
        pid: 1,
        version: "0.1.0".to_owned(),
        started_at: sent_at,
        sent_at,
        platforms: vec![Platform::Cpu],
        offer: Offer::default(),
        concurrency: 2,
        draining: false,
        running: vec![running(run_id()), running(ABSENT.parse().expect("a UUID"))],
        jobs_done: 0,
    }
}

#[tokio::test]
async fn a_run_tells_what_runs_what_waits_and_what_died() {
    let server = server().await;
    let Record::Run(run) = begun() else { panic!("a run") };
    let need = |platform, tags: &[&str], jobs| {
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        Need { platform, requirements: Requirements { tags, ..Requirements::default() }, jobs }
    };
    let needs = vec![need(Platform::Cpu, &[], 1), need(Platform::Cpu, &["lab"], 1), need(Platform::Cuda, &[], 1)];
    server.commit(&[Record::Run(RunSubmitted { needs, jobs_total: 3, ..run }), dead(1)]);
    server.store.upsert_worker(&heartbeat(Timestamp::now())).expect("stored");
    let (status, state) = server.get(&format!("/api/runs/{RUN}/state")).await;
    assert_eq!((status, &state["run"]["dead"]), (200, &json!(1)));
    let running = &state["running"];
    assert_eq!((running.as_array().map(Vec::len), &running[0]["worker_id"]), (Some(1), &json!("host:1")));
    assert_eq!((&running[0]["progress_done"], &running[0]["attempt"]), (&json!(3), &json!(2)));
    let waiting = json!([
        { "platform": "cpu", "requirements": "", "jobs": 1, "reason": null },
        { "platform": "cpu", "requirements": "tag lab", "jobs": 1,
          "reason": "no live worker for cpu has tag lab (host:1: no tag lab)" },
        { "platform": "cuda", "requirements": "", "jobs": 1,
          "reason": "no live worker takes cuda; live: host:1 (cpu)" },
    ]);
    assert_eq!(state["waiting"], waiting);
    assert_eq!(
        (&state["dead"][0]["next"], &state["dead"][0]["failure_message"]),
        (&json!("dead-letter"), &json!("no pytest"))
    );
    assert_eq!(state["attempts"], json!({ "counted": 0, "retried": 0, "dead_lettered": 1 }));
    serde_json::from_value::<crate::RunState>(state).expect("clients read it");

    server.commit(&[failed(2)]);
    let (_, state) = server.get(&format!("/api/runs/{RUN}/state")).await;
    let left: Vec<_> = state["waiting"].as_array().expect("a list").iter().map(|need| &need["platform"]).collect();
    assert_eq!(left, ["cuda"], "all jobs for cpu have ended");
    server.commit(&[dead(3)]);
    let (_, state) = server.get(&format!("/api/runs/{RUN}/state")).await;
    assert_eq!(state["waiting"], json!([]), "the run is complete");
}

#[tokio::test]
async fn a_worker_that_is_silent_runs_and_takes_nothing() {
    let server = server().await;
    let Record::Run(run) = begun() else { panic!("a run") };
    let needs = vec![Need { platform: Platform::Cpu, requirements: Requirements::default(), jobs: 2 }];
    server.commit(&[Record::Run(RunSubmitted { needs, ..run })]);
    let minute_ago = Timestamp::from_micros(Timestamp::now().as_micros() - 60_000_000);
    server.store.upsert_worker(&heartbeat(minute_ago)).expect("stored");
    let (_, state) = server.get(&format!("/api/runs/{RUN}/state")).await;
    assert_eq!(state["running"], json!([]));
    assert_eq!(state["waiting"][0]["reason"], "no live worker takes cpu; none is live");
}

#[tokio::test]
async fn shutting_down_ends_waits_at_once() {
    let server = server().await;
    server.commit(&[begun()]);
    let mut waiting = server.send("GET", "/api/changes?timeout_s=60&seen=1").await;
    let mut other = server.send("GET", "/api/changes?timeout_s=0&seen=1").await;
    // The other answer shows that the server has taken connections since the first was made.
    other.read_to_string(&mut String::new()).await.expect("an answer");
    server.stop.send(()).expect("running");
    let mut text = String::new();
    waiting.read_to_string(&mut text).await.expect("an answer");
    assert!(text.ends_with(r#"{"changes":1}"#), "{text}");
    server.ended.await.expect("no panic").expect("no error");
    TcpStream::connect(server.address).await.expect_err("closed");
}

#[tokio::test]
async fn the_page_is_whole_and_takes_nothing_from_elsewhere() {
    let server = server().await;
    let (status, head, body) = answer(server.send("GET", "/").await).await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/html; charset=utf-8"), "{head}");
    assert!(head.contains("default-src 'none'"), "{head}");
    assert!(body.trim_end().ends_with("</html>"));
    for forbidden in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "https://", "src=\""] {
        assert!(!body.contains(forbidden), "the page contains {forbidden}");
    }
}
