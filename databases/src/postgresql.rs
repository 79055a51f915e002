//! PostgreSQL: the engine of this crate's contract. Each file here has one question to answer; this one only
//! puts them together.

mod catalog;
mod check;
mod chunk_indexes;
mod cluster;
mod connect;
pub(crate) mod control;
pub(crate) mod directory;
pub mod discover;
pub(crate) mod dsn;
mod former;
mod grants;
mod heartbeat;
mod hypertables;
mod link;
mod locate;
pub mod path;
mod positions;
mod postmaster;
mod reach;
#[cfg(test)]
mod recorded_tests;
mod relations;
pub mod roles;
mod rows;
mod timescale;
mod tls;
mod waits;
pub mod wal;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use blameio_config::{ComponentId, Secret};

use crate::{
    catalog::{CatalogReader, Object, Wanted},
    check::Finding,
    discover::DiscoveredServer,
    engine::{Duty, Engine, Tasks},
    engines::Made,
    error::DatabaseError,
    heartbeat::{BeatTable, BeatsSeen, WriteBeats},
    identity::ClusterId,
    locate::Place,
    positions::{PrimaryPosition, ReplicaInfo, ReplicaSample},
    work::ReadLog,
};
use catalog::Loader;
use directory::PgDirectory;
use dsn::Dsn;
use grants::Grants;
use link::Link;
use waits::Waits;

/// `db.system.name` of PostgreSQL.
pub const SYSTEM: &str = "postgresql";

/// One PostgreSQL server. It has at most two sessions: the link, and the loader's while it reads.
#[derive(Debug)]
pub(crate) struct PostgreSql {
    link: Arc<Link>,
    place: Place,
    loader: Loader,
    directory: PgDirectory,
    waits: Waits,
    grants: Grants,
    /// Whether somebody asks for positions, and so tells of a server that does not answer.
    sampled: AtomicBool,
    /// The cluster that it must be of, where that is known.
    cluster: Arc<ClusterId>,
}

impl PostgreSql {
    pub(crate) fn new(
        id: &ComponentId,
        dsns: Vec<Dsn>,
        place: Place,
        directory: PgDirectory,
        catalog: CatalogReader,
    ) -> Self {
        let link = Arc::new(Link::new(id.to_string(), dsns));
        Self {
            loader: Loader::new(Arc::clone(&link), directory.clone()),
            directory,
            link,
            place,
            waits: Waits::new(catalog),
            grants: Grants::default(),
            sampled: AtomicBool::new(false),
            cluster: Arc::default(),
        }
    }

    /// A server that must be the primary of this cluster.
    pub(crate) fn primary_of(mut self, cluster: Arc<ClusterId>) -> Self {
        self.cluster = cluster;
        self.link.reach().must_be_primary();
        self
    }
}

/// A server, and its primary where one is named.
pub(crate) fn make(
    id: &ComponentId,
    dsn: Option<&Secret>,
    primary: Option<&Secret>,
    place: Place,
) -> Result<Made, DatabaseError> {
    let dsns = dsn.map(Dsn::parse).transpose()?.into_iter().collect();
    let primary = primary.map(Dsn::parse_primary).transpose()?;
    let directory = PgDirectory::default();
    let catalog = CatalogReader::new(Box::new(directory.clone()));
    let engine = Arc::new(PostgreSql::new(id, dsns, place, directory, catalog.clone()));
    let cluster: Arc<ClusterId> = Arc::default();
    let primary = primary.map(|dsns| -> Arc<dyn Engine> {
        let directory = PgDirectory::default();
        let catalog = CatalogReader::new(Box::new(directory.clone()));
        let server = PostgreSql::new(id, dsns, Place::default(), directory, catalog);
        Arc::new(server.primary_of(Arc::clone(&cluster)))
    });
    Ok(Made { engine, catalog, primary, cluster })
}

#[async_trait]
impl Engine for PostgreSql {
    fn system(&self) -> &'static str {
        SYSTEM
    }

    fn address(&self) -> (String, u16) {
        self.link.address()
    }

    async fn locate(
        &self,
        found: &[Arc<DiscoveredServer>],
    ) -> Result<Option<Arc<DiscoveredServer>>, DatabaseError> {
        let located = locate::locate(&self.link, &self.place, found).await;
        self.link.reach().looked();
        located
    }

    async fn is_on_this_host(&self) -> bool {
        locate::is_on_this_host(&self.link).await
    }

    async fn system_identifier(&self) -> Result<Option<u64>, DatabaseError> {
        cluster::system_identifier(&self.link).await
    }

    async fn started(&self) -> Result<i64, DatabaseError> {
        cluster::started(&self.link).await
    }

    fn tasks(&self) -> Tasks {
        Tasks::Processes
    }

    fn role_by_title(&self, title: &str) -> Option<Duty> {
        roles::by_title(title).map(Duty::from)
    }

    async fn roles(&self) -> Result<HashMap<u32, Duty>, DatabaseError> {
        let sql = "SELECT pid, backend_type FROM pg_catalog.pg_stat_get_activity(NULL) WHERE backend_type IS NOT NULL";
        let rows = self.link.rows("the roles of its processes", sql, &[]).await?;
        rows.iter()
            .map(|row| Ok((row.read::<i32>(0)?.cast_unsigned(), roles::by_backend_type(row.read(1)?).into())))
            .collect()
    }

    async fn load_catalog(&self) -> Result<(), DatabaseError> {
        self.loader.load().await
    }

    async fn look_up(&self, wanted: Vec<Wanted>) -> Result<(), DatabaseError> {
        self.loader.look_up(wanted).await
    }

    async fn sample(&self) -> Result<ReplicaSample, DatabaseError> {
        self.sampled.store(true, Ordering::Relaxed);
        let session = self.link.session().await?;
        self.grants.tell(self.link.reach().name(), &session);
        positions::sample(&self.link, &self.waits).await
    }

    fn is_sampled(&self) -> bool {
        self.sampled.load(Ordering::Relaxed)
    }

    async fn info(&self) -> Result<ReplicaInfo, DatabaseError> {
        positions::info(&self.link).await
    }

    async fn flushed(&self) -> Result<PrimaryPosition, DatabaseError> {
        positions::flushed(&self.link, &self.cluster).await
    }

    fn beats(&self, table: BeatTable) -> Box<dyn WriteBeats> {
        Box::new(heartbeat::Writer::new(Arc::clone(&self.link), table))
    }

    async fn newest_beats(&self, schema: &str) -> Result<BeatsSeen, DatabaseError> {
        self.sampled.store(true, Ordering::Relaxed);
        heartbeat::newest(&self.link, schema).await
    }

    fn log(&self) -> Option<Box<dyn ReadLog>> {
        Some(Box::new(wal::Follower::new(self.directory.clone())))
    }

    async fn tables_without_key(&self) -> Result<Vec<Object>, DatabaseError> {
        // A physical replica applies changes of blocks, not of rows.
        Ok(Vec::new())
    }

    async fn check(&self) -> Vec<Finding> {
        check::check(&self.link).await
    }

    async fn close(&self, only_idle: bool) {
        self.link.close(only_idle);
    }
}
