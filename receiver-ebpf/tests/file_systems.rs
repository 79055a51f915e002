//! Every road of I/O is counted with what it moved and what of it reached the device, on every file system that this
//! machine can make. On a real kernel.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking and says on stderr what it skips"
)]

mod support;

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use blameio_receiver_ebpf::{Limits, Operation, Probes, Snapshot, ThreadState, probe_support};
use support::calls::{cached_pages, plain};
use support::mounts::Mounted;
use support::roads::{BLOCK, BLOCKS, DIRECT, OVERWRITTEN, PAGE, PREFETCHED, SIZE, TOUCHED};
use support::{Player, assert_kept, cases, load_or_skip, until};

/// The child's side of the tests below.
#[test]
fn play() {
    cases::play();
}

/// What was counted of a file: cumulative, or since the road before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counted {
    operations: u64,
    bytes: u64,
    device_operations: u64,
    device_bytes: u64,
    device_ns: u64,
    dirtied: u64,
    written_back: u64,
    write_back_ns: u64,
}

fn counted(snapshot: &Snapshot, inode: u64, operation: Operation) -> Counted {
    let mut sum = Counted::default();
    for row in &snapshot.io {
        if row.operation == operation && row.file.is_some_and(|file| file.inode == inode) {
            sum.operations += row.operations;
            sum.bytes += row.bytes;
        }
    }
    for row in snapshot.device.iter().filter(|row| row.file.inode == inode) {
        sum.dirtied += row.dirtied_bytes;
        if row.operation == operation {
            sum.device_operations += row.operations;
            sum.device_bytes += row.bytes;
            sum.device_ns += row.time_ns;
        }
    }
    for row in snapshot.write_back.iter().filter(|row| row.file.inode == inode) {
        sum.written_back += row.bytes;
        sum.write_back_ns += row.time_ns;
    }
    sum
}

struct Journey {
    probes: Probes,
    player: Player,
    last: Snapshot,
    path: std::path::PathBuf,
    tid: u32,
}

impl Journey {
    fn start(mut probes: Probes, directory: &Path) -> Self {
        let (mut player, tid) = Player::start("roads", directory);
        probes.watch_process(player.tgid(), 61, 4).unwrap();
        player.tell("go");
        player.wait_for("next");
        let last = probes.snapshot().unwrap();
        Self { probes, player, last, path: directory.join("data"), tid }
    }

    /// What a road adds; the times must fit the rest.
    fn travel(&mut self, road: &str, operation: Operation) -> Counted {
        self.player.tell(road);
        self.player.wait_for("next");
        self.since(road, operation)
    }

    fn since(&mut self, road: &str, operation: Operation) -> Counted {
        let snapshot = self.probes.snapshot().unwrap();
        let inode = std::fs::metadata(&self.path).unwrap().ino();
        let (before, now) = (counted(&self.last, inode, operation), counted(&snapshot, inode, operation));
        assert_kept(&snapshot, road);
        self.last = snapshot;
        let delta = Counted {
            operations: now.operations - before.operations,
            bytes: now.bytes - before.bytes,
            device_operations: now.device_operations - before.device_operations,
            device_bytes: now.device_bytes - before.device_bytes,
            device_ns: now.device_ns - before.device_ns,
            dirtied: now.dirtied - before.dirtied,
            written_back: now.written_back - before.written_back,
            write_back_ns: now.write_back_ns - before.write_back_ns,
        };
        assert_eq!(delta.device_operations > 0, delta.device_ns > 0, "{road}: {delta:?}");
        assert_eq!(delta.written_back > 0, delta.write_back_ns > 0, "{road}: {delta:?}");
        eprintln!("{road}: {delta:?}");
        // What is compared is exact; times are not.
        Counted { device_ns: 0, write_back_ns: 0, ..delta }
    }

    /// Forgets the file's pages. This process is not watched.
    fn cool(&self, mounted: &Mounted) {
        mounted.sync();
        let file = File::open(&self.path).unwrap();
        let advice = i64::from(libc::POSIX_FADV_DONTNEED);
        // A page that is still being read is not forgotten.
        until("a cold file", || {
            assert_eq!(plain(libc::SYS_fadvise64, &file, [0, 0, advice]), 0);
            (cached_pages(&file, SIZE) == 0).then_some(())
        });
    }
}

fn sees_faults() -> bool {
    probe_support().iter().all(|part| part.ok)
}

/// What file systems do differently.
struct Ways {
    /// Direct writes may go through the page cache: newer kernels do it for the sake of checksums.
    direct_writes_may_be_buffered: bool,
    /// `sync_file_range` writes nothing.
    ranges_are_not_synced: bool,
}

fn journey(test: &str, kind: &str, ways: &Ways) {
    let Some(probes) = load_or_skip(test, &Limits::default()) else { return };
    let Some(mounted) = Mounted::new(test, kind) else { return };
    let mut journey = Journey::start(probes, mounted.path());
    let none = Counted::default();

    // Into the page cache, and out of it by fsync.
    let found = journey.travel("create", Operation::Extend);
    assert_eq!(found, Counted { operations: BLOCKS, bytes: SIZE, dirtied: SIZE, ..none });
    let found = journey.travel("fsync", Operation::Fsync);
    assert_eq!(found, Counted { operations: 1, device_operations: 1, written_back: SIZE, ..none });

    // From the page cache no device is seen; from the device exactly the file.
    let found = journey.travel("read", Operation::Read);
    assert_eq!(found, Counted { operations: BLOCKS, bytes: SIZE, ..none });
    journey.cool(&mounted);
    let found = journey.travel("read", Operation::Read);
    let device_operations = found.device_operations;
    assert!((1..=BLOCKS).contains(&device_operations), "{found:?}");
    assert_eq!(
        found,
        Counted { operations: BLOCKS, bytes: SIZE, device_operations, device_bytes: SIZE, ..none }
    );

    let bytes = DIRECT * BLOCK;
    let found = journey.travel("read directly", Operation::Read);
    assert_eq!(
        found,
        Counted { operations: DIRECT, bytes, device_operations: DIRECT, device_bytes: bytes, ..none }
    );
    let found = journey.travel("write directly", Operation::Write);
    let expected = Counted { operations: DIRECT, bytes, device_operations: DIRECT, ..none };
    if ways.direct_writes_may_be_buffered && found.dirtied > 0 {
        assert_eq!(found, Counted { dirtied: bytes, written_back: bytes, ..expected });
    } else {
        assert_eq!(found, Counted { device_bytes: bytes, ..expected });
    }
    let found = journey.travel("write synchronously", Operation::Write);
    let one = Counted { operations: 1, bytes: BLOCK, dirtied: BLOCK, written_back: BLOCK, ..none };
    assert_eq!(found, Counted { device_operations: 1, ..one });
    let found = journey.travel("sync a range", Operation::Write);
    if ways.ranges_are_not_synced {
        assert_eq!(found, Counted { written_back: 0, ..one });
        mounted.sync();
        journey.since("sync", Operation::Write);
    } else {
        assert_eq!(found, one);
    }

    // Made dirty by one, written by the kernel's threads.
    let bytes = OVERWRITTEN * BLOCK;
    let found = journey.travel("overwrite", Operation::Write);
    assert_eq!(found, Counted { operations: OVERWRITTEN, bytes, dirtied: bytes, ..none });
    mounted.sync();
    let found = journey.since("sync", Operation::Fsync);
    assert_eq!(found, Counted { written_back: bytes, ..none });

    journey.cool(&mounted);
    let found = journey.travel("prefetch", Operation::Prefetch);
    assert_eq!(found, Counted { operations: 1, device_operations: 1, device_bytes: PREFETCHED, ..none });

    journey.cool(&mounted);
    if sees_faults() {
        let found = journey.travel("map", Operation::Fault);
        let (operations, bytes) = (TOUCHED, TOUCHED * PAGE);
        assert_eq!(
            found,
            Counted { operations, bytes, device_operations: operations, device_bytes: bytes, ..none }
        );
        let inode = std::fs::metadata(&journey.path).unwrap().ino();
        let faults = journey.last.device.iter().filter(|row| row.operation == Operation::Fault);
        let id = faults.map(|row| row.file).find(|file| file.inode == inode).unwrap();
        let name = journey.probes.file_name(&id).unwrap();
        assert_eq!(name.rsplit('/').next(), Some("data"), "{name}");
    } else {
        eprintln!("SKIPPED {test}: faults: the kernel does not tell of them");
    }
    let rows = journey.last.device.iter().filter(|row| row.server == 61);
    assert!(rows.clone().count() > 0 && rows.clone().all(|row| row.role == 4), "{:?}", journey.last.device);
}

const PLAIN: Ways = Ways { direct_writes_may_be_buffered: false, ranges_are_not_synced: false };

#[test]
fn every_road_is_counted_on_ext4() {
    journey("every_road_is_counted_on_ext4", "ext4", &PLAIN);
}

#[test]
fn every_road_is_counted_on_xfs() {
    journey("every_road_is_counted_on_xfs", "xfs", &PLAIN);
}

#[test]
fn every_road_is_counted_on_btrfs() {
    let ways = Ways { direct_writes_may_be_buffered: true, ..PLAIN };
    journey("every_road_is_counted_on_btrfs", "btrfs", &ways);
}

#[test]
fn every_road_is_counted_on_overlay() {
    let ways = Ways { ranges_are_not_synced: true, ..PLAIN };
    journey("every_road_is_counted_on_overlay", "overlay", &ways);
}

#[test]
fn a_critical_thread_in_a_fault_reads_that_file() {
    let test = "a_critical_thread_in_a_fault_reads_that_file";
    let Some(probes) = load_or_skip(test, &Limits::default()) else { return };
    if !sees_faults() {
        eprintln!("SKIPPED {test}: the kernel does not tell of faults");
        return;
    }
    let Some(mounted) = Mounted::new(test, "ext4") else { return };
    let mut journey = Journey::start(probes, mounted.path());
    journey.travel("create", Operation::Extend);
    journey.cool(&mounted);
    // The thread that plays is not the first of its process.
    let tid = journey.tid;
    journey.probes.watch_thread(tid).unwrap();
    journey.travel("map", Operation::Fault);
    let inode = std::fs::metadata(&journey.path).unwrap().ino();
    let found = &journey.last.threads;
    let read = found
        .iter()
        .find(|row| row.state == ThreadState::Read && row.file.is_some_and(|file| file.inode == inode));
    assert!(read.is_some_and(|row| row.tid == tid && row.ns > 0), "{found:?}");
    let faults = journey.last.device.iter().filter(|row| row.operation == Operation::Fault);
    assert!(faults.clone().count() == 1 && faults.clone().all(|row| row.tid == Some(tid)));
}

#[test]
fn who_made_pages_dirty_is_told_apart_and_who_writes_them_back_is_not() {
    let test = "who_made_pages_dirty_is_told_apart_and_who_writes_them_back_is_not";
    let Some(probes) = load_or_skip(test, &Limits::default()) else { return };
    let Some(mounted) = Mounted::new(test, "ext4") else { return };
    let mut journey = Journey::start(probes, mounted.path());
    journey.travel("create", Operation::Extend);
    let (mut other, _) = Player::start("roads", mounted.path());
    journey.probes.watch_process(other.tgid(), 61, 9).unwrap();
    other.tell("go");
    other.wait_for("next");
    mounted.sync();
    let found = journey.since("sync", Operation::Write);
    assert_eq!(found.written_back, SIZE);
    other.tell("overwrite");
    other.wait_for("next");
    // By the one that did not make them dirty.
    let found = journey.travel("fsync", Operation::Fsync);
    assert_eq!(found.written_back, OVERWRITTEN * BLOCK);
    let dirtied = |role| {
        let rows = journey.last.device.iter().filter(|row| row.server == 61 && row.role == role);
        rows.map(|row| row.dirtied_bytes).sum::<u64>()
    };
    assert_eq!((dirtied(4), dirtied(9)), (SIZE, OVERWRITTEN * BLOCK));
}
