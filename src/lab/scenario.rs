//! The whole laboratory: a primary, a replica on a disk of its own, and the ways to make the replica fall behind.
//!
//! It judges nothing; tests and the demo compare what the agent says with what was done here.

use std::path::Path;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use tokio_postgres::Client;

use super::injection::ColdFiles;
use super::interventions::{self, LockConflict, StoppedProcess};
use super::last_will::LastWill;
use super::{
    Binaries, Cluster, GroundTruth, LabError, LabOptions, Limit, SlowDisk, StopMode, Storage, Throttle,
    Updates, Workload, cache, owner, sql,
};

const CATCH_UP: Duration = Duration::from_mins(1);

/// A disk with the cgroup that can slow it down.
struct Slow {
    throttle: Throttle,
    disk: SlowDisk,
}

/// The laboratory. Dropping it takes everything down and removes all files; that blocks for up to some seconds.
pub struct Lab {
    // Fields are dropped in this order, each before what it stands on.
    cold: Option<ColdFiles>,
    truth: GroundTruth,
    primary_client: Client,
    replica_client: Client,
    replica: Cluster,
    primary: Cluster,
    slow: Option<Slow>,
    /// Held for its `Drop`: from then on nothing is left to guard but files.
    _last_will: LastWill,
    dir: TempDir,
    options: LabOptions,
}

impl Lab {
    /// Updates a second that go with [`Lab::READ_IOPS`].
    pub const RATE: u32 = 200;
    /// A fifth of the updates can be replayed: lag grows by 0.8 s a second.
    pub const READ_IOPS: u64 = 40;

    /// Builds it: servers running, tables filled, the replica caught up, all its files in the page cache.
    ///
    /// Waits for programs in place, without handing over to the runtime: a build that is given up at one of its
    /// await points must take down in order what it has built.
    pub async fn build(options: LabOptions) -> Result<Self, LabError> {
        let binaries = Binaries::find(options.binaries.as_deref())?;
        let dir = directory(options.parent.as_deref())?;
        let slow = match options.storage {
            Storage::Slow { bytes } => Some(slow_disk(dir.path(), bytes)?),
            Storage::Plain => None,
        };
        let last_will = LastWill::write(dir.path(), slow.as_ref().map(|slow| slow.throttle.path()));
        let primary = Cluster::primary(&binaries, &dir.path().join("primary"), &options.primary)?;
        let primary_client = sql::connect(&primary.dsn()).await?;
        for statement in &options.schema.setup {
            sql::execute(&primary_client, statement).await?;
        }
        let storage = slow.as_ref().map_or(dir.path(), |slow| slow.disk.path());
        let replica = Cluster::replica_of(&primary, &storage.join("replica"), &options.replica)?;
        if let Some(slow) = &slow {
            slow.throttle.add_with_children(replica.postmaster()?)?;
        }
        let replica_client = sql::connect(&replica.dsn()).await?;
        let truth = GroundTruth::start(&primary.dsn())?;
        let lab = Self {
            cold: None,
            truth,
            primary_client,
            replica_client,
            replica,
            primary,
            slow,
            _last_will: last_will,
            dir,
            options,
        };
        lab.wait_caught_up(CATCH_UP).await?;
        // By us, who are outside the cgroup.
        cache::warm(&cache::files_under(&lab.replica.data()))?;
        Ok(lab)
    }

    /// Makes the schema's cold relations cold on the replica and keeps them so, and limits the replica's reads.
    pub async fn inject_cold_index(&mut self) -> Result<(), LabError> {
        let Some(slow) = &self.slow else {
            return Err(LabError::NoThrottle { reason: "the replica is on plain storage".to_owned() });
        };
        let mut files = Vec::new();
        for relation in &self.options.schema.cold {
            files.push(sql::relation_file(&self.primary_client, &self.replica, relation).await?);
        }
        self.cold = Some(ColdFiles::keep(files)?);
        let limit = Limit { read_iops: Some(self.options.read_iops), read_bps: None };
        slow.throttle.limit(slow.disk.device(), limit)
    }

    /// Takes the limit away and warms the cold relations.
    pub async fn heal(&mut self) -> Result<(), LabError> {
        self.cold = None;
        if let Some(slow) = &self.slow {
            slow.throttle.unlimit(slow.disk.device())?;
        }
        for relation in &self.options.schema.cold {
            let first = sql::relation_file(&self.primary_client, &self.replica, relation).await?;
            cache::warm(&cache::segments(&first))?;
        }
        Ok(())
    }

    /// Restarts the replica, back inside its cgroup; the client from before is replaced.
    pub async fn restart_replica(&mut self, mode: StopMode) -> Result<(), LabError> {
        self.replica.restart(mode)?;
        if let Some(slow) = &self.slow {
            slow.throttle.add_with_children(self.replica.postmaster()?)?;
        }
        self.replica_client = sql::connect(&self.replica.dsn()).await?;
        Ok(())
    }

    /// Starts updates on the primary.
    pub async fn start_workload(&self, updates: &Updates, rate: u32) -> Result<Workload, LabError> {
        Workload::start(&self.primary.dsn(), updates, rate).await
    }

    /// Waits until the replica has replayed what the primary has flushed by now.
    pub async fn wait_caught_up(&self, deadline: Duration) -> Result<(), LabError> {
        let target = sql::flushed(&self.primary_client).await?;
        sql::wait_replayed(&self.replica_client, target, deadline).await
    }

    /// The true lag now.
    pub async fn true_lag(&self) -> Result<Duration, LabError> {
        let replayed = sql::replayed(&self.replica_client).await?;
        Ok(self.truth.lag(replayed, SystemTime::now()))
    }

    /// Pauses replay.
    pub async fn pause_replay(&self) -> Result<(), LabError> {
        interventions::pause_replay(&self.replica_client, true).await
    }

    /// Lets a paused replay go on.
    pub async fn resume_replay(&self) -> Result<(), LabError> {
        interventions::pause_replay(&self.replica_client, false).await
    }

    /// Lets a query on the replica stand in the way of a lock of the primary.
    pub async fn hold_lock(&self, table: &str) -> Result<LockConflict, LabError> {
        LockConflict::hold(&self.primary.dsn(), &self.replica.dsn(), table).await
    }

    /// Stops the replica's walreceiver until the guard is dropped.
    pub fn stop_walreceiver(&self) -> Result<StoppedProcess, LabError> {
        StoppedProcess::walreceiver(&self.replica)
    }

    /// The primary.
    pub fn primary(&self) -> &Cluster {
        &self.primary
    }

    /// The replica.
    pub fn replica(&self) -> &Cluster {
        &self.replica
    }

    /// The laboratory's own connection to the primary.
    pub fn primary_client(&self) -> &Client {
        &self.primary_client
    }

    /// The laboratory's own connection to the replica.
    pub fn replica_client(&self) -> &Client {
        &self.replica_client
    }

    /// The replica's disk; none on plain storage.
    pub fn disk(&self) -> Option<&SlowDisk> {
        self.slow.as_ref().map(|slow| &slow.disk)
    }

    /// The replica's cgroup; none on plain storage.
    pub fn throttle(&self) -> Option<&Throttle> {
        self.slow.as_ref().map(|slow| &slow.throttle)
    }

    /// What the true lag is computed from.
    pub fn truth(&self) -> &GroundTruth {
        &self.truth
    }

    /// The directory that holds it all.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // First of all: a server whose reads wait in line for their turn takes long to stop.
        if let Some(slow) = &self.slow
            && let Err(error) = slow.throttle.unlimit(slow.disk.device())
        {
            tracing::warn!(%error, "the limit of the laboratory's disk stays until its cgroup is removed");
        }
    }
}

fn directory(parent: Option<&Path>) -> Result<TempDir, LabError> {
    let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
    // The kernel shows paths of processes and loop devices without symbolic links.
    let parent = parent.canonicalize().map_err(LabError::file("look at", &parent))?;
    let dir = tempfile::Builder::new()
        .prefix("blameio-lab-")
        .tempdir_in(&parent)
        .map_err(LabError::file("create a directory in", &parent))?;
    owner::passable(dir.path())?;
    Ok(dir)
}

fn slow_disk(dir: &Path, bytes: u64) -> Result<Slow, LabError> {
    let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    // Before the disk: where no cgroup can be made there is no use for one.
    let throttle = Throttle::create(&name)?;
    Ok(Slow { throttle, disk: SlowDisk::create(dir, bytes)? })
}
