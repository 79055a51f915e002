//! Time that the applying thread was seen at each table's changes, where its log names tables: of MySQL. How much it costs
//! to change a row differs from table to table by more than any count of rows can tell; one without a key is read as a
//! whole for each of them.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    owner::{Cause, NO_KEY, Owner, Subject},
    reading::AtWorkPoint,
    spans::Counters,
    work::{Effort, Step},
};

/// Most series that are followed.
const MOST_SERIES: usize = 4_000;

/// What weighs a table whose rows were changed and that was never seen at work: next to nothing, and not nothing, so that
/// what its rows cost is learned of all of them.
const UNSEEN: f64 = 1e-6;

/// What was seen.
#[derive(Debug, Default)]
pub struct AtWork {
    counters: Counters<(Subject, bool)>,
    grown: BTreeMap<Subject, f64>,
    without_key: BTreeSet<Subject>,
}

impl AtWork {
    /// Takes cumulative times.
    pub fn read(&mut self, points: &[AtWorkPoint]) {
        for AtWorkPoint { subject, without_key, seconds, .. } in points {
            let subject = subject.whole_table();
            let counter = (subject.clone(), *without_key);
            if self.counters.len() >= MOST_SERIES && !self.counters.has(&counter) {
                continue;
            }
            let grown = self.counters.grow(counter, *seconds);
            if grown > 0.0 {
                if *without_key {
                    self.without_key.insert(subject.clone());
                } else {
                    self.without_key.remove(&subject);
                }
                *self.grown.entry(subject).or_default() += grown;
            }
        }
    }

    /// What was seen since the last call, and which tables have no key.
    pub fn step(&mut self) -> (BTreeMap<Subject, f64>, BTreeSet<Subject>) {
        (std::mem::take(&mut self.grown), self.without_key.clone())
    }
}

/// Who the processor worked for in a step in which something was seen. `blocked` is how long the thread waited for files of
/// a table, which is no time of the processor.
pub fn processor(step: &Step, blocked: &BTreeMap<Subject, f64>) -> BTreeMap<Owner, Effort> {
    let rows = &step.applied.blocks;
    let left = |subject: &Subject, seconds: f64| (seconds - blocked.get(subject).unwrap_or(&0.0)).max(0.0);
    let all_blocked = step.at_work.iter().all(|(subject, seconds)| left(subject, *seconds) <= 0.0);
    let mut owners = BTreeMap::new();
    let unseen = rows.keys().filter(|subject| !step.at_work.contains_key(*subject)).map(|subject| (subject, 0.0));
    for (subject, seconds) in step.at_work.iter().map(|(subject, seconds)| (subject, *seconds)).chain(unseen) {
        let seen = if all_blocked { seconds } else { left(subject, seconds) };
        let owner = Owner::about(Cause::Cpu, subject.clone());
        let owner = if step.without_key.contains(subject) { owner.by(NO_KEY) } else { owner };
        let items = rows.get(subject).copied().unwrap_or(0.0);
        owners.insert(owner, Effort { weight: seen.max(UNSEEN), items });
    }
    owners
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lag_attribution::work::Amount;

    fn table(name: &str) -> Subject {
        Subject { namespace: Some("shop".into()), table: Some(name.into()), ..Subject::default() }
    }

    fn point(name: &str, without_key: bool, seconds: f64) -> AtWorkPoint {
        AtWorkPoint { channel: String::new(), subject: table(name), without_key, seconds: Some(seconds) }
    }

    fn shares(step: &Step, blocked: &[(&str, f64)]) -> Vec<(Owner, f64, f64)> {
        let blocked = blocked.iter().map(|(name, seconds)| (table(name), *seconds)).collect();
        let owners = processor(step, &blocked);
        owners.into_iter().map(|(owner, Effort { weight, items })| (owner, weight, items)).collect()
    }

    fn cpu(name: &str) -> Owner {
        Owner::about(Cause::Cpu, table(name))
    }

    #[test]
    fn a_table_that_is_read_for_each_row_owes_its_time_however_few_rows_it_has() {
        let mut seen = AtWork::default();
        seen.read(&[point("decoy", false, 0.0), point("keyless", true, 0.0)]);
        seen.step();
        seen.read(&[point("decoy", false, 0.1), point("keyless", true, 0.9)]);
        let (at_work, without_key) = seen.step();
        let blocks = [(table("decoy"), 9000.0), (table("keyless"), 1.0), (table("unseen"), 1.0)];
        let applied = Amount { blocks: blocks.into(), ..Amount::default() };
        let step = Step { applied, at_work, without_key, ..Step::default() };
        assert_eq!(
            shares(&step, &[]),
            [
                (cpu("decoy"), 0.1, 9000.0),
                (cpu("keyless").by(NO_KEY), 0.9, 1.0),
                (cpu("unseen"), UNSEEN, 1.0)
            ]
        );
        // What was read from a device was no time of the processor.
        assert_eq!(shares(&step, &[("keyless", 0.9)])[1].1, UNSEEN);
        let times = [("keyless", 2.0), ("decoy", 2.0)];
        assert_eq!(shares(&step, &times)[1].1, 0.9, "all were: then as they were seen");
    }

    #[test]
    fn a_table_that_was_given_a_key_has_one() {
        let mut seen = AtWork::default();
        for (without_key, seconds) in [(true, 0.0), (true, 1.0), (false, 0.5)] {
            seen.read(&[point("t", without_key, seconds)]);
        }
        assert_eq!(seen.step(), (BTreeMap::from([(table("t"), 1.5)]), BTreeSet::new()));
    }
}
