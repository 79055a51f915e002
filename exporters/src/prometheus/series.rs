//! The newest value of each series, and which of them are still alive.
//!
//! It knows neither OTLP's shapes (see `intake`) nor an exposition format (see `text`).

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::Arc,
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::metrics::v1::{Exemplar, ExponentialHistogramDataPoint};

use super::label::{Labels, Target};

/// Series that are held at most: about 50 MiB. What is above is counted and left out.
pub(super) const MAX_SERIES: usize = 100_000;
/// A value that is older than the one held by more than this, in nanoseconds, is no late one: the clock was set
/// back.
const LATE: u64 = 60_000_000_000;

/// The type of a metric, as the exposition names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A cumulative monotonic sum.
    Counter,
    /// Everything else that is one number.
    Gauge,
    /// Explicit or exponential.
    Histogram,
    /// Quantiles that the sender computed.
    Summary,
}

impl Kind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
        }
    }
}

/// The value of a series.
#[derive(Debug)]
pub(super) enum Value {
    /// Of a counter or a gauge.
    Number { value: f64, exemplar: Option<Exemplar> },
    /// Cumulative counts at ascending boundaries, without `+Inf`.
    Histogram { buckets: Vec<(f64, u64)>, sum: Option<f64>, count: u64, exemplars: Vec<Exemplar> },
    /// Kept as it came: its boundaries depend on the other series of the metric.
    Exponential(Box<ExponentialHistogramDataPoint>),
    /// Quantile and value.
    Summary { quantiles: Vec<(f64, f64)>, sum: f64, count: u64 },
}

/// A value and when it was taken and received.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) value: Value,
    /// The point's own time, nanoseconds since the epoch; 0 if the sender gave none.
    pub(super) at: u64,
    pub(super) received: Instant,
    pub(super) target: Arc<Target>,
}

impl Sample {
    fn is_alive(&self, age: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.received) < age
    }
}

/// Whether a value was overtaken by the one that is held.
fn is_late(at: u64, held: u64) -> bool {
    held.checked_sub(at).is_some_and(|behind| behind > 0 && behind <= LATE)
}

/// All series of one name.
#[derive(Debug)]
struct Family {
    kind: Kind,
    help: String,
    series: BTreeMap<Labels, Arc<Sample>>,
}

/// What a family held at one moment; it shares the samples with the store.
#[derive(Debug)]
pub(super) struct Frozen {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) help: String,
    /// In the order of their labels.
    pub(super) series: Vec<(Labels, Arc<Sample>)>,
}

/// Why a point was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rejected {
    /// The name stands for a metric of another type already.
    Conflict,
    /// [`MAX_SERIES`] is reached.
    Full,
    /// Only cumulative values can be scraped.
    Delta,
    /// No name, no value, or buckets and boundaries that do not fit together.
    Malformed,
}

/// Families by name.
#[derive(Debug, Default)]
pub(super) struct Store {
    families: BTreeMap<String, Family>,
    len: usize,
}

impl Store {
    /// Takes a value, unless a newer one of its series is held.
    pub(super) fn put(
        &mut self,
        name: &str,
        kind: Kind,
        help: &str,
        labels: Labels,
        sample: Sample,
    ) -> Result<(), Rejected> {
        let full = self.len >= MAX_SERIES;
        if !self.families.contains_key(name) {
            if full {
                return Err(Rejected::Full);
            }
            let family = Family { kind, help: help.to_owned(), series: BTreeMap::new() };
            self.families.insert(name.to_owned(), family);
        }
        let Some(family) = self.families.get_mut(name) else { return Err(Rejected::Malformed) };
        if family.kind != kind {
            return Err(Rejected::Conflict);
        }
        match family.series.get_mut(&labels) {
            Some(known) if is_late(sample.at, known.at) => {}
            Some(known) => *known = Arc::new(sample),
            None if full => return Err(Rejected::Full),
            None => {
                family.series.insert(labels, Arc::new(sample));
                self.len += 1;
            }
        }
        Ok(())
    }

    /// Lets a series go that has ended, unless it has begun again since.
    pub(super) fn end(&mut self, name: &str, labels: &Labels, at: u64) {
        let Some(family) = self.families.get_mut(name) else { return };
        if family.series.get(labels).is_some_and(|held| !is_late(at, held.at)) {
            family.series.remove(labels);
            self.len -= 1;
        }
        if family.series.is_empty() {
            // The name is free again, for another type as well.
            self.families.remove(name);
        }
    }

    /// Lets go what has not been received for `age`.
    pub(super) fn expire(&mut self, age: Duration, now: Instant) {
        self.families.retain(|_, family| {
            family.series.retain(|_, sample| sample.is_alive(age, now));
            !family.series.is_empty()
        });
        self.len = self.families.values().map(|family| family.series.len()).sum();
    }

    /// The next families by name, after the one called `after`, until they have `enough` series. What has not
    /// been received for `age` is left out.
    pub(super) fn freeze(
        &self,
        after: Option<&str>,
        enough: usize,
        age: Duration,
        now: Instant,
    ) -> Vec<Frozen> {
        let (mut frozen, mut series) = (Vec::new(), 0);
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        for (name, family) in self.families.range::<str, _>((from, Bound::Unbounded)) {
            let alive = family.series.iter().filter(|(_, sample)| sample.is_alive(age, now));
            let one = Frozen {
                name: name.clone(),
                kind: family.kind,
                help: family.help.clone(),
                series: alive.map(|(labels, sample)| (Arc::clone(labels), Arc::clone(sample))).collect(),
            };
            // What was looked at counts, alive or not: it is the time under the lock that is bounded.
            series += family.series.len();
            frozen.push(one);
            if series >= enough {
                break;
            }
        }
        frozen
    }

    /// How many series are held.
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGE: Duration = Duration::from_mins(5);

    fn labels(value: &str) -> Labels {
        Labels::from([("l".to_owned(), value.to_owned())])
    }

    fn sample(value: f64, at: u64, received: Instant) -> Sample {
        Sample {
            value: Value::Number { value, exemplar: None },
            at,
            received,
            target: Target::new(None, true),
        }
    }

    fn value(store: &Store, name: &str) -> Option<f64> {
        match &store.families.get(name)?.series.values().next()?.value {
            Value::Number { value, .. } => Some(*value),
            _ => None,
        }
    }

    #[test]
    fn the_newest_value_is_held_whatever_the_order() {
        let (mut store, now) = (Store::default(), Instant::now());
        for (number, at) in [(1.0, 10), (3.0, 30), (2.0, 20)] {
            assert_eq!(store.put("m", Kind::Gauge, "", labels("a"), sample(number, at, now)), Ok(()));
        }
        assert_eq!(value(&store, "m"), Some(3.0));
        assert_eq!(store.len(), 1);
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_freeze_a_series() {
        const SECOND: u64 = 1_000_000_000;
        let (mut store, now) = (Store::default(), Instant::now());
        for (number, at, expected) in [(1.0, 7200, 1.0), (2.0, 7140, 1.0), (3.0, 3600, 3.0), (4.0, 3601, 4.0)]
        {
            let sample = sample(number, at * SECOND, now);
            assert_eq!(store.put("m", Kind::Gauge, "", labels("a"), sample), Ok(()));
            assert_eq!(value(&store, "m"), Some(expected));
        }
        store.end("m", &labels("a"), 10 * SECOND);
        assert_eq!(store.len(), 0, "an end that comes after another step back");
    }

    #[test]
    fn a_snapshot_comes_in_parts_and_stays_as_it_was() {
        let (mut store, now) = (Store::default(), Instant::now());
        for name in ["a", "b", "c", "d", "e"] {
            for label in ["x", "y"] {
                let received = if label == "x" { now } else { now + AGE };
                assert_eq!(store.put(name, Kind::Gauge, "", labels(label), sample(1.0, 1, received)), Ok(()));
            }
        }
        let later = now + AGE;
        let mut parts: Vec<Vec<Frozen>> = Vec::new();
        loop {
            let after = parts.last().and_then(|part| part.last()).map(|family| family.name.as_str());
            let part = store.freeze(after, 3, AGE, later);
            if part.is_empty() {
                break;
            }
            parts.push(part);
        }
        let names = |part: &Vec<Frozen>| part.iter().map(|family| family.name.clone()).collect::<String>();
        assert_eq!(parts.iter().map(names).collect::<Vec<_>>(), ["ab", "cd", "e"]);
        assert_eq!(store.put("a", Kind::Gauge, "", labels("y"), sample(2.0, 2, later)), Ok(()));
        let (of, held) = &parts[0][0].series[0];
        assert_eq!((parts[0][0].series.len(), of), (1, &labels("y")), "the expired one is left out");
        assert!(matches!(held.value, Value::Number { value: 1.0, .. }));
    }

    #[test]
    fn an_ended_series_leaves_at_once_and_its_name_is_free() {
        let (mut store, now) = (Store::default(), Instant::now());
        let put = |store: &mut Store, kind| store.put("m", kind, "", labels("a"), sample(1.0, 10, now));
        assert_eq!(put(&mut store, Kind::Gauge), Ok(()));
        assert_eq!(put(&mut store, Kind::Counter), Err(Rejected::Conflict));
        store.end("m", &labels("a"), 9);
        assert_eq!(store.len(), 1, "an end from before the value is of an earlier life");
        store.end("m", &labels("a"), 10);
        assert_eq!(store.len(), 0);
        assert_eq!(put(&mut store, Kind::Counter), Ok(()));
    }

    #[test]
    fn what_is_not_received_any_more_expires() {
        let (mut store, now) = (Store::default(), Instant::now());
        assert_eq!(store.put("m", Kind::Gauge, "", labels("a"), sample(1.0, 0, now)), Ok(()));
        assert_eq!(store.put("m", Kind::Gauge, "", labels("b"), sample(1.0, 0, now + AGE / 2)), Ok(()));
        store.expire(AGE, now + AGE);
        assert_eq!(store.len(), 1);
        store.expire(AGE, now + AGE * 2);
        assert_eq!((store.len(), store.families.len()), (0, 0));
    }

    #[test]
    fn the_number_of_series_is_bounded() {
        let (mut store, now) = (Store::default(), Instant::now());
        for index in 0..MAX_SERIES {
            assert_eq!(
                store.put("m", Kind::Gauge, "", labels(&index.to_string()), sample(1.0, 0, now)),
                Ok(())
            );
        }
        let more =
            |store: &mut Store, label| store.put("m", Kind::Gauge, "", labels(label), sample(2.0, 1, now));
        assert_eq!(more(&mut store, "one more"), Err(Rejected::Full));
        assert_eq!(more(&mut store, "7"), Ok(()), "a series that is held goes on");
        assert_eq!(store.put("n", Kind::Gauge, "", labels("a"), sample(1.0, 0, now)), Err(Rejected::Full));
    }
}
