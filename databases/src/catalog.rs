//! From a file's path to the object whose data it holds: the types that every engine shares.
//!
//! Who asks never waits for SQL: what is not known yet is queued and looked up by the database's worker.

mod reader;
mod wanted;

use std::sync::Arc;

pub use reader::CatalogReader;
pub(crate) use reader::{Directory, FileKey, FileRef, Space};
pub(crate) use wanted::Wanted;

/// Kind of a file; the value of `blameio.file.kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FileKind {
    /// Rows of a table.
    Heap,
    /// An index.
    Index,
    /// Large values of a table, or their index.
    Toast,
    /// Free space map of a table or index.
    Fsm,
    /// Visibility map of a table.
    Vm,
    /// Temporary table or work file.
    Temp,
    /// A system catalog or its index.
    Catalog,
    /// Write-ahead log of PostgreSQL.
    Wal,
    /// Binary log.
    Binlog,
    /// Relay log of a replica.
    Relaylog,
    /// Redo log.
    Redo,
    /// Undo log.
    Undo,
    /// Doublewrite buffer.
    Doublewrite,
    /// Control, status and map files.
    Control,
    /// Anything else.
    Other,
}

impl FileKind {
    /// Value of `blameio.file.kind`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Heap => "heap",
            Self::Index => "index",
            Self::Toast => "toast",
            Self::Fsm => "fsm",
            Self::Vm => "vm",
            Self::Temp => "temp",
            Self::Catalog => "catalog",
            Self::Wal => "wal",
            Self::Binlog => "binlog",
            Self::Relaylog => "relaylog",
            Self::Redo => "redo",
            Self::Undo => "undo",
            Self::Doublewrite => "doublewrite",
            Self::Control => "control",
            Self::Other => "other",
        }
    }
}

/// A table or index, as an operator names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Object {
    /// Database; empty for relations that all databases of a PostgreSQL server share.
    pub database: String,
    /// Schema; empty where the engine has none.
    pub schema: String,
    /// `db.namespace`: `{database}|{schema}` on PostgreSQL.
    pub namespace: String,
    /// Table; the root's name if the table is a partition.
    pub table: String,
    /// Index; the root's name if the table is a partition. `None` for the table's own rows.
    pub index: Option<String>,
    /// Leaf partition, if the table is one.
    pub partition: Option<String>,
    /// What kind of the object's files this is.
    pub kind: FileKind,
}

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// It holds this object's data.
    Object(Arc<Object>),
    /// It belongs to no table.
    Kind(FileKind),
    /// It is being looked up; ask again. Lasts at most about 5 s.
    Pending,
    /// It cannot be found out now. Asking again repeats the look-up at growing intervals.
    Unresolved,
}
