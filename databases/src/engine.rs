//! What an engine must be able to do for one server. Everything else in this crate drives this trait.

use std::{collections::HashMap, fmt, sync::Arc};

use async_trait::async_trait;
use blameio_pipeline::ThreadRole;

use crate::{
    catalog::Wanted,
    check::Finding,
    discover::DiscoveredServer,
    error::DatabaseError,
    positions::{PrimaryPosition, ReplicaInfo, ReplicaSample},
    work::ReadLog,
};

/// One server of one engine.
#[async_trait]
pub(crate) trait Engine: Send + Sync + fmt::Debug {
    /// `db.system.name`.
    fn system(&self) -> &'static str;

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

    /// What makes a cluster unlike all others, asked by SQL; `None` where that may not be seen.
    async fn system_identifier(&self) -> Result<Option<u64>, DatabaseError>;

    /// When the server was started, as seconds since the epoch, asked by SQL.
    async fn started(&self) -> Result<i64, DatabaseError>;

    /// Role of a process by its title; `None` while the title tells nothing.
    fn role_by_title(&self, title: &str) -> Option<ThreadRole>;

    /// Roles by process id, as the server counts, asked by SQL.
    async fn roles(&self) -> Result<HashMap<u32, ThreadRole>, DatabaseError>;

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

    /// Who reads its log from its files.
    fn log(&self) -> Box<dyn ReadLog>;

    /// Looks at everything the agent needs of the server.
    async fn check(&self) -> Vec<Finding>;

    /// Closes connections that nobody has used for a while, or all of them.
    async fn close(&self, only_idle: bool);
}
