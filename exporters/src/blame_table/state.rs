//! What the table shows: the newest lag and blame of each replication channel, and where applying spends its
//! time now.
//!
//! Points with the same timestamp belong together: seconds of one moment are never set against the lag of
//! another.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use blameio_pipeline::{
    attribute::{
        BLAME_CAUSE, DB_INDEX, DB_NAMESPACE, DB_TABLE, FILE_KIND, LAG_SOURCE, REPLICATION_CHANNEL,
        REPLICATION_STATE, SERVER_ADDRESS, SERVICE_NAME, THREAD_STATE, WAIT_KIND,
    },
    metrics::{attribute, is_ended, number, number_points},
    signal::{
        APPLY_TIME, LAG_BLAME, REPLICATION_INFO, REPLICATION_LAG, REPLICATION_STATUS, REPLICATION_WAIT_TIME,
    },
};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest, common::v1::KeyValue, metrics::v1::NumberDataPoint,
};

use super::layout::NOISE;
use crate::value;

/// Moments that are kept of a channel: lag and blame of one moment may come in different batches.
const MAX_FRAMES: usize = 4;
/// Objects of one moment; far more than a table shows and than the agent's own processors let through.
const MAX_ROWS: usize = 10_000;
const MAX_CHANNELS: usize = 1_000;
/// A channel that is silent for this long is no longer shown.
const FORGET: Duration = Duration::from_mins(1);
/// Blame that is this much older than the newest lag is not shown any more, in nanoseconds.
const STALE: u64 = 10_000_000_000;

/// Seconds that one object and cause owe.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Row {
    pub(super) seconds: f64,
    pub(super) cause: String,
    pub(super) namespace: String,
    pub(super) table: String,
    pub(super) index: String,
    pub(super) kind: String,
}

/// All that is shown of one channel.
#[derive(Debug, Default)]
pub(super) struct View {
    /// Nanoseconds since the epoch.
    pub(super) at: u64,
    pub(super) server: String,
    pub(super) channel: String,
    pub(super) lag: f64,
    pub(super) status: Option<String>,
    /// What applying waits for most.
    pub(super) wait: Option<String>,
    pub(super) source: Option<String>,
    pub(super) rows: Vec<Row>,
    /// What holds applying now, with its share of the window; the largest first.
    pub(super) now: Vec<(String, f64)>,
}

#[derive(Debug, Default)]
struct Frame {
    lag: Option<f64>,
    /// By all of their attributes: a point that comes by two roads is one.
    rows: BTreeMap<String, Row>,
}

/// A cumulative series and its value when it was last shown.
#[derive(Debug)]
struct Growth {
    label: String,
    shown: f64,
    latest: f64,
}

#[derive(Debug)]
struct Channel {
    frames: BTreeMap<u64, Frame>,
    status: Option<String>,
    source: Option<String>,
    apply: HashMap<String, Growth>,
    waits: HashMap<String, Growth>,
    seen: Instant,
}

/// Channels by server and name.
#[derive(Debug, Default)]
pub(super) struct State {
    channels: BTreeMap<(String, String), Channel>,
    fresh: bool,
}

impl State {
    /// Takes what is shown out of a request; returns how many points that were.
    pub(super) fn take(&mut self, request: &ExportMetricsServiceRequest, now: Instant) -> usize {
        let mut taken = 0;
        for resource in &request.resource_metrics {
            let attributes = resource.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
            let service = attribute(attributes, SERVICE_NAME);
            for metric in resource.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
                for point in number_points(metric) {
                    let server =
                        service.or_else(|| attribute(&point.attributes, SERVER_ADDRESS)).unwrap_or("server");
                    taken += usize::from(self.point(server, &metric.name, point, now));
                }
            }
        }
        taken
    }

    fn point(&mut self, server: &str, metric: &str, point: &NumberDataPoint, now: Instant) -> bool {
        let shown = [
            REPLICATION_LAG,
            LAG_BLAME,
            APPLY_TIME,
            REPLICATION_STATUS,
            REPLICATION_INFO,
            REPLICATION_WAIT_TIME,
        ];
        if !shown.iter().any(|shown| shown.name == metric) {
            return false;
        }
        let key = (server.to_owned(), text(&point.attributes, REPLICATION_CHANNEL));
        if self.channels.len() >= MAX_CHANNELS && !self.channels.contains_key(&key) {
            return false;
        }
        let channel = self.channels.entry(key).or_insert_with(|| Channel::new(now));
        channel.seen = now;
        self.fresh |= channel.point(metric, point);
        true
    }

    /// What is to be shown, unless nothing is new since the last call.
    pub(super) fn views(&mut self, now: Instant) -> Vec<View> {
        self.channels.retain(|_, channel| now.saturating_duration_since(channel.seen) < FORGET);
        if !std::mem::take(&mut self.fresh) {
            return Vec::new();
        }
        let views =
            self.channels.iter_mut().filter_map(|((server, name), channel)| channel.view(server, name));
        views.collect()
    }
}

impl Channel {
    fn new(seen: Instant) -> Self {
        Self {
            frames: BTreeMap::new(),
            status: None,
            source: None,
            apply: HashMap::new(),
            waits: HashMap::new(),
            seen,
        }
    }

    /// Takes a point; returns whether there is something new to show.
    fn point(&mut self, metric: &str, point: &NumberDataPoint) -> bool {
        let attributes = &point.attributes;
        let value = number(point).filter(|_| !is_ended(point.flags));
        if metric == APPLY_TIME.name {
            grow(&mut self.apply, attributes, holder(attributes), value);
        } else if metric == REPLICATION_WAIT_TIME.name {
            grow(&mut self.waits, attributes, text(attributes, WAIT_KIND), value);
        } else if metric == REPLICATION_STATUS.name {
            if value.is_some_and(|value| value > 0.0) {
                self.status = Some(text(attributes, REPLICATION_STATE));
            }
        } else if metric == REPLICATION_INFO.name {
            if value.is_some() {
                self.source = attribute(attributes, LAG_SOURCE).map(str::to_owned);
            }
        } else if let Some(value) = value {
            return self.frame(metric, point.time_unix_nano, value, attributes);
        } else if metric == REPLICATION_LAG.name {
            self.frames.clear();
        }
        false
    }

    fn frame(&mut self, metric: &str, at: u64, value: f64, attributes: &[KeyValue]) -> bool {
        let oldest = self.frames.keys().next().copied().unwrap_or(0);
        if self.frames.len() >= MAX_FRAMES && at < oldest {
            return false;
        }
        let frame = self.frames.entry(at).or_default();
        if metric == REPLICATION_LAG.name {
            frame.lag = Some(value);
        } else if frame.rows.len() < MAX_ROWS {
            let row = Row {
                seconds: value,
                cause: text(attributes, BLAME_CAUSE),
                namespace: text(attributes, DB_NAMESPACE),
                table: text(attributes, DB_TABLE),
                index: text(attributes, DB_INDEX),
                kind: text(attributes, FILE_KIND),
            };
            frame.rows.insert(value::pairs(attributes), row);
        }
        if self.frames.len() > MAX_FRAMES {
            self.frames.pop_first();
        }
        true
    }

    fn view(&mut self, server: &str, channel: &str) -> Option<View> {
        let newest = self.frames.iter().rev().find_map(|(at, frame)| Some((*at, frame.lag?)))?;
        let blamed = self.frames.iter().rev().find_map(|(at, frame)| {
            let recent = newest.0.saturating_sub(*at) <= STALE && !frame.rows.is_empty();
            Some((*at, frame.lag.filter(|_| recent)?, frame.rows.values().cloned().collect::<Vec<_>>()))
        });
        let (at, lag, mut rows) = blamed.unwrap_or((newest.0, newest.1, Vec::new()));
        rows.sort_by(|a, b| b.seconds.total_cmp(&a.seconds).then_with(|| a.table.cmp(&b.table)));
        let mut holders = growth(&mut self.apply);
        let window: f64 = holders.iter().map(|(_, seconds)| *seconds).sum();
        for (_, share) in &mut holders {
            *share /= window;
        }
        let wait = growth(&mut self.waits).into_iter().next().filter(|(_, seconds)| *seconds >= NOISE);
        Some(View {
            at,
            server: server.to_owned(),
            channel: channel.to_owned(),
            lag,
            status: self.status.clone(),
            wait: wait.map(|(kind, _)| kind),
            source: self.source.clone(),
            rows,
            now: holders,
        })
    }
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    attribute(attributes, key).unwrap_or_default().to_owned()
}

/// What applying is at: `read orders_pkey`, `cpu`.
fn holder(attributes: &[KeyValue]) -> String {
    let object = [DB_INDEX, DB_TABLE]
        .iter()
        .find_map(|key| attribute(attributes, key).filter(|name| !name.is_empty()));
    let kind = attribute(attributes, FILE_KIND).map(|kind| format!("[{kind}]"));
    let words = [attribute(attributes, THREAD_STATE).map(str::to_owned), object.map(str::to_owned).or(kind)];
    words.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn grow(series: &mut HashMap<String, Growth>, attributes: &[KeyValue], label: String, value: Option<f64>) {
    let key = value::pairs(attributes);
    let Some(value) = value else {
        series.remove(&key);
        return;
    };
    if series.len() >= MAX_ROWS && !series.contains_key(&key) {
        return;
    }
    // What had grown before it was seen first says nothing of now.
    let growth = series.entry(key).or_insert(Growth { label, shown: value, latest: value });
    if value < growth.latest {
        growth.shown = 0.0;
    }
    growth.latest = value;
}

/// What has grown since the last call, the largest first.
fn growth(series: &mut HashMap<String, Growth>) -> Vec<(String, f64)> {
    let mut grown: BTreeMap<&str, f64> = BTreeMap::new();
    for growth in series.values_mut() {
        *grown.entry(&growth.label).or_default() += growth.latest - growth.shown;
        growth.shown = growth.latest;
    }
    let mut grown: Vec<_> = grown
        .into_iter()
        .filter(|(_, seconds)| *seconds > 0.0)
        .map(|(label, seconds)| (label.to_owned(), seconds))
        .collect();
    grown.sort_by(|a, b| b.1.total_cmp(&a.1));
    grown
}

#[cfg(test)]
mod tests;
