//! The one session that is kept with a server, opened when it is needed and closed when nobody uses it, and the
//! way to open the second, short one. Attempts that fail become rarer.

use std::{
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio_postgres::types::ToSql;

use super::{
    connect::{Answer, OwnBackends, Session},
    dsn::Dsn,
    tls,
};
use crate::error::DatabaseError;

/// First pause between attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause while nobody answers: a refused connect costs nothing, and a restart is noticed soon.
const DOWN_PAUSE: Duration = Duration::from_secs(5);
/// Longest pause while the server refuses: each attempt is a line in its log.
const REFUSED_PAUSE: Duration = Duration::from_mins(1);
/// How long the kept session may be idle.
const IDLE: Duration = Duration::from_secs(15);

#[derive(Debug, Default)]
struct Backoff {
    failures: u32,
    until: Option<Instant>,
    last: Option<DatabaseError>,
}

#[derive(Debug)]
struct Kept {
    session: Arc<Session>,
    used: Instant,
}

/// How a server is reached.
#[derive(Debug)]
pub(super) struct Link {
    name: String,
    /// Whether the operator gave a connection string, so that discovery has no say.
    declared: bool,
    dsns: RwLock<Vec<Dsn>>,
    preferred: AtomicUsize,
    backoff: Mutex<Backoff>,
    kept: tokio::sync::Mutex<Option<Kept>>,
    own: OwnBackends,
    closed: AtomicBool,
}

impl Link {
    pub(super) fn new(name: String, dsns: Vec<Dsn>) -> Self {
        Self {
            name,
            declared: !dsns.is_empty(),
            dsns: RwLock::new(dsns),
            preferred: AtomicUsize::new(0),
            backoff: Mutex::default(),
            kept: tokio::sync::Mutex::default(),
            own: OwnBackends::default(),
            closed: AtomicBool::new(false),
        }
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

    /// What discovery says about a server that was declared without a connection string.
    pub(super) fn adopt(&self, dsns: Vec<Dsn>) {
        *self.dsns.write().unwrap_or_else(PoisonError::into_inner) = dsns;
        *self.backoff.lock().unwrap_or_else(PoisonError::into_inner) = Backoff::default();
    }

    /// Host and port.
    pub(super) fn address(&self) -> (String, u16) {
        self.dsns().first().map_or_else(|| (String::new(), 0), Dsn::address)
    }

    /// Whether a backend of the server is one of the agent's.
    pub(super) fn is_own(&self, backend: u32) -> bool {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).contains(&backend)
    }

    /// Opens a session of the caller's own, with another database if one is named.
    pub(super) async fn open(&self, database: Option<&str>) -> Result<Session, DatabaseError> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(self.unknown("the extension has been shut down"));
        }
        let dsns = self.dsns.read().unwrap_or_else(PoisonError::into_inner).clone();
        if dsns.is_empty() {
            return Err(self.unknown("set dsn; or, where several servers run on this host, data_directory; or run the agent where it can see the server's processes"));
        }
        self.due(&dsns)?;
        let preferred = self.preferred.load(Ordering::Relaxed).min(dsns.len() - 1);
        let order = std::iter::once(preferred).chain((0..dsns.len()).filter(|at| *at != preferred));
        let mut first = None;
        for at in order {
            let dsn = &dsns[at];
            let connector = tls::connector(dsn.tls, &dsn.roots);
            let opened = match connector {
                Ok(connector) => Session::open(dsn, connector, database, &self.own).await,
                Err(reason) => Err(DatabaseError::Connect {
                    server: dsn.server(),
                    reason,
                    remedy: "correct the connection string".to_owned(),
                }),
            };
            match opened {
                Ok(session) => {
                    self.preferred.store(at, Ordering::Relaxed);
                    *self.backoff.lock().unwrap_or_else(PoisonError::into_inner) = Backoff::default();
                    return Ok(session);
                }
                Err(error) => first = first.or(Some(error)),
            }
        }
        let error = first.unwrap_or_else(|| self.unknown("set dsn"));
        // One database that does not let the agent in says nothing about the server.
        if database.is_none() || matches!(error, DatabaseError::Connect { .. }) {
            self.failed(&error);
        }
        Err(error)
    }

    fn unknown(&self, remedy: &str) -> DatabaseError {
        DatabaseError::NotConfigured { server: self.name.clone(), remedy: remedy.to_owned() }
    }

    fn due(&self, dsns: &[Dsn]) -> Result<(), DatabaseError> {
        let backoff = self.backoff.lock().unwrap_or_else(PoisonError::into_inner);
        match (backoff.until, &backoff.last) {
            (Some(until), Some(last)) if until > Instant::now() => Err(DatabaseError::Backoff {
                server: dsns.first().map(Dsn::server).unwrap_or_default(),
                wait_ms: u64::try_from((until - Instant::now()).as_millis()).unwrap_or(u64::MAX),
                last: Box::new(last.clone()),
            }),
            _ => Ok(()),
        }
    }

    fn failed(&self, error: &DatabaseError) {
        let mut backoff = self.backoff.lock().unwrap_or_else(PoisonError::into_inner);
        let longest = match error {
            DatabaseError::Refused { code, .. } if !code.starts_with("57P") => REFUSED_PAUSE,
            _ => DOWN_PAUSE,
        };
        let pause = FIRST_PAUSE.saturating_mul(1 << backoff.failures.min(16)).min(longest);
        backoff.failures = backoff.failures.saturating_add(1);
        backoff.until = Some(Instant::now() + pause);
        backoff.last = Some(error.clone());
    }

    /// The kept session, opened if need be.
    pub(super) async fn session(&self) -> Result<Arc<Session>, DatabaseError> {
        let mut kept = self.kept.lock().await;
        if let Some(kept) = kept.as_mut().filter(|kept| !kept.session.is_closed()) {
            kept.used = Instant::now();
            return Ok(Arc::clone(&kept.session));
        }
        *kept = None;
        let session = Arc::new(self.open(None).await?);
        *kept = Some(Kept { session: Arc::clone(&session), used: Instant::now() });
        Ok(session)
    }

    /// Asks on the kept session.
    pub(super) async fn rows(
        &self,
        purpose: &'static str,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Answer>, DatabaseError> {
        let session = self.session().await?;
        let rows = session.rows(purpose, sql, parameters).await;
        if let Err(error) = &rows
            && error.is_fatal_to_connection()
        {
            self.forget(&session).await;
        }
        rows
    }

    /// Asks for exactly one row.
    pub(super) async fn row(
        &self,
        purpose: &'static str,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Answer, DatabaseError> {
        let row = self.rows(purpose, sql, parameters).await?.into_iter().next();
        row.ok_or_else(|| DatabaseError::Query {
            server: self.name.clone(),
            purpose,
            code: "no rows".to_owned(),
            remedy: "this version of the server is not supported; please report it".to_owned(),
        })
    }

    /// Closes a session and waits until the server has let go of it, so that the next one is not a third.
    pub(super) async fn end(&self, session: Session) {
        const LOOKS: usize = 100;
        let backend = session.backend.cast_signed();
        drop(session);
        let sql = "SELECT 1 FROM pg_catalog.pg_stat_get_activity($1)";
        for _ in 0..LOOKS {
            match self.rows("whether a session has ended", sql, &[&backend]).await {
                Ok(rows) if !rows.is_empty() => tokio::time::sleep(Duration::from_millis(5)).await,
                _ => return,
            }
        }
    }

    async fn forget(&self, session: &Arc<Session>) {
        let mut kept = self.kept.lock().await;
        if kept.as_ref().is_some_and(|kept| Arc::ptr_eq(&kept.session, session)) {
            *kept = None;
        }
    }

    /// Closes the kept session, or only one that has been idle.
    pub(super) async fn close(&self, only_idle: bool) {
        if !only_idle {
            self.closed.store(true, Ordering::Relaxed);
        }
        let mut kept = self.kept.lock().await;
        if !only_idle || kept.as_ref().is_some_and(|kept| kept.used.elapsed() > IDLE) {
            *kept = None;
        }
    }
}
