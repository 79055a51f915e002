//! A primary, a replica on a disk of its own, and the ways to make the replica fall behind. It judges nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mysql_async::Conn;
use tempfile::TempDir;

use crate::lab::last_will::LastWill;
use crate::lab::place::{self, Slow};
use crate::lab::{LabError, Limit, SlowDisk, Storage, Throttle, disk};

use super::sql;
use super::{MariaDb, MariaUpdates, MariaWorkload};

const CATCH_UP: Duration = Duration::from_mins(2);

/// A buffer pool that the large index does not fit into, though undo and all else do, and no page cache below it.
const REPLICA: [&str; 3] =
    ["--innodb-buffer-pool-size=48M", "--innodb-flush-method=O_DIRECT", "--read-only=ON"];
const PRIMARY: [&str; 1] = ["--innodb-buffer-pool-size=256M"];

/// What to build.
#[derive(Debug, Clone)]
pub struct MariaOptions {
    /// Where to make the laboratory's directory; the system's temporary directory when not given.
    pub parent: Option<PathBuf>,
    /// The replica's storage.
    pub storage: Storage,
    /// Statements that make and fill the tables.
    pub setup: Vec<String>,
    /// Options of the replica, over the laboratory's own.
    pub replica: Vec<&'static str>,
}

impl Default for MariaOptions {
    fn default() -> Self {
        Self {
            parent: None,
            storage: Storage::Slow { bytes: disk::DEFAULT_BYTES },
            setup: orders(400_000),
            replica: Vec::new(),
        }
    }
}

impl MariaOptions {
    /// The same tables, small and on plain storage, for what needs no slow disk.
    #[must_use]
    pub fn small() -> Self {
        Self { storage: Storage::Plain, setup: orders(20_000), ..Self::default() }
    }
}

/// Statements that make `visits`, which has no key; its rows are few enough to stay in memory.
#[must_use]
pub fn visits() -> [String; 2] {
    [
        "CREATE TABLE shop.visits (customer_id bigint NOT NULL, page int NOT NULL, seen int NOT NULL)"
            .to_owned(),
        "INSERT INTO shop.visits SELECT seq % 3000 + 1, seq, 0 FROM seq_1_to_60000".to_owned(),
    ]
}

/// `orders`, whose index `reference` is larger than the replica's buffer pool, and a small `customers`.
fn orders(rows: u32) -> Vec<String> {
    // As many as updates go through at least.
    let customers = (rows / 100).max(2_000);
    [
        "CREATE DATABASE shop".to_owned(),
        "USE shop".to_owned(),
        "CREATE TABLE shop.customers (id bigint PRIMARY KEY, city int NOT NULL, name varchar(40) NOT NULL, \
         balance bigint NOT NULL DEFAULT 0)"
            .to_owned(),
        format!(
            "INSERT INTO shop.customers (id, city, name) \
             SELECT seq, seq % 100, CONCAT('customer ', seq) FROM seq_1_to_{customers}"
        ),
        "CREATE TABLE shop.orders (id bigint PRIMARY KEY, customer_id bigint NOT NULL, status int NOT NULL, \
         reference char(250) NOT NULL, KEY customer_id (customer_id), KEY reference (reference))"
            .to_owned(),
        format!(
            "INSERT INTO shop.orders SELECT seq, seq % {customers} + 1, seq % 5, MD5(seq) FROM seq_1_to_{rows}"
        ),
    ]
    .into()
}

/// The laboratory. Dropping it takes everything down and removes all files; that blocks for up to some seconds.
pub struct MariaLab {
    // Fields are dropped in this order, each before what it stands on.
    primary_client: Conn,
    replica_client: Conn,
    replica: MariaDb,
    primary: MariaDb,
    slow: Option<Slow>,
    _last_will: LastWill,
    dir: TempDir,
}

impl MariaLab {
    /// Builds it: servers running, tables filled, the replica caught up.
    pub async fn build(options: MariaOptions) -> Result<Self, LabError> {
        let dir = place::directory(options.parent.as_deref())?;
        let slow = match options.storage {
            Storage::Plain => None,
            storage => Some(Slow::create(dir.path(), storage)?),
        };
        let last_will = LastWill::write(dir.path());
        let mut primary = MariaDb::create(&dir.path().join("primary"), 1, &PRIMARY).await?;
        let mut filler = sql::connect(&primary.access()).await?;
        for statement in &options.setup {
            sql::execute(&mut filler, statement).await?;
        }
        drop(filler);
        let storage = slow.as_ref().map_or(dir.path(), |slow| slow.disk.path());
        let given: Vec<&str> = REPLICA.into_iter().chain(options.replica.iter().copied()).collect();
        let replica = MariaDb::copied_from(&mut primary, &storage.join("replica"), 2, &given).await?;
        if let Some(slow) = &slow {
            slow.throttle.add(replica.pid()?)?;
        }
        let primary_client = sql::connect(&primary.access()).await?;
        let replica_client = sql::connect(&replica.access()).await?;
        let mut lab =
            Self { primary_client, replica_client, replica, primary, slow, _last_will: last_will, dir };
        lab.wait_caught_up(CATCH_UP).await?;
        Ok(lab)
    }

    /// Limits the I/O of the replica, in place of any limit set before.
    pub fn limit(&self, limit: Limit) -> Result<(), LabError> {
        match &self.slow {
            Some(slow) => slow.limit(limit),
            None => Err(LabError::NoThrottle { reason: "the replica is on plain storage".to_owned() }),
        }
    }

    /// Starts changes on the primary.
    pub async fn start_workload(&self, updates: MariaUpdates, rate: u32) -> Result<MariaWorkload, LabError> {
        MariaWorkload::start(&self.primary.access(), updates, rate).await
    }

    /// Waits until the replica has applied what the primary has logged by now.
    pub async fn wait_caught_up(&mut self, deadline: Duration) -> Result<(), LabError> {
        let target = sql::position(&mut self.primary_client).await?;
        sql::wait_applied(&mut self.replica_client, &target, deadline).await
    }

    /// The primary.
    pub fn primary(&self) -> &MariaDb {
        &self.primary
    }

    /// The replica.
    pub fn replica(&self) -> &MariaDb {
        &self.replica
    }

    /// The replica, to stop and start it.
    pub fn replica_mut(&mut self) -> &mut MariaDb {
        &mut self.replica
    }

    /// The laboratory's own connection to the primary.
    pub fn primary_client(&mut self) -> &mut Conn {
        &mut self.primary_client
    }

    /// The laboratory's own connection to the replica.
    pub fn replica_client(&mut self) -> &mut Conn {
        &mut self.replica_client
    }

    /// The replica's disk; none on plain storage.
    pub fn disk(&self) -> Option<&SlowDisk> {
        self.slow.as_ref().map(|slow| &slow.disk)
    }

    /// The replica's cgroup; none on plain storage.
    pub fn throttle(&self) -> Option<&Throttle> {
        self.slow.as_ref().map(|slow| &slow.throttle)
    }

    /// The directory that holds it all.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for MariaLab {
    fn drop(&mut self) {
        // First of all: a server whose reads wait in line for their turn takes long to stop.
        if let Some(slow) = &self.slow
            && let Err(error) = slow.limit(Limit::default())
        {
            tracing::warn!(%error, "the limit of the laboratory's disk stays until its cgroup is removed");
        }
    }
}
