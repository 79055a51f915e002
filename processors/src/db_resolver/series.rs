//! The series of one server: raw cumulative values in, cumulative values per object out. Bounded; what does not fit
//! is counted in `(other)` rows, which never decrease.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use blameio_databases::CatalogReader;
use blameio_pipeline::{
    attribute::{FILE_INDEX, FILE_PATH},
    metrics::{MetricsBuilder, PointTime, attribute, is_ended, number},
    signal::{self, Metric as Definition},
};
use opentelemetry_proto::tonic::{
    common::v1::KeyValue,
    metrics::v1::{ExponentialHistogramDataPoint, NumberDataPoint},
};

use super::{
    held::{Held, Waiting},
    histogram::Histogram,
    point::{RawKey, Resolved, SeriesKey, thread},
    ranking::{MEASURES, Ranking},
};

/// Metrics that are resolved.
pub(super) const RESOLVED: [Definition; MEASURES] = [
    signal::FILE_IO,
    signal::FILE_OPERATIONS,
    signal::FILE_ERRORS,
    signal::FILE_OPERATION_TIME,
    signal::THREAD_TIME,
    signal::FILE_OPERATION_DURATION,
    signal::FILE_DISK_IO,
    signal::DEVICE_TIME,
    signal::DEVICE_OPERATIONS,
    signal::REPLICATION_WORK,
];

/// Positions in [`RESOLVED`].
pub(super) const THREAD_TIME: usize = 4;
pub(super) const HISTOGRAM: usize = 5;
const DEVICE_TIME: usize = 7;
const DEVICE_OPERATIONS: usize = 8;
const WORK: usize = 9;

/// A series that did not move for so long is issued again anyway, so that a scrape page with the default
/// `metric_expiration` of 5 minutes keeps it.
const REISSUE: u64 = 60_000_000_000;

/// A series that did not move for so long is ended; sooner when its metric is not measured any more.
const IDLE: u64 = 3_600_000_000_000;

/// Most series of single threads. Attribution takes them out again, so they are not under the limit of what leaves; a
/// replica with one applying thread has as many as it has files in use.
const MOST_OF_THREADS: usize = 20_000;

/// One object of so many that may have series has its log's work told apart. All its stages are told, or none: what was
/// received and what was applied of it are subtracted from each other.
const WORK_OBJECTS: usize = 10;

/// An object has at most so many series of work: two stages of two kinds.
const WORK_SERIES: usize = 4;

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
    raw: HashMap<RawKey, f64>,
    raw_histograms: HashMap<RawKey, Histogram>,
    /// Raw series of each metric.
    fed: [usize; MEASURES],
    sums: BTreeMap<(usize, SeriesKey), Output<f64>>,
    histograms: BTreeMap<SeriesKey, Output<Histogram>>,
    work: BTreeMap<(usize, SeriesKey), Output<f64>>,
    threads: BTreeMap<(usize, SeriesKey), Output<f64>>,
    ranking: Ranking,
    work_ranking: Ranking,
    /// `(other)` rows among the sums and histograms; they are beside the limit.
    others: usize,
    /// Series that made room, and have not been ended yet.
    left: Vec<(usize, SeriesKey)>,
    /// Points whose file is still looked up.
    pub(super) waiting: Waiting,
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
        let key = RawKey::of(metric, &point.attributes);
        let Some(value) = number(point).filter(|_| !is_ended(point.flags)) else {
            if !self.waiting.end(&key) {
                self.end(metric, &key);
            }
            return;
        };
        let Some(resolved) = resolve(&point.attributes, catalog) else {
            return self.waiting.hold(key, Held::Number(metric, point.clone()));
        };
        self.waiting.forget(&key);
        let before = self.raw.get(&key).copied().unwrap_or(0.0);
        let delta = if value >= before { value - before } else { value };
        let now = point.time_unix_nano;
        let of_thread = match metric {
            THREAD_TIME => true,
            DEVICE_TIME | DEVICE_OPERATIONS => thread(&point.attributes).is_some(),
            _ => false,
        };
        if of_thread {
            let series = SeriesKey::of(&point.attributes, Arc::clone(&resolved), true);
            self.add_to_thread((metric, series), delta, now);
        }
        if metric != THREAD_TIME {
            self.add((metric, SeriesKey::of(&point.attributes, resolved, false)), delta, now, limit);
        }
        if self.raw.insert(key, value).is_none() {
            self.fed[metric] += 1;
        }
    }

    fn add_to_thread(&mut self, series: (usize, SeriesKey), delta: f64, now: u64) {
        let known = self.threads.contains_key(&series);
        // The first reading of a thread tells where its time begins, though it says zero.
        if !known && delta <= 0.0 && series.0 != THREAD_TIME {
            return;
        }
        let fits = known || self.threads.len() < MOST_OF_THREADS;
        let series = if fits { series } else { (series.0, series.1.into_other()) };
        self.threads.entry(series).or_insert_with(|| Output::new(0.0, now)).grow(delta, now);
    }

    fn add(&mut self, series: (usize, SeriesKey), delta: f64, now: u64, limit: usize) {
        let known = if series.0 == WORK { &self.work } else { &self.sums }.contains_key(&series);
        // A series that has been ended stays so until it moves: rows that rest are handed on now and then too.
        if !known && delta <= 0.0 {
            return;
        }
        self.did(series.0, &series.1, delta, limit);
        let fits = known || self.fits(&series, limit);
        let series = if fits { series } else { (series.0, series.1.into_other()) };
        self.others += usize::from(!fits && series.0 != WORK && !self.sums.contains_key(&series));
        let outputs = if series.0 == WORK { &mut self.work } else { &mut self.sums };
        outputs.entry(series).or_insert_with(|| Output::new(0.0, now)).grow(delta, now);
    }

    /// A raw series has ended.
    pub(super) fn end(&mut self, metric: usize, key: &RawKey) {
        let known = match metric {
            HISTOGRAM => self.raw_histograms.remove(key).is_some(),
            _ => self.raw.remove(key).is_some(),
        };
        self.fed[metric] -= usize::from(known);
    }

    /// Takes a raw histogram point.
    pub(super) fn histogram(
        &mut self,
        point: &ExponentialHistogramDataPoint,
        catalog: &CatalogReader,
        limit: usize,
    ) {
        let key = RawKey::of(HISTOGRAM, &point.attributes);
        if is_ended(point.flags) {
            if !self.waiting.end(&key) {
                self.end(HISTOGRAM, &key);
            }
            return;
        }
        let Some(resolved) = resolve(&point.attributes, catalog) else {
            return self.waiting.hold(key, Held::Histogram(point.clone()));
        };
        self.waiting.forget(&key);
        let value = Histogram::of(point);
        let growth = value.since(self.raw_histograms.get(&key));
        let series = SeriesKey::of(&point.attributes, resolved, false);
        if self.raw_histograms.insert(key, value).is_none() {
            self.fed[HISTOGRAM] += 1;
        }
        let known = self.histograms.contains_key(&series);
        if !known && growth.is_empty() {
            return;
        }
        self.did(HISTOGRAM, &series, growth.count() as f64, limit);
        let series = (HISTOGRAM, series);
        let fits = known || self.fits(&series, limit);
        let series = if fits { series.1 } else { series.1.into_other() };
        self.others += usize::from(!fits && !self.histograms.contains_key(&series));
        let output = self
            .histograms
            .entry(series)
            .or_insert_with(|| Output::new(Histogram::default(), point.time_unix_nano));
        output.touch(point.time_unix_nano, !growth.is_empty());
        output.value.add(growth);
    }

    fn did(&mut self, metric: usize, series: &SeriesKey, amount: f64, limit: usize) {
        if amount > 0.0 {
            let (ranking, limit) = match metric {
                WORK => (&mut self.work_ranking, work_objects(limit)),
                _ => (&mut self.ranking, limit),
            };
            ranking.did(series.resolved(), metric, amount, limit);
        }
    }

    /// Whether a new series may be kept apart.
    fn fits(&mut self, series: &(usize, SeriesKey), limit: usize) -> bool {
        let object = series.1.resolved();
        if series.0 == WORK {
            let room = self.work_ranking.has(object) || self.work_ranking.chosen() < work_objects(limit);
            return self.work_ranking.admits(object, 0, room);
        }
        let used = self.sums.len() + self.histograms.len() - self.others;
        let room = used < self.left_by_work(limit);
        self.ranking.admits(object, hash(series), room)
    }

    /// How much of the limit is for everything but work.
    fn left_by_work(&self, limit: usize) -> usize {
        if self.work.is_empty() { limit } else { limit - WORK_SERIES * work_objects(limit) }
    }

    /// Makes room for who is busier than those who have it.
    fn rank(&mut self, at: u64, limit: usize) {
        if !self.ranking.is_due(at) && !self.work_ranking.is_due(at) {
            return;
        }
        // Thousands of series end at once when rows are swept.
        self.raw.shrink_to(2 * self.raw.len());
        self.raw_histograms.shrink_to(2 * self.raw_histograms.len());
        let mut kept = HashMap::new();
        for key in self.sums.keys().map(|(_, key)| key).chain(self.histograms.keys()) {
            *kept.entry(Arc::clone(key.resolved())).or_default() += 1;
        }
        // `(other)` is the road of what does not fit, and never leaves.
        self.others = kept.remove(&Resolved::other()).unwrap_or(0);
        let leaving = self.ranking.rank(at, self.left_by_work(limit), &kept);
        let mut kept_work: HashMap<_, _> =
            self.work.keys().map(|(_, key)| (Arc::clone(key.resolved()), 1)).collect();
        kept_work.remove(&Resolved::other());
        let leaving_work = self.work_ranking.rank(at, work_objects(limit), &kept_work);
        if !leaving.is_empty() {
            let leaves = |key: &SeriesKey| leaving.contains(key.resolved());
            let sums = self.sums.extract_if(.., |(_, key), _| leaves(key)).map(|(key, _)| key);
            self.left.extend(sums);
            let histograms = self.histograms.extract_if(.., |key, _| leaves(key));
            self.left.extend(histograms.map(|(key, _)| (HISTOGRAM, key)));
        }
        let leaves = |key: &SeriesKey| leaving_work.contains(key.resolved());
        self.left.extend(self.work.extract_if(.., |(_, key), _| leaves(key)).map(|(key, _)| key));
    }

    /// Issues what was touched since the last call and ends what has long been idle. `at` is the newest time heard of;
    /// `address` goes onto every point.
    pub(super) fn issue(
        &mut self,
        at: u64,
        limit: usize,
        address: &[KeyValue],
        join_labels: bool,
        builder: &mut MetricsBuilder,
    ) {
        self.rank(at, limit);
        let attributes = |key: &SeriesKey| {
            let mut attributes = key.attributes(join_labels);
            attributes.extend_from_slice(address);
            attributes
        };
        for (metric, key) in self.left.drain(..) {
            builder.ended(&RESOLVED[metric], attributes(&key), PointTime { start: 0, at });
        }
        // Of a metric that nobody measures any more nothing stands still as if it were measured.
        let fed = self.fed;
        let sums = self.sums.iter_mut().chain(&mut self.work).chain(&mut self.threads);
        for ((metric, key), output) in sums {
            let metric = *metric;
            let definition = &RESOLVED[metric];
            let time = PointTime { start: output.start, at };
            if output.is_over(at, fed[metric]) {
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
            if output.is_over(at, fed[HISTOGRAM]) {
                builder.ended(&RESOLVED[HISTOGRAM], attributes(key), PointTime { start: output.start, at });
            } else if output.due(at) {
                let mut point = output.value.point();
                point.attributes = attributes(key);
                point.start_time_unix_nano = output.start;
                point.time_unix_nano = at;
                builder.histogram(&signal::FILE_OPERATION_DURATION, point);
            }
        }
        for outputs in [&mut self.sums, &mut self.work, &mut self.threads] {
            outputs.retain(|(metric, _), output| !output.is_over(at, fed[*metric]));
        }
        self.histograms.retain(|_, output| !output.is_over(at, fed[HISTOGRAM]));
        self.others = self.others.min(self.sums.len() + self.histograms.len());
    }
}

impl Output<f64> {
    fn grow(&mut self, delta: f64, now: u64) {
        self.value += delta;
        self.touch(now, delta > 0.0);
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

    /// `fed`: raw series of its metric.
    fn is_over(&self, at: u64, fed: usize) -> bool {
        fed == 0 || at > self.moved + IDLE
    }
}

/// Most objects whose work is told apart.
fn work_objects(limit: usize) -> usize {
    limit / WORK_OBJECTS
}

fn hash(series: &(usize, SeriesKey)) -> u64 {
    let mut hasher = DefaultHasher::new();
    series.hash(&mut hasher);
    hasher.finish()
}

/// `None` while the catalog still looks the file up: the point is left where it is, and what it grew by is counted
/// when the file has a name.
pub(super) fn resolve(attributes: &[KeyValue], catalog: &CatalogReader) -> Option<Arc<Resolved>> {
    let Some(path) = attribute(attributes, FILE_PATH) else { return Some(Arc::default()) };
    let resolution = match attribute(attributes, FILE_INDEX) {
        Some(index) => catalog.resolve_pages(path, index),
        None => catalog.resolve(path),
    };
    Resolved::of(&resolution, path).map(Arc::new)
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
    use blameio_pipeline::metrics::key_value;
    use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;

    use super::*;

    #[test]
    fn positions_are_those_of_the_table() {
        assert_eq!(RESOLVED[THREAD_TIME], signal::THREAD_TIME);
        assert_eq!(RESOLVED[HISTOGRAM], signal::FILE_OPERATION_DURATION);
        assert_eq!(RESOLVED[DEVICE_TIME], signal::DEVICE_TIME);
        assert_eq!(RESOLVED[DEVICE_OPERATIONS], signal::DEVICE_OPERATIONS);
        assert_eq!(RESOLVED[WORK], signal::REPLICATION_WORK);
    }

    #[test]
    fn what_a_file_grew_by_before_it_had_a_name_is_counted_once_even_if_it_is_not_heard_of_again() {
        let point = |value, flags| NumberDataPoint {
            attributes: vec![
                key_value(FILE_PATH, "data/base/5/70000"),
                key_value(blameio_pipeline::attribute::FILE_INODE, 7),
            ],
            value: Some(Value::AsInt(value)),
            flags,
            time_unix_nano: 1,
            ..NumberDataPoint::default()
        };
        let catalog = CatalogReader::recorded(Vec::new());
        let mut series = Series::default();
        series.number(0, &point(3, 0), &catalog, 100);
        series.number(0, &point(5, 0), &catalog, 100);
        series.number(0, &point(0, 1), &catalog, 100);
        assert!(series.sums.is_empty() && series.raw.is_empty());
        let begun = std::time::Instant::now();
        while series.sums.is_empty() {
            assert!(begun.elapsed() < std::time::Duration::from_secs(10), "it waits for ever");
            std::thread::sleep(std::time::Duration::from_millis(50));
            series.settle(&catalog, 100);
        }
        series.settle(&catalog, 100);
        assert_eq!(series.sums.values().map(|output| output.value).collect::<Vec<_>>(), [5.0]);
        assert!(series.raw.is_empty(), "it has ended since");
    }
}
