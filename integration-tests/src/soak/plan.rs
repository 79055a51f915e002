//! What goes wrong and when: made from the seed before anything starts, and printed.

use std::{fmt, time::Duration};

use super::random::Random;

/// Something that a production server does to an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The replica is stopped in order and started.
    ReplicaRestart,
    /// The replica is stopped as by a crash, and recovers.
    ReplicaCrash,
    /// The primary is stopped in order and started.
    PrimaryRestart,
    /// A client's backend of the replica is killed: the server ends all others and recovers.
    ReplicaBackendKilled,
    /// The same on the primary.
    PrimaryBackendKilled,
    /// The agent's own connections are ended by an administrator.
    AgentCutOff,
    /// Replay is paused for a while.
    ReplayPaused,
    /// The process that receives WAL stands still for a while.
    ReceiverStopped,
    /// The replica's files are out of memory and its disk is slow for a while.
    DiskSlow,
    /// The agent is told to end, and started anew.
    AgentRestart,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReplicaRestart => "replica restarted",
            Self::ReplicaCrash => "replica crashed",
            Self::PrimaryRestart => "primary restarted",
            Self::ReplicaBackendKilled => "backend of the replica killed",
            Self::PrimaryBackendKilled => "backend of the primary killed",
            Self::AgentCutOff => "connections of the agent ended",
            Self::ReplayPaused => "replay paused",
            Self::ReceiverStopped => "walreceiver stopped",
            Self::DiskSlow => "disk slow",
            Self::AgentRestart => "agent restarted",
        })
    }
}

const ALWAYS: [Fault; 8] = [
    Fault::ReplicaRestart,
    Fault::ReplicaCrash,
    Fault::PrimaryRestart,
    Fault::ReplicaBackendKilled,
    Fault::PrimaryBackendKilled,
    Fault::AgentCutOff,
    Fault::ReplayPaused,
    Fault::ReceiverStopped,
];

/// Times after the start, and what happens then. Between two faults lie half to one and a half times `every`; each kind
/// comes once before any comes again. The agent is restarted once, early, so that one agent lives through what follows.
pub fn plan(seed: u64, duration: Duration, every: Duration, slow_disk: bool) -> Vec<(Duration, Fault)> {
    let mut random = Random::new(seed);
    let mut deck = Vec::new();
    let mut plan = Vec::new();
    let mut restarted = false;
    let mut at = every;
    while at + every / 2 < duration {
        if !restarted && at >= duration / 5 {
            restarted = true;
            plan.push((at, Fault::AgentRestart));
        } else {
            if deck.is_empty() {
                deck = ALWAYS.to_vec();
                deck.extend(slow_disk.then_some(Fault::DiskSlow));
                random.shuffle(&mut deck);
            }
            plan.extend(deck.pop().map(|fault| (at, fault)));
        }
        let milliseconds = u64::try_from(every.as_millis()).unwrap_or(u64::MAX);
        at += every / 2 + Duration::from_millis(random.below(milliseconds));
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_plan_again_and_every_kind_in_it() {
        let hours = Duration::from_hours(2);
        let every = Duration::from_mins(4);
        let planned = plan(7, hours, every, true);
        assert_eq!(planned, plan(7, hours, every, true));
        assert_ne!(planned, plan(8, hours, every, true));
        for fault in ALWAYS.into_iter().chain([Fault::DiskSlow]) {
            assert!(planned.iter().any(|(_, planned)| *planned == fault), "{fault}: {planned:?}");
        }
        assert_eq!(planned.iter().filter(|(_, fault)| *fault == Fault::AgentRestart).count(), 1);
        assert!(planned.windows(2).all(|pair| pair[1].0 >= pair[0].0 + every / 2));
        assert!(planned.iter().all(|(at, _)| *at < hours));
    }
}
