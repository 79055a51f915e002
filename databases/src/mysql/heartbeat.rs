//! Beats on MySQL and MariaDB: an `INSERT … ON DUPLICATE KEY UPDATE` a beat, in a session of its own.
//!
//! An account that may write to a read-only server would make a transaction there that no other server has. So the
//! server's role is asked before each beat; whether it replicates from another one, which is dearer to ask, once a second;
//! and where the binary log has rows, the statement itself writes nothing on a read-only server: making it read-only waits
//! for statements that run.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    connect::{About, Answer, Session},
    grants,
    link::Link,
    positions::{REPLICA_STATUS, SYNTAX},
};
use crate::{
    error::DatabaseError,
    heartbeat::{
        Beat, BeatTable, BeatsSeen, MOST_WRITERS, NotWritable, WriteBeats, Written, committed, micros,
        signed, time,
    },
};

const WRITING: &str = "a beat";
const READING: &str = "the newest beats";
const ROLE: &str = "the server's role";

/// How often it is asked whether the server replicates from another one.
const REPLICA_EVERY: Duration = Duration::from_secs(1);

/// Numbers on all servers but newer MariaDB, where `read_only` has words.
const READ_ONLY: &str = "SELECT CONCAT(@@global.read_only), CONCAT(@@global.innodb_read_only)";
const WRITABLE: &[&str] = &["0", "OFF"];

const COLUMNS: &str = "(writer CHAR(36) CHARACTER SET ascii NOT NULL PRIMARY KEY, run CHAR(36) CHARACTER SET ascii NOT NULL, \
     number BIGINT NOT NULL, stamp_ns BIGINT NOT NULL, written_us BIGINT NOT NULL, pace_ms BIGINT NOT NULL, name VARCHAR(255) \
     CHARACTER SET utf8mb4 NOT NULL) ENGINE=InnoDB";

/// Name of a database, as SQL needs it.
fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Name of the table, as SQL needs it.
fn table(schema: &str) -> String {
    format!("{}.heartbeat", quoted(schema))
}

fn make_schema(schema: &str) -> String {
    format!("CREATE DATABASE IF NOT EXISTS {}", quoted(schema))
}

fn make_table(schema: &str) -> String {
    format!("CREATE TABLE IF NOT EXISTS {} {COLUMNS}", table(schema))
}

fn grant(schema: &str, about: &About) -> String {
    let (table, account) = (table(schema), grants::account(about));
    let status = if about.is_mariadb { "SLAVE MONITOR" } else { "REPLICATION CLIENT" };
    format!("GRANT SELECT, INSERT, UPDATE ON {table} TO {account}; GRANT {status} ON *.* TO {account};")
}

/// A session, and what it was told of the server.
struct Open {
    session: Session,
    /// Whether the binary log has rows and not statements, of which replicas would make their own sense.
    logs_rows: bool,
    /// When it was last asked whether the server replicates from another one, and the answer.
    replica: Option<(Instant, bool)>,
}

/// Writes beats on one server.
pub(super) struct Writer {
    link: Link,
    table: BeatTable,
    /// Which of the statements for a replica's status the server understands.
    status: AtomicUsize,
    /// Out of here while it is asked, so that one that is given up is closed.
    open: Option<Open>,
}

/// Why a beat was not written, and whether the session is of more use.
enum Failed {
    Session(DatabaseError),
    Statement(DatabaseError),
}

impl Failed {
    fn error(&self) -> &DatabaseError {
        match self {
            Self::Session(error) | Self::Statement(error) => error,
        }
    }
}

async fn ask(session: &mut Session, purpose: &'static str, sql: &str) -> Result<Vec<Answer>, Failed> {
    session.rows(purpose, sql).await.map_err(Failed::Session)?.map_err(Failed::Statement)
}

impl Writer {
    pub(super) fn new(link: Link, table: BeatTable) -> Self {
        Self { link, table, status: AtomicUsize::new(0), open: None }
    }

    async fn opened(&mut self) -> Result<Open, DatabaseError> {
        if let Some(open) = self.open.take() {
            return Ok(open);
        }
        let mut session = self.link.open_for_beats().await?;
        let format = session.rows(ROLE, "SELECT @@session.binlog_format").await??;
        let format = format.first().and_then(|row| row.at(0));
        Ok(Open { session, logs_rows: format.is_some_and(|format| format != "STATEMENT"), replica: None })
    }

    async fn beat(&self, open: &mut Open, beat: &Beat) -> Result<Written, Failed> {
        let begun = Instant::now();
        let is_replica = match open.replica {
            Some((asked, is_replica)) if asked.elapsed() < REPLICA_EVERY => is_replica,
            _ => self.is_replica(&mut open.session).await?,
        };
        if open.replica.is_none_or(|(asked, _)| asked.elapsed() >= REPLICA_EVERY) {
            open.replica = Some((begun, is_replica));
        }
        if is_replica {
            return Ok(Written::Not(NotWritable::Replica));
        }
        let looked = Instant::now();
        let rows = ask(&mut open.session, ROLE, READ_ONLY).await?;
        let trip = looked.elapsed();
        let is_writable = |column| {
            let told = rows.first().and_then(|row| row.at(column));
            told.is_some_and(|told| WRITABLE.contains(&told.as_str()))
        };
        if !is_writable(0) || !is_writable(1) {
            return Ok(Written::Not(NotWritable::ReadOnly));
        }
        let sql = upsert(&self.table.schema, beat, open.logs_rows);
        let asked = Instant::now();
        match ask(&mut open.session, WRITING, &sql).await {
            Err(failed) if self.table.create && is_missing(failed.error()) => {
                self.make(&mut open.session).await?;
                ask(&mut open.session, WRITING, &sql).await?;
            }
            // Somebody has made it read-only since the question, and the account may not write then.
            Err(failed) if matches!(failed.error().code(), Some("1290" | "1792" | "1836")) => {
                return Ok(Written::Not(NotWritable::ReadOnly));
            }
            answer => drop(answer?),
        }
        let ended = Instant::now();
        if open.session.changed() == 0 {
            return Ok(Written::Not(NotWritable::ReadOnly));
        }
        Ok(Written::At { at: committed(ended, ended - asked, trip), took: ended - begun })
    }

    /// Whether it replicates from another server, or would if it were not stopped.
    async fn is_replica(&self, session: &mut Session) -> Result<bool, Failed> {
        let begin = self.status.load(Ordering::Relaxed);
        let mut last = None;
        for at in (0..REPLICA_STATUS.len()).map(|step| (begin + step) % REPLICA_STATUS.len()) {
            match ask(session, ROLE, REPLICA_STATUS[at]).await {
                Err(failed) if failed.error().code() == Some(SYNTAX) => last = Some(failed),
                answer => {
                    self.status.store(at, Ordering::Relaxed);
                    return answer.map(|rows| !rows.is_empty());
                }
            }
        }
        // There is at least one statement, so there was an answer.
        last.map_or(Ok(true), Err)
    }

    async fn make(&self, session: &mut Session) -> Result<(), Failed> {
        const PURPOSE: &str = "making the heartbeat's table";
        let schema = &self.table.schema;
        let sql = "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = ";
        let there = ask(session, PURPOSE, &format!("{sql}{}", grants::quote(schema))).await?;
        if there.is_empty() {
            ask(session, PURPOSE, &make_schema(schema)).await?;
        }
        ask(session, PURPOSE, &make_table(schema)).await?;
        tracing::info!(server = %self.link.name(), "made the heartbeat's table {}", table(schema));
        Ok(())
    }
}

#[async_trait]
impl WriteBeats for Writer {
    async fn write(&mut self, beat: &Beat) -> Result<Written, DatabaseError> {
        let mut open = self.opened().await?;
        let asked = self.beat(&mut open, beat).await;
        let about = std::sync::Arc::clone(&open.session.about);
        // What an account is granted on all databases is seen by new sessions only.
        if asked.is_ok() {
            self.open = Some(open);
        }
        asked.map_err(|failed| match failed {
            Failed::Session(error) => error,
            Failed::Statement(error) => explained(&self.link, &self.table.schema, &about, error),
        })
    }
}

/// One row, whoever has written the table.
fn upsert(schema: &str, beat: &Beat, guarded: bool) -> String {
    let Beat { writer, run, number, stamp, written, pace, name } = beat;
    let (number, stamp, pace) = (signed(*number), signed(stamp.as_nanos()), signed(pace.as_millis()));
    let (written, name, table) = (micros(*written), grants::quote(name), table(schema));
    let values = format!("'{writer}', '{run}', {number}, {stamp}, {written}, {pace}, {name}");
    let values = if guarded {
        let writable: Vec<_> = WRITABLE.iter().map(|word| grants::quote(word)).collect();
        format!("SELECT {values} FROM DUAL WHERE CONCAT(@@global.read_only) IN ({})", writable.join(", "))
    } else {
        format!("VALUES ({values})")
    };
    format!(
        "INSERT INTO {table} (writer, run, number, stamp_ns, written_us, pace_ms, name) {values} ON DUPLICATE KEY UPDATE \
         run = '{run}', number = {number}, stamp_ns = {stamp}, written_us = {written}, pace_ms = {pace}, name = {name}"
    )
}

/// The newest beats that a server shows.
pub(super) async fn newest(link: &Link, schema: &str) -> Result<BeatsSeen, DatabaseError> {
    let sql = format!(
        "SELECT writer, run, number, stamp_ns, written_us, pace_ms, name FROM {} ORDER BY written_us DESC LIMIT \
         {MOST_WRITERS}",
        table(schema)
    );
    match link.asked(READING, sql).await {
        Ok(asked) => Ok(BeatsSeen {
            monotonic: asked.monotonic,
            at: asked.at,
            beats: asked.rows.iter().filter_map(beat).collect(),
        }),
        Err(error) => Err(match link.about() {
            Some(about) => explained(link, schema, &about, error),
            None => error,
        }),
    }
}

/// `None` for a row that no agent has written.
fn beat(row: &Answer) -> Option<Beat> {
    let id = |column| Uuid::parse_str(&row.at(column)?).ok();
    let number = |column| row.at(column)?.parse::<u64>().ok();
    Some(Beat {
        writer: id(0)?,
        run: id(1)?,
        number: number(2)?,
        stamp: Duration::from_nanos(number(3)?),
        written: time(signed(number(4)?)),
        pace: Duration::from_millis(number(5)?),
        name: row.at(6)?,
    })
}

/// Whether there is no such table, or no such database.
fn is_missing(error: &DatabaseError) -> bool {
    matches!(error.code(), Some("1146" | "1049"))
}

/// The error, with the SQL that mends it where there is such.
fn explained(link: &Link, schema: &str, about: &About, error: DatabaseError) -> DatabaseError {
    let all = format!("{}; {}; {}", make_schema(schema), make_table(schema), grant(schema, about));
    let (reason, sql) = match error.code() {
        Some("1146" | "1049") => (format!("there is no table {}", table(schema)), all),
        Some("1044" | "1142" | "1143" | "1227") => (
            format!(
                "{} may not use or make the table {}, or not see whether the server is a replica",
                about.account,
                table(schema)
            ),
            all,
        ),
        Some("1054" | "1136" | "1364") => (
            format!("the table {} is another one", table(schema)),
            format!("DROP TABLE {}; {all}", table(schema)),
        ),
        _ => return error,
    };
    DatabaseError::Heartbeat { server: link.name().to_owned(), reason, sql }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_is_written_only_where_the_server_may_be_written_to_and_names_are_quoted() {
        let beat = Beat {
            writer: Uuid::nil(),
            run: Uuid::nil(),
            number: 7,
            stamp: Duration::from_nanos(8),
            written: time(9),
            pace: Duration::from_millis(10),
            name: "o'rders\\@host".to_owned(),
        };
        let guarded = upsert("a`b", &beat, true);
        assert!(guarded.starts_with("INSERT INTO `a``b`.heartbeat (writer, run"), "{guarded}");
        assert!(guarded.contains("7, 8, 9, 10, 'o''rders\\\\@host' FROM DUAL WHERE"), "{guarded}");
        assert!(
            guarded.contains("WHERE CONCAT(@@global.read_only) IN ('0', 'OFF') ON DUPLICATE"),
            "{guarded}"
        );
        let plain = upsert("a", &beat, false);
        assert!(plain.contains(") VALUES ('00000000") && !plain.contains("read_only"), "{plain}");
    }
}
