//! Positions of a PostgreSQL server: on a replica what is received and replayed, on a primary what is flushed.
//!
//! `sample` runs fifty times a second, so it is one prepared statement that reads shared memory only.

use std::{sync::atomic::Ordering, time::Duration};

use tokio_postgres::types::PgLsn;

use super::{cluster, connect::Answer, link::Link, waits::Waits};
use crate::{
    error::DatabaseError,
    identity::ClusterId,
    positions::{ApplyWait, Middle, PrimaryPosition, ReplicaInfo, ReplicaSample, WaitKind},
};

/// Whether there is a stream. Of a walreceiver, every role may see the process id, and nothing else without
/// `pg_read_all_stats`.
macro_rules! streaming {
    () => {
        "coalesce(w.status = 'streaming', w.pid IS NOT NULL)"
    };
}

macro_rules! sample {
    ($paused:literal) => {
        concat!(
            "SELECT r.recovery, pg_catalog.pg_last_wal_receive_lsn(), pg_catalog.pg_last_wal_replay_lsn(), \
             CASE WHEN r.recovery THEN ", $paused, " ELSE false END, \
             extract(epoch FROM pg_catalog.clock_timestamp() - pg_catalog.pg_last_xact_replay_timestamp())::float8, \
             a.pid, a.wait_event_type, a.wait_event, w.received_tli, ", streaming!(), " \
             FROM (SELECT pg_catalog.pg_is_in_recovery() AS recovery) r \
             LEFT JOIN pg_catalog.pg_stat_get_activity($1) a ON true \
             LEFT JOIN pg_catalog.pg_stat_get_wal_receiver() w ON true"
        )
    };
}

const SAMPLE: &str = sample!("pg_catalog.pg_get_wal_replay_pause_state() = 'paused'");
const SAMPLE_BEFORE_14: &str = sample!("pg_catalog.pg_is_wal_replay_paused()");
const STARTUP: &str = "SELECT pid FROM pg_catalog.pg_stat_get_activity(NULL) WHERE backend_type = 'startup'";
const INFO: &str = concat!(
    "SELECT w.sender_host, w.sender_port, w.slot_name, w.received_tli, ",
    streaming!(),
    ", (SELECT setting::int8 FROM pg_catalog.pg_settings WHERE name = 'recovery_min_apply_delay') \
     FROM (SELECT 1) one LEFT JOIN pg_catalog.pg_stat_get_wal_receiver() w ON true"
);
/// Asked of a primary only: of a standby it would be an error and a line in its log.
const FLUSHED: &str = "SELECT p.flushed, ('x' || substr(pg_catalog.pg_walfile_name(p.flushed), 1, 8))::bit(32)::int4 \
     FROM (SELECT pg_catalog.pg_current_wal_flush_lsn() AS flushed) p";

pub(super) async fn sample(link: &Link, waits: &Waits) -> Result<ReplicaSample, DatabaseError> {
    let session = link.session().await?;
    let sql = if session.version >= 140_000 { SAMPLE } else { SAMPLE_BEFORE_14 };
    // The server knows no process 0, so an unknown one gives no wait and is looked for below.
    let known = session.startup();
    let middle = Middle::begin();
    let row = link.row("replay positions", sql, &[known.cast_signed()]).await?;
    let (monotonic, at) = middle.end();
    let in_recovery: bool = row.read(0)?;
    let startup = row.read::<Option<i32>>(5)?.map(i32::cast_unsigned);
    if in_recovery && startup.is_none() && waits.may_look_for_startup() {
        let found = link.rows("the startup process", STARTUP, &[]).await?;
        let found = found.first().map(|row| row.read::<i32>(0)).transpose()?.unwrap_or(0);
        session.startup.store(found.cast_unsigned(), Ordering::Relaxed);
    }
    let paused = row.read(3)?;
    let wait = match (startup, row.read::<Option<&str>>(6)?, row.read::<Option<&str>>(7)?) {
        (Some(startup), Some(class), Some(event)) => Some(waits.describe(link, class, event, startup).await),
        _ => None,
    };
    let age = row.read::<Option<f64>>(4)?.filter(|age| age.is_finite() && *age >= 0.0);
    Ok(ReplicaSample {
        at,
        monotonic,
        in_recovery,
        received: position(&row, 1)?,
        replayed: position(&row, 2)?,
        paused,
        wait: or_paused(wait, paused),
        last_replayed_commit_age: age.and_then(|age| Duration::try_from_secs_f64(age).ok()),
        timeline: row.read::<Option<i32>>(8)?.map(i32::cast_unsigned),
        streaming: row.read(9)?,
        apply_thread: startup,
    })
}

/// Where the wait is hidden from the role, or not seen at that moment, a pause still is one.
fn or_paused(wait: Option<ApplyWait>, paused: bool) -> Option<ApplyWait> {
    let pause = ApplyWait { kind: WaitKind::Paused, object: None, holder: None, own: false };
    wait.or_else(|| paused.then_some(pause))
}

fn position(row: &Answer, column: usize) -> Result<Option<u64>, DatabaseError> {
    Ok(row.read::<Option<PgLsn>>(column)?.map(u64::from))
}

pub(super) async fn info(link: &Link) -> Result<ReplicaInfo, DatabaseError> {
    let row = link.row("its replication", INFO, &[]).await?;
    let host: Option<String> = row.read(0)?;
    let port: Option<i32> = row.read(1)?;
    let delay = row.read::<Option<i64>>(5)?.and_then(|delay| u64::try_from(delay).ok());
    Ok(ReplicaInfo {
        upstream: host.map(|host| port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"))),
        slot: row.read(2)?,
        timeline: row.read::<Option<i32>>(3)?.map(i32::cast_unsigned),
        streaming: row.read(4)?,
        intended_delay: Duration::from_millis(delay.unwrap_or(0)),
    })
}

pub(super) async fn flushed(link: &Link, cluster: &ClusterId) -> Result<PrimaryPosition, DatabaseError> {
    // The session is opened first, so that the round trip is the question's alone.
    let session = link.session().await?;
    cluster::expect(link, &session, cluster).await?;
    let middle = Middle::begin();
    let row = link.row("the flushed position", FLUSHED, &[]).await?;
    let (monotonic, at) = middle.end();
    let (flushed, timeline): (PgLsn, i32) = (row.read(0)?, row.read(1)?);
    Ok(PrimaryPosition { monotonic, at, flushed: flushed.into(), timeline: timeline.cast_unsigned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_told_even_where_the_wait_is_hidden() {
        assert_eq!(or_paused(None, true).map(|wait| wait.kind), Some(WaitKind::Paused));
        assert_eq!(or_paused(None, false), None);
        let locked = ApplyWait { kind: WaitKind::Lock, object: None, holder: Some(7), own: false };
        assert_eq!(or_paused(Some(locked.clone()), true), Some(locked));
    }
}
