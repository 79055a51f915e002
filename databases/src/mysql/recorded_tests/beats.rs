//! Beats that are written to recorded servers, and refused by them.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::Stage;
use crate::{
    engine::Engine,
    error::DatabaseError,
    heartbeat::{Beat, BeatTable, NotWritable, WriteBeats, Written, time},
};

const SCHEMA: &str = "beats";

/// The same whenever it is asked for, as statements have it in them.
fn beat(writer: u128, number: u64) -> Beat {
    Beat {
        writer: Uuid::from_u128(writer),
        run: Uuid::from_u128(7),
        number,
        stamp: Duration::from_secs(number) + Duration::from_nanos(1),
        written: time(1_795_000_000_000_001) + Duration::from_secs(number),
        pace: Duration::from_millis(250),
        name: "o'rders\\höst".to_owned(),
    }
}

/// What `write_all` leaves: one of each writer, the newest first.
pub(super) fn newest() -> Vec<Beat> {
    vec![beat(1, 3), beat(2, 2)]
}

/// A writer with a session of its own.
fn writer(engine: &dyn Engine, create: bool) -> Box<dyn WriteBeats> {
    engine.beats(BeatTable { schema: SCHEMA.to_owned(), create })
}

async fn written(writer: &mut dyn WriteBeats, beat: &Beat, what: &str) {
    let begun = Instant::now();
    let Written::At { at, took } = writer.write(beat).await.unwrap() else {
        panic!("{what}: {beat:?} is not written")
    };
    assert!(begun <= at && at <= Instant::now() && took <= begun.elapsed(), "{what}");
}

async fn shown(engine: &dyn Engine, expected: &[Beat], what: &str) {
    assert_eq!(engine.newest_beats(SCHEMA).await.unwrap().beats, expected, "{what}");
}

/// Makes the table with the first.
pub(super) async fn write_all(engine: &dyn Engine) {
    let mut writer = writer(engine, true);
    for beat in [beat(1, 1), beat(2, 2), beat(1, 3)] {
        written(&mut *writer, &beat, "the primary").await;
    }
}

/// That a session which is new to the server does not write.
pub(super) async fn are_refused(engine: &dyn Engine, why: NotWritable, what: &str) {
    assert_eq!(writer(engine, true).write(&beat(3, 9)).await, Ok(Written::Not(why)), "{what}");
}

/// The SQL that mends what is missing.
fn remedy(error: &DatabaseError, reason: &str, what: &str) -> String {
    let DatabaseError::Heartbeat { reason: told, sql, .. } = error else { panic!("{what}: {error}") };
    assert!(told.contains(reason), "{what}: {told}");
    sql.clone()
}

pub(super) async fn on_primary(stage: &mut Stage, engine: &dyn Engine, what: &str) {
    stage.enter("no table").await;
    let to_write = writer(engine, false).write(&beat(1, 1)).await.unwrap_err();
    let to_read = engine.newest_beats(SCHEMA).await.unwrap_err();
    for error in [to_write, to_read] {
        let sql = remedy(&error, "there is no table `beats`.heartbeat", what);
        assert!(sql.contains("CREATE TABLE IF NOT EXISTS `beats`.heartbeat (writer"), "{what}: {sql}");
        assert!(sql.contains("ON `beats`.heartbeat TO 'agent'@'127.0.0.1'"), "{what}: {sql}");
    }
    stage.enter("beats").await;
    write_all(engine).await;
    shown(engine, &newest(), what).await;
    stage.enter("read-only").await;
    are_refused(engine, NotWritable::ReadOnly, what).await;
    // Somebody makes it read-only just after it was asked whether it is: it refuses the account, and where the account may
    // write even so, the statement writes nothing.
    stage.enter("read-only meanwhile").await;
    are_refused(engine, NotWritable::ReadOnly, what).await;
    stage.enter("read-only meanwhile for others").await;
    let (mighty, _) = stage.engine("super");
    are_refused(&*mighty, NotWritable::ReadOnly, what).await;
    mighty.close(false).await;
    stage.enter("read-only transactions").await;
    are_refused(engine, NotWritable::ReadOnly, what).await;
    stage.enter("statements logged").await;
    written(&mut *writer(engine, false), &beat(2, 4), what).await;
    shown(engine, &[beat(2, 4), beat(1, 3)], what).await;
}

pub(super) async fn on_replica(stage: &mut Stage, engine: &dyn Engine, what: &str) {
    stage.enter("beats").await;
    shown(engine, &newest(), what).await;
    are_refused(engine, NotWritable::Replica, what).await;
}

pub(super) async fn when_promoted(engine: &dyn Engine, what: &str) {
    written(&mut *writer(engine, false), &beat(2, 4), what).await;
    shown(engine, &[beat(2, 4), beat(1, 3)], what).await;
}

pub(super) async fn without_privileges(engine: &dyn Engine, what: &str) {
    let to_write = writer(engine, true).write(&beat(1, 1)).await.unwrap_err();
    let to_read = engine.newest_beats(SCHEMA).await.unwrap_err();
    let status = if what.starts_with("mariadb") { "SLAVE MONITOR" } else { "REPLICATION CLIENT" };
    for error in [to_write, to_read] {
        let sql = remedy(&error, "agent@127.0.0.1 may not use or make the table", what);
        assert!(sql.contains(&format!("GRANT {status} ON *.* TO 'agent'@'127.0.0.1'")), "{what}: {sql}");
    }
}
