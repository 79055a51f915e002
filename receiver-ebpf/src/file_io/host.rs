//! Points that are the host's and no server's: the maps and the probes are shared.

use blameio_pipeline::{
    attribute::{LOST_REASON, PROBE_TRACEPOINT},
    machine::host_resource,
    metrics::{MetricsBuilder, PointTime, key_value},
    signal,
};

use super::emit::{SCOPE, integer};
use crate::{CostRow, Snapshot};

/// The reason of a loss that only user space knows.
const DETACHED: &str = "probes detached";

/// What was lost, and what the probes cost.
pub(super) fn points(snapshot: &Snapshot, time: PointTime) -> MetricsBuilder {
    let mut builder = MetricsBuilder::new(host_resource(), SCOPE);
    for (reason, count) in &snapshot.lost {
        builder.point(&signal::FILE_LOST, integer(*count), vec![key_value(LOST_REASON, *reason)], time);
    }
    for row in &snapshot.costs {
        let tracepoint = || vec![key_value(PROBE_TRACEPOINT, row.tracepoint)];
        builder.point(&signal::PROBE_TIME, row.seconds, tracepoint(), time);
        builder.point(&signal::PROBE_RUNS, integer(row.runs), tracepoint(), time);
    }
    builder
}

/// That there are no probes any more.
pub(super) fn detached(time: PointTime) -> MetricsBuilder {
    let mut builder = MetricsBuilder::new(host_resource(), SCOPE);
    builder.point(&signal::FILE_LOST, 1_i64, vec![key_value(LOST_REASON, DETACHED)], time);
    builder
}

/// The end of what is no longer measured.
pub(super) fn ended(costs: &[CostRow], time: PointTime) -> MetricsBuilder {
    let mut builder = MetricsBuilder::new(host_resource(), SCOPE);
    for row in costs {
        for metric in [&signal::PROBE_TIME, &signal::PROBE_RUNS] {
            builder.ended(metric, vec![key_value(PROBE_TRACEPOINT, row.tracepoint)], time);
        }
    }
    builder
}
