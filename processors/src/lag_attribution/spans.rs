//! Amounts that were measured between two moments, cut to the windows that ask for them. What was measured over five
//! seconds is taken to have been spread evenly over them.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::Hash,
};

/// Spans that are kept. One a second arrives; a replication receiver that is silent for longer than this leaves its ticks
/// to start anew.
const MOST_SPANS: usize = 120;

/// Amounts by what they are of.
pub type Amounts<K> = BTreeMap<K, f64>;

#[derive(Debug)]
struct Span<K> {
    from: u64,
    until: u64,
    amounts: Amounts<K>,
}

/// What was measured lately, oldest first. The spans do not overlap.
#[derive(Debug)]
pub struct Spans<K>(VecDeque<Span<K>>);

impl<K> Default for Spans<K> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<K: Ord + Clone> Spans<K> {
    /// Adds what was measured between two moments, the second later than the first.
    pub fn push(&mut self, from: u64, until: u64, amounts: Amounts<K>) {
        self.0.push_back(Span { from, until, amounts });
        if self.0.len() > MOST_SPANS {
            self.0.pop_front();
        }
    }

    /// The span that holds this moment: it began before, and ends then or later.
    pub fn at(&mut self, at: u64) -> Option<&mut Amounts<K>> {
        self.0.iter_mut().rev().find(|span| span.from < at && at <= span.until).map(|span| &mut span.amounts)
    }

    /// What lies between two moments, and how many seconds of them are covered.
    pub fn between(&self, from: u64, until: u64) -> (f64, Amounts<K>) {
        let mut observed = 0.0;
        let mut amounts = Amounts::new();
        for span in &self.0 {
            let seconds = seconds_between(span.from.max(from), span.until.min(until));
            if seconds > 0.0 {
                observed += seconds;
                let share = seconds / seconds_between(span.from, span.until);
                for (key, amount) in &span.amounts {
                    *amounts.entry(key.clone()).or_default() += amount * share;
                }
            }
        }
        (observed, amounts)
    }

    /// Forgets what ends at a moment or before.
    pub fn forget(&mut self, until: u64) {
        while self.0.front().is_some_and(|span| span.until <= until) {
            self.0.pop_front();
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// Cumulative values as they were last heard of.
#[derive(Debug)]
pub struct Counters<K>(HashMap<K, f64>);

impl<K> Default for Counters<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Counters<K> {
    /// Takes a cumulative value, or that its series has ended; returns what it grew by. A counter that is new, or went
    /// back, has started at zero.
    pub fn grow(&mut self, key: K, value: Option<f64>) -> f64 {
        let Some(value) = value else {
            self.0.remove(&key);
            return 0.0;
        };
        let before = self.0.insert(key, value).unwrap_or(0.0);
        if value >= before { value - before } else { value }
    }

    /// Whether there is such a counter.
    pub fn has(&self, key: &K) -> bool {
        self.0.contains_key(key)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Seconds from one moment to a later one; 0 when it is not later.
pub fn seconds_between(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn what_was_measured_over_five_seconds_is_shared_out_over_them() {
        let mut spans = Spans::default();
        spans.push(10 * SECOND, 15 * SECOND, Amounts::from([("a", 4.0)]));
        let (observed, amounts) = spans.between(9 * SECOND, 11 * SECOND);
        assert!((observed - 1.0).abs() < 1e-9);
        assert!((amounts["a"] - 0.8).abs() < 1e-9);
        spans.forget(15 * SECOND);
        assert_eq!(spans.between(0, u64::MAX), (0.0, Amounts::new()));
    }

    #[test]
    fn a_counter_that_went_back_or_came_back_has_started_anew() {
        let mut counters = Counters::default();
        assert_eq!(counters.grow("a", Some(5.0)), 5.0);
        assert_eq!(counters.grow("a", Some(7.0)), 2.0);
        assert_eq!(counters.grow("a", Some(3.0)), 3.0);
        assert_eq!(counters.grow("a", None), 0.0);
        assert_eq!(counters.grow("a", Some(1.0)), 1.0);
    }
}
