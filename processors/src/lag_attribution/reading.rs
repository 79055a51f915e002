//! Takes out of a batch what the account needs: lag, waits, positions and the critical threads' time. What is taken
//! out is issued again by the account; everything else goes on as it came.

use std::collections::BTreeMap;

use blameio_pipeline::{
    attribute::{
        FILE_PATH, LAG_FRESHNESS, LAG_SOURCE, LAG_STAGE, REPLICATION_CHANNEL, SERVER_ADDRESS, SERVER_PORT,
        SERVICE_INSTANCE_ID, THREAD_ID, THREAD_ROLE, THREAD_STATE, WAIT_KIND,
    },
    metrics::{attribute, integer_attribute, is_ended, number, number_points},
    role::ThreadRole,
    signal,
};
use opentelemetry_proto::tonic::{
    metrics::v1::{Metric, NumberDataPoint, ResourceMetrics},
    resource::v1::Resource,
};

use super::owner::Subject;

/// One lag measurement of one channel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LagReading {
    /// When it was taken, in nanoseconds since the epoch.
    pub at: u64,
    /// The channel.
    pub channel: String,
    /// The lag in seconds.
    pub lag: f64,
    /// The transport stage in seconds, where it is known.
    pub transport: Option<f64>,
    /// What the lag was measured with.
    pub source: String,
    /// Whether it is a held value.
    pub stale: bool,
    /// Position applied, in bytes.
    pub applied: Option<f64>,
    /// Cumulative seconds waited, by kind and relation.
    pub waits: BTreeMap<(String, Subject), f64>,
}

/// One cumulative value of a critical thread's time.
#[derive(Clone, Debug, PartialEq)]
pub struct ThreadPoint {
    /// Thread id.
    pub thread: i64,
    /// cpu, runqueue, read, …
    pub state: String,
    /// File or object.
    pub subject: Subject,
    /// Path of a file that has no better name: two such files are one subject and two counters.
    pub path: String,
    /// Cumulative seconds; `None` when the series has ended.
    pub seconds: Option<f64>,
}

/// What a resource told the account.
#[derive(Debug, Default)]
pub struct Readings {
    /// Channels whose lag has ended, with the time: the server is no replica any more.
    pub ended: Vec<(String, u64)>,
    /// Lag by channel.
    pub lags: Vec<LagReading>,
    /// Time of the thread points, in nanoseconds since the epoch.
    pub threads_at: u64,
    /// The critical threads' time.
    pub threads: Vec<ThreadPoint>,
}

/// The server that a resource describes.
pub fn instance(resource: &Resource) -> Option<&str> {
    attribute(&resource.attributes, SERVICE_INSTANCE_ID)
}

/// `server.address` and `server.port` of a resource.
pub fn address(resource: &Resource) -> (Option<&str>, Option<i64>) {
    (attribute(&resource.attributes, SERVER_ADDRESS), integer_attribute(&resource.attributes, SERVER_PORT))
}

/// Reads a resource, and removes the points that the account will issue itself.
pub fn take(resource: &mut ResourceMetrics) -> Readings {
    let mut readings = Readings::default();
    let mut lags: BTreeMap<String, LagReading> = BTreeMap::new();
    for scope in &mut resource.scope_metrics {
        scope.metrics.retain(|metric| {
            read(metric, &mut lags, &mut readings);
            metric.name != signal::REPLICATION_LAG.name && metric.name != signal::THREAD_TIME.name
        });
    }
    resource.scope_metrics.retain(|scope| !scope.metrics.is_empty());
    // A channel without a lag point has nothing to account for in this batch.
    readings.lags = lags.into_values().filter(|reading| reading.at > 0).collect();
    readings
}

fn read(metric: &Metric, lags: &mut BTreeMap<String, LagReading>, readings: &mut Readings) {
    let name = metric.name.as_str();
    if name == signal::THREAD_TIME.name {
        for point in number_points(metric) {
            readings.threads.extend(thread_point(point));
            readings.threads_at = readings.threads_at.max(point.time_unix_nano);
        }
        return;
    }
    let known = [
        signal::REPLICATION_LAG,
        signal::REPLICATION_STAGE_LAG,
        signal::REPLICATION_INFO,
        signal::REPLICATION_APPLIED,
        signal::REPLICATION_WAIT_TIME,
    ];
    if !known.iter().any(|known| known.name == name) {
        return;
    }
    for point in number_points(metric) {
        let channel = attribute(&point.attributes, REPLICATION_CHANNEL).unwrap_or_default();
        if name == signal::REPLICATION_LAG.name && is_ended(point.flags) {
            readings.ended.push((channel.to_owned(), point.time_unix_nano));
        } else if let Some(value) = number(point) {
            let reading = lags
                .entry(channel.to_owned())
                .or_insert_with(|| LagReading { channel: channel.to_owned(), ..LagReading::default() });
            read_point(name, point, value, reading);
        }
    }
}

fn read_point(name: &str, point: &NumberDataPoint, value: f64, reading: &mut LagReading) {
    let text = |key| attribute(&point.attributes, key);
    if name == signal::REPLICATION_LAG.name {
        reading.at = point.time_unix_nano;
        reading.lag = value;
    } else if name == signal::REPLICATION_STAGE_LAG.name {
        if text(LAG_STAGE) == Some("transport") {
            reading.transport = Some(value);
        }
    } else if name == signal::REPLICATION_INFO.name {
        text(LAG_SOURCE).unwrap_or_default().clone_into(&mut reading.source);
        reading.stale = text(LAG_FRESHNESS) == Some("stale");
    } else if name == signal::REPLICATION_APPLIED.name {
        reading.applied = Some(value);
    } else if name == signal::REPLICATION_WAIT_TIME.name {
        let kind = text(WAIT_KIND).unwrap_or_default().to_owned();
        *reading.waits.entry((kind, Subject::of(&point.attributes))).or_default() += value;
    }
}

fn thread_point(point: &NumberDataPoint) -> Option<ThreadPoint> {
    if attribute(&point.attributes, THREAD_ROLE) != Some(ThreadRole::Apply.as_str()) {
        return None;
    }
    Some(ThreadPoint {
        thread: integer_attribute(&point.attributes, THREAD_ID)?,
        state: attribute(&point.attributes, THREAD_STATE)?.to_owned(),
        subject: Subject::of(&point.attributes),
        path: attribute(&point.attributes, FILE_PATH).unwrap_or_default().to_owned(),
        seconds: if is_ended(point.flags) { None } else { number(point) },
    })
}
