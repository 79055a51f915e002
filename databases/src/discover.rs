//! Database servers on this host, found in /proc without any configuration: the shape all engines share.
//!
//! Nothing is connected to and nothing is written. What may not be read is passed over.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use blameio_config::Secret;

use crate::{mysql, owned, postgresql, procfs};

/// Most servers of one engine and user. Nobody runs as many on purpose, and each costs connections and memory.
const MOST_OF_A_USER: usize = 64;

/// Longest name of a host that Linux takes.
const MOST_OF_A_NAME: usize = 64;

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
    /// Its Unix socket, as the server sees it; of PostgreSQL, the directory of it.
    pub socket: Option<PathBuf>,
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
    let mut found = of_engine(postgresql::discover::server);
    found.extend(of_engine(mysql::discover::server));
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

/// The servers that `look` makes out among all processes; it tells the user that each runs as.
fn of_engine(look: impl Fn(u32) -> Option<(u32, DiscoveredServer)>) -> Vec<DiscoveredServer> {
    let mut of_user: HashMap<u32, usize> = HashMap::new();
    let mut found = Vec::new();
    for (user, server) in procfs::pids().into_iter().filter_map(look) {
        let count = of_user.entry(user).or_default();
        *count += 1;
        if *count <= MOST_OF_A_USER {
            found.push(server);
        } else {
            tracing::debug!(user, pid = server.pid, "the user has too many servers; this one is passed over");
        }
    }
    found
}

/// What a container calls itself: runtimes write it into a file of its own. Whoever made it may have written anything, so
/// only what may be the name of a host is believed.
pub(crate) fn container(pid: u32) -> Option<String> {
    if !procfs::is_apart(pid, "net") || !procfs::is_apart(pid, "uts") {
        return None;
    }
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    let owner = fs::metadata(&root).ok()?.uid();
    let name =
        String::from_utf8(owned::Directory::open(&root, owner)?.read(Path::new("etc/hostname"))?).ok()?;
    let name = name.trim();
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    (!name.is_empty() && name.len() <= MOST_OF_A_NAME && name.chars().all(is_name)).then(|| name.to_owned())
}

/// A path of a process's as the agent reaches it.
pub(crate) fn seen(pid: u32, path: &Path) -> String {
    if procfs::share_namespace(pid, "mnt") {
        path.display().to_string()
    } else {
        format!("/proc/{pid}/root{}", path.display())
    }
}
