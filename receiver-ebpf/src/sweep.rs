//! Makes room in the maps: removes rows that nobody can write to any more and, when a map fills up, rows that have been
//! idle. Counters are never reset otherwise, and a row that comes back starts at 0.
//!
//! A probe that has found a row adds to it within a microsecond, even if the row is removed in between. What it adds is
//! lost then, or goes to the row that takes the place: at most one operation per processor and removed row, and only of
//! rows that did not move for a long time. What was added since the last look and went with the row is counted.

use std::collections::HashSet;

use crate::Probes;
use crate::error::ProbeError;
use crate::pages::PageIndex;
use crate::raw::{DurationKey, FileId, IoCounters, IoKey, ThreadTimeKey};
use crate::threads::clock_ns;
use crate::types::ThreadState;

/// Most rows of operations that go at once: the end of each has to be told, and after a rush there are many thousand.
const MOST_AT_ONCE: usize = 1_000;

/// What a sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// Rows of operations that went.
    pub rows: usize,
    /// There was more to remove than goes at once, or there is little room.
    pub more: bool,
}

/// Above four fifths a map is crowded.
fn crowded(entries: usize, limit: u32) -> bool {
    u64::try_from(entries).unwrap_or(u64::MAX).saturating_mul(5) > u64::from(limit) * 4
}

fn operations(copies: &[IoCounters]) -> u64 {
    copies.iter().fold(0, |sum, part| sum.wrapping_add(part.operations))
}

/// What may have to go together with rows, listed before any row is removed.
struct Listed {
    durations: Vec<DurationKey>,
    times: Vec<ThreadTimeKey>,
    names: Vec<FileId>,
    device: Vec<IoKey>,
    /// The inode of the pages, and the file that it is.
    write_back: Vec<(FileId, FileId)>,
}

impl Probes {
    /// Removes rows that did not change in the last `idle_snapshots` snapshots and have no writer left: their thread
    /// is forgotten or has exited, or their server has no watched process. Those that did not change in the last tenth of
    /// them go when `file_is_gone` says that the file was removed, and when a map is more than four fifths full; then what
    /// is kept of files without a row goes too. With a file's last row go its histograms and its name.
    pub fn sweep(
        &mut self,
        idle_snapshots: u64,
        file_is_gone: impl Fn(&FileId) -> bool,
    ) -> Result<Swept, ProbeError> {
        let mut servers = HashSet::new();
        self.maps
            .processes
            .for_each(|_, values| servers.extend(values.iter().map(|process| process.server)))?;
        let listed = Listed {
            durations: self.maps.durations.keys()?,
            times: self.maps.thread_time.keys()?,
            names: self.maps.files.keys()?,
            device: self.maps.device.keys()?,
            write_back: self.write_back_files()?,
        };
        let crowded = crowded(self.changed.len(), self.limits.io)
            || crowded(listed.names.len(), self.limits.files)
            || crowded(listed.durations.len(), self.limits.durations)
            || crowded(listed.times.len(), self.limits.thread_time)
            || crowded(listed.device.len(), self.limits.device)
            || crowded(listed.write_back.len(), self.limits.write_back);
        let accounts = &self.accounts;
        let idle: Vec<(IoKey, u64)> = self
            .changed
            .iter()
            .filter(|(key, (_, since))| {
                let idle = self.snapshots - since;
                let thread_gone = key.tid != 0 && accounts.get(&key.tid).is_none_or(|account| account.exited);
                let nobody_left = thread_gone || !servers.contains(&key.server);
                (idle >= idle_snapshots && nobody_left)
                    || (idle >= idle_snapshots.div_ceil(10) && (crowded || file_is_gone(&key.file)))
            })
            .map(|(key, (operations, _))| (*key, *operations))
            .take(MOST_AT_ONCE)
            .collect();
        let more = crowded || idle.len() == MOST_AT_ONCE;
        let (mut rows, mut swept) = (0, HashSet::new());
        for (key, seen) in idle {
            if self.sweep_row(&key, seen)? {
                rows += 1;
                swept.insert(key.file);
            }
        }
        let mut kept = HashSet::from([FileId::BY_PATH]);
        self.maps.io.for_each(|key, _| {
            kept.insert(key.file);
        })?;
        let others = self.sweep_files(&listed, |file| {
            !kept.contains(file) && (crowded || swept.contains(file) || file_is_gone(file))
        })?;
        let foreign = self.sweep_others(idle_snapshots)?;
        self.give_up(clock_ns())?;
        self.sweep_owners()?;
        if !swept.is_empty() || others || foreign {
            self.removals += 1;
        }
        Ok(Swept { rows, more })
    }

    fn write_back_files(&self) -> Result<Vec<(FileId, FileId)>, ProbeError> {
        let mut found = Vec::new();
        self.maps.write_back.for_each(|host, values| {
            found.extend(values.first().map(|value| (host, value.file)));
        })?;
        Ok(found)
    }

    /// Removes the cgroups that nobody was seen in since the sweep before, though what is watched has changed.
    fn sweep_owners(&mut self) -> Result<(), ProbeError> {
        let mut left = HashSet::new();
        self.maps.owners.for_each(|cgroup, epochs| {
            left.extend(epochs.iter().filter(|epoch| **epoch != self.epoch).map(|epoch| (cgroup, *epoch)));
        })?;
        for (cgroup, _) in self.left.intersection(&left) {
            self.maps.owners.delete(cgroup);
        }
        self.left = left;
        Ok(())
    }

    /// Removes a row, unless it has moved since the last snapshot.
    fn sweep_row(&mut self, key: &IoKey, seen: u64) -> Result<bool, ProbeError> {
        if self.maps.io.copies(key)?.is_some_and(|copies| operations(&copies) != seen) {
            // The next snapshot takes it for what it is.
            return Ok(false);
        }
        let last = self.maps.io.take(key)?;
        self.changed.remove(key);
        self.maps.device.delete(key);
        if let Some(copies) = &last {
            self.swept_operations += operations(copies).saturating_sub(seen);
        }
        Ok(last.is_some())
    }

    /// Removes what is kept of files. True if that was anything.
    fn sweep_files(&mut self, listed: &Listed, gone: impl Fn(&FileId) -> bool) -> Result<bool, ProbeError> {
        let mut any = false;
        for key in listed.durations.iter().filter(|key| gone(&key.file)) {
            any |= self.maps.durations.delete(key);
        }
        for key in listed.times.iter().filter(|key| gone(&key.file)) {
            let Some(ns) = self.maps.thread_time.take(key)? else { continue };
            any = true;
            let state = ThreadState::from_raw(key.state);
            // The rest of the thread's rows must still sum to the time that passes.
            if let (Some(state), Some(account)) = (state, self.accounts.get_mut(&key.tid)) {
                let reported = account
                    .last
                    .remove(&(state, Some(key.file), PageIndex::from_raw(key.index)))
                    .unwrap_or(0);
                account.swept_ns += ns.first().copied().unwrap_or(0).max(reported);
            }
        }
        for key in listed.device.iter().filter(|key| gone(&key.file)) {
            any |= self.maps.device.delete(key);
        }
        for (host, _) in listed.write_back.iter().filter(|(_, file)| gone(file)) {
            any |= self.maps.write_back.delete(host);
        }
        let mut names = false;
        for file in listed.names.iter().filter(|file| gone(file)) {
            names |= self.maps.files.delete(file);
        }
        if names {
            // Threads that are at such a file keep its name anew, and those whose file had no room try again.
            self.watched_has_changed()?;
        }
        Ok(any || names)
    }
}

#[cfg(test)]
mod tests {
    use super::crowded;

    #[test]
    fn crowded_is_above_four_fifths() {
        assert!(!crowded(8, 10));
        assert!(crowded(9, 10));
        assert!(!crowded(0, 0));
        assert!(crowded(usize::MAX, u32::MAX));
    }
}
