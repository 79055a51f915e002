//! What the log asked of replay: whose blocks and whose removal. Splits the processor's time by what was applied, and
//! growth that nobody caused by what waits to be.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    at_work::{self, AtWork},
    cost::Cost,
    learned::Habits,
    owner::{Cause, DROPS, Owner, Subject},
    reading::WorkPoint,
    spans::Counters,
};

/// Most series that are followed.
const MOST_SERIES: usize = 20_000;

/// Batches of log that are kept apart by when they were received, and entries of all of them. What comes when there are as
/// many is added to the last.
const MOST_BATCHES: usize = 60;
const MOST_ENTRIES: usize = 40_000;

/// Which log record is about what: an object's blocks, or its removal.
type Kind = (Subject, bool);

type Items = BTreeMap<Kind, f64>;

/// Work of one channel.
#[derive(Debug, Default)]
pub struct Work {
    counters: Counters<(bool, Kind, String)>,
    /// What was received and is not applied, in the order in which it came.
    waiting: VecDeque<Items>,
    received: Items,
    applied: Items,
    /// Where the applying thread was seen, of servers of which that can be told.
    pub at_work: AtWork,
}

/// What was applied between two lag measurements, and what waited at the second. By whole tables.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Step {
    /// What was applied.
    pub applied: Amount,
    /// What waits.
    pub waiting: Amount,
    /// What of that came first: replay is at it.
    pub next: Amount,
    /// Seconds that the applying thread was seen at it.
    pub at_work: BTreeMap<Subject, f64>,
    /// Tables without a key.
    pub without_key: BTreeSet<Subject>,
}

/// An amount of work.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Amount {
    /// References to blocks, or rows.
    pub blocks: BTreeMap<Subject, f64>,
    /// Relations that are removed.
    pub drops: BTreeMap<Subject, f64>,
}

impl Amount {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.drops.is_empty()
    }

    fn add(&mut self, items: &Items) {
        for ((subject, drops), items) in items {
            add(if *drops { &mut self.drops } else { &mut self.blocks }, subject.whole_table(), *items);
        }
    }
}

impl Work {
    /// Takes cumulative counts.
    pub fn read(&mut self, points: &[WorkPoint]) {
        for point in points {
            let kind = (point.subject.clone(), point.drops);
            let counter = (point.applied, kind.clone(), point.path.clone());
            if self.counters.len() >= MOST_SERIES && !self.counters.has(&counter) {
                continue;
            }
            let grown = self.counters.grow(counter, point.items);
            if point.items.is_none() {
                // Its other stage ends too, and what it comes back with has another beginning.
                for batch in &mut self.waiting {
                    batch.remove(&kind);
                }
            } else if grown > 0.0 {
                let items = if point.applied { &mut self.applied } else { &mut self.received };
                *items.entry(kind).or_default() += grown;
            }
        }
    }

    /// What happened since the last call. Both stages of one moment must have been read.
    pub fn step(&mut self) -> Step {
        let received = std::mem::take(&mut self.received);
        let entries: usize = self.waiting.iter().map(BTreeMap::len).sum();
        let is_full = self.waiting.len() >= MOST_BATCHES || entries >= MOST_ENTRIES;
        match self.waiting.back_mut().filter(|_| is_full) {
            Some(last) => {
                for (kind, items) in received {
                    *last.entry(kind).or_default() += items;
                }
            }
            None => self.waiting.push_back(received),
        }
        let (at_work, without_key) = self.at_work.step();
        let mut step = Step { at_work, without_key, ..Step::default() };
        let applied = std::mem::take(&mut self.applied);
        step.applied.add(&applied);
        for (kind, mut left) in applied {
            // What is left in the end was applied before it was seen to be received: from before the first reading.
            for batch in &mut self.waiting {
                let Some(items) = batch.get_mut(&kind) else { continue };
                let taken = left.min(*items);
                (left, *items) = (left - taken, *items - taken);
                if *items <= 0.0 {
                    batch.remove(&kind);
                }
                if left <= 0.0 {
                    break;
                }
            }
        }
        self.waiting.retain(|batch| !batch.is_empty());
        for batch in &self.waiting {
            step.waiting.add(batch);
        }
        if let Some(first) = self.waiting.front() {
            step.next.add(first);
        }
        step
    }
}

fn add(rows: &mut BTreeMap<Subject, f64>, subject: Subject, items: f64) {
    if items > 0.0 {
        *rows.entry(subject).or_default() += items;
    }
}

/// What the processor did for an owner.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Effort {
    /// In references to blocks, or in seconds that were seen.
    pub weight: f64,
    /// References to blocks, drops or rows that were applied.
    pub items: f64,
}

/// Who the processor worked for in a step. Nobody, where nothing is known of it. `running` is whether replay computed for
/// most of the time, and did not wait for a processor; `blocked`, how long it waited for files of a table.
pub fn processor(
    step: &Step,
    cost: &Cost,
    stood_still: bool,
    running: bool,
    blocked: &BTreeMap<Subject, f64>,
) -> BTreeMap<Owner, Effort> {
    if !step.at_work.is_empty() {
        return at_work::processor(step, blocked);
    }
    // Nothing was finished: it was at what came first of all that waits.
    let standing = stood_still && step.applied.is_empty();
    let Amount { blocks, drops } = if standing { &step.next } else { &step.applied };
    // A record that takes longer to compute than a window is as good as always one that removes many relations.
    let only_drops = standing && running && !drops.is_empty();
    let mut owners: BTreeMap<Owner, Effort> = BTreeMap::new();
    for (subject, items) in blocks.iter().filter(|_| !only_drops) {
        let done = if standing { 0.0 } else { *items };
        owners.insert(at_work::owner(step, subject), Effort { weight: *items, items: done });
    }
    for (subject, items) in drops {
        let done = if standing && !only_drops { 0.0 } else { *items };
        let owner = Owner::about(Cause::Cpu, subject.clone()).by(DROPS);
        owners.insert(owner, Effort { weight: items * cost.drop_weight(), items: done });
    }
    owners
}

/// Whose work waits, with the work in references to blocks, or in seconds where the thread is seen at it.
pub fn demand(step: &Step, habits: &Habits) -> BTreeMap<Subject, f64> {
    if !step.at_work.is_empty() {
        return at_work::demand(step, &habits.normal);
    }
    let cost = &habits.cost;
    let mut waiting = step.waiting.blocks.clone();
    for (subject, items) in &step.waiting.drops {
        add(&mut waiting, subject.clone(), items * cost.drop_weight());
    }
    waiting
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str) -> Subject {
        Subject { table: Some(name.into()), ..Subject::default() }
    }

    fn point(table_name: &str, index: Option<&str>, applied: bool, drops: bool, items: f64) -> WorkPoint {
        WorkPoint {
            channel: String::new(),
            applied,
            drops,
            subject: Subject { index: index.map(Into::into), ..table(table_name) },
            path: String::new(),
            items: Some(items),
        }
    }

    fn amount(blocks: &[(&str, f64)], drops: &[(&str, f64)]) -> Amount {
        let rows = |rows: &[(&str, f64)]| rows.iter().map(|(name, items)| (table(name), *items)).collect();
        Amount { blocks: rows(blocks), drops: rows(drops) }
    }

    fn shares(step: &Step, running: bool) -> Vec<(String, f64, f64)> {
        let owners = processor(step, &Cost::default(), true, running, &BTreeMap::new());
        let name = |owner: &Owner| owner.subject.table.clone().unwrap_or_default();
        owners.iter().map(|(owner, effort)| (name(owner), effort.weight, effort.items)).collect()
    }

    #[test]
    fn work_of_indexes_is_their_tables_and_what_was_received_and_not_applied_waits() {
        let mut work = Work::default();
        work.read(&[point("a", None, true, false, 4.0), point("a", Some("i"), true, false, 1.0)]);
        work.read(&[point("a", None, false, false, 10.0), point("a", Some("i"), false, false, 20.0)]);
        let step = work.step();
        assert_eq!(step.applied, amount(&[("a", 5.0)], &[]));
        assert_eq!(step.waiting, amount(&[("a", 25.0)], &[]));
        work.read(&[point("a", None, true, false, 10.0), point("a", Some("i"), true, false, 20.0)]);
        let step = work.step();
        assert_eq!(step.applied, amount(&[("a", 25.0)], &[]));
        assert!(step.waiting.is_empty() && work.waiting.is_empty());
    }

    #[test]
    fn what_came_first_is_next_however_much_came_later() {
        let mut work = Work::default();
        work.read(&[point("first", None, false, false, 30.0)]);
        work.step();
        for second in 1..1000 {
            work.read(&[point("later", None, false, false, f64::from(second) * 1e6)]);
            assert_eq!(work.step().next, amount(&[("first", 30.0)], &[]));
        }
        assert!(work.waiting.len() <= MOST_BATCHES);
        assert_eq!(work.step().waiting, amount(&[("first", 30.0), ("later", 999e6)], &[]));
        work.read(&[point("first", None, true, false, 30.0), point("later", None, true, false, 0.5e6)]);
        assert_eq!(work.step().next, amount(&[("later", 0.5e6)], &[]));
    }

    #[test]
    fn while_one_record_takes_longer_than_a_window_the_time_is_that_of_what_it_removes() {
        let next = amount(&[("a", 9.0)], &[("gone", 3.0)]);
        let step = Step { waiting: next.clone(), next, ..Step::default() };
        assert_eq!(shares(&step, true), [("gone".to_owned(), 3.0 * Cost::default().drop_weight(), 3.0)]);
        assert!(
            processor(&step, &Cost::default(), false, true, &BTreeMap::new()).is_empty(),
            "something else was applied"
        );
    }

    #[test]
    fn who_waits_for_a_processor_at_a_record_waits_for_its_table_and_nothing_of_it_is_done() {
        let next = amount(&[("a", 9.0)], &[]);
        let waiting = amount(&[("a", 9.0), ("b", 900.0)], &[("gone", 3.0)]);
        let step = Step { waiting, next, ..Step::default() };
        assert_eq!(shares(&step, false), [("a".to_owned(), 9.0, 0.0)]);
    }
}
