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
use super::place::{self, Slow};
use super::{
    Binaries, Busy, Cluster, GroundTruth, LabError, LabOptions, Limit, Quota, Rival, SlowDisk, StopMode,
    Storage, Throttle, Updates, Workload, cache, processor, sql,
};

const CATCH_UP: Duration = Duration::from_mins(1);

/// The laboratory. Dropping it takes everything down and removes all files; that blocks for up to some seconds.
pub struct Lab {
    // Fields are dropped in this order, each before what it stands on.
    cold: Option<ColdFiles>,
    truth: GroundTruth,
    primary_client: Client,
    replica_client: Client,
    /// The first is the one that lags.
    replicas: Vec<Cluster>,
    primary: Cluster,
    quota: Option<Quota>,
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
        let dir = place::directory(options.parent.as_deref())?;
        let slow = match options.storage {
            Storage::Plain => None,
            storage => Some(Slow::create(dir.path(), storage)?),
        };
        let last_will = LastWill::write(dir.path());
        let mut primary = Cluster::primary(&binaries, &dir.path().join("primary"), &options.primary)?;
        let filler = sql::connect(&primary.dsn()).await?;
        for statement in &options.schema.setup {
            sql::execute(&filler, statement).await?;
        }
        drop(filler);
        let storage = slow.as_ref().map_or(dir.path(), |slow| slow.disk.path());
        let place = storage.join("replica");
        let replica = if binaries.can_copy_running() {
            Cluster::replica_of(&primary, &place, &options.replica)?
        } else {
            Cluster::copied_from(&mut primary, &place, &options.replica)?
        };
        let primary_client = sql::connect(&primary.dsn()).await?;
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
            replicas: vec![replica],
            primary,
            quota: None,
            slow,
            _last_will: last_will,
            dir,
            options,
        };
        lab.wait_caught_up(CATCH_UP).await?;
        // By us, who are outside the cgroup.
        cache::warm(&cache::files_under(&lab.replica().data()))?;
        Ok(lab)
    }

    /// Adds a replica on the same disk and under the same limit, with no part in anything else.
    pub fn add_replica(&mut self) -> Result<&Cluster, LabError> {
        let storage = self.slow.as_ref().map_or(self.dir.path(), |slow| slow.disk.path());
        let place = storage.join(format!("replica-{}", self.replicas.len() + 1));
        let replica = Cluster::replica_of(&self.primary, &place, &self.options.replica)?;
        if let Some(slow) = &self.slow {
            slow.throttle.add_with_children(replica.postmaster()?)?;
        }
        cache::warm(&cache::files_under(&replica.data()))?;
        self.replicas.push(replica);
        self.replicas.last().ok_or_else(|| LabError::Stopped { dir: self.dir.path().to_owned() })
    }

    /// Makes the schema's cold relations cold on the replica and keeps them so, and limits the replica's reads.
    pub async fn inject_cold_index(&mut self) -> Result<(), LabError> {
        let cold = self.options.schema.cold.clone();
        self.keep_cold(&cold).await?;
        self.limit(Limit::reads(self.options.read_iops))
    }

    /// Makes relations cold on every replica and keeps them so, in place of those that were kept so before.
    pub async fn keep_cold(&mut self, relations: &[impl AsRef<str>]) -> Result<(), LabError> {
        let mut files = Vec::new();
        for relation in relations {
            for replica in &self.replicas {
                files.push(sql::relation_file(&self.primary_client, replica, relation.as_ref()).await?);
            }
        }
        self.cold = Some(ColdFiles::keep(files)?);
        Ok(())
    }

    /// Limits the I/O of the replicas and of their rivals, in place of any limit set before.
    pub fn limit(&self, limit: Limit) -> Result<(), LabError> {
        match &self.slow {
            Some(slow) => slow.limit(limit),
            None => Err(LabError::NoThrottle { reason: "the replica is on plain storage".to_owned() }),
        }
    }

    /// Lets the process that replays have a processor whenever it wants one: what the rest of the laboratory does on the
    /// same host is not in its way.
    pub fn prefer_replay(&self) -> Result<(), LabError> {
        processor::prefer(self.replica().startup_process()?)
    }

    /// Keeps the processor of the process that replays busy with something else.
    pub fn crowd_processor(&self) -> Result<Busy, LabError> {
        Busy::beside(self.replica().startup_process()?)
    }

    /// Gives the process that replays `percent` of a processor.
    pub fn limit_processor(&mut self, percent: u32) -> Result<(), LabError> {
        let quota = Quota::create(&self.name(), percent)?;
        quota.add(self.replica().startup_process()?)?;
        self.quota = Some(quota);
        Ok(())
    }

    /// Starts a process that is no database and reads `file` of the replica's disk: in a cgroup of version 2 of its
    /// own, whose name begins with the laboratory's, or in the root.
    pub fn start_rival(&self, file: &Path, own_group: bool) -> Result<Rival, LabError> {
        let Some(slow) = &self.slow else {
            return Err(LabError::NoThrottle { reason: "the replica is on plain storage".to_owned() });
        };
        let name = self.rival_group();
        Rival::start(file, &slow.throttle, own_group.then_some(name.as_str()))
    }

    /// Name of the cgroup of [`Lab::start_rival`].
    pub fn rival_group(&self) -> String {
        self.name() + "-backup"
    }

    fn name(&self) -> String {
        self.dir.path().file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Takes the limit away and warms the cold relations.
    pub fn heal(&mut self) -> Result<(), LabError> {
        if let Some(slow) = &self.slow {
            slow.limit(Limit::default())?;
        }
        self.quota = None;
        let cold = self.cold.take();
        cold.map_or(Ok(()), ColdFiles::warm)
    }

    /// Restarts the replica, back inside its cgroup; the client from before is replaced.
    pub async fn restart_replica(&mut self, mode: StopMode) -> Result<(), LabError> {
        self.replicas[0].restart(mode)?;
        if let Some(slow) = &self.slow {
            slow.throttle.add_with_children(self.replica().postmaster()?)?;
        }
        self.replica_client = sql::connect(&self.replica().dsn()).await?;
        Ok(())
    }

    /// Restarts the primary; the client from before is replaced, and the replica finds it again by itself.
    pub async fn restart_primary(&mut self, mode: StopMode) -> Result<(), LabError> {
        self.primary.restart(mode)?;
        self.primary_client = sql::connect(&self.primary.dsn()).await?;
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
        LockConflict::hold(&self.primary.dsn(), &self.replica().dsn(), table).await
    }

    /// Stops the replica's walreceiver until the guard is dropped.
    pub fn stop_walreceiver(&self) -> Result<StoppedProcess, LabError> {
        StoppedProcess::walreceiver(self.replica())
    }

    /// The primary.
    pub fn primary(&self) -> &Cluster {
        &self.primary
    }

    /// The replica.
    pub fn replica(&self) -> &Cluster {
        &self.replicas[0]
    }

    /// All replicas; the first is the one that lags.
    pub fn replicas(&self) -> &[Cluster] {
        &self.replicas
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
            && let Err(error) = slow.limit(Limit::default())
        {
            tracing::warn!(%error, "the limit of the laboratory's disk stays until its cgroup is removed");
        }
    }
}
