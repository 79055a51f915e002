//! Positions of a replica and of its primary, as values, and the samplers that ask for them.
//!
//! A sampler holds no connection: it borrows the one that its database keeps for it. It makes no lag of
//! what it sees; that is the replication receiver's business.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use crate::{catalog::Object, engine::Engine, error::DatabaseError};

/// What the applying thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WaitKind {
    /// More input.
    Starved,
    /// Somebody paused replay.
    Paused,
    /// A lock that a session on the replica holds.
    Lock,
    /// A query on the replica that still needs what replay would remove.
    Conflict,
    /// The delay that the operator asked for.
    Delayed,
    /// Something else, I/O among it.
    Other,
}

impl WaitKind {
    /// Value of `blameio.wait.kind`; `None` for waits that have no such name.
    pub const fn as_str(self) -> Option<&'static str> {
        match self {
            Self::Starved => Some("starved"),
            Self::Paused => Some("paused"),
            Self::Lock => Some("lock"),
            Self::Conflict => Some("conflict"),
            Self::Delayed => Some("delayed"),
            Self::Other => None,
        }
    }
}

/// A wait of the applying thread, as the server tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplyWait {
    /// What it waits for.
    pub kind: WaitKind,
    /// The relation it waits for, where that is known.
    pub object: Option<Arc<Object>>,
    /// Who holds what it waits for, as the server counts: a process of PostgreSQL, a connection of MySQL.
    pub holder: Option<u32>,
    /// Whether the holder is one of the agent's own sessions.
    pub own: bool,
}

/// One look at a replica.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicaSample {
    /// Middle of the question's round trip on the wall clock of this host.
    pub at: SystemTime,
    /// The same on the monotonic clock.
    pub monotonic: Instant,
    /// Whether the server is a replica now; `false` after a promotion.
    pub in_recovery: bool,
    /// Position received and flushed; `None` in archive recovery.
    pub received: Option<u64>,
    /// Position applied.
    pub replayed: Option<u64>,
    /// Whether replay is paused, by somebody or by a setting.
    pub paused: bool,
    /// What the applying thread waits for; `None` while it works, and where the role may not see it.
    pub wait: Option<ApplyWait>,
    /// Age, on the server's clock, of the last commit that was applied.
    pub last_replayed_commit_age: Option<Duration>,
    /// Whether there is a stream, as every role may see.
    pub streaming: bool,
    /// Timeline that is being received: what tells apart positions that cannot be compared; `None` where the role may not
    /// see it. Of MySQL it is the server id of the upstream, and another number once its binary logs began anew.
    pub timeline: Option<u32>,
    /// The thread that applies, as the server counts: of PostgreSQL the startup process, of MySQL the SQL thread's id in
    /// its operating system.
    pub apply_thread: Option<u32>,
}

/// What changes rarely about a replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicaInfo {
    /// `host:port` of the server that it receives from.
    pub upstream: Option<String>,
    /// Replication slot in use.
    pub slot: Option<String>,
    /// Timeline that is being received.
    pub timeline: Option<u32>,
    /// Whether a stream is open; `false` in archive recovery and while the upstream is away.
    pub streaming: bool,
    /// Delay that the operator asked for.
    pub intended_delay: Duration,
}

/// One look at a primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrimaryPosition {
    /// Middle of the question's round trip on the monotonic clock.
    pub monotonic: Instant,
    /// The same on the wall clock of this host.
    pub at: SystemTime,
    /// Position made durable.
    pub flushed: u64,
    /// Timeline that is being written.
    pub timeline: u32,
}

/// The middle of a question's round trip, on both clocks.
pub(crate) struct Middle {
    asked: Instant,
    at: SystemTime,
}

impl Middle {
    pub(crate) fn begin() -> Self {
        Self { asked: Instant::now(), at: SystemTime::now() }
    }

    pub(crate) fn end(&self) -> (Instant, SystemTime) {
        let half = self.asked.elapsed() / 2;
        (self.asked + half, self.at + half)
    }
}

/// Asks a replica for its positions.
#[derive(Clone, Debug)]
pub struct ReplicaSampler {
    pub(crate) engine: Arc<dyn Engine>,
}

impl ReplicaSampler {
    /// One cheap statement on the kept connection, which is opened if needed. While the server is away,
    /// most calls come back at once with the last error.
    pub async fn sample(&mut self) -> Result<ReplicaSample, DatabaseError> {
        self.engine.sample().await
    }

    /// What changes rarely; to be asked for every few seconds.
    pub async fn info(&mut self) -> Result<ReplicaInfo, DatabaseError> {
        self.engine.info().await
    }
}

/// Asks a primary for its position.
#[derive(Clone, Debug)]
pub struct PrimarySampler {
    pub(crate) engine: Arc<dyn Engine>,
}

impl PrimarySampler {
    /// One cheap statement on the kept connection, which is opened if needed.
    pub async fn flushed(&mut self) -> Result<PrimaryPosition, DatabaseError> {
        self.engine.flushed().await
    }
}
