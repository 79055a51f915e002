//! Work of many kinds on both servers, for hours, whatever happens to them: who loses a connection makes another.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use blameio::lab::{Lab, LabError, LockConflict, Updates, sql};
use tokio::{sync::watch, task::JoinSet, time::sleep};
use tokio_postgres::Client;

use super::random::Random;

/// Between two attempts to do what failed.
const RETRY: Duration = Duration::from_millis(300);

/// What was done so far.
#[derive(Debug, Default)]
pub struct Done {
    /// Rows updated.
    pub updates: AtomicU64,
    /// Rows inserted at once and deleted again.
    pub bursts: AtomicU64,
    /// Tables created, changed in every way and dropped.
    pub tables: AtomicU64,
    /// Databases created and dropped.
    pub databases: AtomicU64,
    /// Scans on the replica.
    pub scans: AtomicU64,
    /// Locks held in replay's way.
    pub locks: AtomicU64,
    /// Statements and connections that failed, most of them because of injected faults.
    pub failures: AtomicU64,
    /// Times that a database could not be dropped because somebody sat in it.
    pub sat_in: AtomicU64,
    /// The last failure, for whoever wonders.
    last: Mutex<String>,
}

impl Done {
    fn tell_of(&self, failure: String) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    /// The last failure; nothing when there was none.
    pub fn last_failure(&self) -> String {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The work. Dropping it breaks it off.
#[derive(Debug)]
pub struct Work {
    on: watch::Sender<bool>,
    tasks: JoinSet<()>,
    done: Arc<Done>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Updates,
    Bursts,
    Tables,
    Databases,
    Scans,
    Locks,
}

/// What one kind of work needs.
struct Worker {
    kind: Kind,
    primary: String,
    replica: String,
    done: Arc<Done>,
    random: Random,
    turn: u64,
}

impl Work {
    /// Starts all kinds.
    pub fn start(lab: &Lab, seed: u64) -> Self {
        let (on, working) = watch::channel(true);
        let done = Arc::new(Done::default());
        let mut tasks = JoinSet::new();
        let kinds = [Kind::Updates, Kind::Bursts, Kind::Tables, Kind::Databases, Kind::Scans, Kind::Locks];
        for (number, kind) in (1..).zip(kinds) {
            let worker = Worker {
                kind,
                primary: lab.primary().dsn(),
                replica: lab.replica().dsn(),
                done: Arc::clone(&done),
                random: Random::new(seed.wrapping_mul(31).wrapping_add(number)),
                turn: 0,
            };
            tasks.spawn(worker.run(working.clone()));
        }
        Self { on, tasks, done }
    }

    /// Lets what is begun come to its end and begins nothing more, or goes on.
    pub fn set(&self, on: bool) {
        self.on.send_replace(on);
    }

    /// What was done so far.
    pub fn done(&self) -> &Done {
        &self.done
    }

    /// Breaks it off.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

impl Worker {
    async fn run(mut self, mut working: watch::Receiver<bool>) {
        let mut client: Option<Client> = None;
        while working.wait_for(|on| *on).await.is_ok() {
            let dsn = if matches!(self.kind, Kind::Scans) { &self.replica } else { &self.primary };
            let connected = match client.take() {
                Some(client) => Ok(client),
                None => sql::connect(dsn).await,
            };
            let turned = match connected {
                Ok(connected) => self.turn(&connected).await.map(|()| connected),
                Err(error) => Err(error),
            };
            match turned {
                Ok(good) => client = Some(good),
                Err(error) => {
                    self.done.tell_of(format!("{:?}: {error}", self.kind));
                    self.done.failures.fetch_add(1, Ordering::Relaxed);
                    sleep(RETRY).await;
                }
            }
        }
    }

    /// One unit of work and the pause after it.
    async fn turn(&mut self, client: &Client) -> Result<(), LabError> {
        self.turn += 1;
        let done = Arc::clone(&self.done);
        let pause = match self.kind {
            Kind::Updates => {
                self.update(client).await?;
                Duration::from_millis(40)
            }
            Kind::Bursts => {
                // A pile of WAL at once, and rows whose room is given back.
                let many = "INSERT INTO bursts SELECT i, md5(i::text) FROM generate_series(1, 20000) i";
                sql::execute(client, many).await?;
                let end = if self.turn.is_multiple_of(3) { "TRUNCATE bursts" } else { "DELETE FROM bursts" };
                sql::execute(client, end).await?;
                done.bursts.fetch_add(1, Ordering::Relaxed);
                Duration::from_millis(3_000 + self.random.below(12_000))
            }
            Kind::Tables => {
                self.table(client).await?;
                done.tables.fetch_add(1, Ordering::Relaxed);
                Duration::from_millis(200 + self.random.below(600))
            }
            Kind::Databases => {
                self.database(client).await?;
                Duration::from_millis(20_000 + self.random.below(20_000))
            }
            Kind::Scans => {
                let table = ["orders", "customers", "bursts"][(self.turn % 3) as usize];
                sql::execute(client, &format!("SELECT count(*) FROM {table} WHERE id > 0")).await?;
                done.scans.fetch_add(1, Ordering::Relaxed);
                Duration::from_millis(200 + self.random.below(800))
            }
            Kind::Locks => {
                sleep(Duration::from_millis(5_000 + self.random.below(25_000))).await;
                let held = LockConflict::hold(&self.primary, &self.replica, "customers").await?;
                sleep(Duration::from_millis(500 + self.random.below(3_000))).await;
                held.release().await?;
                done.locks.fetch_add(1, Ordering::Relaxed);
                Duration::ZERO
            }
        };
        sleep(pause).await;
        Ok(())
    }

    async fn update(&mut self, client: &Client) -> Result<(), LabError> {
        let updates = if self.turn.is_multiple_of(2) { Updates::orders() } else { Updates::customers() };
        let first = i64::try_from(self.turn % 240).unwrap_or(0) * 8 + 1;
        let keys: Vec<i64> = (first..first + 8).collect();
        let rows = client.execute(&updates.sql, &[&keys]).await.map_err(failed("update rows"))?;
        self.done.updates.fetch_add(rows, Ordering::Relaxed);
        Ok(())
    }

    /// The life of a table, its files exchanged in every way that there is. Names never come back.
    async fn table(&mut self, client: &Client) -> Result<(), LabError> {
        let name = format!("churn.t{}", self.turn);
        for statement in [
            "CREATE SCHEMA IF NOT EXISTS churn".to_owned(),
            format!("DROP TABLE IF EXISTS {name}"),
            format!("CREATE TABLE {name} (id int PRIMARY KEY, note text)"),
            format!("INSERT INTO {name} SELECT i, md5(i::text) FROM generate_series(1, 500) i"),
            format!("CREATE INDEX ON {name} (note)"),
            format!("UPDATE {name} SET note = note || 'x'"),
            format!("REINDEX TABLE {name}"),
            format!("VACUUM FULL {name}"),
            format!("TRUNCATE {name}"),
            format!("INSERT INTO {name} SELECT i, md5(i::text) FROM generate_series(1, 200) i"),
            format!("DROP TABLE IF EXISTS churn.t{}", self.turn.saturating_sub(20)),
        ] {
            sql::execute(client, &statement).await?;
        }
        Ok(())
    }

    /// A database that the agent may just be looking at has to be droppable.
    async fn database(&mut self, client: &Client) -> Result<(), LabError> {
        sql::execute(client, "DROP DATABASE IF EXISTS churn").await?;
        sql::execute(client, "CREATE DATABASE churn").await?;
        sleep(Duration::from_millis(500 + self.random.below(2_500))).await;
        if let Err(error) = sql::execute(client, "DROP DATABASE churn").await {
            if error.to_string().contains("being accessed by other users") {
                self.done.sat_in.fetch_add(1, Ordering::Relaxed);
            }
            return Err(error);
        }
        self.done.databases.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn failed(doing: &'static str) -> impl FnOnce(tokio_postgres::Error) -> LabError {
    move |source| LabError::Sql { doing: doing.to_owned(), source }
}
