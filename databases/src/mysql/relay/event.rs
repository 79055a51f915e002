//! The heads of events, as `sql/log_event.h` of both servers and `libbinlogevents` have them. Whatever the bytes are,
//! reading them ends, and reads nothing but them.

/// Bytes of the head that all events have.
pub(super) const HEAD: usize = 19;
/// Bytes of an event that are looked at: more than the names of a table take.
pub(super) const SEEN: usize = 1024;
/// Longest event; a server takes none above `max_allowed_packet`, which is at most 1 GiB, and its own head.
const LONGEST: u32 = (1 << 30) + (1 << 20);

/// Made by the replica itself, and no event of its source.
const OWN: u16 = 0x40;
/// Bytes at the end of each event where there are checksums.
const CHECKSUM: usize = 4;

/// First bytes of a log, and of one that MySQL encrypts.
pub(super) const MAGIC: [u8; 4] = *b"\xfebin";
pub(super) const ENCRYPTED: [u8; 4] = *b"\xfdbin";

/// The head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: u8,
    pub(super) length: u32,
    /// Where it ends in the log of the source, in its lower 32 bits; 0 of an event that stands in no log.
    pub(super) end: u32,
    pub(super) is_own: bool,
}

impl Head {
    /// `None` if it is none, or too short to be one.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (kind, length) = (*bytes.get(4)?, u32_at(bytes, 9)?);
        let (end, flags) = (u32_at(bytes, 13)?, u16_at(bytes, 17)?);
        let is_length = length as usize >= HEAD && length <= LONGEST;
        is_length.then_some(Self { kind, length, end, is_own: flags & OWN != 0 })
    }
}

/// What an event says that matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A log begins; how many bytes of checksum the events after this one end in.
    Format {
        checksum: usize,
    },
    /// What follows is of this file of the source, from there on.
    Rotate {
        file: String,
        position: u64,
    },
    /// A transaction begins.
    Begin,
    /// A transaction ends.
    End,
    /// A number stands for a table.
    Table {
        number: u64,
        database: String,
        table: String,
    },
    /// Rows of the table with this number are changed, which were there before where they are sought.
    Rows {
        number: u64,
        bytes: u64,
        is_sought: bool,
    },
    /// A transaction whose events cannot be read.
    Compressed,
    /// What follows cannot be read.
    Encryption,
    Other,
}

const ROTATE: u8 = 4;
const FORMAT: u8 = 15;
const XID: u8 = 16;
const TABLE_MAP: u8 = 19;
const GTID: u8 = 33;
const ANONYMOUS_GTID: u8 = 34;
const XA_PREPARE: u8 = 38;
const TRANSACTION_PAYLOAD: u8 = 40;
const GTID_TAGGED: u8 = 42;
const GTID_OF_MARIADB: u8 = 162;
const START_ENCRYPTION: u8 = 164;

/// How the head of a row event goes on.
struct Rows {
    /// Whether there is a part of variable length before the number of columns.
    has_extra: bool,
    is_sought: bool,
    /// One for the rows as they were, one for the rows as they become.
    bitmaps: usize,
}

/// MariaDB's compressed ones are in no relay log: what receives them writes them as they were.
fn rows(kind: u8) -> Option<Rows> {
    let (has_extra, is_sought, bitmaps) = match kind {
        23 => (false, false, 1),
        24 => (false, true, 2),
        25 => (false, true, 1),
        30 => (true, false, 1),
        31 | 39 => (true, true, 2),
        32 => (true, true, 1),
        _ => return None,
    };
    Some(Rows { has_extra, is_sought, bitmaps })
}

impl Event {
    /// Reads the first bytes of an event, [`SEEN`] of them where it has as many.
    pub(super) fn read(head: Head, bytes: &[u8], checksum: usize) -> Option<Self> {
        let body = bytes.get(HEAD..)?;
        let length = (head.length as usize).checked_sub(HEAD)?;
        if head.kind == FORMAT {
            // It ends in its own checksum, be that used or not, and before it in whether it is.
            let known = body.get(..length)?;
            let is_used = *known.get(length.checked_sub(CHECKSUM + 1)?)? == 1;
            return Some(Self::Format { checksum: if is_used { CHECKSUM } else { 0 } });
        }
        let length = length.checked_sub(checksum)?;
        let body = body.get(..length.min(body.len()))?;
        Some(match head.kind {
            ROTATE => Self::Rotate {
                position: u64::from_le_bytes(body.get(..8)?.try_into().ok()?),
                file: String::from_utf8(body.get(8..)?.to_vec()).ok()?,
            },
            GTID | ANONYMOUS_GTID | GTID_TAGGED | GTID_OF_MARIADB => Self::Begin,
            XID | XA_PREPARE => Self::End,
            TABLE_MAP => {
                let mut names = Bytes(body.get(8..)?);
                let (database, table) = (names.name()?, names.name()?);
                Self::Table { number: number(body)?, database, table }
            }
            TRANSACTION_PAYLOAD => Self::Compressed,
            START_ENCRYPTION => Self::Encryption,
            kind => match rows(kind) {
                Some(rows) => Self::Rows {
                    number: number(body)?,
                    bytes: rows.bytes(body, length)?,
                    is_sought: rows.is_sought,
                },
                None => Self::Other,
            },
        })
    }
}

impl Rows {
    /// Bytes of the rows in a body of this length.
    fn bytes(&self, body: &[u8], length: usize) -> Option<u64> {
        // The number of the table and flags.
        let mut at = 8;
        if self.has_extra {
            at += usize::from(u16_at(body, at)?).max(2);
        }
        let mut rest = Bytes(body.get(at..)?);
        let columns = rest.packed()?;
        let bitmaps = usize::try_from(columns.div_ceil(8)).ok()?.checked_mul(self.bitmaps)?;
        let head = body.len() - rest.0.len();
        Some(length.checked_sub(head.checked_add(bitmaps)?)? as u64)
    }
}

/// The number of a table.
fn number(body: &[u8]) -> Option<u64> {
    let mut bytes = [0; 8];
    bytes[..6].copy_from_slice(body.get(..6)?);
    Some(u64::from_le_bytes(bytes))
}

struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number in as few bytes as it needs.
    fn packed(&mut self) -> Option<u64> {
        match self.take(1)?[0] {
            small @ 0..=250 => Some(small.into()),
            252 => u16_at(self.take(2)?, 0).map(Into::into),
            _ => None,
        }
    }

    /// A name, its length before it and a zero after it.
    fn name(&mut self) -> Option<String> {
        let length = usize::try_from(self.packed()?).ok()?;
        let name = String::from_utf8(self.take(length)?.to_vec()).ok()?;
        self.take(1).map(|_| name)
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..)?.get(..2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..)?.get(..4)?.try_into().ok()?))
}
