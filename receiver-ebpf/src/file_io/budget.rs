//! Whether the probes take more of the host's processors than they may. Knows nothing of what they are.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use nix::unistd::{SysconfVar, sysconf};

use crate::CostRow;

/// What the probes take is judged by its mean over so long: a burst is no reason to go blind.
const SPAN: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Budget {
    /// Percent of the host's processors; 0 for no limit.
    limit: f64,
    processors: f64,
    /// When it was looked at, and the seconds that the probes had taken by then: the first is just older than the span.
    spent: VecDeque<(Instant, f64)>,
}

impl Budget {
    pub(super) fn new(limit: f64) -> Self {
        // All of the host's, whatever of them this process may use. Without an answer one: then the limit is low.
        let processors = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten().unwrap_or(1);
        Self { limit, processors: processors as f64, spent: VecDeque::new() }
    }

    /// Takes what the probes have cost so far. What they took over the last half minute, in percent of the host's
    /// processors, if that is too much.
    pub(super) fn exceeded(&mut self, now: Instant, costs: &[CostRow]) -> Option<f64> {
        self.spent.push_back((now, costs.iter().map(|row| row.seconds).sum()));
        while self.spent.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= SPAN) {
            self.spent.pop_front();
        }
        let ((begin, before), (_, after)) = (self.spent.front()?, self.spent.back()?);
        let span = now.duration_since(*begin);
        if self.limit == 0.0 || span < SPAN {
            return None;
        }
        let percent = (after - before) / span.as_secs_f64() / self.processors * 100.0;
        (percent > self.limit).then_some(percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two processors, a look each second; `taken` is the seconds that the probes take in each.
    fn judged(limit: f64, taken: impl Iterator<Item = f64>) -> Vec<Option<f64>> {
        let mut budget = Budget { limit, processors: 2.0, spent: VecDeque::new() };
        let (begin, mut seconds) = (Instant::now(), 0.0);
        let look = |(second, taken): (u64, f64)| {
            seconds += taken;
            let costs = [CostRow { tracepoint: "sys_enter", runs: 1, seconds }];
            budget.exceeded(begin + Duration::from_secs(second), &costs)
        };
        (0..).zip(taken).map(look).collect()
    }

    #[test]
    fn half_a_minute_above_the_limit_is_too_much() {
        let judged = judged(5.0, std::iter::repeat_n(0.2, 31));
        assert!(judged[..30].iter().all(Option::is_none));
        assert!((judged[30].expect("exceeded") - 10.0).abs() < 1e-9);
    }

    #[test]
    fn a_burst_is_not() {
        let burst = (0..120).map(|second| if second % 40 < 10 { 0.2 } else { 0.01 });
        assert!(judged(5.0, burst).iter().all(Option::is_none));
    }

    #[test]
    fn what_was_before_the_last_half_minute_does_not_count() {
        let quiet_then_busy = (0..120).map(|second| if second < 60 { 0.0 } else { 0.2 });
        let first = judged(5.1, quiet_then_busy).iter().position(Option::is_some);
        assert_eq!(first, Some(75), "after half of the span at twice the limit");
    }

    #[test]
    fn without_a_limit_nothing_is_too_much() {
        assert!(judged(0.0, std::iter::repeat_n(1.9, 60)).iter().all(Option::is_none));
    }
}
