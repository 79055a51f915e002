//! Write-back is shared out among those who made the pages dirty, and no byte is lost.

use proptest::prelude::*;

use super::*;
use crate::{WriteBackRow, file_io::clock::Clock};

const FILE: FileId = FileId { device: 1 << 20, generation: 1, inode: 7 };

fn row(role: u8, operation: Operation, bytes: u64, dirtied_bytes: u64) -> DeviceRow {
    let operations = u64::from(bytes > 0);
    DeviceRow {
        file: FILE,
        index: PageIndex::None,
        server: 0,
        tid: None,
        role,
        operation,
        operations,
        bytes,
        time_ns: bytes,
        dirtied_bytes,
    }
}

fn written(bytes: u64) -> WriteBackRow {
    WriteBackRow { file: FILE, host: FILE, operations: 2, bytes, time_ns: 2_000_000_000 }
}

fn snapshot(device: Vec<DeviceRow>, write_back: Vec<WriteBackRow>) -> Snapshot {
    Snapshot { device, write_back, ..Snapshot::default() }
}

fn take(
    account: &mut DiskAccount,
    snapshot: &Snapshot,
    refresh: &Refresh,
    now: Instant,
) -> Vec<(DiskKey, Disk)> {
    let moment = Clock::at(1).second(2, 1);
    let taken = account.take(snapshot, refresh, now, moment);
    taken.into_iter().map(|(key, disk, _)| (key, disk)).collect()
}

fn of(found: &[(DiskKey, Disk)], role: u8) -> Disk {
    found.iter().find(|(key, _)| key.1.3 == role).map(|(_, disk)| *disk).unwrap_or_default()
}

#[test]
fn write_back_is_charged_in_proportion_to_what_was_made_dirty() {
    let now = Instant::now();
    let mut account = DiskAccount::default();
    let dirty = vec![row(1, Operation::Write, 0, 3000), row(2, Operation::Extend, 0, 1000)];
    assert!(
        take(&mut account, &snapshot(dirty.clone(), Vec::new()), &Refresh::nothing(), now).is_empty(),
        "nothing is written yet"
    );
    let found = take(&mut account, &snapshot(dirty.clone(), vec![written(4000)]), &Refresh::nothing(), now);
    assert_eq!(of(&found, 1), Disk { read: 0, written: 3000, operations: 1.5, seconds: 1.5 });
    assert_eq!(of(&found, 2), Disk { read: 0, written: 1000, operations: 0.5, seconds: 0.5 });
    assert!(
        take(&mut account, &snapshot(dirty, vec![written(4000)]), &Refresh::nothing(), now).is_empty(),
        "nothing moved"
    );
}

#[test]
fn write_back_waits_for_whom_to_charge() {
    let now = Instant::now();
    let mut account = DiskAccount::default();
    assert!(
        take(&mut account, &snapshot(Vec::new(), vec![written(4096)]), &Refresh::nothing(), now).is_empty()
    );
    let found = take(
        &mut account,
        &snapshot(vec![row(3, Operation::Write, 0, 4096)], vec![written(4096)]),
        &Refresh::nothing(),
        now,
    );
    assert_eq!(of(&found, 3).written, 4096);
}

#[test]
fn what_was_dirty_long_ago_is_not_charged_any_more() {
    let now = Instant::now();
    let mut account = DiskAccount::default();
    let mut device = vec![row(1, Operation::Write, 0, 1_000_000)];
    take(&mut account, &snapshot(device.clone(), Vec::new()), &Refresh::nothing(), now);
    device.push(row(2, Operation::Write, 0, 4096));
    let later = now + DIRTY * 3;
    let found = take(&mut account, &snapshot(device, vec![written(4096)]), &Refresh::nothing(), later);
    assert_eq!((of(&found, 1).written, of(&found, 2).written), (0, 4096));
}

#[test]
fn a_row_that_comes_back_begins_at_0_and_one_that_is_gone_ends() {
    let now = Instant::now();
    let mut account = DiskAccount::default();
    take(
        &mut account,
        &snapshot(vec![row(1, Operation::Read, 500, 0)], Vec::new()),
        &Refresh::nothing(),
        now,
    );
    let found = take(
        &mut account,
        &snapshot(vec![row(1, Operation::Read, 100, 0)], Vec::new()),
        &Refresh::nothing(),
        now,
    );
    assert_eq!(of(&found, 1).read, 600);
    let gone: Vec<_> = account.missing(&Snapshot::default()).into_iter().map(|(key, _)| key).collect();
    assert_eq!(gone, [(FILE, (PageIndex::None, 0, None, 1))]);
    assert_eq!(account.files().count(), 0);
}

proptest! {
    #[test]
    fn every_byte_is_charged_once(dirty in proptest::collection::vec(1..1_000_000_u64, 1..5), rounds in proptest::collection::vec(0..2_000_000_u64, 1..6)) {
        let now = Instant::now();
        let mut account = DiskAccount::default();
        let rows: Vec<_> = (0..).zip(&dirty).map(|(role, bytes)| row(role, Operation::Write, 0, *bytes)).collect();
        let mut bytes = 0;
        let mut found = Vec::new();
        for more in rounds {
            bytes += more;
            take(&mut account, &snapshot(rows.clone(), vec![written(bytes)]), &Refresh::nothing(), now);
            found = take(&mut account, &snapshot(rows.clone(), vec![written(bytes)]), &Refresh::everything(), now);
        }
        prop_assert_eq!(found.iter().map(|(_, disk)| disk.written).sum::<u64>(), bytes);
    }
}

#[test]
fn what_was_swept_and_comes_back_has_a_new_start() {
    let mut account = DiskAccount::default();
    let mut clock = Clock::at(100);
    let mut read = |account: &mut DiskAccount, bytes, second| {
        let moment = clock.second(100 + second, second);
        let rows = snapshot(vec![row(1, Operation::Read, bytes, 0)], Vec::new());
        let taken = account.take(&rows, &Refresh::everything(), Instant::now(), moment);
        let time = moment.since(taken[0].2);
        (taken[0].1.read, time.start, time.at)
    };
    assert_eq!(read(&mut account, 500, 10), (500, 100, 110));
    assert_eq!(read(&mut account, 700, 20), (700, 100, 120));
    assert_eq!(account.missing(&Snapshot::default()).len(), 1);
    assert_eq!(read(&mut account, 300, 30), (300, 120, 130));
}
