//! Who a server is, where several look alike.

use std::time::{Duration, Instant};

use blameio_config::Secret;
use blameio_databases::DatabaseSettings;
use blameio_pipeline::Extension;

use super::{
    cluster::{Cluster, until, watch, wire::Wire},
    view,
};

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_one_port_are_told_apart_and_a_single_one_is_named_by_its_host() {
    let test = "servers_of_one_port_are_told_apart_and_a_single_one_is_named_by_its_host";
    let Some(cluster) = Cluster::start(test) else { return };
    let identity = async |dsn: String| {
        let watched =
            watch(DatabaseSettings { dsn: Some(Secret::new(dsn)), ..DatabaseSettings::default() }).await;
        let view = view(&watched.database, "its processes are seen", |view| !view.processes.is_empty()).await;
        watched.extension.shutdown().await;
        let identity = view.identity.clone().unwrap();
        (identity.address.clone(), identity.port, identity.instance_id)
    };
    let host = blameio_pipeline::machine::host_name().to_owned();
    let (primary, replica) = (&cluster.primary, &cluster.replica);
    let encoded = |path: &std::path::Path| path.display().to_string().replace('/', "%2F");
    let shared = primary.directory.parent().unwrap();
    let by_socket =
        |path: &std::path::Path, port: u16| format!("postgresql://postgres@{}:{port}", encoded(path));
    let alone = identity(by_socket(shared, replica.port)).await;
    assert_eq!((&alone.0, alone.1), (&host, replica.port));

    // The same port, at another socket.
    let sql = replica.sql("postgres").await;
    for setting in [
        format!("port = {}", primary.port),
        "listen_addresses = ''".to_owned(),
        format!("unix_socket_directories = '{}'", replica.directory.display()),
    ] {
        sql.batch_execute(&format!("ALTER SYSTEM SET {setting}")).await.unwrap();
    }
    drop(sql);
    cluster.down(replica);
    cluster.up(replica);
    let moved = identity(by_socket(&replica.directory, primary.port)).await;
    assert_eq!((moved.0, moved.1, moved.2), (replica.directory.display().to_string(), primary.port, alone.2));
    let other = identity(by_socket(shared, primary.port)).await;
    assert_eq!((other.0, other.1), (shared.display().to_string(), primary.port));
    assert_ne!(other.2, alone.2);

    // The same port, in a container: then neither has the other's name.
    cluster.down(replica);
    if cluster.up_in_container(replica, "pod-7").is_none() {
        return;
    }
    let contained = identity(by_socket(&replica.directory, primary.port)).await;
    assert_eq!((contained.0, contained.2), ("pod-7".to_owned(), alone.2));
    assert_eq!(identity(by_socket(shared, primary.port)).await, (host, primary.port, other.2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_in_time_where_it_is_is_asked_again_at_once() {
    let test = "a_server_that_does_not_answer_in_time_where_it_is_is_asked_again_at_once";
    let Some(cluster) = Cluster::start(test) else { return };
    let primary = cluster.primary.sql("postgres").await;
    // Its start time, which tells who it is, takes longer than the agent allows where it is asked for alone.
    let start_time = |pause: u32| {
        format!(
            "CREATE OR REPLACE FUNCTION pg_catalog.pg_postmaster_start_time() RETURNS timestamptz LANGUAGE plpgsql AS \
             $$ BEGIN IF current_query() LIKE 'SELECT floor%' THEN PERFORM pg_catalog.pg_sleep({pause}); END IF; \
             RETURN pg_catalog.its_start_time(); END $$"
        )
    };
    let rename = "ALTER FUNCTION pg_catalog.pg_postmaster_start_time() RENAME TO its_start_time";
    primary.batch_execute(rename).await.unwrap();
    primary.batch_execute(&start_time(5)).await.unwrap();
    cluster.caught_up().await;
    // A port that is not the server's own: the address does not tell which of the servers here it is.
    let wire = Wire::to(cluster.replica.port).await;
    let dsn = Some(Secret::new(format!("postgresql://postgres@127.0.0.1:{}/postgres", wire.port)));
    let watched = watch(DatabaseSettings { dsn, ..DatabaseSettings::default() }).await;
    let log = cluster.replica.directory.join("server.log");
    until("it was too slow for a first look, and a second", async || {
        let log = std::fs::read_to_string(&log).unwrap();
        (log.matches("canceling statement due to statement timeout").count() >= 2).then_some(())
    })
    .await;
    primary.batch_execute(&start_time(0)).await.unwrap();
    cluster.caught_up().await;
    let begun = Instant::now();
    view(&watched.database, "its processes are seen", |view| !view.processes.is_empty()).await;
    assert!(begun.elapsed() < Duration::from_secs(15), "it took {:?}", begun.elapsed());
    watched.extension.shutdown().await;
}
