//! Who can owe lag: a cause, and the object it is about where there is one.

use blameio_pipeline::{
    attribute::{self, BLAME_CAUSE, DB_INDEX, DB_NAMESPACE, DB_TABLE, FILE_KIND},
    metrics::{attribute as text, key_value},
};
use opentelemetry_proto::tonic::common::v1::KeyValue;

/// Why seconds are owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// Applying had to read.
    Replay,
    /// Applying computed, or waited for a CPU.
    Cpu,
    /// Applying wrote a page to make room for another.
    Eviction,
    /// Applying waited until something was durable.
    Fsync,
    /// Applying waited for a lock that somebody holds.
    Lock,
    /// Applying waited for a query that still needs what would be removed.
    Conflict,
    /// Changes arrived late.
    Transport,
    /// Applying was told to stop.
    Paused,
    /// The primary made more than this replica can apply at its normal cost.
    Demand,
    /// Nobody can tell.
    Unknown,
}

impl Cause {
    /// Value of `blameio.blame.cause`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replay => "replay",
            Self::Cpu => "cpu",
            Self::Eviction => "eviction",
            Self::Fsync => "fsync",
            Self::Lock => "lock",
            Self::Conflict => "conflict",
            Self::Transport => "transport",
            Self::Paused => "paused",
            Self::Demand => "demand",
            Self::Unknown => "unknown",
        }
    }

    /// Whether the cause is about work, whose normal cost can be learned.
    pub const fn has_normal_cost(self) -> bool {
        matches!(self, Self::Replay | Self::Cpu | Self::Eviction | Self::Fsync)
    }
}

/// What db_resolver said of a file or relation, as far as blame tells it apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    /// `db.namespace`.
    pub namespace: Option<String>,
    /// `db.table`.
    pub table: Option<String>,
    /// `db.index`.
    pub index: Option<String>,
    /// `blameio.file.kind`.
    pub kind: Option<String>,
}

impl Subject {
    /// Reads the attributes of a point.
    pub fn of(attributes: &[KeyValue]) -> Self {
        let owned = |key| text(attributes, key).map(str::to_owned);
        Self {
            namespace: owned(DB_NAMESPACE),
            table: owned(DB_TABLE),
            index: owned(DB_INDEX),
            kind: owned(FILE_KIND),
        }
    }

    /// Everything below the top rows.
    pub fn other() -> Self {
        Self { table: Some("(other)".to_owned()), ..Self::default() }
    }

    /// Whether the file could not be told to be anything.
    pub fn is_unresolved(&self) -> bool {
        match &self.table {
            Some(table) => table == "(unresolved)",
            None => self.kind.is_none(),
        }
    }

    /// The attributes of a point about this subject.
    pub fn attributes(&self) -> Vec<KeyValue> {
        [
            (DB_NAMESPACE, &self.namespace),
            (DB_TABLE, &self.table),
            (DB_INDEX, &self.index),
            (FILE_KIND, &self.kind),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some(key_value(key, value.as_deref()?)))
        .collect()
    }
}

/// A row of the account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// Why.
    pub cause: Cause,
    /// About what; empty where the cause has no object.
    pub subject: Subject,
}

impl Owner {
    /// A cause without an object.
    pub fn of(cause: Cause) -> Self {
        Self { cause, subject: Subject::default() }
    }

    /// Growth that nothing above its normal cost explains.
    pub fn demand() -> Self {
        Self::of(Cause::Demand)
    }

    /// What nobody can be named for.
    pub fn unknown() -> Self {
        Self::of(Cause::Unknown)
    }

    /// The attributes of a blame point, without the channel's.
    pub fn attributes(&self) -> Vec<KeyValue> {
        let mut attributes = self.subject.attributes();
        attributes.push(key_value(BLAME_CAUSE, self.cause.as_str()));
        attributes
    }
}

/// The attributes that identify a channel on every data point.
pub fn channel_attributes(address: Option<&str>, port: Option<i64>, channel: &str) -> Vec<KeyValue> {
    let mut attributes = vec![key_value(attribute::REPLICATION_CHANNEL, channel)];
    if let Some(address) = address {
        attributes.push(key_value(attribute::SERVER_ADDRESS, address));
    }
    if let Some(port) = port {
        attributes.push(key_value(attribute::SERVER_PORT, port));
    }
    attributes
}
