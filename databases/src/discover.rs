//! Database servers on this host, found in /proc without any configuration: the shape all engines share.
//!
//! Nothing is connected to and nothing is written. What may not be read is passed over.

use std::{path::PathBuf, sync::Arc};

use blameio_config::Secret;

use crate::postgresql;

/// A server that runs on this host, in a container or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoveredServer {
    /// `db.system.name`.
    pub system: &'static str,
    /// Main process, in the agent's pid namespace.
    pub pid: u32,
    /// Process id as the server itself counts; differs in a container.
    pub server_pid: u32,
    /// Data directory, as the server sees it.
    pub data_directory: PathBuf,
    /// Device and inode of the data directory.
    pub data_directory_id: (u64, u64),
    /// Port it listens on.
    pub port: u16,
    /// Directory of its Unix socket, as the server sees it.
    pub socket_directory: Option<PathBuf>,
    /// Major version, such as 15.
    pub major_version: Option<u32>,
    /// Start time, in seconds since the epoch, as the server wrote it down.
    pub started: i64,
    /// What makes the cluster unlike all others.
    pub system_identifier: Option<u64>,
    /// Whether it was started as a standby, or to recover from an archive. A promoted one is a standby no more.
    pub is_standby: bool,
    /// Whether it shares the agent's network, so that its port on the loopback address is its own.
    pub same_network: bool,
    /// Name of its container, where its network is not this host's.
    pub container: Option<String>,
    /// Name for its extension: `postgresql_5432`, made longer where two would be the same.
    pub suggested_name: String,
    /// Connection strings worth trying, best first.
    pub dsns: Vec<Secret>,
}

/// Looks for servers of every engine. Reads /proc for some milliseconds; not for an async task's thread.
pub fn discover() -> Vec<DiscoveredServer> {
    let mut found = postgresql::discover::discover();
    found.sort_by(|a, b| (a.system, a.port, a.pid).cmp(&(b.system, b.port, b.pid)));
    for at in 0..found.len() {
        let name = format!("{}_{}", found[at].system, found[at].port);
        let taken = found[..at].iter().filter(|other| other.system == found[at].system);
        let same = taken.filter(|other| other.port == found[at].port).count();
        found[at].suggested_name = if same == 0 { name } else { format!("{name}_{}", same + 1) };
    }
    found
}

/// [`discover`] off the async threads.
pub(crate) async fn discover_in_background() -> Vec<Arc<DiscoveredServer>> {
    tokio::task::spawn_blocking(|| discover().into_iter().map(Arc::new).collect()).await.unwrap_or_default()
}
