//! Reads the process tree from /proc: the children of a postmaster and their titles.
//!
//! It sends no signals.

use std::time::{Duration, Instant};

/// A process and the title it gave itself.
#[derive(Debug, Clone)]
pub struct Process {
    /// The pid as seen from here.
    pub pid: i32,
    /// The command line with spaces for zeros, as "postgres: startup recovering 00000001...".
    pub title: String,
}

/// The direct children of `parent`; without those that end while we look.
pub fn children(parent: i32) -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| parent_of(*pid) == Some(parent))
        .map(|pid| Process { pid, title: title(pid) })
        .collect()
}

/// The child of `parent` whose title names `role`, as "startup" or "walreceiver".
pub fn child_with_role(parent: i32, role: &str) -> Option<i32> {
    children(parent).into_iter().find(|child| has_role(&child.title, role)).map(|child| child.pid)
}

/// With `cluster_name` set the title is "postgres: NAME: startup ...".
fn has_role(title: &str, role: &str) -> bool {
    title.starts_with("postgres: ")
        && title.split(": ").skip(1).any(|part| part.split(' ').next() == Some(role))
}

fn title(pid: i32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ").trim_end().to_owned()
}

fn parent_of(pid: i32) -> Option<i32> {
    parse_parent(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The command in parentheses may itself hold spaces and parentheses.
fn parse_parent(stat: &str) -> Option<i32> {
    stat[stat.rfind(')')? + 1..].split_whitespace().nth(1)?.parse().ok()
}

/// Waits until none of `pids` exists, zombies counted as gone. False when the deadline passed.
pub(crate) fn wait_gone(pids: &[i32], deadline: Duration) -> bool {
    let end = Instant::now() + deadline;
    while pids.iter().any(|pid| alive(*pid)) {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

fn alive(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rfind(')').is_some_and(|at| !stat[at + 1..].trim_start().starts_with('Z')))
}

#[cfg(test)]
mod tests {
    use super::{has_role, parse_parent};

    #[test]
    fn a_role_is_found_with_and_without_a_cluster_name() {
        assert!(has_role("postgres: startup recovering 000000010000000000000003", "startup"));
        assert!(has_role("postgres: standby: walreceiver streaming 0/5000000", "walreceiver"));
        assert!(!has_role("postgres: postgres postgres 127.0.0.1(5) idle", "startup"));
        assert!(!has_role("/usr/bin/startup", "startup"));
    }

    #[test]
    fn a_command_with_parentheses_does_not_shift_the_parent() {
        assert_eq!(parse_parent("12 (a) b (c)) S 7 12 12 0"), Some(7));
    }
}
