//! The one session that is kept with a server, opened when it is needed and closed when nobody uses it, and the
//! way to open the second, short one.
//!
//! Connecting and asking run in tasks of their own: who stops waiting ends neither, so that a slow connect still
//! leads somewhere and no question is left behind that nobody watches.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tokio::{sync::watch, time::timeout};
use tokio_postgres::types::ToSql;
use tokio_util::sync::CancellationToken;

use super::{
    connect::{Answer, LOOKS, READING, Session, WRITING},
    dsn::Dsn,
    reach::Reach,
};
use crate::{error::DatabaseError, positions::Middle};

/// How long the kept session may be idle.
const IDLE: Duration = Duration::from_secs(15);

/// An answer, and the middle of its round trip.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) rows: Vec<Answer>,
    pub(super) monotonic: Instant,
    pub(super) at: SystemTime,
}

type Opened = Result<Arc<Session>, DatabaseError>;

/// Where the kept session stands.
#[derive(Debug, Default)]
enum Slot {
    #[default]
    Empty,
    /// Whoever needs it waits for the same attempt.
    Opening(watch::Receiver<Option<Opened>>),
    Open {
        session: Arc<Session>,
        used: Instant,
    },
}

type Kept = Arc<Mutex<Slot>>;

fn lock(kept: &Kept) -> MutexGuard<'_, Slot> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a server is asked.
#[derive(Debug)]
pub(super) struct Link {
    reach: Arc<Reach>,
    kept: Kept,
    /// Ends an attempt to connect that is under way. Held here alone; cancelled when the link is closed or dropped.
    end: CancellationToken,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

impl Link {
    pub(super) fn new(name: String, dsns: Vec<Dsn>) -> Self {
        Self { reach: Arc::new(Reach::new(name, dsns)), kept: Kept::default(), end: CancellationToken::new() }
    }

    /// The ways to the server.
    pub(super) fn reach(&self) -> &Reach {
        &self.reach
    }

    /// Host and port.
    pub(super) fn address(&self) -> (String, u16) {
        self.reach.dsns().first().map_or_else(|| (String::new(), 0), Dsn::address)
    }

    /// Opens a session of the caller's own for reading a catalog.
    pub(super) async fn open(&self, database: Option<&str>) -> Result<Session, DatabaseError> {
        self.reach.open(&READING, database).await
    }

    /// Opens a session of the caller's own for writing beats.
    pub(super) async fn open_for_beats(&self) -> Result<Session, DatabaseError> {
        self.reach.looked_for(WRITING.answer).await;
        self.reach.open(&WRITING, None).await
    }

    /// The kept session, opened if need be.
    pub(super) async fn session(&self) -> Opened {
        self.reach.looked_for(LOOKS.answer).await;
        let mut opening = {
            let mut slot = lock(&self.kept);
            match &mut *slot {
                Slot::Open { session, used } if !session.is_closed() => {
                    *used = Instant::now();
                    return Ok(Arc::clone(session));
                }
                Slot::Opening(opening) => opening.clone(),
                Slot::Open { .. } | Slot::Empty => {
                    *slot = Slot::Empty;
                    self.reach.ready()?;
                    let (tell, opening) = watch::channel(None);
                    *slot = Slot::Opening(opening.clone());
                    let (reach, kept) = (Arc::clone(&self.reach), Arc::clone(&self.kept));
                    drop(tokio::spawn(open(reach, kept, self.end.clone(), tell)));
                    opening
                }
            }
        };
        let opened = match opening.wait_for(Option::is_some).await {
            Ok(opened) => opened.clone(),
            Err(_) => None,
        };
        opened.unwrap_or_else(|| Err(self.reach.unknown("the extension has been shut down")))
    }

    /// Asks on the kept session, one question at a time. A question that is not answered in time ends the session:
    /// where the network is gone, nothing else would.
    pub(super) async fn rows(
        &self,
        purpose: &'static str,
        sql: impl Into<Cow<'static, str>>,
        parameters: &[i32],
    ) -> Result<Vec<Answer>, DatabaseError> {
        self.asked(purpose, sql, parameters).await.map(|asked| asked.rows)
    }

    /// The same, and when it was asked, whoever had to be waited for before.
    pub(super) async fn asked(
        &self,
        purpose: &'static str,
        sql: impl Into<Cow<'static, str>>,
        parameters: &[i32],
    ) -> Result<Asked, DatabaseError> {
        let sql = sql.into();
        let session = self.session().await?;
        let turn = match timeout(LOOKS.answer, session.turn()).await {
            Ok(turn) => turn?,
            Err(_) => return Err(session.late(purpose)),
        };
        let parameters = parameters.to_vec();
        let (reach, kept, asked) = (Arc::clone(&self.reach), Arc::clone(&self.kept), Arc::clone(&session));
        let asking = tokio::spawn(async move {
            let parameters: Vec<_> =
                parameters.iter().map(|parameter| parameter as &(dyn ToSql + Sync)).collect();
            let middle = Middle::begin();
            let rows = asked.rows(purpose, sql, &parameters).await;
            let (monotonic, at) = middle.end();
            match &rows {
                Err(error) if error.is_fatal_to_connection() => {
                    if matches!(error, DatabaseError::Timeout { .. }) {
                        reach.failed(error);
                    }
                    forget(&kept, &asked, error);
                }
                _ => reach.answered(),
            }
            drop(turn);
            rows.map(|rows| Asked { rows, monotonic, at })
        });
        asking.await.unwrap_or_else(|_| Err(session.lost()))
    }

    /// Asks for exactly one row.
    pub(super) async fn row(
        &self,
        purpose: &'static str,
        sql: &'static str,
        parameters: &[i32],
    ) -> Result<Answer, DatabaseError> {
        let row = self.rows(purpose, sql, parameters).await?.into_iter().next();
        row.ok_or_else(|| DatabaseError::Query {
            server: self.reach.name().to_owned(),
            purpose,
            code: "no rows".to_owned(),
            remedy: "this version of the server is not supported; please report it".to_owned(),
        })
    }

    /// Closes a session and waits until the server has let go of it, so that the next one is not a third.
    pub(super) async fn end(&self, session: Session) {
        const TRIES: usize = 100;
        let backend = session.backend.cast_signed();
        drop(session);
        let sql = "SELECT 1 FROM pg_catalog.pg_stat_get_activity($1)";
        for _ in 0..TRIES {
            match self.rows("whether a session has ended", sql, &[backend]).await {
                Ok(rows) if !rows.is_empty() => tokio::time::sleep(Duration::from_millis(5)).await,
                _ => return,
            }
        }
    }

    /// The server that the kept session leads to is not the one that was meant.
    pub(super) fn refuse(&self, session: &Arc<Session>, error: &DatabaseError) {
        self.reach.failed(error);
        forget(&self.kept, session, error);
    }

    /// Closes the kept session, or only one that has been idle.
    pub(super) fn close(&self, only_idle: bool) {
        if !only_idle {
            self.reach.close();
            self.end.cancel();
        }
        let mut slot = lock(&self.kept);
        if !only_idle || matches!(&*slot, Slot::Open { used, .. } if used.elapsed() > IDLE) {
            *slot = Slot::Empty;
        }
    }
}

/// Opens the kept session and tells all who wait for it.
async fn open(reach: Arc<Reach>, kept: Kept, end: CancellationToken, tell: watch::Sender<Option<Opened>>) {
    let opened = tokio::select! {
        () = end.cancelled() => return,
        opened = reach.open(&LOOKS, None) => opened.map(Arc::new),
    };
    {
        let mut slot = lock(&kept);
        // The link may have been closed in the meantime; then nobody keeps the session.
        if matches!(&*slot, Slot::Opening(opening) if opening.same_channel(&tell.subscribe())) {
            *slot = match &opened {
                Ok(session) => Slot::Open { session: Arc::clone(session), used: Instant::now() },
                Err(_) => Slot::Empty,
            };
        }
    }
    tell.send_replace(Some(opened));
}

fn forget(kept: &Kept, session: &Arc<Session>, why: &DatabaseError) {
    session.shut(why);
    let mut slot = lock(kept);
    if matches!(&*slot, Slot::Open { session: kept, .. } if Arc::ptr_eq(kept, session)) {
        *slot = Slot::Empty;
    }
}
