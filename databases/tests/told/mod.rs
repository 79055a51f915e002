//! What the log says, and does not say, against a real PostgreSQL 15 primary and replica.

use std::{
    fmt::{Debug, Write as _},
    sync::{Mutex, OnceLock},
};

use crate::cluster::{Cluster, until, value, watch};
use blameio_config::Secret;
use blameio_databases::{DatabaseExtension, DatabaseSettings, discover};
use blameio_pipeline::Extension;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

/// Everything that any test of this program has logged of this crate.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Log;
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("blameio_databases")
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        LINES.lock().unwrap().push(line.0);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn listen() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| tracing::subscriber::set_global_default(Log).unwrap());
}

/// Lines of a level that hold all of these.
fn lines(level: Level, parts: &[&str]) -> Vec<String> {
    let lines = LINES.lock().unwrap();
    let fits =
        |line: &&String| line.starts_with(level.as_str()) && parts.iter().all(|part| line.contains(part));
    lines.iter().filter(fits).cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_grant_is_told_once_a_start() {
    let Some(cluster) = Cluster::start("a_missing_grant_is_told_once_a_start") else { return };
    listen();
    let primary = cluster.primary.sql("postgres").await;
    primary.batch_execute("CREATE ROLE \"Told Once\" LOGIN; CREATE ROLE told_granted LOGIN").await.unwrap();
    primary.batch_execute("GRANT pg_monitor TO told_granted").await.unwrap();
    cluster.caught_up().await;
    let settings =
        |user: &str| DatabaseSettings { dsn: Some(cluster.replica.dsn(user)), ..DatabaseSettings::default() };
    let told = || lines(Level::WARN, &["on the primary", "GRANT pg_monitor TO \"Told Once\";"]).len();
    let watched = watch(settings("Told%20Once")).await;
    let sample = async |what| {
        until(what, async || watched.database.replica().sample().await.ok()).await;
    };
    sample("a sample").await;
    assert_eq!(told(), 1);
    let replica = cluster.replica.sql("postgres").await;
    let ended =
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'blameio'";
    assert!(value::<i64>(&replica, ended).await > 0);
    sample("a sample in another session").await;
    assert_eq!(told(), 1);
    // The start time is told in seconds.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    cluster.down(&cluster.replica);
    cluster.up(&cluster.replica);
    sample("a sample after a restart").await;
    assert_eq!(told(), 2);
    watched.extension.shutdown().await;

    for user in ["told_granted", "postgres"] {
        let watched = watch(settings(user)).await;
        watched.database.replica().sample().await.unwrap();
        watched.extension.shutdown().await;
        assert!(lines(Level::WARN, &["pg_monitor", &format!("{user} is not")]).is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_password_and_a_dropped_database_are_told_for_what_they_are() {
    let Some(cluster) = Cluster::start("a_missing_password") else { return };
    listen();
    let dsn = Some(cluster.replica.dsn("locked"));
    let watched = watch(DatabaseSettings { dsn, ..DatabaseSettings::default() }).await;
    let error = watched.database.replica().sample().await.unwrap_err().root().to_string();
    assert!(error.contains("put one into the dsn") && error.contains("pg_hba.conf"), "{error}");
    assert!(!error.contains("check that the server runs") && !error.contains("tried again"), "{error}");
    // Who samples tells it; the workers do not tell it again.
    let address = format!("127.0.0.1:{}", cluster.replica.port);
    until("the catalog's worker has tried", async || {
        (!lines(Level::DEBUG, &["reading the catalog", &address]).is_empty()).then_some(())
    })
    .await;
    assert_eq!(lines(Level::WARN, &[&address]), Vec::<String>::new());
    watched.extension.shutdown().await;

    let primary = cluster.primary.sql("postgres").await;
    // A number of its own: databases of other tests' clusters have the usual ones, and are told of too.
    let oid = 424_242;
    primary.batch_execute(&format!("CREATE DATABASE told_dropped OID = {oid}")).await.unwrap();
    cluster.caught_up().await;
    let watched = cluster.replica.watch(None).await;
    let read = format!("database_oid={oid}");
    until("it is read", async || (!lines(Level::DEBUG, &["catalog read", &read]).is_empty()).then_some(()))
        .await;
    primary.batch_execute("DROP DATABASE told_dropped").await.unwrap();
    cluster.caught_up().await;
    let reader = watched.database.catalog();
    until("it is known to be gone", async || {
        reader.resolve(&format!("base/{oid}/99999"));
        (!lines(Level::DEBUG, &["dropped or renamed meanwhile", &read]).is_empty()).then_some(())
    })
    .await;
    assert_eq!(lines(Level::WARN, &[&read]), Vec::<String>::new());
    watched.extension.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_here_that_cannot_be_seen_is_not_told_to_be_elsewhere() {
    let Some(cluster) = Cluster::start("a_server_here_that_cannot_be_seen") else { return };
    listen();
    let id = "database/told_unseen".parse().unwrap();
    let dsn = Some(Secret::new(format!("postgresql://postgres@127.0.0.1:{}/postgres", cluster.replica.port)));
    let data_directory = Some("/nowhere".into());
    let extension =
        DatabaseExtension::new(id, DatabaseSettings { dsn, data_directory, ..DatabaseSettings::default() })
            .unwrap();
    extension.start().await.unwrap();
    until("it is told", async || {
        let told = lines(Level::WARN, &["told_unseen", "cannot be seen", "CAP_SYS_PTRACE"]);
        (!told.is_empty()).then_some(())
    })
    .await;
    assert_eq!(lines(Level::INFO, &["told_unseen", "not on this host"]), Vec::<String>::new());
    extension.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_told_from_its_primary() {
    let Some(cluster) = Cluster::start("a_standby_is_told_from_its_primary") else { return };
    let found = discover();
    let on = |port: u16| found.iter().find(|server| server.port == port).unwrap();
    let (primary, replica) = (on(cluster.primary.port), on(cluster.replica.port));
    assert!(replica.is_standby && !primary.is_standby);
    assert_eq!(replica.system_identifier, primary.system_identifier);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_without_a_relation_does_not_keep_its_database_from_being_read() {
    let test = "a_chunk_without_a_relation_does_not_keep_its_database_from_being_read";
    let Some(cluster) = Cluster::start(test) else { return };
    listen();
    let primary = cluster.primary.sql("postgres").await;
    // A number of its own: databases of other tests' clusters have the usual ones, and are told of too.
    let oid = 434_343;
    primary.batch_execute(&format!("CREATE DATABASE told_chunks OID = {oid}")).await.unwrap();
    let catalog = "CREATE SCHEMA _timescaledb_catalog; \
        CREATE TABLE _timescaledb_catalog.hypertable (id int, schema_name name, table_name name); \
        CREATE TABLE _timescaledb_catalog.chunk (id int, relid regclass, hypertable_id int); \
        INSERT INTO _timescaledb_catalog.chunk VALUES (91, NULL, 1)";
    cluster.primary.sql("told_chunks").await.batch_execute(catalog).await.unwrap();
    cluster.caught_up().await;
    let watched = cluster.replica.watch(None).await;
    let read = format!("database_oid={oid}");
    until("it is read", async || (!lines(Level::DEBUG, &["catalog read", &read]).is_empty()).then_some(()))
        .await;
    watched.extension.shutdown().await;
}
