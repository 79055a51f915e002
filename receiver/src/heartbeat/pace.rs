//! How often beats are written: as often as was asked for, and more rarely where the server takes long for one.

use std::time::Duration;

use tokio::time::Instant;

/// Share that a new cost has in the mean: one slow commit is no load.
const WEIGHT: f64 = 0.2;
/// Beats never become rarer than this, or than was asked for.
const RAREST: Duration = Duration::from_mins(1);
/// First and longest pause after a beat that failed.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// Pause where the server may not be written to: its role may change at any time, and asking costs little.
const OTHER_ROLE: Duration = Duration::from_millis(500);

/// When the next beat is due.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    max_share: f64,
    /// Mean cost of a beat.
    cost: Option<Duration>,
    due: Instant,
    failures: u32,
    is_slow: bool,
}

/// What there is to say of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A beat costs more than its share; how much, and how often there is one now.
    Slower(Duration, Duration),
    /// It does not any more.
    AsAskedFor,
}

impl Pace {
    /// The first beat is due now.
    pub(super) fn new(interval: Duration, max_share: f64, now: Instant) -> Self {
        Self { interval, max_share, cost: None, due: now, failures: 0, is_slow: false }
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Time between two beats.
    pub(super) fn current(&self) -> Duration {
        let longest = RAREST.max(self.interval);
        let cost = self.cost.unwrap_or_default().as_secs_f64() / self.max_share;
        self.interval.max(Duration::try_from_secs_f64(cost).unwrap_or(longest).min(longest))
    }

    /// A beat was written and kept the server busy so long.
    pub(super) fn wrote(&mut self, now: Instant, took: Duration) -> Option<Change> {
        self.failures = 0;
        let mean = |cost: Duration| cost.mul_f64(1.0 - WEIGHT) + took.mul_f64(WEIGHT);
        let cost = *self.cost.insert(self.cost.map_or(took, mean));
        let current = self.current();
        self.due += current;
        // Beats that took longer than the interval are not made up for.
        if self.due < now {
            self.due = now + current;
        }
        let is_slow = current > self.interval;
        // Back only well below, so that it is not said again and again.
        let is_quick = cost.as_secs_f64() < self.interval.as_secs_f64() * self.max_share / 2.0;
        if is_slow && !self.is_slow {
            self.is_slow = true;
            return Some(Change::Slower(cost, current));
        }
        if is_quick && self.is_slow {
            self.is_slow = false;
            return Some(Change::AsAskedFor);
        }
        None
    }

    /// The server may not be written to now.
    pub(super) fn not_writable(&mut self, now: Instant) {
        self.failures = 0;
        self.due = now + self.interval.max(OTHER_ROLE);
    }

    /// A beat failed.
    pub(super) fn failed(&mut self, now: Instant) {
        let pause = PAUSE.0.saturating_mul(1 << self.failures.min(16)).min(PAUSE.1);
        self.failures += 1;
        self.due = now + pause.max(self.interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_millis(10);

    #[test]
    fn beats_become_rarer_while_they_cost_more_than_their_share_and_come_back() {
        let mut now = Instant::now();
        let mut pace = Pace::new(EVERY, 0.25, now);
        let beat = |pace: &mut Pace, now: &mut Instant, took: u64| {
            let took = Duration::from_millis(took);
            *now = pace.due() + took;
            let change = pace.wrote(*now, took);
            (change, pace.current())
        };
        assert_eq!(beat(&mut pace, &mut now, 1), (None, EVERY));
        let changes: Vec<_> = (0..30).filter_map(|_| beat(&mut pace, &mut now, 20).0).collect();
        assert!(matches!(changes[..], [Change::Slower(..)]), "it is said once: {changes:?}");
        let current = pace.current();
        assert!((75..=80).contains(&current.as_millis()), "20 ms are a quarter of {current:?}");
        let changes: Vec<_> = (0..30).filter_map(|_| beat(&mut pace, &mut now, 1).0).collect();
        assert_eq!((changes, pace.current()), (vec![Change::AsAskedFor], EVERY));
    }

    #[test]
    fn failures_are_tried_again_ever_more_rarely() {
        let now = Instant::now();
        let mut pace = Pace::new(EVERY, 0.25, now);
        let mut pauses = Vec::new();
        for _ in 0..7 {
            pace.failed(now);
            pauses.push((pace.due() - now).as_millis());
        }
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 5000, 5000]);
        pace.not_writable(now);
        assert_eq!(pace.due() - now, OTHER_ROLE);
        pace.failed(now);
        assert_eq!((pace.due() - now).as_millis(), 250);
    }
}
