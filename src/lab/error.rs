//! The one error type of the laboratory: what was tried, and what the operator can do about it.
//!
//! It does not decide what is fatal; a caller may go on without a slow disk or a throttle.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a part of the laboratory could not be made, driven or asked.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// No directory holds all server programs.
    #[error(
        "no PostgreSQL server programs found (looked in {tried}): install the server package \
         (Debian: `postgresql`, Fedora: `postgresql-server`) or name the directory of initdb and postgres"
    )]
    NoBinaries {
        /// The places looked at, in order.
        tried: String,
    },
    /// There is no `MariaDB` server program.
    #[error(
        "no mariadbd found (looked in PATH and the sbin directories): install the server package (Debian: \
         `mariadb-server-core` and `mariadb-client`, Fedora: `mariadb-server`)"
    )]
    NoMariaDb,
    /// The directory that was named does not hold all server programs.
    #[error("{} has no {missing}: name the directory of a complete PostgreSQL server", dir.display())]
    MissingPrograms {
        /// The directory.
        dir: PathBuf,
        /// What is not in it.
        missing: String,
    },
    /// A file or directory operation failed.
    #[error("{doing} {}: {source}", path.display())]
    File {
        /// What was tried, as "create", "write".
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// A program could not be run at all.
    #[error("cannot run {program}: {source}; is it installed, and may its user reach the working directory?")]
    NotRun {
        /// The program.
        program: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// A program ran and failed.
    #[error("{program} failed ({status}): {output}")]
    Failed {
        /// The program and its arguments.
        program: String,
        /// Its exit status.
        status: String,
        /// The last lines it wrote.
        output: String,
    },
    /// A server did not start.
    #[error("the server did not start in {} ({reason}); the end of its log:\n{log}", data.display())]
    Start {
        /// The data directory.
        data: PathBuf,
        /// Exit status, or the deadline that passed.
        reason: String,
        /// The last lines of the log.
        log: String,
    },
    /// A condition did not come true in time.
    #[error("waited {waited:?} for {what}, in vain")]
    Deadline {
        /// The condition.
        what: String,
        /// The time given to it.
        waited: Duration,
    },
    /// The operation needs root.
    #[error("{what} needs root: run as root, or choose `Storage::Plain`")]
    NotRoot {
        /// The operation.
        what: &'static str,
    },
    /// No cgroup of this host can limit reads.
    #[error("reads cannot be limited here: {reason}; cause the lag by a lock or a paused replay instead")]
    NoThrottle {
        /// What each hierarchy lacks.
        reason: String,
    },
    /// A server process that was looked for is not there.
    #[error("the server in {} has no {role} process; its log: {}", dir.display(), log.display())]
    NoProcess {
        /// The role, as in the process title.
        role: &'static str,
        /// The cluster's directory.
        dir: PathBuf,
        /// Where the server says why.
        log: PathBuf,
    },
    /// The server is not running.
    #[error("the server in {} is stopped: start it first", dir.display())]
    Stopped {
        /// The cluster's directory.
        dir: PathBuf,
    },
    /// A signal could not be sent.
    #[error("cannot send {signal} to process {pid}: {source}")]
    Signal {
        /// The signal's name.
        signal: &'static str,
        /// The process.
        pid: i32,
        /// The kernel's answer.
        source: nix::Error,
    },
    /// A connection or statement failed.
    #[error("{doing}: {source}{}", detail(source))]
    Sql {
        /// What was tried.
        doing: String,
        /// The server's or the driver's answer.
        source: tokio_postgres::Error,
    },
    /// The same, of a `MariaDB` server.
    #[error("{doing}: {source}")]
    MySql {
        /// What was tried.
        doing: String,
        /// The server's or the driver's answer.
        source: mysql_async::Error,
    },
    /// The workload's task ended by itself.
    #[error("the workload's task broke off: {reason}")]
    Workload {
        /// The runtime's reason.
        reason: String,
    },
}

impl LabError {
    /// For `map_err`: a file operation with its path.
    pub(crate) fn file(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::File { doing, path: path.to_owned(), source }
    }

    /// For `map_err`: the same of a `MariaDB` server.
    pub(crate) fn mysql(doing: impl Into<String>) -> impl FnOnce(mysql_async::Error) -> Self {
        move |source| Self::MySql { doing: doing.into(), source }
    }

    /// For `map_err`: a statement with its purpose.
    pub(crate) fn sql(doing: impl Into<String>) -> impl FnOnce(tokio_postgres::Error) -> Self {
        move |source| Self::Sql { doing: doing.into(), source }
    }
}

/// The driver's own text is only "db error"; the server's message is one level below.
fn detail(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map(|db| format!(": {}", db.message())).unwrap_or_default()
}
