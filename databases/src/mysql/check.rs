//! What the agent needs of a MySQL server, looked at one by one, with what mends each that is missing.

use super::{
    grants::{self, Grant},
    keys,
    link::Link,
};
use crate::{catalog::Object, check::Finding, error::DatabaseError};

/// So many tables are named in one finding.
const NAMED: usize = 10;

pub(super) async fn check(link: &Link, is_replica: Result<bool, DatabaseError>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err(error) = look(link, is_replica, &mut findings).await {
        findings.push(failed(&error));
    }
    findings
}

fn failed(error: &DatabaseError) -> Finding {
    let remedy = match error.root() {
        DatabaseError::Connect { remedy, .. }
        | DatabaseError::Refused { remedy, .. }
        | DatabaseError::Query { remedy, .. }
        | DatabaseError::Heartbeat { sql: remedy, .. }
        | DatabaseError::NotConfigured { remedy, .. } => remedy.clone(),
        DatabaseError::AnotherCluster { .. }
        | DatabaseError::InRecovery { .. }
        | DatabaseError::NotUpstream { .. } => {
            "point primary_dsn at the server that this one replicates from".to_owned()
        }
        DatabaseError::Dsn { .. } => super::dsn::Dsn::EXAMPLE.to_owned(),
        DatabaseError::Timeout { .. } | DatabaseError::Yielded { .. } | DatabaseError::Backoff { .. } => {
            "look at the load of the server".to_owned()
        }
    };
    Finding::missing(error.root().to_string(), remedy)
}

async fn look(
    link: &Link,
    is_replica: Result<bool, DatabaseError>,
    findings: &mut Vec<Finding>,
) -> Result<(), DatabaseError> {
    let about = link.known().await?;
    let name = if about.is_mariadb { "MariaDB" } else { "MySQL" };
    findings.push(Finding::good(format!("connects to {name} {} as {}", about.version, about.account)));
    let missing = |grant: &Grant| {
        Finding::missing(format!("{} lacks a privilege: {}", about.account, grant.lost), grant.sql(&about))
    };
    findings.push(match is_replica {
        Ok(true) => Finding::good("is a replica"),
        Ok(false) => {
            Finding::missing("is not a replica: there is no lag to attribute", "point dsn at a replica")
        }
        Err(error) if is_forbidden(&error) => missing(&grants::POSITIONS),
        Err(error) => return Err(error),
    });
    let threads = if about.is_mariadb { None } else { Some(&grants::THREADS) };
    for grant in std::iter::once(&grants::PROCESSES).chain(threads) {
        match link.rows("the account's privileges", grant.probe).await {
            Ok(rows) if rows.is_empty() && grant.probe == grants::THREADS.probe => {
                findings.push(Finding::missing(
                    "performance_schema is off: the applier's thread, the roles of others and who holds a lock cannot be seen",
                    "set performance_schema = ON in the server's configuration, and restart it",
                ));
            }
            Ok(_) => {}
            Err(error) if is_forbidden(&error) => findings.push(missing(grant)),
            Err(error) => return Err(error),
        }
    }
    // Without the privilege that this needs it was told above that it is missing.
    if let Ok(tables) = keys::without(link).await {
        findings.extend(without_key(&tables));
    }
    Ok(())
}

/// Tables without a primary key: the agent lacks nothing, so that this is no fault.
fn without_key(tables: &[Object]) -> Option<Finding> {
    let named: Vec<String> =
        tables.iter().take(NAMED).map(|table| format!("{}.{}", table.namespace, table.table)).collect();
    let more = tables.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!named.is_empty()).then(|| {
        Finding::good(format!(
            "mind that tables without a primary key are read as a whole for each of their rows that is changed or deleted: \
             {}{more}",
            named.join(", ")
        ))
    })
}

/// Whether a privilege is missing.
fn is_forbidden(error: &DatabaseError) -> bool {
    matches!(error.code(), Some("1044" | "1142" | "1227"))
}
