//! What the kernel says of a process: CPU, memory, files, and the kernel memory of its maps and probes.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use nix::unistd::{SysconfVar, sysconf};

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident, pages of its binary included.
    pub resident: u64,
    /// The part of it that is the process's own.
    pub anonymous: u64,
    /// Kernel memory of the maps that it holds open.
    pub maps: u64,
    /// Kernel memory of the programs that it holds open.
    pub programs: u64,
}

impl Memory {
    /// Of a running process.
    pub fn of(pid: u32) -> io::Result<Self> {
        let kernel = kernel_memory(&directory(pid).join("fdinfo"))?;
        Ok(Self {
            resident: kib(pid, "VmRSS:")? * 1024,
            anonymous: kib(pid, "RssAnon:")? * 1024,
            maps: kernel.0,
            programs: kernel.1,
        })
    }

    /// What counts as the agent's: its own and its maps'.
    pub fn total(&self) -> u64 {
        self.resident + self.maps
    }
}

/// CPU time of all threads of a process, those that ended included, in seconds.
pub fn cpu_seconds(pid: u32) -> io::Result<f64> {
    let stat = read(&directory(pid).join("stat"))?;
    // The command in parentheses may hold spaces; utime and stime are the 14th and 15th field of the line.
    let after = stat.rfind(')').map_or("", |at| &stat[at + 1..]);
    let ticks: Vec<u64> = after.split_whitespace().skip(11).take(2).flat_map(str::parse).collect();
    let a_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    match ticks[..] {
        [user, system] => Ok((user + system) as f64 / a_second as f64),
        _ => Err(bad("stat", &stat)),
    }
}

/// Time that the only thread of a process was on a processor, in seconds: finer than [`cpu_seconds`].
pub fn seconds_run(pid: u32) -> io::Result<f64> {
    let text = read(&directory(pid).join("schedstat"))?;
    let nanoseconds = text.split(' ').next().and_then(|field| field.parse::<u64>().ok());
    nanoseconds.map(|nanoseconds| nanoseconds as f64 / 1e9).ok_or_else(|| bad("schedstat", &text))
}

/// Has [`most_resident`] begin anew.
pub fn forget_most_resident(pid: u32) -> io::Result<()> {
    // The kernel's number for this.
    fs::write(directory(pid).join("clear_refs"), "5")
}

/// The most memory that was resident at any moment, in bytes.
pub fn most_resident(pid: u32) -> io::Result<u64> {
    Ok(kib(pid, "VmHWM:")? * 1024)
}

/// Read system calls of a process so far.
pub fn reads(pid: i32) -> io::Result<u64> {
    let text = read(&PathBuf::from(format!("/proc/{pid}/io")))?;
    let line = text.lines().find_map(|line| line.strip_prefix("syscr:"));
    line.and_then(|count| count.trim().parse().ok()).ok_or_else(|| bad("io", &text))
}

/// Threads of a process.
pub fn threads(pid: u32) -> io::Result<u64> {
    kib(pid, "Threads:")
}

/// Open files of a process.
pub fn descriptors(pid: u32) -> io::Result<u64> {
    Ok(fs::read_dir(directory(pid).join("fd"))?.count() as u64)
}

fn directory(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}"))
}

fn read(path: &Path) -> io::Result<String> {
    fs::read_to_string(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

fn kib(pid: u32, field: &str) -> io::Result<u64> {
    let text = read(&directory(pid).join("status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).ok_or_else(|| bad("status", field))
}

fn bad(file: &str, text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{file} of a process cannot be read: {text}"))
}

/// Memory of maps and of programs. A map that is open twice is counted once.
fn kernel_memory(fdinfo: &Path) -> io::Result<(u64, u64)> {
    let (mut maps, mut programs) = (BTreeMap::new(), BTreeMap::new());
    for entry in fs::read_dir(fdinfo)?.flatten() {
        // One that was closed meanwhile holds nothing.
        let Ok(text) = fs::read_to_string(entry.path()) else { continue };
        let field = |name: &str| -> Option<u64> {
            text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
        };
        let memory = field("memlock:").unwrap_or(0);
        if let Some(id) = field("map_id:") {
            maps.insert(id, memory);
        } else if let Some(id) = field("prog_id:") {
            programs.insert(id, memory);
        }
    }
    Ok((maps.values().sum(), programs.values().sum()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_that_is_open_twice_is_counted_once() {
        let directory = tempfile::tempdir().expect("a directory");
        for (name, text) in [
            ("3", "pos:\t0\nmap_type:\t1\nmemlock:\t4096\nmap_id:\t7\n"),
            ("4", "pos:\t0\nmap_type:\t1\nmemlock:\t4096\nmap_id:\t7\n"),
            ("5", "pos:\t0\nprog_type:\t5\nmemlock:\t8192\nprog_id:\t7\n"),
            ("6", "pos:\t0\nflags:\t02\n"),
        ] {
            fs::write(directory.path().join(name), text).expect("written");
        }
        assert_eq!(kernel_memory(directory.path()).expect("read"), (4096, 8192));
    }

    #[test]
    fn our_own_process_can_be_read() {
        let own = std::process::id();
        assert!(Memory::of(own).expect("memory").resident > 0);
        assert!(threads(own).expect("threads") > 0);
        assert!(descriptors(own).expect("files") > 0);
        assert!(cpu_seconds(own).expect("time") >= 0.0);
        assert!(seconds_run(own).expect("time") > 0.0);
        forget_most_resident(own).expect("forgotten");
        assert!(most_resident(own).expect("memory") > 0);
    }
}
