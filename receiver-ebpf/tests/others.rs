//! Whoever is not watched is counted at the block layer, each byte once and under its own name. On a real kernel.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking and says on stderr what it skips"
)]

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use blameio_receiver_ebpf::{Limits, Other, OtherRow, Probes};
use support::{Player, cases, load_or_skip, lost, until};
use tempfile::TempDir;

/// One at a time: what one test does is foreign to the probes of all others.
static ALONE: Mutex<()> = Mutex::new(());

/// What one command reads or writes.
const BYTES: u64 = cases::BLOCKS as u64 * 8192;

/// The child's side of the tests below.
#[test]
fn play() {
    cases::play();
}

/// With a file on a disk, past whose cache can be read.
fn directory() -> TempDir {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path().join("data");
    fs::write(&path, vec![1; usize::try_from(BYTES).unwrap()]).unwrap();
    fs::File::open(&path).unwrap().sync_all().unwrap();
    directory
}

fn number(major: u32, minor: u32) -> u32 {
    major << 20 | minor
}

fn device_of(path: &Path) -> u32 {
    let device = fs::metadata(path).unwrap().dev();
    number(libc::major(device), libc::minor(device))
}

/// A process that nobody watches, under a name of its own.
fn foreign(name: &str, directory: &Path) -> Player {
    let (mut player, _) = Player::start("foreign", directory);
    player.tell("go");
    player.wait_for("next");
    tell(&mut player, &format!("name {name}"));
    player
}

fn tell(player: &mut Player, words: &str) {
    player.tell(words);
    player.wait_for("next");
}

/// Bytes, operations and time of somebody.
fn of(rows: &[OtherRow], device: u32, other: &Other) -> (u64, u64, u64) {
    let rows = rows.iter().filter(|row| row.device == device && row.other == *other);
    rows.fold((0, 0, 0), |sum, row| (sum.0 + row.bytes, sum.1 + row.operations, sum.2 + row.time_ns))
}

fn read(probes: &mut Probes, device: u32, other: &Other) -> (u64, u64, u64) {
    of(&probes.snapshot().unwrap().others, device, other)
}

/// For messages.
fn state(probes: &mut Probes) -> String {
    let snapshot = probes.snapshot().unwrap();
    let lost: Vec<_> = snapshot.lost.iter().filter(|(_, count)| *count > 0).collect();
    format!("lost {lost:?}, in flight {:?}, of {:?}", probes.in_flight(), snapshot.others)
}

/// That everything was counted, once. What the kernel did not tell the probes is in `lost`, each at most one block here.
fn assert_all(bytes: u64, probes: &mut Probes) {
    let snapshot = probes.snapshot().unwrap();
    let missed = lost(&snapshot, "probe skipped") + lost(&snapshot, "bio not seen to end");
    assert!(bytes <= BYTES && bytes + missed * 8192 >= BYTES, "{bytes} of {BYTES}: {}", state(probes));
}

#[test]
fn a_process_is_counted_by_its_command_unless_it_is_watched() {
    let test = "a_process_is_counted_by_its_command_unless_it_is_watched";
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(mut probes) = load_or_skip(test, &Limits::default()) else { return };
    let directory = directory();
    let device = device_of(directory.path());
    let name = Other::Command("blameio-foreign".to_owned());
    let mut player = foreign("blameio-foreign", directory.path());
    let before = read(&mut probes, device, &name);
    let begin = Instant::now();
    tell(&mut player, "direct data");
    let (bytes, operations, time) = read(&mut probes, device, &name);
    let elapsed = u64::try_from(begin.elapsed().as_nanos()).unwrap();
    assert_all(bytes - before.0, &mut probes);
    assert!(operations > before.1);
    let time = time - before.2;
    assert!(time > 0 && time < elapsed, "one after the other: {time} of {elapsed} ns");

    probes.watch_process(player.tgid(), 81, 1).unwrap();
    tell(&mut player, "direct data");
    assert_eq!(read(&mut probes, device, &name).0, bytes, "the file layer counts it");
    let found = probes.snapshot().unwrap();
    assert_eq!(found.io.iter().map(|row| row.bytes).sum::<u64>(), BYTES);
    assert_eq!(lost(&found, "flights map full") + lost(&found, "others map full"), 0);
}

/// A folder of the unified hierarchy. Removed when dropped, after its processes.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Result<Self, String> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
        let root = mount.and_then(|line| line.split(' ').nth(1)).ok_or("no unified hierarchy of cgroups")?;
        let path = Path::new(root).join(format!("blameio-test-{}", std::process::id()));
        fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let end = Instant::now() + support::DEADLINE;
        while fs::remove_dir(&self.0).is_err() && self.0.exists() && Instant::now() < end {
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_process_in_a_cgroup_is_counted_by_it() {
    let test = "a_process_in_a_cgroup_is_counted_by_it";
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(mut probes) = load_or_skip(test, &Limits::default()) else { return };
    let directory = directory();
    let device = device_of(directory.path());
    let cgroup = match Cgroup::new() {
        Ok(cgroup) => cgroup,
        Err(error) => {
            eprintln!("SKIPPED {test}: {error}");
            return;
        }
    };
    let mut player = foreign("blameio-in-group", directory.path());
    fs::write(cgroup.0.join("cgroup.procs"), player.tgid().to_string()).unwrap();
    let id = Other::Cgroup(fs::metadata(&cgroup.0).unwrap().ino());
    assert_eq!(read(&mut probes, device, &id).0, 0);
    tell(&mut player, "direct data");
    let bytes = read(&mut probes, device, &id).0;
    assert_all(bytes, &mut probes);
    drop(player);
}

/// A loop device on a file. Detached when dropped.
struct Loop(String);

impl Loop {
    fn new(file: &Path) -> Result<Self, String> {
        let made = Command::new("losetup").args(["--find", "--show", "--direct-io=on"]).arg(file).output();
        let made = made.map_err(|error| format!("losetup: {error}"))?;
        if !made.status.success() {
            return Err(String::from_utf8_lossy(&made.stderr).into_owned());
        }
        Ok(Self(String::from_utf8_lossy(&made.stdout).trim().to_owned()))
    }

    fn number(&self) -> u32 {
        let device = fs::metadata(&self.0).unwrap().rdev();
        number(libc::major(device), libc::minor(device))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        Command::new("losetup").args(["--detach", &self.0]).status().ok();
    }
}

#[test]
fn a_reader_of_a_loop_device_is_counted_there_and_not_again_below() {
    let test = "a_reader_of_a_loop_device_is_counted_there_and_not_again_below";
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(mut probes) = load_or_skip(test, &Limits::default()) else { return };
    let directory = directory();
    let below = device_of(directory.path());
    let looped = match Loop::new(&directory.path().join("data")) {
        Ok(looped) => looped,
        Err(error) => {
            eprintln!("SKIPPED {test}: {error}");
            return;
        }
    };
    let name = Other::Command("blameio-looped".to_owned());
    let worker = Other::Kernel("kworker".to_owned());
    let mut player = foreign("blameio-looped", directory.path());
    let before = probes.snapshot().unwrap().others;
    tell(&mut player, &format!("direct {}", looped.0));
    let after = probes.snapshot().unwrap().others;
    let grown = |device, other| of(&after, device, other).0 - of(&before, device, other).0;
    assert_all(grown(looped.number(), &name), &mut probes);
    assert_eq!(grown(below, &name), 0);
    assert_eq!(grown(below, &worker), 0, "the worker of the loop device only passes on");
}

#[test]
fn pages_that_were_dirtied_before_are_write_back() {
    let test = "pages_that_were_dirtied_before_are_write_back";
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(mut probes) = load_or_skip(test, &Limits::default()) else { return };
    let directory = directory();
    let device = device_of(directory.path());
    let mut player = foreign("blameio-dirty", directory.path());
    let dirty = Other::Command("blameio-dirty".to_owned());
    let before = read(&mut probes, device, &Other::WriteBack).0;
    tell(&mut player, "dirty other");
    tell(&mut player, "sync");
    let found = until("write-back", || {
        let rows = probes.snapshot().unwrap().others;
        let written = of(&rows, device, &Other::WriteBack).0 - before + of(&rows, device, &dirty).0;
        (written >= BYTES).then_some(rows)
    });
    assert!(of(&found, device, &Other::WriteBack).1 > 0);
}

#[test]
fn what_finds_no_room_is_in_the_overflow_row() {
    let test = "what_finds_no_room_is_in_the_overflow_row";
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let limits = Limits { others: 1, ..Limits::default() };
    let Some(mut probes) = load_or_skip(test, &limits) else { return };
    let directory = directory();
    let device = device_of(directory.path());
    for name in ["blameio-first", "blameio-second"] {
        let mut player = foreign(name, directory.path());
        tell(&mut player, "direct data");
    }
    let snapshot = probes.snapshot().unwrap();
    let bytes: u64 = snapshot.others.iter().filter(|row| row.device == device).map(|row| row.bytes).sum();
    assert!(bytes >= 2 * BYTES, "{:?}", snapshot.others);
    let overflow: u64 =
        snapshot.others.iter().filter(|row| row.other == Other::Overflow).map(|row| row.operations).sum();
    assert!(overflow > 0);
    assert_eq!(lost(&snapshot, "others map full"), overflow);
}

#[test]
fn a_name_that_does_nothing_any_more_makes_room() {
    let test = "a_name_that_does_nothing_any_more_makes_room";
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(mut probes) = load_or_skip(test, &Limits::default()) else { return };
    let directory = directory();
    let device = device_of(directory.path());
    let name = Other::Command("blameio-idle".to_owned());
    let mut player = foreign("blameio-idle", directory.path());
    tell(&mut player, "direct data");
    let removals = probes.snapshot().unwrap().removals;
    let bytes = read(&mut probes, device, &name).0;
    assert_all(bytes, &mut probes);
    drop(player);
    for _ in 0..3 {
        probes.snapshot().unwrap();
    }
    probes.sweep(2, |_| false).unwrap();
    let snapshot = probes.snapshot().unwrap();
    assert_eq!(of(&snapshot.others, device, &name).1, 0);
    assert!(snapshot.removals > removals);
}
