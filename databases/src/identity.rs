//! Who a server is: `service.instance.id` and what else stands on its resource.
//!
//! Replicas of one cluster share the system identifier, so it is never enough: the data directory, or for a
//! remote server the address, makes the difference.

use std::sync::atomic::{AtomicU64, Ordering};

use blameio_pipeline::{
    ServerIdentity,
    machine::{host_id, host_name},
};
use uuid::Uuid;

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

/// The identity of one server.
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
        // A socket directory or a loopback address names no server to anybody but this host.
        address: if local { host_name().to_owned() } else { address.clone() },
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

    #[test]
    fn a_remote_server_is_told_by_address_and_cluster() {
        assert_ne!(id(Some(1), &Place::Remote, 5432), id(Some(1), &Place::Remote, 5433));
        assert_ne!(id(Some(1), &Place::Remote, 5432), id(Some(2), &Place::Remote, 5432));
        assert_eq!(id(Some(1), &Place::Remote, 5432), id(Some(1), &Place::Remote, 5432));
    }
}
