//! Which MySQL server on this host a connection string leads to, if any.

use std::sync::Arc;

use super::{
    MARIADB, MYSQL,
    dsn::{Dsn, Host},
    link::Link,
    server,
};
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
    let found: Vec<_> = found.iter().filter(|server| [MYSQL, MARIADB].contains(&server.system)).collect();
    let target = link.dsns().first().filter(|_| link.is_declared()).map(target);
    let ask = async || {
        let (started, identifier) = (server::started(link).await?, server::uuid(link).await?);
        Ok(Told { started, identifier, is_standby: None })
    };
    let Some(chosen) = locate::locate(place, target, &found, ask).await? else { return Ok(None) };
    if !link.is_declared() {
        link.adopt(chosen.dsns.iter().filter_map(|dsn| Dsn::parse(dsn).ok()).collect());
    }
    Ok(Some(chosen))
}

fn target(dsn: &Dsn) -> Target {
    match &dsn.host {
        Host::Tcp(host, port) => Target::Tcp(host.clone(), *port),
        Host::Socket(path) => Target::Socket(path.clone(), None),
    }
}

/// Whether a server that was not found should have been.
pub(super) async fn is_on_this_host(link: &Link) -> bool {
    match link.dsns().first() {
        Some(dsn) => target(dsn).is_on_this_host().await,
        None => false,
    }
}
