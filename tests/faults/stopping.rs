//! SIGTERM to each daemon and to `up`, which has daemons, and a database that another process holds.

use std::{
    fs::{self, OpenOptions},
    io,
    net::TcpListener,
    sync::mpsc::channel,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        signal::{Signal, kill},
        stat::Mode,
    },
    unistd::{Pid, mkfifo},
};
use testkit::AugurProcess;

use crate::support::{LIMIT, World, assert_counts, text};

/// Between two looks at what does not announce itself.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// `augur up`; whatever is left of it ends with this, also where a test fails.
struct Up<'a> {
    world: &'a World,
    process: AugurProcess,
}

impl<'a> Up<'a> {
    /// Starts it with one worker, and waits until all is ready.
    #[track_caller]
    fn start(world: &'a World) -> Self {
        world.set("AUGUR_AGGREGATOR__LISTEN", "127.0.0.1:0");
        let mut up = Self { world, process: world.spawn("up", &["up", "--workers", "1"]) };
        up.process.wait_for_answer("ready: 1 workers", LIMIT).expect("ready");
        assert!(up.alive().len() >= 4, "itself, aggregator, updater and worker: {:?}", up.alive());
        up
    }

    /// Itself and its daemons, as far as they live, whoever is their parent: they have the state directory in common.
    fn alive(&self) -> Vec<i32> {
        let mark = format!("AUGUR_STATE_DIRECTORY={}", self.world.path("state").display());
        let entries = fs::read_dir("/proc").expect("Linux");
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        let is_ours = |pid: &i32| {
            // That of a process that has ended is empty.
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
        };
        pids.filter(is_ours).collect()
    }
}

impl Drop for Up<'_> {
    fn drop(&mut self) {
        for pid in self.alive() {
            // It may have ended meanwhile.
            kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap_or_default();
        }
    }
}

/// Looks until it is so.
#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(LOOK_AGAIN);
    }
}

/// Sends SIGTERM and waits for an end in good order.
#[track_caller]
fn terminate(process: &mut AugurProcess) {
    process.signal(Signal::SIGTERM).expect("sent");
    ended(process);
}

#[track_caller]
fn ended(process: &mut AugurProcess) {
    let status = process.wait(LIMIT).expect("an end");
    assert_eq!(status.code(), Some(0), "{}", process.stderr());
}

/// Sends SIGTERM, and once the process has said `heard` another; waits for a sudden end.
#[track_caller]
fn terminate_twice(process: &mut AugurProcess, heard: &str) {
    process.signal(Signal::SIGTERM).expect("sent");
    process.wait_for_line(heard, LIMIT).expect("it hears the first");
    process.signal(Signal::SIGTERM).expect("sent");
    assert_eq!(process.wait(LIMIT).expect("an end").code(), Some(130), "{}", process.stderr());
}

/// What blocks until a daemon has got so far.
#[track_caller]
fn awaited<T: Send + 'static>(wait: impl FnOnce() -> io::Result<T> + Send + 'static) -> T {
    let (sender, done) = channel();
    thread::spawn(move || sender.send(wait()));
    done.recv_timeout(LIMIT).expect("a daemon gets so far").expect("no error")
}

#[test]
fn sigterm_ends_idle_daemons_in_good_order() {
    let world = World::new();
    let (mut aggregator, mut updater) = (world.aggregator(), world.updater());
    world.set("AUGUR_LEARNER__MODELS", "mobilenet-v2");
    let mut learner = world.spawn("learner", &["learner", "start"]);
    learner.wait_for_line("waiting for a worker", LIMIT).expect("it waits");
    terminate(&mut learner);
    let mut worker = world.worker("w1", &[]);
    for process in [&mut worker, &mut updater, &mut aggregator] {
        terminate(process);
    }
}

#[test]
fn a_worker_told_to_end_lets_its_job_finish() {
    let world = World::new();
    let _aggregator = world.aggregator();
    let (_, run) = world.submit_hold("held");
    let mut worker = world.worker("w1", &[]);
    world.holds().next();
    worker.signal(Signal::SIGTERM).expect("sent");
    worker.wait_for_line("worker drains", LIMIT).expect("it drains");
    world.holds().let_go(1);
    ended(&mut worker);
    assert_counts(&world.complete(&run), 1, [1, 0, 0, 0]);
    assert_eq!(text(&world.results(&run)[0], "worker_id"), "w1");
}

#[test]
fn a_worker_told_to_end_hands_back_a_job_that_outlasts_the_grace() {
    let world = World::new();
    world.set("AUGUR_WORKER__GRACE_S", "1");
    let _aggregator = world.aggregator();
    let (_, run) = world.submit_hold("held");
    let mut first = world.worker("first", &[]);
    let process = world.holds().next();
    let _second = world.worker("second", &[]);
    terminate(&mut first);
    process.gone();
    assert_eq!(world.holds().next().name, "held", "another worker runs it");
    world.holds().let_go(1);
    assert_counts(&world.complete(&run), 1, [1, 0, 0, 0]);
    assert_eq!(text(&world.results(&run)[0], "worker_id"), "second");
}

#[test]
fn a_worker_told_twice_ends_at_once_and_its_job_runs_elsewhere() {
    let world = World::new();
    let _aggregator = world.aggregator();
    let (_, run) = world.submit_hold("held");
    let mut first = world.worker("first", &[]);
    let process = world.holds().next();
    first.signal(Signal::SIGTERM).expect("sent");
    first.wait_for_line("worker drains", LIMIT).expect("it drains");
    first.signal(Signal::SIGTERM).expect("sent");
    assert_eq!(first.wait(LIMIT).expect("an end").code(), Some(130), "{}", first.stderr());
    process.gone();
    let _second = world.worker("second", &[]);
    world.holds().next();
    world.holds().let_go(1);
    assert_counts(&world.complete(&run), 1, [1, 0, 0, 0]);
    assert_eq!(text(&world.results(&run)[0], "worker_id"), "second");
}

/// Each waits for what never comes, an answer or the end of a file, and so could not end in good order.
#[test]
fn other_daemons_told_twice_end_at_once_too() {
    let world = World::new();
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    world.set("AUGUR_AGGREGATOR_URL", &format!("http://{}", silent.local_addr().expect("an address")));
    world.set("AUGUR_LEARNER__MODELS", "mobilenet-v2");
    let mut learner = world.spawn("learner", &["learner", "start"]);
    let _question = awaited(move || silent.accept());
    terminate_twice(&mut learner, "signal received");

    let releases = world.path("state/releases");
    let endless = |name: &str| {
        let path = releases.join(name);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).expect("made");
        path
    };
    let position = endless("training/position");
    let mut updater = world.spawn("updater", &["updater", "start"]);
    let _read = awaited(move || OpenOptions::new().write(true).open(position));
    terminate_twice(&mut updater, "signal received");

    // It has ended but for a thread that reads, which its runtime waits for: then nobody heard the second one.
    let current = endless("current");
    let mut aggregator = world.aggregator();
    let _read = awaited(move || OpenOptions::new().write(true).open(current));
    terminate_twice(&mut aggregator, "aggregator stopped");
}

#[test]
fn up_ends_in_good_order_with_all_its_daemons() {
    let world = World::new();
    let mut up = Up::start(&world);
    terminate(&mut up.process);
    assert_eq!(up.alive(), Vec::<i32>::new());
}

#[test]
fn up_told_twice_ends_at_once_and_neither_its_daemons_nor_their_job_outlive_it() {
    let world = World::new();
    // Longer than anything is waited for here: only the second signal ends the worker.
    world.set("AUGUR_WORKER__GRACE_S", "600");
    let mut up = Up::start(&world);
    world.submit_hold("held");
    let job = world.holds().next();
    up.process.signal(Signal::SIGTERM).expect("sent");
    let log = world.path("state/logs/worker-1.log");
    until("the worker drains", || fs::read_to_string(&log).is_ok_and(|log| log.contains("worker drains")));
    up.process.signal(Signal::SIGTERM).expect("sent");
    assert_eq!(up.process.wait(LIMIT).expect("an end").code(), Some(130), "{}", up.process.stderr());
    job.gone();
    until("its daemons end", || up.alive().is_empty());
}

#[test]
fn a_database_that_is_held_is_said_with_its_holder() {
    let world = World::new();
    let aggregator = world.aggregator();
    let db = world.path("state/augur.duckdb").display().to_string();
    let second = world.augur(&["aggregator", "start", "--db", &db, "--listen", "127.0.0.1:0"]);
    assert_eq!(second.code, Some(2), "{second:?}");
    assert!(second.stderr.contains(&db), "{second:?}");
    assert!(second.stderr.contains(&aggregator.pid().to_string()), "{second:?}");
    // The first goes on.
    let _worker = world.worker("w1", &[]);
    let run = world.submit("tests:\n  - {name: nothing, profile: noop}");
    assert_counts(&world.complete(&run), 1, [1, 0, 0, 0]);
}
