//! What is known of one replica: whose beats it shows, and since when it does not answer.
//!
//! Two clocks are never mixed: a replica that shows a row of this agent's writers has a delay by this agent's clock, or none
//! yet; only one that shows none has a delay by the wall clocks of its hosts, which is marked so.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use blameio_databases::{Beat, BeatsSeen, Database};
use uuid::Uuid;

use super::{
    HeartbeatSettings,
    aim::{self, Bounds, CLOSEST},
    delay::Track,
    published::{Published, Writers},
};

/// So many paces after the last sign, and this on top, nothing is fresh any more.
const STALE: (u32, Duration) = (3, Duration::from_secs(1));
/// Share that a new cost has in the mean.
const WEIGHT: f64 = 0.2;
/// How long a replica may show no beat of this agent's writers until that is said.
const UNPAIRED: Duration = Duration::from_secs(10);

/// By which clocks a delay is measured: the value of `blameio.heartbeat.clock`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clock {
    /// The agent's own, which writes and reads: no clock has to agree with another.
    Agent,
    /// The wall clocks of two hosts, because another agent writes: true as far as the two agree.
    Wall,
}

impl Clock {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Wall => "wall",
        }
    }
}

/// The delay behind one writer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Delay {
    pub(super) writer: String,
    pub(super) clock: Clock,
    pub(super) value: Duration,
    pub(super) is_stale: bool,
}

/// A writer that another agent has.
#[derive(Debug)]
struct Foreign {
    track: Track,
    name: String,
    pace: Duration,
}

#[derive(Debug, Default)]
struct State {
    own: HashMap<Uuid, Track>,
    foreign: HashMap<Uuid, Foreign>,
    /// The last look that was answered.
    looked: Option<Instant>,
    /// Mean time that a look takes.
    cost: Duration,
    /// Since when the replica answers and shows no row of this agent's writers.
    unpaired: Option<Instant>,
    said_unpaired: bool,
    said_twice: bool,
}

/// One replica.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) database: Database,
    writers: Arc<Writers>,
    interval: Duration,
    max_share: f64,
    state: Mutex<State>,
}

impl Replica {
    pub(super) fn new(database: Database, writers: Arc<Writers>, settings: &HeartbeatSettings) -> Self {
        let (interval, max_share) = (settings.interval, settings.max_share);
        Self { database, writers, interval, max_share, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When to look next, after a look that was answered, or at once.
    pub(super) fn due(&self, now: Instant) -> Instant {
        let state = self.state();
        let Some(looked) = state.looked else { return now };
        // As writing, looking has its share of the server's time at most.
        let least =
            Duration::try_from_secs_f64(state.cost.as_secs_f64() / self.max_share).unwrap_or(self.interval);
        let least = least.max(CLOSEST);
        let bounds = Bounds { least, most: self.interval.max(least) };
        let own = state.own.iter().filter_map(|(writer, track)| {
            let missing = self.writers.of(*writer)?.oldest_after(track.seen)?;
            Some(aim::due(track, missing, Some(looked), bounds))
        });
        let foreign = state.foreign.values().filter_map(|Foreign { track, pace, .. }| {
            let (_, written) = track.seen?;
            Some(aim::due(track, written + *pace, Some(looked), bounds))
        });
        // Whoever else begins to write is seen within an interval.
        let idle = looked + if state.own.is_empty() { self.interval } else { self.interval * 2 };
        own.chain(foreign).fold(idle, Instant::min).max(looked + least)
    }

    /// The replica has answered, after `took`.
    pub(super) fn looked(&self, seen: &BeatsSeen, took: Duration) {
        let mut state = self.state();
        let state = &mut *state;
        let before = state.looked.replace(seen.monotonic);
        state.cost =
            if before.is_none() { took } else { state.cost.mul_f64(1.0 - WEIGHT) + took.mul_f64(WEIGHT) };
        let mut paired = false;
        for beat in &seen.beats {
            if let Some(published) = self.writers.of(beat.writer) {
                paired = true;
                let track = state.own.entry(beat.writer).or_insert_with(|| Track::new(published.run));
                if beat.run == published.run {
                    track.look(beat.number, published.moment(beat), seen.monotonic, before);
                } else if track.seen.is_some() && !std::mem::replace(&mut state.said_twice, true) {
                    tracing::error!(
                        database = %self.database.id(), writer = %published.name,
                        "another agent writes beats under the same id: two agents of one host may not have receivers of one name \
                         with databases of one name"
                    );
                }
            }
        }
        // A row that is gone: the table was made anew, or is another server's.
        state.own.retain(|writer, _| seen.beats.iter().any(|beat| beat.writer == *writer));
        if paired {
            state.foreign.clear();
            state.unpaired = None;
            return;
        }
        let others = seen.beats.iter();
        for beat in others {
            follow(&mut state.foreign, beat, seen, before);
        }
        state.foreign.retain(|writer, _| seen.beats.iter().any(|beat| beat.writer == *writer));
        let since = *state.unpaired.get_or_insert(seen.monotonic);
        if self.writers.are_writing()
            && seen.monotonic.saturating_duration_since(since) > UNPAIRED
            && !std::mem::replace(&mut state.said_unpaired, true)
        {
            tracing::warn!(
                database = %self.database.id(),
                "it shows no beat of any of the primaries: it replicates from none of them, or the heartbeat's table is left out \
                 of its replication"
            );
        }
    }

    /// The delays to tell now; none of a server that is itself written to.
    pub(super) fn delays(&self, now: Instant) -> Vec<Delay> {
        let state = self.state();
        let Some(looked) = state.looked.filter(|_| !self.writers.write_to(self.database.id())) else {
            return Vec::new();
        };
        let mut delays = Vec::new();
        for (writer, track) in &state.own {
            let Some(published) = self.writers.of(*writer) else { continue };
            if self.is_followed_by_another(&state, published, track) {
                continue;
            }
            let missing = published.oldest_after(track.seen).filter(|missing| *missing <= looked);
            let (newest, pace) =
                published.newest().map_or((None, self.interval), |(at, pace)| (Some(at), pace));
            let limit = pace * STALE.0 + STALE.1;
            // While the replica does not answer, what was not there at the last look may have come since.
            let until = now.min(looked + limit);
            let Some(value) = track.delay(missing, looked, until) else { continue };
            let is_idle = newest.is_none_or(|newest| now.saturating_duration_since(newest) > limit);
            delays.push(Delay {
                writer: published.name.clone(),
                clock: Clock::Agent,
                value,
                is_stale: until < now || (missing.is_none() && is_idle),
            });
        }
        for Foreign { track, name, pace } in state.foreign.values() {
            let limit = (*pace).max(self.interval) * STALE.0 + STALE.1;
            let until = now.min(looked + limit);
            let missing = track.seen.map(|(_, written)| written + *pace);
            // Of a row that was never seen to change nobody may be writing any more.
            let value = track.took.and_then(|_| track.delay(missing, looked, until));
            let Some(value) = value else { continue };
            delays.push(Delay { writer: name.clone(), clock: Clock::Wall, value, is_stale: until < now });
        }
        delays
    }

    /// Whether the writer has stopped and the replica goes on with another one's beats: after a failover, what the old
    /// primary wrote last may be lost and is waited for no more.
    fn is_followed_by_another(&self, state: &State, published: &Published, track: &Track) -> bool {
        !published.is_writing()
            && state.own.iter().any(|(other, theirs)| {
                *other != published.writer
                    && theirs.arrived > track.arrived
                    && self.writers.of(*other).is_some_and(|other| other.is_writing())
            })
    }
}

/// The beat of another agent: its wall clock is taken to go as this host's does.
fn follow(foreign: &mut HashMap<Uuid, Foreign>, beat: &Beat, seen: &BeatsSeen, before: Option<Instant>) {
    let age = seen.at.duration_since(beat.written).unwrap_or_default();
    let written = seen.monotonic.checked_sub(age).unwrap_or(seen.monotonic);
    let followed = match foreign.entry(beat.writer) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(new) => {
            // Nobody looked for it, and nobody may have written it for a year.
            let track = Track { seen: Some((beat.number, written)), ..Track::new(beat.run) };
            new.insert(Foreign { track, name: beat.name.clone(), pace: beat.pace });
            return;
        }
    };
    followed.pace = beat.pace;
    if followed.track.run != beat.run {
        followed.track = Track { run: beat.run, seen: None, ..followed.track.clone() };
    }
    followed.track.look(beat.number, written, seen.monotonic, before);
}

#[cfg(test)]
mod tests;
