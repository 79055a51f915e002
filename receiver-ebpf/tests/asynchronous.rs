//! Operations of io_uring and libaio are counted once, exactly, for the thread that asked for them. On a real kernel.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking and says on stderr what it skips"
)]

mod support;

use std::path::Path;

use blameio_receiver_ebpf::{DeviceRow, Limits, Operation, Probes, Snapshot, ThreadState};
use support::{
    Player, assert_kept, cases, load_or_skip, lost, of_file, of_server, rings, sum, times_are_real, until,
};
use tempfile::TempDir;

/// The child's side of the tests below.
#[test]
fn play() {
    cases::play();
}

/// In a file system of a disk: one in memory knows no O_DIRECT.
fn directory() -> TempDir {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = std::fs::File::create(directory.path().join("data")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &vec![1; 65_536], 0).unwrap();
    file.sync_all().unwrap();
    directory
}

/// Plays a case to its end; `None` and a line where the kernel lacks what it needs.
fn play_case(test: &str, case: &str, critical: bool) -> Option<(Probes, Snapshot, Snapshot, TempDir, u32)> {
    let mut probes = load_or_skip(test, &Limits::default())?;
    let directory = directory();
    let (mut player, tid) = Player::start(case, directory.path());
    probes.watch_process(player.tgid(), 61, 3).unwrap();
    if critical {
        probes.watch_thread(tid).unwrap();
    }
    let before = probes.snapshot().unwrap();
    let said = player.go();
    if said.starts_with("no ") {
        eprintln!("SKIPPED {test}: {said} here");
        return None;
    }
    let after = probes.snapshot().unwrap();
    Some((probes, before, after, directory, tid))
}

fn assert_counts(snapshot: &Snapshot, path: &Path, expected: &[(Operation, (u64, u64, u64))]) {
    for operation in Operation::ALL {
        let numbers =
            expected.iter().find(|(found, _)| *found == operation).map_or((0, 0, 0), |(_, sum)| *sum);
        assert_eq!(sum(of_file(snapshot, path), operation), numbers, "{operation:?}");
        assert_eq!(sum(of_server(snapshot, 61), operation), numbers, "all files, {operation:?}");
        let rows = snapshot.durations.iter().filter(|row| row.server == 61 && row.operation == operation);
        assert_eq!(rows.map(|row| row.count).sum::<u64>(), numbers.0, "durations of {operation:?}");
    }
    assert!(of_file(snapshot, path).all(|row| row.role == 3 && row.time_ns > 0));
    assert_kept(snapshot, "requests");
}

#[test]
fn every_request_of_io_uring_is_counted_with_its_bytes_and_errors() {
    let test = "every_request_of_io_uring_is_counted_with_its_bytes_and_errors";
    for critical in [false, true] {
        let Some((probes, _, snapshot, directory, tid)) = play_case(test, "uring", critical) else { return };
        let path = directory.path().join("data");
        assert_counts(
            &snapshot,
            &path,
            &[
                (Operation::Read, rings::URING_READ),
                (Operation::Write, rings::URING_WRITE),
                (Operation::Extend, rings::URING_EXTEND),
                (Operation::Fsync, rings::URING_FSYNC),
                (Operation::Prefetch, rings::URING_PREFETCH),
                (Operation::Truncate, rings::URING_TRUNCATE),
            ],
        );
        // Whoever completed them.
        assert!(of_server(&snapshot, 61).all(|row| row.tid == critical.then_some(tid)));
        assert_eq!(probes.in_flight().unwrap().0, 0, "rows of requests are left");
    }
}

#[test]
fn every_request_of_libaio_is_counted_with_its_bytes_and_errors() {
    let test = "every_request_of_libaio_is_counted_with_its_bytes_and_errors";
    for critical in [false, true] {
        let Some((probes, _, snapshot, directory, tid)) = play_case(test, "aio", critical) else { return };
        let path = directory.path().join("data");
        assert_counts(
            &snapshot,
            &path,
            &[
                (Operation::Read, rings::AIO_READ),
                (Operation::Write, rings::AIO_WRITE),
                (Operation::Extend, rings::AIO_EXTEND),
                (Operation::Fsync, rings::AIO_FSYNC),
            ],
        );
        assert!(of_server(&snapshot, 61).all(|row| row.tid == critical.then_some(tid)));
        assert_eq!(probes.in_flight().unwrap().0, 0, "rows of requests are left");
    }
}

#[test]
fn a_request_of_io_uring_that_fills_or_dirties_pages_says_so() {
    let test = "a_request_of_io_uring_that_fills_or_dirties_pages_says_so";
    for case in ["uring_fills", "uring_fills_by_workers"] {
        let Some((_, _, snapshot, directory, _)) = play_case(test, case, false) else { return };
        let file = of_file(&snapshot, &directory.path().join("data")).find_map(|row| row.file).unwrap();
        let device = |operation| {
            let mut rows = snapshot.device.iter().filter(|row| row.file == file);
            rows.find(|row| row.operation == operation).cloned().unwrap_or_else(|| {
                panic!("{case}: no {operation:?} among {:?}", snapshot.device);
            })
        };
        let read = device(Operation::Read);
        assert!((8192..=65_536).contains(&read.bytes) && read.time_ns > 0, "{case}: {read:?}");
        assert_eq!(device(Operation::Write).dirtied_bytes, 4096, "{case}");
        assert_kept(&snapshot, case);
    }
}

#[test]
fn a_request_whose_end_nobody_hears_of_is_lost_and_leaves_nothing() {
    let test = "a_request_whose_end_nobody_hears_of_is_lost_and_leaves_nothing";
    let Some((probes, _, snapshot, directory, _)) = play_case(test, "aio_forgotten", false) else { return };
    assert_eq!(sum(of_file(&snapshot, &directory.path().join("data")), Operation::Read), (1, 100, 0));
    assert_eq!(lost(&snapshot, "request not seen to end"), 1);
    assert_eq!(probes.in_flight().unwrap().0, 0);

    let Some((probes, _, snapshot, directory, _)) = play_case(test, "uring_silent", false) else { return };
    assert_eq!(sum(of_file(&snapshot, &directory.path().join("data")), Operation::Read), (4, 256, 0));
    let left = u64::try_from(probes.in_flight().unwrap().0).unwrap();
    assert_eq!(lost(&snapshot, "request not seen to end") + left, 4);
}

#[test]
fn more_requests_than_there_is_room_for_are_counted_as_lost() {
    let test = "more_requests_than_there_is_room_for_are_counted_as_lost";
    let limits = Limits { requests: 1, ..Limits::default() };
    let Some(mut probes) = load_or_skip(test, &limits) else { return };
    let directory = directory();
    let (mut player, _) = Player::start("aio", directory.path());
    probes.watch_process(player.tgid(), 61, 3).unwrap();
    player.go();
    let snapshot = probes.snapshot().unwrap();
    let counted: u64 = of_server(&snapshot, 61).map(|row| row.operations).sum();
    let all = [rings::AIO_READ, rings::AIO_WRITE, rings::AIO_EXTEND, rings::AIO_FSYNC];
    let refused = 1; // A request behind a bad one, that the kernel did not take.
    let expected = all.iter().map(|(operations, ..)| operations).sum::<u64>() + refused;
    assert_eq!(counted + lost(&snapshot, "requests map full"), expected);
}

#[test]
fn a_critical_thread_that_waits_for_its_requests_is_in_their_state() {
    let test = "a_critical_thread_that_waits_for_its_requests_is_in_their_state";
    let real = times_are_real(test);
    for case in ["uring_waits", "aio_waits"] {
        let Some((mut probes, before, after, directory, tid)) = play_case(test, case, true) else { return };
        let file = of_file(&after, &directory.path().join("data")).find_map(|row| row.file);
        let of = |snapshot: &Snapshot, state| -> u64 {
            let rows = snapshot.threads.iter().filter(|row| row.tid == tid && row.state == state);
            rows.filter(|row| row.file == file || !state.has_file()).map(|row| row.ns).sum()
        };
        let spent = |state| of(&after, state) - of(&before, state);
        let all: u64 = ThreadState::ALL.into_iter().map(spent).sum();
        let window = after.monotonic_ns - before.monotonic_ns;
        // Of another file was nothing.
        assert!(all.abs_diff(window) <= window / 1000, "{case}: {all} of {window} ns");
        // All of it reached the disk: past the page cache, or to be synced.
        for row in of_file(&after, &directory.path().join("data")) {
            let same = |other: &&DeviceRow| other.tid == row.tid && other.operation == row.operation;
            let device = after.device.iter().filter(|other| Some(other.file) == row.file).find(same);
            let device = device.unwrap_or_else(|| panic!("{case}: {row:?}"));
            assert_eq!((device.operations, device.bytes), (row.operations, row.bytes), "{case}: {row:?}");
            assert_eq!(device.time_ns, row.time_ns, "{case}: {row:?}");
        }
        for state in [ThreadState::Read, ThreadState::Write, ThreadState::Fsync] {
            assert!(spent(state) > 1_000_000, "{case}: {} ns in {state:?}", spent(state));
        }
        let waited = spent(ThreadState::Wait);
        assert!(
            !real || waited < window / 20,
            "{case}: {waited} of {window} ns waited for nothing of its own"
        );
        until("the end of all requests", || (probes.in_flight().unwrap().0 == 0).then_some(()));
        probes.forget_thread(tid);
    }
}
