//! Who is on a device as usual: learned while nothing lags, when whoever was there held nobody up. A server that flushes
//! its log all day is no contention because a read became slow for another reason; what is more than usual may be.

use std::collections::BTreeMap;

use super::owner::Owner;

/// After so many seconds in step, what was learned weighs half.
const HALF_LIFE_SECONDS: f64 = 60.0;

/// Below this nothing is usual yet.
const ENOUGH_SECONDS: f64 = 3.0;

/// Up to this many times what is usual is as usual: the same work takes longer on a device that is slow for everyone.
const TOLERANCE: f64 = 2.0;

/// Most pairs of device and owner that are remembered; who is not is not usual.
const MOST_ROWS: usize = 1000;

/// Seconds in flight, by device and owner, of the seconds watched.
#[derive(Debug, Default)]
pub struct Company {
    seconds: f64,
    rows: BTreeMap<(String, Owner), f64>,
}

impl Company {
    /// Learns from a window of so many seconds in which nothing lagged.
    pub fn learn<'a>(
        &mut self,
        seconds: f64,
        flights: impl Iterator<Item = (&'a str, BTreeMap<Owner, f64>)>,
    ) {
        if seconds <= 0.0 {
            return;
        }
        let keep = 0.5_f64.powf(seconds / HALF_LIFE_SECONDS);
        self.seconds = self.seconds * keep + seconds;
        for in_flight in self.rows.values_mut() {
            *in_flight *= keep;
        }
        for (device, owners) in flights {
            for (owner, in_flight) in owners {
                let place = (device.to_owned(), owner);
                if self.rows.len() < MOST_ROWS || self.rows.contains_key(&place) {
                    *self.rows.entry(place).or_default() += in_flight;
                }
            }
        }
        self.rows.retain(|_, in_flight| *in_flight > 1e-6);
    }

    /// What of the time in flight in a window of so many seconds is more than usual.
    pub fn unusual(&self, device: &str, owner: &Owner, in_flight: f64, seconds: f64) -> f64 {
        if self.seconds < ENOUGH_SECONDS {
            return in_flight;
        }
        let usual = self.rows.get(&(device.to_owned(), owner.clone())).copied().unwrap_or(0.0);
        (in_flight - TOLERANCE * usual / self.seconds * seconds).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lag_attribution::owner::Cause;

    fn flight(seconds: f64) -> impl Iterator<Item = (&'static str, BTreeMap<Owner, f64>)> {
        std::iter::once(("vda", BTreeMap::from([(Owner::of(Cause::Contention), seconds)])))
    }

    #[test]
    fn who_is_there_as_usual_is_not_counted_and_who_is_there_more_is() {
        let owner = Owner::of(Cause::Contention);
        let mut company = Company::default();
        company.learn(1.0, flight(0.1));
        assert_eq!(company.unusual("vda", &owner, 0.1, 1.0), 0.1, "one second tells nothing");
        for _ in 0..10 {
            company.learn(1.0, flight(0.1));
        }
        assert_eq!(company.unusual("vda", &owner, 0.15, 1.0), 0.0);
        assert!((company.unusual("vda", &owner, 1.2, 1.0) - 1.0).abs() < 1e-9);
        assert_eq!(company.unusual("vdb", &owner, 0.1, 1.0), 0.1, "another device");
    }

    #[test]
    fn what_was_usual_once_is_forgotten() {
        let mut company = Company::default();
        company.learn(10.0, flight(10.0));
        for _ in 0..600 {
            company.learn(1.0, std::iter::empty());
        }
        assert!(company.unusual("vda", &Owner::of(Cause::Contention), 1.0, 1.0) > 0.95);
    }
}
