//! What the log asks of replay, stretch by stretch, read from the files of a server on this host.
//!
//! Only what stands in the heads of records is read; no data is. Whoever asks says how far the log is known to be
//! there, and gets what is new in it since the last question, a few MiB at a time.

use std::{path::Path, sync::Arc};

use blameio_pipeline::WatchedServer;
use thiserror::Error;

pub use crate::postgresql::wal::{BlockReference as WorkFile, Format as LogFormat};

use crate::catalog::Object;

/// What work is done on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WorkOn {
    /// A file, of PostgreSQL, whose log knows no names.
    File(WorkFile),
    /// A table, of MySQL.
    Table(Arc<Object>),
}

/// What is to be done for one file or table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// References of records to its blocks.
    pub blocks: u64,
    /// How often it is removed.
    pub drops: u64,
    /// Bytes of rows, as they were and as they become.
    pub bytes: u64,
    /// Those of them that are of rows that have to be found first.
    pub sought: u64,
}

/// A stretch of log and what it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Where it begins.
    pub start: u64,
    /// Where replay stands when all of it is applied.
    pub end: u64,
    /// Whether it is one record or transaction, of which replay has applied nothing until it has applied all.
    pub is_whole: bool,
    /// Whether it is of the same transaction as the stretch before it.
    pub continues: bool,
    /// What it asks for, each file or table once.
    pub objects: Vec<(WorkOn, Work)>,
}

/// How far the log is known to be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogPositions {
    /// Position received and flushed.
    pub received: Option<u64>,
    /// Position applied.
    pub replayed: Option<u64>,
    /// Timeline that is being received, where that is known.
    pub timeline: Option<u32>,
}

/// What one look at the log found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogLook {
    /// What is new, in the order of the log.
    pub stretches: Vec<Stretch>,
    /// Whose log it is; names the directories of tablespaces.
    pub format: Option<LogFormat>,
    /// Bytes of log that were passed over since the last look: removed, too far behind, compressed, or no log.
    pub skipped: u64,
    /// Whether more is there than one look reads.
    pub has_more: bool,
}

/// The log cannot be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LogError {
    /// There is no data directory on this host.
    #[error("the server is not on this host, or its processes cannot be seen")]
    NotHere,
    /// The directory or a file of it may not be read.
    #[error(
        "its log cannot be read ({what}: {reason}); run as root, with CAP_DAC_READ_SEARCH, or as the server's user"
    )]
    Unreadable {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        reason: String,
    },
    /// It is no log of a version that is known here.
    #[error("its log is of an unknown version; 14 to 18 can be read")]
    Unknown,
    /// It is encrypted.
    #[error("its log is encrypted, so that it does not tell the tables")]
    Encrypted,
    /// The engine's log is not read.
    #[error("the log of this kind of server is not read")]
    Unsupported,
}

/// Reads the log of one engine's server. Blocks on its files.
pub(crate) trait ReadLog: Send {
    /// Whether a look would find anything new.
    fn is_due(&self, positions: LogPositions) -> bool;

    /// Reads what is new in the log below this data directory, a few MiB at most.
    fn look(&mut self, data_directory: &Path, positions: LogPositions) -> Result<LogLook, LogError>;
}

/// Reads the log of one server; it starts at what is not applied yet.
pub struct LogReader {
    pub(crate) server: WatchedServer,
    /// `None` while a look is under way, and where the engine has none.
    pub(crate) reader: Option<Box<dyn ReadLog>>,
}

impl std::fmt::Debug for LogReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogReader").field("server", &self.server.id).finish_non_exhaustive()
    }
}

impl LogReader {
    /// One look, off the async threads. A look that is dropped is the last one.
    pub async fn look(&mut self, positions: LogPositions) -> Result<LogLook, LogError> {
        let directory = self.server.view().data_directory.clone().ok_or(LogError::NotHere)?;
        let Some(mut reader) = self.reader.take() else { return Err(LogError::Unsupported) };
        if !reader.is_due(positions) {
            self.reader = Some(reader);
            return Ok(LogLook::default());
        }
        let looked = tokio::task::spawn_blocking(move || {
            let look = reader.look(&directory, positions);
            (reader, look)
        });
        let (reader, look) = looked
            .await
            .map_err(|error| LogError::Unreadable { what: "reading", reason: error.to_string() })?;
        self.reader = Some(reader);
        look
    }
}
