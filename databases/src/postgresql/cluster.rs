//! Which cluster a PostgreSQL server belongs to, and since when it runs, asked by SQL.

use std::sync::{Arc, OnceLock};

use super::{connect::Session, link::Link};
use crate::{error::DatabaseError, identity::ClusterId};

/// What makes a cluster unlike all others; `None` where the role may not see it.
pub(super) async fn system_identifier(link: &Link) -> Result<Option<u64>, DatabaseError> {
    let sql = "SELECT system_identifier FROM pg_catalog.pg_control_system()";
    match link.row("its system identifier", sql, &[]).await {
        // PostgreSQL shows an unsigned number as a signed one.
        Ok(row) => row.read::<i64>(0).map(|identifier| Some(identifier.cast_unsigned())),
        Err(error) if is_forbidden(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a function may not be called, or is not there.
fn is_forbidden(error: &DatabaseError) -> bool {
    matches!(error.code(), Some("42501" | "42883"))
}

/// When the server was started, as seconds since the epoch.
pub(super) async fn started(link: &Link) -> Result<i64, DatabaseError> {
    let sql = "SELECT floor(extract(epoch FROM pg_catalog.pg_postmaster_start_time()))::bigint";
    link.row("its start time", sql, &[]).await?.read(0)
}

/// Whether it is a replica.
pub(super) async fn is_in_recovery(link: &Link) -> Result<bool, DatabaseError> {
    link.row("whether it is a replica", "SELECT pg_catalog.pg_is_in_recovery()", &[]).await?.read(0)
}

/// Asked once a session; `None` inside where the role may not see it.
pub(super) type Asked = OnceLock<Option<u64>>;

/// Refuses a server that is not of the expected cluster, as far as both are known.
pub(super) async fn expect(
    link: &Link,
    session: &Arc<Session>,
    expected: &ClusterId,
) -> Result<(), DatabaseError> {
    let Some(expected) = expected.get() else { return Ok(()) };
    let actual = match session.cluster.get() {
        Some(actual) => *actual,
        None => {
            let actual = system_identifier(link).await?;
            *session.cluster.get_or_init(|| actual)
        }
    };
    if actual.is_none_or(|actual| actual == expected) {
        return Ok(());
    }
    let (host, port) = link.address();
    let error = DatabaseError::AnotherCluster { server: format!("{host}:{port}") };
    link.refuse(session, &error);
    Err(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_missing_right_or_function_is_no_failure() {
        for (code, forbidden) in [("42501", true), ("42883", true), ("57014", false), ("53300", false)] {
            let error = DatabaseError::Query {
                server: "db7".to_owned(),
                purpose: "x",
                code: code.to_owned(),
                remedy: String::new(),
            };
            assert_eq!(is_forbidden(&error), forbidden, "{code}");
        }
    }
}
