//! One replication channel: brings lag measurements and thread time of the same moment together, and lets the account
//! make a tick of them.

use std::collections::{BTreeMap, VecDeque};

use super::{
    account::{Account, Tick},
    charges::{Spent, Window, charges},
    normal::Normal,
    owner::{Owner, Subject},
    reading::{LagReading, ThreadPoint},
    top::Top,
    windows::{Windows, seconds_between},
};

/// Most (state, object) pairs whose apply time is kept apart; the rest is one `(other)` row per state.
const MOST_APPLY_ROWS: usize = 500;

/// Sums that did not change are issued again after so many ticks, so that a scrape page keeps them.
const REISSUE_TICKS: u64 = 60;

/// When to make a tick, and of how little not to make blame.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Thread time may be older than the lag by so much, in nanoseconds.
    pub tolerance: u64,
    /// A measurement waits for thread time for so long, in nanoseconds.
    pub longest: u64,
    /// Lag and growth below this are not told from zero, in seconds.
    pub noise: f64,
    /// Rows that are shown.
    pub top_k: usize,
}

/// What came out of one tick.
#[derive(Debug)]
pub struct Outcome {
    /// Time of the tick: the lag measurement's own.
    pub at: u64,
    /// The lag.
    pub lag: f64,
    /// What is shown; sums to the lag.
    pub rows: BTreeMap<Owner, f64>,
    /// Rows that were shown at the last tick and are not now.
    pub ended: Vec<Owner>,
    /// Seconds ever charged, of the owners for whom that changed.
    pub accrued: BTreeMap<Owner, f64>,
    /// Cumulative seconds of the critical threads, of the states and objects for which that changed.
    pub apply_time: Spent,
}

/// State of one channel.
#[derive(Debug)]
pub struct Channel {
    start: u64,
    account: Account,
    normal: Normal,
    top: Top,
    windows: Windows,
    waiting: VecDeque<LagReading>,
    last: Option<LagReading>,
    accounted_until: Option<u64>,
    apply_time: Spent,
    ticks: u64,
    shown: BTreeMap<Owner, f64>,
    accrued_issued: BTreeMap<Owner, f64>,
    apply_time_issued: Spent,
}

impl Channel {
    /// A channel whose sums count from `start`, in nanoseconds since the epoch.
    pub fn new(start: u64) -> Self {
        Self {
            start,
            account: Account::default(),
            normal: Normal::default(),
            top: Top::default(),
            windows: Windows::default(),
            waiting: VecDeque::new(),
            last: None,
            accounted_until: None,
            apply_time: Spent::new(),
            ticks: 0,
            shown: BTreeMap::new(),
            accrued_issued: BTreeMap::new(),
            apply_time_issued: Spent::new(),
        }
    }

    /// Since when the sums count.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Takes the cumulative time of the critical threads as it was at `at`.
    pub fn threads(&mut self, at: u64, points: &[ThreadPoint]) {
        let spent = self.windows.read(at, points);
        for ((state, subject), seconds) in spent.iter().filter(|(_, seconds)| **seconds > 0.0) {
            let key = (state.clone(), subject.clone());
            let key = if self.apply_time.contains_key(&key) || self.apply_time.len() < MOST_APPLY_ROWS {
                key
            } else {
                (state.clone(), Subject::other())
            };
            *self.apply_time.entry(key).or_default() += seconds;
        }
    }

    /// Takes a lag measurement; a tick is made of it when the thread time of the same moment is there.
    pub fn lag(&mut self, reading: LagReading) {
        self.waiting.push_back(reading);
    }

    /// Makes the ticks that are due. `now` is the newest time heard of, in nanoseconds.
    pub fn due(&mut self, now: u64, patience: &Patience) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        while let Some(first) = self.waiting.front() {
            let matched = self.windows.reach(first.at.saturating_sub(patience.tolerance));
            if !matched && now < first.at + patience.longest {
                break;
            }
            if let Some(reading) = self.waiting.pop_front() {
                outcomes.push(self.tick(reading, patience));
            }
        }
        outcomes
    }

    fn tick(&mut self, reading: LagReading, patience: &Patience) -> Outcome {
        let noise = patience.noise;
        let window = self.window(&reading, patience);
        let applied = match (&self.last, reading.applied) {
            (Some(last), Some(now)) => (now - last.applied.unwrap_or(now)).max(0.0),
            _ => 0.0,
        };
        let gross = charges(&window);
        let comparable = self.last.as_ref().is_some_and(|last| {
            last.source == reading.source && !last.stale && !reading.stale && reading.source != "engine"
        });
        let in_step = reading.lag <= noise && self.last.as_ref().is_some_and(|last| last.lag <= noise);
        if comparable && in_step {
            self.normal.learn(&gross, applied);
        }
        let net: Vec<_> = gross
            .into_iter()
            .map(|(owner, seconds)| {
                let seconds = self.normal.excess(&owner, seconds, applied);
                (owner, seconds)
            })
            .collect();
        self.account.update(&Tick { lag: reading.lag, charges: &net, noise, comparable });
        let rows = self.top.select(self.account.owed(), patience.top_k);
        let ended = self.shown.keys().filter(|owner| !rows.contains_key(owner)).cloned().collect();
        self.shown.clone_from(&rows);
        let everything = self.ticks.is_multiple_of(REISSUE_TICKS);
        self.ticks += 1;
        let accrued = changed(self.account.accrued(), &mut self.accrued_issued, everything);
        let apply_time = changed(&self.apply_time, &mut self.apply_time_issued, everything);
        let (at, lag) = (reading.at, reading.lag);
        self.last = Some(reading);
        Outcome { at, lag, rows, ended, accrued, apply_time }
    }

    /// Everything between the last measurement and this one.
    fn window(&mut self, reading: &LagReading, patience: &Patience) -> Window {
        let mut window = Window::default();
        // The thread's time and the lag are measured a moment apart: the next tick begins where this one ended.
        let end = self.windows.end_of_tick(reading.at, patience.tolerance);
        let begin = self.accounted_until.replace(end);
        if let Some(last) = &self.last {
            let begin = begin.unwrap_or(last.at);
            window.elapsed = seconds_between(begin, end);
            let taken = self.windows.take(begin, end);
            window.observed = taken.observed;
            window.spent = taken.spent;
            for (key, seconds) in &reading.waits {
                let before = last.waits.get(key).copied().unwrap_or(0.0);
                let delta = if *seconds >= before { seconds - before } else { *seconds };
                if delta > 0.0 {
                    window.waits.insert(key.clone(), delta);
                }
            }
            if let (Some(now), Some(before)) = (reading.transport, last.transport) {
                window.transport_growth = Some(now - before).filter(|growth| *growth > patience.noise);
            }
        }
        window.transport_behind = reading.transport.is_some_and(|transport| transport > patience.noise);
        window
    }

    /// Whether anything was ever shown.
    pub fn was_shown(&self) -> bool {
        !self.shown.is_empty()
    }

    /// Rows shown at the last tick.
    pub fn shown(&self) -> impl Iterator<Item = &Owner> {
        self.shown.keys()
    }

    /// Owners whose accrued seconds were ever issued.
    pub fn accrued_issued(&self) -> impl Iterator<Item = &Owner> {
        self.accrued_issued.keys()
    }

    /// States and objects whose apply time was ever issued.
    pub fn apply_time_issued(&self) -> impl Iterator<Item = &(String, Subject)> {
        self.apply_time_issued.keys()
    }
}

/// The rows that differ from what was issued, or all of them; they are issued now.
fn changed<K: Ord + Clone>(
    now: &BTreeMap<K, f64>,
    issued: &mut BTreeMap<K, f64>,
    everything: bool,
) -> BTreeMap<K, f64> {
    let rows: BTreeMap<K, f64> = now
        .iter()
        .filter(|(key, value)| everything || issued.get(*key) != Some(*value))
        .map(|(key, value)| (key.clone(), *value))
        .collect();
    issued.extend(rows.iter().map(|(key, value)| (key.clone(), *value)));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn reading(at: u64) -> LagReading {
        LagReading { at, lag: 5.0, source: "primary".into(), ..LagReading::default() }
    }

    fn cpu(seconds: f64) -> [ThreadPoint; 1] {
        let (subject, path) = (Subject::default(), String::new());
        [ThreadPoint { thread: 1, state: "cpu".into(), subject, path, seconds: Some(seconds) }]
    }

    #[test]
    fn no_second_is_lost_between_two_ticks_whose_measurements_are_a_moment_apart() {
        let patience = Patience { tolerance: SECOND / 10, longest: 2 * SECOND, noise: 0.1, top_k: 5 };
        let mut channel = Channel::new(0);
        for second in 1..=11_u64 {
            channel.threads(second * SECOND, &cpu(second as f64));
            channel.lag(reading(second * SECOND + SECOND / 20));
            let outcomes = channel.due(second * SECOND + SECOND / 20, &patience);
            assert_eq!(outcomes.len(), 1);
        }
        let cpu = Owner::of(super::super::owner::Cause::Cpu);
        let accrued = channel.account.accrued();
        assert!((accrued[&cpu] - 10.0).abs() < 1e-9, "{accrued:?}");
        // The lag of the first tick was there before; nothing else is unknown.
        assert!((accrued[&Owner::unknown()] - 5.0).abs() < 1e-9, "{accrued:?}");
    }
}
