//! What the agent needs of a PostgreSQL server, looked at one by one, with what mends each that is missing.

use super::{
    grants::{self, LOST, ON_THE_PRIMARY, quote},
    link::Link,
};
use crate::{check::Finding, error::DatabaseError};

const RIGHTS: &str = "SELECT current_user::text, pg_catalog.pg_has_role(current_user, 'pg_monitor', 'USAGE'), \
     pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE'), \
     pg_catalog.pg_is_in_recovery(), current_setting('server_version_num')::int4, current_setting('server_version'), \
     pg_catalog.current_database()::text";
const SHUT: &str = "SELECT datname::text FROM pg_catalog.pg_database WHERE datallowconn AND datname <> 'template0' \
     AND NOT pg_catalog.has_database_privilege(oid, 'CONNECT') ORDER BY datname LIMIT 20";

/// Oldest version whose functions and columns have the names used here.
const OLDEST: i32 = 100_000;

pub(super) async fn check(link: &Link) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err(error) = look(link, &mut findings).await {
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
        | DatabaseError::NotUpstream { .. } => "point primary_dsn at this replica's primary".to_owned(),
        DatabaseError::Dsn { .. } => super::dsn::Dsn::EXAMPLE.to_owned(),
        DatabaseError::Timeout { .. } | DatabaseError::Yielded { .. } | DatabaseError::Backoff { .. } => {
            "look at the load of the server".to_owned()
        }
    };
    Finding::missing(error.root().to_string(), remedy)
}

async fn look(link: &Link, findings: &mut Vec<Finding>) -> Result<(), DatabaseError> {
    let row = link.row("the role's rights", RIGHTS, &[]).await?;
    let role: String = row.read(0)?;
    let version: String = row.read(5)?;
    findings.push(Finding::good(format!("connects to PostgreSQL {version} as {role}")));
    let quoted = quote(&role);
    findings.push(if row.read(1)? {
        Finding::good(format!("{role} is a member of pg_monitor"))
    } else {
        Finding::missing(format!("{role} is not a member of pg_monitor: {LOST}"), grants::monitor(&role))
    });
    findings.push(if row.read(2)? {
        Finding::good("the system identifier can be read")
    } else {
        Finding::missing(
            "the system identifier cannot be read by SQL; a remote server is told by its address only",
            format!(
                "{ON_THE_PRIMARY}, in database {}: GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_system() TO {quoted};",
                row.read::<&str>(6)?
            ),
        )
    });
    findings.push(if row.read(3)? {
        Finding::good("is a replica")
    } else {
        Finding::missing("is not a replica: there is no lag to attribute", "point dsn at a replica")
    });
    if row.read::<i32>(4)? < OLDEST {
        findings.push(Finding::missing("is older than PostgreSQL 10", "upgrade the server"));
    }
    for row in link.rows("its databases", SHUT, &[]).await? {
        let database: String = row.read(0)?;
        let grant = format!("{ON_THE_PRIMARY}: GRANT CONNECT ON DATABASE {} TO {quoted};", quote(&database));
        findings.push(Finding::missing(format!("names in database {database} cannot be read"), grant));
    }
    Ok(())
}
