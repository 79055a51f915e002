//! The account of what reached the disk: by file and by who did it, or made the pages dirty that others wrote back.
//! Takes snapshots; makes no points.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use super::{
    clock::{Moment, Start},
    refresh::Refresh,
};
use crate::{DeviceRow, FileId, Operation, PageIndex, Snapshot};

/// The kernel writes back what has been dirty for 30 s, and looks every 5 s (`vm.dirty_expire_centisecs`,
/// `vm.dirty_writeback_centisecs`). Pages that were not written in twice as long were dropped, or written together with
/// others.
const DIRTY: Duration = Duration::from_secs(40);

/// Whose pages, and server, critical thread, role.
pub(super) type Who = (PageIndex, u16, Option<u32>, u8);

/// File, and who answers for it.
pub(super) type DiskKey = (FileId, Who);

/// Cumulative.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Disk {
    /// Bytes read.
    pub(super) read: u64,
    /// Bytes written, directly or by write-back.
    pub(super) written: u64,
    /// Operations that reached the disk. Of write-back a share.
    pub(super) operations: f64,
    /// Their time in flight, in seconds.
    pub(super) seconds: f64,
}

#[derive(Debug)]
struct Total {
    disk: Disk,
    start: Start,
    moved: bool,
}

/// What one has made dirty and nobody has written yet.
#[derive(Clone, Copy, Debug, Default)]
struct Outstanding {
    current: u64,
    /// Of the period before: written first, forgotten with the next.
    previous: u64,
}

/// Who made a file's pages dirty.
#[derive(Debug)]
struct Dirtied {
    who: HashMap<Who, Outstanding>,
    since: Instant,
    /// How it was shared last, for pages that nobody was seen to make dirty: those marked again when they were written.
    last: Vec<(Who, u64)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    operations: u64,
    bytes: u64,
    time_ns: u64,
    dirtied: u64,
}

impl Counters {
    /// A row that was swept and came back begins at 0.
    fn since(self, last: Self) -> Self {
        let delta = |now: u64, last: u64| now.checked_sub(last).unwrap_or(now);
        Self {
            operations: delta(self.operations, last.operations),
            bytes: delta(self.bytes, last.bytes),
            time_ns: delta(self.time_ns, last.time_ns),
            dirtied: delta(self.dirtied, last.dirtied),
        }
    }
}

/// Remembers what was counted.
#[derive(Debug, Default)]
pub(super) struct DiskAccount {
    rows: HashMap<(DiskKey, Operation), Counters>,
    /// By the inode of the pages.
    write_back: HashMap<FileId, Counters>,
    dirtied: HashMap<FileId, Dirtied>,
    totals: HashMap<DiskKey, Total>,
}

impl DiskAccount {
    /// Takes a snapshot. Returns what moved, and what is due, each with its start.
    pub(super) fn take(
        &mut self,
        snapshot: &Snapshot,
        refresh: &Refresh,
        now: Instant,
        moment: Moment,
    ) -> Vec<(DiskKey, Disk, Start)> {
        for row in &snapshot.device {
            self.take_row(row, now, moment);
        }
        for row in &snapshot.write_back {
            let counters =
                Counters { operations: row.operations, bytes: row.bytes, time_ns: row.time_ns, dirtied: 0 };
            let last = self.write_back.get(&row.host).copied().unwrap_or_default();
            let delta = counters.since(last);
            if delta.bytes == 0 && delta.time_ns == 0 {
                continue;
            }
            // Who made it dirty is told when the operation ends: until then nobody is charged.
            let Some(shares) =
                self.dirtied.get_mut(&row.file).and_then(|dirtied| dirtied.share(delta.bytes, now))
            else {
                continue;
            };
            self.write_back.insert(row.host, counters);
            self.charge(row.file, delta, &shares, moment);
        }
        let moved = self.totals.iter_mut().filter(|(key, total)| total.moved || refresh.is_due(key));
        moved
            .map(|(key, total)| {
                total.moved = false;
                (*key, total.disk, total.start)
            })
            .collect()
    }

    fn total(&mut self, key: DiskKey, moment: Moment) -> &mut Disk {
        let new = Total { disk: Disk::default(), start: moment.begin, moved: true };
        let total = self.totals.entry(key).or_insert(new);
        total.moved = true;
        &mut total.disk
    }

    fn take_row(&mut self, row: &DeviceRow, now: Instant, moment: Moment) {
        let who = (row.index, row.server, row.tid, row.role);
        let key = (row.file, who);
        let counters = Counters {
            operations: row.operations,
            bytes: row.bytes,
            time_ns: row.time_ns,
            dirtied: row.dirtied_bytes,
        };
        let last = self.rows.insert((key, row.operation), counters).unwrap_or_default();
        let delta = counters.since(last);
        if delta.dirtied > 0 {
            self.dirtied
                .entry(row.file)
                .or_insert_with(|| Dirtied { who: HashMap::new(), since: now, last: Vec::new() })
                .add(who, delta.dirtied, now);
        }
        if delta.operations == 0 && delta.bytes == 0 && delta.time_ns == 0 {
            return;
        }
        let disk = self.total(key, moment);
        match row.operation {
            Operation::Read | Operation::Prefetch | Operation::Fault => disk.read += delta.bytes,
            Operation::Write | Operation::Extend | Operation::Fsync | Operation::Truncate => {
                disk.written += delta.bytes;
            }
        }
        disk.operations += delta.operations as f64;
        disk.seconds += delta.time_ns as f64 / 1e9;
    }

    /// Shares out write-back. No byte is lost: what does not divide goes to the largest.
    fn charge(&mut self, file: FileId, delta: Counters, shares: &[(Who, u64)], moment: Moment) {
        let sum: u64 = shares.iter().map(|(_, weight)| weight).sum();
        let largest = shares.iter().max_by_key(|(_, weight)| weight).map(|(who, _)| *who);
        let mut left = delta.bytes;
        for (who, weight) in shares {
            let part = *weight as f64 / sum as f64;
            let bytes = u128::from(delta.bytes) * u128::from(*weight) / u128::from(sum.max(1));
            let bytes = u64::try_from(bytes).unwrap_or(u64::MAX).min(left);
            left -= bytes;
            let disk = self.total((file, *who), moment);
            disk.written += bytes;
            disk.operations += delta.operations as f64 * part;
            disk.seconds += delta.time_ns as f64 / 1e9 * part;
        }
        if let Some(who) = largest {
            self.total((file, who), moment).written += left;
        }
    }

    /// Forgets what no snapshot has any more, and returns it with its start: its series end.
    pub(super) fn missing(&mut self, snapshot: &Snapshot) -> Vec<(DiskKey, Start)> {
        let rows: HashSet<_> = snapshot
            .device
            .iter()
            .map(|row| ((row.file, (row.index, row.server, row.tid, row.role)), row.operation))
            .collect();
        let keys: HashSet<DiskKey> = rows.iter().map(|(key, _)| *key).collect();
        let hosts: HashSet<FileId> = snapshot.write_back.iter().map(|row| row.host).collect();
        self.rows.retain(|key, _| rows.contains(key));
        self.write_back.retain(|host, _| hosts.contains(host));
        let gone = self.totals.extract_if(|key, _| !keys.contains(key));
        let gone = gone.map(|(key, total)| (key, total.start)).collect();
        let files: HashSet<FileId> = keys.iter().map(|key| key.0).collect();
        self.dirtied.retain(|file, _| files.contains(file));
        gone
    }

    /// The files of which something is kept.
    pub(super) fn files(&self) -> impl Iterator<Item = FileId> + '_ {
        self.totals.keys().map(|key| key.0)
    }
}

impl Dirtied {
    fn turn(&mut self, now: Instant) {
        let periods = now.saturating_duration_since(self.since).as_secs() / DIRTY.as_secs();
        if periods == 0 {
            return;
        }
        self.since = now;
        for outstanding in self.who.values_mut() {
            outstanding.previous = if periods == 1 { outstanding.current } else { 0 };
            outstanding.current = 0;
        }
        self.who.retain(|_, outstanding| outstanding.previous > 0);
    }

    fn add(&mut self, who: Who, bytes: u64, now: Instant) {
        self.turn(now);
        self.who.entry(who).or_default().current += bytes;
    }

    /// Weights of those who answer for so many written bytes. `None` if nobody is known.
    fn share(&mut self, written: u64, now: Instant) -> Option<Vec<(Who, u64)>> {
        self.turn(now);
        let mut shares: Vec<(Who, u64)> = self
            .who
            .iter()
            .map(|(who, outstanding)| (*who, outstanding.previous + outstanding.current))
            .filter(|(_, weight)| *weight > 0)
            .collect();
        if shares.is_empty() {
            return Some(self.last.clone()).filter(|last| !last.is_empty());
        }
        shares.sort_unstable();
        let sum: u64 = shares.iter().map(|(_, weight)| weight).sum();
        for (who, weight) in &shares {
            let Some(outstanding) = self.who.get_mut(who) else { continue };
            let paid = u128::from(written.min(sum)) * u128::from(*weight) / u128::from(sum);
            let paid = u64::try_from(paid).unwrap_or(u64::MAX);
            let old = paid.min(outstanding.previous);
            outstanding.previous -= old;
            outstanding.current = outstanding.current.saturating_sub(paid - old);
        }
        self.last.clone_from(&shares);
        Some(shares)
    }
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
