//! Which server on this host a connection string leads to, if any.
//!
//! The address decides where it can; where it cannot (published ports of containers, several servers on one
//! port), the server is asked for its start time and system identifier.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio_postgres::config::Host;

use super::{cluster, dsn::Dsn, link::Link};
use crate::{discover::DiscoveredServer, error::DatabaseError, procfs};

/// Seconds that the start time in `postmaster.pid` may differ from the one that SQL tells.
const START_TOLERANCE: i64 = 2;

/// What is known of a server's place beside its connection string.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    /// Data directory that the operator named, as the agent sees it.
    pub(crate) directory: Option<PathBuf>,
    /// What discovery found.
    pub(crate) discovered: Option<Arc<DiscoveredServer>>,
}

/// `None` is an answer: it is none of these. An error is a question without one.
pub(super) async fn locate(
    link: &Link,
    place: &Place,
    found: &[Arc<DiscoveredServer>],
) -> Result<Option<Arc<DiscoveredServer>>, DatabaseError> {
    let found: Vec<_> = found.iter().filter(|server| server.system == super::SYSTEM).collect();
    let dsns = link.reach().dsns();
    let chosen = match (place, dsns.first()) {
        (Place { discovered: Some(server), .. }, _) => again(server, &found),
        (Place { directory: Some(directory), .. }, _) => {
            let directory = directory.clone();
            looked(&found, move |found| by_directory(&directory, found)).await
        }
        (_, Some(dsn)) if link.reach().is_declared() => {
            if !is_local(dsn).await {
                return Ok(None);
            }
            let local = dsn.clone();
            match looked(&found, move |found| by_address(&local, found)).await {
                Some(server) => Some(server),
                None => by_asking(link, &found).await?,
            }
        }
        _ => only(&found),
    };
    let Some(chosen) = chosen else { return Ok(None) };
    if !link.reach().is_declared() {
        link.reach().adopt(chosen.dsns.iter().filter_map(|dsn| Dsn::parse(dsn).ok()).collect());
    }
    Ok(Some(chosen))
}

/// Chooses off the async threads: directories of others are looked at.
async fn looked(
    found: &[&Arc<DiscoveredServer>],
    choose: impl FnOnce(&[&Arc<DiscoveredServer>]) -> Option<Arc<DiscoveredServer>> + Send + 'static,
) -> Option<Arc<DiscoveredServer>> {
    let found: Vec<Arc<DiscoveredServer>> = found.iter().map(|server| Arc::clone(server)).collect();
    tokio::task::spawn_blocking(move || choose(&found.iter().collect::<Vec<_>>())).await.ok().flatten()
}

/// The server that was discovered, in whatever process it runs now.
fn again(server: &DiscoveredServer, found: &[&Arc<DiscoveredServer>]) -> Option<Arc<DiscoveredServer>> {
    let kept = found.iter().find(|other| other.data_directory_id == server.data_directory_id);
    kept.map(|other| Arc::clone(other)).or_else(|| {
        let same = |other: &&Arc<DiscoveredServer>| {
            other.data_directory == server.data_directory && other.port == server.port
        };
        only(&found.iter().copied().filter(same).collect::<Vec<_>>())
    })
}

fn only(found: &[&Arc<DiscoveredServer>]) -> Option<Arc<DiscoveredServer>> {
    match found {
        [server] => Some(Arc::clone(server)),
        _ => None,
    }
}

fn by_directory(directory: &Path, found: &[&Arc<DiscoveredServer>]) -> Option<Arc<DiscoveredServer>> {
    let identity = procfs::identity(directory);
    let kept = found.iter().find(|server| Some(server.data_directory_id) == identity);
    kept.map(|server| Arc::clone(server)).or_else(|| {
        // The path may be the one inside of a container, where several servers may have the same.
        let same = |server: &&Arc<DiscoveredServer>| server.data_directory == directory;
        only(&found.iter().copied().filter(same).collect::<Vec<_>>())
    })
}

/// Whether a server that was not found should have been.
pub(super) async fn is_on_this_host(link: &Link) -> bool {
    match link.reach().dsns().first() {
        Some(dsn) => is_local(dsn).await,
        None => false,
    }
}

async fn is_local(dsn: &Dsn) -> bool {
    match dsn.config.get_hosts().first() {
        Some(Host::Unix(_)) => true,
        Some(Host::Tcp(name)) => {
            let (_, port) = dsn.address();
            let Ok(mut addresses) = tokio::net::lookup_host((name.as_str(), port)).await else {
                return false;
            };
            let own = own_addresses();
            addresses.any(|address| address.ip().is_loopback() || own.contains(&address.ip()))
        }
        None => {
            let own = own_addresses();
            dsn.config
                .get_hostaddrs()
                .first()
                .is_some_and(|address| address.is_loopback() || own.contains(address))
        }
    }
}

fn own_addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
        })
        .collect()
}

fn by_address(dsn: &Dsn, found: &[&Arc<DiscoveredServer>]) -> Option<Arc<DiscoveredServer>> {
    let (_, port) = dsn.address();
    let on_port: Vec<_> = found.iter().filter(|server| server.port == port).copied().collect();
    let Some(Host::Unix(socket)) = dsn.config.get_hosts().first() else {
        let reachable: Vec<_> = on_port.into_iter().filter(|server| server.same_network).collect();
        return only(&reachable);
    };
    let same = |server: &&Arc<DiscoveredServer>| {
        let Some(directory) = &server.socket_directory else { return false };
        let below = directory.strip_prefix("/").unwrap_or(directory);
        let seen = Path::new("/proc").join(server.pid.to_string()).join("root").join(below);
        directory == socket || procfs::identity(&seen).is_some_and(|id| procfs::identity(socket) == Some(id))
    };
    only(&on_port.into_iter().filter(same).collect::<Vec<_>>())
}

async fn by_asking(
    link: &Link,
    found: &[&Arc<DiscoveredServer>],
) -> Result<Option<Arc<DiscoveredServer>>, DatabaseError> {
    if found.is_empty() {
        return Ok(None);
    }
    let started = cluster::started(link).await?;
    // Where the role may not see it, the start time alone decides.
    let identifier = cluster::system_identifier(link).await?;
    let same = |server: &&Arc<DiscoveredServer>| {
        (server.started - started).abs() <= START_TOLERANCE
            && server.system_identifier.zip(identifier).is_none_or(|(known, asked)| known == asked)
    };
    let mut same: Vec<_> = found.iter().copied().filter(same).collect();
    if same.len() > 1 {
        // A primary and its replica may have been started together.
        let recovers = cluster::is_in_recovery(link).await?;
        same.retain(|server| server.is_standby == recovers);
    }
    Ok(only(&same))
}
