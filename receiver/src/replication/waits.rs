//! Time that applying waited, by kind and relation, from samples: each sample stands for the time since the last one.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use blameio_databases::{ApplyWait, Object, WaitKind};
use blameio_pipeline::{
    attribute::{DB_INDEX, DB_NAMESPACE, DB_TABLE, FILE_KIND, WAIT_HOLDER, WAIT_KIND},
    metrics::key_value,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;

/// A sample stands for at most so long: what happened while the server did not answer is not known.
const LONGEST: Duration = Duration::from_millis(500);

/// Rows kept apart. Relations and holders waited for at a time are few; the bound is for a storm of short queries.
const MOST_ROWS: usize = 256;

/// A row that did not grow for so long is ended.
const IDLE: Duration = Duration::from_mins(10);

/// What was waited for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct WaitKey {
    kind: &'static str,
    object: Option<Arc<Object>>,
    holder: Option<u32>,
}

impl WaitKey {
    fn of(wait: &ApplyWait) -> Option<Self> {
        let kind = wait.kind.as_str()?;
        let held = matches!(wait.kind, WaitKind::Lock | WaitKind::Conflict);
        Some(Self {
            kind,
            object: wait.object.clone().filter(|_| held),
            holder: wait.holder.filter(|_| held),
        })
    }

    /// The attributes of its points, without the channel's.
    pub(super) fn attributes(&self) -> Vec<KeyValue> {
        let mut attributes = vec![key_value(WAIT_KIND, self.kind)];
        if let Some(object) = &self.object {
            attributes.push(key_value(DB_NAMESPACE, object.namespace.as_str()));
            attributes.push(key_value(DB_TABLE, object.table.as_str()));
            attributes.push(key_value(FILE_KIND, object.kind.as_str()));
            if let Some(index) = &object.index {
                attributes.push(key_value(DB_INDEX, index.as_str()));
            }
        }
        if let Some(holder) = self.holder {
            attributes.push(key_value(WAIT_HOLDER, i64::from(holder)));
        }
        attributes
    }
}

#[derive(Debug)]
struct Waited {
    time: Duration,
    grew: Instant,
    /// Since when it counts.
    start: SystemTime,
}

/// Cumulative time waited.
#[derive(Debug)]
pub(super) struct Waits {
    rows: HashMap<WaitKey, Waited>,
    last: Option<Instant>,
    /// When it was told last: what begins since then counts from there.
    since: SystemTime,
}

impl Waits {
    /// Nothing was waited for since `at`.
    pub(super) fn new(at: SystemTime) -> Self {
        Self { rows: HashMap::new(), last: None, since: at }
    }

    /// Takes a sample.
    pub(super) fn sample(&mut self, now: Instant, wait: Option<&ApplyWait>) {
        let since = self.last.map_or(Duration::ZERO, |last| now.saturating_duration_since(last)).min(LONGEST);
        self.last = Some(now);
        let Some(mut key) = wait.and_then(WaitKey::of) else { return };
        // The holder is given up first: what is waited for is worth more than who held it.
        if !self.rows.contains_key(&key) && self.rows.len() >= MOST_ROWS {
            key.holder = None;
        }
        if !self.rows.contains_key(&key) && self.rows.len() >= 2 * MOST_ROWS {
            key.object = None;
        }
        let start = self.since;
        let row = self.rows.entry(key).or_insert(Waited { time: Duration::ZERO, grew: now, start });
        row.time += since;
        row.grew = now;
    }

    /// Takes out the rows that have long not grown; the others are about to be told, at the time `at`.
    pub(super) fn expire(&mut self, now: Instant, at: SystemTime) -> Vec<WaitKey> {
        self.since = at;
        let idle = |row: &Waited| now.saturating_duration_since(row.grew) > IDLE;
        self.rows.extract_if(|_, row| idle(row)).map(|(key, _)| key).collect()
    }

    /// The rows, and since when they count.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&WaitKey, Duration, SystemTime)> {
        self.rows.iter().map(|(key, waited)| (key, waited.time, waited.start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(kind: WaitKind, holder: Option<u32>) -> ApplyWait {
        ApplyWait { kind, object: None, holder, own: false }
    }

    #[test]
    fn a_sample_stands_for_the_time_since_the_last_one_but_not_for_an_outage() {
        let mut waits = Waits::new(SystemTime::UNIX_EPOCH);
        let start = Instant::now();
        waits.sample(start, None);
        waits.sample(start + Duration::from_millis(20), Some(&wait(WaitKind::Lock, Some(7))));
        waits.sample(start + Duration::from_mins(1), Some(&wait(WaitKind::Lock, Some(7))));
        let rows: Vec<_> = waits.rows().collect();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].1, Duration::from_millis(520));
    }

    #[test]
    fn work_is_no_wait_and_rows_are_bounded() {
        let mut waits = Waits::new(SystemTime::UNIX_EPOCH);
        let start = Instant::now();
        waits.sample(start, Some(&wait(WaitKind::Other, None)));
        assert_eq!(waits.rows().count(), 0);
        for holder in 0..10_000 {
            waits.sample(start, Some(&wait(WaitKind::Conflict, Some(holder))));
        }
        assert!(waits.rows().count() <= MOST_ROWS + 1);
        assert_eq!(waits.expire(start + Duration::from_mins(11), SystemTime::now()).len(), MOST_ROWS + 1);
        assert_eq!(waits.rows().count(), 0);
    }

    #[test]
    fn a_row_that_returns_counts_from_zero_since_it_was_last_told_to_be_none() {
        let epoch = SystemTime::UNIX_EPOCH;
        let mut waits = Waits::new(epoch);
        let begin = Instant::now();
        let mut told = |minutes: u64| {
            let now = begin + Duration::from_mins(minutes);
            waits.sample(now, None);
            waits.sample(now + Duration::from_millis(20), Some(&wait(WaitKind::Lock, Some(7))));
            let row = waits.rows().next().map(|(_, time, start)| (time, start));
            let (ended, at) = (now + Duration::from_mins(11), epoch + Duration::from_mins(minutes + 11));
            assert_eq!(waits.expire(ended, at).len(), 1);
            row
        };
        let first = told(0);
        assert_eq!(first, Some((Duration::from_millis(20), epoch)));
        assert_eq!(told(60), Some((Duration::from_millis(20), epoch + Duration::from_mins(11))));
    }
}
