//! What the writers of this agent have published: when each beat was committed, on this agent's monotonic clock. Readers
//! compare with it what a replica shows.

use std::{
    collections::VecDeque,
    process,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use blameio_config::ComponentId;
use blameio_databases::Beat;
use blameio_pipeline::machine::{host_id, host_name};
use tokio::sync::watch;
use uuid::Uuid;

/// Name space of the writers' ids. Made once, at random; it must never change.
const NAMESPACE: Uuid = Uuid::from_u128(0x5c1f_80d9_6c0e_4f5d_9a37_21b4_e6f0_d83a);

/// Beats whose moment is remembered. Of a replica that is further behind the delay is taken from the stamp in its row, which
/// is less exact by what writing a beat takes.
const REMEMBERED: usize = 1024;

/// Most characters of a host's name in a writer's: the column has 255.
const LONGEST: usize = 100;

#[derive(Debug, Default)]
struct State {
    /// Number and moment of the newest beats, oldest first.
    recent: VecDeque<(u64, Instant)>,
    /// Moment of the first beat of all.
    first: Option<Instant>,
    /// Whether the last attempt has written.
    is_writing: bool,
    /// How soon the next beat is to be expected.
    pace: Duration,
}

/// The beats of one writer in this run of the agent.
#[derive(Debug)]
pub(super) struct Published {
    /// The same in every run.
    pub(super) writer: Uuid,
    /// Another in every run.
    pub(super) run: Uuid,
    /// What people know it by: the database and this host.
    pub(super) name: String,
    pub(super) database: ComponentId,
    origin: Instant,
    state: Mutex<State>,
}

impl Published {
    pub(super) fn new(receiver: &ComponentId, database: &ComponentId) -> Self {
        let host = host_id().unwrap_or_else(host_name);
        let writer = Uuid::new_v5(&NAMESPACE, format!("{host}/{receiver}/{database}").as_bytes());
        let begun = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let run = Uuid::new_v5(&writer, format!("{}/{}", begun.as_nanos(), process::id()).as_bytes());
        let short = |name: &str| name.chars().take(LONGEST).collect::<String>();
        let name = if database.name().is_empty() { database.kind() } else { database.name() };
        Self {
            writer,
            run,
            name: format!("{}@{}", short(name), short(host_name())),
            database: database.clone(),
            origin: Instant::now(),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The beat of this number, to be written now.
    pub(super) fn beat(&self, number: u64, pace: Duration) -> Beat {
        Beat {
            writer: self.writer,
            run: self.run,
            number,
            stamp: self.origin.elapsed(),
            written: SystemTime::now(),
            pace,
            name: self.name.clone(),
        }
    }

    /// A beat was committed.
    pub(super) fn wrote(&self, number: u64, at: Instant, pace: Duration) {
        let mut state = self.state();
        if state.recent.len() == REMEMBERED {
            state.recent.pop_front();
        }
        state.recent.push_back((number, at));
        state.first.get_or_insert(at);
        state.is_writing = true;
        state.pace = pace;
    }

    /// A beat was not written, as far as is known.
    pub(super) fn wrote_nothing(&self) {
        self.state().is_writing = false;
    }

    pub(super) fn is_writing(&self) -> bool {
        self.state().is_writing
    }

    /// The moment of the newest beat, and how soon the next is to be expected.
    pub(super) fn newest(&self) -> Option<(Instant, Duration)> {
        let state = self.state();
        state.recent.back().map(|(_, at)| (*at, state.pace))
    }

    /// When a beat that was seen was committed. One of which that is not known has its stamp, from before it was written.
    pub(super) fn moment(&self, beat: &Beat) -> Instant {
        let state = self.state();
        let at = state.recent.binary_search_by_key(&beat.number, |(number, _)| *number);
        let known = at.ok().and_then(|at| state.recent.get(at));
        known.map_or_else(|| self.origin + beat.stamp, |(_, at)| *at)
    }

    /// When the oldest beat was committed that one who has seen the beat `seen` of this run, or none, has not.
    pub(super) fn oldest_after(&self, seen: Option<(u64, Instant)>) -> Option<Instant> {
        let state = self.state();
        let number = seen.map_or(0, |(number, _)| number);
        let next = state.recent.partition_point(|(known, _)| *known <= number);
        if next == 0 && state.recent.len() == REMEMBERED {
            // The next one is forgotten.
            return seen.map_or(state.first, |(_, at)| Some(at + state.pace));
        }
        state.recent.get(next).map(|(_, at)| *at)
    }
}

/// All writers of a receiver, and the bell that rings for each beat.
#[derive(Debug)]
pub(super) struct Writers {
    all: Vec<Arc<Published>>,
    bell: watch::Sender<()>,
}

impl Writers {
    pub(super) fn new(all: Vec<Arc<Published>>) -> Self {
        Self { all, bell: watch::Sender::new(()) }
    }

    pub(super) fn of(&self, writer: Uuid) -> Option<&Arc<Published>> {
        self.all.iter().find(|published| published.writer == writer)
    }

    /// Whether beats are written on a database now.
    pub(super) fn write_to(&self, database: &ComponentId) -> bool {
        self.all.iter().any(|published| published.database == *database && published.is_writing())
    }

    pub(super) fn are_writing(&self) -> bool {
        self.all.iter().any(|published| published.is_writing())
    }

    pub(super) fn ring(&self) {
        self.bell.send_replace(());
    }

    pub(super) fn bell(&self) -> watch::Receiver<()> {
        self.bell.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Duration = Duration::from_millis(10);

    #[test]
    fn the_oldest_beat_that_is_missing_is_known_though_others_are_forgotten() {
        let published = Published::new(&"heartbeat".parse().unwrap(), &"database/a".parse().unwrap());
        assert_eq!(published.oldest_after(None), None);
        let begin = Instant::now();
        let at = |number: u32| begin + PACE * number;
        // The third was not written.
        for number in [1, 2, 4, 5] {
            published.wrote(number, at(u32::try_from(number).unwrap()), PACE);
        }
        assert_eq!(published.oldest_after(None), Some(at(1)));
        assert_eq!(published.oldest_after(Some((2, at(2)))), Some(at(4)));
        assert_eq!(published.oldest_after(Some((5, at(5)))), None);
        let last = 5 + u32::try_from(REMEMBERED).unwrap();
        for number in 6..=last {
            published.wrote(number.into(), at(number), PACE);
        }
        assert_eq!(published.oldest_after(Some((4, at(4)))), Some(at(5)), "forgotten, and still due then");
        assert_eq!(published.oldest_after(None), Some(at(1)), "who has seen none waits for the first");
        assert_eq!(published.oldest_after(Some((u64::from(last) - 1, at(last - 1)))), Some(at(last)));
    }

    #[test]
    fn runs_differ_and_writers_stay() {
        let new = |database: &str| Published::new(&"heartbeat".parse().unwrap(), &database.parse().unwrap());
        let (one, again, other) = (new("database/a"), new("database/a"), new("database/b"));
        assert!(one.writer == again.writer && one.run != again.run && one.writer != other.writer);
        assert!(one.name.starts_with("a@"), "{}", one.name);
    }
}
