//! When a server is looked at next: at the interval that was asked for, and more rarely where its position rests and may.
//! Most of what an agent at rest takes of a processor is its looks.

use std::time::Duration;

use tokio::time::Instant;

/// A position that has not moved for so long rests.
const RESTS_AFTER: Duration = Duration::from_millis(500);

/// At rest so many intervals pass between two looks. When the position moves on, it is taken to have done so in the middle
/// between two looks, so that this is wrong by half as many intervals.
const AT_REST: u32 = 2;

/// The looks at one server.
#[derive(Debug)]
pub(super) struct Pace {
    every: Duration,
    due: Instant,
    position: Option<u64>,
    moved: Instant,
}

impl Pace {
    /// The first look is due now.
    pub(super) fn new(every: Duration, now: Instant) -> Self {
        Self { every, due: now, position: None, moved: now }
    }

    /// When the next look is due.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// A look that has ended now found a position at which there may be rest; `None` where there is none.
    pub(super) fn looked(&mut self, now: Instant, position: Option<u64>) {
        if position.is_none() || position != self.position {
            (self.position, self.moved) = (position, now);
        }
        let rests = now.duration_since(self.moved) >= RESTS_AFTER;
        self.due += if rests { self.every * AT_REST } else { self.every };
        // Looks that took longer than the interval are not made up for.
        if self.due < now {
            self.due = now + self.every;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_millis(20);

    /// Milliseconds between the looks, each of which takes `takes`.
    fn intervals(positions: &[Option<u64>], takes: Duration) -> Vec<u128> {
        let begin = Instant::now();
        let mut pace = Pace::new(EVERY, begin);
        let look = |position: &Option<u64>| {
            let before = pace.due();
            pace.looked(before + takes, *position);
            pace.due().duration_since(before).as_millis()
        };
        positions.iter().map(look).collect()
    }

    #[test]
    fn looks_become_rare_when_the_position_has_rested_and_frequent_when_it_moves() {
        let mut positions = vec![Some(7); 40];
        positions.push(Some(8));
        let found = intervals(&positions, Duration::ZERO);
        assert!(found[..25].iter().all(|interval| *interval == 20), "{found:?}");
        assert!(found[26..40].iter().all(|interval| *interval == 40), "{found:?}");
        assert_eq!(found[40], 20);
    }

    #[test]
    fn where_there_is_no_rest_looks_stay_frequent() {
        assert!(intervals(&[None; 100], Duration::ZERO).iter().all(|interval| *interval == 20));
    }

    #[test]
    fn slow_looks_are_not_made_up_for() {
        assert_eq!(intervals(&[None; 3], Duration::from_millis(90)), [110, 110, 110]);
    }
}
