//! How much memory this process may use: the machine's, or its control group's where that is less; and how often
//! the kernel had to kill for want of it.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Lowest memory limit of this process's control group and of the groups above it, in bytes.
///
/// `None` without a limit or without control groups.
pub(crate) fn cgroup_limit_bytes() -> Option<u64> {
    texts("memory.max", "memory.limit_in_bytes")?.iter().filter_map(|text| limit_bytes(text)).min()
}

/// How many processes the kernel has killed for want of memory in this process's control group, or on the whole
/// machine where groups do not count.
///
/// If it rises while a child dies of SIGKILL, that is very likely why. `None` if the kernel does not tell.
pub fn oom_kill_count() -> Option<u64> {
    let of_group = texts("memory.events", "memory.oom_control")?.iter().find_map(|text| counter(text, "oom_kill"));
    of_group.or_else(|| counter(&fs::read_to_string("/proc/vmstat").ok()?, "oom_kill"))
}

/// The content of a file in every control group that bounds this process's memory, the innermost first.
fn texts(file_of_version_2: &str, file_of_version_1: &str) -> Option<Vec<String>> {
    let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
    let files = group_files(&membership, file_of_version_2, file_of_version_1);
    Some(files.iter().filter_map(|path| fs::read_to_string(path).ok()).collect())
}

/// Files of the memory groups of a process with the given `/proc/self/cgroup`.
///
/// A container often sees its own group at the mount's root while `/proc/self/cgroup` names the path outside, so
/// every level up to the root is tried.
fn group_files(membership: &str, file_of_version_2: &str, file_of_version_1: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in membership.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { continue };
        let (mount, file) = if controllers.is_empty() {
            ("/sys/fs/cgroup", file_of_version_2)
        } else if controllers.split(',').any(|controller| controller == "memory") {
            ("/sys/fs/cgroup/memory", file_of_version_1)
        } else {
            continue;
        };
        for level in Path::new(group.trim_start_matches('/')).ancestors() {
            files.push(Path::new(mount).join(level).join(file));
        }
    }
    files
}

/// The limit that a file states; version 2 writes `max` for none, version 1 a number near 2^63.
fn limit_bytes(text: &str) -> Option<u64> {
    const NO_LIMIT_FROM: u64 = 1 << 60;
    text.trim().parse().ok().filter(|bytes| (1..NO_LIMIT_FROM).contains(bytes))
}

/// The value of a line `name value`.
fn counter(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_looked_up_to_the_root() {
        let membership = "4:cpu,memory:/a/b\n1:cpuset:/\n0::/c\n";
        let files = group_files(membership, "memory.max", "memory.limit_in_bytes");
        let files: Vec<_> = files.iter().map(|path| path.to_string_lossy().into_owned()).collect();
        assert_eq!(
            files,
            [
                "/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "/sys/fs/cgroup/c/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
    }

    #[test]
    fn the_words_for_no_limit_are_none() {
        assert_eq!(limit_bytes("max\n"), None);
        assert_eq!(limit_bytes("9223372036854771712\n"), None);
        assert_eq!(limit_bytes("0\n"), None);
        assert_eq!(limit_bytes("536870912\n"), Some(536_870_912));
    }

    #[test]
    fn counters_are_found_by_their_whole_name() {
        assert_eq!(counter("low 0\noom_kill_disable 7\noom_kill 3\n", "oom_kill"), Some(3));
        assert_eq!(counter("oom 1\n", "oom_kill"), None);
        assert!(oom_kill_count().is_some());
    }
}
