//! Beats on PostgreSQL: an `INSERT … ON CONFLICT` a beat, in a session of its own that waits for no standby.
//!
//! The table is in the database of the connection string, so that of a replica must name the same.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    connect::{Answer, Session},
    grants::quote,
    link::{Asked, Link},
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

/// Asked before each beat: whether it may be written, and whether its commit would wait for a standby.
const ROLE: &str = "SELECT pg_catalog.pg_is_in_recovery(), current_setting('transaction_read_only') = 'on', \
     current_setting('synchronous_commit') = 'local'";

/// Most of the pages are left empty, so that a new version of a row stays on its page, and no index is written.
const COLUMNS: &str = "(writer text PRIMARY KEY, run text NOT NULL, number bigint NOT NULL, stamp_ns bigint NOT NULL, \
     written_us bigint NOT NULL, pace_ms bigint NOT NULL, name text NOT NULL) WITH (fillfactor = 10)";

/// Name of the table, as SQL needs it.
fn table(schema: &str) -> String {
    format!("{}.heartbeat", quote(schema))
}

fn make_schema(schema: &str) -> String {
    format!("CREATE SCHEMA {}", quote(schema))
}

fn make_table(schema: &str) -> String {
    format!("CREATE TABLE IF NOT EXISTS {} {COLUMNS}", table(schema))
}

fn grant(schema: &str, role: &str) -> String {
    let (table, schema, role) = (table(schema), quote(schema), quote(role));
    format!("GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT SELECT, INSERT, UPDATE ON {table} TO {role};")
}

/// Writes beats on one server.
pub(super) struct Writer {
    link: Arc<Link>,
    table: BeatTable,
    upsert: Arc<str>,
    /// Out of here while it is asked, so that one that is given up is closed.
    session: Option<Session>,
}

impl Writer {
    pub(super) fn new(link: Arc<Link>, table: BeatTable) -> Self {
        let upsert = format!(
            "INSERT INTO {} (writer, run, number, stamp_ns, written_us, pace_ms, name) VALUES ($1, $2, $3, $4, $5, $6, $7) \
             ON CONFLICT (writer) DO UPDATE SET run = excluded.run, number = excluded.number, stamp_ns = excluded.stamp_ns, \
             written_us = excluded.written_us, pace_ms = excluded.pace_ms, name = excluded.name",
            self::table(&table.schema)
        );
        Self { link, table, upsert: upsert.into(), session: None }
    }

    async fn ask(&self, session: &Session, beat: &Beat) -> Result<Written, DatabaseError> {
        let begun = Instant::now();
        let rows = session.rows("the server's role", ROLE, &[]).await?;
        let trip = begun.elapsed();
        let Some(role) = rows.first() else { return Err(session.lost()) };
        if role.read(0)? {
            return Ok(Written::Not(NotWritable::Replica));
        }
        if role.read(1)? {
            return Ok(Written::Not(NotWritable::ReadOnly));
        }
        if !role.read::<bool>(2)? {
            // Only a pooler drops what a session is started with, and a beat would wait for standbys.
            return Err(session.lost());
        }
        let asked = Instant::now();
        match self.upsert(session, beat).await {
            Err(error) if self.table.create && is_missing(&error) => {
                self.make(session).await?;
                self.upsert(session, beat).await?;
            }
            // Somebody has made it read-only since the question.
            Err(error) if error.code() == Some("25006") => return Ok(Written::Not(NotWritable::ReadOnly)),
            written => written?,
        }
        let ended = Instant::now();
        Ok(Written::At { at: committed(ended, ended - asked, trip), took: ended - begun })
    }

    async fn upsert(&self, session: &Session, beat: &Beat) -> Result<(), DatabaseError> {
        let (writer, run) = (beat.writer.to_string(), beat.run.to_string());
        let numbers = [
            signed(beat.number),
            signed(beat.stamp.as_nanos()),
            micros(beat.written),
            signed(beat.pace.as_millis()),
        ];
        let [number, stamp, written, pace] = &numbers;
        session
            .rows(
                WRITING,
                self.upsert.to_string(),
                &[&writer, &run, number, stamp, written, pace, &beat.name],
            )
            .await
            .map(drop)
    }

    async fn make(&self, session: &Session) -> Result<(), DatabaseError> {
        const PURPOSE: &str = "making the heartbeat's table";
        let schema = &self.table.schema;
        let there = session
            .rows(PURPOSE, "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1", &[schema])
            .await?;
        if there.is_empty() {
            session.rows(PURPOSE, make_schema(schema), &[]).await?;
        }
        session.rows(PURPOSE, make_table(schema), &[]).await?;
        tracing::info!(server = %self.link.reach().name(), "made the heartbeat's table {}", table(schema));
        Ok(())
    }
}

#[async_trait]
impl WriteBeats for Writer {
    async fn write(&mut self, beat: &Beat) -> Result<Written, DatabaseError> {
        let session = match self.session.take().filter(|session| !session.is_closed()) {
            Some(session) => session,
            None => self.link.open_for_beats().await?,
        };
        let asked = self.ask(&session, beat).await;
        let asked = asked.map_err(|error| explained(&self.link, &self.table.schema, &session.role, error));
        if !asked.as_ref().is_err_and(DatabaseError::is_fatal_to_connection) {
            self.session = Some(session);
        }
        asked
    }
}

/// The newest beats that a server shows.
pub(super) async fn newest(link: &Link, schema: &str) -> Result<BeatsSeen, DatabaseError> {
    let sql = format!(
        "SELECT writer, run, number, stamp_ns, written_us, pace_ms, name FROM {} ORDER BY written_us DESC LIMIT \
         {MOST_WRITERS}",
        table(schema)
    );
    let session = link.session().await?;
    let asked = link.asked(READING, sql, &[]).await;
    let Asked { rows, monotonic, at } =
        asked.map_err(|error| explained(link, schema, &session.role, error))?;
    let beats = rows.iter().map(beat).collect::<Result<Vec<_>, _>>()?;
    Ok(BeatsSeen { monotonic, at, beats: beats.into_iter().flatten().collect() })
}

/// `None` for a row that no agent has written.
fn beat(row: &Answer) -> Result<Option<Beat>, DatabaseError> {
    let id = |column| Ok(Uuid::parse_str(row.read::<&str>(column)?).ok());
    let number = |column| row.read::<i64>(column).map(|number| u64::try_from(number).unwrap_or(0));
    let (Some(writer), Some(run)) = (id(0)?, id(1)?) else { return Ok(None) };
    Ok(Some(Beat {
        writer,
        run,
        number: number(2)?,
        stamp: Duration::from_nanos(number(3)?),
        written: time(row.read(4)?),
        pace: Duration::from_millis(number(5)?),
        name: row.read(6)?,
    }))
}

/// Whether there is no such table, or no such schema.
fn is_missing(error: &DatabaseError) -> bool {
    matches!(error.code(), Some("42P01" | "3F000"))
}

/// The error, with the SQL that mends it where there is such.
fn explained(link: &Link, schema: &str, role: &str, error: DatabaseError) -> DatabaseError {
    let server = || link.reach().name().to_owned();
    let all = || format!("{}; {}; {}", make_schema(schema), make_table(schema), grant(schema, role));
    match error.code() {
        Some("42P01" | "3F000") => DatabaseError::Heartbeat {
            server: server(),
            reason: format!("there is no table {}", table(schema)),
            sql: all(),
        },
        Some("42501") => DatabaseError::Heartbeat {
            server: server(),
            reason: format!("{role} may not use or make the table {}", table(schema)),
            sql: all(),
        },
        Some("42703" | "42P10") => DatabaseError::Heartbeat {
            server: server(),
            reason: format!("the table {} is another one", table(schema)),
            sql: format!("DROP TABLE {}; {}; {}", table(schema), make_table(schema), grant(schema, role)),
        },
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_can_be_copied() {
        assert_eq!(make_schema("Blame io"), "CREATE SCHEMA \"Blame io\"");
        assert!(make_table("blameio").starts_with("CREATE TABLE IF NOT EXISTS blameio.heartbeat (writer"));
        assert_eq!(
            grant("blameio", "a\"b"),
            "GRANT USAGE ON SCHEMA blameio TO \"a\"\"b\"; GRANT SELECT, INSERT, UPDATE ON blameio.heartbeat TO \"a\"\"b\";"
        );
    }
}
