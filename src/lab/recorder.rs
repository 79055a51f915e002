//! Keeps what the agent said, tick by tick, so that it can be compared with what was injected. It judges nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use blameio_pipeline::{
    Batch, ExportError, Exporter,
    attribute::{
        BLAME_CAUSE, BLAME_CULPRIT, DB_INDEX, DB_TABLE, FILE_KIND, IO_OPERATION, LAG_SOURCE,
        REPLICATION_STATE, SERVER_PORT, SYSTEM_DEVICE, THREAD_ROLE, WAIT_HOLDER,
    },
    metrics::{attribute, integer_attribute, is_ended, number, number_points},
    signal,
};
use opentelemetry_proto::tonic::{common::v1::KeyValue, metrics::v1::ResourceMetrics};
use tokio::sync::watch;

/// One row of blame.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// `blameio.blame.cause`.
    pub cause: String,
    /// `db.table`.
    pub table: Option<String>,
    /// `db.index`.
    pub index: Option<String>,
    /// `blameio.file.kind`.
    pub kind: Option<String>,
    /// `blameio.thread.role`.
    pub role: Option<String>,
    /// `blameio.blame.culprit`.
    pub culprit: Option<String>,
    /// Seconds owed.
    pub seconds: f64,
}

/// Lag and blame of one server at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Tick {
    /// The points' own time.
    pub at: SystemTime,
    /// Port of the server.
    pub port: i64,
    /// The lag in seconds.
    pub lag: f64,
    /// Who owes it, most first.
    pub rows: Vec<Row>,
}

impl Tick {
    /// What the rows sum to.
    pub fn sum(&self) -> f64 {
        self.rows.iter().map(|row| row.seconds).sum()
    }

    /// Rows that say the same in one, most first.
    #[must_use]
    pub fn merged(mut self) -> Self {
        let mut rows: Vec<Row> = Vec::new();
        for row in self.rows {
            let same = |other: &&mut Row| {
                Row { seconds: 0.0, ..(**other).clone() } == Row { seconds: 0.0, ..row.clone() }
            };
            match rows.iter_mut().find(same) {
                Some(other) => other.seconds += row.seconds,
                None => rows.push(row),
            }
        }
        rows.sort_by(|left, right| right.seconds.total_cmp(&left.seconds));
        self.rows = rows;
        self
    }

    /// Seconds owed to nobody in particular.
    pub fn unknown(&self) -> f64 {
        self.rows.iter().filter(|row| row.cause == "unknown").map(|row| row.seconds).sum()
    }
}

#[derive(Debug, Default)]
struct Records {
    ticks: Vec<Tick>,
    bytes: BTreeMap<(String, String, String, String), f64>,
    devices: BTreeMap<(String, String, String, String), f64>,
    holders: Vec<i64>,
    sources: Vec<String>,
    states: BTreeMap<i64, String>,
    ended: BTreeSet<i64>,
    /// Rows of blame that were told and not ended, by port.
    shown: BTreeMap<i64, BTreeSet<String>>,
}

/// An exporter that remembers.
#[derive(Debug)]
pub struct Recorder {
    records: Mutex<Records>,
    ticks: watch::Sender<usize>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { records: Mutex::default(), ticks: watch::channel(0).0 }
    }
}

impl Recorder {
    fn records(&self) -> std::sync::MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every tick so far, oldest first.
    pub fn ticks(&self) -> Vec<Tick> {
        self.records().ticks.clone()
    }

    /// Processes that were named as holding what replay waited for.
    pub fn holders(&self) -> Vec<i64> {
        self.records().holders.clone()
    }

    /// What the lag was measured with, in the order in which it was first said.
    pub fn sources(&self) -> Vec<String> {
        self.records().sources.clone()
    }

    /// Cumulative bytes moved through files of whatever object, by (table, index, role, operation).
    pub fn bytes(&self) -> BTreeMap<(String, String, String, String), f64> {
        self.records().bytes.clone()
    }

    /// Cumulative seconds in flight on devices, by (device, culprit or table, index, role).
    pub fn devices(&self) -> BTreeMap<(String, String, String, String), f64> {
        self.records().devices.clone()
    }

    /// The replication state of the server on a port, as last told.
    pub fn state(&self, port: i64) -> Option<String> {
        self.records().states.get(&port).cloned()
    }

    /// Whether the lag of the server on a port was ended and has not come back.
    pub fn lag_is_ended(&self, port: i64) -> bool {
        self.records().ended.contains(&port)
    }

    /// How many rows of blame of the server on a port stand: told, and not ended since.
    pub fn shown_blame(&self, port: i64) -> usize {
        self.records().shown.get(&port).map_or(0, BTreeSet::len)
    }

    /// Waits until a tick satisfies the condition; `false` when none did in time.
    pub async fn wait_for(&self, deadline: Duration, mut condition: impl FnMut(&Tick) -> bool) -> bool {
        let mut changes = self.ticks.subscribe();
        let mut seen = self.records().ticks.len();
        let wait = async {
            loop {
                let ticks = self.records().ticks[seen..].to_vec();
                seen += ticks.len();
                if ticks.iter().any(&mut condition) {
                    return;
                }
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(deadline, wait).await.is_ok()
    }

    fn take(&self, resource: &ResourceMetrics) {
        let mut tick: Option<Tick> = None;
        let mut rows = Vec::new();
        let mut records = self.records();
        for metric in resource.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
            for point in number_points(metric) {
                let attributes = &point.attributes;
                let port = integer_attribute(attributes, SERVER_PORT).unwrap_or_default();
                if metric.name == signal::REPLICATION_LAG.name && is_ended(point.flags) {
                    records.ended.insert(port);
                }
                if metric.name == signal::LAG_BLAME.name {
                    let shown = records.shown.entry(port).or_default();
                    let row = format!("{:?}", row(attributes, 0.0));
                    if is_ended(point.flags) {
                        shown.remove(&row)
                    } else {
                        shown.insert(row)
                    };
                }
                let Some(value) = number(point) else { continue };
                let text = |key| attribute(attributes, key).unwrap_or_default().to_owned();
                if metric.name == signal::REPLICATION_LAG.name {
                    records.ended.remove(&port);
                    let next = Tick {
                        at: UNIX_EPOCH + Duration::from_nanos(point.time_unix_nano),
                        port,
                        lag: value,
                        rows: Vec::new(),
                    };
                    // Two ticks that became due together come in one resource each, after each other.
                    tick = Some(next);
                } else if metric.name == signal::LAG_BLAME.name {
                    rows.push(row(attributes, value));
                } else if metric.name == signal::FILE_IO.name {
                    let key = (text(DB_TABLE), text(DB_INDEX), text(THREAD_ROLE), text(IO_OPERATION));
                    records.bytes.insert(key, value);
                } else if metric.name == signal::DEVICE_TIME.name {
                    let who = text(BLAME_CULPRIT) + &text(DB_TABLE);
                    let key = (text(SYSTEM_DEVICE), who, text(DB_INDEX), text(THREAD_ROLE));
                    records.devices.insert(key, value);
                } else if metric.name == signal::REPLICATION_STATUS.name && value > 0.0 {
                    records.states.insert(port, text(REPLICATION_STATE));
                } else if metric.name == signal::REPLICATION_WAIT_TIME.name {
                    records.holders.extend(integer_attribute(attributes, WAIT_HOLDER));
                } else if metric.name == signal::REPLICATION_INFO.name {
                    let source = attribute(attributes, LAG_SOURCE).unwrap_or_default().to_owned();
                    if !records.sources.contains(&source) {
                        records.sources.push(source);
                    }
                }
            }
        }
        if let Some(mut tick) = tick {
            rows.sort_by(|left, right| right.seconds.total_cmp(&left.seconds));
            tick.rows = rows;
            records.ticks.push(tick);
        }
    }
}

fn row(attributes: &[KeyValue], seconds: f64) -> Row {
    let text = |key| attribute(attributes, key).map(str::to_owned);
    Row {
        cause: text(BLAME_CAUSE).unwrap_or_default(),
        table: text(DB_TABLE),
        index: text(DB_INDEX),
        kind: text(FILE_KIND),
        role: text(THREAD_ROLE),
        culprit: text(BLAME_CULPRIT),
        seconds,
    }
}

#[async_trait]
impl Exporter for Recorder {
    async fn export(&self, batch: Batch) -> Result<(), ExportError> {
        let request =
            batch.as_metrics().map_err(|error| ExportError::Permanent { reason: error.to_string() })?;
        for resource in &request.resource_metrics {
            self.take(resource);
        }
        let count = self.records().ticks.len();
        self.ticks.send_replace(count);
        Ok(())
    }
}
