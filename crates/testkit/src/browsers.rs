//! The processes of a browser pool, as the system shows them and not as the pool counts them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Everyone who was ever seen to belong to a pool: helpers of browsers lose the mark, and their parents, as those die.
#[derive(Debug)]
pub struct BrowserProcesses {
    mark: String,
    seen: BTreeSet<Process>,
}

/// A process; the number alone may be another's later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Process {
    pid: i32,
    /// Clock ticks since boot.
    started: u64,
}

impl BrowserProcesses {
    /// Worth killing, by a part of the command line: pages, GPU process, driver and browser of either family.
    pub const VICTIMS: [&str; 7] = [
        "--type=renderer",
        "--type=gpu-process",
        "chromedriver --port",
        "--user-data-dir",
        "-isForBrowser",
        "geckodriver --port",
        "--marionette",
    ];

    /// Those of the pool, running or ended, with this state directory.
    ///
    /// # Errors
    ///
    /// If no pool was ever there.
    pub fn of_pool(state_directory: &Path) -> io::Result<Self> {
        let pool = fs::read_to_string(state_directory.join("pool.id"))?;
        Ok(Self { mark: format!("AUGUR_BROWSER_POOL={}/", pool.trim()), seen: BTreeSet::new() })
    }

    /// Who lives and belongs to the pool: by the mark in its environment, by its parent, or by what was seen before.
    pub fn alive(&mut self) -> BTreeSet<i32> {
        let table = table();
        let is_marked = |process: &Process| {
            let environment = fs::read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable.starts_with(self.mark.as_bytes()))
        };
        let known = table.keys().filter(|process| self.seen.contains(process) || is_marked(process));
        let mut found: BTreeSet<Process> = known.copied().collect();
        loop {
            let pids: BTreeSet<i32> = found.iter().map(|process| process.pid).collect();
            let children = table.iter().filter(|(process, parent)| pids.contains(parent) && !found.contains(process));
            let children: Vec<Process> = children.map(|(process, _)| *process).collect();
            if children.is_empty() {
                self.seen.extend(&found);
                return pids;
            }
            found.extend(children);
        }
    }

    /// Those of them whose command line holds `part`.
    pub fn with(&mut self, part: &str) -> Vec<i32> {
        let has_part = |pid: &i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).replace('\0', " ").contains(part)
        };
        self.alive().into_iter().filter(has_part).collect()
    }

    /// Kills those whose command line holds `part`; says how many there were.
    ///
    /// # Panics
    ///
    /// If one of them may not be killed.
    pub fn kill(&mut self, part: &str) -> usize {
        let victims = self.with(part);
        for pid in &victims {
            let sent = kill(Pid::from_raw(*pid), Signal::SIGKILL);
            assert!(matches!(sent, Ok(()) | Err(Errno::ESRCH)), "cannot kill {pid}: {sent:?}");
        }
        victims.len()
    }
}

/// Everyone who lives, with the process id of the parent.
fn table() -> BTreeMap<Process, i32> {
    let entries = fs::read_dir("/proc").expect("Linux");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let living = pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in brackets, may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let &[state, parent, ..] = &fields[..] else { return None };
        // Field 22 of the line, of which two are cut off.
        let process = Process { pid, started: fields.get(19)?.parse().ok()? };
        (!matches!(state, "Z" | "X")).then_some((process, parent.parse().ok()?))
    });
    living.collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn processes_are_known_by_mark_parent_and_memory() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let pool = format!("testkit-{}", std::process::id());
        fs::write(directory.path().join("pool.id"), format!("{pool}\n")).expect("written");
        let mut processes = BrowserProcesses::of_pool(directory.path()).expect("a pool was here");
        let mut shell = Command::new("sh")
            .args(["-c", "env -u AUGUR_BROWSER_POOL sleep 600 & wait"])
            .env("AUGUR_BROWSER_POOL", format!("{pool}/1/"))
            .spawn()
            .expect("a shell");
        while processes.alive().len() < 2 {
            std::thread::yield_now();
        }
        shell.kill().expect("it is ours");
        shell.wait().expect("it is ours");
        let orphan = processes.alive();
        assert_eq!(orphan.len(), 1, "it has neither mark nor parent any more");
        assert_eq!(processes.kill("sleep 600"), 1);
        while !processes.alive().is_empty() {
            std::thread::yield_now();
        }
    }
}
