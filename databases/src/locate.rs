//! Which server on this host a connection string leads to, if any: what every engine shares.
//!
//! The address decides where it can; where it cannot (published ports of containers, several servers on one
//! port), the server is asked for its start time and identifier.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{discover::DiscoveredServer, error::DatabaseError, procfs};

/// Seconds that the start time that is read on this host may differ from the one that SQL tells.
const START_TOLERANCE: i64 = 2;

/// What is known of a server's place beside its connection string.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    /// Data directory that the operator named, as the agent sees it.
    pub(crate) directory: Option<PathBuf>,
    /// What discovery found.
    pub(crate) discovered: Option<Arc<DiscoveredServer>>,
}

/// Where a connection string leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A name or an address, and a port.
    Tcp(String, u16),
    /// A socket, or the directory of one, and the port where it is needed to tell which.
    Socket(PathBuf, Option<u16>),
}

/// What a server says of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    /// When it was started, as seconds since the epoch.
    pub(crate) started: i64,
    /// What makes it unlike others, where that may be seen.
    pub(crate) identifier: Option<u64>,
    /// Whether it recovers, where that can be seen from outside too.
    pub(crate) is_standby: Option<bool>,
}

/// The server of these that is meant. Without a target the place decides alone. `None` is an answer: it is none of these.
/// An error is a question without one.
pub(crate) async fn locate(
    place: &Place,
    target: Option<Target>,
    found: &[&Arc<DiscoveredServer>],
    ask: impl AsyncFnOnce() -> Result<Told, DatabaseError>,
) -> Result<Option<Arc<DiscoveredServer>>, DatabaseError> {
    Ok(match (place, target) {
        (Place { discovered: Some(server), .. }, _) => again(server, found),
        (Place { directory: Some(directory), .. }, _) => {
            let directory = directory.clone();
            looked(found, move |found| by_directory(&directory, found)).await
        }
        (_, Some(target)) => {
            if !target.is_on_this_host().await {
                return Ok(None);
            }
            match looked(found, move |found| by_address(&target, found)).await {
                Some(server) => Some(server),
                None if found.is_empty() => None,
                None => by_answer(&ask().await?, found),
            }
        }
        _ => only(found),
    })
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

impl Target {
    /// Whether it leads to this host.
    pub(crate) async fn is_on_this_host(&self) -> bool {
        let Self::Tcp(host, port) = self else { return true };
        let Ok(mut addresses) = tokio::net::lookup_host((host.as_str(), *port)).await else {
            return false;
        };
        let own = own_addresses();
        addresses.any(|address| address.ip().is_loopback() || own.contains(&address.ip()))
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

fn by_address(target: &Target, found: &[&Arc<DiscoveredServer>]) -> Option<Arc<DiscoveredServer>> {
    let wanted = match target {
        Target::Tcp(_, port) => Some(*port),
        Target::Socket(_, port) => *port,
    };
    let on_port = found.iter().copied().filter(|server| wanted.is_none_or(|port| server.port == port));
    match target {
        Target::Socket(path, _) => by_socket(path, on_port),
        Target::Tcp(..) => only(&on_port.filter(|server| server.same_network).collect::<Vec<_>>()),
    }
}

fn by_socket<'a>(
    socket: &Path,
    found: impl Iterator<Item = &'a Arc<DiscoveredServer>>,
) -> Option<Arc<DiscoveredServer>> {
    let same = |server: &&Arc<DiscoveredServer>| {
        let Some(path) = &server.socket else { return false };
        let below = path.strip_prefix("/").unwrap_or(path);
        let seen = Path::new("/proc").join(server.pid.to_string()).join("root").join(below);
        path == socket || procfs::identity(&seen).is_some_and(|id| procfs::identity(socket) == Some(id))
    };
    only(&found.filter(same).collect::<Vec<_>>())
}

/// Where the role may not see the identifier, the start time alone decides; a primary and its replica may have been
/// started together.
fn by_answer(told: &Told, found: &[&Arc<DiscoveredServer>]) -> Option<Arc<DiscoveredServer>> {
    let same = |server: &&Arc<DiscoveredServer>| {
        (server.started - told.started).abs() <= START_TOLERANCE
            && server.system_identifier.zip(told.identifier).is_none_or(|(known, told)| known == told)
    };
    let same: Vec<_> = found.iter().copied().filter(same).collect();
    only(&same).or_else(|| {
        let recovers = told.is_standby?;
        only(&same.into_iter().filter(|server| server.is_standby == recovers).collect::<Vec<_>>())
    })
}
