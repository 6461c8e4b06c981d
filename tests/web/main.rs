//! Web jobs in real browsers, from a suite to the database and back out.
//!
//! The browsers and their drivers must be installed (`make setup`): a missing one is a failure, not a skipped test.

#[path = "../support/mod.rs"]
mod support;

mod commands;
mod killed;
mod measured;
mod missing;
mod soak;

use nix::sys::signal::Signal;
use serde_json::Value;
use testkit::AugurProcess;

use crate::support::{LIMIT, World};

/// Two browsers, two platforms; the last case may run in any browser, on whichever of two platforms it gives.
const SUITE: &str = "web:
  - {models: [tiny], platforms: [wasm, webgpu], browsers: [chromium, firefox], sequence_lengths: [8],
     warmup_iterations: 1, iterations_min: 3, iterations_max: 3, timeout_s: 120}
  - {models: [tiny], platforms: [webgpu], fallback_platforms: [wasm], sequence_lengths: [4],
     warmup_iterations: 1, iterations_min: 3, iterations_max: 3, timeout_s: 120}";
const CASES: u64 = 5;

/// Where this machine keeps ONNX Runtime Web.
fn ort_web_directory() -> String {
    std::env::var("AUGUR_ORT_WEB_DIRECTORY")
        .unwrap_or_else(|_| support::machine_cache().join("lib/ort-web").display().to_string())
}

/// A world in which browsers and a tiny model are found.
fn world_with_model() -> World {
    let world = World::new();
    let machine = support::machine_cache();
    std::os::unix::fs::symlink(machine.join("tools"), world.cache().join("tools")).expect("linked");
    world.set("AUGUR_ORT_WEB_DIRECTORY", &ort_web_directory());
    let file = world.path("tiny.onnx").display().to_string();
    world.augur(&["model", "build", "bert", "--miniature", "--output", &file]).expect(0);
    world.augur(&["model", "register", "tiny", &file]).expect(0);
    world
}

/// A browser worker that ends with its browsers, which outlive one that is killed.
struct BrowserWorker {
    process: AugurProcess,
    is_over: bool,
}

impl BrowserWorker {
    fn start(world: &World) -> Self {
        let process = world.spawn("browsers", &["browsers", "start", "--name", "b1"]);
        let mut worker = Self { process, is_over: false };
        worker.process.wait_for_line("worker ready", LIMIT).expect("ready");
        worker
    }

    /// Asks for an orderly end and at once for a sudden one; gives the exit code.
    fn end_at_once(mut self) -> Option<i32> {
        self.process.signal(Signal::SIGTERM).expect("it runs");
        // Two signals that are not taken yet are one.
        self.process.wait_for_line("signal received", LIMIT).expect("it heard the first");
        self.process.signal(Signal::SIGTERM).expect("it runs");
        let status = self.process.wait(LIMIT).expect("it ends");
        self.is_over = true;
        status.code()
    }
}

impl Drop for BrowserWorker {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let ended = self.process.signal(Signal::SIGTERM).and_then(|()| self.process.wait(LIMIT));
        match ended {
            Ok(status) if status.success() => {}
            _ if std::thread::panicking() => {}
            other => panic!("{other:?}: {}", self.process.stderr()),
        }
    }
}

/// The same with its browser worker, once that is ready.
fn world_with_browsers() -> (World, AugurProcess, BrowserWorker) {
    let world = world_with_model();
    let aggregator = world.aggregator();
    let browsers = BrowserWorker::start(&world);
    (world, aggregator, browsers)
}

/// The pool's status.
fn status(world: &World) -> Value {
    world.augur(&["browsers", "status", "--format", "json"]).json()
}
