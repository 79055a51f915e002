//! The table of metric names: name, unit, kind and meaning in one place. Docs and tests are made from it.

/// How a metric's points behave over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A value of now.
    Gauge,
    /// A cumulative sum that only grows.
    Sum,
    /// A cumulative base-2 exponential histogram.
    ExponentialHistogram,
}

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Name, without unit and without `_total`.
    pub name: &'static str,
    /// UCUM unit.
    pub unit: &'static str,
    /// Gauge, sum or histogram.
    pub kind: Kind,
    /// What a point means.
    pub description: &'static str,
    /// Attributes a point may have beside the server's.
    pub attributes: &'static [&'static str],
}

macro_rules! metrics {
    ($($(#[doc = $doc:literal])+ $constant:ident = $name:literal, $unit:literal, $kind:ident, [$($attribute:ident),*];)*) => {
        $($(#[doc = $doc])+ pub const $constant: Metric = Metric {
            name: $name,
            unit: $unit,
            kind: Kind::$kind,
            description: concat!($($doc),+),
            attributes: &[$(crate::attribute::$attribute),*],
        };)*
        /// Every metric of the agent's own.
        pub const ALL: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    /// Bytes moved through a file, whether or not they reached the device.
    FILE_IO = "blameio.file.io", "By", Sum, [DB_NAMESPACE, DB_TABLE, DB_INDEX, FILE_KIND, FILE_PATH, THREAD_ROLE, IO_OPERATION];
    /// Operations done on a file.
    FILE_OPERATIONS = "blameio.file.operations", "{operation}", Sum, [DB_NAMESPACE, DB_TABLE, DB_INDEX, FILE_KIND, FILE_PATH, THREAD_ROLE, IO_OPERATION];
    /// Operations on a file that failed.
    FILE_ERRORS = "blameio.file.errors", "{operation}", Sum, [DB_NAMESPACE, DB_TABLE, DB_INDEX, FILE_KIND, FILE_PATH, THREAD_ROLE, IO_OPERATION];
    /// Time operations on a file were in flight, from entry to return.
    FILE_OPERATION_TIME = "blameio.file.operation.time", "s", Sum, [DB_NAMESPACE, DB_TABLE, DB_INDEX, FILE_KIND, FILE_PATH, THREAD_ROLE, IO_OPERATION];
    /// Distribution of the time that single operations on a file were in flight.
    FILE_OPERATION_DURATION = "blameio.file.operation.duration", "s", ExponentialHistogram, [DB_NAMESPACE, DB_TABLE, DB_INDEX, FILE_KIND, FILE_PATH, IO_OPERATION];
    /// Bytes of a file that reached the device: page-cache fills, write-back and direct I/O.
    FILE_DISK_IO = "blameio.file.disk.io", "By", Sum, [DB_NAMESPACE, DB_TABLE, DB_INDEX, FILE_KIND, FILE_PATH, THREAD_ROLE, DISK_IO_DIRECTION];
    /// Time that I/O was in flight on a device: of files of watched servers by object, of everyone else by culprit.
    DEVICE_TIME = "blameio.device.time", "s", Sum, [SYSTEM_DEVICE, BLAME_CULPRIT, THREAD_ID, THREAD_ROLE, DB_NAMESPACE, DB_TABLE, DB_INDEX, FILE_KIND, FILE_PATH];
    /// Operations that reached a device.
    DEVICE_OPERATIONS = "blameio.device.operations", "{operation}", Sum, [SYSTEM_DEVICE, BLAME_CULPRIT, THREAD_ID, THREAD_ROLE, DB_NAMESPACE, DB_TABLE, DB_INDEX, FILE_KIND, FILE_PATH];
    /// Wall time of a thread that replication waits for, by exclusive state; sums to the window.
    THREAD_TIME = "blameio.thread.time", "s", Sum, [THREAD_ID, THREAD_ROLE, THREAD_STATE, SYSTEM_DEVICE, DB_NAMESPACE, DB_TABLE, DB_INDEX, FILE_KIND, FILE_PATH];
    /// What was not counted, and why.
    FILE_LOST = "blameio.file.lost", "{event}", Sum, [LOST_REASON];
    /// Processor time that the probes take from whoever passes a tracepoint; an estimate, one run in a thousand is timed.
    PROBE_TIME = "blameio.probe.time", "s", Sum, [PROBE_TRACEPOINT];
    /// How often a tracepoint with a probe was passed.
    PROBE_RUNS = "blameio.probe.runs", "{run}", Sum, [PROBE_TRACEPOINT];
    /// Age of the oldest change that the primary has made durable and this replica has not applied.
    REPLICATION_LAG = "blameio.replication.lag", "s", Gauge, [REPLICATION_CHANNEL];
    /// The lag's stages; they add up to the lag. Without a source for transport there is no transport series.
    REPLICATION_STAGE_LAG = "blameio.replication.stage.lag", "s", Gauge, [REPLICATION_CHANNEL, LAG_STAGE];
    /// Delay that the server was told to keep; not part of the lag.
    REPLICATION_DELAY_INTENDED = "blameio.replication.delay.intended", "s", Gauge, [REPLICATION_CHANNEL];
    /// Bytes received and not applied.
    REPLICATION_LAG_BYTES = "blameio.replication.lag.bytes", "By", Gauge, [REPLICATION_CHANNEL];
    /// Bytes of log received by a stream and flushed by the replica, since the agent began to watch it. What comes again after a restart and was applied before is not counted again, and what comes from an archive not at all.
    REPLICATION_RECEIVED = "blameio.replication.received", "By", Sum, [REPLICATION_CHANNEL];
    /// Bytes of log applied by the replica, since the agent began to watch it. What is applied again after a crash is counted again.
    REPLICATION_APPLIED = "blameio.replication.applied", "By", Sum, [REPLICATION_CHANNEL];
    /// Time that applying waited, by what it waited for.
    REPLICATION_WAIT_TIME = "blameio.replication.wait.time", "s", Sum, [REPLICATION_CHANNEL, WAIT_KIND, DB_NAMESPACE, DB_TABLE, DB_INDEX, FILE_KIND, WAIT_HOLDER];
    /// Work that log asks of replay. Of PostgreSQL: references of its records to blocks, and relations that its commits remove. Of MySQL and MariaDB: bytes of the rows that its transactions change, read up to 16 MiB before the applier.
    REPLICATION_WORK = "blameio.replication.work", "{item}", Sum, [REPLICATION_CHANNEL, WORK_STAGE, WORK_KIND, DB_NAMESPACE, DB_TABLE, DB_INDEX, FILE_KIND, FILE_PATH];
    /// Time that the SQL thread of MySQL or MariaDB was at a table's changes, as samples of where it stands in the relay log show; without a table, at what names none, as statements do. A transaction's time is shared out by the bytes of its tables' rows.
    REPLICATION_WORK_TIME = "blameio.replication.work.time", "s", Sum, [REPLICATION_CHANNEL, DB_NAMESPACE, DB_TABLE, TABLE_KEY];
    /// 1 for the state that replication is in, 0 for the others.
    REPLICATION_STATUS = "blameio.replication.status", "{state}", Gauge, [REPLICATION_CHANNEL, REPLICATION_STATE];
    /// 1; its attributes tell the upstream, slot, timeline, source of the lag and its freshness.
    REPLICATION_INFO = "blameio.replication.info", "{info}", Gauge, [REPLICATION_CHANNEL, REPLICATION_UPSTREAM, REPLICATION_SLOT, REPLICATION_TIMELINE, LAG_SOURCE, LAG_FRESHNESS];
    /// How long a beat, a row written on a primary, takes to be seen on this replica, or is already missing there. It grows while the link is cut.
    HEARTBEAT_DELAY = "blameio.heartbeat.delay", "s", Gauge, [HEARTBEAT_WRITER, HEARTBEAT_CLOCK];
    /// 1; its attributes tell whether the delay is measured now, and by which clocks.
    HEARTBEAT_INFO = "blameio.heartbeat.info", "{info}", Gauge, [HEARTBEAT_WRITER, HEARTBEAT_CLOCK, LAG_FRESHNESS];
    /// Seconds of the present lag that an object and cause owe; the points of a channel sum to its lag.
    LAG_BLAME = "blameio.lag.blame", "s", Gauge, [REPLICATION_CHANNEL, BLAME_CAUSE, BLAME_CULPRIT, THREAD_ROLE, DB_NAMESPACE, DB_TABLE, DB_INDEX, FILE_KIND];
    /// Seconds ever charged to an object and cause.
    LAG_ACCRUED = "blameio.lag.accrued", "s", Sum, [REPLICATION_CHANNEL, BLAME_CAUSE, BLAME_CULPRIT, THREAD_ROLE, DB_NAMESPACE, DB_TABLE, DB_INDEX, FILE_KIND];
    /// How much less lag there were, had an object and cause cost its normal time: an upper bound.
    LAG_SAVED = "blameio.lag.saved", "s", Gauge, [REPLICATION_CHANNEL, BLAME_CAUSE, BLAME_CULPRIT, THREAD_ROLE, DB_NAMESPACE, DB_TABLE, DB_INDEX, FILE_KIND];
    /// Where the applying thread's time goes, by object and state.
    APPLY_TIME = "blameio.apply.time", "s", Sum, [REPLICATION_CHANNEL, THREAD_STATE, DB_NAMESPACE, DB_TABLE, DB_INDEX, FILE_KIND];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_no_unit_and_no_total() {
        for metric in ALL {
            assert!(metric.name.starts_with("blameio."), "{}", metric.name);
            for suffix in ["total", "seconds", "bytes_total"] {
                assert!(!metric.name.ends_with(suffix), "{}", metric.name);
            }
        }
    }

    #[test]
    fn a_name_stands_in_the_table_once() {
        let mut names: Vec<_> = ALL.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }
}
