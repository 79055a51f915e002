//! What the table shows: the newest lag and blame of each replication channel, and where applying spends its
//! time now.
//!
//! Points with the same timestamp belong together: seconds of one moment are never set against the lag of
//! another.

mod growth;
mod wait;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use blameio_pipeline::{
    attribute::{
        BLAME_CAUSE, BLAME_CULPRIT, DB_INDEX, DB_NAMESPACE, DB_SYSTEM_NAME, DB_TABLE, FILE_KIND,
        LAG_FRESHNESS, LAG_SOURCE, REPLICATION_CHANNEL, REPLICATION_STATE, SERVER_ADDRESS, SERVICE_NAME,
        THREAD_ROLE, THREAD_STATE,
    },
    metrics::{attribute, is_ended, number, number_points},
    signal::{
        APPLY_TIME, LAG_BLAME, REPLICATION_INFO, REPLICATION_LAG, REPLICATION_STATUS, REPLICATION_WAIT_TIME,
    },
};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest, common::v1::KeyValue, metrics::v1::NumberDataPoint,
};

use self::growth::Series;
pub(super) use self::wait::Wait;
use crate::value;

/// Moments that are kept of a channel: lag and blame of one moment may come in different batches.
const MAX_FRAMES: usize = 4;
/// Objects of one moment; far more than a table shows and than the agent's own processors let through.
const MAX_ROWS: usize = 10_000;
const MAX_CHANNELS: usize = 1_000;
/// A channel that is silent for this long is no longer shown.
const FORGET: Duration = Duration::from_mins(1);
/// Blame that is this much older than the newest lag is not shown any more, in nanoseconds. A point that is older
/// still was not late: the clock was set back.
const OLD: u64 = 10_000_000_000;
/// The state of a server that is no replica.
pub(super) const PROMOTED: &str = "promoted";
/// The state of a server that does not answer.
const DOWN: &str = "down";
/// A server that is down for this long has no rows any more: they tell of a time that is over.
const LONG_DOWN: Duration = Duration::from_mins(1);
/// A server that is down for this long is no longer shown: it was taken away.
const GONE: Duration = Duration::from_hours(1);

/// Seconds that one object and cause owe.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Row {
    pub(super) seconds: f64,
    pub(super) cause: String,
    pub(super) namespace: String,
    pub(super) table: String,
    pub(super) index: String,
    pub(super) kind: String,
    /// Who, when it is nobody of this server.
    pub(super) culprit: String,
    /// Role of this server's threads that competed.
    pub(super) role: String,
}

/// All that is shown of one channel.
#[derive(Debug, Default)]
pub(super) struct View {
    /// Nanoseconds since the epoch.
    pub(super) at: u64,
    pub(super) server: String,
    /// Whether who holds a lock there is a connection, and not a process.
    pub(super) has_connections: bool,
    pub(super) channel: String,
    /// `None` before it is known, and after it has ended.
    pub(super) lag: Option<f64>,
    /// Nothing can be measured now: the lag is the last that was.
    pub(super) stale: bool,
    pub(super) status: Option<String>,
    /// Since when the server is down, if that is long; nanoseconds since the epoch.
    pub(super) down_since: Option<u64>,
    /// What applying waits for most.
    pub(super) wait: Option<Wait>,
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

/// How the lag is measured.
#[derive(Debug, PartialEq)]
struct Told {
    /// All attributes of the point that told it.
    by: String,
    source: Option<String>,
    stale: bool,
}

/// How long a server has been down.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
enum Outage {
    #[default]
    None,
    Long,
    Gone,
}

#[derive(Debug)]
struct Channel {
    has_connections: bool,
    frames: BTreeMap<u64, Frame>,
    status: Option<String>,
    /// When the state was told last, by the sender's clock.
    status_at: u64,
    /// When the state was told first: sums that came up later began at zero.
    known_since: Option<u64>,
    /// Since when the server is down: by the sender's clock to be shown, by ours to be measured.
    down: Option<(u64, Instant)>,
    /// The outage as it was shown.
    outage: Outage,
    told: Option<Told>,
    apply: Series<String>,
    waits: Series<Wait>,
    seen: Instant,
}

/// Channels by server and name.
#[derive(Debug, Default)]
pub(super) struct State {
    channels: BTreeMap<(String, String), Channel>,
    fresh: bool,
    heard: bool,
}

impl State {
    /// Takes what is shown out of a request; returns how many points that were.
    pub(super) fn take(&mut self, request: &ExportMetricsServiceRequest, now: Instant) -> usize {
        let mut taken = 0;
        for resource in &request.resource_metrics {
            let attributes = resource.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
            let service = attribute(attributes, SERVICE_NAME);
            let system = attribute(attributes, DB_SYSTEM_NAME);
            let has_connections = system.is_some_and(|system| ["mysql", "mariadb"].contains(&system));
            for metric in resource.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
                for point in number_points(metric) {
                    let server =
                        service.or_else(|| attribute(&point.attributes, SERVER_ADDRESS)).unwrap_or("server");
                    let key = (server.to_owned(), text(&point.attributes, REPLICATION_CHANNEL));
                    let channel = self.point(key, &metric.name, point, now);
                    taken += usize::from(channel.is_some());
                    if let Some(channel) = channel {
                        channel.has_connections = has_connections;
                    }
                }
            }
        }
        taken
    }

    /// Takes a point that is shown; the channel that it is of.
    fn point(
        &mut self,
        key: (String, String),
        metric: &str,
        point: &NumberDataPoint,
        now: Instant,
    ) -> Option<&mut Channel> {
        let shown = [
            REPLICATION_LAG,
            LAG_BLAME,
            APPLY_TIME,
            REPLICATION_STATUS,
            REPLICATION_INFO,
            REPLICATION_WAIT_TIME,
        ];
        if !shown.iter().any(|shown| shown.name == metric)
            || self.channels.len() >= MAX_CHANNELS && !self.channels.contains_key(&key)
        {
            return None;
        }
        let channel = self.channels.entry(key).or_insert_with(|| Channel::new(now));
        channel.seen = now;
        // One that is gone is waited for like one that never came.
        self.heard |= channel.outage(now) < Outage::Gone
            && [REPLICATION_LAG, LAG_BLAME, REPLICATION_STATUS].iter().any(|heard| heard.name == metric);
        self.fresh |= channel.point(metric, point, now);
        Some(channel)
    }

    /// Whether anything of a channel's lag or state has come since the last call, be it new or not.
    pub(super) fn heard(&mut self) -> bool {
        std::mem::take(&mut self.heard)
    }

    /// All that is to be shown; `None` if nothing is new since the last call.
    pub(super) fn views(&mut self, now: Instant) -> Option<Vec<View>> {
        self.channels.retain(|_, channel| now.saturating_duration_since(channel.seen) < FORGET);
        for channel in self.channels.values_mut() {
            // An outage gets longer without a word of anybody.
            let outage = channel.outage(now);
            self.fresh |= outage != channel.outage;
            channel.outage = outage;
        }
        if !std::mem::take(&mut self.fresh) {
            return None;
        }
        let views =
            self.channels.iter_mut().filter_map(|((server, name), channel)| channel.view(server, name));
        Some(views.collect())
    }
}

impl Channel {
    fn new(seen: Instant) -> Self {
        Self {
            has_connections: false,
            frames: BTreeMap::new(),
            status: None,
            status_at: 0,
            known_since: None,
            down: None,
            outage: Outage::default(),
            told: None,
            apply: Series::default(),
            waits: Series::default(),
            seen,
        }
    }

    /// Takes a point; returns whether there is something new to show.
    fn point(&mut self, metric: &str, point: &NumberDataPoint, now: Instant) -> bool {
        let attributes = &point.attributes;
        let value = number(point).filter(|_| !is_ended(point.flags));
        if metric == APPLY_TIME.name {
            self.apply.grow(attributes, holder(attributes), value, false);
        } else if metric == REPLICATION_WAIT_TIME.name {
            // The state comes with the waits, every time: a wait that did not come with the first is new.
            let new = self.known_since.is_some_and(|since| since < point.time_unix_nano);
            self.waits.grow(attributes, Wait::of(attributes), value, new);
        } else if metric == REPLICATION_STATUS.name {
            let holds = value.is_some_and(|value| value > 0.0);
            return self.state(text(attributes, REPLICATION_STATE), holds, point.time_unix_nano, now);
        } else if metric == REPLICATION_INFO.name {
            return self.info(attributes, value.is_some());
        } else if let Some(value) = value {
            return self.frame(metric, point.time_unix_nano, value, attributes);
        } else if metric == REPLICATION_LAG.name {
            // What was owed went with the lag.
            let shown = !self.frames.is_empty();
            self.frames.clear();
            return shown;
        }
        false
    }

    fn outage(&self, now: Instant) -> Outage {
        match self.down.map(|(_, since)| now.saturating_duration_since(since)) {
            Some(lasts) if lasts >= GONE => Outage::Gone,
            Some(lasts) if lasts >= LONG_DOWN => Outage::Long,
            _ => Outage::None,
        }
    }

    fn state(&mut self, state: String, holds: bool, at: u64, now: Instant) -> bool {
        let known = self.status.as_ref() == Some(&state);
        self.status_at = at;
        self.known_since.get_or_insert(at);
        if state == DOWN && holds {
            self.down.get_or_insert((at, now));
        } else if state == DOWN || holds {
            self.down = None;
        }
        if holds {
            if state == PROMOTED {
                self.frames.clear();
            }
            self.status = Some(state);
        } else if known {
            self.status = None;
        }
        known != holds
    }

    fn info(&mut self, attributes: &[KeyValue], holds: bool) -> bool {
        let by = value::pairs(attributes);
        let known = self.told.as_ref().is_some_and(|told| told.by == by);
        if holds && !known {
            let source = attribute(attributes, LAG_SOURCE).map(str::to_owned);
            let stale = attribute(attributes, LAG_FRESHNESS) == Some("stale");
            self.told = Some(Told { by, source, stale });
        } else if !holds && known {
            self.told = None;
        }
        known != holds
    }

    fn frame(&mut self, metric: &str, at: u64, value: f64, attributes: &[KeyValue]) -> bool {
        if self.frames.keys().next_back().is_some_and(|newest| newest.saturating_sub(at) > OLD) {
            // Those from before the clock was set back would seem to be the newest for as long as that was.
            self.frames.clear();
        }
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
                culprit: text(attributes, BLAME_CULPRIT),
                role: text(attributes, THREAD_ROLE),
            };
            frame.rows.insert(value::pairs(attributes), row);
        }
        if self.frames.len() > MAX_FRAMES {
            self.frames.pop_first();
        }
        true
    }

    fn view(&mut self, server: &str, channel: &str) -> Option<View> {
        let newest = self.frames.iter().rev().find_map(|(at, frame)| Some((*at, frame.lag?)));
        if newest.is_none() && self.status.is_none() || self.outage == Outage::Gone {
            return None;
        }
        let blamed = self.frames.iter().rev().find_map(|(at, frame)| {
            let recent = newest?.0.saturating_sub(*at) <= OLD && !frame.rows.is_empty();
            Some((*at, frame.lag.filter(|_| recent)?, frame.rows.values().cloned().collect::<Vec<_>>()))
        });
        let (at, lag, mut rows) = match (blamed, newest) {
            (Some((at, lag, rows)), _) => (at, Some(lag), rows),
            (None, Some((at, lag))) => (at, Some(lag), Vec::new()),
            (None, None) => (self.status_at, None, Vec::new()),
        };
        rows.sort_by(|a, b| b.seconds.total_cmp(&a.seconds).then_with(|| a.table.cmp(&b.table)));
        let mut holders = self.apply.growth();
        let window: f64 = holders.iter().map(|(_, seconds)| *seconds).sum();
        for (_, share) in &mut holders {
            *share /= window;
        }
        let wait = Wait::longest(&self.waits.growth());
        Some(View {
            at,
            has_connections: self.has_connections,
            server: server.to_owned(),
            channel: channel.to_owned(),
            lag,
            status: self.status.clone(),
            down_since: self.down.filter(|_| self.outage == Outage::Long).map(|(at, _)| at),
            wait,
            source: self.told.as_ref().and_then(|told| told.source.clone()),
            stale: self.told.as_ref().is_some_and(|told| told.stale),
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

#[cfg(test)]
mod tests;
