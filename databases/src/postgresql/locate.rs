//! Which PostgreSQL server on this host a connection string leads to, if any.

use std::sync::Arc;

use tokio_postgres::config::Host;

use super::{cluster, dsn::Dsn, link::Link};
use crate::{
    discover::DiscoveredServer,
    error::DatabaseError,
    locate::{self, Place, Target, Told},
};

/// `None` is an answer: it is none of these. An error is a question without one.
pub(super) async fn locate(
    link: &Link,
    place: &Place,
    found: &[Arc<DiscoveredServer>],
) -> Result<Option<Arc<DiscoveredServer>>, DatabaseError> {
    let found: Vec<_> = found.iter().filter(|server| server.system == super::SYSTEM).collect();
    let declared = link.reach().is_declared();
    let target = link.reach().dsns().first().filter(|_| declared).map(target);
    let ask = async || {
        Ok(Told {
            started: cluster::started(link).await?,
            identifier: cluster::system_identifier(link).await?,
            is_standby: Some(cluster::is_in_recovery(link).await?),
        })
    };
    let Some(chosen) = locate::locate(place, target, &found, ask).await? else { return Ok(None) };
    if !declared {
        link.reach().adopt(chosen.dsns.iter().filter_map(|dsn| Dsn::parse(dsn).ok()).collect());
    }
    Ok(Some(chosen))
}

fn target(dsn: &Dsn) -> Target {
    let (host, port) = dsn.address();
    match dsn.config.get_hosts().first() {
        Some(Host::Unix(directory)) => Target::Socket(directory.clone(), Some(port)),
        _ => Target::Tcp(host, port),
    }
}

/// Whether a server that was not found should have been.
pub(super) async fn is_on_this_host(link: &Link) -> bool {
    match link.reach().dsns().first() {
        Some(dsn) => target(dsn).is_on_this_host().await,
        None => false,
    }
}
