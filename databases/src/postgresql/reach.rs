//! The ways to a server: its connection strings and which of them worked last. Opens sessions, keeps none.

use std::{
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, time::timeout};

use super::{
    connect::{Limits, OwnBackends, Session},
    dsn::Dsn,
    tls::Connectors,
};
use crate::{backoff::Backoff, error::DatabaseError};

/// How a server is reached.
#[derive(Debug)]
pub(super) struct Reach {
    name: String,
    /// Whether the operator gave a connection string, so that discovery has no say.
    declared: bool,
    /// Whether a server in recovery is not the one that is meant.
    primary: AtomicBool,
    dsns: RwLock<Vec<Dsn>>,
    preferred: AtomicUsize,
    backoff: Backoff,
    connectors: Connectors,
    own: OwnBackends,
    closed: AtomicBool,
    /// Whether the server was looked for on this host, found or not.
    looked: watch::Sender<bool>,
}

impl Reach {
    pub(super) fn new(name: String, dsns: Vec<Dsn>) -> Self {
        Self {
            name,
            declared: !dsns.is_empty(),
            primary: AtomicBool::new(false),
            dsns: RwLock::new(dsns),
            preferred: AtomicUsize::new(0),
            backoff: Backoff::default(),
            connectors: Connectors::default(),
            own: OwnBackends::default(),
            closed: AtomicBool::new(false),
            looked: watch::Sender::new(false),
        }
    }

    /// The extension's id.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The connection strings, best first; none until the server was found where none was declared.
    pub(super) fn dsns(&self) -> Vec<Dsn> {
        let mut dsns = self.dsns.read().unwrap_or_else(PoisonError::into_inner).clone();
        let preferred = self.preferred.load(Ordering::Relaxed);
        if preferred < dsns.len() {
            dsns.swap(0, preferred);
        }
        dsns
    }

    pub(super) fn is_declared(&self) -> bool {
        self.declared
    }

    /// From now on a server in recovery is passed over.
    pub(super) fn must_be_primary(&self) {
        self.primary.store(true, Ordering::Relaxed);
    }

    /// What discovery says about a server that was declared without a connection string.
    pub(super) fn adopt(&self, dsns: Vec<Dsn>) {
        *self.dsns.write().unwrap_or_else(PoisonError::into_inner) = dsns;
        self.backoff.forget();
    }

    /// A first look for the server on this host has ended.
    pub(super) fn looked(&self) {
        self.looked.send_if_modified(|looked| !std::mem::replace(looked, true));
    }

    /// Waits, where discovery is to tell the connection string, for its first look to end. Without this, a server
    /// that is about to be found would be told as one that nobody knows a connection to.
    pub(super) async fn looked_for(&self, limit: Duration) {
        if self.dsns.read().unwrap_or_else(PoisonError::into_inner).is_empty() {
            let mut looked = self.looked.subscribe();
            drop(timeout(limit, looked.wait_for(|looked| *looked)).await);
        }
    }

    /// Whether a backend of the server is one of the agent's.
    pub(super) fn is_own(&self, backend: u32) -> bool {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).contains(&backend)
    }

    /// Opens nothing from now on.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Whether an attempt makes sense now.
    pub(super) fn ready(&self) -> Result<Vec<Dsn>, DatabaseError> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(self.unknown("the extension has been shut down"));
        }
        let dsns = self.dsns.read().unwrap_or_else(PoisonError::into_inner).clone();
        if dsns.is_empty() {
            return Err(self.unknown("set dsn; or, where several servers run on this host, data_directory; or run the agent where it can see the server's processes"));
        }
        self.backoff.due(|| dsns.first().map(Dsn::server).unwrap_or_default())?;
        Ok(dsns)
    }

    /// Opens a session, with another database if one is named.
    pub(super) async fn open(
        &self,
        limits: &'static Limits,
        database: Option<&str>,
    ) -> Result<Session, DatabaseError> {
        let dsns = self.ready()?;
        let preferred = self.preferred.load(Ordering::Relaxed).min(dsns.len() - 1);
        let order = std::iter::once(preferred).chain((0..dsns.len()).filter(|at| *at != preferred));
        let mut first = None;
        for at in order {
            let dsn = &dsns[at];
            let opened = match self.connectors.get(dsn.tls, &dsn.roots).await {
                Ok(connector) => {
                    let opened = Session::open(dsn, connector, limits, database, &self.own).await;
                    self.meant(dsn, opened).await
                }
                Err(reason) => Err(DatabaseError::Connect {
                    server: dsn.server(),
                    reason,
                    remedy: "correct the connection string".to_owned(),
                }),
            };
            match opened {
                Ok(session) => {
                    self.preferred.store(at, Ordering::Relaxed);
                    self.backoff.opened();
                    return Ok(session);
                }
                // Of a standby the others matter: one of them should have been the primary.
                Err(error) if first.as_ref().is_none_or(is_standby) => first = Some(error),
                Err(_) => {}
            }
        }
        let error = first.unwrap_or_else(|| self.unknown("set dsn"));
        // The file of authorities may be replaced; the next attempt reads it again.
        self.connectors.forget();
        // One database that does not let the agent in says nothing about the server.
        if database.is_none() || matches!(error, DatabaseError::Connect { .. }) {
            self.failed(&error);
        }
        Err(error)
    }

    /// The session, if it leads to the server that was meant. One with a standby is not kept: after a failover the name
    /// may lead to it for a while, and only who connects anew looks the name up again.
    async fn meant(
        &self,
        dsn: &Dsn,
        opened: Result<Session, DatabaseError>,
    ) -> Result<Session, DatabaseError> {
        if self.primary.load(Ordering::Relaxed)
            && let Ok(session) = &opened
        {
            let rows =
                session.rows("whether it is a primary", "SELECT pg_catalog.pg_is_in_recovery()", &[]).await?;
            if rows.first().map(|row| row.read(0)).transpose()? != Some(false) {
                return Err(DatabaseError::InRecovery { server: dsn.server() });
            }
        }
        opened
    }

    pub(super) fn unknown(&self, remedy: &str) -> DatabaseError {
        DatabaseError::NotConfigured { server: self.name.clone(), remedy: remedy.to_owned() }
    }

    /// An attempt, or the session it led to, was of no use.
    pub(super) fn failed(&self, error: &DatabaseError) {
        self.backoff.failed(error);
    }

    /// A question was answered.
    pub(super) fn answered(&self) {
        self.backoff.answered();
    }
}

fn is_standby(error: &DatabaseError) -> bool {
    matches!(error, DatabaseError::InRecovery { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_is_about_to_be_found_is_waited_for() {
        let reach = std::sync::Arc::new(Reach::new("database/x".to_owned(), Vec::new()));
        let waiter = std::sync::Arc::clone(&reach);
        let waiting = tokio::spawn(async move { waiter.looked_for(Duration::from_mins(1)).await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        reach.looked();
        waiting.await.unwrap();
        assert!(matches!(reach.ready(), Err(DatabaseError::NotConfigured { .. })));
    }
}
