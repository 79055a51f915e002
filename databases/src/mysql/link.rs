//! The one session that is kept with a server, opened when it is needed and closed when nobody uses it, over whichever of
//! its connection strings works.
//!
//! Connecting and asking run in tasks of their own: who stops waiting ends neither, so that a slow connect still
//! leads somewhere and no question is left behind that nobody watches.

use std::{
    borrow::Cow,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use tokio::{
    sync::{Mutex as Turn, watch},
    time::timeout,
};

use super::{
    binlogs::Binlogs,
    connect::{ANSWER, About, Access, Answer, Session, late},
    dsn::Dsn,
};
use crate::{backoff::Backoff, error::DatabaseError, positions::Middle};

/// How long the kept session may be idle.
const IDLE: Duration = Duration::from_secs(15);

/// An answer, and the middle of its round trip.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) rows: Vec<Answer>,
    pub(super) monotonic: Instant,
    pub(super) at: SystemTime,
}

/// How a server is asked.
#[derive(Clone, Debug)]
pub(super) struct Link(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    /// Whether the operator gave a connection string, so that discovery has no say.
    declared: bool,
    dsns: RwLock<Vec<Dsn>>,
    preferred: AtomicUsize,
    backoff: Backoff,
    closed: AtomicBool,
    /// Whether the server was looked for on this host, found or not.
    looked: watch::Sender<bool>,
    /// Held by who asks; the session is out of it meanwhile, so that one that is given up is closed.
    kept: Turn<Option<Session>>,
    used: Mutex<Instant>,
    /// What the server said of itself when it was last connected to.
    about: Mutex<Option<Arc<About>>>,
    /// Of a server that is replicated from: it must be this one.
    upstream: Option<Arc<Binlogs>>,
}

impl Link {
    pub(super) fn new(name: String, dsns: Vec<Dsn>, upstream: Option<Arc<Binlogs>>) -> Self {
        Self(Arc::new(Inner {
            name,
            declared: !dsns.is_empty(),
            dsns: RwLock::new(dsns),
            preferred: AtomicUsize::new(0),
            backoff: Backoff::default(),
            closed: AtomicBool::new(false),
            looked: watch::Sender::new(false),
            kept: Turn::new(None),
            used: Mutex::new(Instant::now()),
            about: Mutex::default(),
            upstream,
        }))
    }

    /// The extension's id.
    pub(super) fn name(&self) -> &str {
        &self.0.name
    }

    pub(super) fn is_declared(&self) -> bool {
        self.0.declared
    }

    /// The connection strings, best first; none until the server was found where none was declared.
    pub(super) fn dsns(&self) -> Vec<Dsn> {
        let mut dsns = self.0.dsns();
        let preferred = self.0.preferred.load(Ordering::Relaxed);
        if preferred < dsns.len() {
            dsns.swap(0, preferred);
        }
        dsns
    }

    /// Host and port.
    pub(super) fn address(&self) -> (String, u16) {
        self.dsns().first().map_or_else(|| (String::new(), 0), Dsn::address)
    }

    /// What discovery says about a server that was declared without a connection string.
    pub(super) fn adopt(&self, dsns: Vec<Dsn>) {
        *self.0.dsns.write().unwrap_or_else(PoisonError::into_inner) = dsns;
        self.0.backoff.forget();
    }

    /// A first look for the server on this host has ended.
    pub(super) fn looked(&self) {
        self.0.looked.send_if_modified(|looked| !std::mem::replace(looked, true));
    }

    /// What the server says of itself; it is connected to if it never was.
    pub(super) async fn known(&self) -> Result<Arc<About>, DatabaseError> {
        if self.about().is_none() {
            self.rows("who it is", "SELECT 1").await?;
        }
        self.about().ok_or_else(|| self.0.unknown("the extension has been shut down"))
    }

    /// What the server said of itself when it was last connected to.
    pub(super) fn about(&self) -> Option<Arc<About>> {
        self.0.about.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks on the kept session, one question at a time. A question that is not answered in time ends the session:
    /// where the network is gone, nothing else would.
    pub(super) async fn rows(
        &self,
        purpose: &'static str,
        sql: impl Into<Cow<'static, str>>,
    ) -> Result<Vec<Answer>, DatabaseError> {
        self.asked(purpose, sql).await.map(|asked| asked.rows)
    }

    /// The same, and when it was asked.
    pub(super) async fn asked(
        &self,
        purpose: &'static str,
        sql: impl Into<Cow<'static, str>>,
    ) -> Result<Asked, DatabaseError> {
        self.0.looked_for().await;
        let inner = Arc::clone(&self.0);
        let sql = sql.into();
        let asking = tokio::spawn(async move { inner.asked(purpose, &sql).await });
        asking.await.unwrap_or_else(|_| Err(self.0.unknown("the extension has been shut down")))
    }

    /// Opens a session of the caller's own for writing beats.
    pub(super) async fn open_for_beats(&self) -> Result<Session, DatabaseError> {
        self.0.looked_for().await;
        self.0.open(Access::Write).await
    }

    /// Asks for exactly one row.
    pub(super) async fn row(
        &self,
        purpose: &'static str,
        sql: &'static str,
    ) -> Result<Answer, DatabaseError> {
        let row = self.rows(purpose, sql).await?.into_iter().next();
        row.ok_or_else(|| DatabaseError::Query {
            server: self.0.name.clone(),
            purpose,
            code: "no rows".to_owned(),
            remedy: "this version of the server is not supported; please report it".to_owned(),
        })
    }

    /// Closes the kept session, or only one that has been idle.
    pub(super) fn close(&self, only_idle: bool) {
        if !only_idle {
            self.0.closed.store(true, Ordering::Relaxed);
        }
        let is_idle = self.0.used.lock().unwrap_or_else(PoisonError::into_inner).elapsed() > IDLE;
        if !only_idle || is_idle {
            // Who asks now closes it himself: what is closed is not kept.
            if let Ok(mut kept) = self.0.kept.try_lock() {
                *kept = None;
            }
        }
    }
}

impl Inner {
    fn dsns(&self) -> Vec<Dsn> {
        self.dsns.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits, where discovery is to tell the connection string, for its first look to end. Without this, a server
    /// that is about to be found would be told as one that nobody knows a connection to.
    async fn looked_for(&self) {
        if self.dsns().is_empty() {
            let mut looked = self.looked.subscribe();
            drop(timeout(ANSWER, looked.wait_for(|looked| *looked)).await);
        }
    }

    fn unknown(&self, remedy: &str) -> DatabaseError {
        DatabaseError::NotConfigured { server: self.name.clone(), remedy: remedy.to_owned() }
    }

    fn server(&self) -> String {
        self.dsns().first().map_or_else(|| self.name.clone(), Dsn::server)
    }

    async fn asked(&self, purpose: &'static str, sql: &str) -> Result<Asked, DatabaseError> {
        let Ok(mut kept) = timeout(ANSWER, self.kept.lock()).await else {
            return Err(late(&self.server(), purpose));
        };
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let mut session = match kept.take() {
            Some(session) => session,
            None => self.open(Access::Read).await?,
        };
        if let Err(error) = self.is_meant(&session) {
            self.backoff.failed(&error);
            return Err(error);
        }
        // The session is open, so that the round trip is the question's alone.
        let middle = Middle::begin();
        match session.rows(purpose, sql).await {
            Ok(answer) => {
                let (monotonic, at) = middle.end();
                self.backoff.answered();
                if !self.closed.load(Ordering::Relaxed) {
                    *kept = Some(session);
                }
                answer.map(|rows| Asked { rows, monotonic, at })
            }
            Err(error) => {
                if matches!(error, DatabaseError::Timeout { .. }) {
                    self.backoff.failed(&error);
                }
                Err(error)
            }
        }
    }

    async fn open(&self, access: Access) -> Result<Session, DatabaseError> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(self.unknown("the extension has been shut down"));
        }
        let dsns = self.dsns();
        if dsns.is_empty() {
            return Err(self.unknown(
                "set dsn; or run the agent where it can see the server's processes, as a user that the server lets in \
                 over its socket",
            ));
        }
        self.backoff.due(|| self.server())?;
        let preferred = self.preferred.load(Ordering::Relaxed).min(dsns.len() - 1);
        let order = std::iter::once(preferred).chain((0..dsns.len()).filter(|at| *at != preferred));
        let mut first = None;
        for at in order {
            let opened = Session::open(&dsns[at], access).await;
            match opened.and_then(|session| self.is_meant(&session).map(|()| session)) {
                Ok(session) => {
                    self.preferred.store(at, Ordering::Relaxed);
                    self.backoff.opened();
                    if access == Access::Read {
                        let about = Arc::clone(&session.about);
                        *self.about.lock().unwrap_or_else(PoisonError::into_inner) = Some(about);
                    }
                    return Ok(session);
                }
                // Of another server the rest matter: one of them should have been the one.
                Err(error) if first.as_ref().is_none_or(is_another) => first = Some(error),
                Err(_) => {}
            }
        }
        let error = first.unwrap_or_else(|| self.unknown("set dsn"));
        self.backoff.failed(&error);
        Err(error)
    }

    /// Whether the session leads to the server that the replica replicates from, where that is what it is for.
    fn is_meant(&self, session: &Session) -> Result<(), DatabaseError> {
        let upstream = self.upstream.as_ref().and_then(|binlogs| binlogs.upstream());
        match upstream {
            Some(upstream) if upstream != session.about.server_id => {
                Err(DatabaseError::NotUpstream { server: self.server() })
            }
            _ => Ok(()),
        }
    }
}

fn is_another(error: &DatabaseError) -> bool {
    matches!(error, DatabaseError::NotUpstream { .. })
}
