//! What did not move is handed on again once a minute, so that a receiver that joined late has everything. Each row has
//! its own moment in the minute: all at once would be a batch many times the usual one.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::{Duration, Instant},
};

const ROUND: Duration = Duration::from_mins(1);
/// Moments in a round.
const TURNS: u32 = 64;

#[derive(Debug)]
pub(super) struct Refresh {
    begin: Instant,
    /// Turns since the beginning that were over with the collection before, and with this one.
    before: u64,
    now: u64,
}

impl Refresh {
    pub(super) fn new(begin: Instant) -> Self {
        Self { begin, before: 0, now: 0 }
    }

    /// To be called with each collection.
    pub(super) fn turn(&mut self, now: Instant) {
        self.before = self.now;
        let turns = now.duration_since(self.begin).as_nanos() / (ROUND / TURNS).as_nanos();
        self.now = u64::try_from(turns).unwrap_or(u64::MAX);
    }

    /// Whether the moment of a row has come since the collection before.
    pub(super) fn is_due(&self, row: &impl Hash) -> bool {
        let mut hasher = DefaultHasher::new();
        row.hash(&mut hasher);
        let turn = hasher.finish() % u64::from(TURNS);
        let next = self.before + turn.wrapping_sub(self.before) % u64::from(TURNS);
        next < self.now
    }
}

#[cfg(test)]
impl Refresh {
    pub(super) fn nothing() -> Self {
        Self::new(Instant::now())
    }

    pub(super) fn everything() -> Self {
        Self { now: u64::from(TURNS), ..Self::nothing() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often each of 1,000 rows is due in ten minutes, and the most rows that are due at once.
    fn played(interval: Duration) -> (Vec<u32>, usize) {
        let begin = Instant::now();
        let mut refresh = Refresh::new(begin);
        let (mut times, mut most) = (vec![0; 1_000], 0);
        let mut at = interval;
        while at <= ROUND * 10 {
            refresh.turn(begin + at);
            let due: Vec<usize> = (0..times.len()).filter(|row| refresh.is_due(row)).collect();
            for row in &due {
                times[*row] += 1;
            }
            most = most.max(due.len());
            at += interval;
        }
        (times, most)
    }

    #[test]
    fn every_row_is_due_once_a_minute_and_not_all_at_once() {
        let (times, most) = played(Duration::from_secs(1));
        assert!(times.iter().all(|times| *times == 10), "{times:?}");
        assert!(most < 60, "{most} of 1,000 at once");
    }

    #[test]
    fn a_long_interval_leaves_nobody_out() {
        for seconds in [7, 60, 120] {
            let (times, _) = played(Duration::from_secs(seconds));
            let least = (600 / seconds).min(10) - 1;
            assert!(times.iter().all(|times| u64::from(*times) >= least), "{seconds}: {times:?}");
        }
    }
}
