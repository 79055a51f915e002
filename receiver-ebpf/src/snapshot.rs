//! Reading all maps: kernel records become rows. Nothing in the kernel is changed by it; differences are the caller's.

use crate::Probes;
use crate::cost;
use crate::error::ProbeError;
use crate::histogram::{DURATION_OFFSET, DURATION_SCALE};
use crate::pages::PageIndex;
use crate::raw::{
    BIO_UNFINISHED, DeviceCounters, DurationKey, Durations, IoCounters, IoKey, LOST_REASONS, OverflowKey,
    REQUEST_UNFINISHED,
};
use crate::types::{CostRow, DeviceRow, DurationRow, IoRow, Operation, Snapshot, WriteBackRow};

/// `None` for a record that no probe of this version writes.
pub(crate) fn io_row(key: &IoKey, copies: &[IoCounters]) -> Option<IoRow> {
    let operation = Operation::from_raw(key.operation)?;
    let sum = copies.iter().fold(IoCounters::default(), |sum, part| IoCounters {
        operations: sum.operations.wrapping_add(part.operations),
        bytes: sum.bytes.wrapping_add(part.bytes),
        errors: sum.errors.wrapping_add(part.errors),
        time_ns: sum.time_ns.wrapping_add(part.time_ns),
    });
    Some(IoRow {
        file: Some(key.file),
        index: PageIndex::from_raw(key.index),
        server: key.server,
        tid: (key.tid != 0).then_some(key.tid),
        role: key.role,
        operation,
        operations: sum.operations,
        bytes: sum.bytes,
        errors: sum.errors,
        time_ns: sum.time_ns,
    })
}

/// `None` for a record that no probe of this version writes.
pub(crate) fn device_row(key: &IoKey, value: &DeviceCounters) -> Option<DeviceRow> {
    Some(DeviceRow {
        file: key.file,
        index: PageIndex::from_raw(key.index),
        server: key.server,
        tid: (key.tid != 0).then_some(key.tid),
        role: key.role,
        operation: Operation::from_raw(key.operation)?,
        operations: value.operations,
        bytes: value.bytes,
        time_ns: value.time_ns,
        dirtied_bytes: value.dirtied,
    })
}

/// The row of what found no room.
pub(crate) fn overflow_row(key: OverflowKey, copies: &[IoCounters]) -> Option<IoRow> {
    let OverflowKey { server, role, operation } = key;
    let key = IoKey { server, role, operation, ..bytemuck::Zeroable::zeroed() };
    io_row(&key, copies).map(|row| IoRow { file: None, ..row })
}

/// `None` for a record that no probe of this version writes.
pub(crate) fn duration_row(key: &DurationKey, value: &Durations) -> Option<DurationRow> {
    let operation = Operation::from_raw(key.operation)?;
    let count = value.buckets.iter().fold(value.zero, |sum, count| sum.wrapping_add(*count));
    // Most files know a few neighbouring durations only.
    let first = value.buckets.iter().position(|count| *count > 0).unwrap_or(0);
    let end = value.buckets.iter().rposition(|count| *count > 0).map_or(first, |last| last + 1);
    Some(DurationRow {
        file: key.file,
        index: PageIndex::from_raw(key.index),
        server: key.server,
        operation,
        scale: DURATION_SCALE,
        offset: DURATION_OFFSET + i32::try_from(first).unwrap_or(0),
        buckets: value.buckets[first..end].to_vec(),
        zero_count: value.zero,
        count,
        sum_ns: value.sum_ns,
    })
}

impl Probes {
    /// What the probes have cost so far.
    pub fn costs(&self) -> Result<Vec<CostRow>, ProbeError> {
        cost::read(&self.maps.costs, self.way_of_calls)
    }

    /// Reads everything: threads first, because their sum is tied to an instant, then the rows.
    pub fn snapshot(&mut self) -> Result<Snapshot, ProbeError> {
        self.snapshots += 1;
        let (monotonic_ns, threads) = self.read_threads()?;
        let others = self.read_others()?;
        let mut io = Vec::with_capacity(self.changed.len());
        let Self { maps, changed, snapshots, .. } = self;
        maps.io.for_each(|key, copies| {
            let Some(row) = io_row(&key, copies) else { return };
            let seen = changed.entry(key).or_insert((row.operations, *snapshots));
            if seen.0 != row.operations {
                *seen = (row.operations, *snapshots);
            }
            io.push(row);
        })?;
        maps.overflow.for_each(|key, copies| io.extend(overflow_row(key, copies)))?;
        let mut durations = Vec::new();
        maps.durations.for_each(|key, values| {
            durations.extend(values.first().and_then(|value| duration_row(&key, value)));
        })?;
        let mut device = Vec::new();
        maps.device.for_each(|key, values| {
            device.extend(values.first().and_then(|value| device_row(&key, value)));
        })?;
        let mut write_back = Vec::new();
        maps.write_back.for_each(|host, values| {
            write_back.extend(values.first().map(|value| WriteBackRow {
                file: value.file,
                host,
                operations: value.operations,
                bytes: value.bytes,
                time_ns: value.time_ns,
            }));
        })?;
        let mut lost = Vec::with_capacity(LOST_REASONS.len() + 2);
        for (index, reason) in (0_u32..).zip(LOST_REASONS) {
            let copies = maps.lost.copies(&index)?.unwrap_or_default();
            let given_up = match reason {
                REQUEST_UNFINISHED => self.given_up,
                BIO_UNFINISHED => self.given_up_bios,
                _ => 0,
            };
            lost.push((reason, copies.iter().sum::<u64>() + given_up));
        }
        lost.push(("probe skipped", self.skipped()));
        lost.push(("row swept while written", self.swept_operations));
        let exited = self.accounts.iter().filter(|(_, account)| account.exited);
        let exited_threads = exited.map(|(tid, _)| *tid).collect();
        Ok(Snapshot {
            monotonic_ns,
            io,
            threads,
            exited_threads,
            durations,
            others,
            device,
            write_back,
            removals: self.removals,
            lost,
            costs: self.costs()?,
        })
    }
}
