//! Where the critical threads' time went, over time: readings come at moments of their own, and a tick takes the part
//! of each that lies between its two lag measurements. No second is taken twice.

use std::collections::{HashMap, VecDeque};

use super::{charges::Spent, owner::Subject, reading::ThreadPoint};

/// Readings that wait for a lag measurement. One a second arrives; a replication receiver that is silent for longer
/// than this leaves its ticks to start anew.
const MOST_WINDOWS: usize = 120;

/// The time between two readings that has not been taken yet.
#[derive(Debug)]
struct Span {
    from: u64,
    until: u64,
    spent: Spent,
}

/// Readings of one channel's critical threads.
#[derive(Debug, Default)]
pub struct Windows {
    counters: HashMap<(i64, String, Subject, String), f64>,
    read_at: Option<u64>,
    spans: VecDeque<Span>,
}

/// The part of the readings that a tick takes.
#[derive(Debug, Default)]
pub struct Taken {
    /// Seconds covered.
    pub observed: f64,
    /// Where they went.
    pub spent: Spent,
}

impl Windows {
    /// Takes the cumulative time of the threads as it was at `at`; returns what was spent since the reading before.
    pub fn read(&mut self, at: u64, points: &[ThreadPoint]) -> Spent {
        let mut spent = Spent::new();
        for ThreadPoint { thread, state, subject, path, seconds } in points {
            let key = (*thread, state.clone(), subject.clone(), path.clone());
            match seconds {
                Some(seconds) => {
                    let before = self.counters.insert(key, *seconds).unwrap_or(0.0);
                    // A counter that went back has started anew.
                    let delta = if *seconds >= before { seconds - before } else { *seconds };
                    *spent.entry((state.clone(), subject.clone())).or_default() += delta;
                }
                None => drop(self.counters.remove(&key)),
            }
        }
        // The first reading only tells where the counters stand, and so does one after a clock that was set back.
        match self.read_at.replace(at) {
            Some(from) if from < at => {
                shrink_to(&mut spent, seconds_between(from, at));
                self.spans.push_back(Span { from, until: at, spent: spent.clone() });
                if self.spans.len() > MOST_WINDOWS {
                    self.spans.pop_front();
                }
                spent
            }
            Some(_) => {
                self.spans.clear();
                Spent::new()
            }
            None => Spent::new(),
        }
    }

    /// Whether there is a reading at this moment or later.
    pub fn reach(&self, at: u64) -> bool {
        self.read_at.is_some_and(|read_at| read_at >= at)
    }

    /// Where a tick of a measurement at `at` ends: at the reading, if that is only a moment older, else at the measurement.
    pub fn end_of_tick(&self, at: u64, tolerance: u64) -> u64 {
        self.read_at.filter(|read_at| *read_at < at && at - read_at <= tolerance).unwrap_or(at)
    }

    /// Takes what lies between two moments. What lies before is dropped: it has been accounted for without.
    pub fn take(&mut self, from: u64, until: u64) -> Taken {
        let mut taken = Taken::default();
        while let Some(span) = self.spans.front_mut().filter(|span| span.from < until) {
            let length = seconds_between(span.from, span.until);
            let share = |from: u64, until: u64| seconds_between(from, until) / length;
            let begin = span.from.max(from);
            let end = span.until.min(until);
            if begin < end {
                taken.observed += seconds_between(begin, end);
                for (key, seconds) in &span.spent {
                    *taken.spent.entry(key.clone()).or_default() += seconds * share(begin, end);
                }
            }
            if span.until <= until {
                self.spans.pop_front();
            } else {
                let left = share(until, span.until);
                for seconds in span.spent.values_mut() {
                    *seconds *= left;
                }
                span.from = until;
            }
        }
        taken
    }
}

/// Time of a file that was being looked up comes when it has a name, all at once; the seconds have been accounted for as
/// unknown by then, and no window holds more than its length.
fn shrink_to(spent: &mut Spent, seconds: f64) {
    let sum: f64 = spent.values().sum();
    if sum > seconds {
        for value in spent.values_mut() {
            *value *= seconds / sum;
        }
    }
}

/// Seconds from one moment to a later one; 0 when it is not later.
pub(super) fn seconds_between(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn point(path: &str, seconds: f64) -> ThreadPoint {
        let subject = Subject { table: Some("(unresolved)".into()), ..Subject::default() };
        ThreadPoint { thread: 1, state: "read".into(), subject, path: path.into(), seconds: Some(seconds) }
    }

    fn sum(spent: &Spent) -> f64 {
        spent.values().sum()
    }

    #[test]
    fn two_files_without_a_name_are_two_counters() {
        let mut windows = Windows::default();
        windows.read(SECOND, &[point("a", 5.0), point("b", 3.0)]);
        let spent = windows.read(2 * SECOND, &[point("a", 5.1), point("b", 3.2)]);
        assert!((sum(&spent) - 0.3).abs() < 1e-9, "{spent:?}");
    }

    #[test]
    fn a_reading_of_five_seconds_is_shared_out_over_five_ticks_and_never_taken_twice() {
        let mut windows = Windows::default();
        windows.read(10 * SECOND, &[point("a", 0.0)]);
        windows.read(15 * SECOND, &[point("a", 4.0)]);
        for tick in 10..15 {
            let taken = windows.take(tick * SECOND, (tick + 1) * SECOND);
            assert!((taken.observed - 1.0).abs() < 1e-9);
            assert!((sum(&taken.spent) - 0.8).abs() < 1e-9);
        }
        assert!(windows.take(15 * SECOND, 20 * SECOND).observed == 0.0);
    }

    #[test]
    fn what_comes_after_its_tick_is_dropped() {
        let mut windows = Windows::default();
        windows.read(SECOND, &[point("a", 0.0)]);
        windows.read(3 * SECOND, &[point("a", 2.0)]);
        let taken = windows.take(2 * SECOND, 3 * SECOND);
        assert!((taken.observed - 1.0).abs() < 1e-9);
        assert!((sum(&taken.spent) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_window_holds_no_more_than_its_length() {
        let mut windows = Windows::default();
        windows.read(SECOND, &[]);
        let spent = windows.read(2 * SECOND, &[point("late", 4.0)]);
        assert!((sum(&spent) - 1.0).abs() < 1e-9);
    }
}
