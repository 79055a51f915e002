//! Keeps the kernel's list of watched processes and critical threads as the servers' views say.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use blameio_pipeline::{ServerView, ThreadRole, WatchedServer};

use crate::Probes;

/// The watched servers, and what the kernel was told of them.
#[derive(Debug)]
pub(super) struct Watch {
    servers: Vec<WatchedServer>,
    views: Vec<Arc<ServerView>>,
    processes: HashMap<u32, (u16, ThreadRole)>,
    critical: HashMap<u32, u16>,
    refused: HashSet<u32>,
}

impl Watch {
    pub(super) fn new(servers: Vec<WatchedServer>) -> Self {
        let views = servers.iter().map(WatchedServer::view).collect();
        Self { servers, views, processes: HashMap::new(), critical: HashMap::new(), refused: HashSet::new() }
    }

    /// Waits until a server's view changes.
    pub(super) async fn changed(&mut self) {
        let mut waits: Vec<_> = self.servers.iter_mut().map(|server| Box::pin(server.changed())).collect();
        std::future::poll_fn(|context| {
            for wait in &mut waits {
                // A publisher that is gone never changes again.
                if let std::task::Poll::Ready(true) = wait.as_mut().poll(context) {
                    return std::task::Poll::Ready(());
                }
            }
            std::task::Poll::Pending
        })
        .await;
    }

    /// Tells the kernel what changed.
    pub(super) fn apply(&mut self, probes: &mut Probes) {
        self.views = self.servers.iter().map(WatchedServer::view).collect();
        let mut processes = HashMap::new();
        let mut critical = HashMap::new();
        for (server, view) in (0_u16..).zip(&self.views) {
            processes.extend(view.processes.iter().map(|process| (process.pid, (server, process.role))));
            critical.extend(view.critical.iter().map(|tid| (*tid, server)));
        }
        for (pid, (server, role)) in &processes {
            if self.processes.get(pid) != Some(&(*server, *role))
                && let Err(error) = probes.watch_process(*pid, *server, role.code())
            {
                tracing::debug!(pid, %error, "process cannot be watched; it may have ended");
            }
        }
        for pid in self.processes.keys().filter(|pid| !processes.contains_key(pid)) {
            probes.forget_process(*pid);
        }
        for tid in self.critical.keys().filter(|tid| !critical.contains_key(tid)) {
            probes.forget_thread(*tid);
        }
        let mut watched = HashMap::new();
        for (tid, server) in critical {
            if self.critical.contains_key(&tid) {
                watched.insert(tid, server);
                continue;
            }
            match probes.watch_thread(tid) {
                Ok(()) => {
                    watched.insert(tid, server);
                    self.refused.remove(&tid);
                }
                // Tried again with the next view; said once.
                Err(error) if self.refused.insert(tid) => {
                    tracing::warn!(tid, %error, "thread that replication waits for cannot be watched");
                }
                Err(_) => {}
            }
        }
        self.refused.retain(|tid| !watched.contains_key(tid));
        self.processes = processes;
        self.critical = watched;
    }

    /// The servers' views, by the number that the kernel knows them by.
    pub(super) fn views(&self) -> &[Arc<ServerView>] {
        &self.views
    }

    /// The server that a critical thread works for.
    pub(super) fn server_of(&self, tid: u32) -> Option<u16> {
        self.critical.get(&tid).copied()
    }
}
