//! Makes one consistent account out of readings that were not taken at the same instant: totals and rows are read
//! some microseconds apart, while the thread goes on. Reads nothing itself.

use std::collections::BTreeMap;

use crate::pages::PageIndex;
use crate::raw::FileId;
use crate::types::ThreadState;

/// Which row.
pub(crate) type RowKey = (ThreadState, Option<FileId>, PageIndex);
/// Nanoseconds by row.
pub(crate) type Rows = BTreeMap<RowKey, u64>;

/// Changes `rows` so that none is below `last` and all sum to `total`. What is too much comes off the rows that grew,
/// the largest growth first; what is missing goes to `current`. `total` must not be below the sum of `last`.
pub(crate) fn reconcile(last: &Rows, rows: &mut Rows, total: u64, current: RowKey) {
    for (key, before) in last {
        let now = rows.entry(*key).or_insert(0);
        *now = (*now).max(*before);
    }
    let sum = rows.values().fold(0_u64, |sum, ns| sum.saturating_add(*ns));
    if sum <= total {
        let open = rows.entry(current).or_insert(0);
        *open = open.saturating_add(total - sum);
        return;
    }
    let mut excess = sum - total;
    let mut growth: Vec<(u64, RowKey)> =
        rows.iter().map(|(key, ns)| (ns - last.get(key).copied().unwrap_or(0).min(*ns), *key)).collect();
    growth.sort_unstable_by(|left, right| right.cmp(left));
    for (grown, key) in growth {
        let cut = grown.min(excess);
        if let Some(ns) = rows.get_mut(&key) {
            *ns -= cut;
        }
        excess -= cut;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows() -> impl Strategy<Value = Rows> {
        let state = (0..ThreadState::ALL.len()).prop_map(|index| ThreadState::ALL[index]);
        let file =
            proptest::option::of((0..3_u64).prop_map(|inode| FileId { device: 1, generation: 1, inode }));
        let index = (0..3_u32).prop_map(PageIndex::from_raw);
        proptest::collection::btree_map((state, file, index), 0..1_000_000_u64, 0..12)
    }

    proptest! {
        #[test]
        fn rows_sum_to_the_total_and_never_fall(last in rows(), read in rows(), window in 0..1_000_000_u64) {
            let total = last.values().sum::<u64>() + window;
            let mut now = read;
            reconcile(&last, &mut now, total, (ThreadState::Cpu, None, PageIndex::None));
            prop_assert_eq!(now.values().sum::<u64>(), total);
            for (key, before) in &last {
                prop_assert!(now[key] >= *before);
            }
        }
    }
}
