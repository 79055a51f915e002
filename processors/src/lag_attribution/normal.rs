//! What an owner's work normally costs: seconds of the applying thread per byte of log applied, learned while
//! nothing lags and forgotten with time. An owner that never cost anything while nothing lagged normally costs zero.

use std::collections::HashMap;

use super::{account::MOST_OWNERS, owner::Owner};

/// After applying this many bytes since, what was learned weighs half. 256 MiB of log is minutes of a busy server
/// and hours of a quiet one, so a nightly batch does not wash out what the day taught.
const HALF_LIFE_BYTES: f64 = 256.0 * 1024.0 * 1024.0;

/// Below this much work nothing is known: a handful of records says little of the cost of the next thousand.
const ENOUGH_BYTES: f64 = 256.0 * 1024.0;

/// Learned costs.
#[derive(Debug, Default)]
pub struct Normal {
    seconds: HashMap<Owner, f64>,
    bytes: f64,
}

impl Normal {
    /// Learns from a tick during which nothing lagged.
    pub fn learn(&mut self, spent: &[(Owner, f64)], applied: f64) {
        if applied <= 0.0 {
            return;
        }
        let keep = 0.5_f64.powf(applied / HALF_LIFE_BYTES);
        self.bytes = self.bytes * keep + applied;
        for seconds in self.seconds.values_mut() {
            *seconds *= keep;
        }
        for (owner, seconds) in spent {
            let known = self.seconds.contains_key(owner) || self.seconds.len() < MOST_OWNERS;
            if owner.cause.has_normal_cost() && known {
                *self.seconds.entry(owner.clone()).or_default() += seconds;
            }
        }
        self.seconds.retain(|_, seconds| *seconds > 1e-9);
    }

    /// How much of what was spent is above the normal cost of applying so many bytes.
    pub fn excess(&self, owner: &Owner, seconds: f64, applied: f64) -> f64 {
        if !owner.cause.has_normal_cost() || self.bytes < ENOUGH_BYTES {
            return seconds;
        }
        let rate = self.seconds.get(owner).copied().unwrap_or(0.0) / self.bytes;
        (seconds - rate * applied.max(0.0)).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lag_attribution::owner::Cause;

    #[test]
    fn nothing_is_normal_before_enough_was_seen() {
        let mut normal = Normal::default();
        let cpu = Owner::of(Cause::Cpu);
        normal.learn(&[(cpu.clone(), 0.5)], 1000.0);
        assert_eq!(normal.excess(&cpu, 0.5, 1000.0), 0.5);
    }

    #[test]
    fn more_of_the_same_work_at_the_same_cost_is_no_excess() {
        let mut normal = Normal::default();
        let cpu = Owner::of(Cause::Cpu);
        for _ in 0..20 {
            normal.learn(&[(cpu.clone(), 0.1)], 1e6);
        }
        assert!(normal.excess(&cpu, 1.0, 1e7) < 1e-9);
        assert!((normal.excess(&cpu, 1.0, 1e6) - 0.9).abs() < 1e-9);
    }

    #[test]
    fn waiting_for_a_lock_is_never_normal() {
        let mut normal = Normal::default();
        let lock = Owner::of(Cause::Lock);
        normal.learn(&[(lock.clone(), 1.0)], 1e9);
        assert_eq!(normal.excess(&lock, 1.0, 1e6), 1.0);
    }
}
