//! Makes room in the maps: removes rows that nobody can write to any more. Counters are never reset otherwise, and a
//! row that comes back starts at 0.

use std::collections::HashSet;

use crate::Probes;
use crate::error::ProbeError;
use crate::raw::{FileId, IoKey};
use crate::types::ThreadState;

impl Probes {
    /// Removes rows that did not change in the last `idle_snapshots` snapshots and have no writer left: their thread
    /// is forgotten or has exited, their server has no watched process, or `file_is_gone` says that the file was
    /// removed. With a file's last row go its histograms and its name. Returns how many rows of operations went.
    pub fn sweep(
        &mut self,
        idle_snapshots: u64,
        file_is_gone: impl Fn(&FileId) -> bool,
    ) -> Result<usize, ProbeError> {
        let mut servers = HashSet::new();
        self.maps
            .processes
            .for_each(|_, values| servers.extend(values.iter().map(|process| process.server)))?;
        let accounts = &self.accounts;
        let idle: Vec<IoKey> = self
            .changed
            .iter()
            .filter(|(_, (_, since))| self.snapshots - since >= idle_snapshots)
            .map(|(key, _)| *key)
            .filter(|key| {
                let thread_gone = key.tid != 0 && accounts.get(&key.tid).is_none_or(|account| account.exited);
                thread_gone || !servers.contains(&key.server) || file_is_gone(&key.file)
            })
            .collect();
        for key in &idle {
            self.maps.io.delete(key);
            self.changed.remove(key);
        }
        let kept: HashSet<FileId> = self.changed.keys().map(|key| key.file).collect();
        let swept: HashSet<FileId> =
            idle.iter().map(|key| key.file).filter(|file| !kept.contains(file)).collect();
        self.sweep_files(&swept, |file| {
            swept.contains(file) || (!kept.contains(file) && file_is_gone(file))
        })?;
        Ok(idle.len())
    }

    fn sweep_files(
        &mut self,
        swept: &HashSet<FileId>,
        gone: impl Fn(&FileId) -> bool,
    ) -> Result<(), ProbeError> {
        let mut durations = Vec::new();
        self.maps.durations.for_each(|key, _| durations.extend(gone(&key.file).then_some(key)))?;
        for key in durations {
            self.maps.durations.delete(&key);
        }
        for file in swept {
            self.maps.files.delete(file);
        }
        let mut times = Vec::new();
        self.maps.thread_time.for_each(|key, _| times.extend(gone(&key.file).then_some(key)))?;
        for key in times {
            let ns = self.maps.thread_time.get(&key)?.unwrap_or(0);
            self.maps.thread_time.delete(&key);
            let state = ThreadState::from_raw(u64::from(key.state));
            // The rest of the thread's rows must still sum to the time that passes.
            if let (Some(state), Some(account)) = (state, self.accounts.get_mut(&key.tid)) {
                let reported = account.last.remove(&(state, Some(key.file))).unwrap_or(0);
                account.swept_ns += ns.max(reported);
            }
        }
        Ok(())
    }
}
