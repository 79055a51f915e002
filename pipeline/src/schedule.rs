//! When to collect: intervals end at whole multiples of the wall clock's, so that receivers that know nothing of each
//! other measure at the same moments.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time until the interval that is running now ends.
pub fn until_next(interval: Duration) -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let interval = interval.as_nanos().max(1);
    Duration::from_nanos(u64::try_from(interval - since % interval).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_always_time_left_and_never_more_than_an_interval() {
        for interval in [Duration::from_millis(1), Duration::from_secs(1), Duration::from_secs(7)] {
            let left = until_next(interval);
            assert!(left > Duration::ZERO && left <= interval);
        }
    }
}
