//! One replication channel: brings lag measurements and thread time of the same moment together, and lets the account
//! make a tick of them.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::{
    account::{Account, Tick},
    charges::{Spent, Window, charges},
    normal::Normal,
    owner::{Owner, Subject},
    reading::{LagReading, ThreadPoint},
    top::Top,
};

/// Most (state, object) pairs whose apply time is kept apart; the rest is one `(other)` row per state.
const MOST_APPLY_ROWS: usize = 500;

/// Thread readings that wait for a lag measurement. One a second arrives; a replication receiver that is silent for
/// longer than this leaves its ticks to start anew.
const MOST_WINDOWS: usize = 120;

#[derive(Debug)]
struct ThreadWindow {
    until: u64,
    seconds: f64,
    spent: Spent,
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
}

/// State of one channel.
#[derive(Debug, Default)]
pub struct Channel {
    account: Account,
    normal: Normal,
    top: Top,
    threads: HashMap<(i64, String, Subject), f64>,
    threads_at: Option<u64>,
    windows: VecDeque<ThreadWindow>,
    waiting: VecDeque<LagReading>,
    last: Option<LagReading>,
    apply_time: Spent,
    shown: BTreeMap<Owner, f64>,
}

impl Channel {
    /// Takes the cumulative time of the critical threads as it was at `at`.
    pub fn threads(&mut self, at: u64, points: &[ThreadPoint]) {
        let mut spent = Spent::new();
        for ThreadPoint { thread, state, subject, seconds } in points {
            let key = (*thread, state.clone(), subject.clone());
            match seconds {
                Some(seconds) => {
                    let before = self.threads.insert(key, *seconds).unwrap_or(0.0);
                    // A counter that went back has started anew.
                    let delta = if *seconds >= before { seconds - before } else { *seconds };
                    *spent.entry((state.clone(), subject.clone())).or_default() += delta;
                }
                None => drop(self.threads.remove(&key)),
            }
        }
        // The first reading only tells where the counters stand.
        if let Some(from) = self.threads_at.replace(at) {
            self.add_apply_time(&spent);
            self.windows.push_back(ThreadWindow { until: at, seconds: seconds_between(from, at), spent });
            if self.windows.len() > MOST_WINDOWS {
                self.windows.pop_front();
            }
        }
    }

    fn add_apply_time(&mut self, spent: &Spent) {
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

    /// Makes the ticks that are due. A measurement waits for thread time up to `patience`, both in nanoseconds; `now`
    /// is the newest time heard of.
    pub fn due(&mut self, now: u64, tolerance: u64, patience: u64, noise: f64, top_k: usize) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        while let Some(first) = self.waiting.front() {
            let matched = self.threads_at.is_some_and(|threads_at| threads_at + tolerance >= first.at);
            if !matched && now < first.at + patience {
                break;
            }
            if let Some(reading) = self.waiting.pop_front() {
                outcomes.push(self.tick(reading, tolerance, noise, top_k));
            }
        }
        outcomes
    }

    fn tick(&mut self, reading: LagReading, tolerance: u64, noise: f64, top_k: usize) -> Outcome {
        let window = self.window(&reading, tolerance, noise);
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
        let rows = self.top.select(self.account.owed(), top_k);
        let ended = self.shown.keys().filter(|owner| !rows.contains_key(owner)).cloned().collect();
        self.shown.clone_from(&rows);
        let (at, lag) = (reading.at, reading.lag);
        self.last = Some(reading);
        Outcome { at, lag, rows, ended }
    }

    /// Everything between the last measurement and this one.
    fn window(&mut self, reading: &LagReading, tolerance: u64, noise: f64) -> Window {
        let mut window = Window::default();
        while self.windows.front().is_some_and(|front| front.until <= reading.at + tolerance) {
            if let Some(ThreadWindow { seconds, spent, .. }) = self.windows.pop_front() {
                *window.observed.get_or_insert(0.0) += seconds;
                for (key, seconds) in spent {
                    *window.spent.entry(key).or_default() += seconds;
                }
            }
        }
        if let Some(last) = &self.last {
            window.elapsed = seconds_between(last.at, reading.at);
            for (key, seconds) in &reading.waits {
                let before = last.waits.get(key).copied().unwrap_or(0.0);
                let delta = if *seconds >= before { seconds - before } else { *seconds };
                if delta > 0.0 {
                    window.waits.insert(key.clone(), delta);
                }
            }
            if let (Some(now), Some(before)) = (reading.transport, last.transport) {
                window.transport_growth = Some(now - before).filter(|growth| *growth > noise);
            }
        }
        window.transport_behind = reading.transport.is_some_and(|transport| transport > noise);
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

    /// Seconds ever charged.
    pub fn accrued(&self) -> &BTreeMap<Owner, f64> {
        self.account.accrued()
    }

    /// Cumulative seconds of the critical threads by state and object.
    pub fn apply_time(&self) -> &Spent {
        &self.apply_time
    }
}

fn seconds_between(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1e9
}
