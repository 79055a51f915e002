//! Beats on real servers: written on a primary alone, by an account that may do just that, and seen on a replica.

#![expect(
    clippy::duplicate_mod,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking and tells by printing; both engines' clusters need ports"
)]

#[expect(dead_code, reason = "other tests use more of it")]
mod cluster;
#[expect(dead_code, reason = "other tests use more of it")]
mod mariadb_cluster;

use std::time::{Duration, Instant, SystemTime};

use blameio_config::Secret;
use blameio_databases::{
    Beat, BeatTable, BeatWriter, Database, DatabaseError, DatabaseSettings, NotWritable, Written,
};
use cluster::{until, value};
use mysql_async::prelude::Queryable;
use uuid::Uuid;

fn table(create: bool) -> BeatTable {
    BeatTable { schema: "Beats of blameio".to_owned(), create }
}

fn beat(writer: u128, number: u64) -> Beat {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Beat {
        writer: Uuid::from_u128(writer),
        run: Uuid::from_u128(7),
        number,
        stamp: Duration::from_nanos(number),
        written: SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(since.as_micros()).unwrap()),
        pace: Duration::from_secs(1),
        name: "o'rders\\@host".to_owned(),
    }
}

/// The SQL that mends it.
fn remedy(written: Result<Written, DatabaseError>) -> String {
    match written {
        Err(DatabaseError::Heartbeat { sql, .. }) => sql,
        other => panic!("no SQL mends this: {other:?}"),
    }
}

async fn write(writer: &mut BeatWriter, beat: &Beat) {
    let before = Instant::now();
    let written = writer.write(beat).await;
    let Ok(Written::At { at, took }) = written else { panic!("it was not written: {written:?}") };
    assert!(at >= before && at <= Instant::now() && took <= before.elapsed(), "{at:?} {took:?}");
}

async fn shown(database: &Database, expected: &[&Beat]) {
    let reader = database.beat_reader(&table(false).schema);
    until("the beats are shown", async || {
        let mut seen = reader.read().await.ok()?.beats;
        seen.sort_by_key(|beat| beat.writer);
        (seen.iter().collect::<Vec<_>>() == expected).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_is_written_to_only_as_a_primary_and_without_a_table_the_sql_is_told() {
    let Some(cluster) = cluster::Cluster::start("beats on PostgreSQL") else { return };
    let (primary, replica) = (cluster.primary.watch(None).await, cluster.replica.watch(None).await);
    let sql = cluster.primary.sql("postgres").await;
    sql.batch_execute("CREATE ROLE beats LOGIN").await.unwrap();
    let settings =
        DatabaseSettings { dsn: Some(cluster.primary.dsn("beats")), ..DatabaseSettings::default() };
    let plain = cluster::watch(settings).await;

    let mut writer = plain.database.beat_writer(table(false));
    let told = remedy(writer.write(&beat(1, 1)).await);
    // The account may not make it either.
    let mut creator = plain.database.beat_writer(table(true));
    assert_eq!(remedy(creator.write(&beat(1, 1)).await), told);
    sql.batch_execute(&told).await.unwrap();
    // No standby is waited for, not even one that is not there.
    sql.batch_execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'").await.unwrap();
    sql.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    until("commits wait for standbys", async || {
        let fresh = cluster.primary.sql("postgres").await;
        (value::<String>(&fresh, "SHOW synchronous_standby_names").await == "nobody").then_some(())
    })
    .await;
    let mut other = primary.database.beat_writer(table(false));
    let (mine, theirs) = (beat(1, 3), beat(2, 1));
    for written in [&beat(1, 1), &beat(1, 2), &mine] {
        write(&mut writer, written).await;
    }
    write(&mut other, &theirs).await;
    shown(&replica.database, &[&mine, &theirs]).await;

    let mut below = replica.database.beat_writer(table(true));
    assert_eq!(below.write(&beat(3, 1)).await, Ok(Written::Not(NotWritable::Replica)));
    sql.batch_execute(
        "SET synchronous_commit = local; ALTER ROLE beats SET default_transaction_read_only = on",
    )
    .await
    .unwrap();
    let mut fresh = plain.database.beat_writer(table(false));
    assert_eq!(fresh.write(&beat(1, 4)).await, Ok(Written::Not(NotWritable::ReadOnly)));
    sql.batch_execute("DROP SCHEMA \"Beats of blameio\" CASCADE").await.unwrap();
    let mut maker = primary.database.beat_writer(table(true));
    let made = beat(2, 2);
    write(&mut maker, &made).await;
    shown(&replica.database, &[&made]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_is_written_to_only_as_a_primary_and_never_has_a_transaction_of_its_own_on_a_replica() {
    let Some(cluster) = mariadb_cluster::Cluster::start("beats on MariaDB").await else { return };
    let mut sql = cluster.primary.sql().await;
    for statement in [
        "CREATE USER beats@'127.0.0.1' IDENTIFIED BY 'x'",
        "CREATE USER super@'127.0.0.1' IDENTIFIED BY 'x'",
        "GRANT ALL ON *.* TO super@'127.0.0.1'",
    ] {
        sql.query_drop(statement).await.unwrap();
    }
    cluster.caught_up().await;
    let watch = async |dsn: Secret| mariadb_cluster::watch(dsn, None).await;
    let (plain, primary) =
        (watch(cluster.primary.tcp("beats:x")).await, watch(cluster.primary.tcp("super:x")).await);
    let replica = watch(cluster.replica.tcp("super:x")).await;

    let mut writer = plain.database.beat_writer(table(false));
    let told = remedy(writer.write(&beat(1, 1)).await);
    assert!(told.contains("'beats'@'127.0.0.1'") && told.contains("SLAVE MONITOR"), "{told}");
    for statement in told.split_terminator(';') {
        sql.query_drop(statement).await.unwrap();
    }
    let mut other = primary.database.beat_writer(table(false));
    let (mine, theirs) = (beat(1, 3), beat(2, 1));
    for written in [&beat(1, 1), &beat(1, 2), &mine] {
        write(&mut writer, written).await;
    }
    write(&mut other, &theirs).await;
    shown(&replica.database, &[&mine, &theirs]).await;

    // The replica takes writes from everybody, and so would have a transaction that no other server has.
    let mut below = replica.database.beat_writer(table(true));
    let mut there = cluster.replica.sql().await;
    for statement in ["DO 0", "STOP SLAVE", "SET GLOBAL read_only = 1", "START SLAVE"] {
        there.query_drop(statement).await.unwrap();
        assert_eq!(below.write(&beat(3, 1)).await, Ok(Written::Not(NotWritable::Replica)), "{statement}");
    }
    // Nor does a primary that is made read-only, whose account may write even so.
    for format in ["ROW", "MIXED", "STATEMENT"] {
        sql.query_drop(format!("SET GLOBAL binlog_format = {format}")).await.unwrap();
        let mut any = primary.database.beat_writer(table(false));
        let before: Option<String> = sql.query_first("SELECT @@gtid_binlog_pos").await.unwrap();
        sql.query_drop("SET GLOBAL read_only = 1").await.unwrap();
        assert_eq!(any.write(&beat(2, 2)).await, Ok(Written::Not(NotWritable::ReadOnly)), "{format}");
        let after: Option<String> = sql.query_first("SELECT @@gtid_binlog_pos").await.unwrap();
        assert_eq!(before, after);
        sql.query_drop("SET GLOBAL read_only = 0").await.unwrap();
        let theirs = beat(2, 3);
        write(&mut any, &theirs).await;
        shown(&replica.database, &[&mine, &theirs]).await;
    }
    let own: Option<String> = there.query_first("SELECT @@gtid_binlog_pos").await.unwrap();
    assert_eq!(own, Some(String::new()), "a replica that logs nothing of its primary's has logged something");

    sql.query_drop("DROP DATABASE `Beats of blameio`").await.unwrap();
    let mut maker = primary.database.beat_writer(table(true));
    let made = beat(2, 4);
    write(&mut maker, &made).await;
    shown(&replica.database, &[&made]).await;
}
