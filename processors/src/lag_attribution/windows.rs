//! Where the critical threads' time went, over time: readings come at moments of their own, and a tick takes the part
//! of each that lies between its two lag measurements. No second is taken twice. Several threads that apply together are
//! taken for one: who of them waited was not in the way of who did not.

use std::collections::BTreeSet;

use super::{
    charges::{Doing, Spent},
    owner::Subject,
    reading::{OperationPoint, ThreadPoint},
    spans::{Amounts, Counters, Spans, seconds_between},
};

/// Readings of one channel's critical threads.
#[derive(Debug, Default)]
pub struct Windows {
    counters: Counters<(i64, Doing, String)>,
    operation_counters: Counters<(Subject, String, String)>,
    read_at: Option<u64>,
    spans: Spans<Doing>,
    operations: Spans<(Subject, String)>,
}

/// The part of the readings that a tick takes.
#[derive(Debug, Default)]
pub struct Taken {
    /// Seconds covered.
    pub observed: f64,
    /// Where they went.
    pub spent: Spent,
    /// Seconds that operations of applying threads were in flight, by file and operation.
    pub operations: Amounts<(Subject, String)>,
}

impl Windows {
    /// Takes the cumulative time of the threads, and of their operations, as it was at `at`.
    pub fn read(&mut self, at: u64, points: &[ThreadPoint], operations: &[OperationPoint]) {
        let mut spent = Spent::new();
        let mut threads = BTreeSet::new();
        for ThreadPoint { thread, doing, path, seconds } in points {
            let grown = self.counters.grow((*thread, doing.clone(), path.clone()), *seconds);
            if grown > 0.0 {
                threads.insert(*thread);
                *spent.entry(doing.clone()).or_default() += grown;
            }
        }
        let mut in_flight = Amounts::new();
        for OperationPoint { subject, path, operation, seconds } in operations {
            let key = (subject.clone(), path.clone(), operation.clone());
            let grown = self.operation_counters.grow(key, *seconds);
            if grown > 0.0 {
                *in_flight.entry((subject.clone(), operation.clone())).or_default() += grown;
            }
        }
        // The first reading only tells where the counters stand, and so does one after a clock that was set back.
        match self.read_at.replace(at) {
            Some(from) if from < at => {
                let seconds = seconds_between(from, at);
                if threads.len() > 1 {
                    pass_on_waits(&mut spent, seconds);
                }
                shrink_to(&mut spent, seconds);
                self.spans.push(from, at, spent);
                self.operations.push(from, at, in_flight);
            }
            Some(_) => {
                self.spans.clear();
                self.operations.clear();
            }
            None => {}
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
        let (observed, spent) = self.spans.between(from, until);
        let (_, operations) = self.operations.between(from, until);
        self.spans.forget(until);
        self.operations.forget(until);
        Taken { observed, spent, operations }
    }
}

/// Of several threads that apply together, who waits has passed his time on to those who do not: for an earlier transaction
/// to commit, or for work to be handed out. What is left of the waiting is when all waited.
fn pass_on_waits(spent: &mut Spent, seconds: f64) {
    let of = |spent: &Spent, waits: bool| -> f64 {
        spent.iter().filter(|(doing, _)| (doing.state == "wait") == waits).map(|(_, seconds)| seconds).sum()
    };
    let (busy, waited) = (of(spent, false), of(spent, true));
    let left = (seconds - busy).clamp(0.0, waited);
    for (doing, value) in spent {
        if doing.state == "wait" && waited > 0.0 {
            *value *= left / waited;
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn point(path: &str, seconds: f64) -> ThreadPoint {
        let subject = Subject { table: Some("(unresolved)".into()), ..Subject::default() };
        let doing = Doing { state: "read".into(), subject, ..Doing::default() };
        ThreadPoint { thread: 1, doing, path: path.into(), seconds: Some(seconds) }
    }

    fn sum(spent: &Spent) -> f64 {
        spent.values().sum()
    }

    #[test]
    fn two_files_without_a_name_are_two_counters() {
        let mut windows = Windows::default();
        windows.read(SECOND, &[point("a", 5.0), point("b", 3.0)], &[]);
        windows.read(2 * SECOND, &[point("a", 5.1), point("b", 3.2)], &[]);
        let spent = windows.take(SECOND, 2 * SECOND).spent;
        assert!((sum(&spent) - 0.3).abs() < 1e-9, "{spent:?}");
    }

    #[test]
    fn a_reading_of_five_seconds_is_shared_out_over_five_ticks_and_never_taken_twice() {
        let mut windows = Windows::default();
        windows.read(10 * SECOND, &[point("a", 0.0)], &[]);
        windows.read(15 * SECOND, &[point("a", 4.0)], &[]);
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
        windows.read(SECOND, &[point("a", 0.0)], &[]);
        windows.read(3 * SECOND, &[point("a", 2.0)], &[]);
        let taken = windows.take(2 * SECOND, 3 * SECOND);
        assert!((taken.observed - 1.0).abs() < 1e-9);
        assert!((sum(&taken.spent) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn of_threads_that_apply_together_who_waits_for_another_owes_nothing() {
        let doing = |state: &str| Doing { state: state.into(), ..Doing::default() };
        let point = |thread, state: &str, seconds| ThreadPoint {
            thread,
            doing: doing(state),
            path: String::new(),
            seconds: Some(seconds),
        };
        for (reads, expected) in
            [([0.9, 0.0], (0.9, 0.1)), ([0.9, 0.7], (1.0, 0.0)), ([0.0, 0.0], (0.0, 1.0))]
        {
            let mut windows = Windows::default();
            windows.read(SECOND, &[], &[]);
            let points: Vec<_> = (0..)
                .zip(reads)
                .flat_map(|(thread, read)| [point(thread, "read", read), point(thread, "wait", 1.0 - read)])
                .collect();
            windows.read(2 * SECOND, &points, &[]);
            let spent = windows.take(SECOND, 2 * SECOND).spent;
            let of = |state: &str| spent.get(&doing(state)).copied().unwrap_or(0.0);
            assert!((of("read") - expected.0).abs() < 1e-9, "{reads:?}: {spent:?}");
            assert!((of("wait") - expected.1).abs() < 1e-9, "{reads:?}: {spent:?}");
        }
    }

    #[test]
    fn a_window_holds_no_more_than_its_length() {
        let mut windows = Windows::default();
        windows.read(SECOND, &[], &[]);
        windows.read(2 * SECOND, &[point("late", 4.0)], &[]);
        let spent = windows.take(SECOND, 2 * SECOND).spent;
        assert!((sum(&spent) - 1.0).abs() < 1e-9);
    }
}
