//! One look at the processes of a server on this host, or at its threads. It reads /proc, so it is done off the async
//! threads.

use std::{collections::HashSet, sync::Arc};

use crate::{discover::DiscoveredServer, engine::Tasks, procfs};

/// A process or a thread of the server.
pub(super) struct Seen {
    /// Its id in the agent's pid namespace.
    pub(super) id: u32,
    /// Its id as the server counts, where it is not yet known what it does.
    pub(super) own: u32,
    /// Its title, where it is not yet known what it does.
    pub(super) title: Option<String>,
}

/// Start of the main process in clock ticks.
pub(super) async fn started(pid: u32) -> Option<u64> {
    tokio::task::spawn_blocking(move || procfs::stat(pid)).await.ok().flatten().map(|stat| stat.started)
}

/// What the server's work is divided among; `None` once its main process has ended, or works in another directory.
pub(super) async fn look(
    server: Arc<DiscoveredServer>,
    started: u64,
    tasks: Tasks,
    known: HashSet<u32>,
) -> Option<Vec<Seen>> {
    let looked = tokio::task::spawn_blocking(move || {
        is_alive(&server, started).then(|| {
            let ids = match tasks {
                Tasks::Processes => procfs::children(server.pid),
                Tasks::Threads => procfs::threads(server.pid),
            };
            ids.into_iter().map(|id| seen(server.pid, id, tasks, known.contains(&id))).collect()
        })
    });
    looked.await.ok().flatten()
}

fn seen(main: u32, id: u32, tasks: Tasks, is_known: bool) -> Seen {
    if is_known {
        return Seen { id, own: id, title: None };
    }
    let (own, title) = match tasks {
        Tasks::Processes => (procfs::own_pid(id), procfs::title(id)),
        Tasks::Threads => (procfs::own_tid(main, id), procfs::thread_name(main, id)),
    };
    Seen { id, own: own.unwrap_or(id), title }
}

fn is_alive(server: &DiscoveredServer, started: u64) -> bool {
    let directory = procfs::identity(&procfs::working_directory(server.pid));
    procfs::stat(server.pid).is_some_and(|stat| stat.started == started)
        && directory == Some(server.data_directory_id)
}
