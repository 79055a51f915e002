//! The series of one server: raw cumulative values in, cumulative values per object out. Bounded; what does not fit
//! is counted in `(other)` rows, which never decrease.

use std::collections::{BTreeMap, HashMap};

use blameio_databases::CatalogReader;
use blameio_pipeline::{
    attribute::FILE_PATH,
    metrics::{MetricsBuilder, PointTime, attribute, is_ended, number},
    signal::{self, Metric as Definition},
};
use opentelemetry_proto::tonic::{
    common::v1::KeyValue,
    metrics::v1::{ExponentialHistogramDataPoint, NumberDataPoint},
};

use super::{
    histogram::Histogram,
    point::{RawKey, Resolved, SeriesKey},
};

/// Metrics that are resolved.
pub(super) const RESOLVED: [Definition; 6] = [
    signal::FILE_IO,
    signal::FILE_OPERATIONS,
    signal::FILE_ERRORS,
    signal::FILE_OPERATION_TIME,
    signal::THREAD_TIME,
    signal::FILE_OPERATION_DURATION,
];

/// Positions in [`RESOLVED`].
const THREAD_TIME: usize = 4;
const HISTOGRAM: usize = 5;

/// A series that did not move for so long is issued again anyway, so that a scrape page with the default
/// `metric_expiration` of 5 minutes keeps it.
const REISSUE: u64 = 60_000_000_000;

/// A series that did not move for so long is ended.
const IDLE: u64 = 3_600_000_000_000;

/// At the limit, series that did not move for so long are ended, and make room for one that does.
const MAKES_ROOM: u64 = 60_000_000_000;

#[derive(Debug)]
struct Output<T> {
    value: T,
    start: u64,
    moved: u64,
    issued: u64,
    touched: bool,
}

/// State of one server.
#[derive(Debug, Default)]
pub(super) struct Series {
    raw: HashMap<(usize, RawKey), f64>,
    raw_histograms: HashMap<RawKey, Histogram>,
    sums: BTreeMap<(usize, SeriesKey), Output<f64>>,
    histograms: BTreeMap<SeriesKey, Output<Histogram>>,
    /// Critical threads' time: needed whole by attribution, and not under the limit.
    thread_time: BTreeMap<SeriesKey, Output<f64>>,
    /// Series that made room, and have not been ended yet.
    left: Vec<(usize, SeriesKey)>,
    made_room_at: u64,
}

impl Series {
    /// Takes a raw point of the metric at position `metric` of [`RESOLVED`].
    pub(super) fn number(
        &mut self,
        metric: usize,
        point: &NumberDataPoint,
        catalog: &CatalogReader,
        limit: usize,
    ) {
        let key = (metric, RawKey::of(&point.attributes));
        let Some(value) = number(point).filter(|_| !is_ended(point.flags)) else {
            self.raw.remove(&key);
            return;
        };
        let Some(resolved) = resolve(&point.attributes, catalog) else { return };
        let before = self.raw.get(&key).copied().unwrap_or(0.0);
        let delta = if value >= before { value - before } else { value };
        let is_thread_time = metric == THREAD_TIME;
        let series = SeriesKey::of(&key.1, resolved, is_thread_time);
        self.raw.insert(key, value);
        let now = point.time_unix_nano;
        let known = is_thread_time || self.sums.contains_key(&(metric, series.clone()));
        // A series that has been ended stays so until it moves: rows that rest are handed on now and then too.
        if !known && delta <= 0.0 {
            return;
        }
        let output = if is_thread_time {
            self.thread_time.entry(series).or_insert_with(|| Output::new(0.0, now))
        } else {
            let fits = known || self.has_room(now, limit);
            let key = (metric, if fits { series } else { series.into_other() });
            self.sums.entry(key).or_insert_with(|| Output::new(0.0, now))
        };
        output.value += delta;
        output.touch(now, delta > 0.0);
    }

    /// Takes a raw histogram point.
    pub(super) fn histogram(
        &mut self,
        point: &ExponentialHistogramDataPoint,
        catalog: &CatalogReader,
        limit: usize,
    ) {
        let key = RawKey::of(&point.attributes);
        if is_ended(point.flags) {
            self.raw_histograms.remove(&key);
            return;
        }
        let Some(resolved) = resolve(&point.attributes, catalog) else { return };
        let value = Histogram::of(point);
        let growth = value.since(self.raw_histograms.get(&key));
        let series = SeriesKey::of(&key, resolved, false);
        self.raw_histograms.insert(key, value);
        let known = self.histograms.contains_key(&series);
        if !known && growth.is_empty() {
            return;
        }
        let fits = known || self.has_room(point.time_unix_nano, limit);
        let series = if fits { series } else { series.into_other() };
        let output = self
            .histograms
            .entry(series)
            .or_insert_with(|| Output::new(Histogram::default(), point.time_unix_nano));
        output.touch(point.time_unix_nano, !growth.is_empty());
        output.value.add(growth);
    }

    /// Whether a new series fits; when the limit is hit, those that rest make room, at most once in their time.
    fn has_room(&mut self, now: u64, limit: usize) -> bool {
        if self.sums.len() + self.histograms.len() < limit {
            return true;
        }
        if now < self.made_room_at + MAKES_ROOM {
            return false;
        }
        self.made_room_at = now;
        let rests = |moved: u64| now > moved + MAKES_ROOM;
        self.left.extend(
            self.sums
                .extract_if(.., |(_, key), output| rests(output.moved) && !key.is_other())
                .map(|(key, _)| key),
        );
        let histograms = self.histograms.extract_if(.., |key, output| rests(output.moved) && !key.is_other());
        self.left.extend(histograms.map(|(key, _)| (HISTOGRAM, key)));
        self.sums.len() + self.histograms.len() < limit
    }

    /// Issues what was touched since the last call and ends what has long been idle. `at` is the newest time heard of;
    /// `address` goes onto every point.
    pub(super) fn issue(
        &mut self,
        at: u64,
        address: &[KeyValue],
        join_labels: bool,
        builder: &mut MetricsBuilder,
    ) {
        let attributes = |key: &SeriesKey| {
            let mut attributes = key.attributes(join_labels);
            attributes.extend_from_slice(address);
            attributes
        };
        for (metric, key) in self.left.drain(..) {
            // It may have come back meanwhile.
            let back = match metric {
                HISTOGRAM => self.histograms.contains_key(&key),
                _ => self.sums.contains_key(&(metric, key.clone())),
            };
            if !back {
                builder.ended(&RESOLVED[metric], attributes(&key), PointTime { start: 0, at });
            }
        }
        let sums = self.sums.iter_mut().map(|((metric, key), output)| (*metric, key, output));
        let threads = self.thread_time.iter_mut().map(|(key, output)| (THREAD_TIME, key, output));
        for (metric, key, output) in sums.chain(threads) {
            let definition = &RESOLVED[metric];
            let time = PointTime { start: output.start, at };
            if output.is_idle(at) {
                builder.ended(&RESOLVED[metric], attributes(key), time);
            } else if output.due(at) {
                if definition.unit == "s" {
                    builder.point(definition, output.value, attributes(key), time);
                } else {
                    builder.point(definition, whole(output.value), attributes(key), time);
                }
            }
        }
        for (key, output) in &mut self.histograms {
            if output.is_idle(at) {
                builder.ended(&RESOLVED[HISTOGRAM], attributes(key), PointTime { start: output.start, at });
            } else if output.due(at) {
                let mut point = output.value.point();
                point.attributes = attributes(key);
                point.start_time_unix_nano = output.start;
                point.time_unix_nano = at;
                builder.histogram(&signal::FILE_OPERATION_DURATION, point);
            }
        }
        self.sums.retain(|_, output| !output.is_idle(at));
        self.thread_time.retain(|_, output| !output.is_idle(at));
        self.histograms.retain(|_, output| !output.is_idle(at));
    }
}

impl<T> Output<T> {
    fn new(value: T, now: u64) -> Self {
        Self { value, start: now, moved: now, issued: 0, touched: true }
    }

    fn touch(&mut self, now: u64, moved: bool) {
        self.touched = true;
        if moved {
            self.moved = now;
        }
    }

    fn due(&mut self, at: u64) -> bool {
        let due = std::mem::take(&mut self.touched) || at >= self.issued + REISSUE;
        if due {
            self.issued = at;
        }
        due
    }

    fn is_idle(&self, at: u64) -> bool {
        at > self.moved + IDLE
    }
}

/// `None` while the catalog still looks the file up: the point is left where it is, and what it grew by is counted
/// when the file has a name.
fn resolve(attributes: &[KeyValue], catalog: &CatalogReader) -> Option<Resolved> {
    match attribute(attributes, FILE_PATH) {
        Some(path) => Resolved::of(&catalog.resolve(path), path),
        None => Some(Resolved::default()),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "sums of bytes and operations are whole and far below 2^53"
)]
fn whole(value: f64) -> i64 {
    value as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_those_of_the_table() {
        assert_eq!(RESOLVED[THREAD_TIME], signal::THREAD_TIME);
        assert_eq!(RESOLVED[HISTOGRAM], signal::FILE_OPERATION_DURATION);
    }
}
