//! One record of the write-ahead log: its header and those of its block references, as `access/xlogrecord.h` has them.
//!
//! What the records of a resource manager mean is not looked at, but for the few of `event.rs`. A checksum is not
//! checked, as that would mean reading every byte; that sizes add up is.

use super::{
    event::{self, Events},
    page::{Format, u16_at, u32_at, u64_at},
};
use crate::postgresql::path::Fork;

/// What starts a record.
pub(super) const HEADER: usize = 24;
/// Longest record: PostgreSQL makes none above 1020 MiB.
const MOST: u32 = 1020 << 20;
/// Most block references of a record.
const MOST_BLOCKS: u8 = 32;
/// So many bytes hold the headers of any record: one for each block, with the most that it can have (4 + 5 + 2 + 12 +
/// 4), and those of origin, top-level transaction and main data.
pub(super) const HEADERS: usize = HEADER + (MOST_BLOCKS as usize + 1) * 27 + 3 + 5 + 5;

/// Oids of the tablespaces that every cluster has, `pg_default` and `pg_global`.
const DEFAULT: u32 = 1663;
const GLOBAL: u32 = 1664;

const RM_XLOG: u8 = 0;
const XLOG_SWITCH: u8 = 0x40;
const INFO: u8 = 0xF0;

const ID_DATA_SHORT: u8 = 255;
const ID_DATA_LONG: u8 = 254;
const ID_ORIGIN: u8 = 253;
const ID_TOP_LEVEL: u8 = 252;

const FORK: u8 = 0x0F;
const HAS_IMAGE: u8 = 0x10;
const HAS_DATA: u8 = 0x20;
const SAME_RELATION: u8 = 0x80;

const IMAGE_HAS_HOLE: u8 = 0x01;
/// A single method until 14, one flag a method since.
const IMAGE_COMPRESSED_14: u8 = 0x02;
const IMAGE_COMPRESSED: u8 = 0x04 | 0x08 | 0x10;

/// A relation, as the log names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Locator {
    /// Oid of the tablespace.
    pub tablespace: u32,
    /// Oid of the database; 0 for relations that all databases share.
    pub database: u32,
    /// File number.
    pub relfilenode: u32,
}

impl Locator {
    pub(super) fn at(bytes: &[u8], offset: usize) -> Self {
        Self {
            tablespace: u32_at(bytes, offset),
            database: u32_at(bytes, offset + 4),
            relfilenode: u32_at(bytes, offset + 8),
        }
    }
}

/// A reference of a record to a block; which block it is does not matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockReference {
    /// The relation.
    pub relation: Locator,
    /// Its fork.
    pub fork: Fork,
}

impl BlockReference {
    /// The path of its file below the data directory.
    pub fn path(self, format: Format) -> String {
        let Self { relation: Locator { tablespace, database, relfilenode }, fork } = self;
        let end = match fork {
            Fork::Main => "",
            Fork::Fsm => "_fsm",
            Fork::Vm => "_vm",
            Fork::Init => "_init",
        };
        match tablespace {
            DEFAULT => format!("base/{database}/{relfilenode}{end}"),
            GLOBAL => format!("global/{relfilenode}{end}"),
            _ => {
                let Format { major, catalog } = format;
                format!("pg_tblspc/{tablespace}/PG_{major}_{catalog}/{database}/{relfilenode}{end}")
            }
        }
    }
}

/// One record.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Where it begins.
    pub start: u64,
    /// Where replay stands when it is applied.
    pub end: u64,
    /// The transaction that it is of; 0 where it is of none.
    pub transaction: u32,
    /// Resource manager.
    pub manager: u8,
    /// What kind of the manager's records it is.
    pub info: u8,
    /// The blocks it refers to.
    pub blocks: &'a [BlockReference],
    /// What else it says.
    pub events: &'a Events,
}

/// The fixed part of a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) length: u32,
    pub(super) transaction: u32,
    pub(super) previous: u64,
    pub(super) info: u8,
    pub(super) manager: u8,
}

impl Head {
    /// Reads it; `None` for what cannot be one.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<HEADER>()?;
        let length = u32_at(bytes, 0);
        let is_sized = is_length(length);
        is_sized.then(|| Self {
            length,
            transaction: u32_at(bytes, 4),
            previous: u64_at(bytes, 8),
            info: bytes[16],
            manager: bytes[17],
        })
    }

    /// Whether the rest of its segment is empty.
    pub(super) fn is_switch(self) -> bool {
        self.manager == RM_XLOG && self.info & INFO == XLOG_SWITCH
    }

    /// How many of its bytes have to be seen.
    pub(super) fn needed(self) -> usize {
        let length = self.length as usize;
        length.min(event::needed(self.manager).unwrap_or(HEADERS))
    }
}

/// Whether a record can have this length.
pub(super) fn is_length(length: u32) -> bool {
    (24..=MOST).contains(&length)
}

/// What a record refers to. Kept from one record to the next.
#[derive(Debug, Default)]
pub(super) struct References {
    pub(super) blocks: Vec<BlockReference>,
    pub(super) events: Events,
}

impl References {
    /// Reads what a record refers to, from its first [`Head::needed`] bytes. `None` if it contradicts itself.
    #[inline]
    pub(super) fn read(&mut self, bytes: &[u8], head: Head, format: Format) -> Option<()> {
        self.blocks.clear();
        self.events.clear();
        let mut headers = Headers { bytes, at: HEADER };
        let mut left = (head.length as usize).checked_sub(HEADER)?;
        // As much as the headers seen so far say will follow them.
        let mut data = 0_usize;
        let mut main = 0_usize;
        let mut last = None;
        while left > data {
            let begun = headers.at;
            match headers.u8()? {
                ID_DATA_SHORT => main = usize::from(headers.u8()?),
                ID_DATA_LONG => main = headers.u32()? as usize,
                ID_ORIGIN => headers.skip(2)?,
                ID_TOP_LEVEL => headers.skip(4)?,
                id if id <= MOST_BLOCKS => {
                    let (reference, length) = block(&mut headers, last, format)?;
                    self.blocks.extend(reference);
                    last = reference.or(last);
                    data += length;
                }
                _ => return None,
            }
            left = left.checked_sub(headers.at - begun)?;
            if main > 0 {
                // The main data's header is the last one.
                data = data.checked_add(main)?;
                break;
            }
        }
        if left != data {
            return None;
        }
        if event::needed(head.manager).is_some() {
            // These records have no blocks, so that the main data follows at once.
            let end = head.length as usize;
            let main = bytes.get(end.checked_sub(main)?..end.min(bytes.len())).unwrap_or_default();
            self.events.read(main, head);
        }
        Some(())
    }
}

/// The headers after the first.
struct Headers<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Headers<'_> {
    #[inline]
    fn skip(&mut self, count: usize) -> Option<()> {
        self.at += count;
        (self.at <= self.bytes.len()).then_some(())
    }

    #[inline]
    fn u8(&mut self) -> Option<u8> {
        let value = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(value)
    }

    #[inline]
    fn u16(&mut self) -> Option<u16> {
        self.skip(2)?;
        Some(u16_at(self.bytes, self.at - 2))
    }

    #[inline]
    fn u32(&mut self) -> Option<u32> {
        self.skip(4)?;
        Some(u32_at(self.bytes, self.at - 4))
    }
}

/// The rest of a block's header after its id, and how much data it announces. A fork that PostgreSQL does not have
/// refers to nothing.
#[inline]
fn block(
    headers: &mut Headers<'_>,
    last: Option<BlockReference>,
    format: Format,
) -> Option<(Option<BlockReference>, usize)> {
    let flags = headers.u8()?;
    let data = usize::from(headers.u16()?);
    if (flags & HAS_DATA != 0) != (data != 0) {
        return None;
    }
    let mut length = data;
    if flags & HAS_IMAGE != 0 {
        let image = usize::from(headers.u16()?);
        headers.skip(2)?;
        let info = headers.u8()?;
        let compressed = if format.major < 15 { IMAGE_COMPRESSED_14 } else { IMAGE_COMPRESSED };
        if info & compressed != 0 && info & IMAGE_HAS_HOLE != 0 {
            headers.skip(2)?;
        }
        length += image;
    }
    let relation = if flags & SAME_RELATION == 0 {
        headers.skip(12)?;
        Locator::at(headers.bytes, headers.at - 12)
    } else {
        last?.relation
    };
    headers.skip(4)?;
    let fork = match flags & FORK {
        0 => Fork::Main,
        1 => Fork::Fsm,
        2 => Fork::Vm,
        3 => Fork::Init,
        _ => return None,
    };
    Some((Some(BlockReference { relation, fork }), length))
}
