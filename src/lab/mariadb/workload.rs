//! Statements on a `MariaDB` primary at a steady rate. It does not make lag; what is cold on the replica decides that.

use std::time::Duration;

use mysql_async::Conn;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::lab::LabError;

use super::sql::{self, Access};

/// One transaction a tick: fine enough for lag of 0.1 s, and only 25 commits a second.
const TICK: Duration = Duration::from_millis(40);
const TICKS_A_SECOND: u32 = 25;

/// A statement that changes one row by its key.
#[derive(Debug, Clone)]
pub struct MariaUpdates {
    /// With `{key}` where the key goes.
    pub sql: String,
    /// Keys 1 to this are used in turn.
    pub keys: u64,
}

impl MariaUpdates {
    /// Adds orders: rows at the end of the table, and a random place in the index `reference` for each. Nothing is left
    /// for purge to do, which would read the same pages.
    #[must_use]
    pub fn orders() -> Self {
        let sql = "INSERT INTO shop.orders VALUES (1000000000 + {key}, 1, 1, MD5(RAND()))";
        Self { sql: sql.to_owned(), keys: u64::MAX }
    }

    /// Twenty rows of a table that has no key by which a replica could find them.
    #[must_use]
    pub fn visits() -> Self {
        let sql = "UPDATE shop.visits SET seen = seen + 1 WHERE customer_id = {key}";
        Self { sql: sql.to_owned(), keys: 3_000 }
    }

    /// A hundred rows by their key.
    #[must_use]
    pub fn ranges_of_customers() -> Self {
        let sql = "UPDATE shop.customers SET balance = balance + 1 WHERE id BETWEEN {key} AND {key} + 99";
        Self { sql: sql.to_owned(), keys: 2_000 }
    }

    /// The control: nothing of it is ever cold.
    #[must_use]
    pub fn customers() -> Self {
        let sql = "UPDATE shop.customers SET balance = balance + 1 WHERE id = {key}";
        Self { sql: sql.to_owned(), keys: 2_000 }
    }
}

/// A running workload. Dropping it breaks it off without waiting.
#[derive(Debug)]
pub struct MariaWorkload {
    /// Its end, sent or dropped, tells the task to stop.
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<u64, LabError>>,
}

impl MariaWorkload {
    /// Starts `rate` changes a second on a connection of its own.
    pub async fn start(access: &Access, updates: MariaUpdates, rate: u32) -> Result<Self, LabError> {
        let client = sql::connect(access).await?;
        let (stop, stopped) = oneshot::channel();
        Ok(Self { stop: Some(stop), task: tokio::spawn(run(client, updates, rate, stopped)) })
    }

    /// Ends after the current transaction; returns how many changes were made.
    pub async fn stop(mut self) -> Result<u64, LabError> {
        drop(self.stop.take());
        let ended = (&mut self.task).await;
        ended.map_err(|error| LabError::Workload { reason: error.to_string() })?
    }
}

impl Drop for MariaWorkload {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(
    mut client: Conn,
    updates: MariaUpdates,
    rate: u32,
    mut stopped: oneshot::Receiver<()>,
) -> Result<u64, LabError> {
    let mut tick = tokio::time::interval(TICK);
    // A server that is slow for a moment gets its changes afterwards: the rate holds on average.
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut ticks, mut done) = (0_u64, 0_u64);
    loop {
        tokio::select! {
            _ = &mut stopped => return Ok(done),
            _ = tick.tick() => {}
        }
        ticks += 1;
        let due = ticks * u64::from(rate) / u64::from(TICKS_A_SECOND);
        sql::execute(&mut client, "BEGIN").await?;
        while done < due {
            let key = (done % updates.keys) + 1;
            sql::execute(&mut client, &updates.sql.replace("{key}", &key.to_string())).await?;
            done += 1;
        }
        sql::execute(&mut client, "COMMIT").await?;
    }
}
