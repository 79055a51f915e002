//! What a replica's looks say of its delay behind one writer.
//!
//! The delay is what the newest beat that arrived took, or how long the oldest that has not arrived is already missing,
//! whichever is more. So it grows while nothing comes, and does not fall to zero between two beats.

use std::time::{Duration, Instant};

use uuid::Uuid;

/// An arrival between two looks that are closer than this is known well enough, or than this part of the delay.
pub(super) const CLOSE: (Duration, f64) = (Duration::from_millis(2), 0.25);
/// Share that a new arrival has in the mean of how much they differ, and what part of the first one they are taken to.
const WEIGHT: f64 = 0.2;
const AT_FIRST: f64 = 0.1;

/// Beats of one run of one writer, as one replica shows them.
#[derive(Clone, Debug)]
pub(super) struct Track {
    pub(super) run: Uuid,
    /// Number of the newest beat that was seen, and when it was written; `None` before the first of the run.
    pub(super) seen: Option<(u64, Instant)>,
    /// What the newest arrival took, where that is known.
    pub(super) took: Option<Duration>,
    /// Whether it is known between looks that are close to each other.
    pub(super) is_close: bool,
    /// How much arrivals differ, in the mean.
    pub(super) jitter: Duration,
    /// When there last was anything new.
    pub(super) arrived: Option<Instant>,
}

impl Track {
    /// Of a run of which nothing was seen yet.
    pub(super) fn new(run: Uuid) -> Self {
        Self { run, seen: None, took: None, is_close: false, jitter: Duration::ZERO, arrived: None }
    }

    /// A look at `looked` shows this beat; the one at `before` did not, if it is newer than the last.
    pub(super) fn look(&mut self, number: u64, written: Instant, looked: Instant, before: Option<Instant>) {
        let last = self.seen.replace((number, written));
        if last.is_some_and(|(last, _)| last >= number) {
            // The same, or a replica that was made anew of an old copy: no arrival.
            return;
        }
        self.arrived = Some(looked);
        let most = looked.saturating_duration_since(written);
        let least =
            before.map_or(Duration::ZERO, |before| before.saturating_duration_since(written)).min(most);
        let between = most.saturating_sub(least);
        self.is_close = between <= CLOSE.0.max(most.mul_f64(CLOSE.1));
        self.took = if self.is_close {
            let took = least + between / 2;
            self.jitter = match self.took {
                Some(before) => self.jitter.mul_f64(1.0 - WEIGHT) + before.abs_diff(took).mul_f64(WEIGHT),
                None => took.mul_f64(AT_FIRST),
            };
            Some(took)
        } else {
            // Nobody looked while it was on its way: it took no longer than this, which is no news of who took less.
            self.took.map(|took| took.clamp(least, most))
        };
    }

    /// The delay at `now`, where at `looked`, the last look, the beat that was written at `missing` had not arrived.
    pub(super) fn delay(&self, missing: Option<Instant>, looked: Instant, now: Instant) -> Option<Duration> {
        let missing = missing.filter(|missing| *missing <= looked);
        let for_so_long = missing.map(|missing| now.saturating_duration_since(missing));
        self.took.max(for_so_long)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn an_arrival_is_between_two_looks() {
        let begin = Instant::now();
        let mut track = Track::new(Uuid::nil());
        track.look(1, begin, begin + ms(12), Some(begin + ms(10)));
        assert_eq!(track.delay(None, begin + ms(12), begin + ms(500)), Some(ms(11)));
        // Seen at once.
        track.look(2, begin + ms(1000), begin + ms(1001), Some(begin + ms(12)));
        assert_eq!(track.took, Some(Duration::from_micros(500)));
        // Not looked for until later: no longer than that is all that is known.
        track.look(3, begin + ms(2000), begin + ms(2700), Some(begin + ms(1001)));
        assert_eq!((track.took, track.is_close), (Some(Duration::from_micros(500)), false));
    }

    #[test]
    fn an_arrival_that_nobody_looked_for_says_nothing_where_nothing_is_known() {
        let begin = Instant::now();
        let mut track = Track::new(Uuid::nil());
        track.look(9, begin, begin + ms(700), None);
        assert_eq!(track.delay(None, begin + ms(700), begin + ms(800)), None);
        track.took = Some(ms(9000));
        track.look(10, begin + ms(1000), begin + ms(2000), Some(begin + ms(700)));
        assert_eq!(track.took, Some(ms(1000)), "a bound is news where more was known");
    }

    #[test]
    fn the_delay_grows_while_a_beat_is_missing_and_never_falls_for_want_of_looks() {
        let begin = Instant::now();
        let mut track = Track::new(Uuid::nil());
        track.look(1, begin, begin + ms(1), Some(begin));
        let missing = Some(begin + ms(1000));
        assert_eq!(track.delay(missing, begin + ms(900), begin + ms(5000)), Some(Duration::from_micros(500)));
        assert_eq!(track.delay(missing, begin + ms(5000), begin + ms(5500)), Some(ms(4500)));
        // It catches up: each arrival is what it took.
        track.look(4, begin + ms(4000), begin + ms(6000), Some(begin + ms(5900)));
        assert_eq!(track.delay(None, begin + ms(6000), begin + ms(6010)), Some(ms(1950)));
        track.look(3, begin + ms(3000), begin + ms(7000), Some(begin + ms(6900)));
        assert_eq!((track.seen.map(|(number, _)| number), track.took), (Some(3), Some(ms(1950))));
    }
}
