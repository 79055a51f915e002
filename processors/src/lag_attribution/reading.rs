//! Takes out of a batch what the account needs: lag, waits, positions and the critical threads' time. What is taken
//! out is issued again by the account; everything else goes on as it came.

use std::collections::BTreeMap;

use blameio_pipeline::{
    attribute::{
        BLAME_CULPRIT, FILE_PATH, HOST_ID, HOST_NAME, IO_OPERATION, LAG_FRESHNESS, LAG_SOURCE, LAG_STAGE,
        REPLICATION_CHANNEL, SERVER_ADDRESS, SERVER_PORT, SERVICE_INSTANCE_ID, SYSTEM_DEVICE, TABLE_KEY,
        THREAD_ID, THREAD_ROLE, THREAD_STATE, WAIT_HOLDER, WAIT_KIND, WORK_KIND, WORK_STAGE,
    },
    metrics::{attribute, integer_attribute, is_ended, number, number_points},
    role::ThreadRole,
    signal,
};
use opentelemetry_proto::tonic::{
    metrics::v1::{Metric, NumberDataPoint, ResourceMetrics, metric::Data},
    resource::v1::Resource,
};

use super::{charges::Doing, owner::Subject, work::Step};

/// So many bytes of rows are one piece of work, as a reference to a block is one.
const BYTES_OF_A_ROW: f64 = 100.0;

/// What was waited for. Each is a counter of its own: the end of one takes nothing from the others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wait {
    /// lock, conflict, paused, …
    pub kind: String,
    /// The relation, where it is known.
    pub subject: Subject,
    /// Process id of whoever is in the way, where it is known.
    pub holder: Option<i64>,
}

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
    /// Cumulative seconds waited.
    pub waits: BTreeMap<Wait, f64>,
    /// What was applied since the measurement before, and what waits.
    pub work: Step,
}

/// One cumulative value of a critical thread's time.
#[derive(Clone, Debug, PartialEq)]
pub struct ThreadPoint {
    /// Thread id.
    pub thread: i64,
    /// What it was doing.
    pub doing: Doing,
    /// Path of a file that has no better name: two such files are one subject and two counters.
    pub path: String,
    /// Cumulative seconds; `None` when the series has ended.
    pub seconds: Option<f64>,
}

/// One cumulative value of the time that applying threads' operations on a file were in flight.
#[derive(Clone, Debug, PartialEq)]
pub struct OperationPoint {
    /// File or object.
    pub subject: Subject,
    /// Path of a file that has no better name.
    pub path: String,
    /// read, write, extend, …
    pub operation: String,
    /// Cumulative seconds; `None` when the series has ended.
    pub seconds: Option<f64>,
}

/// What is measured of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Measure {
    /// Seconds in flight.
    Time,
    /// Operations.
    Operations,
}

/// One cumulative value of somebody's I/O on a device.
#[derive(Clone, Debug, PartialEq)]
pub struct DevicePoint {
    /// What is measured.
    pub measure: Measure,
    /// The device.
    pub device: String,
    /// Who, when it is nobody that is watched.
    pub culprit: Option<String>,
    /// Role of the threads.
    pub role: Option<String>,
    /// The thread, of those that replication waits for.
    pub thread: Option<i64>,
    /// File or object.
    pub subject: Subject,
    /// Path of a file that has no better name.
    pub path: String,
    /// Cumulative value; `None` when the series has ended.
    pub value: Option<f64>,
}

/// One cumulative value of the time that the applying thread was at an object's changes.
#[derive(Clone, Debug, PartialEq)]
pub struct AtWorkPoint {
    /// The channel.
    pub channel: String,
    /// The object; empty where it is not known.
    pub subject: Subject,
    /// Whether it has no key by which a row is found.
    pub without_key: bool,
    /// Cumulative seconds; `None` when the series has ended.
    pub seconds: Option<f64>,
}

/// One cumulative count of work that log asks of replay.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkPoint {
    /// The channel.
    pub channel: String,
    /// Whether applied, or received.
    pub applied: bool,
    /// Whether relations that are dropped, or blocks.
    pub drops: bool,
    /// File or object.
    pub subject: Subject,
    /// Path of a file that has no better name.
    pub path: String,
    /// Cumulative count; `None` when the series has ended.
    pub items: Option<f64>,
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
    /// The applying threads' operations.
    pub operations: Vec<OperationPoint>,
    /// Time of the device points, in nanoseconds since the epoch.
    pub devices_at: u64,
    /// I/O on devices.
    pub devices: Vec<DevicePoint>,
    /// Work in the log.
    pub work: Vec<WorkPoint>,
    /// Time at it.
    pub at_work: Vec<AtWorkPoint>,
}

impl Readings {
    /// Whether there is nothing for a channel in it.
    pub fn is_empty(&self) -> bool {
        self.lags.is_empty() && self.threads.is_empty() && self.ended.is_empty()
    }
}

/// The server that a resource describes.
pub fn instance(resource: &Resource) -> Option<&str> {
    attribute(&resource.attributes, SERVICE_INSTANCE_ID)
}

/// `server.address` and `server.port` of a resource.
pub fn address(resource: &Resource) -> (Option<&str>, Option<i64>) {
    (attribute(&resource.attributes, SERVER_ADDRESS), integer_attribute(&resource.attributes, SERVER_PORT))
}

/// The host that a resource is on: its id, or where that is not known its name.
pub fn host(resource: &Resource) -> &str {
    let text = |key| attribute(&resource.attributes, key).filter(|text| !text.is_empty());
    text(HOST_ID).or_else(|| text(HOST_NAME)).unwrap_or_default()
}

/// Reads a resource, and removes the points that the account will issue itself, or that only it needs.
pub fn take(resource: &mut ResourceMetrics) -> Readings {
    let mut readings = Readings::default();
    let mut lags: BTreeMap<String, LagReading> = BTreeMap::new();
    for scope in &mut resource.scope_metrics {
        scope.metrics.retain_mut(|metric| {
            read(metric, &mut lags, &mut readings);
            remove_threads(metric);
            metric.name != signal::REPLICATION_LAG.name
                && metric.name != signal::THREAD_TIME.name
                && !is_empty_sum(metric)
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
    if let Some(measure) = device_measure(name) {
        for point in number_points(metric) {
            readings.devices.extend(device_point(measure, point));
            readings.devices_at = readings.devices_at.max(point.time_unix_nano);
        }
        return;
    }
    if name == signal::FILE_OPERATION_TIME.name {
        readings.operations.extend(number_points(metric).iter().filter_map(operation_point));
        return;
    }
    if name == signal::REPLICATION_WORK.name {
        readings.work.extend(number_points(metric).iter().filter_map(work_point));
        return;
    }
    if name == signal::REPLICATION_WORK_TIME.name {
        readings.at_work.extend(number_points(metric).iter().map(at_work_point));
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
        let wait = Wait {
            kind: text(WAIT_KIND).unwrap_or_default().to_owned(),
            subject: Subject::of(&point.attributes),
            holder: integer_attribute(&point.attributes, WAIT_HOLDER),
        };
        *reading.waits.entry(wait).or_default() += value;
    }
}

fn device_measure(name: &str) -> Option<Measure> {
    [(signal::DEVICE_TIME, Measure::Time), (signal::DEVICE_OPERATIONS, Measure::Operations)]
        .into_iter()
        .find_map(|(metric, measure)| (metric.name == name).then_some(measure))
}

/// The rows of single threads are in those of their role too, which go on.
fn remove_threads(metric: &mut Metric) {
    if device_measure(&metric.name).is_some()
        && let Some(Data::Sum(sum)) = &mut metric.data
    {
        sum.data_points.retain(|point| integer_attribute(&point.attributes, THREAD_ID).is_none());
    }
}

fn is_empty_sum(metric: &Metric) -> bool {
    matches!(&metric.data, Some(Data::Sum(sum)) if sum.data_points.is_empty())
}

fn is_applying(point: &NumberDataPoint) -> bool {
    attribute(&point.attributes, THREAD_ROLE) == Some(ThreadRole::Apply.as_str())
}

fn owned(point: &NumberDataPoint, key: &str) -> String {
    attribute(&point.attributes, key).unwrap_or_default().to_owned()
}

fn value(point: &NumberDataPoint) -> Option<f64> {
    number(point).filter(|value| !is_ended(point.flags) && value.is_finite())
}

fn thread_point(point: &NumberDataPoint) -> Option<ThreadPoint> {
    if !is_applying(point) {
        return None;
    }
    Some(ThreadPoint {
        thread: integer_attribute(&point.attributes, THREAD_ID)?,
        doing: Doing {
            state: attribute(&point.attributes, THREAD_STATE)?.to_owned(),
            subject: Subject::of(&point.attributes),
            device: owned(point, SYSTEM_DEVICE),
        },
        path: owned(point, FILE_PATH),
        seconds: value(point),
    })
}

fn operation_point(point: &NumberDataPoint) -> Option<OperationPoint> {
    is_applying(point).then(|| OperationPoint {
        subject: Subject::of(&point.attributes),
        path: owned(point, FILE_PATH),
        operation: owned(point, IO_OPERATION),
        seconds: value(point),
    })
}

fn device_point(measure: Measure, point: &NumberDataPoint) -> Option<DevicePoint> {
    let text = |key| attribute(&point.attributes, key).filter(|text| !text.is_empty()).map(str::to_owned);
    Some(DevicePoint {
        measure,
        device: text(SYSTEM_DEVICE)?,
        culprit: text(BLAME_CULPRIT),
        role: text(THREAD_ROLE),
        thread: integer_attribute(&point.attributes, THREAD_ID),
        subject: Subject::of(&point.attributes),
        path: owned(point, FILE_PATH),
        value: value(point),
    })
}

fn at_work_point(point: &NumberDataPoint) -> AtWorkPoint {
    AtWorkPoint {
        channel: owned(point, REPLICATION_CHANNEL),
        subject: Subject::of(&point.attributes),
        without_key: attribute(&point.attributes, TABLE_KEY) == Some("none"),
        seconds: value(point),
    }
}

fn work_point(point: &NumberDataPoint) -> Option<WorkPoint> {
    let (drops, per_item) = match attribute(&point.attributes, WORK_KIND)? {
        "block" => (false, 1.0),
        "drop" => (true, 1.0),
        "row" => (false, BYTES_OF_A_ROW),
        _ => return None,
    };
    let applied = match attribute(&point.attributes, WORK_STAGE)? {
        "applied" => true,
        "received" => false,
        _ => return None,
    };
    Some(WorkPoint {
        channel: owned(point, REPLICATION_CHANNEL),
        applied,
        drops,
        subject: Subject::of(&point.attributes),
        path: owned(point, FILE_PATH),
        items: value(point).map(|items| items / per_item),
    })
}
