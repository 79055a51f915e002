//! Which index a page of an InnoDB tablespace file belongs to, told from the file's own bookkeeping.
//!
//! A tablespace (`.ibd`) hands its pages out in extents to segments, two segments an index: one for the leaves, one for
//! what is above them. Page 0 and every descriptor page say which segment each extent is of, INODE pages list the segments
//! and the single pages that each has in mixed extents, and an index's root page names its two segments. These few pages
//! are all that is read; rows never are. `PageHeader` is the other way to know: the first bytes of a page as a probe saw it.
//!
//! A file shows what was flushed, not what the server's memory holds. A map is therefore right or says `Unknown`: what was
//! allocated since the last flush is unknown until the next look. Nothing that a file says is trusted: every number of it is
//! checked, every chain and table has a bound.

mod error;
mod extents;
mod header;
mod map;
mod read;
mod roots;
mod segments;
mod space;
#[cfg(test)]
mod tests;

pub use error::InnodbError;
pub use header::{Dialect, HEADER, PageHeader, PageKind};
pub use map::PageMap;
pub use read::ReadAt;
pub use roots::{Root, Roots};

/// Who a page belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// A page of the index with this id. The extents of an index hold pages that it does not use yet, and the long values
    /// of its rows if it is the clustered one; only a page's header tells these apart.
    Index(u64),
    /// A page of a long value (BLOB, TEXT, JSON), charged to the clustered index with this id. Only a page's header tells.
    Blob(u64),
    /// The tablespace's own: its header, descriptors, segments, the change buffer's bitmap, MySQL's dictionary copy (SDI).
    Bookkeeping,
    /// Of nobody when the map was made. A page that is seen in use all the same has been allocated since.
    Free,
    /// Not known, or not any more: not flushed yet, beyond what was looked at, of a segment that no known root names.
    Unknown,
    /// Compressed by pages or encrypted: the table is known by its file, the index is not.
    Hidden,
}

impl Owner {
    /// The index that I/O of this page is charged to.
    pub fn index(self) -> Option<u64> {
        match self {
            Self::Index(id) | Self::Blob(id) => Some(id),
            Self::Bookkeeping | Self::Free | Self::Unknown | Self::Hidden => None,
        }
    }
}
