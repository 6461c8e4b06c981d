//! Processes of browsers: found, measured and ended as a whole tree, even when their driver is dead.
//!
//! A driver is started with a variable in its environment, the mark, and with a process group of its own. Helpers of
//! browsers leave the group (crash handlers), are adopted by init, or overwrite their environment (everything that a
//! zygote forks), but none does all three; so a tree is whoever has the mark, is in a group with a member, or is the
//! child of one.

use std::{
    collections::BTreeSet,
    fmt, fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// The variable that marks a driver and what it starts.
pub(crate) const MARK_VARIABLE: &str = "AUGUR_BROWSER_POOL";

/// Longest wait for killed processes to be gone: the kernel needs milliseconds.
const END_MAX: Duration = Duration::from_secs(2);

/// Time between two looks at who is left.
const END_POLL: Duration = Duration::from_millis(10);

/// Bytes in a megabyte, as messages count them.
const MB: f64 = 1e6;

/// What the environment of a tree's first process says: the pool and, within it, the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark(String);

impl Mark {
    /// Everything of a pool.
    pub(crate) fn of_pool(pool: &str) -> Self {
        Self(format!("{pool}/"))
    }

    /// One session of it.
    pub(crate) fn of_session(pool: &str, session: u64) -> Self {
        Self(format!("{pool}/{session}/"))
    }

    fn is_in(&self, environment: &[u8]) -> bool {
        environment.split(|byte| *byte == 0).any(|variable| {
            variable
                .strip_prefix(MARK_VARIABLE.as_bytes())
                .and_then(|rest| rest.strip_prefix(b"="))
                .is_some_and(|value| value.starts_with(self.0.as_bytes()))
        })
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A tree of processes.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    mark: Mark,
    /// Groups that were started for it, which are known even when nobody with the mark is left.
    groups: Vec<Group>,
}

/// A process group by its leader. The number alone would not do: once the group is empty, others may get it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Group {
    number: i32,
    /// When the leader started, in clock ticks since boot; `None` if it had ended before anyone looked.
    leader_started: Option<u64>,
}

/// One line of the process table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    pid: i32,
    parent: i32,
    group: i32,
    /// Clock ticks since boot.
    started: u64,
}

impl Tree {
    pub(crate) fn new(mark: Mark) -> Self {
        Self { mark, groups: Vec::new() }
    }

    pub(crate) fn mark(&self) -> &Mark {
        &self.mark
    }

    /// Adds a process group that was started for this tree.
    pub(crate) fn add_group(&mut self, number: i32) {
        self.groups.push(Group { number, leader_started: read_process(number).map(|leader| leader.started) });
    }

    /// Who lives in it now; processes that have ended and wait to be collected are no members.
    pub(crate) fn pids(&self) -> Vec<i32> {
        let table = process_table();
        let marked = table.iter().filter(|process| {
            self.groups.iter().any(|group| group.has(process, &table))
                || fs::read(format!("/proc/{}/environ", process.pid)).is_ok_and(|bytes| self.mark.is_in(&bytes))
        });
        let seeds: BTreeSet<i32> = marked.map(|process| process.pid).collect();
        closure(&table, seeds, Pid::this().as_raw())
    }

    /// Memory of all of them, in MB (10^6 bytes): what they share is counted once. `None` if nobody is left.
    pub(crate) fn pss_mb(&self) -> Option<f64> {
        let sizes: Vec<f64> = self.pids().into_iter().filter_map(pss_bytes).collect();
        (!sizes.is_empty()).then(|| sizes.iter().sum::<f64>() / MB)
    }

    /// Kills all of them and waits until they are gone; says how many there were. Blocks the thread.
    pub(crate) fn end(&self) -> usize {
        let began = Instant::now();
        let mut ended = BTreeSet::new();
        loop {
            let pids = self.pids();
            if pids.is_empty() {
                return ended.len();
            }
            for pid in pids {
                ended.insert(pid);
                match kill(Pid::from_raw(pid), Signal::SIGKILL) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(error) => tracing::warn!(pid, %error, "cannot kill a process of a browser"),
                }
            }
            if began.elapsed() >= END_MAX {
                tracing::warn!(mark = %self.mark, "processes of a browser do not end");
                return ended.len();
            }
            thread::sleep(END_POLL);
        }
    }
}

impl Group {
    /// Whether a process is in it, and it is still the group that we know: whoever has its number leads it.
    fn has(&self, process: &Process, table: &[Process]) -> bool {
        let leader = table.iter().find(|other| other.pid == self.number);
        process.group == self.number && leader.is_none_or(|leader| Some(leader.started) == self.leader_started)
    }
}

/// Whether a process is there and has not ended.
pub(crate) fn is_alive(pid: i32) -> bool {
    read_process(pid).is_some()
}

/// Everyone who belongs to `seeds`, except ourselves.
fn closure(table: &[Process], mut members: BTreeSet<i32>, ourselves: i32) -> Vec<i32> {
    let our_group = table.iter().find(|process| process.pid == ourselves).map(|process| process.group);
    members.remove(&ourselves);
    loop {
        let groups: BTreeSet<i32> = table
            .iter()
            .filter(|process| members.contains(&process.pid) && Some(process.group) != our_group)
            .map(|process| process.group)
            .collect();
        let before = members.len();
        for process in table {
            let belongs = members.contains(&process.parent) || groups.contains(&process.group);
            if belongs && process.pid != ourselves {
                members.insert(process.pid);
            }
        }
        if members.len() == before {
            return members.into_iter().collect();
        }
    }
}

fn process_table() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(read_process).collect()
}

/// `None` if it has ended, collected or not.
fn read_process(pid: i32) -> Option<Process> {
    parse_stat(&fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?)
}

/// Source: `proc_pid_stat(5)`. The name, in brackets, may hold anything.
fn parse_stat(line: &str) -> Option<Process> {
    let pid = line.split(' ').next()?.parse().ok()?;
    let (_, rest) = line.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    // Field 22; the group was field 5.
    let started = fields.nth(16)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(Process { pid, parent, group, started })
}

fn pss_bytes(pid: i32) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::CommandExt, process::Command};

    use super::*;

    fn process(pid: i32, parent: i32, group: i32) -> Process {
        Process { pid, parent, group, started: 0 }
    }

    fn check(table: &[Process], seeds: &[i32], expected: &[i32]) {
        assert_eq!(closure(table, seeds.iter().copied().collect(), 10), expected);
    }

    #[test]
    fn a_tree_is_closed_over_children_and_groups_but_spares_us() {
        // 10 is us; 20 a driver, 21 its browser, 22 a child of it, 23 an orphan of the group, 30 someone else.
        let table = [
            process(10, 1, 10),
            process(20, 10, 20),
            process(21, 20, 20),
            process(22, 21, 22),
            process(23, 1, 20),
            process(30, 1, 30),
        ];
        check(&table, &[20], &[20, 21, 22, 23]);
        check(&table, &[], &[]);
        check(&table, &[30], &[30]);
        // A marked process that did not leave our group takes nobody else of it along.
        let in_our_group = [process(10, 1, 10), process(11, 10, 10), process(12, 10, 10), process(13, 11, 10)];
        check(&in_our_group, &[11], &[11, 13]);
    }

    #[test]
    fn stat_lines_with_odd_names_are_read() {
        let rest = "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 99 0";
        let expected = Process { started: 99, ..process(7, 3, 5) };
        assert_eq!(parse_stat(&format!("7 (a) b) S 3 5 {rest}")), Some(expected));
        assert_eq!(parse_stat(&format!("7 (gone) Z 3 5 {rest}")), None);
        assert_eq!(parse_stat("nonsense"), None);
    }

    #[test]
    fn a_group_whose_number_went_to_others_is_nobody_of_ours() {
        let group = Group { number: 20, leader_started: Some(5) };
        let table = |started| [Process { started, ..process(20, 1, 20) }, process(21, 20, 20)];
        assert!(group.has(&process(21, 20, 20), &table(5)));
        assert!(!group.has(&process(21, 20, 20), &table(6)), "another leader");
        assert!(group.has(&process(21, 1, 20), &table(5)[1..]), "the leader is dead, its group is not");
        assert!(!group.has(&process(30, 1, 30), &table(5)));
    }

    #[test]
    fn a_mark_is_of_one_session_or_of_the_pool() {
        let environment = format!("A=1\0{MARK_VARIABLE}=pool/12/\0B=2").into_bytes();
        assert!(Mark::of_pool("pool").is_in(&environment));
        assert!(Mark::of_session("pool", 12).is_in(&environment));
        assert!(!Mark::of_session("pool", 1).is_in(&environment), "1 is not 12");
        assert!(!Mark::of_pool("poo").is_in(&environment));
    }

    #[test]
    fn a_tree_ends_with_its_grandchildren() {
        let pool = uuid::Uuid::now_v7().to_string();
        let tree = Tree::new(Mark::of_session(&pool, 1));
        let mut child = Command::new("sh")
            .args(["-c", "sleep 600 & setsid sleep 600 & wait"])
            .env(MARK_VARIABLE, tree.mark().to_string())
            .process_group(0)
            .spawn()
            .expect("a shell");
        while tree.pids().len() < 3 {
            thread::sleep(END_POLL);
        }
        assert!(tree.pss_mb().is_some_and(|mb| mb > 0.0));
        assert_eq!(tree.end(), 3);
        assert_eq!(tree.pids(), [0; 0]);
        assert_eq!(tree.pss_mb(), None);
        child.wait().expect("it was ours");
    }
}
