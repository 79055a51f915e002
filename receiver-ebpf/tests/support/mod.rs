//! What the tests on a real kernel share: loading or skipping, and children that do as they are told and never outlive
//! the test. Checks nothing itself.
#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod calls;
pub(crate) mod cases;
pub(crate) mod mounts;
pub(crate) mod paged;
pub(crate) mod rings;
pub(crate) mod roads;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use blameio_receiver_ebpf::{IoRow, Limits, Operation, ProbeError, Probes, Snapshot};

/// Long enough for a loaded machine; a test that waits so long has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
/// Set in children: which case to run, and on which directory.
pub(crate) const CASE: &str = "BLAMEIO_TEST_CASE";
pub(crate) const DIRECTORY: &str = "BLAMEIO_TEST_DIRECTORY";

/// The probes, or `None` and a line that says why the test proves nothing here.
pub(crate) fn load_or_skip(test: &str, limits: &Limits) -> Option<Probes> {
    match Probes::load(limits) {
        Ok(probes) => Some(probes),
        Err(
            error @ (ProbeError::NotPrivileged { .. }
            | ProbeError::NoBtf { .. }
            | ProbeError::PidNamespace { .. }),
        ) => {
            eprintln!("SKIPPED {test}: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// By the kernel's release.
pub(crate) fn kernel_is_before(version: (u32, u32)) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|part| part.trim().parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap(), numbers.next().unwrap()) < version
}

/// Whether this runs in `scripts/kernels`, where clocks, context switches and the probes themselves are many times
/// slower, and not all alike.
fn is_emulated() -> bool {
    std::fs::read_to_string("/proc/cpuinfo").unwrap().contains("QEMU TCG")
}

/// Whether what takes time takes as long as on a real processor; says so if not.
pub(crate) fn times_are_real(test: &str) -> bool {
    let emulated = is_emulated();
    if emulated {
        eprintln!("SKIPPED {test}: times: the processor is emulated");
    }
    !emulated
}

/// A run of this test binary that plays one case. Killed when dropped.
pub(crate) struct Player {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Player {
    /// Starts it and waits until it is about to begin. Returns the number of the thread that will play.
    pub(crate) fn start(case: &str, directory: &Path) -> (Self, u32) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "play", "--nocapture", "--test-threads=1"])
            .env(CASE, case)
            .env(DIRECTORY, directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut player = Self { child, input, output };
        let tid = player.wait_for("ready").parse().unwrap();
        (player, tid)
    }

    pub(crate) fn tgid(&self) -> u32 {
        self.child.id()
    }

    /// Tells it one word.
    pub(crate) fn tell(&mut self, word: &str) {
        writeln!(self.input, "{word}").unwrap();
    }

    /// Waits for a line "CASE word rest" and returns the rest. A child that dies ends the wait.
    pub(crate) fn wait_for(&mut self, word: &str) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "the child ended before {word}");
            // The test harness writes its own words before ours, on the same line.
            let Some((_, said)) = line.trim_end().split_once("CASE ") else { continue };
            if let Some(rest) = said.strip_prefix(word) {
                return rest.trim().to_owned();
            }
        }
    }

    pub(crate) fn go(&mut self) -> String {
        self.tell("go");
        self.wait_for("done")
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Repeats until it gives something.
pub(crate) fn until<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(Instant::now() < end, "{what} did not come");
        std::thread::yield_now();
    }
}

/// Operations, bytes and errors of one kind, over rows.
pub(crate) fn sum<'a>(rows: impl Iterator<Item = &'a IoRow>, operation: Operation) -> (u64, u64, u64) {
    rows.filter(|row| row.operation == operation)
        .fold((0, 0, 0), |sum, row| (sum.0 + row.operations, sum.1 + row.bytes, sum.2 + row.errors))
}

/// Rows of one server.
pub(crate) fn of_server(snapshot: &Snapshot, server: u16) -> impl Iterator<Item = &IoRow> + Clone {
    snapshot.io.iter().filter(move |row| row.server == server)
}

/// Rows of one file, whatever its generation.
pub(crate) fn of_file<'a>(snapshot: &'a Snapshot, path: &Path) -> impl Iterator<Item = &'a IoRow> + Clone {
    let inode = std::fs::metadata(path).unwrap().ino();
    snapshot.io.iter().filter(move |row| row.file.is_some_and(|file| file.inode == inode))
}

pub(crate) fn lost(snapshot: &Snapshot, reason: &str) -> u64 {
    snapshot.lost.iter().find(|(name, _)| *name == reason).map(|(_, count)| *count).unwrap()
}

/// That nothing of the watched was lost. What everyone else loses says nothing of them, and the machine is busy. Where the
/// probes are slow they are interrupted, and what comes meanwhile is skipped; whether that was one of ours the counts tell.
pub(crate) fn assert_kept(snapshot: &Snapshot, what: &str) {
    let mut allowed = vec!["flights map full", "bio not seen to end", "others map full"];
    if is_emulated() {
        allowed.push("probe skipped");
    }
    let mut lost = snapshot.lost.iter().filter(|(reason, _)| !allowed.contains(reason));
    assert!(lost.all(|(_, count)| *count == 0), "{what}: {:?}", snapshot.lost);
}
