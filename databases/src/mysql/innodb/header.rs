//! The first bytes of a page, as a probe copies them or the file has them.

use super::read::{TYPE, u16_at, u32_at, u64_at};

/// How many bytes of a page tell its type, space, index and level.
pub const HEADER: usize = 74;

/// MySQL and MariaDB gave type 18 to different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// MySQL and its kin.
    MySql,
    /// MariaDB.
    MariaDb,
}

/// What a page is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageKind {
    /// A node of the B-tree with this index id; level 0 is the leaves.
    Index {
        /// The index's id.
        id: u64,
        /// How far above the leaves.
        level: u16,
    },
    /// A page of a long value. Whose, it does not say.
    Blob,
    /// Of the tablespace itself, or of MySQL's copy of the dictionary in it.
    Bookkeeping,
    /// Undo log or rollback segments.
    Undo,
    /// Compressed or encrypted: type and index cannot be had from here.
    Hidden,
    /// Written and not in use, or of a type that no table has.
    Other(u16),
}

/// What a page says of itself. True only of a page that the server wrote: who reads a file's free pages meets old headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageHeader {
    /// The page's number in its tablespace.
    pub page: u32,
    /// The tablespace's id. Not to be had where `kind` is `Hidden`.
    pub space: u32,
    /// What it is for.
    pub kind: PageKind,
    /// Whether the page is encrypted, if its file is of the format full_crc32.
    pub(super) key: bool,
}

impl PageHeader {
    /// Reads the header of a page. Where there is a `PageMap` of the file, `PageMap::owner` tells what it is worth: a page
    /// of an encrypted file may look like any.
    pub fn parse(bytes: &[u8; HEADER], dialect: Dialect) -> Self {
        let kind = u16_at(bytes, TYPE);
        let kind = match kind {
            _ if hides(bytes, false) => PageKind::Hidden,
            17854 | 17855 => node(bytes),
            // The clustered index's root after an instant ADD or DROP COLUMN.
            18 if dialect == Dialect::MariaDb => node(bytes),
            10..=12 | 22..=29 => PageKind::Blob,
            3..=9 | 18 | 19 | 17853 => PageKind::Bookkeeping,
            2 | 21 => PageKind::Undo,
            other => PageKind::Other(other),
        };
        Self { page: u32_at(bytes, 4), space: u32_at(bytes, 34), kind, key: u32_at(bytes, 0) != 0 }
    }
}

fn node(bytes: &[u8]) -> PageKind {
    PageKind::Index { id: u64_at(bytes, 66), level: u16_at(bytes, 64) }
}

/// Whether a page's content is compressed or encrypted.
pub(super) fn hides(page: &[u8], full_crc32: bool) -> bool {
    let kind = u16_at(page, TYPE);
    // MySQL: compressed, encrypted, both, R-tree. MariaDB: the highest bit if compressed, in either format.
    if matches!(kind, 14..=17) || kind & 0x8000 != 0 {
        return true;
    }
    if full_crc32 {
        return u32_at(page, 0) != 0;
    }
    // MariaDB's key version. R-trees keep a sequence number there; so does page 0, of which nothing is hidden.
    u32_at(page, 26) != 0 && matches!(kind, 3 | 10 | 18 | 17855)
}
