//! Beats: a row for each writer, stamped again and again on a primary, that replication carries to whoever replicates
//! from it. The types and handles that all engines share; what a replica's rows say of its delay is the receiver's
//! business.
//!
//! This is the only place of the agent that writes to a server. Whoever writes asks the server's role first, in the same
//! session, and makes no table unless told to.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use async_trait::async_trait;
use uuid::Uuid;

use crate::{engine::Engine, error::DatabaseError};

/// The most rows that are read: one for each agent that ever wrote to one of the server's primaries.
pub(crate) const MOST_WRITERS: usize = 64;

/// Where beats are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeatTable {
    /// Schema of PostgreSQL, in the database of the connection string; database of MySQL.
    pub schema: String,
    /// Whether the schema and the table are made where they are missing.
    pub create: bool,
}

/// One beat, as its row has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Whose it is: one agent's, for one primary.
    pub writer: Uuid,
    /// Which run of that agent: numbers and stamps of two runs cannot be compared.
    pub run: Uuid,
    /// Its number in the run; each is greater than the one before.
    pub number: u64,
    /// When it was about to be written, on the writer's monotonic clock since the run began.
    pub stamp: Duration,
    /// The same on the writer's wall clock, to the microsecond.
    pub written: SystemTime,
    /// How soon the next one is to be expected.
    pub pace: Duration,
    /// What the writer is called, for people.
    pub name: String,
}

/// Why a server is not written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotWritable {
    /// It replicates from another one.
    Replica,
    /// Somebody has made it read-only.
    ReadOnly,
}

/// What came of a beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is committed.
    At {
        /// When, on the monotonic clock: the end of the statement, less half of what the way there and back takes.
        at: Instant,
        /// How long the server was kept busy with it, with the question for its role.
        took: Duration,
    },
    /// Nothing was written.
    Not(NotWritable),
}

/// What a server showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeatsSeen {
    /// Middle of the question's round trip on the monotonic clock.
    pub monotonic: Instant,
    /// The same on the wall clock of this host.
    pub at: SystemTime,
    /// The newest beat of each writer.
    pub beats: Vec<Beat>,
}

/// Writes beats on one server of one engine. A beat that is given up half-way ends the session.
#[async_trait]
pub(crate) trait WriteBeats: Send + Sync {
    async fn write(&mut self, beat: &Beat) -> Result<Written, DatabaseError>;
}

/// Writes beats on one server.
pub struct BeatWriter {
    pub(crate) writer: Box<dyn WriteBeats>,
}

impl std::fmt::Debug for BeatWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BeatWriter").finish_non_exhaustive()
    }
}

impl BeatWriter {
    /// Asks for the server's role and writes one beat. No standby is waited for where the server can be told so.
    pub async fn write(&mut self, beat: &Beat) -> Result<Written, DatabaseError> {
        self.writer.write(beat).await
    }
}

/// Reads the beats that one server shows.
#[derive(Clone, Debug)]
pub struct BeatReader {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) schema: Arc<str>,
}

impl BeatReader {
    /// One cheap statement on the kept connection, which is opened if needed.
    pub async fn read(&self) -> Result<BeatsSeen, DatabaseError> {
        self.engine.newest_beats(&self.schema).await
    }
}

/// When a statement of this length, that ended now, was committed, where the way there and back takes `trip`: a commit is the
/// last that a server does before it answers.
pub(crate) fn committed(ended: Instant, took: Duration, trip: Duration) -> Instant {
    ended.checked_sub(trip.min(took) / 2).unwrap_or(ended)
}

/// The time of a beat's row, which has microseconds since the epoch.
pub(crate) fn time(micros: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// Microseconds since the epoch.
pub(crate) fn micros(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// A number as tables have it.
pub(crate) fn signed(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
