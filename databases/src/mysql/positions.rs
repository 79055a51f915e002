//! Positions of a MySQL server: on a replica what is received and applied, of the server that it replicates from what is
//! written.
//!
//! A look runs fifty times a second, so it is one statement that reads memory only; what else is asked is asked at a slower
//! pace. Statements and columns have changed their names: what the server understands is found by trying. Of several
//! sources one channel is looked at: one that lags.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    binlogs::{Binlogs, Place},
    connect::{About, Answer},
    link::{Asked, Link},
    relay::{Spot, Spots},
    waits::{Stand, Waits, plain},
};
use crate::{
    error::DatabaseError,
    positions::{PrimaryPosition, ReplicaInfo, ReplicaSample, WaitKind},
};

/// MariaDB; MySQL since 8.0.22; and before.
pub(super) const REPLICA_STATUS: &[&str] =
    &["SHOW ALL SLAVES STATUS", "SHOW REPLICA STATUS", "SHOW SLAVE STATUS"];
/// MariaDB since 10.5; MySQL since 8.2; and before.
const WRITTEN: &[&str] = &["SHOW BINLOG STATUS", "SHOW BINARY LOG STATUS", "SHOW MASTER STATUS"];

const APPLIERS_OF_MARIADB: &str = "SELECT tid, id, command FROM information_schema.processlist WHERE command IN ('Slave_SQL', 'Slave_worker')";
const APPLIERS: &str = "SELECT thread_os_id, processlist_id, name FROM performance_schema.threads \
     WHERE name IN ('thread/sql/replica_sql', 'thread/sql/replica_worker', 'thread/sql/slave_sql', \
     'thread/sql/slave_worker')";

/// What the server calls a statement that it does not understand.
pub(super) const SYNTAX: &str = "1064";
/// How often the SQL thread is looked for: while it is not known, and while it may be another one.
const LOOK_FOR_APPLIER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));

/// The threads that apply.
#[derive(Clone, Debug, Default)]
struct Applier {
    /// The session that it was asked for with: in another one the server may be another incarnation.
    session: Option<Arc<About>>,
    asked: Option<Instant>,
    /// The id of the SQL thread in the server's operating system.
    thread: Option<u32>,
    /// Numbers of the SQL thread and its workers among the server's connections.
    connections: Vec<u32>,
}

/// Looks at the positions of one server.
#[derive(Debug)]
pub(super) struct Positions {
    /// Which of the statements the server understands.
    replica: AtomicUsize,
    upstream: AtomicUsize,
    /// Name of the channel that is looked at.
    channel: Mutex<Option<String>>,
    applier: Mutex<Applier>,
    waits: Waits,
    binlogs: Arc<Binlogs>,
    /// Where the applier stands, for who reads the relay logs.
    spots: Arc<Spots>,
    /// The file that was last written to.
    file: Mutex<Option<(String, u64)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Positions {
    pub(super) fn new(binlogs: Arc<Binlogs>, spots: Arc<Spots>) -> Self {
        Self {
            replica: AtomicUsize::new(0),
            upstream: AtomicUsize::new(0),
            channel: Mutex::default(),
            applier: Mutex::default(),
            waits: Waits::default(),
            binlogs,
            spots,
            file: Mutex::default(),
        }
    }

    pub(super) async fn sample(&self, link: &Link) -> Result<ReplicaSample, DatabaseError> {
        let asked = understood(link, "replay positions", REPLICA_STATUS, &self.replica).await?;
        let Asked { rows, monotonic, at } = asked;
        let mut sample = ReplicaSample {
            at,
            monotonic,
            in_recovery: !rows.is_empty(),
            received: None,
            replayed: None,
            paused: false,
            wait: None,
            last_replayed_commit_age: None,
            streaming: false,
            timeline: None,
            apply_thread: None,
        };
        let Some(row) = self.chosen(&rows) else { return Ok(sample) };
        self.binlogs.set_upstream(row.number(SERVER_ID).unwrap_or(0));
        let upstream = self.binlogs.upstream().unwrap_or(0);
        let received = received(row);
        if let Some(applied) = applied(row) {
            let seen = self.binlogs.replicated(upstream, received.as_ref(), &applied, monotonic);
            (sample.received, sample.replayed) = (seen.received, Some(seen.applied));
            sample.timeline = Some(seen.timeline);
            self.spots.set(spot(row, applied, upstream));
        }
        sample.streaming = row.named(IO_RUNNING).is_some_and(|running| running == "Yes");
        sample.last_replayed_commit_age = row.number(SECONDS_BEHIND).map(Duration::from_secs);
        sample.paused = row.named(SQL_RUNNING).is_none_or(|running| running != "Yes");
        if sample.paused {
            *lock(&self.applier) = Applier::default();
            sample.wait = Some(plain(WaitKind::Paused));
            return Ok(sample);
        }
        let applier = self.applier(link).await;
        sample.apply_thread = applier.thread;
        let state = row.named(SQL_STATE).unwrap_or_default();
        let at =
            Stand { applied: sample.replayed.unwrap_or(0), is_behind: sample.received != sample.replayed };
        sample.wait = self.waits.describe(link, &state, at, &applier.connections).await;
        Ok(sample)
    }

    pub(super) async fn info(&self, link: &Link) -> Result<ReplicaInfo, DatabaseError> {
        let rows = understood(link, "its replication", REPLICA_STATUS, &self.replica).await?.rows;
        let Some(row) = self.chosen(&rows) else { return Ok(ReplicaInfo::default()) };
        let server_id = row.number(SERVER_ID).unwrap_or(0);
        self.binlogs.set_upstream(server_id);
        let host = row.named(&["Master_Host", "Source_Host"]).filter(|host| !host.is_empty());
        let port = row.named(&["Master_Port", "Source_Port"]);
        Ok(ReplicaInfo {
            upstream: host.map(|host| port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"))),
            slot: None,
            timeline: self.binlogs.upstream().map(|upstream| self.binlogs.timeline(upstream)),
            streaming: row.named(IO_RUNNING).is_some_and(|running| running == "Yes"),
            intended_delay: Duration::from_secs(row.number(&["SQL_Delay"]).unwrap_or(0)),
        })
    }

    pub(super) async fn written(&self, link: &Link) -> Result<PrimaryPosition, DatabaseError> {
        let asked = understood(link, "the written position", WRITTEN, &self.upstream).await?;
        let about = link.known().await?;
        let row = asked.rows.first();
        let place = row.and_then(|row| Place::read(&row.named(&["File"])?, row.number(&["Position"])?));
        let Some(place) = place else {
            let (server, _) = link.address();
            return Err(DatabaseError::Query {
                server,
                purpose: "the written position",
                code: "no binary log".to_owned(),
                remedy: "set log_bin (and log_slave_updates, where it is a replica itself), and restart it"
                    .to_owned(),
            });
        };
        let file = (place.name.clone(), place.number);
        if lock(&self.file).as_ref() != Some(&file) {
            // A file is over: now its size is known.
            let rows = link.rows("the sizes of its binary logs", "SHOW BINARY LOGS").await?;
            let sizes =
                rows.iter().filter_map(|row| Some((Place::read(&row.at(0)?, 0)?, row.at(1)?.parse().ok()?)));
            let over: Vec<(Place, u64)> = sizes.filter(|(over, _)| over.number < place.number).collect();
            self.binlogs.sizes(about.server_id, &over);
            *lock(&self.file) = Some(file);
        }
        let (flushed, timeline) = self.binlogs.written(about.server_id, &place);
        Ok(PrimaryPosition { monotonic: asked.monotonic, at: asked.at, flushed, timeline })
    }

    /// The channel that is looked at: the one that was, unless it is at its end while another lags.
    fn chosen<'a>(&self, rows: &'a [Answer]) -> Option<&'a Answer> {
        let name = |row: &Answer| row.named(&["Connection_name", "Channel_Name"]).unwrap_or_default();
        let is_behind = |row: &&Answer| received(row) != applied(row);
        // Who is stopped does not say how far behind he is.
        let lag = |row: &&Answer| row.number::<u64>(SECONDS_BEHIND).unwrap_or(u64::MAX);
        let mut channel = lock(&self.channel);
        let kept = channel.as_ref().and_then(|channel| rows.iter().find(|row| name(row) == *channel));
        let chosen = match kept {
            Some(kept) if rows.len() == 1 || is_behind(&kept) || !rows.iter().any(|row| is_behind(&row)) => {
                kept
            }
            _ => rows.iter().filter(is_behind).max_by_key(lag).or(rows.first())?,
        };
        *channel = Some(name(chosen));
        Some(chosen)
    }

    /// The thread that applies, asked for now and then.
    async fn applier(&self, link: &Link) -> Applier {
        let Some(about) = link.about() else { return Applier::default() };
        let known = lock(&self.applier).clone();
        let is_same = known.session.as_ref().is_some_and(|session| Arc::ptr_eq(session, &about));
        let pause = if known.thread.is_none() { LOOK_FOR_APPLIER.0 } else { LOOK_FOR_APPLIER.1 };
        if is_same && known.asked.is_some_and(|asked| asked.elapsed() < pause) {
            return known;
        }
        let sql = if about.is_mariadb { APPLIERS_OF_MARIADB } else { APPLIERS };
        let rows = link.rows("the threads that apply", sql).await.unwrap_or_default();
        let is_sql =
            |row: &&Answer| row.at(2).is_some_and(|name| name.to_ascii_lowercase().ends_with("_sql"));
        let thread = rows.iter().find(is_sql).and_then(|row| row.at(0)?.parse().ok());
        let connections = rows.iter().filter_map(|row| row.at(1)?.parse().ok()).collect();
        let found = Applier { session: Some(about), asked: Some(Instant::now()), thread, connections };
        lock(&self.applier).clone_from(&found);
        found
    }
}

const SERVER_ID: &[&str] = &["Master_Server_Id", "Source_Server_Id"];
const SECONDS_BEHIND: &[&str] = &["Seconds_Behind_Master", "Seconds_Behind_Source"];
const SQL_RUNNING: &[&str] = &["Slave_SQL_Running", "Replica_SQL_Running"];
const IO_RUNNING: &[&str] = &["Slave_IO_Running", "Replica_IO_Running"];
const SQL_STATE: &[&str] = &["Slave_SQL_Running_State", "Replica_SQL_Running_State", "Slave_SQL_State"];

fn received(row: &Answer) -> Option<Place> {
    let file = row.named(&["Master_Log_File", "Source_Log_File"])?;
    Place::read(&file, row.number(&["Read_Master_Log_Pos", "Read_Source_Log_Pos"])?)
}

fn applied(row: &Answer) -> Option<Place> {
    let file = row.named(&["Relay_Master_Log_File", "Relay_Source_Log_File"])?;
    Place::read(&file, row.number(&["Exec_Master_Log_Pos", "Exec_Source_Log_Pos"])?)
}

/// Where the applier stands in both logs.
fn spot(row: &Answer, source: Place, server_id: u32) -> Option<Spot> {
    let file = row.named(&["Relay_Log_File"])?;
    let digits = file.rsplit_once('.')?.1.len();
    Some(Spot { relay: Place::read(&file, row.number(&["Relay_Log_Pos"])?)?, source, digits, server_id })
}

/// The answer to the first of these statements that the server understands, which is remembered.
async fn understood(
    link: &Link,
    purpose: &'static str,
    statements: &[&'static str],
    known: &AtomicUsize,
) -> Result<Asked, DatabaseError> {
    let begin = known.load(Ordering::Relaxed);
    let mut last = None;
    for at in (0..statements.len()).map(|step| (begin + step) % statements.len()) {
        match link.asked(purpose, statements[at]).await {
            Err(error) if error.code() == Some(SYNTAX) => {
                last = Some(error);
            }
            answer => {
                known.store(at, Ordering::Relaxed);
                return answer;
            }
        }
    }
    Err(last.unwrap_or_else(|| DatabaseError::Query {
        server: link.address().0,
        purpose,
        code: SYNTAX.to_owned(),
        remedy: "this version of the server is not supported; please report it".to_owned(),
    }))
}
