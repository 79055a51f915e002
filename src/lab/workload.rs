//! Updates on the primary at a steady rate.
//!
//! It does not make lag; what is cold on the replica decides that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_postgres::{Client, Statement};

use super::{LabError, sql};

/// One transaction a tick: fine enough for lag of 0.1 s, and only 25 commits a second.
const TICK: Duration = Duration::from_millis(40);
const TICKS_A_SECOND: u32 = 25;

/// A statement that updates rows by key.
#[derive(Debug, Clone)]
pub struct Updates {
    /// Takes the keys as `$1` of type `bigint[]`.
    pub sql: String,
    /// Keys 1 to this are used in turn.
    pub keys: i64,
}

impl Updates {
    /// Rewrites `reference` of the first 2,000 orders: their heap and the other indexes stay in memory, while
    /// `orders_reference_idx` is touched all over.
    #[must_use]
    pub fn orders() -> Self {
        let sql = "UPDATE orders SET reference = md5(random()::text), status = (random() * 4)::int \
                   WHERE id = ANY($1::bigint[])";
        Self { sql: sql.to_owned(), keys: 2_000 }
    }

    /// The control: as many rows, each new version in every index too, but nothing of it is ever cold.
    #[must_use]
    pub fn customers() -> Self {
        let sql = "UPDATE customers SET balance = balance + 1, city = (random() * 99)::int, seen = now() \
                   WHERE id = ANY($1::bigint[])";
        Self { sql: sql.to_owned(), keys: 2_000 }
    }
}

/// A running workload. Dropping it breaks it off without waiting.
#[derive(Debug)]
pub struct Workload {
    /// Its end, sent or dropped, tells the task to stop.
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), LabError>>,
    updates: Arc<AtomicU64>,
}

impl Workload {
    /// Starts `rate` row updates a second on a connection of its own.
    pub async fn start(dsn: &str, updates: &Updates, rate: u32) -> Result<Self, LabError> {
        let client = sql::connect(dsn).await?;
        let statement = client.prepare(&updates.sql).await.map_err(LabError::sql(&*updates.sql))?;
        let (stop, stopped) = oneshot::channel();
        let done = Arc::new(AtomicU64::new(0));
        let keys = Keys { next: 1, last: updates.keys, rate, ticks: 0 };
        let task = tokio::spawn(run(client, statement, keys, stopped, Arc::clone(&done)));
        Ok(Self { stop: Some(stop), task, updates: done })
    }

    /// Rows updated so far.
    pub fn updates(&self) -> u64 {
        self.updates.load(Ordering::Relaxed)
    }

    /// Ends after the current transaction; returns the rows updated.
    pub async fn stop(mut self) -> Result<u64, LabError> {
        drop(self.stop.take());
        match (&mut self.task).await {
            Ok(Ok(())) => Ok(self.updates()),
            Ok(Err(error)) => Err(error),
            Err(error) => Err(LabError::Workload { reason: error.to_string() }),
        }
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(
    client: Client,
    statement: Statement,
    mut keys: Keys,
    mut stopped: oneshot::Receiver<()>,
    done: Arc<AtomicU64>,
) -> Result<(), LabError> {
    let mut tick = tokio::time::interval(TICK);
    // A server that is slow for a moment gets its updates afterwards: the rate holds on average.
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    loop {
        tokio::select! {
            _ = &mut stopped => return Ok(()),
            _ = tick.tick() => {}
        }
        let batch = keys.batch();
        if batch.is_empty() {
            continue;
        }
        let rows = client.execute(&statement, &[&batch]).await.map_err(LabError::sql("run the workload"))?;
        done.fetch_add(rows, Ordering::Relaxed);
    }
}

/// Hands out keys in turn, as many a tick as the rate asks for.
struct Keys {
    next: i64,
    last: i64,
    rate: u32,
    ticks: u64,
}

impl Keys {
    fn batch(&mut self) -> Vec<i64> {
        let due = |ticks: u64| ticks * u64::from(self.rate) / u64::from(TICKS_A_SECOND);
        let count = due(self.ticks + 1) - due(self.ticks);
        self.ticks += 1;
        (0..count)
            .map(|_| {
                let key = self.next;
                self.next = if key >= self.last { 1 } else { key + 1 };
                key
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Keys, TICKS_A_SECOND};

    #[test]
    fn a_second_of_ticks_hands_out_exactly_the_rate() {
        for rate in [1, 7, 25, 200, 333] {
            let mut keys = Keys { next: 1, last: 5, rate, ticks: 0 };
            let all: Vec<i64> = (0..TICKS_A_SECOND).flat_map(|_| keys.batch()).collect();
            assert_eq!(all.len(), rate as usize);
            assert!(all.iter().all(|key| (1..=5).contains(key)));
        }
    }
}
