//! A ring of (time, position): when did the log reach a position? Pure; who samples it is the caller's business.

use std::collections::VecDeque;

/// Points kept, 1 MiB. The coarse ones grow with the logarithm of the age only: to at most 2 / [`RESOLUTION`] for each
/// time that it grows by e, so 16 times, which is decades.
const CAPACITY: usize = 65_536;

/// The newest points, which are never thinned: 11 minutes of a log that never rests, at one point every 20 ms.
const FINE: usize = CAPACITY / 2;

/// Of what is older, points are kept as far apart as this share of their age: 4 s after an hour. In between, the log is
/// taken to flow.
const RESOLUTION: f64 = 0.001;

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
            _ => {
                if length == CAPACITY {
                    self.thin(at);
                }
                self.points.push_back(Point { at, position });
            }
        }
    }

    /// Drops the points without which the gap is still small for its age. A second time makes no wider gaps: age grows.
    fn thin(&mut self, now: f64) {
        let fine = self.points.len().saturating_sub(FINE);
        let mut kept = 1;
        for index in 1..fine {
            let next = self.points[index + 1].at;
            if next - self.points[kept - 1].at > RESOLUTION * (now - next) {
                self.points[kept] = self.points[index];
                kept += 1;
            }
        }
        self.points.drain(kept.min(fine)..fine);
        // Only a clock that is no clock gets here.
        while self.points.len() >= CAPACITY {
            self.points.pop_front();
        }
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

    #[test]
    fn hours_of_lag_are_right_by_a_thousandth_however_long_and_uneven_the_log_was() {
        const HOUR: u64 = 3600 * 20;
        let seconds = |ticks: u64| ticks as f64 / 20.0;
        // 40 MB/s for four hours a day, else 1 MB/s.
        let written = |tick: u64| {
            let day = 24 * HOUR;
            let busy = tick / day * 4 * HOUR + (tick % day).min(4 * HOUR);
            2_000_000 * busy + 50_000 * (tick - busy)
        };
        let mut timeline = Timeline::default();
        let mut tick = 0;
        for hours in [12, 24, 28, 7 * 24] {
            let now = hours * HOUR;
            while tick <= now {
                timeline.record(seconds(tick), written(tick));
                tick += 1;
            }
            for lag in [2 * HOUR, 4 * HOUR, 8 * HOUR] {
                let Passed::At(at) = timeline.passed(written(now - lag)) else { panic!("passed") };
                let (told, lag) = (seconds(now) - at, seconds(lag));
                assert!((told - lag).abs() <= 0.001 * lag, "{lag} s told as {told} s after {hours} hours");
            }
            assert!(timeline.points.len() <= CAPACITY);
        }
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
