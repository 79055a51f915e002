//! Who a server is: `service.instance.id` and what else stands on its resource.
//!
//! Replicas of one cluster share the system identifier, so it is never enough: the data directory, or for a
//! remote server the address, makes the difference. The address of a server on this host is the host's name, unless it
//! would be another server's too.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use blameio_pipeline::{
    ServerIdentity,
    machine::{host_id, host_name},
};
use uuid::Uuid;

use crate::discover::DiscoveredServer;

/// Name space of the agent's instance ids. Made once, at random; it must never change.
const NAMESPACE: Uuid = Uuid::from_u128(0x8f4f_2b4e_6c1d_4e0a_9b57_1d3a_52c7_e6f0);

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// On this host: device and inode of its data directory.
    Local(u64, u64),
    /// Somewhere else, by its address.
    Remote,
}

/// What makes a cluster unlike all others, once it is known. Written by who follows the replica, read by who asks its
/// primary.
#[derive(Debug, Default)]
pub(crate) struct ClusterId(AtomicU64);

impl ClusterId {
    /// No cluster has the number 0.
    pub(crate) fn get(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|id| *id != 0)
    }

    /// `None` leaves what was known.
    pub(crate) fn set(&self, id: Option<u64>) {
        if let Some(id) = id {
            self.0.store(id, Ordering::Relaxed);
        }
    }
}

/// `server.address` of a server on this host that is reached at `host`, a name, an address or a socket directory. What
/// names no server to anybody but this host is not told, unless nothing else tells two servers apart.
pub(crate) fn local_address(
    server: &DiscoveredServer,
    (host, port): (&str, u16),
    found: &[Arc<DiscoveredServer>],
) -> String {
    let name_of =
        |server: &DiscoveredServer| server.container.clone().unwrap_or_else(|| host_name().to_owned());
    // A port of this host may lead into a container, and then is this host's all the same.
    let by_tcp = !host.is_empty() && !host.starts_with('/');
    let name = if by_tcp { host_name().to_owned() } else { name_of(server) };
    let has_it = |other: &&Arc<DiscoveredServer>| other.port == port && name_of(other) == name;
    let mut others = found.iter().filter(|other| other.data_directory_id != server.data_directory_id);
    let is_shared = others.any(|other| has_it(&other));
    if is_shared && !host.is_empty() && !["localhost", "127.0.0.1", "::1"].contains(&host) {
        return host.to_owned();
    }
    name
}

/// The identity of one server. The address of a local one is [`local_address`].
pub(crate) fn identity(
    service_name: &str,
    system: &'static str,
    system_identifier: Option<u64>,
    place: &Place,
    (address, port): (String, u16),
) -> ServerIdentity {
    let cluster = system_identifier.map_or_else(String::new, |id| id.to_string());
    let place_name = match place {
        Place::Local(device, inode) => {
            format!("local/{}/{device}/{inode}", host_id().unwrap_or_else(host_name))
        }
        Place::Remote => format!("remote/{address}/{port}"),
    };
    let name = format!("{system}/{cluster}/{place_name}");
    let local = !matches!(place, Place::Remote);
    ServerIdentity {
        instance_id: Uuid::new_v5(&NAMESPACE, name.as_bytes()),
        service_name: service_name.to_owned(),
        system,
        address: address.clone(),
        port,
        // Of a remote host nothing but its address is known.
        host_name: if local { host_name().to_owned() } else { address },
        host_id: if local { host_id().map(str::to_owned) } else { None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(system_identifier: Option<u64>, place: &Place, port: u16) -> Uuid {
        identity("orders", "postgresql", system_identifier, place, ("db7".to_owned(), port)).instance_id
    }

    #[test]
    fn two_replicas_of_one_cluster_on_one_host_are_two_instances() {
        assert_ne!(id(Some(1), &Place::Local(8, 100), 5432), id(Some(1), &Place::Local(8, 101), 5432));
    }

    #[test]
    fn a_local_server_keeps_its_id_whatever_its_address_is() {
        assert_eq!(id(Some(1), &Place::Local(8, 100), 5432), id(Some(1), &Place::Local(8, 100), 5433));
    }

    fn server(inode: u64, port: u16, container: Option<&str>) -> Arc<DiscoveredServer> {
        Arc::new(DiscoveredServer {
            system: "postgresql",
            pid: 1,
            server_pid: 1,
            data_directory: "/data".into(),
            data_directory_id: (8, inode),
            port,
            socket: Some("/run/postgresql".into()),
            major_version: Some(15),
            started: 0,
            system_identifier: Some(1),
            is_standby: true,
            same_network: container.is_none(),
            container: container.map(str::to_owned),
            suggested_name: String::new(),
            dsns: Vec::new(),
        })
    }

    #[test]
    fn a_server_whose_port_nobody_else_has_is_named_by_its_host() {
        let found = [server(1, 5432, None), server(2, 5433, None), server(3, 5432, Some("pod-0"))];
        for host in ["/run/postgresql", "127.0.0.1", "localhost", "10.0.0.5", ""] {
            assert_eq!(local_address(&found[0], (host, 5432), &found), host_name());
        }
        // A published port is the host's.
        assert_eq!(local_address(&found[2], ("127.0.0.1", 5434), &found), host_name());
    }

    #[test]
    fn servers_of_one_host_and_port_have_addresses_of_their_own() {
        let sockets = [server(1, 5432, None), server(2, 5432, None)];
        assert_eq!(local_address(&sockets[0], ("/run/a", 5432), &sockets), "/run/a");
        assert_eq!(local_address(&sockets[1], ("/run/b", 5432), &sockets), "/run/b");
        assert_eq!(local_address(&sockets[0], ("127.0.0.1", 5432), &sockets), host_name());
        let pods = [server(1, 5432, Some("pod-0")), server(2, 5432, Some("pod-1")), server(3, 5432, None)];
        let own: Vec<_> =
            pods.iter().map(|server| local_address(server, ("/run/postgresql", 5432), &pods)).collect();
        assert_eq!(own, ["pod-0", "pod-1", host_name()]);
        // Two may be called the same: pods of one name in two name spaces of a cluster are.
        let same = [server(1, 5432, Some("pod-0")), server(2, 5432, Some("pod-0"))];
        let roots = ["/proc/7/root/run/postgresql", "/proc/8/root/run/postgresql"];
        let own = [0, 1].map(|at: usize| local_address(&same[at], (roots[at], 5432), &same));
        assert_eq!(own, roots);
    }

    #[test]
    fn a_remote_server_is_told_by_address_and_cluster() {
        assert_ne!(id(Some(1), &Place::Remote, 5432), id(Some(1), &Place::Remote, 5433));
        assert_ne!(id(Some(1), &Place::Remote, 5432), id(Some(2), &Place::Remote, 5432));
        assert_eq!(id(Some(1), &Place::Remote, 5432), id(Some(1), &Place::Remote, 5432));
    }
}
