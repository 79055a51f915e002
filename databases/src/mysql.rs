//! MySQL and MariaDB: one engine of this crate's contract. Each file here has one question to answer; this one only
//! puts them together.

mod binlogs;
mod catalog;
mod check;
mod connect;
pub mod discover;
pub(crate) mod dsn;
mod filename;
mod grants;
mod heartbeat;
mod indexes;
mod keys;
mod link;
mod locate;
pub mod path;
mod positions;
#[cfg(test)]
mod recorded_tests;
mod refusal;
mod relay;
mod roles;
mod server;
mod sockets;
mod tls;
mod waits;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use blameio_config::{ComponentId, Secret};
use blameio_pipeline::PageFormat;

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
use binlogs::Binlogs;
use catalog::MyDirectory;
use dsn::Dsn;
use link::Link;
use positions::Positions;
use relay::{Follower, Spots};

/// `db.system.name` of MySQL.
pub const MYSQL: &str = "mysql";
/// `db.system.name` of MariaDB.
pub const MARIADB: &str = "mariadb";

/// Seconds that a start time may differ from the one before and be the same: it is asked for in whole ones.
const SAME_START: i64 = 2;

/// One MySQL or MariaDB server. It has one session.
#[derive(Debug)]
pub(crate) struct MySql {
    link: Link,
    place: Place,
    directory: MyDirectory,
    positions: Positions,
    binlogs: Arc<Binlogs>,
    spots: Arc<Spots>,
    /// Which of the two it is, once that is certain; it then stays.
    system: OnceLock<&'static str>,
    started: Mutex<Option<i64>>,
    /// Whether somebody asks for positions, and so tells of a server that does not answer.
    sampled: AtomicBool,
}

/// A server, and the one that it replicates from where that is named.
pub(crate) fn make(
    id: &ComponentId,
    dsn: Option<&Secret>,
    primary: Option<&Secret>,
    place: Place,
) -> Result<Made, DatabaseError> {
    let dsns = dsn.map(Dsn::parse).transpose()?.into_iter().collect();
    let primary = primary.map(Dsn::parse_primary).transpose()?;
    let directory = MyDirectory::default();
    let catalog = CatalogReader::new(Box::new(directory.clone()));
    let binlogs: Arc<Binlogs> = Arc::default();
    let spots: Arc<Spots> = Arc::default();
    let server = |dsns, place, directory, upstream| MySql {
        link: Link::new(id.to_string(), dsns, upstream),
        place,
        directory,
        positions: Positions::new(Arc::clone(&binlogs), Arc::clone(&spots)),
        binlogs: Arc::clone(&binlogs),
        spots: Arc::clone(&spots),
        system: OnceLock::new(),
        started: Mutex::default(),
        sampled: AtomicBool::new(false),
    };
    let engine = Arc::new(server(dsns, place, directory, None));
    let primary = primary.map(|dsns| -> Arc<dyn Engine> {
        Arc::new(server(dsns, Place::default(), MyDirectory::default(), Some(Arc::clone(&binlogs))))
    });
    Ok(Made { engine, catalog, primary, cluster: Arc::<ClusterId>::default() })
}

#[async_trait]
impl Engine for MySql {
    fn system(&self) -> &'static str {
        if let Some(about) = self.link.about() {
            return self.system.get_or_init(|| if about.is_mariadb { MARIADB } else { MYSQL });
        }
        let declared = || self.link.dsns().first().map_or(MYSQL, |dsn| dsn.system);
        self.system.get().copied().unwrap_or_else(declared)
    }

    fn pages(&self) -> PageFormat {
        if self.system() == MARIADB { PageFormat::InnodbOfMariadb } else { PageFormat::InnodbOfMysql }
    }

    fn address(&self) -> (String, u16) {
        self.link.address()
    }

    async fn locate(
        &self,
        found: &[Arc<DiscoveredServer>],
    ) -> Result<Option<Arc<DiscoveredServer>>, DatabaseError> {
        let located = locate::locate(&self.link, &self.place, found).await;
        if let Ok(Some(server)) = &located {
            self.system.get_or_init(|| server.system);
        }
        self.link.looked();
        located
    }

    async fn is_on_this_host(&self) -> bool {
        locate::is_on_this_host(&self.link).await
    }

    async fn system_identifier(&self) -> Result<Option<u64>, DatabaseError> {
        server::uuid(&self.link).await
    }

    async fn started(&self) -> Result<i64, DatabaseError> {
        let told = server::started(&self.link).await?;
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        let same = started.filter(|started| (started - told).abs() <= SAME_START);
        Ok(*started.insert(same.unwrap_or(told)))
    }

    fn tasks(&self) -> Tasks {
        Tasks::Threads
    }

    fn role_by_title(&self, title: &str) -> Option<Duty> {
        roles::by_name(title)
    }

    async fn roles(&self) -> Result<HashMap<u32, Duty>, DatabaseError> {
        roles::ask(&self.link).await
    }

    async fn load_catalog(&self) -> Result<(), DatabaseError> {
        self.directory.load(&self.link).await
    }

    async fn look_up(&self, wanted: Vec<Wanted>) -> Result<(), DatabaseError> {
        self.directory.look_up(&self.link, &wanted).await
    }

    async fn sample(&self) -> Result<ReplicaSample, DatabaseError> {
        self.sampled.store(true, Ordering::Relaxed);
        self.positions.sample(&self.link).await
    }

    fn is_sampled(&self) -> bool {
        self.sampled.load(Ordering::Relaxed)
    }

    async fn info(&self) -> Result<ReplicaInfo, DatabaseError> {
        self.positions.info(&self.link).await
    }

    async fn flushed(&self) -> Result<PrimaryPosition, DatabaseError> {
        self.positions.written(&self.link).await
    }

    fn beats(&self, table: BeatTable) -> Box<dyn WriteBeats> {
        Box::new(heartbeat::Writer::new(self.link.clone(), table))
    }

    async fn newest_beats(&self, schema: &str) -> Result<BeatsSeen, DatabaseError> {
        self.sampled.store(true, Ordering::Relaxed);
        heartbeat::newest(&self.link, schema).await
    }

    fn log(&self) -> Option<Box<dyn ReadLog>> {
        let (binlogs, spots) = (Arc::clone(&self.binlogs), Arc::clone(&self.spots));
        Some(Box::new(Follower::new(binlogs, spots, self.directory.clone())))
    }

    async fn tables_without_key(&self) -> Result<Vec<Object>, DatabaseError> {
        keys::without(&self.link).await
    }

    async fn check(&self) -> Vec<Finding> {
        let is_replica = self.positions.sample(&self.link).await.map(|sample| sample.in_recovery);
        check::check(&self.link, is_replica).await
    }

    async fn close(&self, only_idle: bool) {
        self.link.close(only_idle);
    }
}
