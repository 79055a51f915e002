//! What was measured, as OTLP points.

use std::time::SystemTime;

use blameio_databases::{ReplicaInfo, ReplicaSample};
use blameio_pipeline::{
    ServerIdentity,
    attribute::{
        LAG_FRESHNESS, LAG_SOURCE, LAG_STAGE, REPLICATION_CHANNEL, REPLICATION_SLOT, REPLICATION_STATE,
        REPLICATION_TIMELINE, REPLICATION_UPSTREAM, SERVER_ADDRESS, SERVER_PORT,
    },
    metrics::{MetricsBuilder, PointTime, key_value, unix_nano},
    signal,
};
use opentelemetry_proto::tonic::{common::v1::KeyValue, metrics::v1::ResourceMetrics};

use super::{
    lag::{Lag, Stages},
    waits::{WaitKey, Waits},
    work::{TimePoint, WorkPoint},
};

const SCOPE: &str = "blameio/replication";

/// State of replication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// A stream is open.
    Streaming,
    /// Log comes from an archive, or not at all.
    Archive,
    /// Replay was told to stop.
    Paused,
    /// Replay keeps a delay that it was told to keep.
    Delayed,
    /// The server does not answer.
    Down,
    /// The server is no replica.
    Promoted,
}

impl Status {
    const ALL: [Self; 6] =
        [Self::Streaming, Self::Archive, Self::Paused, Self::Delayed, Self::Down, Self::Promoted];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Streaming => "streaming",
            Self::Archive => "archive",
            Self::Paused => "paused",
            Self::Delayed => "delayed",
            Self::Down => "down",
            Self::Promoted => "promoted",
        }
    }

    /// The one state that says most about what was seen.
    pub(super) fn of(sample: Option<&ReplicaSample>, info: &ReplicaInfo) -> Self {
        match sample {
            None => Self::Down,
            Some(sample) if !sample.in_recovery => Self::Promoted,
            Some(sample) if sample.paused => Self::Paused,
            Some(_) if !info.streaming => Self::Archive,
            Some(_) if !info.intended_delay.is_zero() => Self::Delayed,
            Some(_) => Self::Streaming,
        }
    }
}

/// Series of a report that the next one may be without; they are ended then.
#[derive(Debug, Default)]
pub(super) struct Told {
    info: Option<Vec<KeyValue>>,
    transport: bool,
    backlog: bool,
}

/// What one collection found.
pub(super) struct Report<'a> {
    /// Whose it is.
    pub(super) identity: &'a ServerIdentity,
    /// When it was measured.
    pub(super) at: SystemTime,
    /// Since when the cumulative sums count.
    pub(super) start: SystemTime,
    /// The lag; `None` on a server that is no replica, and before anything is known.
    pub(super) lag: Option<Lag>,
    /// Bytes received and not applied, where that is known.
    pub(super) backlog: Option<u64>,
    /// Bytes received since the start, where there ever was a stream; `None` while the server does not answer.
    pub(super) received: Option<u64>,
    /// Bytes applied since the start, likewise.
    pub(super) applied: Option<u64>,
    /// What changes rarely.
    pub(super) info: &'a ReplicaInfo,
    /// Time waited.
    pub(super) waits: &'a Waits,
    /// Rows of it that are no more.
    pub(super) ended_waits: Vec<WaitKey>,
    /// Work that the log asks for, as far as it changed.
    pub(super) work: Vec<WorkPoint>,
    /// Time at it, as far as it changed.
    pub(super) work_times: Vec<TimePoint>,
    /// The state.
    pub(super) status: Status,
}

/// The points of a report, and the ends of what the one before told and this one does not.
pub(super) fn report(report: &Report<'_>, told: &mut Told) -> ResourceMetrics {
    let Report {
        identity,
        at,
        start,
        lag,
        backlog,
        received,
        applied,
        info,
        waits,
        ended_waits,
        work,
        work_times,
        status,
    } = report;
    let base = vec![
        key_value(SERVER_ADDRESS, identity.address.as_str()),
        key_value(SERVER_PORT, i64::from(identity.port)),
        // A physical replica has one channel, without a name.
        key_value(REPLICATION_CHANNEL, ""),
    ];
    let with = |more: Vec<KeyValue>| base.iter().cloned().chain(more).collect::<Vec<_>>();
    let now = PointTime { start: 0, at: unix_nano(*at) };
    let sum = PointTime { start: unix_nano(*start).min(now.at), at: now.at };
    let mut builder = MetricsBuilder::new(identity.resource(), SCOPE);
    let before = std::mem::replace(
        told,
        Told {
            info: lag.as_ref().map(|lag| info_attributes(lag, info)),
            transport: lag.is_some_and(|lag| lag.transport.is_some()),
            backlog: backlog.is_some(),
        },
    );
    let stage = |stage: &str| with(vec![key_value(LAG_STAGE, stage)]);
    if let Some(lag) = lag {
        // The delay that the operator asked for is told beside the lag, not inside it.
        let Stages { total, transport, apply } = lag.stages(info.intended_delay);
        builder.point(&signal::REPLICATION_LAG, total, base.clone(), now);
        builder.point(&signal::REPLICATION_STAGE_LAG, apply, stage("apply"), now);
        if let Some(transport) = transport {
            builder.point(&signal::REPLICATION_STAGE_LAG, transport, stage("transport"), now);
        }
    }
    if let Some(told) = &told.info {
        builder.point(&signal::REPLICATION_INFO, 1_i64, with(told.clone()), now);
    }
    if let Some(before) = before.info.filter(|before| Some(before) != told.info.as_ref()) {
        // What was true before is not true beside what is true now.
        builder.ended(&signal::REPLICATION_INFO, with(before), now);
    }
    if *status == Status::Promoted {
        // A server that is no replica has no lag, rather than one of zero or its last.
        builder.ended(&signal::REPLICATION_LAG, base.clone(), now);
        builder.ended(&signal::REPLICATION_STAGE_LAG, stage("apply"), now);
    }
    if *status == Status::Promoted || (before.transport && !told.transport) {
        builder.ended(&signal::REPLICATION_STAGE_LAG, stage("transport"), now);
    }
    builder.point(&signal::REPLICATION_DELAY_INTENDED, info.intended_delay.as_secs_f64(), base.clone(), now);
    for state in Status::ALL {
        let value = i64::from(state == *status);
        builder.point(
            &signal::REPLICATION_STATUS,
            value,
            with(vec![key_value(REPLICATION_STATE, state.as_str())]),
            now,
        );
    }
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    if let Some(backlog) = backlog {
        builder.point(&signal::REPLICATION_LAG_BYTES, bytes(*backlog), base.clone(), now);
    } else if before.backlog {
        builder.ended(&signal::REPLICATION_LAG_BYTES, base.clone(), now);
    }
    for (metric, count) in
        [(&signal::REPLICATION_RECEIVED, received), (&signal::REPLICATION_APPLIED, applied)]
    {
        if let Some(count) = count {
            builder.point(metric, bytes(*count), base.clone(), sum);
        }
    }
    for (key, waited, start) in waits.rows() {
        let time = PointTime { start: unix_nano(start).min(now.at), at: now.at };
        builder.point(&signal::REPLICATION_WAIT_TIME, waited.as_secs_f64(), with(key.attributes()), time);
    }
    for key in ended_waits {
        builder.ended(&signal::REPLICATION_WAIT_TIME, with(key.attributes()), sum);
    }
    at_work(&mut builder, work, work_times, &base, now.at);
    builder.finish()
}

/// Work, and time at it.
fn at_work(
    builder: &mut MetricsBuilder,
    work: &[WorkPoint],
    times: &[TimePoint],
    base: &[KeyValue],
    at: u64,
) {
    for WorkPoint { attributes, value, start } in work {
        let (attributes, time) = ([base, attributes].concat(), PointTime { start: *start.min(&at), at });
        match value {
            Some(value) => builder.point(&signal::REPLICATION_WORK, *value, attributes, time),
            None => builder.ended(&signal::REPLICATION_WORK, attributes, time),
        }
    }
    for TimePoint { attributes, value, start } in times {
        let (attributes, time) = ([base, attributes].concat(), PointTime { start: *start.min(&at), at });
        match value {
            Some(value) => builder.point(&signal::REPLICATION_WORK_TIME, *value, attributes, time),
            None => builder.ended(&signal::REPLICATION_WORK_TIME, attributes, time),
        }
    }
}

/// What identifies the series of `blameio.replication.info`.
fn info_attributes(lag: &Lag, info: &ReplicaInfo) -> Vec<KeyValue> {
    let mut attributes = vec![
        key_value(LAG_SOURCE, lag.source.as_str()),
        key_value(LAG_FRESHNESS, if lag.stale { "stale" } else { "fresh" }),
    ];
    if let Some(upstream) = &info.upstream {
        attributes.push(key_value(REPLICATION_UPSTREAM, upstream.as_str()));
    }
    if let Some(slot) = &info.slot {
        attributes.push(key_value(REPLICATION_SLOT, slot.as_str()));
    }
    if let Some(timeline) = info.timeline {
        attributes.push(key_value(REPLICATION_TIMELINE, i64::from(timeline)));
    }
    attributes
}

#[cfg(test)]
mod tests {
    use blameio_pipeline::metrics::{attribute, is_ended, number, number_points};
    use opentelemetry_proto::tonic::metrics::v1::NumberDataPoint;
    use uuid::Uuid;

    use super::*;
    use crate::replication::lag::Source;

    fn told(lag: Option<Lag>, backlog: Option<u64>, told: &mut Told) -> ResourceMetrics {
        let identity = ServerIdentity {
            instance_id: Uuid::nil(),
            service_name: "orders".to_owned(),
            system: "postgresql",
            address: "db7".to_owned(),
            port: 5432,
            host_name: "db7".to_owned(),
            host_id: None,
        };
        let at = SystemTime::now();
        let (info, waits) = (ReplicaInfo::default(), Waits::new(at));
        let (ended_waits, work, work_times) = (Vec::new(), Vec::new(), Vec::new());
        let (identity, info, waits, status) = (&identity, &info, &waits, Status::Streaming);
        let (received, applied) = (None, None);
        let report_of = Report {
            identity,
            at,
            start: at,
            lag,
            backlog,
            received,
            applied,
            info,
            waits,
            ended_waits,
            work,
            work_times,
            status,
        };
        report(&report_of, told)
    }

    fn points(resource: &ResourceMetrics, metric: &signal::Metric) -> Vec<NumberDataPoint> {
        let metrics = resource.scope_metrics.iter().flat_map(|scope| &scope.metrics);
        metrics
            .filter(|found| found.name == metric.name)
            .flat_map(|found| number_points(found).to_vec())
            .collect()
    }

    #[test]
    fn transport_and_backlog_that_are_not_known_any_more_are_ended_and_not_left_standing() {
        let mut before = Told::default();
        let mut told = |known: Option<u64>| {
            let transport = known.map(|bytes| bytes as f64);
            let lag = Lag { total: 30.0, transport, source: Source::Primary, stale: false };
            let resource = told(Some(lag), known, &mut before);
            let mut found = points(&resource, &signal::REPLICATION_STAGE_LAG);
            found.retain(|point| attribute(&point.attributes, LAG_STAGE) == Some("transport"));
            found.extend(points(&resource, &signal::REPLICATION_LAG_BYTES));
            found.iter().map(|point| (number(point), is_ended(point.flags))).collect::<Vec<_>>()
        };
        assert_eq!(told(Some(7)), [(Some(7.0), false); 2]);
        assert_eq!(told(None), [(None, true); 2]);
        assert_eq!(told(None), []);
    }
}
