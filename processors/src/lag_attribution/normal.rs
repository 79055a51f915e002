//! What an owner's work normally costs: seconds of the applying thread per byte of log applied, or per piece of its own
//! work where that is counted. Learned while nothing lags and forgotten with time. An owner that never cost anything
//! while nothing lagged normally costs zero.

use std::collections::{BTreeMap, HashMap};

use super::{
    account::MOST_OWNERS,
    owner::{Cause, Owner, Subject},
};

/// After applying this many bytes since, what was learned weighs half. 256 MiB of log is minutes of a busy server
/// and hours of a quiet one, so a nightly batch does not wash out what the day taught.
const HALF_LIFE_BYTES: f64 = 256.0 * 1024.0 * 1024.0;

/// Below this much work nothing is known: a handful of records says little of the cost of the next thousand.
const ENOUGH_BYTES: f64 = 256.0 * 1024.0;

/// The same, of an owner whose own work is counted.
const ENOUGH_WORK: f64 = 100.0;

/// What was applied in a window.
#[derive(Debug, Default)]
pub struct Applied {
    /// Bytes of log.
    pub bytes: f64,
    /// Work of those owners of whom it is counted: references to blocks, or drops.
    pub work: BTreeMap<Owner, f64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Cost {
    seconds: f64,
    /// Own work; zero of owners whose work is the log's bytes.
    work: f64,
}

/// Learned costs.
#[derive(Debug, Default, PartialEq)]
pub struct Normal {
    costs: HashMap<Owner, Cost>,
    bytes: f64,
}

impl Normal {
    /// Learns from a tick during which nothing lagged.
    pub fn learn(&mut self, spent: &[(Owner, f64)], applied: &Applied) {
        if applied.bytes <= 0.0 {
            return;
        }
        let keep = 0.5_f64.powf(applied.bytes / HALF_LIFE_BYTES);
        self.bytes = self.bytes * keep + applied.bytes;
        for cost in self.costs.values_mut() {
            cost.seconds *= keep;
            cost.work *= keep;
        }
        for (owner, seconds) in spent {
            let known = self.costs.contains_key(owner) || self.costs.len() < MOST_OWNERS;
            if owner.cause.has_normal_cost() && known {
                let cost = self.costs.entry(owner.clone()).or_default();
                cost.seconds += seconds;
                cost.work += applied.work.get(owner).copied().unwrap_or(0.0);
            }
        }
        self.costs.retain(|_, cost| cost.seconds > 1e-9);
    }

    /// How much of what was spent is above the normal cost of what was applied.
    ///
    /// Owners whose work is counted have a part of one sum that was measured, the processor's time, by what their work is
    /// taken to weigh. So what one of them has cost less than normal is taken off what the others have cost more.
    pub fn excess(&self, spent: Vec<(Owner, f64)>, applied: &Applied) -> Vec<(Owner, f64)> {
        let mut more = 0.0;
        let mut sum = 0.0;
        let mut rows: Vec<_> = spent
            .into_iter()
            .map(|(owner, seconds)| {
                let above = seconds - self.cost(&owner, applied);
                if applied.work.contains_key(&owner) {
                    sum += above;
                    more += above.max(0.0);
                }
                (owner, above.max(0.0))
            })
            .collect();
        for (owner, above) in &mut rows {
            if more > 0.0 && applied.work.contains_key(owner) {
                *above *= sum.max(0.0) / more;
            }
        }
        rows
    }

    /// What an owner normally costs in a window in which so much was applied.
    fn cost(&self, owner: &Owner, applied: &Applied) -> f64 {
        if !owner.cause.has_normal_cost() || self.bytes < ENOUGH_BYTES {
            return 0.0;
        }
        let cost = self.costs.get(owner).copied().unwrap_or_default();
        match applied.work.get(owner) {
            // Its own work says more than the log's bytes: a burst of it costs what it always does.
            Some(work) if cost.work >= ENOUGH_WORK => cost.seconds / cost.work * work,
            Some(_) => 0.0,
            None => cost.seconds / self.bytes * applied.bytes.max(0.0),
        }
    }

    /// Seconds for each piece of an owner's own work, where that is counted and enough of it was seen.
    pub fn each(&self, owner: &Owner) -> Option<f64> {
        let cost = self.costs.get(owner).filter(|cost| cost.work >= ENOUGH_WORK)?;
        Some(cost.seconds / cost.work)
    }

    /// The same of all of them together.
    pub fn average(&self) -> Option<f64> {
        let counted = self.costs.values().filter(|cost| cost.work > 0.0);
        let (seconds, work) = counted.fold((0.0, 0.0), |sum, cost| (sum.0 + cost.seconds, sum.1 + cost.work));
        (work >= ENOUGH_WORK).then(|| seconds / work)
    }

    /// What was learned, as rows of text.
    pub fn rows(&self) -> Vec<Vec<String>> {
        let mut rows = vec![vec!["bytes".to_owned(), self.bytes.to_string()]];
        rows.extend(self.costs.iter().map(|(owner, cost)| {
            let Subject { namespace, table, index, kind } = &owner.subject;
            let texts = [namespace, table, index, kind, &owner.culprit, &owner.role];
            ["cost".to_owned(), owner.cause.as_str().to_owned()]
                .into_iter()
                .chain(texts.map(|text| text.clone().unwrap_or_default()))
                .chain([cost.seconds.to_string(), cost.work.to_string()])
                .collect()
        }));
        rows
    }

    /// Takes a row back; `None` if it is not one.
    pub fn restore(&mut self, row: &[&str]) -> Option<()> {
        let number =
            |text: &str| text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0);
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        match row {
            ["bytes", bytes] => self.bytes = number(bytes)?,
            ["cost", cause, namespace, table, index, kind, culprit, role, seconds, work] => {
                let subject = Subject {
                    namespace: text(namespace),
                    table: text(table),
                    index: text(index),
                    kind: text(kind),
                };
                let cause = Cause::named(cause)?;
                let owner = Owner { cause, subject, culprit: text(culprit), role: text(role) };
                let cost = Cost { seconds: number(seconds)?, work: number(work)? };
                if self.costs.len() < MOST_OWNERS {
                    self.costs.insert(owner, cost);
                }
            }
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(bytes: f64) -> Applied {
        Applied { bytes, ..Applied::default() }
    }

    fn cpu(table: &str) -> Owner {
        let subject = Subject { table: Some(table.into()), ..Subject::default() };
        Owner::about(Cause::Cpu, subject)
    }

    fn blocks(of: &[(&str, f64)]) -> Applied {
        let work: BTreeMap<_, _> = of.iter().map(|(table, blocks)| (cpu(table), *blocks)).collect();
        Applied { bytes: work.values().sum::<f64>() * 100.0, work }
    }

    fn excess(normal: &Normal, owner: &Owner, seconds: f64, applied: &Applied) -> f64 {
        normal.excess(vec![(owner.clone(), seconds)], applied)[0].1
    }

    #[test]
    fn nothing_is_normal_before_enough_was_seen() {
        let mut normal = Normal::default();
        let cpu = Owner::of(Cause::Cpu);
        normal.learn(&[(cpu.clone(), 0.5)], &bytes(1000.0));
        assert_eq!(excess(&normal, &cpu, 0.5, &bytes(1000.0)), 0.5);
    }

    #[test]
    fn more_of_the_same_work_at_the_same_cost_is_no_excess() {
        let mut normal = Normal::default();
        let cpu = Owner::of(Cause::Cpu);
        for _ in 0..20 {
            normal.learn(&[(cpu.clone(), 0.1)], &bytes(1e6));
        }
        assert!(excess(&normal, &cpu, 1.0, &bytes(1e7)) < 1e-9);
        assert!((excess(&normal, &cpu, 1.0, &bytes(1e6)) - 0.9).abs() < 1e-9);
    }

    #[test]
    fn waiting_for_a_lock_is_never_normal() {
        let mut normal = Normal::default();
        let lock = Owner::of(Cause::Lock);
        normal.learn(&[(lock.clone(), 1.0)], &bytes(1e9));
        assert_eq!(excess(&normal, &lock, 1.0, &bytes(1e6)), 1.0);
    }

    #[test]
    fn a_burst_of_one_tables_work_at_its_own_cost_is_no_excess_and_a_table_never_seen_is() {
        let mut normal = Normal::default();
        for (table, count, seconds) in [("a", 1e4, 0.1), ("b", 1e3, 0.01)] {
            normal.learn(&[(cpu(table), seconds)], &blocks(&[(table, count)]));
        }
        assert!(excess(&normal, &cpu("b"), 1.0, &blocks(&[("b", 1e5)])) < 1e-6);
        assert_eq!(excess(&normal, &cpu("new"), 1.0, &blocks(&[("new", 1e5)])), 1.0);
        let mut restored = Normal::default();
        for row in normal.rows() {
            restored.restore(&row.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        }
        assert_eq!(restored, normal);
        assert!(restored.restore(&["cost", "boredom"]).is_none());
    }

    #[test]
    fn another_split_of_the_same_processor_time_is_no_excess() {
        let mut normal = Normal::default();
        normal.learn(&[(cpu("a"), 0.1), (cpu("b"), 0.1)], &blocks(&[("a", 1e4), ("b", 1e4)]));
        let applied = blocks(&[("a", 1e5), ("b", 1e5)]);
        let split = |a, b| normal.excess(vec![(cpu("a"), a), (cpu("b"), b)], &applied);
        assert!(split(0.7, 1.3).iter().all(|(_, above)| *above < 1e-9));
        let above = split(0.9, 1.5);
        assert!(above[0].1 < 1e-9 && (above[1].1 - 0.4).abs() < 1e-9, "{above:?}");
        assert!((split(1.25, 1.75)[1].1 - 0.75).abs() < 1e-9);
    }
}
