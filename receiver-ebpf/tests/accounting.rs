//! Every operation on a watched process's regular files is counted once, exactly, and nothing else is. On a real
//! kernel.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking and says on stderr what it skips"
)]

mod support;

use std::path::Path;

use blameio_receiver_ebpf::{Limits, Operation, Probes, probe_support};
use support::{Player, assert_kept, cases, load_or_skip, lost, of_file, of_server, sum, until};
use tempfile::TempDir;

/// The child's side of the tests below.
#[test]
fn play() {
    cases::play();
}

fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(directory.path().join("data")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &vec![1; 65_536], 0).unwrap();
    file.sync_all().unwrap();
    directory
}

fn counted(probes: &mut Probes, path: &Path, operation: Operation) -> (u64, u64, u64) {
    sum(of_file(&probes.snapshot().unwrap(), path), operation)
}

#[test]
fn every_call_is_counted_with_its_bytes_and_errors() {
    let Some(mut probes) =
        load_or_skip("every_call_is_counted_with_its_bytes_and_errors", &Limits::default())
    else {
        return;
    };
    let directory = directory();
    let path = directory.path().join("data");
    let (mut player, tid) = Player::start("every_call", directory.path());
    probes.watch_process(player.tgid(), 11, 5).unwrap();
    assert_eq!(probes.watched_processes(), [(player.tgid(), 11, 5)]);
    player.go();

    let snapshot = probes.snapshot().unwrap();
    let expected = [
        (Operation::Read, cases::READ),
        (Operation::Write, cases::WRITE),
        (Operation::Extend, cases::EXTEND),
        (Operation::Fsync, cases::FSYNC),
        (Operation::Prefetch, cases::PREFETCH),
        (Operation::Truncate, cases::TRUNCATE),
    ];
    for (operation, numbers) in expected {
        assert_eq!(sum(of_file(&snapshot, &path), operation), numbers, "{operation:?}");
        // Sockets, pipes and directories are in no row.
        assert_eq!(sum(of_server(&snapshot, 11), operation), numbers, "all files, {operation:?}");
        let histogram: u64 = snapshot
            .durations
            .iter()
            .filter(|row| row.server == 11 && row.operation == operation)
            .map(|row| row.count)
            .sum();
        assert_eq!(histogram, numbers.0, "durations of {operation:?}");
    }
    assert!(of_file(&snapshot, &path).all(|row| row.role == 5 && row.tid.is_none() && row.time_ns > 0));
    let histogram_ns: u64 = snapshot.durations.iter().map(|row| row.sum_ns).sum();
    assert_eq!(histogram_ns, snapshot.io.iter().map(|row| row.time_ns).sum::<u64>(), "thread {tid}");
    let id = of_file(&snapshot, &path).next().unwrap().file.unwrap();
    let name = probes.file_name(&id).unwrap();
    assert!(path.to_str().unwrap().ends_with(&name), "{name}");
    assert_kept(&snapshot, "after the end");
    assert!(probes.memory_bytes() > 1 << 20);
}

#[test]
fn an_unwatched_process_is_not_counted() {
    let Some(mut probes) = load_or_skip("an_unwatched_process_is_not_counted", &Limits::default()) else {
        return;
    };
    let directory = directory();
    let (mut player, _) = Player::start("every_call", directory.path());
    player.go();
    assert!(probes.snapshot().unwrap().io.is_empty());

    // Nor one that is forgotten.
    let (mut player, _) = Player::start("threads", directory.path());
    probes.watch_process(player.tgid(), 1, 1).unwrap();
    probes.forget_process(player.tgid());
    player.go();
    assert!(probes.snapshot().unwrap().io.is_empty());
}

#[test]
fn what_is_watched_changes_under_a_thread_that_goes_on() {
    let test = "what_is_watched_changes_under_a_thread_that_goes_on";
    let Some(mut probes) = load_or_skip(test, &Limits::default()) else { return };
    let directory = directory();
    let (mut player, tid) = Player::start("states", directory.path());
    let mut round = |probes: &mut Probes| {
        player.tell("go");
        player.wait_for("round");
        let snapshot = probes.snapshot().unwrap();
        let mut rows: Vec<_> =
            of_server(&snapshot, 15).map(|row| (row.role, row.tid, row.operations)).collect();
        rows.sort_unstable();
        let sum =
            |role, tid| rows.iter().filter(|row| (row.0, row.1) == (role, tid)).map(|row| row.2).sum::<u64>();
        [sum(1, None), sum(2, None), sum(3, None), sum(2, Some(tid))]
    };
    let tgid = process_of(tid);
    probes.watch_process(tgid, 15, 1).unwrap();
    let [first, rest @ ..] = round(&mut probes);
    assert!(first > 0 && rest == [0, 0, 0]);
    probes.watch_process(tgid, 15, 2).unwrap();
    let [again, second, rest @ ..] = round(&mut probes);
    assert!(again == first && second > 0 && rest == [0, 0]);
    probes.give_role(tid, 3).unwrap();
    assert_eq!(probes.given_roles(), [(tid, 3)]);
    let [again, second_again, own, critical] = round(&mut probes);
    assert!((again, second_again) == (first, second) && own > 0 && critical == 0);
    probes.take_role(tid);
    let [_, second, own_again, _] = round(&mut probes);
    assert!(second > second_again && own_again == own);
    probes.watch_thread(tid).unwrap();
    let [again, second_again, own_again, critical] = round(&mut probes);
    assert!((again, second_again, own_again) == (first, second, own) && critical > 0);
    probes.forget_process(tgid);
    assert_eq!(round(&mut probes), [first, second, own, critical]);
    // What later threads of the number do is another matter.
    probes.give_role(tid, 3).unwrap();
    drop(player);
    until("the end of the thread", || probes.given_roles().is_empty().then_some(()));
    assert!(probes.give_role(tid, 3).is_err() && probes.given_roles().is_empty());
}

/// The process that a thread belongs to.
fn process_of(tid: u32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{tid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:")).unwrap();
    line.trim().parse().unwrap()
}

#[test]
fn a_child_is_counted_from_its_first_operation_and_forgotten_when_it_ends() {
    let test = "a_child_is_counted_from_its_first_operation_and_forgotten_when_it_ends";
    let Some(mut probes) = load_or_skip(test, &Limits::default()) else { return };
    let directory = directory();
    let (mut player, _) = Player::start("parent", directory.path());
    probes.watch_process(player.tgid(), 12, 7).unwrap();
    player.go();
    let snapshot = probes.snapshot().unwrap();
    let rows: Vec<_> = of_file(&snapshot, &directory.path().join("data")).collect();
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].server, rows[0].role, rows[0].operations, rows[0].bytes), (12, 0, 1, 1));
    assert_eq!(probes.watched_processes(), [(player.tgid(), 12, 7)]);
    let tgid = player.tgid();
    drop(player);
    until("the end of the process", || probes.watched_processes().is_empty().then_some(()));
    assert!(probes.watch_process(tgid, 12, 7).is_err(), "a process that has ended is not watched");
    assert!(probes.watched_processes().is_empty());
}

#[test]
fn threads_add_up_and_critical_ones_have_rows_of_their_own() {
    let test = "threads_add_up_and_critical_ones_have_rows_of_their_own";
    let Some(mut probes) = load_or_skip(test, &Limits::default()) else { return };
    let directory = directory();
    let path = directory.path().join("data");
    let (mut player, _) = Player::start("threads", directory.path());
    probes.watch_process(player.tgid(), 13, 1).unwrap();
    player.go();
    let reads = cases::THREADS * cases::READS_PER_THREAD;
    assert_eq!(counted(&mut probes, &path, Operation::Read), (reads, reads * 10, 0));
    drop(player);
    until("the end of the process", || probes.watched_processes().is_empty().then_some(()));

    let (mut player, tid) = Player::start("every_call", directory.path());
    std::fs::write(&path, vec![1; 65_536]).unwrap();
    probes.watch_process(player.tgid(), 14, 1).unwrap();
    probes.watch_thread(tid).unwrap();
    player.go();
    let snapshot = probes.snapshot().unwrap();
    assert_eq!(sum(of_server(&snapshot, 14), Operation::Write), cases::WRITE);
    assert!(of_server(&snapshot, 14).all(|row| row.tid == Some(tid)));

    // Its rows stay as long as it may write to them, and go when it is gone.
    assert_eq!(probes.sweep(0, |_| false).unwrap().rows, 1, "the row of the server that has ended");
    player.tell("end");
    until("the end of the thread", || {
        let snapshot = probes.snapshot().unwrap();
        snapshot.exited_threads.contains(&tid).then_some(())
    });
    probes.snapshot().unwrap();
    assert_eq!(probes.sweep(1, |_| false).unwrap().rows, 6);
    probes.forget_thread(tid);
    let snapshot = probes.snapshot().unwrap();
    assert!(snapshot.io.is_empty() && snapshot.threads.is_empty() && snapshot.durations.is_empty());
    assert_eq!(lost(&snapshot, "io map full"), 0);
}

#[test]
fn support_names_every_part() {
    if load_or_skip("support_names_every_part", &Limits::default()).is_some() {
        let found = probe_support();
        assert!(found.iter().all(|part| part.ok || part.optional), "{found:#?}");
        assert_eq!(found.len(), 19);
    }
}
