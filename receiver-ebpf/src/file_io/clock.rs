//! When series begin. A series that was not in one collection and is in the next began between the two, also when it was
//! there before and has ended. No start is later than the time of its point, though the clock may be set back.

use std::time::{Duration, SystemTime};

use blameio_pipeline::metrics::{PointTime, unix_nano};
use nix::time::{ClockId, clock_gettime};

/// When a series began: nanoseconds since the epoch, as the clock was before it was ever set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start(u64);

/// Remembers the last collection.
#[derive(Debug)]
pub(super) struct Clock {
    start: Start,
    /// By the wall clock and by the monotonic one.
    last: (u64, u64),
    /// By how much the wall clock was set back, in all.
    set_back: u64,
}

/// When a collection was taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    at: u64,
    /// Of what is new in this collection.
    pub(super) begin: Start,
    set_back: u64,
}

impl Clock {
    pub(super) fn new() -> Self {
        let now = (wall_ns(), monotonic_ns());
        Self { start: Start(now.0), last: now, set_back: 0 }
    }

    /// When everything began.
    pub(super) fn start(&self) -> Start {
        self.start
    }

    /// A collection that was taken at this moment of the monotonic clock.
    pub(super) fn collection(&mut self, monotonic: u64) -> Moment {
        let at = wall_ns().saturating_sub(monotonic_ns().saturating_sub(monotonic));
        self.turn(at, monotonic)
    }

    /// A collection of now.
    pub(super) fn now(&mut self) -> Moment {
        self.turn(wall_ns(), monotonic_ns())
    }

    fn turn(&mut self, at: u64, monotonic: u64) -> Moment {
        let begin = Start(self.last.0.saturating_add(self.set_back));
        if at < self.last.0 {
            let passed = monotonic.saturating_sub(self.last.1);
            self.set_back += self.last.0.saturating_add(passed) - at;
        }
        self.last = (at, monotonic);
        Moment { at, begin, set_back: self.set_back }
    }
}

impl Moment {
    /// The time of a point of a series that began then.
    pub(super) fn since(self, start: Start) -> PointTime {
        PointTime { start: start.0.saturating_sub(self.set_back), at: self.at }
    }
}

fn wall_ns() -> u64 {
    unix_nano(SystemTime::now())
}

fn monotonic_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |time| u64::try_from(Duration::from(time).as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
impl Clock {
    pub(super) fn at(wall: u64) -> Self {
        Self { start: Start(wall), last: (wall, 0), set_back: 0 }
    }

    pub(super) fn second(&mut self, wall: u64, monotonic: u64) -> Moment {
        self.turn(wall, monotonic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(time: PointTime) -> (u64, u64) {
        (time.start, time.at)
    }

    #[test]
    fn what_is_new_began_after_the_collection_before() {
        let mut clock = Clock::at(100);
        let first = clock.turn(110, 10);
        assert_eq!(times(first.since(first.begin)), (100, 110));
        let second = clock.turn(120, 20);
        assert_eq!(times(second.since(second.begin)), (110, 120));
        assert_eq!(times(second.since(first.begin)), (100, 120));
    }

    #[test]
    fn no_series_begins_after_its_time_when_the_clock_is_set_back() {
        let mut clock = Clock::at(1_000);
        let old = clock.turn(1_010, 10).begin;
        let last = clock.turn(1_020, 20).begin;
        // 900 back, ten after the collection before.
        let back = clock.turn(130, 30);
        assert_eq!(times(back.since(back.begin)), (120, 130));
        assert_eq!([old, last].map(|start| times(back.since(start))), [(100, 130), (110, 130)]);
        // And it stays: a start that moves is a new series.
        let later = clock.turn(140, 40);
        assert_eq!([old, last].map(|start| times(later.since(start))), [(100, 140), (110, 140)]);
        assert_eq!(times(later.since(later.begin)), (130, 140));
    }

    #[test]
    fn a_collection_is_taken_when_the_snapshot_was() {
        let mut clock = Clock::new();
        let before = clock.now();
        let moment = clock.collection(monotonic_ns());
        let time = moment.since(moment.begin);
        assert!(time.start == before.at && time.at >= time.start, "{time:?}");
    }
}
