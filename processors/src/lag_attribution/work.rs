//! What the log asked of replay: whose blocks and whose removal. Splits the processor's time by what was applied, and
//! growth that nobody caused by what waits to be.

use std::collections::BTreeMap;

use super::{
    owner::{Cause, DROPS, Owner, Subject},
    reading::WorkPoint,
    spans::Counters,
};

/// Removing a relation costs as much processor time as so many references to blocks, until it was measured here: 2,000
/// relations took 17 s where a reference took about 4 µs.
const DROP_WEIGHT: f64 = 2000.0;

/// What may be measured for it.
const DROP_WEIGHTS: (f64, f64) = (1.0, 1e6);

/// Below so many blocks, or drops, nothing is known of their cost.
const ENOUGH_BLOCKS: f64 = 1000.0;
const ENOUGH_DROPS: f64 = 20.0;

/// After so many since, what was learned weighs half.
const HALF_LIFE_BLOCKS: f64 = 1e6;
const HALF_LIFE_DROPS: f64 = 10_000.0;

/// Most series that are followed.
const MOST_SERIES: usize = 20_000;

/// Which log record is about what: an object's blocks, or its removal.
type Kind = (Subject, bool);

/// Work of one channel.
#[derive(Debug, Default)]
pub struct Work {
    counters: Counters<(bool, Kind, String)>,
    waiting: BTreeMap<Kind, f64>,
    applied: BTreeMap<Kind, f64>,
}

/// What was applied between two lag measurements, and what waited at the second. By whole tables.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Step {
    /// References to blocks that were applied.
    pub blocks: BTreeMap<Subject, f64>,
    /// Relations that were removed.
    pub drops: BTreeMap<Subject, f64>,
    /// References to blocks that wait.
    pub waiting_blocks: BTreeMap<Subject, f64>,
    /// Relations that wait to be removed.
    pub waiting_drops: BTreeMap<Subject, f64>,
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
                self.waiting.remove(&kind);
            } else if point.applied {
                *self.applied.entry(kind.clone()).or_default() += grown;
                *self.waiting.entry(kind).or_default() -= grown;
            } else {
                *self.waiting.entry(kind).or_default() += grown;
            }
        }
    }

    /// What happened since the last call. Both stages of one moment must have been read.
    pub fn step(&mut self) -> Step {
        // Applied before it was seen to be received: from before the first reading.
        self.waiting.retain(|_, items| *items > 0.0);
        let mut step = Step::default();
        for ((subject, drops), items) in std::mem::take(&mut self.applied) {
            let rows = if drops { &mut step.drops } else { &mut step.blocks };
            add(rows, subject.whole_table(), items);
        }
        for ((subject, drops), items) in &self.waiting {
            let rows = if *drops { &mut step.waiting_drops } else { &mut step.waiting_blocks };
            add(rows, subject.whole_table(), *items);
        }
        step
    }
}

fn add(rows: &mut BTreeMap<Subject, f64>, subject: Subject, items: f64) {
    if items > 0.0 {
        *rows.entry(subject).or_default() += items;
    }
}

fn sum(rows: &BTreeMap<Subject, f64>) -> f64 {
    rows.values().sum()
}

/// What a drop costs beside a reference to a block, learned from what both took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    blocks: f64,
    block_seconds: f64,
    drops: f64,
    drop_seconds: f64,
    /// Seconds of windows in which no record was finished while drops waited.
    stalled: f64,
}

impl Cost {
    /// References to blocks that cost as much as one drop.
    pub fn drop_weight(&self) -> f64 {
        if self.drops < ENOUGH_DROPS || self.blocks < ENOUGH_BLOCKS || self.block_seconds <= 0.0 {
            return DROP_WEIGHT;
        }
        let block = self.block_seconds / self.blocks;
        (self.drop_seconds / self.drops / block).clamp(DROP_WEIGHTS.0, DROP_WEIGHTS.1)
    }

    /// Learns from a step that took so much processor time.
    pub fn learn(&mut self, step: &Step, seconds: f64, stood_still: bool) {
        let (blocks, drops) = (sum(&step.blocks), sum(&step.drops));
        if stood_still && drops + blocks <= 0.0 {
            self.stalled += if step.waiting_drops.is_empty() { 0.0 } else { seconds };
            return;
        }
        let stalled = std::mem::take(&mut self.stalled);
        if drops > 0.0 {
            let block = if self.blocks < ENOUGH_BLOCKS { return } else { self.block_seconds / self.blocks };
            let keep = 0.5_f64.powf(drops / HALF_LIFE_DROPS);
            self.drops = self.drops * keep + drops;
            self.drop_seconds = self.drop_seconds * keep + (stalled + seconds - block * blocks).max(0.0);
        } else if blocks > 0.0 {
            let keep = 0.5_f64.powf(blocks / HALF_LIFE_BLOCKS);
            self.blocks = self.blocks * keep + blocks;
            self.block_seconds = self.block_seconds * keep + seconds;
        }
    }

    /// What was learned, as fields of text.
    pub fn fields(&self) -> Vec<String> {
        [self.blocks, self.block_seconds, self.drops, self.drop_seconds]
            .map(|number| number.to_string())
            .into()
    }

    /// Takes fields back; `None` if they are not such.
    pub fn restore(fields: &[&str]) -> Option<Self> {
        let number =
            |text: &&str| text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0);
        let [blocks, block_seconds, drops, drop_seconds] = fields else { return None };
        Some(Self {
            blocks: number(blocks)?,
            block_seconds: number(block_seconds)?,
            drops: number(drops)?,
            drop_seconds: number(drop_seconds)?,
            stalled: 0.0,
        })
    }
}

/// Who the processor worked for in a step, with the work in references to blocks. Nobody, where nothing is known of it.
pub fn processor(step: &Step, cost: &Cost, stood_still: bool) -> BTreeMap<Owner, f64> {
    let each = cost.drop_weight();
    let mut owners = BTreeMap::new();
    // A record that takes longer than a window is as good as always one that removes many relations: no other stands still
    // on the processor. It is the next to be finished, and the relations are those that wait.
    let standing = stood_still && step.blocks.is_empty() && step.drops.is_empty();
    let drops = if standing { &step.waiting_drops } else { &step.drops };
    for (subject, items) in &step.blocks {
        *owners.entry(Owner::about(Cause::Cpu, subject.clone())).or_default() += items;
    }
    for (subject, items) in drops {
        *owners.entry(Owner::about(Cause::Cpu, subject.clone()).by(DROPS)).or_default() += items * each;
    }
    owners
}

/// Whose work waits, with the work in references to blocks.
pub fn demand(step: &Step, cost: &Cost) -> BTreeMap<Subject, f64> {
    let mut waiting = step.waiting_blocks.clone();
    for (subject, items) in &step.waiting_drops {
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

    #[test]
    fn work_of_indexes_is_their_tables_and_what_was_received_and_not_applied_waits() {
        let mut work = Work::default();
        work.read(&[point("a", None, false, false, 10.0), point("a", Some("i"), false, false, 20.0)]);
        work.read(&[point("a", None, true, false, 4.0), point("a", Some("i"), true, false, 1.0)]);
        let step = work.step();
        assert_eq!(step.blocks, BTreeMap::from([(table("a"), 5.0)]));
        assert_eq!(step.waiting_blocks, BTreeMap::from([(table("a"), 25.0)]));
        work.read(&[point("a", None, true, false, 10.0), point("a", Some("i"), true, false, 20.0)]);
        let step = work.step();
        assert_eq!(step.blocks, BTreeMap::from([(table("a"), 25.0)]));
        assert!(step.waiting_blocks.is_empty());
    }

    #[test]
    fn while_one_record_takes_longer_than_a_window_the_time_is_that_of_what_it_removes() {
        let mut work = Work::default();
        work.read(&[point("gone", None, false, true, 3.0), point("a", None, false, false, 9.0)]);
        let owners = processor(&work.step(), &Cost::default(), true);
        let gone = Owner::about(Cause::Cpu, table("gone")).by(DROPS);
        assert_eq!(owners.keys().collect::<Vec<_>>(), [&gone]);
        assert!(processor(&work.step(), &Cost::default(), false).is_empty(), "something else was applied");
    }

    #[test]
    fn the_cost_of_a_drop_is_learned_from_what_blocks_do_not_explain() {
        let mut cost = Cost::default();
        assert_eq!(cost.drop_weight(), DROP_WEIGHT);
        let blocks = BTreeMap::from([(table("a"), 10_000.0)]);
        for _ in 0..10 {
            cost.learn(&Step { blocks: blocks.clone(), ..Step::default() }, 0.1, false);
        }
        let drops = BTreeMap::from([(table("gone"), 100.0)]);
        let waiting = Step { waiting_drops: drops.clone(), ..Step::default() };
        cost.learn(&waiting, 0.9, true);
        cost.learn(&Step { blocks, drops, ..Step::default() }, 0.2, false);
        // (0.9 + 0.2 - 0.1) s for 100 drops; a block takes 10 microseconds.
        assert!((cost.drop_weight() - 1000.0).abs() < 1.0, "{}", cost.drop_weight());
        let fields = cost.fields();
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        assert_eq!(Cost::restore(&fields), Some(cost));
        assert_eq!(Cost::restore(&["1", "2", "3", "x"]), None);
    }
}
