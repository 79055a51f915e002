//! One look at the processes of a server on this host. It reads /proc, so it is done off the async threads.

use std::{collections::HashSet, sync::Arc};

use crate::{discover::DiscoveredServer, procfs};

/// A process of the server.
pub(super) struct Child {
    pub(super) pid: u32,
    /// Process id as the server counts.
    pub(super) own: u32,
    /// Its title, where its role is not yet known.
    pub(super) title: Option<String>,
}

/// Start of the main process in clock ticks.
pub(super) async fn started(pid: u32) -> Option<u64> {
    tokio::task::spawn_blocking(move || procfs::stat(pid)).await.ok().flatten().map(|stat| stat.started)
}

/// The children of the main process; `None` once it has ended, or works in another directory.
pub(super) async fn look(
    server: Arc<DiscoveredServer>,
    started: u64,
    known: HashSet<u32>,
) -> Option<Vec<Child>> {
    let looked = tokio::task::spawn_blocking(move || {
        is_alive(&server, started).then(|| {
            let children = procfs::children(server.pid).into_iter();
            children
                .map(|pid| Child {
                    pid,
                    own: procfs::own_pid(pid).unwrap_or(pid),
                    title: if known.contains(&pid) { None } else { procfs::title(pid) },
                })
                .collect()
        })
    });
    looked.await.ok().flatten()
}

fn is_alive(server: &DiscoveredServer, started: u64) -> bool {
    let directory = procfs::identity(&procfs::working_directory(server.pid));
    procfs::stat(server.pid).is_some_and(|stat| stat.started == started)
        && directory == Some(server.data_directory_id)
}
