//! The account: who owes how much of the present lag. It is told the lag and what was charged since the last
//! tick, and keeps the sum of what is owed equal to the lag. It knows nothing of where charges come from.

use std::collections::BTreeMap;

use super::owner::{Cause, Owner, Subject};

/// Most owners that are kept apart; who comes later is kept in one `(other)` row per cause. Far above what is shown, and
/// a bound on memory when an episode touches tens of thousands of relations.
pub(super) const MOST_OWNERS: usize = 1000;

/// What one replication channel's lag is owed to.
#[derive(Clone, Debug, Default)]
pub struct Account {
    owed: BTreeMap<Owner, f64>,
    accrued: BTreeMap<Owner, f64>,
    excess: BTreeMap<Owner, f64>,
    lag: Option<f64>,
}

/// One tick's input.
#[derive(Debug)]
pub struct Tick<'a> {
    /// The lag now, in seconds.
    pub lag: f64,
    /// What each owner's work cost above its normal cost since the last tick, in seconds.
    pub charges: &'a [(Owner, f64)],
    /// Whose work waits to be applied, and how much; unexplained growth is split by it. Nobody, where it is not known.
    pub waiting: &'a BTreeMap<Subject, f64>,
    /// Lag and growth below this are not told from zero, in seconds.
    pub noise: f64,
    /// Whether the lag now and at the last tick come from the same source, so that their difference is growth.
    pub comparable: bool,
}

impl Account {
    /// Charges, books unexplained growth, pays back. Afterwards the sum of what is owed is the lag.
    pub fn update(&mut self, tick: &Tick<'_>) {
        let lag = if tick.lag.is_finite() { tick.lag.max(0.0) } else { 0.0 };
        let before = self.lag.replace(lag);
        if lag <= tick.noise {
            // Too little to tell whose it is: nobody is named for noise, and it accrues to nobody.
            self.owed.clear();
            self.excess.clear();
            if lag > 0.0 {
                self.owed.insert(Owner::unknown(), lag);
            }
            return;
        }
        let mut charged = 0.0;
        if tick.comparable {
            for (owner, seconds) in tick.charges {
                if *seconds > 0.0 && seconds.is_finite() {
                    self.charge(owner, *seconds);
                    add(&mut self.excess, owner, *seconds);
                    charged += seconds;
                }
            }
            let growth = lag - before.unwrap_or(lag);
            let unexplained = growth - charged;
            if unexplained > tick.noise {
                self.demand(unexplained, tick.waiting);
            }
        }
        // Without an owner the lag could be lower by no more than all of it.
        for seconds in self.excess.values_mut() {
            *seconds = seconds.min(lag);
        }
        self.pay_back(lag, tick.noise);
    }

    fn charge(&mut self, owner: &Owner, seconds: f64) {
        add(&mut self.owed, owner, seconds);
        add(&mut self.accrued, owner, seconds);
    }

    fn demand(&mut self, seconds: f64, waiting: &BTreeMap<Subject, f64>) {
        let sum: f64 = waiting.values().sum();
        if sum <= 0.0 {
            return self.charge(&Owner::demand(), seconds);
        }
        for (subject, work) in waiting {
            self.charge(&Owner::about(Cause::Demand, subject.clone()), seconds * work / sum);
        }
    }

    fn pay_back(&mut self, lag: f64, noise: f64) {
        let sum: f64 = self.owed.values().sum();
        let shortfall = lag - sum;
        if sum > 0.0 && shortfall <= noise {
            let scale = lag / sum;
            for seconds in self.owed.values_mut() {
                *seconds *= scale;
            }
        } else {
            // More lag than anybody was charged for: a start in the middle of it, or a change of its source.
            self.owe_rest(shortfall);
        }
        // Rows that have faded out of sight would be carried for ever; their rest goes to who is left.
        let floor = lag * 1e-6;
        self.owed.retain(|_, seconds| *seconds > floor);
        let sum: f64 = self.owed.values().sum();
        if sum > 0.0 {
            let scale = lag / sum;
            for seconds in self.owed.values_mut() {
                *seconds *= scale;
            }
        }
    }

    fn owe_rest(&mut self, seconds: f64) {
        if seconds > 0.0 {
            self.charge(&Owner::unknown(), seconds);
        }
    }

    /// What each owner owes of the present lag, in seconds.
    pub fn owed(&self) -> &BTreeMap<Owner, f64> {
        &self.owed
    }

    /// What each owner was ever charged, in seconds.
    pub fn accrued(&self) -> &BTreeMap<Owner, f64> {
        &self.accrued
    }

    /// How much less lag there were, had an owner's work cost its normal time since the lag began: at most this, because
    /// the time that it had not taken would not all have gone into catching up. Never more than the lag; 0 of owners
    /// who took no more than that.
    pub fn saved(&self, owner: &Owner) -> f64 {
        self.excess.get(owner).copied().unwrap_or(0.0)
    }

    /// The lag of the last tick.
    pub fn lag(&self) -> Option<f64> {
        self.lag
    }
}

fn add(rows: &mut BTreeMap<Owner, f64>, owner: &Owner, seconds: f64) {
    if let Some(row) = rows.get_mut(owner) {
        *row += seconds;
        return;
    }
    let row = if rows.len() < MOST_OWNERS { owner.clone() } else { owner.clone().into_other() };
    *rows.entry(row).or_default() += seconds;
}

#[cfg(test)]
#[path = "account_tests.rs"]
mod tests;
