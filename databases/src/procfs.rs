//! The few things that are read of other processes in /proc. Whatever cannot be read is `None`: processes
//! come and go, and not all of them may be looked at.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::MetadataExt,
    path::PathBuf,
};

/// Most bytes that are read of a title; a command line may be megabytes long.
const TITLE: u64 = 4096;

/// What `/proc/PID/stat` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// Command name.
    pub(crate) comm: String,
    /// Parent process.
    pub(crate) parent: u32,
    /// Start time in clock ticks since boot: with the pid, unlike that of any other process.
    pub(crate) started: u64,
}

/// All processes.
pub(crate) fn pids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// Name, parent and start time of a process.
pub(crate) fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The name stands in parentheses and may itself hold any character.
    let (before, after) = text.rsplit_once(')')?;
    let (_, comm) = before.split_once('(')?;
    let mut fields = after.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let started = fields.nth(17)?.parse().ok()?;
    Some(Stat { comm: comm.to_owned(), parent, started })
}

/// Start of a process, in seconds since the epoch.
pub(crate) fn started_at(pid: u32) -> Option<i64> {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten()?;
    let booted = fs::read_to_string("/proc/stat").ok()?;
    let booted: i64 = booted.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(booted + i64::try_from(stat(pid)?.started).ok()?.checked_div(ticks)?)
}

/// Children of a process. One file where the kernel keeps a list, all of /proc otherwise.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    if let Ok(list) = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")) {
        return list.split_ascii_whitespace().filter_map(|child| child.parse().ok()).collect();
    }
    pids().into_iter().filter(|child| stat(*child).is_some_and(|stat| stat.parent == pid)).collect()
}

/// Threads of a process.
pub(crate) fn threads(pid: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// Name of a thread.
pub(crate) fn thread_name(pid: u32, tid: u32) -> Option<String> {
    let name = fs::read(format!("/proc/{pid}/task/{tid}/comm")).ok()?;
    Some(String::from_utf8_lossy(&name).trim_end().to_owned())
}

/// Title of a process: its command line, up to the first end of a word.
pub(crate) fn title(pid: u32) -> Option<String> {
    let mut line = Vec::new();
    File::open(format!("/proc/{pid}/cmdline")).ok()?.take(TITLE).read_to_end(&mut line).ok()?;
    let end = line.iter().position(|byte| *byte == 0).unwrap_or(line.len());
    Some(String::from_utf8_lossy(&line[..end]).into_owned())
}

/// Arguments of a process, without its own name; at most the first few thousand bytes.
pub(crate) fn arguments(pid: u32) -> Vec<String> {
    let mut line = Vec::new();
    let Ok(file) = File::open(format!("/proc/{pid}/cmdline")) else { return Vec::new() };
    if file.take(TITLE).read_to_end(&mut line).is_err() {
        return Vec::new();
    }
    let arguments = line.split(|byte| *byte == 0).skip(1);
    arguments.map(|argument| String::from_utf8_lossy(argument).into_owned()).collect()
}

/// Process id as seen from inside the process's own pid namespace.
pub(crate) fn own_pid(pid: u32) -> Option<u32> {
    innermost(&format!("/proc/{pid}/status"))
}

/// Thread id as seen from inside the process's own pid namespace.
pub(crate) fn own_tid(pid: u32, tid: u32) -> Option<u32> {
    innermost(&format!("/proc/{pid}/task/{tid}/status"))
}

fn innermost(status: &str) -> Option<u32> {
    let status = fs::read_to_string(status).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_ascii_whitespace().next_back()?.parse().ok()
}

/// Effective user of a process.
pub(crate) fn user(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Path by which the agent reaches the process's working directory, whatever mounts the process sees.
pub(crate) fn working_directory(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/cwd"))
}

/// Device and inode of a directory.
pub(crate) fn identity(path: &std::path::Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Whether two processes share a namespace; `false` where that may not be looked at.
pub(crate) fn share_namespace(pid: u32, kind: &str) -> bool {
    let own = fs::read_link(format!("/proc/self/ns/{kind}"));
    let other = fs::read_link(format!("/proc/{pid}/ns/{kind}"));
    matches!((own, other), (Ok(own), Ok(other)) if own == other)
}

/// Whether a process has another namespace than the host's first process; `false` where that may not be looked at.
pub(crate) fn is_apart(pid: u32, kind: &str) -> bool {
    let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/{kind}"));
    // Who may not look at the first process compares with itself.
    let host = of("1").or_else(|_| of("self"));
    matches!((host, of(&pid.to_string())), (Ok(host), Ok(own)) if host != own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let text = "42 (a) b (c)) S 7 42 42 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 1 0 98765 1 2 3";
        let expected = Stat { comm: "a) b (c)".to_owned(), parent: 7, started: 98765 };
        assert_eq!(parse_stat(text), Some(expected));
        assert_eq!(parse_stat("42 (postgres"), None);
    }

    #[test]
    fn the_own_process_can_be_read() {
        let pid = std::process::id();
        let parent = stat(pid).unwrap().parent;
        assert!(children(parent).contains(&pid));
        assert!(title(pid).is_some_and(|title| !title.is_empty()));
        assert!(own_pid(pid).is_some());
        assert_eq!(user(pid), Some(nix::unistd::geteuid().as_raw()));
        assert!(share_namespace(pid, "net"));
    }
}
