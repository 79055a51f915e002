//! Who can owe lag: a cause, and the object it is about where there is one.

use blameio_pipeline::{
    attribute::{self, BLAME_CAUSE, BLAME_CULPRIT, DB_INDEX, DB_NAMESPACE, DB_TABLE, FILE_KIND, THREAD_ROLE},
    metrics::{attribute as text, key_value},
};
use opentelemetry_proto::tonic::common::v1::KeyValue;

/// Why seconds are owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// Applying had to read.
    Replay,
    /// Others kept the device busy while applying waited for it.
    Contention,
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
    const ALL: [Self; 11] = [
        Self::Replay,
        Self::Contention,
        Self::Cpu,
        Self::Eviction,
        Self::Fsync,
        Self::Lock,
        Self::Conflict,
        Self::Transport,
        Self::Paused,
        Self::Demand,
        Self::Unknown,
    ];

    /// The cause with this value.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == name)
    }

    /// Value of `blameio.blame.cause`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replay => "replay",
            Self::Contention => "contention",
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

    /// The table alone: its heap, indexes and TOAST together. A kind of file that is no table's stays what it is.
    #[must_use]
    pub fn whole_table(&self) -> Self {
        if self.is_unresolved() {
            Self::default()
        } else if self.table.is_some() {
            Self { namespace: self.namespace.clone(), table: self.table.clone(), ..Self::default() }
        } else {
            self.clone()
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

/// Culprit of CPU time that a control group's limit took away.
pub const CPU_LIMIT: &str = "cpu limit of its cgroup";

/// Culprit of CPU time that went into removing relations.
pub const DROPS: &str = "drop of relations";

/// Culprit of CPU time that went into looking for the rows of a table that has no key to find them by.
pub const NO_KEY: &str = "no primary key";

/// A row of the account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// Why.
    pub cause: Cause,
    /// About what; empty where the cause has no object.
    pub subject: Subject,
    /// Who, when it is not this server's work on the object: another server, a control group, a command.
    pub culprit: Option<String>,
    /// Role of this server's threads that competed.
    pub role: Option<String>,
}

impl Owner {
    /// A cause without an object.
    pub fn of(cause: Cause) -> Self {
        Self::about(cause, Subject::default())
    }

    /// A cause and its object.
    pub fn about(cause: Cause, subject: Subject) -> Self {
        Self { cause, subject, culprit: None, role: None }
    }

    /// The same with a culprit.
    #[must_use]
    pub fn by(self, culprit: &str) -> Self {
        Self { culprit: Some(culprit.to_owned()), ..self }
    }

    /// Whether it stands for somebody, and not for nobody or for all the rest.
    pub fn is_somebody(&self) -> bool {
        self.cause != Cause::Unknown && self.subject != Subject::other()
    }

    /// The row that it is counted in when it has none of its own. Those who compete are told apart no more; of what the
    /// CPU did, the fixed culprits are.
    #[must_use]
    pub fn into_other(self) -> Self {
        let culprit = self.culprit.filter(|_| self.cause == Cause::Cpu);
        Self { cause: self.cause, subject: Subject::other(), culprit, role: None }
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
        for (key, value) in [(BLAME_CULPRIT, &self.culprit), (THREAD_ROLE, &self.role)] {
            attributes.extend(value.as_deref().map(|value| key_value(key, value)));
        }
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
