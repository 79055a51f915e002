//! Keeps the kernel's list of watched processes and critical threads as the servers' views say.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    task::Poll,
};

use blameio_pipeline::{ServerView, ThreadRole, WatchedServer};

use crate::{ProbeError, Probes};

/// The watched servers, and what the kernel was told of them.
#[derive(Debug)]
pub(super) struct Watch {
    servers: Vec<WatchedServer>,
    views: Vec<Arc<ServerView>>,
    processes: HashMap<u32, (u16, ThreadRole)>,
    critical: HashMap<u32, u16>,
    refused: HashSet<u32>,
    refused_threads: HashSet<u32>,
}

/// What is told of processes and threads; the probes, but for tests.
pub(super) trait Watcher {
    fn watch_process(&mut self, tgid: u32, server: u16, role: u8) -> Result<(), ProbeError>;
    fn forget_process(&mut self, tgid: u32);
    fn watch_thread(&mut self, tid: u32) -> Result<(), ProbeError>;
    fn forget_thread(&mut self, tid: u32);
}

impl Watcher for Probes {
    fn watch_process(&mut self, tgid: u32, server: u16, role: u8) -> Result<(), ProbeError> {
        Self::watch_process(self, tgid, server, role)
    }

    fn forget_process(&mut self, tgid: u32) {
        Self::forget_process(self, tgid);
    }

    fn watch_thread(&mut self, tid: u32) -> Result<(), ProbeError> {
        Self::watch_thread(self, tid)
    }

    fn forget_thread(&mut self, tid: u32) {
        Self::forget_thread(self, tid);
    }
}

impl Watch {
    pub(super) fn new(servers: Vec<WatchedServer>) -> Self {
        let views = servers.iter().map(WatchedServer::view).collect();
        Self {
            servers,
            views,
            processes: HashMap::new(),
            critical: HashMap::new(),
            refused: HashSet::new(),
            refused_threads: HashSet::new(),
        }
    }

    /// Waits until a server's view changes; for ever when all publishers are gone.
    pub(super) async fn changed(&mut self) {
        let mut waits: Vec<_> = self.servers.iter_mut().map(|server| Box::pin(server.changed())).collect();
        std::future::poll_fn(|context| {
            let mut changed = false;
            // A publisher that is gone never changes again, and what is finished must not be polled again.
            waits.retain_mut(|wait| match wait.as_mut().poll(context) {
                Poll::Ready(seen) => {
                    changed |= seen;
                    false
                }
                Poll::Pending => true,
            });
            if changed { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Tells the kernel what changed.
    pub(super) fn apply(&mut self, kernel: &mut impl Watcher) {
        self.views = self.servers.iter().map(WatchedServer::view).collect();
        let mut processes = HashMap::new();
        let mut critical = HashMap::new();
        for (server, view) in (0_u16..).zip(&self.views) {
            processes.extend(view.processes.iter().map(|process| (process.pid, (server, process.role))));
            critical.extend(view.critical.iter().map(|tid| (*tid, server)));
        }
        // Those that leave make room for those that come.
        for pid in self.processes.keys().filter(|pid| !processes.contains_key(pid)) {
            kernel.forget_process(*pid);
        }
        for tid in self.critical.keys().filter(|tid| !critical.contains_key(tid)) {
            kernel.forget_thread(*tid);
        }
        let known = std::mem::take(&mut self.processes);
        for (pid, wanted) in &processes {
            if known.get(pid) == Some(wanted) {
                self.processes.insert(*pid, *wanted);
                continue;
            }
            match kernel.watch_process(*pid, wanted.0, wanted.1.code()) {
                Ok(()) => {
                    self.processes.insert(*pid, *wanted);
                    self.refused.remove(pid);
                }
                Err(error) => self.refuse("process", *pid, &error),
            }
        }
        let known = std::mem::take(&mut self.critical);
        for (tid, server) in &critical {
            if known.contains_key(tid) {
                self.critical.insert(*tid, *server);
                continue;
            }
            match kernel.watch_thread(*tid) {
                Ok(()) => {
                    self.critical.insert(*tid, *server);
                    self.refused_threads.remove(tid);
                }
                Err(error) => self.refuse("thread", *tid, &error),
            }
        }
        self.refused.retain(|pid| processes.contains_key(pid));
        self.refused_threads.retain(|tid| critical.contains_key(tid));
    }

    /// Tried again with the next view; said once. That something has ended is no news.
    fn refuse(&mut self, kind: &'static str, id: u32, error: &ProbeError) {
        let refused = if kind == "process" { &mut self.refused } else { &mut self.refused_threads };
        if matches!(error, ProbeError::Gone { .. }) {
            tracing::debug!(kind, id, "not watched: it has ended");
        } else if refused.insert(id) {
            tracing::warn!(kind, id, %error, "cannot be watched, and what it does is not counted; tried again");
        }
    }

    /// Takes what the kernel really watches: a process that ended and whose number another got is told of again.
    pub(super) fn compare(&mut self, watched: &[(u32, u16, u8)]) {
        let watched: HashSet<_> = watched.iter().copied().collect();
        self.processes.retain(|pid, (server, role)| watched.contains(&(*pid, *server, role.code())));
    }

    /// Forgets critical threads that have exited, after their last time was handed on. Another thread of the number
    /// can be watched then.
    pub(super) fn exited(&mut self, threads: &[u32], kernel: &mut impl Watcher) {
        for tid in threads {
            self.critical.remove(tid);
            kernel.forget_thread(*tid);
        }
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

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
