//! What the processor needs for the removal of a relation, beside a reference to a block, as this replica has shown.

use std::collections::BTreeMap;

use super::{owner::Subject, work::Step};

/// Removing a relation costs as much processor time as so many references to blocks, until it was measured here: 2,000
/// relations took 17 s where a reference took about 4 µs.
const DROP_WEIGHT: f64 = 2000.0;

/// What may be measured for it.
const DROP_WEIGHTS: (f64, f64) = (1.0, 1e6);

/// Below so many blocks, or drops, nothing is known of their cost.
const ENOUGH_BLOCKS: f64 = 1000.0;
const ENOUGH_DROPS: f64 = 20.0;

/// Less than that is the thread's waking up.
const LEAST_SECONDS: f64 = 1e-4;

/// Part of the drops that the blocks must leave unexplained, so that the price of each can be told.
const APART: f64 = 0.01;

/// After so many since, what was learned weighs half.
const HALF_LIFE_BLOCKS: f64 = 1e6;
const HALF_LIFE_DROPS: f64 = 10_000.0;

/// What a drop costs beside a reference to a block: the prices that fit best what both took together, where each second
/// of it counts the same. Sums of what was seen, each divided by the seconds that it took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    blocks: f64,
    drops: f64,
    blocks_squared: f64,
    drops_squared: f64,
    product: f64,
    /// Seconds of windows in which no record was finished while drops were the next.
    stalled: f64,
}

impl Cost {
    /// References to blocks that cost as much as one drop.
    pub fn drop_weight(&self) -> f64 {
        let Self { blocks, drops, blocks_squared, drops_squared, product, .. } = *self;
        let both = blocks_squared * drops_squared;
        let rest = both - product * product;
        // Where each window has as many drops for its blocks as the other, nothing tells which of them cost.
        if drops < ENOUGH_DROPS || blocks < ENOUGH_BLOCKS || rest < APART * both {
            return DROP_WEIGHT;
        }
        let (block, drop) =
            (blocks * drops_squared - drops * product, drops * blocks_squared - blocks * product);
        if block <= 0.0 {
            return DROP_WEIGHT;
        }
        (drop / block).clamp(DROP_WEIGHTS.0, DROP_WEIGHTS.1)
    }

    /// Learns from a step that took so much processor time.
    pub fn learn(&mut self, step: &Step, seconds: f64, stood_still: bool) {
        let sum = |rows: &BTreeMap<Subject, f64>| rows.values().sum::<f64>();
        let (blocks, drops) = (sum(&step.applied.blocks), sum(&step.applied.drops));
        if stood_still && drops + blocks <= 0.0 {
            self.stalled += if step.next.drops.is_empty() { 0.0 } else { seconds };
            return;
        }
        let seconds = seconds + std::mem::take(&mut self.stalled);
        if seconds < LEAST_SECONDS {
            return;
        }
        let keep = 0.5_f64.powf(blocks / HALF_LIFE_BLOCKS + drops / HALF_LIFE_DROPS);
        let sums = [
            (&mut self.blocks, blocks),
            (&mut self.drops, drops),
            (&mut self.blocks_squared, blocks * blocks / seconds),
            (&mut self.drops_squared, drops * drops / seconds),
            (&mut self.product, blocks * drops / seconds),
        ];
        for (sum, more) in sums {
            *sum = *sum * keep + more;
        }
    }

    /// What was learned, as fields of text.
    pub fn fields(&self) -> Vec<String> {
        [self.blocks, self.drops, self.blocks_squared, self.drops_squared, self.product]
            .map(|number| number.to_string())
            .into()
    }

    /// Takes fields back; `None` if they are not such.
    pub fn restore(fields: &[&str]) -> Option<Self> {
        let number =
            |text: &&str| text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0);
        let [blocks, drops, blocks_squared, drops_squared, product] = fields else { return None };
        Some(Self {
            blocks: number(blocks)?,
            drops: number(drops)?,
            blocks_squared: number(blocks_squared)?,
            drops_squared: number(drops_squared)?,
            product: number(product)?,
            stalled: 0.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lag_attribution::work::Amount;

    fn table(name: &str) -> Subject {
        Subject { table: Some(name.into()), ..Subject::default() }
    }

    fn amount(blocks: &[(&str, f64)], drops: &[(&str, f64)]) -> Amount {
        let rows = |rows: &[(&str, f64)]| rows.iter().map(|(name, items)| (table(name), *items)).collect();
        Amount { blocks: rows(blocks), drops: rows(drops) }
    }

    #[test]
    fn the_cost_of_a_drop_is_learned_from_what_blocks_do_not_explain() {
        let mut cost = Cost::default();
        assert_eq!(cost.drop_weight(), DROP_WEIGHT);
        let step = |blocks, drops| {
            let drops: &[_] = if drops > 0.0 { &[("gone", drops)] } else { &[] };
            Step { applied: amount(&[("a", blocks)], drops), ..Step::default() }
        };
        for _ in 0..10 {
            cost.learn(&step(10_000.0, 0.0), 0.1, false);
        }
        cost.learn(&Step { next: amount(&[], &[("gone", 100.0)]), ..Step::default() }, 0.9, true);
        cost.learn(&step(10_000.0, 100.0), 0.2, false);
        // (0.9 + 0.2 - 0.1) s for 100 drops; a block takes 10 microseconds.
        assert!((cost.drop_weight() - 1000.0).abs() < 1.0, "{}", cost.drop_weight());
        let fields = cost.fields();
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        assert_eq!(Cost::restore(&fields), Some(cost));
        assert_eq!(Cost::restore(&["1", "2", "3", "4", "x"]), None);
    }

    #[test]
    fn the_cost_of_a_drop_is_learned_though_there_are_drops_in_every_window() {
        let mut cost = Cost::default();
        for second in 0..100 {
            let (blocks, drops) = (1000.0 + 37.0 * f64::from(second % 11), 20.0 + f64::from(second % 7));
            let step = Step { applied: amount(&[("a", blocks)], &[("queue", drops)]), ..Step::default() };
            cost.learn(&step, blocks * 2e-5 + drops * 5e-3, false);
        }
        assert!((cost.drop_weight() - 250.0).abs() < 1.0, "{}", cost.drop_weight());
        // As many drops for a block everywhere: the sum says nothing of the parts.
        let mut cost = Cost::default();
        for second in 1..100 {
            let blocks = 100.0 * f64::from(second);
            let drops = blocks / 4.0;
            let step = Step { applied: amount(&[("a", blocks)], &[("queue", drops)]), ..Step::default() };
            cost.learn(&step, blocks * 2e-5 + drops * 5e-3, false);
        }
        assert_eq!(cost.drop_weight(), DROP_WEIGHT);
    }
}
