//! Keeps the kernel's list of watched processes and threads as the servers' views say.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    task::Poll,
};

use blameio_pipeline::{PageFormat, ServerView, ThreadRole, WatchedServer};

use crate::{ProbeError, Probes};

/// The watched servers, and what the kernel was told of them.
#[derive(Debug)]
pub(super) struct Watch {
    servers: Vec<WatchedServer>,
    views: Vec<Arc<ServerView>>,
    processes: Told<(u16, ThreadRole, PageFormat)>,
    /// Roles of threads that have one of their own.
    roles: Told<ThreadRole>,
    critical: Told<u16>,
}

/// What the kernel was told of processes or threads, by their numbers.
#[derive(Debug)]
struct Told<V> {
    kind: &'static str,
    known: HashMap<u32, V>,
    refused: HashSet<u32>,
}

/// What is told of processes and threads; the probes, but for tests.
pub(super) trait Watcher {
    fn watch_process(
        &mut self,
        tgid: u32,
        server: u16,
        role: u8,
        pages: PageFormat,
    ) -> Result<(), ProbeError>;
    fn forget_process(&mut self, tgid: u32);
    fn give_role(&mut self, tid: u32, role: u8) -> Result<(), ProbeError>;
    fn take_role(&mut self, tid: u32);
    fn watch_thread(&mut self, tid: u32) -> Result<(), ProbeError>;
    fn forget_thread(&mut self, tid: u32);
}

impl Watcher for Probes {
    fn watch_process(
        &mut self,
        tgid: u32,
        server: u16,
        role: u8,
        pages: PageFormat,
    ) -> Result<(), ProbeError> {
        self.watch_process_with(tgid, server, role, pages)
    }

    fn forget_process(&mut self, tgid: u32) {
        Self::forget_process(self, tgid);
    }

    fn give_role(&mut self, tid: u32, role: u8) -> Result<(), ProbeError> {
        Self::give_role(self, tid, role)
    }

    fn take_role(&mut self, tid: u32) {
        Self::take_role(self, tid);
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
            processes: Told::new("process"),
            roles: Told::new("thread's role"),
            critical: Told::new("thread"),
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
    pub(super) fn apply<K: Watcher>(&mut self, kernel: &mut K) {
        self.views = self.servers.iter().map(WatchedServer::view).collect();
        let (mut processes, mut roles, mut critical) = (HashMap::new(), HashMap::new(), HashMap::new());
        for (server, view) in (0_u16..).zip(&self.views) {
            let told = |role| (server, role, view.pages);
            processes.extend(view.processes.iter().map(|process| (process.pid, told(process.role))));
            roles.extend(view.threads.iter().map(|thread| (thread.tid, thread.role)));
            critical.extend(view.critical.iter().map(|tid| (*tid, server)));
        }
        // Those that leave make room for those that come.
        self.processes.leave(&processes, |pid| kernel.forget_process(pid));
        self.roles.leave(&roles, |tid| kernel.take_role(tid));
        self.critical.leave(&critical, |tid| kernel.forget_thread(tid));
        // Roles first: what a thread does is counted in its own role from the first operation on.
        self.roles.come(&roles, |tid, role| kernel.give_role(tid, role.code()));
        self.processes.come(&processes, |pid, (server, role, pages)| {
            kernel.watch_process(pid, server, role.code(), pages)
        });
        self.critical.come(&critical, |tid, _| kernel.watch_thread(tid));
    }

    /// Takes what the kernel really watches, and in which roles: a process or thread that ended and whose number another
    /// got is told of again.
    pub(super) fn compare(&mut self, watched: &[(u32, u16, u8)], roles: &[(u32, u8)]) {
        let watched: HashSet<_> = watched.iter().copied().collect();
        self.processes.known.retain(|pid, (server, role, _)| watched.contains(&(*pid, *server, role.code())));
        let roles: HashSet<_> = roles.iter().copied().collect();
        self.roles.known.retain(|tid, role| roles.contains(&(*tid, role.code())));
    }

    /// Forgets critical threads that have exited, after their last time was handed on. Another thread of the number
    /// can be watched then.
    pub(super) fn exited(&mut self, threads: &[u32], kernel: &mut impl Watcher) {
        for tid in threads {
            self.critical.known.remove(tid);
            kernel.forget_thread(*tid);
        }
    }

    /// The servers' views, by the number that the kernel knows them by.
    pub(super) fn views(&self) -> &[Arc<ServerView>] {
        &self.views
    }

    /// The server that a critical thread works for.
    pub(super) fn server_of(&self, tid: u32) -> Option<u16> {
        self.critical.known.get(&tid).copied()
    }
}

impl<V: Copy + PartialEq> Told<V> {
    fn new(kind: &'static str) -> Self {
        Self { kind, known: HashMap::new(), refused: HashSet::new() }
    }

    fn leave(&mut self, wanted: &HashMap<u32, V>, mut forget: impl FnMut(u32)) {
        self.known.retain(|id, _| {
            let stays = wanted.contains_key(id);
            if !stays {
                forget(*id);
            }
            stays
        });
        self.refused.retain(|id| wanted.contains_key(id));
    }

    /// What is refused is tried again with the next view, and said once. That something has ended is no news.
    fn come(&mut self, wanted: &HashMap<u32, V>, mut tell: impl FnMut(u32, V) -> Result<(), ProbeError>) {
        let kind = self.kind;
        for (&id, &value) in wanted {
            if self.known.get(&id) == Some(&value) {
                continue;
            }
            match tell(id, value) {
                Ok(()) => {
                    self.known.insert(id, value);
                    self.refused.remove(&id);
                    continue;
                }
                Err(ProbeError::Gone { .. }) => tracing::debug!(kind, id, "not watched: it has ended"),
                Err(error) => {
                    if self.refused.insert(id) {
                        tracing::warn!(
                            kind, id, %error,
                            "cannot be watched, and what it does is not counted or in the wrong role; tried again"
                        );
                    }
                }
            }
            self.known.remove(&id);
        }
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
