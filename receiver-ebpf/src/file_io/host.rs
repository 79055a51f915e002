//! Points that are the host's and no server's: the maps and the probes are shared.

use blameio_pipeline::{
    attribute::{HOST_NAME, LOST_REASON, PROBE_TRACEPOINT},
    machine::host_name,
    metrics::{MetricsBuilder, PointTime, key_value},
    signal,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;

use super::emit::integer;
use crate::{CostRow, Snapshot};

/// The reason of a loss that only user space knows.
const DETACHED: &str = "probes detached";

/// What was lost, and what the probes cost.
pub(super) fn points(snapshot: &Snapshot, time: PointTime, builder: &mut MetricsBuilder) {
    for (reason, count) in &snapshot.lost {
        builder.point(&signal::FILE_LOST, integer(*count), attributes(LOST_REASON, reason), time);
    }
    for row in &snapshot.costs {
        let tracepoint = || attributes(PROBE_TRACEPOINT, row.tracepoint);
        builder.point(&signal::PROBE_TIME, row.seconds, tracepoint(), time);
        builder.point(&signal::PROBE_RUNS, integer(row.runs), tracepoint(), time);
    }
}

/// That there are no probes any more.
pub(super) fn detached(time: PointTime, builder: &mut MetricsBuilder) {
    builder.point(&signal::FILE_LOST, 1_i64, attributes(LOST_REASON, DETACHED), time);
}

/// The end of what is no longer measured.
pub(super) fn ended(costs: &[CostRow], time: PointTime, builder: &mut MetricsBuilder) {
    for row in costs {
        for metric in [&signal::PROBE_TIME, &signal::PROBE_RUNS] {
            builder.ended(metric, attributes(PROBE_TRACEPOINT, row.tracepoint), time);
        }
    }
}

fn attributes(key: &str, value: &str) -> Vec<KeyValue> {
    of_host([key_value(key, value)])
}

/// With the host, for who drops the attributes of resources.
pub(super) fn of_host(attributes: impl IntoIterator<Item = KeyValue>) -> Vec<KeyValue> {
    std::iter::once(key_value(HOST_NAME, host_name())).chain(attributes).collect()
}
