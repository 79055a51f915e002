//! One replication channel: brings lag measurements and thread time of the same moment together, and lets the account
//! make a tick of them.

use std::collections::{BTreeMap, VecDeque};

use super::{
    account::{Account, Tick},
    charges::{Doing, Waits, Window, charges, processor_shares},
    company::Company,
    contention::{self, Surroundings},
    devices::Devices,
    latency::Latencies,
    learned::Habits,
    normal::Applied,
    owner::{Owner, Subject},
    reading::{AtWorkPoint, LagReading, OperationPoint, ThreadPoint, Wait, WorkPoint},
    spans::seconds_between,
    top::Top,
    windows::Windows,
    work::{self, Work},
};

/// Cumulative seconds of the critical threads by state and object.
pub type ApplyTime = Waits;

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
    /// How much less lag there were, had the shown owners' work cost its normal time.
    pub saved: BTreeMap<Owner, f64>,
    /// Seconds ever charged, of the owners for whom that changed.
    pub accrued: BTreeMap<Owner, f64>,
    /// Cumulative seconds of the critical threads, of the states and objects for which that changed.
    pub apply_time: ApplyTime,
}

/// What a channel may ask while it makes a tick.
#[derive(Debug)]
pub struct Around<'a> {
    /// Who is on which device.
    pub devices: &'a Devices,
    /// What devices take.
    pub latencies: &'a mut Latencies,
    /// The server's host.
    pub host: &'a str,
    /// The server's `service.instance.id`.
    pub instance: &'a str,
}

/// State of one channel.
#[derive(Debug)]
pub struct Channel {
    start: u64,
    account: Account,
    habits: Habits,
    /// Who is on the devices as usual.
    company: Company,
    work: Work,
    top: Top,
    windows: Windows,
    waiting: VecDeque<LagReading>,
    last: Option<LagReading>,
    accounted_until: Option<u64>,
    apply_time: ApplyTime,
    ticks: u64,
    shown: BTreeMap<Owner, f64>,
    accrued_issued: BTreeMap<Owner, f64>,
    apply_time_issued: ApplyTime,
}

impl Channel {
    /// A channel whose sums count from `start`, in nanoseconds since the epoch, and of which this is known.
    pub fn new(start: u64, habits: Habits) -> Self {
        Self {
            start,
            account: Account::default(),
            habits,
            company: Company::default(),
            work: Work::default(),
            top: Top::default(),
            windows: Windows::default(),
            waiting: VecDeque::new(),
            last: None,
            accounted_until: None,
            apply_time: ApplyTime::new(),
            ticks: 0,
            shown: BTreeMap::new(),
            accrued_issued: BTreeMap::new(),
            apply_time_issued: ApplyTime::new(),
        }
    }

    /// Since when the sums count.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// What was learned of its work.
    pub fn habits(&self) -> &Habits {
        &self.habits
    }

    /// Lets go of what was learned of its work.
    pub fn into_habits(self) -> Habits {
        self.habits
    }

    /// Takes the cumulative time of the critical threads and of their operations as it was at `at`.
    pub fn threads(&mut self, at: u64, points: &[ThreadPoint], operations: &[OperationPoint]) {
        self.windows.read(at, points, operations);
    }

    /// Takes the cumulative work in the log, and the time at it, as it is at the next lag measurement.
    pub fn work(&mut self, points: &[WorkPoint], at_work: &[AtWorkPoint]) {
        self.work.read(points);
        self.work.at_work.read(at_work);
    }

    /// Takes a lag measurement; a tick is made of it when the thread time of the same moment is there.
    pub fn lag(&mut self, reading: LagReading) {
        let work = self.work.step();
        self.waiting.push_back(LagReading { work, ..reading });
    }

    /// Makes the ticks that are due. `now` is the newest time heard of, in nanoseconds.
    pub fn due(&mut self, now: u64, patience: &Patience, around: &mut Around<'_>) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        while let Some(first) = self.waiting.front() {
            let matched = self.windows.reach(first.at.saturating_sub(patience.tolerance));
            if !matched && now < first.at + patience.longest {
                break;
            }
            if let Some(reading) = self.waiting.pop_front() {
                outcomes.push(self.tick(reading, patience, around));
            }
        }
        outcomes
    }

    fn tick(&mut self, reading: LagReading, patience: &Patience, around: &mut Around<'_>) -> Outcome {
        let noise = patience.noise;
        let comparable = self.last.as_ref().is_some_and(|last| {
            last.source == reading.source && !last.stale && !reading.stale && reading.source != "engine"
        });
        let in_step = reading.lag <= noise && self.last.as_ref().is_some_and(|last| last.lag <= noise);
        let window = self.window(&reading, patience, around, comparable && in_step);
        // Of work that has no name nothing is counted.
        let counted = window
            .processor
            .iter()
            .filter(|(owner, effort)| effort.items > 0.0 || owner.subject != Subject::default());
        let work = counted.map(|(owner, effort)| (owner.clone(), effort.items)).collect();
        let applied = Applied { bytes: self.applied_bytes(&reading), work };
        let gross = charges(&window);
        if comparable && in_step {
            self.habits.normal.learn(&gross, &applied);
        }
        let net = self.habits.normal.excess(gross, &applied);
        let waiting = work::demand(&reading.work, &self.habits);
        self.account.update(&Tick { lag: reading.lag, charges: &net, waiting: &waiting, noise, comparable });
        let rows = self.top.select(self.account.owed(), patience.top_k);
        let ended = self.shown.keys().filter(|owner| !rows.contains_key(owner)).cloned().collect();
        self.shown.clone_from(&rows);
        let somebody = rows.keys().filter(|owner| owner.is_somebody());
        let saved = somebody.map(|owner| (owner.clone(), self.account.saved(owner))).collect();
        let everything = self.ticks.is_multiple_of(REISSUE_TICKS);
        self.ticks += 1;
        let accrued = changed(self.account.accrued(), &mut self.accrued_issued, everything);
        let apply_time = changed(&self.apply_time, &mut self.apply_time_issued, everything);
        let (at, lag) = (reading.at, reading.lag);
        self.last = Some(reading);
        Outcome { at, lag, rows, ended, saved, accrued, apply_time }
    }

    /// Bytes of log applied since the last measurement.
    fn applied_bytes(&self, reading: &LagReading) -> f64 {
        match (&self.last, reading.applied) {
            (Some(last), Some(now)) => (now - last.applied.unwrap_or(now)).max(0.0),
            _ => 0.0,
        }
    }

    /// Everything between the last measurement and this one. What it teaches of devices and of the log is learned here,
    /// where it is still whole; of devices only while nothing lags.
    fn window(
        &mut self,
        reading: &LagReading,
        patience: &Patience,
        around: &mut Around<'_>,
        in_step: bool,
    ) -> Window {
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
            window.operations = taken.operations;
            for (wait, seconds) in &reading.waits {
                let before = last.waits.get(wait).copied().unwrap_or(0.0);
                let delta = if *seconds >= before { seconds - before } else { *seconds };
                if delta > 0.0 {
                    let Wait { kind, subject, .. } = wait.clone();
                    *window.waits.entry((kind, subject)).or_default() += delta;
                }
            }
            if let (Some(now), Some(before)) = (reading.transport, last.transport) {
                window.transport_growth = Some(now - before).filter(|growth| *growth > patience.noise);
            }
            let stood_still = reading.applied.is_some() && reading.applied == last.applied;
            self.processor(&mut window, reading, stood_still);
            self.note_apply_time(&window);
            contend(&mut window, (begin, end), around, &mut self.company, in_step);
        }
        // Without a position that was received (an archive), who waits for log while behind waits for transport. Without
        // the primary, lag is that of log that has been received.
        let of_received = reading.source == "local";
        let behind = reading.transport.unwrap_or(if of_received { 0.0 } else { reading.lag });
        window.transport_behind = behind > patience.noise;
        window
    }

    fn processor(&mut self, window: &mut Window, reading: &LagReading, stood_still: bool) {
        let cost = &mut self.habits.cost;
        let spent = |state: &str| -> f64 {
            window.spent.iter().filter(|(doing, _)| doing.state == state).map(|(_, seconds)| seconds).sum()
        };
        let (computed, waited) = (spent("cpu"), spent("runqueue") + spent("throttled"));
        if window.observed > 0.0 {
            cost.learn(&reading.work, computed, stood_still);
        }
        let mut blocked: BTreeMap<Subject, f64> = BTreeMap::new();
        for (doing, seconds) in window.spent.iter().filter(|(doing, _)| doing.subject.table.is_some()) {
            *blocked.entry(doing.subject.whole_table()).or_default() += seconds;
        }
        window.processor = work::processor(&reading.work, cost, stood_still, computed >= waited, &blocked);
    }

    fn note_apply_time(&mut self, window: &Window) {
        let shares = processor_shares(window);
        for (Doing { state, subject, .. }, seconds) in &window.spent {
            if matches!(state.as_str(), "cpu" | "runqueue") {
                for (owner, share) in &shares {
                    self.add_apply_time(state, &owner.subject, seconds * share);
                }
            } else {
                self.add_apply_time(state, subject, *seconds);
            }
        }
    }

    fn add_apply_time(&mut self, state: &str, subject: &Subject, seconds: f64) {
        if seconds > 0.0 {
            let key = (state.to_owned(), subject.clone());
            let fits = self.apply_time.contains_key(&key) || self.apply_time.len() < MOST_APPLY_ROWS;
            let key = if fits { key } else { (key.0, Subject::other()) };
            *self.apply_time.entry(key).or_default() += seconds;
        }
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

/// Tells apart what others at the device owe, or learns from their absence.
fn contend(
    window: &mut Window,
    (begin, end): (u64, u64),
    around: &mut Around<'_>,
    company: &mut Company,
    in_step: bool,
) {
    let flights = around.devices.between(around.host, begin, end);
    let surroundings = Surroundings {
        host: around.host,
        instance: around.instance,
        flights: &flights,
        seconds: seconds_between(begin, end),
    };
    if in_step {
        contention::learn_company(&surroundings, company);
        contention::learn(&window.spent, &surroundings, around.latencies);
    }
    window.contention = contention::split(&mut window.spent, &surroundings, around.latencies, company);
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
    use crate::lag_attribution::owner::Cause;

    const SECOND: u64 = 1_000_000_000;

    fn reading(at: u64) -> LagReading {
        LagReading { at, lag: 5.0, source: "primary".into(), ..LagReading::default() }
    }

    fn cpu(seconds: f64) -> [ThreadPoint; 1] {
        let doing = Doing { state: "cpu".into(), ..Doing::default() };
        [ThreadPoint { thread: 1, doing, path: String::new(), seconds: Some(seconds) }]
    }

    #[test]
    fn no_second_is_lost_between_two_ticks_whose_measurements_are_a_moment_apart() {
        let patience = Patience { tolerance: SECOND / 10, longest: 2 * SECOND, noise: 0.1, top_k: 5 };
        let mut channel = Channel::new(0, Habits::default());
        let mut latencies = Latencies::default();
        let mut around =
            Around { devices: &Devices::default(), latencies: &mut latencies, host: "", instance: "" };
        for second in 1..=11_u64 {
            channel.threads(second * SECOND, &cpu(second as f64), &[]);
            channel.lag(reading(second * SECOND + SECOND / 20));
            let outcomes = channel.due(second * SECOND + SECOND / 20, &patience, &mut around);
            assert_eq!(outcomes.len(), 1);
        }
        let cpu = Owner::of(Cause::Cpu);
        let accrued = channel.account.accrued();
        assert!((accrued[&cpu] - 10.0).abs() < 1e-9, "{accrued:?}");
        // The lag of the first tick was there before; nothing else is unknown.
        assert!((accrued[&Owner::unknown()] - 5.0).abs() < 1e-9, "{accrued:?}");
    }
}
