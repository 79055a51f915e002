//! A session with a MySQL or MariaDB server: read-only, with short timeouts, under the agent's name.
//!
//! Answers and errors name what was asked for, never the statement.

use std::{str::FromStr, sync::Arc, time::Duration};

use mysql_async::{Conn, DriverError, Error, Opts, OptsBuilder, Row, ServerError, Value, prelude::Queryable};
use tokio::time::timeout;

use super::{
    dsn::{Dsn, Host, TlsMode},
    refusal::{failure, lost, refusal},
    tls,
};
use crate::error::DatabaseError;

/// How long connecting may take in all.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an answer may take: above the server's own timeout, for when the server is gone. Who looks at positions has no
/// use for what comes after a second.
pub(super) const ANSWER: Duration = Duration::from_millis(900);
/// How long a session that is closed may take to say so; then its socket is closed.
const GOODBYE: Duration = Duration::from_millis(500);
/// Most bytes of an answer, so that the server need not be asked for its limit.
const MOST: usize = 16 << 20;

/// What a server does not know a variable by.
pub(super) const UNKNOWN_VARIABLE: u16 = 1193;

/// The server's own timeout, in the words of MariaDB and of MySQL; a server that knows neither has none.
const LIMITS: &[&str] = &["SET SESSION max_statement_time = 0.8", "SET SESSION max_execution_time = 800"];
/// A lock that is not granted at once is not worth waiting for; nothing here asks for one on a table of anybody's.
const CAREFUL: &[&str] = &["SET SESSION TRANSACTION READ ONLY", "SET SESSION lock_wait_timeout = 1"];
const CAREFUL_TO_WRITE: &[&str] = &[
    "SET SESSION autocommit = 1",
    "SET SESSION lock_wait_timeout = 1",
    "SET SESSION innodb_lock_wait_timeout = 1",
];
const WHO: &str = "SELECT CONNECTION_ID(), VERSION(), @@version_comment, @@server_id, CURRENT_USER()";

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Looking; it may not write.
    Read,
    /// Writing beats.
    Write,
}

/// What a server said of itself when a session was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct About {
    /// Number of the session, as the server counts.
    pub(super) connection: u32,
    pub(super) version: String,
    pub(super) is_mariadb: bool,
    pub(super) server_id: u32,
    /// The account that the session has, as `name@host`.
    pub(super) account: String,
}

/// An open session. Closed when dropped.
#[derive(Debug)]
pub(super) struct Session {
    /// There until it is dropped.
    conn: Option<Conn>,
    server: Arc<str>,
    pub(super) about: Arc<About>,
}

/// One row of an answer.
#[derive(Debug)]
pub(super) struct Answer(Row);

impl Answer {
    /// The value of a column, by its place; `None` for NULL.
    pub(super) fn at(&self, column: usize) -> Option<String> {
        text(self.0.as_ref(column)?)
    }

    /// The value of the first column that has one of these names; `None` for NULL, and where there is none.
    pub(super) fn named(&self, names: &[&str]) -> Option<String> {
        let columns = self.0.columns_ref();
        let at = names
            .iter()
            .find_map(|name| columns.iter().position(|column| column.name_str().eq_ignore_ascii_case(name)));
        text(self.0.as_ref(at?)?)
    }

    /// The same, as a number.
    pub(super) fn number<T: FromStr>(&self, names: &[&str]) -> Option<T> {
        self.named(names)?.parse().ok()
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::Int(number) => Some(number.to_string()),
        Value::UInt(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Double(number) => Some(number.to_string()),
        // No column of such a type is read.
        Value::NULL | Value::Date(..) | Value::Time(..) => None,
    }
}

impl Session {
    pub(super) async fn open(dsn: &Dsn, access: Access) -> Result<Self, DatabaseError> {
        let server: Arc<str> = dsn.server().into();
        // Authorities are read from files, which may take its time and says nothing of the server.
        let options = options(dsn, dsn.tls).await?;
        let opened = timeout(CONNECT, Self::opened(dsn, options, &server, access)).await;
        opened.unwrap_or_else(|_| {
            Err(DatabaseError::Connect {
                server: server.to_string(),
                reason: format!("no answer in {} s", CONNECT.as_secs()),
                remedy: "check host, port and firewall".to_owned(),
            })
        })
    }

    async fn opened(
        dsn: &Dsn,
        given: Opts,
        server: &Arc<str>,
        access: Access,
    ) -> Result<Self, DatabaseError> {
        let conn = match Conn::new(given).await {
            // The server has no TLS, and none is insisted on.
            Err(Error::Driver(DriverError::NoClientSslFlagFromServer)) if dsn.tls == TlsMode::Preferred => {
                Conn::new(options(dsn, TlsMode::Disabled).await?).await
            }
            conn => conn,
        };
        let conn = Some(conn.map_err(|error| refusal(dsn, &error))?);
        let unknown = About {
            connection: 0,
            version: String::new(),
            is_mariadb: false,
            server_id: 0,
            account: String::new(),
        };
        let mut session = Self { conn, server: Arc::clone(server), about: Arc::new(unknown) };
        let refused = |error: Error| refusal(dsn, &error);
        let careful = match access {
            Access::Read => CAREFUL,
            Access::Write => CAREFUL_TO_WRITE,
        };
        for sql in careful {
            session.query(sql).await.map_err(refused)?;
        }
        for sql in LIMITS {
            match session.query(sql).await {
                Ok(_) => break,
                Err(Error::Server(ServerError { code: UNKNOWN_VARIABLE, .. })) => {}
                Err(error) => return Err(refusal(dsn, &error)),
            }
        }
        let rows = session.query(WHO).await.map_err(refused)?;
        let row = rows.into_iter().next().map(Answer).ok_or_else(|| lost(server))?;
        let version = row.at(1).unwrap_or_default();
        let comment = row.at(2).unwrap_or_default();
        let is_mariadb =
            [&version, &comment].iter().any(|text| text.to_ascii_lowercase().contains("mariadb"));
        let number = |column| row.at(column).and_then(|number| number.parse().ok()).unwrap_or(0);
        session.about = Arc::new(About {
            connection: number(0),
            is_mariadb,
            server_id: number(3),
            account: row.at(4).unwrap_or_default(),
            version,
        });
        Ok(session)
    }

    async fn query(&mut self, sql: &str) -> Result<Vec<Row>, Error> {
        match &mut self.conn {
            Some(conn) => conn.query(sql).await,
            None => Err(Error::Driver(DriverError::ConnectionClosed)),
        }
    }

    /// How many rows the last statement changed.
    pub(super) fn changed(&self) -> u64 {
        self.conn.as_ref().map_or(0, Conn::affected_rows)
    }

    /// Asks. Where the answer says so, the session is of no more use.
    pub(super) async fn rows(
        &mut self,
        purpose: &'static str,
        sql: &str,
    ) -> Result<Result<Vec<Answer>, DatabaseError>, DatabaseError> {
        let Ok(answer) = timeout(ANSWER, self.query(sql)).await else {
            return Err(late(&self.server, purpose));
        };
        match answer {
            Ok(rows) => Ok(Ok(rows.into_iter().map(Answer).collect())),
            Err(error) if error.is_fatal() => Err(lost(&self.server)),
            Err(error) => {
                let failed = failure(&self.server, &self.about, purpose, &error);
                if matches!(failed, DatabaseError::Connect { .. }) { Err(failed) } else { Ok(Err(failed)) }
            }
        }
    }
}

impl Drop for Session {
    /// The driver would wait for a question that is still unanswered; of a network that is gone, no answer comes.
    fn drop(&mut self) {
        if let (Some(conn), Ok(runtime)) = (self.conn.take(), tokio::runtime::Handle::try_current()) {
            drop(runtime.spawn(timeout(GOODBYE, conn.disconnect())));
        }
    }
}

pub(super) fn late(server: &str, purpose: &'static str) -> DatabaseError {
    DatabaseError::Timeout {
        server: server.to_owned(),
        purpose,
        after_ms: u64::try_from(ANSWER.as_millis()).unwrap_or(u64::MAX),
    }
}

async fn options(dsn: &Dsn, tls: TlsMode) -> Result<Opts, DatabaseError> {
    let options = OptsBuilder::default()
        .user(Some(dsn.user.as_str()))
        .pass(dsn.password.as_deref())
        // A server is asked where it was named, and no other way is looked for.
        .prefer_socket(false)
        .stmt_cache_size(0)
        .max_allowed_packet(Some(MOST))
        .wait_timeout(Some(0))
        .tcp_keepalive(Some(Duration::from_secs(30)))
        .connect_attribute("program_name", "blameio");
    let options = match &dsn.host {
        Host::Tcp(host, port) => options.ip_or_hostname(host.as_str()).tcp_port(*port),
        Host::Socket(path) => options.socket(Some(path.display().to_string())),
    };
    let tls =
        tls::options(tls, dsn.authorities.as_deref()).await.map_err(|reason| DatabaseError::Connect {
            server: dsn.server(),
            reason,
            remedy: "correct the connection string".to_owned(),
        })?;
    Ok(options.ssl_opts(tls).into())
}
