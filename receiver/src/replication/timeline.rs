//! A ring of (time, position): when did the log reach a position? Pure; who samples it is the caller's business.

use std::collections::VecDeque;

/// Points kept. At one every 20 ms this is 22 minutes of a log that never rests; then every second of the older half
/// goes, so that hours of lag are still told, only less finely. 1 MiB.
const CAPACITY: usize = 65_536;

/// One look at a position.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    at: f64,
    position: u64,
}

/// When the log passed a position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Passed {
    /// It has not.
    NotYet,
    /// At this time, in seconds.
    At(f64),
    /// Before the ring began, at this time.
    Before(f64),
}

/// When a log reached its positions.
#[derive(Clone, Debug, Default)]
pub(super) struct Timeline {
    points: VecDeque<Point>,
}

impl Timeline {
    /// Takes a look at the position at a time, in seconds on any clock that does not jump. A position that goes back
    /// is another history: the ring starts anew.
    pub(super) fn record(&mut self, at: f64, position: u64) {
        if self.points.back().is_some_and(|last| position < last.position) {
            self.points.clear();
        }
        let length = self.points.len();
        // While the log rests, only the beginning and the end of the rest are of interest.
        let rests = length >= 2
            && self.points[length - 1].position == position
            && self.points[length - 2].position == position;
        match self.points.back_mut() {
            Some(last) if rests => last.at = at,
            _ => self.points.push_back(Point { at, position }),
        }
        if self.points.len() > CAPACITY {
            self.thin();
        }
    }

    fn thin(&mut self) {
        let half = CAPACITY / 2;
        let mut position = 0;
        self.points.retain(|_| {
            position += 1;
            position > half || position % 2 == 1
        });
    }

    /// When the log went beyond `position`: the time at which the oldest change after it became known.
    pub(super) fn passed(&self, position: u64) -> Passed {
        let beyond = self.points.partition_point(|point| point.position <= position);
        let Some(next) = self.points.get(beyond) else { return Passed::NotYet };
        let Some(before) = beyond.checked_sub(1).and_then(|index| self.points.get(index)) else {
            return Passed::Before(next.at);
        };
        // From exactly here the log may have moved on at any moment between the looks; beyond, it is taken to flow.
        let share = if position == before.position {
            0.5
        } else {
            (position - before.position) as f64 / (next.position - before.position) as f64
        };
        Passed::At(before.at + share * (next.at - before.at))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_log_that_rested_is_passed_when_it_moved_on_and_not_when_it_came_to_rest() {
        let mut timeline = Timeline::default();
        for tick in 0..500 {
            timeline.record(f64::from(tick) * 0.02, 100);
        }
        timeline.record(10.0, 200);
        let Passed::At(at) = timeline.passed(100) else { panic!("passed") };
        assert!((9.98..=10.0).contains(&at), "{at}");
        assert_eq!(timeline.passed(200), Passed::NotYet);
        assert_eq!(timeline.points.len(), 3);
    }

    #[test]
    fn what_was_before_the_ring_is_said_to_be_so() {
        let mut timeline = Timeline::default();
        timeline.record(5.0, 100);
        assert_eq!(timeline.passed(50), Passed::Before(5.0));
    }

    #[test]
    fn another_history_starts_anew() {
        let mut timeline = Timeline::default();
        timeline.record(1.0, 100);
        timeline.record(2.0, 40);
        assert_eq!(timeline.passed(90), Passed::NotYet);
    }

    proptest! {
        #[test]
        fn the_answer_lies_between_the_looks_around_it(steps in proptest::collection::vec(0_u64..50, 2..200), ask in 0_u64..5000) {
            let mut timeline = Timeline::default();
            let mut position = 10;
            let mut looks = Vec::new();
            for (tick, step) in steps.into_iter().enumerate() {
                position += step;
                timeline.record(tick as f64, position);
                looks.push((tick as f64, position));
            }
            let first_beyond = looks.iter().find(|(_, position)| *position > ask);
            let last_at = looks.iter().rev().find(|(_, position)| *position <= ask);
            match timeline.passed(ask) {
                Passed::NotYet => prop_assert!(first_beyond.is_none()),
                Passed::Before(at) => {
                    prop_assert!(last_at.is_none());
                    prop_assert_eq!(Some(at), first_beyond.map(|look| look.0));
                }
                Passed::At(at) => {
                    prop_assert!(last_at.unwrap().0 <= at && at <= first_beyond.unwrap().0);
                }
            }
        }

        #[test]
        fn the_ring_is_bounded(count in 65_000_usize..140_000) {
            let mut timeline = Timeline::default();
            for tick in 0..count {
                timeline.record(tick as f64, tick as u64);
            }
            prop_assert!(timeline.points.len() <= CAPACITY);
            prop_assert!(timeline.passed(count as u64 / 3) != Passed::NotYet);
        }
    }
}
