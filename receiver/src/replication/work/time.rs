//! Time that the applying thread was at the changes of each table, from samples of where it stands in the log: each sample
//! stands for the time since the last one. Where a transaction changes several tables, its time is shared out by the bytes
//! of their rows, those to be found in a table without a key many times over. Only of logs that name tables.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use blameio_databases::{Object, Work};
use blameio_pipeline::{
    attribute::{DB_NAMESPACE, DB_TABLE, TABLE_KEY},
    metrics::{key_value, unix_nano},
};
use opentelemetry_proto::tonic::common::v1::KeyValue;

/// A sample stands for at most so long: what happened while the server did not answer is not known.
const LONGEST: Duration = Duration::from_millis(500);
/// Samples of places of which nothing is known yet; at 20 ms these are 10 s.
const MOST_SAMPLES: usize = 500;
/// Tables that are kept apart; the time at all others is that of no table.
const MOST_ROWS: usize = 1000;
/// A row that did not grow for so long is ended.
const IDLE: Duration = Duration::from_hours(1);
/// A row that is looked for without a key costs as much as so many others: a table of some thousands is read for it.
const WITHOUT_KEY: u64 = 1000;
/// How often the server is asked which tables have no key: for one that is new, and anyway.
const ASK: (Duration, Duration) = (Duration::from_mins(1), Duration::from_mins(10));

/// One series of `blameio.replication.work.time`.
#[derive(Debug)]
pub(in crate::replication) struct TimePoint {
    /// Its attributes, without the channel's.
    pub(in crate::replication) attributes: Vec<KeyValue>,
    /// The sum in seconds; `None` where the series has ended.
    pub(in crate::replication) value: Option<f64>,
    /// Since when it counts, in nanoseconds since the epoch.
    pub(in crate::replication) start: u64,
}

/// A table, where it is known, and whether its rows are looked for without a key.
type Key = (Option<Arc<Object>>, bool);

#[derive(Debug)]
struct Row {
    time: Duration,
    told: Option<Duration>,
    grew: Instant,
    start: SystemTime,
}

/// The account of it.
#[derive(Debug)]
pub(super) struct Times {
    rows: HashMap<Key, Row>,
    samples: VecDeque<(u64, Duration)>,
    sampled: Option<Instant>,
    /// Tables of which rows are looked for.
    sought: HashSet<Arc<Object>>,
    without_key: HashSet<(String, String)>,
    asked: Option<(Instant, HashSet<Arc<Object>>)>,
    /// When it was told last: what begins since then counts from there.
    since: SystemTime,
}

impl Times {
    pub(super) fn new(at: SystemTime) -> Self {
        Self {
            rows: HashMap::new(),
            samples: VecDeque::new(),
            sampled: None,
            sought: HashSet::new(),
            without_key: HashSet::new(),
            asked: None,
            since: at,
        }
    }

    /// The thread was seen: at work before this position, or not at work.
    pub(super) fn sample(&mut self, now: Instant, position: Option<u64>) {
        let since =
            self.sampled.map_or(Duration::ZERO, |last| now.saturating_duration_since(last)).min(LONGEST);
        self.sampled = Some(now);
        let Some(position) = position else { return };
        match self.samples.back_mut() {
            Some((at, time)) if *at == position => *time += since,
            _ => self.samples.push_back((position, since)),
        }
        if self.samples.len() > MOST_SAMPLES
            && let Some((_, time)) = self.samples.pop_front()
        {
            // Its log was not read in time.
            self.nobody(time, now);
        }
    }

    /// The oldest sample that is not shared out.
    pub(super) fn first(&self) -> Option<u64> {
        self.samples.front().map(|(position, _)| *position)
    }

    /// Takes the oldest sample out.
    pub(super) fn pop(&mut self) -> Duration {
        self.samples.pop_front().map_or(Duration::ZERO, |(_, time)| time)
    }

    /// The thread was for so long at a transaction that changes these tables; `None` is one that has no row.
    pub(super) fn share(&mut self, tables: &[Option<(Arc<Object>, Work)>], time: Duration, now: Instant) {
        let weight = |table: &Option<(Arc<Object>, Work)>| match table {
            Some((table, Work { bytes, sought, .. })) if self.has_no_key(table) => {
                bytes.saturating_add(sought.saturating_mul(WITHOUT_KEY)) as f64
            }
            Some((_, work)) => work.bytes as f64,
            None => 0.0,
        };
        let weights: Vec<f64> = tables.iter().map(weight).collect();
        let sum: f64 = weights.iter().sum();
        if sum <= 0.0 {
            self.add((None, false), time, now);
            return;
        }
        for (table, weight) in tables.iter().zip(weights) {
            let key = table.as_ref().map_or((None, false), |(table, work)| {
                (Some(Arc::clone(table)), work.sought > 0 && self.has_no_key(table))
            });
            self.add(key, time.mul_f64(weight / sum), now);
        }
    }

    /// Log was received that changes rows of a table; that it has no key is told before any time is.
    pub(super) fn received(&mut self, table: &Arc<Object>, work: Work, now: Instant) {
        if work.sought == 0 {
            return;
        }
        if self.sought.len() < MOST_ROWS && !self.sought.contains(table) {
            self.sought.insert(Arc::clone(table));
        }
        if self.has_no_key(table) {
            self.add((Some(Arc::clone(table)), true), Duration::ZERO, now);
        }
    }

    /// The thread was for so long at what names no table that is known.
    pub(super) fn nobody(&mut self, time: Duration, now: Instant) {
        self.add((None, false), time, now);
    }

    fn has_no_key(&self, table: &Object) -> bool {
        !self.without_key.is_empty()
            && self.without_key.contains(&(table.namespace.clone(), table.table.clone()))
    }

    fn add(&mut self, key: Key, time: Duration, now: Instant) {
        let fits = self.rows.len() < MOST_ROWS || self.rows.contains_key(&key);
        let key = if fits { key } else { (None, false) };
        let start = self.since;
        let row = self.rows.entry(key).or_insert(Row { time: Duration::ZERO, told: None, grew: now, start });
        row.time += time;
        row.grew = now;
    }

    /// Whether the server is to be asked which tables have no key.
    pub(super) fn wants_keys(&self, now: Instant) -> bool {
        let Some((asked, known)) = &self.asked else { return !self.sought.is_empty() };
        let passed = now.saturating_duration_since(*asked);
        passed >= ASK.1 || (passed >= ASK.0 && !self.sought.is_subset(known))
    }

    /// What it said; nothing, where it said nothing.
    pub(super) fn keys(&mut self, without: Option<Vec<Object>>, now: Instant) {
        // Those that are still in use come again.
        let sought = std::mem::take(&mut self.sought);
        if let Some(without) = without {
            self.without_key = without.into_iter().map(|table| (table.namespace, table.table)).collect();
        }
        for table in sought.iter().filter(|table| self.has_no_key(table)).cloned().collect::<Vec<_>>() {
            self.add((Some(table), true), Duration::ZERO, now);
        }
        self.asked = Some((now, sought));
    }

    /// The series that changed since the last time, and those that have ended. `at` is the points' time.
    pub(super) fn points(&mut self, now: Instant, at: SystemTime) -> Vec<TimePoint> {
        let idle = |row: &Row| now.saturating_duration_since(row.grew) > IDLE;
        let mut points: Vec<_> = self.rows.extract_if(|_, row| idle(row)).filter_map(end).collect();
        for (key, row) in self.rows.iter_mut().filter(|(_, row)| row.told != Some(row.time)) {
            row.told = Some(row.time);
            points.push(point(key, row, Some(row.time.as_secs_f64())));
        }
        self.since = at;
        points
    }

    /// Ends every series.
    pub(super) fn finish(self) -> Vec<TimePoint> {
        self.rows.into_iter().filter_map(end).collect()
    }
}

fn end((key, row): (Key, Row)) -> Option<TimePoint> {
    row.told.is_some().then(|| point(&key, &row, None))
}

fn point((table, has_none): &Key, row: &Row, value: Option<f64>) -> TimePoint {
    let mut attributes = Vec::new();
    if let Some(table) = table {
        attributes.push(key_value(DB_NAMESPACE, table.namespace.as_str()));
        attributes.push(key_value(DB_TABLE, table.table.as_str()));
    }
    if *has_none {
        attributes.push(key_value(TABLE_KEY, "none"));
    }
    TimePoint { attributes, value, start: unix_nano(row.start) }
}
