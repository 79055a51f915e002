//! Maps that are too small lose detail, never operations, and say so. On a real kernel.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking and says on stderr what it skips"
)]

mod support;

use blameio_receiver_ebpf::{Limits, Operation};
use support::{Player, cases, kernel_is_before, load_or_skip, lost, of_server, sum};

/// The child's side of the test below.
#[test]
fn play() {
    cases::play();
}

#[test]
fn what_does_not_fit_is_in_the_overflow_rows() {
    let limits = Limits { files: 2, io: 5, durations: 3, ..Limits::default() };
    let Some(mut probes) = load_or_skip("what_does_not_fit_is_in_the_overflow_rows", &limits) else { return };
    let directory = tempfile::tempdir().unwrap();
    let (mut player, _) = Player::start("many_files", directory.path());
    probes.watch_process(player.tgid(), 21, 2).unwrap();
    player.go();
    let snapshot = probes.snapshot().unwrap();
    let rows = of_server(&snapshot, 21);
    let files = cases::FILES;
    assert_eq!(sum(rows.clone(), Operation::Extend), (files, files * 100, 0));
    assert_eq!(sum(rows.clone(), Operation::Read), (files * 2, files * 100, 0));
    let kept = rows.clone().filter(|row| row.file.is_some()).map(|row| row.operations);
    assert_eq!(rows.clone().filter(|row| row.file.is_some()).count(), 5);
    assert_eq!(lost(&snapshot, "io map full"), files * 3 - kept.sum::<u64>());
    assert!(rows.filter(|row| row.file.is_none()).all(|row| row.role == 2 && row.time_ns > 0));
    let histograms: u64 = snapshot.durations.iter().map(|row| row.count).sum();
    assert_eq!(lost(&snapshot, "durations map full"), files * 3 - histograms);
    assert_eq!(lost(&snapshot, "files map full"), 1, "five rows of three files, two names");
}

/// Most maps take their memory when it is needed, from what the kernel has at hand in the middle of an operation.
#[test]
fn thousands_of_files_at_once_find_the_memory_that_they_need() {
    let name = "thousands_of_files_at_once_find_the_memory_that_they_need";
    let Some(mut probes) = load_or_skip(name, &Limits::default()) else { return };
    let empty = probes.memory_bytes();
    // In memory, where nothing slows the rush down.
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let (mut player, _) = Player::start("rush", directory.path());
    probes.watch_process(player.tgid(), 22, 2).unwrap();
    player.go();
    let snapshot = probes.snapshot().unwrap();
    let kept: Vec<_> = of_server(&snapshot, 22).filter_map(|row| row.file).collect();
    assert_eq!(kept.len() as u64, cases::RUSH * 2, "a row of extends and one of reads for each");
    assert!(kept.iter().all(|file| probes.file_name(file).is_some()));
    let histograms = snapshot.durations.iter().filter(|row| row.server == 22);
    assert_eq!(histograms.map(|row| row.count).sum::<u64>(), cases::RUSH * 3);
    for reason in ["io map full", "durations map full", "files map full", "file name unreadable"] {
        assert_eq!(lost(&snapshot, reason), 0, "{reason}");
    }
    let grown = probes.memory_bytes() - empty;
    // Which only told what a map takes when it is full.
    if kernel_is_before((6, 4)) {
        assert_eq!(grown, 0);
        return;
    }
    assert!(grown > cases::RUSH * 1_000, "{grown} bytes more than {empty}");
}
