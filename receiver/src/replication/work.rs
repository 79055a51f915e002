//! The work that the log asks of replay, per file: what was received, and what of it is applied. Pure; who reads the
//! log and who knows how far replay is are others.

mod time;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use blameio_databases::{LogFormat, LogLook, Object, Stretch, Work, WorkOn};
use blameio_pipeline::{
    attribute::{DB_NAMESPACE, DB_TABLE, FILE_PATH, WORK_KIND, WORK_STAGE},
    metrics::{key_value, unix_nano},
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use uuid::Uuid;

pub(super) use time::TimePoint;
use time::Times;

/// Files or tables that have rows of their own; what is done for all others is told as one row without a path.
const MOST_ROWS: usize = 2000;
/// Files without a row that are looked at, for some of them may deserve one.
const MOST_CANDIDATES: usize = 4096;
/// How often busy files without a row take the place of quiet ones.
const EXCHANGE: Duration = Duration::from_mins(1);
/// Most rows that change hands at a time: each one is a series that ends and one that begins.
const MOST_EXCHANGED: usize = 100;
/// A row that did not grow for so long is ended.
const IDLE: Duration = Duration::from_hours(1);
/// Counts of files that are kept of log that is not applied, some 2 MiB; above that, stretches are made longer.
const MOST_COUNTS: usize = 64 << 10;

/// The row of all files that have none.
const OTHERS: u32 = 0;

/// What a series counts: the stage and the kind.
const SERIES: [(&str, &str); 6] = [
    ("received", "block"),
    ("received", "drop"),
    ("received", "row"),
    ("applied", "block"),
    ("applied", "drop"),
    ("applied", "row"),
];

/// One series of `blameio.replication.work`.
#[derive(Debug)]
pub(super) struct WorkPoint {
    /// Its attributes, without the channel's.
    pub(super) attributes: Vec<KeyValue>,
    /// The sum; `None` where the series has ended.
    pub(super) value: Option<i64>,
    /// Since when it counts, in nanoseconds since the epoch.
    pub(super) start: u64,
}

#[derive(Debug)]
struct Row {
    /// What it is of; of all that have no row of their own, nothing.
    object: Option<WorkOn>,
    names: Vec<KeyValue>,
    received: Work,
    applied: Work,
    /// What was told last, by [`SERIES`].
    told: [u64; 6],
    start: SystemTime,
    grew: Instant,
    /// Work received lately; halved once a minute.
    recent: u64,
}

impl Row {
    fn new(object: Option<WorkOn>, names: Vec<KeyValue>, start: SystemTime, now: Instant) -> Self {
        let (received, applied) = (Work::default(), Work::default());
        Self { object, names, received, applied, told: [0; 6], start, grew: now, recent: 0 }
    }

    fn values(&self) -> [u64; 6] {
        let Self { received, applied, .. } = self;
        [received.blocks, received.drops, received.bytes, applied.blocks, applied.drops, applied.bytes]
    }

    fn point(&self, series: usize, value: Option<u64>) -> WorkPoint {
        let (stage, kind) = SERIES[series];
        let mut attributes = vec![key_value(WORK_STAGE, stage), key_value(WORK_KIND, kind)];
        attributes.extend_from_slice(&self.names);
        let value = value.map(|value| i64::try_from(value).unwrap_or(i64::MAX));
        WorkPoint { attributes, value, start: unix_nano(self.start) }
    }

    /// Points that end what was told of it.
    fn end(&self) -> impl Iterator<Item = WorkPoint> {
        (0..SERIES.len()).filter(|series| self.told[*series] > 0).map(|series| self.point(series, None))
    }

    fn is_drained(&self) -> bool {
        self.received == self.applied
    }
}

/// A stretch of log that is not applied, and what it asks for by row.
#[derive(Debug)]
struct Pending {
    start: u64,
    end: u64,
    is_whole: bool,
    counts: Vec<(u32, Work)>,
}

/// The account of one server's work.
#[derive(Debug)]
pub(super) struct Ledger {
    /// Whose it is.
    pub(super) instance: Uuid,
    rows: Vec<Option<Row>>,
    free: Vec<u32>,
    of_object: HashMap<WorkOn, u32>,
    pending: VecDeque<Pending>,
    counts: usize,
    candidates: HashMap<WorkOn, u64>,
    exchanged: Instant,
    /// When it was told last: what grows since then counts from there.
    since: SystemTime,
    format: Option<LogFormat>,
    ended: Vec<WorkPoint>,
    /// Where the log names tables: when the thread was at which.
    times: Option<Times>,
}

fn add(sum: &mut Work, work: Work) {
    sum.blocks += work.blocks;
    sum.drops += work.drops;
    sum.bytes += work.bytes;
    sum.sought += work.sought;
}

fn amount(work: Work) -> u64 {
    work.blocks + work.drops + work.bytes
}

/// Makes one of all counts of a row.
fn unite(counts: &mut Vec<(u32, Work)>) {
    counts.sort_unstable_by_key(|(row, _)| *row);
    counts.dedup_by(|next, kept| {
        let is_same = next.0 == kept.0;
        if is_same {
            add(&mut kept.1, next.1);
        }
        is_same
    });
}

impl Ledger {
    /// An empty account.
    pub(super) fn new(instance: Uuid, now: Instant, at: SystemTime) -> Self {
        Self {
            instance,
            rows: vec![Some(Row::new(None, Vec::new(), at, now))],
            free: Vec::new(),
            of_object: HashMap::new(),
            pending: VecDeque::new(),
            counts: 0,
            candidates: HashMap::new(),
            exchanged: now,
            since: at,
            format: None,
            ended: Vec::new(),
            times: None,
        }
    }

    /// Takes what one look at the log found.
    pub(super) fn received(&mut self, look: LogLook, now: Instant) {
        self.format = look.format.or(self.format);
        for Stretch { start, end, is_whole, continues, objects } in look.stretches {
            let mut counts: Vec<(u32, Work)> = Vec::with_capacity(objects.len());
            let mut others = Work::default();
            for (object, work) in objects {
                if let WorkOn::Table(table) = &object {
                    self.times.get_or_insert_with(|| Times::new(self.since)).received(table, work, now);
                }
                let row = self.row(&object, now);
                if let Some(Some(row)) = self.rows.get_mut(row as usize) {
                    add(&mut row.received, work);
                    row.recent += amount(work);
                    row.grew = now;
                }
                if row != OTHERS {
                    counts.push((row, work));
                    continue;
                }
                add(&mut others, work);
                if self.candidates.len() >= MOST_CANDIDATES {
                    // Whoever comes often outlives this.
                    self.candidates.retain(|_, count| {
                        *count /= 2;
                        *count > 0
                    });
                }
                if self.candidates.len() < MOST_CANDIDATES || self.candidates.contains_key(&object) {
                    *self.candidates.entry(object).or_default() += amount(work);
                }
            }
            if others != Work::default() {
                counts.push((OTHERS, others));
            }
            counts.sort_unstable_by_key(|(row, _)| *row);
            self.counts += counts.len();
            match self.pending.back_mut().filter(|last| continues && last.end == start) {
                Some(last) => {
                    self.counts -= last.counts.len() + counts.len();
                    last.end = end;
                    last.counts.extend(counts);
                    unite(&mut last.counts);
                    self.counts += last.counts.len();
                }
                None => self.pending.push_back(Pending { start, end, is_whole, counts }),
            }
        }
        if self.counts + self.pending.len() > MOST_COUNTS {
            self.merge();
        }
    }

    fn row(&mut self, object: &WorkOn, now: Instant) -> u32 {
        if let Some(row) = self.of_object.get(object) {
            return *row;
        }
        let names = match object {
            WorkOn::File(file) => self.format.map(|format| vec![key_value(FILE_PATH, file.path(format))]),
            WorkOn::Table(table) => Some(vec![
                key_value(DB_NAMESPACE, table.namespace.as_str()),
                key_value(DB_TABLE, table.table.as_str()),
            ]),
        };
        match names {
            Some(names) if self.of_object.len() < MOST_ROWS => self.begin(object, names, now),
            _ => OTHERS,
        }
    }

    fn begin(&mut self, object: &WorkOn, names: Vec<KeyValue>, now: Instant) -> u32 {
        let row = Some(Row::new(Some(object.clone()), names, self.since, now));
        let at = match self.free.pop() {
            Some(at) => at,
            None => {
                self.rows.push(None);
                u32::try_from(self.rows.len() - 1).unwrap_or(OTHERS)
            }
        };
        self.rows[at as usize] = row;
        self.of_object.insert(object.clone(), at);
        at
    }

    /// Ends a row; of its work, nothing may be pending.
    fn end(&mut self, at: u32) {
        let Some(row) = self.rows.get_mut(at as usize).and_then(Option::take) else { return };
        self.ended.extend(row.end());
        if let Some(object) = row.object {
            self.of_object.remove(&object);
        }
        self.free.push(at);
    }

    /// The applying thread was seen: at work after this position, or not at work.
    pub(super) fn sample(&mut self, now: Instant, position: Option<u64>) {
        if let Some(times) = &mut self.times {
            times.sample(now, position);
        }
    }

    /// Replay has got to `position`.
    pub(super) fn applied(&mut self, position: u64, now: Instant) {
        while let Some(at) = self.times.as_ref().and_then(Times::first).filter(|at| *at <= position) {
            self.advance(at);
            // What was not read yet will be; it is asked again then.
            let Some(first) = self.pending.front() else { break };
            let Some(times) = &mut self.times else { break };
            let time = times.pop();
            if first.start > at {
                times.nobody(time, now);
                continue;
            }
            let tables = first.counts.iter().map(|(row, work)| {
                match self.rows.get(*row as usize).and_then(Option::as_ref)?.object.as_ref()? {
                    WorkOn::Table(table) => Some((Arc::clone(table), *work)),
                    WorkOn::File(_) => None,
                }
            });
            let tables: Vec<_> = tables.collect();
            times.share(&tables, time, now);
        }
        self.advance(position);
    }

    fn advance(&mut self, position: u64) {
        while let Some(first) = self.pending.front_mut() {
            if first.end <= position {
                for (row, work) in &first.counts {
                    if let Some(Some(row)) = self.rows.get_mut(*row as usize) {
                        add(&mut row.applied, *work);
                    }
                }
                self.counts -= first.counts.len();
                self.pending.pop_front();
                continue;
            }
            if first.start < position && !first.is_whole {
                let (done, whole) = (u128::from(position - first.start), u128::from(first.end - first.start));
                for (row, work) in &mut first.counts {
                    let part = |count: u64| u64::try_from(u128::from(count) * done / whole).unwrap_or(count);
                    let done = Work {
                        blocks: part(work.blocks),
                        drops: part(work.drops),
                        bytes: part(work.bytes),
                        sought: part(work.sought),
                    };
                    work.blocks -= done.blocks;
                    work.drops -= done.drops;
                    work.bytes -= done.bytes;
                    work.sought -= done.sought;
                    if let Some(Some(row)) = self.rows.get_mut(*row as usize) {
                        add(&mut row.applied, done);
                    }
                }
                first.start = position;
            }
            return;
        }
    }

    /// Makes two stretches one, until there is room. What lies between their ends is then told less finely.
    fn merge(&mut self) {
        while self.counts + self.pending.len() > MOST_COUNTS / 2 && self.pending.len() > 1 {
            let mut merged = VecDeque::with_capacity(self.pending.len() / 2 + 1);
            let mut stretches = std::mem::take(&mut self.pending).into_iter();
            while let Some(mut first) = stretches.next() {
                if let Some(second) = stretches.next() {
                    first.end = second.end;
                    first.is_whole = false;
                    first.counts.extend(second.counts);
                    unite(&mut first.counts);
                    first.counts.shrink_to_fit();
                }
                merged.push_back(first);
            }
            self.pending = merged;
            self.counts = self.pending.iter().map(|stretch| stretch.counts.len()).sum();
        }
    }

    /// The series that changed since the last time, and those that have ended. `at` is the points' time.
    pub(super) fn points(&mut self, now: Instant, at: SystemTime) -> Vec<WorkPoint> {
        self.expire(now);
        let mut points = std::mem::take(&mut self.ended);
        for row in self.rows.iter_mut().flatten() {
            let values = row.values();
            for (series, value) in values.into_iter().enumerate() {
                if value != row.told[series] {
                    points.push(row.point(series, Some(value)));
                }
            }
            row.told = values;
        }
        self.since = at;
        points
    }

    /// The series of time that changed since the last time, and those that have ended.
    pub(super) fn times(&mut self, now: Instant, at: SystemTime) -> Vec<TimePoint> {
        self.times.as_mut().map_or_else(Vec::new, |times| times.points(now, at))
    }

    /// Whether it is to be found out which tables have no key.
    pub(super) fn wants_keys(&self, now: Instant) -> bool {
        self.times.as_ref().is_some_and(|times| times.wants_keys(now))
    }

    /// Which tables have none, where that could be found out.
    pub(super) fn keys(&mut self, without: Option<Vec<Object>>, now: Instant) {
        if let Some(times) = &mut self.times {
            times.keys(without, now);
        }
    }

    /// Ends every series: the server is no replica any more.
    pub(super) fn finish(&mut self, now: Instant, at: SystemTime) -> (Vec<WorkPoint>, Vec<TimePoint>) {
        let before = std::mem::replace(self, Self::new(self.instance, now, at));
        let work = before.ended.into_iter().chain(before.rows.iter().flatten().flat_map(Row::end)).collect();
        (work, before.times.map_or_else(Vec::new, Times::finish))
    }

    fn drained(&self) -> impl Iterator<Item = (u32, &Row)> {
        let rows = self.rows.iter().zip(0_u32..).skip(1);
        rows.filter_map(|(row, at)| Some((at, row.as_ref()?))).filter(|(_, row)| row.is_drained())
    }

    fn expire(&mut self, now: Instant) {
        if now.saturating_duration_since(self.exchanged) < EXCHANGE {
            return;
        }
        self.exchanged = now;
        let idle = |row: &Row| now.saturating_duration_since(row.grew) > IDLE;
        let ended: Vec<u32> = self.drained().filter(|(_, row)| idle(row)).map(|(at, _)| at).collect();
        for at in ended {
            self.end(at);
        }
        self.exchange();
        self.candidates.clear();
        for row in self.rows.iter_mut().flatten() {
            row.recent /= 2;
        }
    }

    /// Gives the rows of the quietest files to clearly busier ones, which then begin when they are seen next.
    fn exchange(&mut self) {
        let mut candidates: Vec<u64> = self.candidates.values().copied().collect();
        candidates.sort_unstable_by(|a, b| b.cmp(a));
        let mut quiet: Vec<(u64, u32)> = self.drained().map(|(at, row)| (row.recent, at)).collect();
        quiet.sort_unstable();
        let busier = quiet.into_iter().zip(candidates).take(MOST_EXCHANGED);
        let given: Vec<u32> =
            busier.take_while(|((recent, _), busy)| busy / 2 > *recent).map(|((_, at), _)| at).collect();
        for at in given {
            self.end(at);
        }
    }
}

#[cfg(test)]
mod tests;
