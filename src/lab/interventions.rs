//! Other ways to hold a replica up than a slow disk: a lock held by a query, a stopped process, a pause.
//!
//! Each is undone by its guard, or by the call beside it.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio_postgres::Client;

use super::{Cluster, LabError, sql};

/// A process held by SIGSTOP. Dropping it lets the process go on.
#[derive(Debug)]
pub struct StoppedProcess {
    pid: i32,
}

impl StoppedProcess {
    /// Stops `pid`.
    pub fn stop(pid: i32) -> Result<Self, LabError> {
        kill(Pid::from_raw(pid), Signal::SIGSTOP).map_err(|source| LabError::Signal {
            signal: "SIGSTOP",
            pid,
            source,
        })?;
        Ok(Self { pid })
    }

    /// Stops the process that receives WAL: positions freeze at the receiving end.
    pub fn walreceiver(replica: &Cluster) -> Result<Self, LabError> {
        Self::stop(replica.walreceiver()?)
    }

    /// Stops the process that replays WAL: received positions go on, replayed ones freeze.
    pub fn startup_process(replica: &Cluster) -> Result<Self, LabError> {
        Self::stop(replica.startup_process()?)
    }

    /// The process held.
    pub fn pid(&self) -> i32 {
        self.pid
    }
}

impl Drop for StoppedProcess {
    fn drop(&mut self) {
        // It may have been killed in the meantime.
        let _gone = kill(Pid::from_raw(self.pid), Signal::SIGCONT);
    }
}

/// A transaction on the replica that holds `AccessShareLock` on a table for which the primary has taken
/// `AccessExclusiveLock`: replay waits until this is released or dropped.
pub struct LockConflict {
    holder: Client,
    backend: i32,
}

impl LockConflict {
    /// Takes both locks. Replay waits for as long as `max_standby_streaming_delay` lets it; the laboratory's
    /// replicas have it at -1.
    pub async fn hold(primary_dsn: &str, replica_dsn: &str, table: &str) -> Result<Self, LabError> {
        let holder = sql::connect(replica_dsn).await?;
        // Before the transaction: a prepared statement in it leaves a portal open, and that a snapshot.
        let query = "SELECT pg_backend_pid()";
        let row = holder.query_one(query, &[]).await.map_err(LabError::sql(query))?;
        let backend = row.try_get(0).map_err(LabError::sql(query))?;
        // Read committed: between statements it has locks but no snapshot, so that only the lock is in the way.
        sql::execute(&holder, &format!("BEGIN; SELECT FROM {table} LIMIT 1")).await?;
        let primary = sql::connect(primary_dsn).await?;
        // The commit flushes the record of the lock.
        let lock = format!("BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE; COMMIT");
        sql::execute(&primary, &lock).await?;
        Ok(Self { holder, backend })
    }

    /// The pid of the backend on the replica that is in the way.
    pub fn backend(&self) -> i32 {
        self.backend
    }

    /// Ends the transaction and returns when the server has confirmed it.
    pub async fn release(self) -> Result<(), LabError> {
        sql::execute(&self.holder, "COMMIT").await
    }
}

/// `pg_wal_replay_pause()` or `pg_wal_replay_resume()` on the replica.
pub async fn pause_replay(replica: &Client, paused: bool) -> Result<(), LabError> {
    let function = if paused { "pg_wal_replay_pause" } else { "pg_wal_replay_resume" };
    sql::execute(replica, &format!("SELECT {function}()")).await
}
