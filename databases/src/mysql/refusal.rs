//! Why a server did not let the agent in, or did not answer, and the exact SQL that mends it.

use mysql_async::{DriverError, Error, IoError};

use super::{
    connect::About,
    dsn::{Dsn, Host},
    grants,
};
use crate::error::DatabaseError;

pub(super) fn lost(server: &str) -> DatabaseError {
    DatabaseError::Connect {
        server: server.to_owned(),
        reason: "the connection was lost".to_owned(),
        remedy: "see the server's log for why it ended the session, or look at the network".to_owned(),
    }
}

/// Why a statement failed. The server's message is left out: it may quote the statement.
pub(super) fn failure(server: &str, about: &About, purpose: &'static str, error: &Error) -> DatabaseError {
    let Error::Server(answer) = error else { return lost(server) };
    let remedy = match answer.code {
        // The session is being ended.
        1053 | 1077 | 1927 => return lost(server),
        1044 | 1142 | 1227 => grants::all(about),
        1064 | 1146 | 1054 | 1193 => {
            "MySQL 5.7 or MariaDB 10.2 or later is needed; please report it if it is".to_owned()
        }
        1969 | 3024 => "the server is too busy to answer in time".to_owned(),
        1205 => "somebody holds a lock on what was asked for".to_owned(),
        _ => "see the server's log".to_owned(),
    };
    DatabaseError::Query { server: server.to_owned(), purpose, code: answer.code.to_string(), remedy }
}

/// Why a connection was not made.
pub(super) fn refusal(dsn: &Dsn, error: &Error) -> DatabaseError {
    let server = dsn.server();
    let connect = |reason: String, remedy: &str| DatabaseError::Connect {
        server: server.clone(),
        reason,
        remedy: remedy.to_owned(),
    };
    let answer = match error {
        Error::Server(answer) => answer,
        Error::Driver(DriverError::NoClientSslFlagFromServer) => {
            return connect(
                "the server has no TLS".to_owned(),
                "give the server a certificate, or correct ssl-mode",
            );
        }
        Error::Driver(DriverError::UnknownAuthPlugin { name }) => {
            return connect(
                format!("the account is let in by {name}, which is not known here"),
                "let it in by caching_sha2_password, mysql_native_password or unix_socket",
            );
        }
        Error::Io(IoError::Tls(error)) => {
            return connect(error.to_string(), "check ssl-mode and ssl-ca in the connection string");
        }
        Error::Io(IoError::Io(error)) => {
            let at = match dsn.host {
                Host::Tcp(..) => "check that the server runs, and host and port in the connection string",
                Host::Socket(_) => "check that the server runs, and the socket in the connection string",
            };
            return connect(error.to_string(), at);
        }
        _ => {
            return connect(
                "what answers is no MySQL or MariaDB server, or it ended the session".to_owned(),
                "check host and port in the connection string, and the server's log",
            );
        }
    };
    let user = grants::quote(&dsn.user);
    let remedy = match answer.code {
        1045 if dsn.password.is_none() => format!(
            "put the password into the dsn, e.g. through ${{env:DATABASE_DSN}}, or let the agent in over the socket: \
             `CREATE USER {user}@'localhost' IDENTIFIED VIA unix_socket` (MariaDB) or `IDENTIFIED WITH auth_socket` \
             (MySQL)"
        ),
        1045 => format!(
            "correct the password in the connection string, or `ALTER USER {user}@'%' IDENTIFIED BY '…'` on the primary"
        ),
        1698 => format!(
            "the account {user} is let in over the socket, and only for the operating system's user of that name; \
             set dsn"
        ),
        1130 => format!("`CREATE USER {user}@'<the agent's address>' IDENTIFIED BY '…'` on the primary"),
        1040 | 1203 | 1226 => "raise max_connections, or the account's MAX_USER_CONNECTIONS to 2".to_owned(),
        1129 => "too many connects have failed: `FLUSH HOSTS`, once their cause is gone".to_owned(),
        1053 | 1077 => return lost(&server),
        _ => "see the server's log".to_owned(),
    };
    DatabaseError::Refused { server, code: answer.code.to_string(), reason: answer.message.clone(), remedy }
}
