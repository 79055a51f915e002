//! Which rows are shown: the top K with hysteresis, the rest summed into one `(other)` row per cause. The sum of
//! what is shown is the sum of what is owed.

use std::collections::{BTreeMap, BTreeSet};

use super::owner::Owner;

/// A row that is shown stays until a row that is not exceeds it by this factor, so that two rows of about the same
/// size do not take turns.
const HYSTERESIS: f64 = 1.2;

/// The rows shown at the last tick.
#[derive(Debug, Default)]
pub struct Top {
    shown: BTreeSet<Owner>,
}

impl Top {
    /// Picks at most `k` named rows. `unknown` is always there and does not count.
    pub fn select(&mut self, owed: &BTreeMap<Owner, f64>, k: usize) -> BTreeMap<Owner, f64> {
        let unknown = Owner::unknown();
        let mut ranked: Vec<(&Owner, f64)> = owed
            .iter()
            .filter(|(owner, _)| **owner != unknown)
            .map(|(owner, seconds)| {
                (owner, if self.shown.contains(owner) { seconds * HYSTERESIS } else { *seconds })
            })
            .collect();
        ranked.sort_by(|left, right| right.1.total_cmp(&left.1).then_with(|| left.0.cmp(right.0)));
        let mut rows: BTreeMap<Owner, f64> = BTreeMap::new();
        for (position, (owner, _)) in ranked.iter().enumerate() {
            let row = if position < k { (*owner).clone() } else { (*owner).clone().into_other() };
            *rows.entry(row).or_default() += owed.get(*owner).copied().unwrap_or(0.0);
        }
        self.shown = ranked.iter().take(k).map(|(owner, _)| (*owner).clone()).collect();
        rows.insert(unknown.clone(), owed.get(&unknown).copied().unwrap_or(0.0));
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lag_attribution::owner::{Cause, Subject};

    fn table(name: &str) -> Owner {
        Owner::about(Cause::Replay, Subject { table: Some(name.into()), ..Subject::default() })
    }

    #[test]
    fn the_rest_is_summed_and_the_sum_stays() {
        let owed: BTreeMap<_, _> = (0..50).map(|n| (table(&format!("t{n:02}")), f64::from(n))).collect();
        let rows = Top::default().select(&owed, 5);
        assert_eq!(rows.len(), 7);
        assert_eq!(rows.values().sum::<f64>(), owed.values().sum::<f64>());
        assert!(rows.contains_key(&table("t49")));
        assert_eq!(rows[&Owner::unknown()], 0.0);
    }

    #[test]
    fn two_rows_of_about_the_same_size_do_not_take_turns() {
        let mut top = Top::default();
        let mut owed = BTreeMap::from([(table("a"), 1.1), (table("b"), 1.0)]);
        top.select(&owed, 1);
        owed.insert(table("b"), 1.2);
        assert!(top.select(&owed, 1).contains_key(&table("a")));
        owed.insert(table("b"), 2.0);
        assert!(top.select(&owed, 1).contains_key(&table("b")));
    }
}
