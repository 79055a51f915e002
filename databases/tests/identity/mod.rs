//! Who a server is, where several look alike.

use blameio_config::Secret;
use blameio_databases::DatabaseSettings;
use blameio_pipeline::Extension;

use super::{
    cluster::{Cluster, watch},
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
