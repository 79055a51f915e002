//! The few statements that the laboratory itself sends.
//!
//! No pool and no TLS: its servers listen on 127.0.0.1 and trust everybody.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio_postgres::types::PgLsn;
use tokio_postgres::{Client, NoTls};

use super::{Cluster, LabError};

/// Connects. The connection's own task ends when the client is dropped.
pub async fn connect(dsn: &str) -> Result<Client, LabError> {
    let (client, connection) =
        tokio_postgres::connect(dsn, NoTls).await.map_err(LabError::sql(format!("connect to {dsn}")))?;
    tokio::spawn(async move {
        // A laboratory server is stopped under its clients' feet: the statement that fails tells it.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "laboratory connection ended");
        }
    });
    Ok(client)
}

/// Runs statements that return nothing of interest.
pub async fn execute(client: &Client, statements: &str) -> Result<(), LabError> {
    client.batch_execute(statements).await.map_err(LabError::sql(statements))
}

/// How far the primary's WAL is on its disk.
pub async fn flushed(client: &Client) -> Result<u64, LabError> {
    lsn(client, "SELECT pg_current_wal_flush_lsn()").await.map(Option::unwrap_or_default)
}

/// How far the replica has replayed.
pub async fn replayed(client: &Client) -> Result<u64, LabError> {
    lsn(client, "SELECT pg_last_wal_replay_lsn()").await.map(Option::unwrap_or_default)
}

async fn lsn(client: &Client, query: &str) -> Result<Option<u64>, LabError> {
    let row = client.query_one(query, &[]).await.map_err(LabError::sql(query))?;
    let lsn: Option<PgLsn> = row.try_get(0).map_err(LabError::sql(query))?;
    Ok(lsn.map(u64::from))
}

/// Waits until the replica has replayed `target`.
pub async fn wait_replayed(replica: &Client, target: u64, deadline: Duration) -> Result<(), LabError> {
    let end = Instant::now() + deadline;
    while replayed(replica).await? < target {
        if Instant::now() > end {
            return Err(LabError::Deadline { what: "the replica to catch up".to_owned(), waited: deadline });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// The first file of a relation under a cluster's data directory; the path is the same on a replica.
pub async fn relation_file(client: &Client, cluster: &Cluster, relation: &str) -> Result<PathBuf, LabError> {
    let query = "SELECT pg_relation_filepath($1::text::regclass)";
    let row = client
        .query_one(query, &[&relation])
        .await
        .map_err(LabError::sql(format!("look for the file of {relation}")))?;
    let path: String = row.try_get(0).map_err(LabError::sql(query))?;
    Ok(cluster.data().join(path))
}
