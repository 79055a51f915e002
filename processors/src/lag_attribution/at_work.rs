//! Time that the applying thread was seen at each table's changes, where its log names tables: of MySQL. How much it costs
//! to change a row differs from table to table by more than any count of rows can tell; one without a key is read as a
//! whole for each of them.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    normal::Normal,
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
    /// Seconds, and those of them in which rows were looked for without a key.
    grown: BTreeMap<Subject, [f64; 2]>,
    without_key: BTreeSet<Subject>,
}

impl AtWork {
    /// Takes cumulative times.
    pub fn read(&mut self, points: &[AtWorkPoint]) {
        for AtWorkPoint { subject, without_key, seconds, .. } in points {
            let subject = subject.whole_table();
            let counter = (subject.clone(), *without_key);
            let is_new = !self.counters.has(&counter);
            if is_new && self.counters.len() >= MOST_SERIES {
                continue;
            }
            let grown = self.counters.grow(counter, *seconds);
            match seconds {
                None if *without_key => drop(self.without_key.remove(&subject)),
                Some(_) if *without_key && is_new => drop(self.without_key.insert(subject.clone())),
                _ => {}
            }
            if grown > 0.0 {
                let [all, without] = self.grown.entry(subject).or_default();
                *all += grown;
                *without += if *without_key { grown } else { 0.0 };
            }
        }
    }

    /// What was seen since the last call, and which tables' rows are looked for without a key.
    pub fn step(&mut self) -> (BTreeMap<Subject, f64>, BTreeSet<Subject>) {
        let mut seen = BTreeMap::new();
        for (subject, [all, without]) in std::mem::take(&mut self.grown) {
            if without >= all / 2.0 {
                self.without_key.insert(subject.clone());
            } else {
                self.without_key.remove(&subject);
            }
            seen.insert(subject, all);
        }
        (seen, self.without_key.clone())
    }
}

/// A table's work. Of one whose rows are looked for without a key, that is the culprit.
pub fn owner(step: &Step, subject: &Subject) -> Owner {
    let owner = Owner::about(Cause::Cpu, subject.clone());
    if step.without_key.contains(subject) { owner.by(NO_KEY) } else { owner }
}

/// Who the processor worked for in a step in which something was seen. `blocked` is how long the thread waited for files of
/// a table, which is no time of the processor.
pub fn processor(step: &Step, blocked: &BTreeMap<Subject, f64>) -> BTreeMap<Owner, Effort> {
    let rows = &step.applied.blocks;
    let left = |subject: &Subject, seconds: f64| (seconds - blocked.get(subject).unwrap_or(&0.0)).max(0.0);
    let all_blocked = step.at_work.iter().all(|(subject, seconds)| left(subject, *seconds) <= 0.0);
    let mut owners = BTreeMap::new();
    let unseen =
        rows.keys().filter(|subject| !step.at_work.contains_key(*subject)).map(|subject| (subject, 0.0));
    for (subject, seconds) in step.at_work.iter().map(|(subject, seconds)| (subject, *seconds)).chain(unseen)
    {
        let seen = if all_blocked { seconds } else { left(subject, seconds) };
        let items = rows.get(subject).copied().unwrap_or(0.0);
        owners.insert(owner(step, subject), Effort { weight: seen.max(UNSEEN), items });
    }
    owners
}

/// Whose work waits, by what it will take: a row of one table may cost as much as a thousand of another. One of which that
/// is not known costs what they do on average.
pub fn demand(step: &Step, normal: &Normal) -> BTreeMap<Subject, f64> {
    let average = normal.average().unwrap_or(1.0);
    let seconds = |subject: &Subject| normal.each(&owner(step, subject)).unwrap_or(average);
    step.waiting.blocks.iter().map(|(subject, rows)| (subject.clone(), rows * seconds(subject))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lag_attribution::{
        cost::Cost,
        normal::Applied,
        reading::WorkPoint,
        work::{self, Amount, Work},
    };

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
    fn that_a_table_has_no_key_is_known_before_it_was_seen_at_work() {
        let mut work = Work::default();
        let next = WorkPoint {
            channel: String::new(),
            applied: false,
            drops: false,
            subject: table("keyless"),
            path: String::new(),
            items: Some(1.0),
        };
        work.read(&[next]);
        work.at_work.read(&[point("keyless", true, 0.0)]);
        let step = work.step();
        let owners = work::processor(&step, &Cost::default(), true, true, &BTreeMap::new());
        assert!(owners.into_keys().eq([cpu("keyless").by(NO_KEY)]));
    }

    #[test]
    fn what_waits_is_weighed_by_what_its_rows_have_cost() {
        let owners = [(cpu("decoy"), 1.0), (cpu("keyless").by(NO_KEY), 9.0)];
        let work = [(cpu("decoy"), 1e5), (cpu("keyless").by(NO_KEY), 1e3)];
        let mut normal = Normal::default();
        normal.learn(&owners, &Applied { bytes: 1e7, work: work.into() });
        let rows = [("decoy", 1e6), ("keyless", 1e4), ("new", 1e4)];
        let step = Step {
            waiting: Amount {
                blocks: rows.map(|(name, rows)| (table(name), rows)).into(),
                ..Amount::default()
            },
            without_key: BTreeSet::from([table("keyless")]),
            ..Step::default()
        };
        let waiting = demand(&step, &normal);
        let seconds = ["decoy", "keyless", "new"].map(|name| (waiting[&table(name)] * 10.0).round() / 10.0);
        // On average 10 s for 101,000.
        assert_eq!(seconds, [10.0, 90.0, 1.0]);
    }

    #[test]
    fn a_table_that_was_given_a_key_has_one() {
        let mut seen = AtWork::default();
        for (without_key, seconds) in [(true, 0.0), (true, 1.0), (false, 0.5)] {
            seen.step();
            seen.read(&[point("t", without_key, seconds)]);
        }
        assert_eq!(seen.step(), (BTreeMap::from([(table("t"), 0.5)]), BTreeSet::new()));
    }
}
