//! What can go wrong with a tablespace file.

use std::io;

/// Why there is no map of a file. The file is none the worse for a later try.
#[derive(Debug, thiserror::Error)]
pub enum InnodbError {
    /// Reading failed, or the file ends before its first page does.
    #[error("cannot read the tablespace: {0}")]
    Read(#[from] io::Error),
    /// Page 0 was never flushed: the table is being created.
    #[error("the tablespace's first page is not written yet")]
    Unwritten,
    /// Page 0 is not that of a tablespace that this build knows.
    #[error("not a tablespace known here: {0}")]
    Foreign(&'static str),
}
