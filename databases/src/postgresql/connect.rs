//! A session with a PostgreSQL server: read-only, with short timeouts, under the agent's name.
//!
//! Answers and errors name what was asked for, never the statement.

use std::{
    borrow::Cow,
    collections::HashMap,
    error::Error as _,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_postgres::{
    Client, Row, Statement,
    config::Host,
    types::{FromSql, ToSql},
};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    cluster,
    dsn::Dsn,
    grants::{ON_THE_PRIMARY, quote},
};
use crate::error::DatabaseError;

/// How long connecting may take in all, and one address of it where the connection string does not say.
const CONNECT: Duration = Duration::from_secs(10);
const ADDRESS: Duration = Duration::from_secs(4);
/// How long a session that is closed may take to say so; then its socket is closed under it.
const GOODBYE: Duration = Duration::from_millis(500);
/// How long taking a statement back may take.
const CANCEL: Duration = Duration::from_millis(2_500);
/// What mends a connection that leads to a pooler.
const NO_POOLER: &str = "connect to the server itself, not to a pooler";

/// What is asked when a session is opened. A server that is too old to have `pg_monitor` lacks nothing here.
const WHO: &str = "SELECT pg_catalog.pg_backend_pid(), current_setting('server_version_num')::int4, \
     current_setting('default_transaction_read_only') = 'on', current_user::text, \
     coalesce((SELECT pg_catalog.pg_has_role(current_user, oid, 'USAGE') FROM pg_catalog.pg_roles \
     WHERE rolname = 'pg_monitor'), true), \
     floor(extract(epoch FROM pg_catalog.pg_postmaster_start_time()))::bigint";

/// What poolers call a parameter of the start that they do not know.
const PROTOCOL_VIOLATION: &str = "08P01";

/// How long statements of a session may take.
#[derive(Debug)]
pub(super) struct Limits {
    /// The server's own timeout, in milliseconds.
    pub(super) statement_ms: u32,
    /// How long an answer may take: above the server's own timeout, for when the server is gone.
    pub(super) answer: Duration,
    /// Whether it may write; then no standby is waited for, and what the server says of read-only transactions stands.
    pub(super) writes: bool,
}

/// Of the kept session: who looks at positions has no use for what comes after a second.
pub(super) const LOOKS: Limits =
    Limits { statement_ms: 800, answer: Duration::from_millis(900), writes: false };
/// Of a session that reads a catalog.
pub(super) const READING: Limits =
    Limits { statement_ms: 1_000, answer: Duration::from_millis(2_500), writes: false };
/// Of the session that writes beats.
pub(super) const WRITING: Limits = Limits { writes: true, ..LOOKS };

/// What a session is started with. A lock that is not granted at once is not worth waiting for, and a statement
/// that takes a second holds up replay. As parameters of the start and never by `SET`: a pooler that shares its
/// server sessions refuses them, where `SET` would change the sessions of the application.
fn options(dsn: &Dsn, limits: &Limits) -> String {
    let access = if limits.writes { "synchronous_commit=local" } else { "default_transaction_read_only=on" };
    let own = format!(
        "-c {access} -c statement_timeout={} -c lock_timeout=100 \
         -c idle_in_transaction_session_timeout=5000 -c max_parallel_workers_per_gather=0 -c jit=off \
         -c search_path=pg_catalog",
        limits.statement_ms
    );
    // Of an option given twice, the server takes the last.
    dsn.config.get_options().map_or_else(|| own.clone(), |given| format!("{given} {own}"))
}

/// Backends of the agent's own, so that it can name itself where replay waits for one.
pub(super) type OwnBackends = Arc<Mutex<Vec<u32>>>;

/// An open session. Closed when dropped.
pub(super) struct Session {
    client: Client,
    tls: MakeRustlsConnect,
    server: Arc<str>,
    own: OwnBackends,
    limits: &'static Limits,
    /// Whose turn it is to ask, where several share the session.
    turn: Arc<Semaphore>,
    /// Cancelled when the session is to end; the task that carries its bytes closes the socket then.
    end: CancellationToken,
    /// Why it was ended before its time.
    why: OnceLock<DatabaseError>,
    _end_on_drop: DropGuard,
    /// Process id of its backend, as the server counts.
    pub(super) backend: u32,
    /// The role that the session has, and whether it may see what `pg_monitor` may.
    pub(super) role: String,
    pub(super) monitors: bool,
    /// When the server was started, as seconds since the epoch.
    pub(super) started: i64,
    /// Such as `150004`.
    pub(super) version: u32,
    /// Process id of the startup process, as far as it is known; 0 if not.
    pub(super) startup: AtomicU32,
    /// The cluster's system identifier, once it was asked for.
    pub(super) cluster: cluster::Asked,
    statements: Mutex<HashMap<Cow<'static, str>, Statement>>,
    /// Names of schemas by oid, as far as they were asked for.
    schemas: Mutex<HashMap<u32, Arc<str>>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("server", &self.server).finish_non_exhaustive()
    }
}

/// One row of an answer.
#[derive(Debug)]
pub(super) struct Answer {
    row: Row,
    server: Arc<str>,
    purpose: &'static str,
}

impl Answer {
    /// The value of a column, by its place.
    pub(super) fn read<'a, T: FromSql<'a>>(&'a self, column: usize) -> Result<T, DatabaseError> {
        self.row.try_get(column).map_err(|_| DatabaseError::Query {
            server: self.server.to_string(),
            purpose: self.purpose,
            code: format!("unexpected answer in column {column}"),
            remedy: "this version of the server is not supported; please report it".to_owned(),
        })
    }
}

impl Session {
    /// Opens a session with the database of the connection string, or another one of the same server.
    pub(super) async fn open(
        dsn: &Dsn,
        tls: MakeRustlsConnect,
        limits: &'static Limits,
        database: Option<&str>,
        own: &OwnBackends,
    ) -> Result<Self, DatabaseError> {
        let mut config = dsn.config.clone();
        config.application_name("blameio").options(options(dsn, limits));
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(ADDRESS);
        }
        if let Some(database) = database {
            config.dbname(database);
        }
        let server: Arc<str> = dsn.server().into();
        let opening = async {
            let (client, connection) =
                config.connect(tls.clone()).await.map_err(|error| refusal(dsn, database, &error))?;
            let end = CancellationToken::new();
            let end_on_drop = end.clone().drop_guard();
            // Its error is seen by whoever asks next.
            drop(tokio::spawn(carry(connection, end.clone())));
            let row =
                client.query_one(WHO, &[]).await.map_err(|error| failure(&server, "version", &error))?;
            Ok((client, end, end_on_drop, Answer { row, server: Arc::clone(&server), purpose: "version" }))
        };
        let (client, end, end_on_drop, answer) =
            timeout(CONNECT, opening).await.map_err(|_| DatabaseError::Connect {
                server: server.to_string(),
                reason: format!("no answer in {} s", CONNECT.as_secs()),
                remedy: "check host, port and firewall".to_owned(),
            })??;
        let backend = answer.read::<i32>(0)?.cast_unsigned();
        let version = answer.read::<i32>(1)?.cast_unsigned();
        if !limits.writes && !answer.read::<bool>(2)? {
            // A pooler may be told to drop what it does not know.
            return Err(DatabaseError::Refused {
                server: server.to_string(),
                code: PROTOCOL_VIOLATION.to_owned(),
                reason: "the options of the session were dropped on the way".to_owned(),
                remedy: NO_POOLER.to_owned(),
            });
        }
        let (role, monitors, started) = (answer.read(3)?, answer.read(4)?, answer.read(5)?);
        own.lock().unwrap_or_else(PoisonError::into_inner).push(backend);
        Ok(Self {
            client,
            tls,
            server,
            own: Arc::clone(own),
            limits,
            turn: Arc::new(Semaphore::new(1)),
            end,
            why: OnceLock::new(),
            _end_on_drop: end_on_drop,
            backend,
            role,
            monitors,
            started,
            version,
            startup: AtomicU32::new(0),
            cluster: cluster::Asked::new(),
            statements: Mutex::default(),
            schemas: Mutex::default(),
        })
    }

    /// Whether the connection is gone.
    pub(super) fn is_closed(&self) -> bool {
        self.end.is_cancelled() || self.client.is_closed()
    }

    /// Closes the connection, even where a question is still unanswered. Whoever waits for a turn is told why.
    pub(super) fn shut(&self, why: &DatabaseError) {
        self.why.get_or_init(|| why.clone());
        self.turn.close();
        self.end.cancel();
    }

    /// Waits for the right to ask; it ends when what is returned is dropped.
    pub(super) async fn turn(&self) -> Result<OwnedSemaphorePermit, DatabaseError> {
        let turn = Arc::clone(&self.turn).acquire_owned().await;
        turn.map_err(|_| self.why.get().cloned().unwrap_or_else(|| self.lost()))
    }

    pub(super) fn lost(&self) -> DatabaseError {
        lost(&self.server)
    }

    pub(super) fn late(&self, purpose: &'static str) -> DatabaseError {
        DatabaseError::Timeout {
            server: self.server.to_string(),
            purpose,
            after_ms: u64::try_from(self.limits.answer.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// The startup process, if it is known.
    pub(super) fn startup(&self) -> u32 {
        self.startup.load(Ordering::Relaxed)
    }

    /// The name of a schema that was told by [`Session::name_schema`]. All who ask share it.
    pub(super) fn schema(&self, oid: u32) -> Option<Arc<str>> {
        self.schemas.lock().unwrap_or_else(PoisonError::into_inner).get(&oid).cloned()
    }

    pub(super) fn name_schema(&self, oid: u32, name: &str) {
        self.schemas.lock().unwrap_or_else(PoisonError::into_inner).insert(oid, name.into());
    }

    /// Asks, with a statement that is prepared once a session.
    pub(super) async fn rows(
        &self,
        purpose: &'static str,
        sql: impl Into<Cow<'static, str>>,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Answer>, DatabaseError> {
        let sql = sql.into();
        let asking = async {
            let prepared = self.statements.lock().unwrap_or_else(PoisonError::into_inner).get(&sql).cloned();
            let statement = match prepared {
                Some(statement) => statement,
                None => {
                    let statement = self.client.prepare(&sql).await?;
                    let mut statements = self.statements.lock().unwrap_or_else(PoisonError::into_inner);
                    statements.insert(sql, statement.clone());
                    statement
                }
            };
            self.client.query(&statement, parameters).await
        };
        let rows = timeout(self.limits.answer, asking).await.map_err(|_| self.late(purpose))?;
        let rows = rows.map_err(|error| failure(&self.server, purpose, &error))?;
        Ok(rows.into_iter().map(|row| Answer { row, server: Arc::clone(&self.server), purpose }).collect())
    }

    /// Takes back the statement that runs now.
    pub(super) async fn cancel(&self) {
        let token = self.client.cancel_token();
        let cancelled = token.cancel_query(self.tls.clone());
        if !matches!(timeout(CANCEL, cancelled).await, Ok(Ok(()))) {
            tracing::debug!(server = %self.server, "a statement could not be taken back; its timeout ends it");
        }
    }

    pub(super) fn yielded(&self, purpose: &'static str) -> DatabaseError {
        DatabaseError::Yielded { server: self.server.to_string(), purpose }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).retain(|backend| *backend != self.backend);
    }
}

/// Carries a session's bytes until it is closed, by either side. What still waits for an answer does not keep the
/// socket open: of a network that is gone, none comes.
async fn carry(connection: impl Future<Output = Result<(), tokio_postgres::Error>>, end: CancellationToken) {
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = &mut connection => return,
        () = end.cancelled() => {}
    }
    drop(timeout(GOODBYE, connection).await);
}

fn lost(server: &str) -> DatabaseError {
    DatabaseError::Connect {
        server: server.to_owned(),
        reason: "the connection was lost".to_owned(),
        remedy: "see the server's log for why it ended the session, or look at the network".to_owned(),
    }
}

/// Why a statement failed. The server's message is left out: it may quote the statement.
fn failure(server: &str, purpose: &'static str, error: &tokio_postgres::Error) -> DatabaseError {
    let Some(code) = error.code() else {
        return lost(server);
    };
    let remedy = match code.code() {
        "42501" => "on the primary, run `GRANT pg_monitor TO` the role in the connection string",
        "57014" => "the server is too busy to answer in time",
        "55P03" => "somebody holds a lock on a system catalog",
        "40001" | "57P04" => "replay needed the session to end",
        "57P01" | "57P02" | "57P03" => "the server is being stopped or started",
        "42883" | "42703" | "42P01" => "PostgreSQL 10 or later is needed; please report it if it is",
        _ => "see the server's log",
    };
    DatabaseError::Query {
        server: server.to_owned(),
        purpose,
        code: code.code().to_owned(),
        remedy: remedy.to_owned(),
    }
}

/// Why a connection was not made, and the exact line or SQL that mends it.
fn refusal(dsn: &Dsn, database: Option<&str>, error: &tokio_postgres::Error) -> DatabaseError {
    let server = dsn.server();
    let Some(answer) = error.as_db_error() else {
        let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        let remedy = if cause.contains("password missing") {
            "the server wants a password: put one into the dsn, e.g. through ${env:DATABASE_DSN}, or let the role in \
             by pg_hba.conf"
        } else if cause.contains("ertificate") {
            "check sslmode and sslrootcert in the connection string"
        } else {
            "check that the server runs, and host and port in the connection string"
        };
        return DatabaseError::Connect { server, reason: cause, remedy: remedy.to_owned() };
    };
    let user = quote(dsn.config.get_user().unwrap_or_default());
    let database = quote(database.or(dsn.config.get_dbname()).unwrap_or_default());
    let socket = matches!(dsn.config.get_hosts().first(), Some(Host::Unix(_)));
    let remedy = match answer.code().code() {
        "28P01" => {
            format!(
                "correct the password in the connection string, or {ON_THE_PRIMARY}: `ALTER ROLE {user} PASSWORD '…';`"
            )
        }
        "28000" if socket => format!(
            "set dsn, or let the agent in over the socket: {ON_THE_PRIMARY} `CREATE ROLE blameio LOGIN; \
             GRANT pg_monitor TO blameio;`, in pg_ident.conf `blameio {os} blameio`, in pg_hba.conf above other `local` \
             lines `local all blameio peer map=blameio`, then `SELECT pg_reload_conf();`, and declare the server with a \
             dsn that names the role blameio",
            os = super::dsn::operating_system_user(),
        ),
        "28000" => format!(
            "set dsn, or in pg_hba.conf `host {database} {user} <the agent's address>/32 scram-sha-256`, then \
             `SELECT pg_reload_conf();`"
        ),
        "3D000" => "name a database that exists in the connection string, such as /postgres".to_owned(),
        "42501" => format!("{ON_THE_PRIMARY}: `GRANT CONNECT ON DATABASE {database} TO {user};`"),
        "53300" => {
            format!("raise max_connections, or {ON_THE_PRIMARY}: `ALTER ROLE {user} CONNECTION LIMIT 2;`")
        }
        "57P03" => "the server is being started or stopped, or hot_standby is off".to_owned(),
        PROTOCOL_VIOLATION => NO_POOLER.to_owned(),
        _ => "see the server's log".to_owned(),
    };
    DatabaseError::Refused {
        server,
        code: answer.code().code().to_owned(),
        reason: answer.message().to_owned(),
        remedy,
    }
}
