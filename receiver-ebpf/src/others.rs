//! Everyone who is not watched: reads what the block layer's probes counted, and makes room in their maps. Does not know
//! what a cgroup or a device is called.

use crate::Probes;
use crate::error::ProbeError;
use crate::raw::{OTHER_KERNEL, OTHER_PROCESS, OTHER_WRITE_BACK, OtherCounters, OtherKey, RequestKey};
use crate::threads::run_state;
use crate::types::{Other, OtherRow};

/// The id of the root of a hierarchy of cgroups.
pub(crate) const ROOT_CGROUP: u64 = 1;

/// No disk and no asynchronous operation takes so long: its end was not seen.
pub(crate) const GIVE_UP_NS: u64 = 600_000_000_000;

fn row(device: u32, other: Other, by_kernel: bool, counters: &OtherCounters) -> OtherRow {
    let OtherCounters { time_ns, operations, bytes } = *counters;
    OtherRow { device, other, by_kernel, time_ns, operations, bytes }
}

/// `None` for a record that no probe of this version writes.
pub(crate) fn other_row(key: &OtherKey, counters: &OtherCounters) -> Option<OtherRow> {
    let command = || {
        let end = key.command.iter().position(|byte| *byte == 0).unwrap_or(key.command.len());
        String::from_utf8_lossy(&key.command[..end]).into_owned()
    };
    let other = match key.kind {
        OTHER_PROCESS | OTHER_KERNEL | OTHER_WRITE_BACK if key.cgroup != ROOT_CGROUP => {
            Other::Cgroup(key.cgroup)
        }
        OTHER_PROCESS => Other::Command(command()),
        OTHER_KERNEL => Other::Kernel(command()),
        OTHER_WRITE_BACK => Other::WriteBack,
        _ => return None,
    };
    Some(row(key.device, other, key.kind != OTHER_PROCESS, counters))
}

fn identity(row: &OtherRow) -> (u32, &Other, bool) {
    (row.device, &row.other, row.by_kernel)
}

impl Probes {
    /// All rows. Several of a device and cgroup become one.
    pub(crate) fn read_others(&mut self) -> Result<Vec<OtherRow>, ProbeError> {
        let Self { maps, others, snapshots, .. } = self;
        let mut rows: Vec<OtherRow> = Vec::with_capacity(others.len());
        maps.others.for_each(|key, values| {
            let Some(counters) = values.first() else { return };
            let seen = others.entry(key).or_insert((counters.operations, *snapshots));
            if seen.0 != counters.operations {
                *seen = (counters.operations, *snapshots);
            }
            rows.extend(other_row(&key, counters));
        })?;
        maps.others_overflow.for_each(|device, values| {
            rows.extend(values.first().map(|counters| row(device, Other::Overflow, false, counters)));
        })?;
        rows.sort_unstable_by(|left, right| identity(left).cmp(&identity(right)));
        rows.dedup_by(|next, first| {
            let same = identity(first) == identity(next);
            if same {
                first.time_ns = first.time_ns.wrapping_add(next.time_ns);
                first.operations = first.operations.wrapping_add(next.operations);
                first.bytes = first.bytes.wrapping_add(next.bytes);
            }
            same
        });
        Ok(rows)
    }

    /// Removes rows that did not move in the last `idle_snapshots` snapshots, or in a tenth of them when the map is more
    /// than half full: commands come and go, and whoever comes back starts at 0. True if there were any.
    pub(crate) fn sweep_others(&mut self, idle_snapshots: u64) -> Result<bool, ProbeError> {
        let crowded = self.others.len() as u64 * 2 > u64::from(self.limits.others);
        let idle = if crowded { idle_snapshots.div_ceil(10) } else { idle_snapshots };
        let gone: Vec<(OtherKey, u64)> = self
            .others
            .iter()
            .filter(|(_, (_, since))| self.snapshots - since >= idle)
            .map(|(key, (operations, _))| (*key, *operations))
            .collect();
        let mut any = false;
        for (key, seen) in gone {
            if self.maps.others.get(&key)?.is_some_and(|counters| counters.operations != seen) {
                // The next snapshot takes it for what it is.
                continue;
            }
            any |= self.maps.others.delete(&key);
            self.others.remove(&key);
        }
        Ok(any)
    }

    /// Asynchronous operations of watched processes, and bios of everyone else, that are in flight.
    pub fn in_flight(&self) -> Result<(usize, usize), ProbeError> {
        Ok((self.maps.requests.keys()?.len(), self.maps.flights.keys()?.len()))
    }

    /// Removes what is in flight for so long that its end must have been missed, or whose thread is gone.
    pub(crate) fn give_up(&mut self, now: u64) -> Result<(), ProbeError> {
        let old = |start_ns: u64| now.saturating_sub(start_ns) > GIVE_UP_NS;
        let mut requests: Vec<(RequestKey, u64, u32)> = Vec::new();
        self.maps.requests.for_each(|key, values| {
            requests.extend(values.first().map(|request| (key, request.slot.start_ns, request.tid)));
        })?;
        for (key, start_ns, tid) in requests {
            if start_ns == 0 {
                continue; // it is being made
            }
            // What a thread left behind when it ended may still complete.
            let left = run_state(tid).is_none() && now.saturating_sub(start_ns) > GIVE_UP_NS / 10;
            if (old(start_ns) || left) && self.maps.requests.delete(&key) {
                self.given_up += 1;
            }
        }
        let mut flights = Vec::new();
        self.maps.flights.for_each(|address, values| {
            flights.extend(values.iter().filter(|flight| old(flight.start_ns)).map(|_| address));
        })?;
        for address in flights {
            self.given_up_bios += u64::from(self.maps.flights.delete(&address));
        }
        let mut bios = Vec::new();
        self.maps.write_back_bios.for_each(|address, values| {
            bios.extend(values.iter().filter(|bio| old(bio.start_ns)).map(|_| address));
        })?;
        for address in bios {
            self.given_up_bios += u64::from(self.maps.write_back_bios.delete(&address));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;

    use super::*;

    #[test]
    fn who_it_is_is_told_by_the_cgroup_and_else_by_the_command() {
        let counters = OtherCounters { time_ns: 3, operations: 2, bytes: 1 };
        let mut key = OtherKey { device: 7, cgroup: ROOT_CGROUP, ..OtherKey::zeroed() };
        key.command[..3].copy_from_slice(b"tar");
        let other = |key: &OtherKey| other_row(key, &counters).map(|row| row.other);
        assert_eq!(other(&key), Some(Other::Command("tar".to_owned())));
        assert_eq!(other(&OtherKey { kind: OTHER_KERNEL, ..key }), Some(Other::Kernel("tar".to_owned())));
        assert_eq!(other(&OtherKey { kind: OTHER_WRITE_BACK, ..key }), Some(Other::WriteBack));
        assert_eq!(other(&OtherKey { kind: OTHER_WRITE_BACK, cgroup: 5, ..key }), Some(Other::Cgroup(5)));
        assert_eq!(other(&OtherKey { kind: 9, ..key }), None);
    }
}
