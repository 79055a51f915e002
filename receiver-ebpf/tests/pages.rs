//! Pages of a tablespace are counted for the index that they belong to, whatever road they take, and files that are no
//! tablespace for none. On a real kernel.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking and says on stderr what it skips"
)]

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use blameio_pipeline::PageFormat;
use blameio_receiver_ebpf::{Limits, Operation, PageIndex, Probes, ThreadState};
use support::paged::{PAGE, PLAIN, RINGS, ROADS, TABLESPACE, make};
use support::{Player, assert_kept, cases, load_or_skip, of_file, times_are_real};

/// The child's side of the tests below.
#[test]
fn play() {
    cases::play();
}

/// Operations and bytes by owner, of whole pages.
fn counted(probes: &mut Probes, path: &Path, operation: Operation) -> BTreeMap<PageIndex, (u64, u64)> {
    let snapshot = probes.snapshot().unwrap();
    assert_kept(&snapshot, "pages");
    let mut found = BTreeMap::new();
    for row in of_file(&snapshot, path).filter(|row| row.operation == operation) {
        let sum: &mut (u64, u64) = found.entry(row.index).or_default();
        *sum = (sum.0 + row.operations, sum.1 + row.bytes);
    }
    found
}

#[test]
fn every_page_counts_for_the_index_it_belongs_to() {
    let test = "every_page_counts_for_the_index_it_belongs_to";
    let Some(mut probes) = load_or_skip(test, &Limits::default()) else { return };
    let directory = tempfile::tempdir().unwrap();
    make(directory.path());
    let (mut player, _) = Player::start("pages", directory.path());
    probes.watch_process_with(player.tgid(), 11, 5, PageFormat::InnodbOfMariadb).unwrap();
    let rings = if player.go().is_empty() { RINGS } else { (0, 0) };

    // One of each, but of large values and of what is hidden two.
    let owners = [
        (PageIndex::Id(157), 1),
        (PageIndex::Id(158), 1),
        (PageIndex::Id(159), 1),
        (PageIndex::Id(160), 1),
        (PageIndex::Blob, 1),
        (PageIndex::Hidden, 2),
        (PageIndex::None, 1),
    ];
    let expected = |each: u64| -> BTreeMap<PageIndex, (u64, u64)> {
        owners.iter().map(|(owner, pages)| (*owner, (pages * each, pages * each * PAGE as u64))).collect()
    };
    let tablespace = directory.path().join(TABLESPACE);
    let mut reads = counted(&mut probes, &tablespace, Operation::Read);
    // The look at 512 bytes of each page, which tells nothing.
    let rest = reads.get_mut(&PageIndex::None).unwrap();
    *rest = (rest.0 - 8, rest.1 - 8 * 512);
    assert_eq!(reads, expected(ROADS.0 + rings.0));
    assert_eq!(counted(&mut probes, &tablespace, Operation::Write), expected(ROADS.1 + rings.1));
    let snapshot = probes.snapshot().unwrap();
    let long = snapshot.durations.iter().filter(|row| row.index == PageIndex::Id(158));
    assert_eq!(long.map(|row| row.count).sum::<u64>(), ROADS.0 + ROADS.1 + rings.0 + rings.1);
}

#[test]
fn only_tablespaces_of_servers_that_have_such_pages_are_looked_into() {
    let test = "only_tablespaces_of_servers_that_have_such_pages_are_looked_into";
    for (case, name, format) in [
        ("pages_of_another_name", PLAIN, PageFormat::InnodbOfMariadb),
        ("pages", TABLESPACE, PageFormat::None),
    ] {
        let Some(mut probes) = load_or_skip(test, &Limits::default()) else { return };
        let directory = tempfile::tempdir().unwrap();
        make(directory.path());
        let (mut player, _) = Player::start(case, directory.path());
        probes.watch_process_with(player.tgid(), 11, 5, format).unwrap();
        player.go();
        let found = counted(&mut probes, &directory.path().join(name), Operation::Read);
        assert_eq!(found.keys().collect::<Vec<_>>(), [&PageIndex::None], "{name}, {format:?}");
    }
}

#[test]
fn time_waited_for_a_page_is_that_of_its_index_and_no_row_falls() {
    let test = "time_waited_for_a_page_is_that_of_its_index_and_no_row_falls";
    let Some(mut probes) = load_or_skip(test, &Limits::default()) else { return };
    // On a disk: memory is not waited for.
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    make(directory.path());
    let (mut player, tid) = Player::start("pages_waited_for", directory.path());
    probes.watch_process_with(player.tgid(), 11, 1, PageFormat::InnodbOfMariadb).unwrap();
    probes.watch_thread(tid).unwrap();
    let mut before = BTreeMap::new();
    player.tell("go");
    let mut read: BTreeMap<PageIndex, u64> = BTreeMap::new();
    for _ in 0..5 {
        std::thread::sleep(std::time::Duration::from_millis(200));
        let snapshot = probes.snapshot().unwrap();
        let rows = snapshot.threads.iter().filter(|row| row.tid == tid);
        let now: BTreeMap<_, _> = rows.map(|row| ((row.state, row.file, row.index), row.ns)).collect();
        for (key, ns) in &before {
            assert!(now.get(key).is_some_and(|now| now >= ns), "{key:?} fell from {ns}");
        }
        read.clear();
        for ((state, _, index), ns) in &now {
            if *state == ThreadState::Read {
                *read.entry(*index).or_default() += ns;
            }
        }
        before = now;
    }
    player.wait_for("done");
    let of = |index| read.get(&index).copied().unwrap_or(0) as f64;
    let all: f64 = read.values().map(|ns| *ns as f64).sum();
    assert!(all > 0.0, "nothing was waited for: {before:?}");
    if !times_are_real(test) {
        return;
    }
    // What was in flight at a look, five times, has no index yet: half a read each.
    assert!((of(PageIndex::Id(157)) + of(PageIndex::Id(158))) / all > 0.9, "{read:?}");
    let share = of(PageIndex::Id(158)) / (of(PageIndex::Id(157)) + of(PageIndex::Id(158)));
    assert!((share - 0.75).abs() < 0.1, "{read:?}");
}
