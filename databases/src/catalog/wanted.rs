//! What was asked for and is not known: a bounded queue without duplicates, with growing intervals.
//!
//! A file may be older in the kernel's eyes than in the catalog's: its relation is visible only once the
//! transaction that made it has committed. So one look-up that finds nothing is not the end.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::FileKey;

/// How long an answer may be `Pending`.
const PENDING: Duration = Duration::from_secs(5);
/// Intervals of look-ups while `Pending`: most transactions that make a file end soon, and a name is wanted within
/// the window that the file was first written in.
const FIRST_INTERVALS: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(300)];
const PENDING_INTERVAL: Duration = Duration::from_secs(1);
/// Interval after a look-up that failed, for a minute.
const AFTER_FAILURE: Duration = Duration::from_millis(250);
/// Interval for a minute after: a new table has its name 5 s after its commit at the latest.
const SECOND_INTERVAL: Duration = Duration::from_secs(4);
/// Interval of look-ups for what has stayed unknown for long.
const LAST_INTERVAL: Duration = Duration::from_mins(1);
/// Most unknown files at a time; more are `Unresolved` without a look-up.
const CAPACITY: usize = 8192;
/// Most look-ups in one statement.
const BATCH: usize = 500;

/// Something to be looked up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Wanted {
    /// The object of a file.
    File(FileKey),
    /// The object with a number.
    Relation {
        /// Oid of the database.
        database: u32,
        /// Oid of the relation.
        relation: u32,
    },
}

#[derive(Debug)]
struct State {
    first: Instant,
    asked: bool,
    last_asked: Instant,
    next: Instant,
    looked_up: usize,
}

/// The answer to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// It may still be found out soon.
    pub(super) pending: bool,
    /// A look-up is due now.
    pub(super) due: bool,
}

/// Everything that was asked for and is not known.
#[derive(Debug, Default)]
pub(super) struct Queue {
    states: HashMap<Wanted, State>,
}

impl Queue {
    pub(super) fn ask(&mut self, wanted: Wanted, now: Instant) -> Asked {
        if let Some(state) = self.states.get_mut(&wanted) {
            state.asked = true;
            state.last_asked = now;
            let pending = now.duration_since(state.first) < PENDING;
            return Asked { pending, due: state.next <= now };
        }
        if self.states.len() >= CAPACITY {
            // What nobody has asked for in a while makes room.
            self.states.retain(|_, state| now.duration_since(state.last_asked) < LAST_INTERVAL);
            if self.states.len() >= CAPACITY {
                return Asked { pending: false, due: false };
            }
        }
        self.states
            .insert(wanted, State { first: now, asked: true, last_asked: now, next: now, looked_up: 0 });
        Asked { pending: true, due: true }
    }

    /// What is to be looked up now, and how long until more becomes due.
    pub(super) fn take_due(&mut self, now: Instant) -> (Vec<Wanted>, Option<Duration>) {
        let mut due = Vec::new();
        let mut next: Option<Instant> = None;
        for (wanted, state) in &mut self.states {
            if !state.asked {
                continue;
            }
            if state.next <= now && due.len() < BATCH {
                let age = now.duration_since(state.first);
                state.next = now + interval(age, state.looked_up);
                state.looked_up += 1;
                // While pending it is looked up again by itself, later only if somebody still asks.
                state.asked = age < PENDING;
                due.push(wanted.clone());
                if !state.asked {
                    continue;
                }
            }
            next = Some(next.map_or(state.next, |next| next.min(state.next)));
        }
        (due, next.map(|next| next.saturating_duration_since(now)))
    }

    /// A look-up came to nothing, as when a catalog was locked: it says nothing of what was looked up.
    pub(super) fn failed(&mut self, wanted: &[Wanted], now: Instant) {
        for wanted in wanted {
            if let Some(state) = self.states.get_mut(wanted)
                && now.duration_since(state.first) < LAST_INTERVAL
            {
                state.next = state.next.min(now + AFTER_FAILURE);
                state.asked = true;
            }
        }
    }

    pub(super) fn forget(&mut self, wanted: &Wanted) {
        self.states.remove(wanted);
    }
}

fn interval(age: Duration, looked_up: usize) -> Duration {
    if age < PENDING {
        FIRST_INTERVALS.get(looked_up).copied().unwrap_or(PENDING_INTERVAL)
    } else if age < LAST_INTERVAL {
        SECOND_INTERVAL
    } else {
        LAST_INTERVAL
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Space;

    fn file(relfilenode: u32) -> Wanted {
        Wanted::File(FileKey::Relation { space: Space::Oid(1663), database: 5, relfilenode, backend: None })
    }

    #[test]
    fn a_file_is_looked_up_once_however_often_it_is_asked_for() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        assert_eq!(queue.ask(file(1), now), Asked { pending: true, due: true });
        queue.ask(file(1), now);
        assert_eq!(queue.take_due(now).0, vec![file(1)]);
        assert_eq!(queue.take_due(now).0, Vec::new());
        assert_eq!(queue.ask(file(1), now), Asked { pending: true, due: false });
    }

    #[test]
    fn pending_ends_and_look_ups_become_rare_but_never_end() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        let mut lookups = 0;
        for second in 0..300 {
            let now = start + Duration::from_secs(second);
            let asked = queue.ask(file(1), now);
            assert_eq!(asked.pending, second < 5, "at {second} s");
            lookups += queue.take_due(now).0.len();
        }
        assert!((20..30).contains(&lookups), "{lookups} look-ups in 300 s");
    }

    #[test]
    fn the_first_look_ups_follow_each_other_quickly() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        queue.ask(file(1), start);
        let looked_up: Vec<u64> = (0..5_000)
            .step_by(50)
            .filter(|at| !queue.take_due(start + Duration::from_millis(*at)).0.is_empty())
            .collect();
        assert_eq!(looked_up, [0, 100, 400, 1_400, 2_400, 3_400, 4_400]);
    }

    #[test]
    fn a_look_up_that_failed_is_repeated_soon_but_not_for_ever() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        queue.ask(file(1), start);
        let mut look_ups = Vec::new();
        for at in (0..120_000).step_by(50) {
            let now = start + Duration::from_millis(at);
            let (due, _) = queue.take_due(now);
            if !due.is_empty() {
                queue.failed(&due, now);
                look_ups.push(at);
            }
        }
        assert!(look_ups.windows(2).all(|pair| pair[1] - pair[0] <= 250), "{look_ups:?}");
        assert!((59_000..61_000).contains(look_ups.last().unwrap()), "{look_ups:?}");
    }

    #[test]
    fn what_nobody_asks_for_is_not_looked_up_for_ever() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        queue.ask(file(1), start);
        let lookups: usize = (0..300).map(|s| queue.take_due(start + Duration::from_secs(s)).0.len()).sum();
        assert!(lookups <= 8, "{lookups} look-ups");
    }

    #[test]
    fn the_queue_is_bounded_and_a_full_one_says_unresolved() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for relfilenode in 0..20_000 {
            queue.ask(file(relfilenode), now);
        }
        assert_eq!(queue.states.len(), CAPACITY);
        assert_eq!(queue.ask(file(30_000), now), Asked { pending: false, due: false });
        let later = now + Duration::from_secs(61);
        assert_eq!(queue.ask(file(30_000), later), Asked { pending: true, due: true });
    }
}
