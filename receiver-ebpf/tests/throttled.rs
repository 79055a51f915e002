//! Time that a CPU cgroup's bandwidth takes from a critical thread is told from waiting for a processor. On a real
//! kernel, with a cgroup of the test's own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking and says on stderr what it skips"
)]

mod support;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use blameio_receiver_ebpf::{Limits, Snapshot, ThreadState};
use support::{Player, cases, load_or_skip};

/// The child's side of the test below.
#[test]
fn play() {
    cases::play();
}

/// A CPU cgroup that may use 20 ms of every 100. Removed when dropped, after its processes.
struct Cgroup {
    path: PathBuf,
    /// Of version 1: nanoseconds in its statistics. Of version 2: microseconds.
    first_version: bool,
}

impl Cgroup {
    fn new() -> Result<Self, String> {
        let name = format!("blameio-test-{}", std::process::id());
        for root in ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"] {
            if PathBuf::from(root).join("cpu.cfs_quota_us").exists()
                || PathBuf::from(root).join("cpu.shares").exists()
            {
                let cgroup = Self { path: PathBuf::from(root).join(&name), first_version: true };
                return cgroup.made("cpu.cfs_quota_us", "20000");
            }
        }
        let root = PathBuf::from("/sys/fs/cgroup");
        let controllers = fs::read_to_string(root.join("cgroup.subtree_control")).unwrap_or_default();
        if !controllers.split_whitespace().any(|name| name == "cpu") {
            return Err("no hierarchy of cgroups has the cpu controller".to_owned());
        }
        let cgroup = Self { path: root.join(name), first_version: false };
        cgroup.made("cpu.max", "20000 100000")
    }

    fn made(self, file: &str, quota: &str) -> Result<Self, String> {
        fs::create_dir(&self.path).map_err(|error| format!("{}: {error}", self.path.display()))?;
        let written = fs::write(self.path.join(file), quota);
        written.map_err(|error| format!("{file} (CONFIG_CFS_BANDWIDTH): {error}"))?;
        Ok(self)
    }

    fn add(&self, process: u32) {
        fs::write(self.path.join("cgroup.procs"), process.to_string()).unwrap();
    }

    fn throttled_ns(&self) -> u64 {
        let text = fs::read_to_string(self.path.join("cpu.stat")).unwrap();
        let (name, factor) =
            if self.first_version { ("throttled_time ", 1) } else { ("throttled_usec ", 1000) };
        let number = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        number.parse::<u64>().unwrap() * factor
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Processes that were killed leave a little later.
        let end = Instant::now() + Duration::from_secs(5);
        while fs::remove_dir(&self.path).is_err() && self.path.exists() && Instant::now() < end {
            std::thread::yield_now();
        }
    }
}

fn in_state(snapshot: &Snapshot, tid: u32, state: ThreadState) -> u64 {
    snapshot.threads.iter().filter(|row| row.tid == tid && row.state == state).map(|row| row.ns).sum()
}

#[test]
fn what_the_bandwidth_of_a_cgroup_takes_is_throttled() {
    let test = "what_the_bandwidth_of_a_cgroup_takes_is_throttled";
    let Some(mut probes) = load_or_skip(test, &Limits::default()) else { return };
    let directory = tempfile::tempdir().unwrap();
    let cgroup = match Cgroup::new() {
        Ok(cgroup) => cgroup,
        Err(error) => {
            eprintln!("SKIPPED {test}: {error}");
            return;
        }
    };
    let (mut player, tid) = Player::start("spin", directory.path());
    cgroup.add(player.tgid());
    probes.watch_process(player.tgid(), 71, 3).unwrap();
    probes.watch_thread(tid).unwrap();
    let before = probes.snapshot().unwrap();
    let already = cgroup.throttled_ns();
    player.go();
    let after = probes.snapshot().unwrap();
    let theirs = cgroup.throttled_ns() - already;
    let spent = |state| in_state(&after, tid, state) - in_state(&before, tid, state);
    let ours = spent(ThreadState::Throttled);
    let all: Vec<_> = ThreadState::ALL.into_iter().map(|state| (state, spent(state))).collect();
    assert!(theirs > 100_000_000, "the cgroup throttled {theirs} ns only, of {all:?}");
    assert!(ours.abs_diff(theirs) <= theirs / 10, "{ours} ns, the cgroup says {theirs} ns, of {all:?}");
    let window = after.monotonic_ns - before.monotonic_ns;
    assert_eq!(all.iter().map(|(_, ns)| ns).sum::<u64>(), window, "{all:?}");

    // Without a limit there is none.
    fs::write(cgroup.path.join(if cgroup.first_version { "cpu.cfs_quota_us" } else { "cpu.max" }), "-1")
        .or_else(|_| fs::write(cgroup.path.join("cpu.max"), "max"))
        .unwrap();
    let before = probes.snapshot().unwrap();
    player.tell("again");
    player.wait_for("done");
    let after = probes.snapshot().unwrap();
    assert_eq!(in_state(&after, tid, ThreadState::Throttled), in_state(&before, tid, ThreadState::Throttled));
    assert!(in_state(&after, tid, ThreadState::Cpu) > in_state(&before, tid, ThreadState::Cpu));
    drop(player);
}
