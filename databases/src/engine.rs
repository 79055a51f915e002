//! What an engine must be able to do for one server. Everything else in this crate drives this trait.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use blameio_pipeline::{PageFormat, ThreadRole};

use crate::{
    catalog::{Object, Wanted},
    check::Finding,
    discover::DiscoveredServer,
    error::DatabaseError,
    heartbeat::{BeatTable, BeatsSeen, WriteBeats},
    positions::{PrimaryPosition, ReplicaInfo, ReplicaSample},
    work::ReadLog,
};

/// What the work of a server is divided among.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tasks {
    /// Children of its main process, each with a title of its own.
    Processes,
    /// Threads of its main process.
    Threads,
}

/// How often a server is asked what its tasks do.
pub(crate) struct Asking {
    /// Interval while it is not known of some.
    pub(crate) unclear: Duration,
    /// How often one is asked for until it is taken for one that the server does not tell of.
    pub(crate) times: u32,
    /// Interval at which all are asked for again, where one may get something else to do.
    pub(crate) again: Option<Duration>,
}

impl Tasks {
    pub(crate) const fn asking(self) -> Asking {
        match self {
            Self::Processes => Asking { unclear: Duration::from_secs(10), times: u32::MAX, again: None },
            // A new thread has no title that tells anything, and one that has served a client may serve another.
            Self::Threads => {
                Asking { unclear: Duration::from_secs(1), times: 3, again: Some(Duration::from_secs(10)) }
            }
        }
    }
}

/// What a task of a server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Duty {
    pub(crate) role: ThreadRole,
    /// Whether replication waits for it.
    pub(crate) is_critical: bool,
}

impl From<ThreadRole> for Duty {
    /// Of an applier that is the only one of its server.
    fn from(role: ThreadRole) -> Self {
        Self { role, is_critical: role == ThreadRole::Apply }
    }
}

/// One server of one engine.
#[async_trait]
pub(crate) trait Engine: Send + Sync + fmt::Debug {
    /// `db.system.name`. Of engines that share a connection string it is certain once the server was located or has
    /// answered, and what the connection string says until then.
    fn system(&self) -> &'static str;

    /// What its tablespaces' pages tell.
    fn pages(&self) -> PageFormat {
        PageFormat::None
    }

    /// Host name or address, and port, as the operator gave them.
    fn address(&self) -> (String, u16);

    /// Which of these local servers this one is; asks the server only where its address leaves a doubt, and fails where
    /// that question has no answer.
    async fn locate(
        &self,
        found: &[Arc<DiscoveredServer>],
    ) -> Result<Option<Arc<DiscoveredServer>>, DatabaseError>;

    /// Whether its address is one of this host, so that its processes should be found here.
    async fn is_on_this_host(&self) -> bool;

    /// What makes a cluster unlike all others, or a server where it is of no cluster, asked by SQL; `None` where that
    /// may not be seen.
    async fn system_identifier(&self) -> Result<Option<u64>, DatabaseError>;

    /// When the server was started, as seconds since the epoch, asked by SQL.
    async fn started(&self) -> Result<i64, DatabaseError>;

    /// What its work is divided among.
    fn tasks(&self) -> Tasks;

    /// What a task does, by its title; `None` while the title tells nothing.
    fn role_by_title(&self, title: &str) -> Option<Duty>;

    /// What tasks do, by their ids as the server counts, asked by SQL.
    async fn roles(&self) -> Result<HashMap<u32, Duty>, DatabaseError>;

    /// Reads the catalog as a whole.
    async fn load_catalog(&self) -> Result<(), DatabaseError>;

    /// Looks up what was asked for and not known. What it does not find stays unknown.
    async fn look_up(&self, wanted: Vec<Wanted>) -> Result<(), DatabaseError>;

    /// One look at a replica.
    async fn sample(&self) -> Result<ReplicaSample, DatabaseError>;

    /// Whether it was ever asked for a sample: who samples tells when the server cannot be reached.
    fn is_sampled(&self) -> bool;

    /// What changes rarely about a replica.
    async fn info(&self) -> Result<ReplicaInfo, DatabaseError>;

    /// One look at a primary.
    async fn flushed(&self) -> Result<PrimaryPosition, DatabaseError>;

    /// Who writes beats on it, over a session of their own.
    fn beats(&self, table: BeatTable) -> Box<dyn WriteBeats>;

    /// The newest beats that it shows in this schema.
    async fn newest_beats(&self, schema: &str) -> Result<BeatsSeen, DatabaseError>;

    /// Who reads its log from its files; `None` where nobody can.
    fn log(&self) -> Option<Box<dyn ReadLog>>;

    /// Tables of which each row that is changed is looked for by reading them, because they have no key; none where that
    /// is no matter of the engine.
    async fn tables_without_key(&self) -> Result<Vec<Object>, DatabaseError>;

    /// Looks at everything the agent needs of the server.
    async fn check(&self) -> Vec<Finding>;

    /// Closes connections that nobody has used for a while, or all of them.
    async fn close(&self, only_idle: bool);
}
