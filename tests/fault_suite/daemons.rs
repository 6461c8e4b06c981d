//! The aggregator and the workers: started, killed, replaced.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use testkit::{AugurProcess, ProcessError};

use crate::{
    limits::{LOOK_AGAIN, READY_MAX},
    world::{World, binary, last_lines, terminate},
};

/// Variable that arms fail points (`pipeline::failpoint`).
const FAILPOINT: &str = "AUGUR_TEST_FAILPOINT";
/// What a daemon says before it dies at one.
const FAILPOINT_DEATH: &str = "fail point: aborting";

/// The aggregator, which may be down.
#[derive(Debug, Default)]
pub(crate) struct Aggregator {
    process: Option<AugurProcess>,
    starts: usize,
}

impl Aggregator {
    /// Starts it and waits until it reads; `failpoints` may be empty.
    ///
    /// # Errors
    ///
    /// If it does not become ready.
    pub(crate) fn start(&mut self, world: &World, failpoints: &str) -> Result<()> {
        self.start_through(world, failpoints, None)
    }

    /// The same through a shell, which may set limits for it first: `wrapper` ends with `exec "$@"`.
    ///
    /// # Errors
    ///
    /// If it does not become ready.
    pub(crate) fn start_through(&mut self, world: &World, failpoints: &str, wrapper: Option<&str>) -> Result<()> {
        let start = ["aggregator", "start", "--listen", world.listen()];
        let name = format!("aggregator-{}", self.starts);
        self.starts += 1;
        let environment = [(FAILPOINT, failpoints)];
        let mut process = match wrapper {
            None => world.spawn(&name, binary(), &start, &environment)?,
            Some(wrapper) => {
                let program = binary().to_str().context("the program's path is no text")?;
                let arguments: Vec<_> = ["-c", wrapper, "sh", program].into_iter().chain(start).collect();
                world.spawn(&name, "/bin/sh".as_ref(), &arguments, &environment)?
            }
        };
        process.wait_for_line("aggregator ready", READY_MAX).context("the aggregator did not start")?;
        self.process = Some(process);
        Ok(())
    }

    /// Its process id.
    ///
    /// # Errors
    ///
    /// If it is down.
    pub(crate) fn pid(&self) -> Result<u32> {
        Ok(self.process.as_ref().context("the aggregator is down")?.pid())
    }

    /// Waits until it says something.
    ///
    /// # Errors
    ///
    /// If it does not within [`READY_MAX`].
    pub(crate) fn wait_for_line(&mut self, pattern: &str) -> Result<()> {
        let process = self.process.as_mut().context("the aggregator is down")?;
        process.wait_for_line(pattern, READY_MAX)?;
        Ok(())
    }

    /// `kill -9`.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub(crate) fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
        }
        Ok(())
    }

    /// Waits until it has died at a fail point, at most `limit`; `false` if it lives on.
    ///
    /// # Errors
    ///
    /// If it is down, or ended otherwise.
    pub(crate) fn died_at_failpoint(&mut self, limit: Duration) -> Result<bool> {
        let process = self.process.as_mut().context("the aggregator is down")?;
        if !ended(process, limit)? {
            return Ok(false);
        }
        process.wait_for_line(FAILPOINT_DEATH, READY_MAX).context("the aggregator ended by itself")?;
        self.process = None;
        Ok(true)
    }

    /// SIGTERM; it must end in good order, so that its database can be read.
    ///
    /// # Errors
    ///
    /// If it does not.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.process.take().map_or(Ok(()), |mut process| terminate(&mut process).context("the aggregator"))
    }
}

/// How the workers of a row are started.
#[derive(Debug, Clone)]
pub(crate) struct FleetOptions {
    pub(crate) workers: usize,
    pub(crate) concurrency: usize,
    pub(crate) prefetch: usize,
    /// Fail points of every worker, may be empty.
    pub(crate) failpoints: String,
}

impl Default for FleetOptions {
    fn default() -> Self {
        Self { workers: 2, concurrency: 8, prefetch: 64, failpoints: String::new() }
    }
}

/// The workers.
#[derive(Debug)]
pub(crate) struct Fleet {
    options: FleetOptions,
    workers: Vec<AugurProcess>,
    starts: usize,
}

impl Fleet {
    /// Starts all and waits until they take jobs.
    ///
    /// # Errors
    ///
    /// If one does not become ready.
    pub(crate) fn start(world: &World, options: FleetOptions) -> Result<Self> {
        let mut fleet = Self { options, workers: Vec::new(), starts: 0 };
        // All at once, then all are waited for.
        for _ in 0..fleet.options.workers {
            let worker = fleet.spawn(world)?;
            fleet.workers.push(worker);
        }
        fleet.workers.iter_mut().try_for_each(ready)?;
        Ok(fleet)
    }

    /// Process ids.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.workers.iter().map(AugurProcess::pid).collect()
    }

    /// `kill -9` one of them, and starts another in its place.
    ///
    /// # Errors
    ///
    /// If the other does not become ready.
    pub(crate) fn kill_one(&mut self, world: &World, random: &mut fastrand::Rng) -> Result<()> {
        self.kill_at(world, random.usize(..self.workers.len()))
    }

    /// The same to the last.
    ///
    /// # Errors
    ///
    /// As [`Fleet::kill_one`].
    pub(crate) fn kill_last(&mut self, world: &World) -> Result<()> {
        self.kill_at(world, self.workers.len() - 1)
    }

    /// Starts another in the place of each that has died by itself; gives how many had.
    ///
    /// # Errors
    ///
    /// If one does not become ready.
    pub(crate) fn revive(&mut self, world: &World) -> Result<usize> {
        let mut died = 0;
        for at in 0..self.workers.len() {
            if ended(&mut self.workers[at], Duration::ZERO)? {
                died += 1;
                // It may die again at once, and is found dead next time.
                self.workers[at] = self.spawn(world)?;
            }
        }
        Ok(died)
    }

    /// Takes the fail points away: whoever starts from now on lives.
    pub(crate) fn disarm(&mut self) {
        self.options.failpoints.clear();
    }

    /// Kills all and starts as many.
    ///
    /// # Errors
    ///
    /// If one does not become ready.
    pub(crate) fn replace_all(&mut self, world: &World) -> Result<()> {
        (0..self.workers.len()).try_for_each(|at| self.kill_at(world, at))
    }

    /// Starts another, then tells one to drain, and waits for its end in good order.
    ///
    /// # Errors
    ///
    /// If the one does not drain or the other does not start.
    pub(crate) fn roll_one(&mut self, world: &World, random: &mut fastrand::Rng) -> Result<()> {
        self.roll_at(world, random.usize(..self.workers.len()))
    }

    /// The same with the last.
    ///
    /// # Errors
    ///
    /// As [`Fleet::roll_one`].
    pub(crate) fn roll_last(&mut self, world: &World) -> Result<()> {
        self.roll_at(world, self.workers.len() - 1)
    }

    fn roll_at(&mut self, world: &World, at: usize) -> Result<()> {
        let mut next = self.spawn(world)?;
        ready(&mut next)?;
        let mut old = std::mem::replace(&mut self.workers[at], next);
        terminate(&mut old).context("a worker told to drain")
    }

    /// SIGTERM for all, ends in good order.
    ///
    /// # Errors
    ///
    /// If one does not.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.workers.drain(..).try_for_each(|mut worker| terminate(&mut worker).context("a worker"))
    }

    fn kill_at(&mut self, world: &World, at: usize) -> Result<()> {
        self.workers[at].kill()?;
        let mut worker = self.spawn(world)?;
        ready(&mut worker)?;
        self.workers[at] = worker;
        Ok(())
    }

    fn spawn(&mut self, world: &World) -> Result<AugurProcess> {
        let name = format!("worker-{}", self.starts);
        self.starts += 1;
        let (concurrency, prefetch) = (self.options.concurrency.to_string(), self.options.prefetch.to_string());
        let arguments = ["worker", "start", "--name", &name, "--concurrency", &concurrency, "--prefetch", &prefetch];
        world.spawn(&name, binary(), &arguments, &[(FAILPOINT, &self.options.failpoints)])
    }
}

fn ready(worker: &mut AugurProcess) -> Result<()> {
    match worker.wait_for_line("worker ready", READY_MAX) {
        Ok(_) => Ok(()),
        // One that dies at a fail point may not even get that far.
        Err(ProcessError::NoLine { .. }) if worker.stderr().contains(FAILPOINT_DEATH) => Ok(()),
        Err(error) => bail!("a worker did not start: {error}\n{}", last_lines(&worker.stderr())),
    }
}

/// Whether a process ends within `limit`.
pub(crate) fn ended(process: &mut AugurProcess, limit: Duration) -> Result<bool> {
    match process.wait(limit.max(Duration::from_micros(1))) {
        Ok(_) => Ok(true),
        Err(ProcessError::StillRunning { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Looks again and again until `found`, at most `limit`.
///
/// # Errors
///
/// If that takes too long, or whatever `found` says.
pub(crate) fn wait_until(what: &str, limit: Duration, mut found: impl FnMut() -> Result<bool>) -> Result<()> {
    let started = std::time::Instant::now();
    while !found()? {
        if started.elapsed() > limit {
            bail!("{what}: not within {} s", limit.as_secs());
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(())
}
