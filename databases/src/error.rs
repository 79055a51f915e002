//! What can go wrong with a database server, with what was tried and what the operator can do.
//!
//! No variant holds a DSN, a password or the text of a statement, so none can be printed.

use thiserror::Error;

/// A server cannot be declared, reached or asked.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DatabaseError {
    /// The connection string is not usable.
    #[error("the connection string is not usable: {reason}")]
    Dsn {
        /// What is wrong, without any part of the string.
        reason: String,
    },
    /// No connection string, and the server was not found on this host.
    #[error("no connection to {server} is known; {remedy}")]
    NotConfigured {
        /// The extension's id.
        server: String,
        /// What the operator can do.
        remedy: String,
    },
    /// Nobody answers.
    #[error("cannot connect to {server}: {reason}; {remedy}")]
    Connect {
        /// Host and port, or socket directory and port.
        server: String,
        /// What came of it.
        reason: String,
        /// What the operator can do.
        remedy: String,
    },
    /// The server answers and refuses.
    #[error("{server} refuses the connection ({code}): {reason}; {remedy}")]
    Refused {
        /// Host and port, or socket directory and port.
        server: String,
        /// SQLSTATE.
        code: String,
        /// What the server says.
        reason: String,
        /// What the operator can do.
        remedy: String,
    },
    /// The last attempt failed and the next one is not due yet.
    #[error(
        "not connected to {server}; the next attempt is due in {wait_ms} ms, the last one failed: {last}"
    )]
    Backoff {
        /// Host and port, or socket directory and port.
        server: String,
        /// Milliseconds until the next attempt.
        wait_ms: u64,
        /// What came of the last attempt.
        last: Box<DatabaseError>,
    },
    /// A statement failed.
    #[error("{server} cannot answer ({purpose}; {code}): {remedy}")]
    Query {
        /// Host and port, or socket directory and port.
        server: String,
        /// What was asked for.
        purpose: &'static str,
        /// SQLSTATE, or what came in its place.
        code: String,
        /// What the operator can do.
        remedy: String,
    },
    /// No answer in time.
    #[error("{server} did not answer in {after_ms} ms ({purpose}); it is overloaded or the network is gone")]
    Timeout {
        /// Host and port, or socket directory and port.
        server: String,
        /// What was asked for.
        purpose: &'static str,
        /// Milliseconds waited.
        after_ms: u64,
    },
    /// The server that should be the replica's primary is of another cluster.
    #[error(
        "primary_dsn names another cluster, {server} (the system identifier differs); name this replica's primary"
    )]
    AnotherCluster {
        /// Host and port, or socket directory and port.
        server: String,
    },
    /// The server that should be a primary is a replica.
    #[error("primary_dsn names a server in recovery, {server}; name the primary")]
    InRecovery {
        /// Host and port, or socket directory and port.
        server: String,
    },
    /// The server that should be the replica's upstream is another one.
    #[error(
        "primary_dsn names {server}, which this replica does not replicate from (the server id differs); name the server \
         that it replicates from"
    )]
    NotUpstream {
        /// Host and port, or socket.
        server: String,
    },
    /// The heartbeat's table is not there, or may not be used.
    #[error("{server}: {reason}; on the primary (a replica has it by replication) run: {sql}")]
    Heartbeat {
        /// Host and port, or socket.
        server: String,
        /// What is missing.
        reason: String,
        /// What mends it.
        sql: String,
    },
    /// The agent took its own statement back because replay waited for it.
    #[error("{purpose} was taken back because replay on {server} waited for it")]
    Yielded {
        /// Host and port, or socket directory and port.
        server: String,
        /// What was asked for.
        purpose: &'static str,
    },
}

impl DatabaseError {
    /// What the server called its refusal, where it answered with one.
    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            Self::Query { code, .. } => Some(code),
            _ => None,
        }
    }

    /// Whether the connection is of no more use.
    pub(crate) fn is_fatal_to_connection(&self) -> bool {
        !matches!(self, Self::Query { code, .. } if !code.starts_with("57P") && !code.starts_with("08") && code.len() == 5)
            && !matches!(self, Self::Yielded { .. } | Self::Heartbeat { .. })
    }

    /// Whether the server as a whole cannot be reached, which everybody who asks it is told.
    pub(crate) fn is_of_whole_server(&self) -> bool {
        matches!(self.root(), Self::Connect { .. } | Self::Refused { .. } | Self::NotConfigured { .. })
    }

    /// The error that a backed off attempt stands for.
    pub fn root(&self) -> &Self {
        match self {
            Self::Backoff { last, .. } => last.root(),
            other => other,
        }
    }
}
