//! Pages of the write-ahead log, and what their headers say.
//!
//! Layouts are those of `access/xlog_internal.h`. PostgreSQL writes in the byte order of its host; a log of the other
//! byte order is not one that a server on this host writes, and its magic number is not known here.

/// Size of a page. Servers built with another one are refused by their first long header.
pub(super) const PAGE: u64 = 8192;

/// What starts a page.
const SHORT: usize = 24;
/// What starts the first page of a segment.
const LONG: usize = 40;

const FIRST_IS_CONTINUED: u16 = 0x0001;
const IS_LONG: u16 = 0x0002;
const FIRST_IS_OVERWRITTEN: u16 = 0x0008;
/// All flags that any version sets; 0x0004 says that block images may be removed by a compressor.
const FLAGS: u16 = 0x000F;

/// Magic number, major version and catalog version, which names the directories in a tablespace.
const FORMATS: &[(u16, u32, u32)] = &[
    (0xD10D, 14, 202_107_181),
    (0xD110, 15, 202_209_061),
    (0xD113, 16, 202_307_071),
    (0xD116, 17, 202_406_281),
    (0xD118, 18, 202_506_291),
];

/// The versions of PostgreSQL whose log is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Major version, such as 15.
    pub major: u32,
    /// Catalog version of that release.
    pub catalog: u32,
}

impl Format {
    fn of(magic: u16) -> Option<Self> {
        let (_, major, catalog) = FORMATS.iter().find(|(known, ..)| *known == magic)?;
        Some(Self { major: *major, catalog: *catalog })
    }
}

/// The header of one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Whose log it is.
    pub(super) format: Format,
    /// Timeline on which the page was begun.
    pub(super) timeline: u32,
    /// Bytes of the header itself.
    pub(super) length: usize,
    /// Bytes that still belong to a record that was begun on an earlier page.
    pub(super) remaining: u32,
    /// Whether the record that was begun before will never be completed.
    pub(super) is_overwritten: bool,
    /// Size of a segment, on the first page of one.
    pub(super) segment_size: Option<u64>,
}

/// What a page begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// Its header.
    Header(Header),
    /// There are too few bytes to tell.
    Short,
    /// This is no page of the log at that position.
    Rubbish,
}

/// Reads the header of the page at `position`.
pub(super) fn header(bytes: &[u8], position: u64) -> Begin {
    let Some(short) = bytes.first_chunk::<SHORT>() else { return Begin::Short };
    let Some(format) = Format::of(u16_at(short, 0)) else { return Begin::Rubbish };
    let (flags, remaining) = (u16_at(short, 2), u32_at(short, 16));
    let is_continued = flags & FIRST_IS_CONTINUED != 0;
    if flags & !FLAGS != 0 || u64_at(short, 8) != position || is_continued != (remaining != 0) {
        return Begin::Rubbish;
    }
    let mut header = Header {
        format,
        timeline: u32_at(short, 4),
        length: SHORT,
        remaining,
        is_overwritten: flags & FIRST_IS_OVERWRITTEN != 0,
        segment_size: None,
    };
    if flags & IS_LONG != 0 {
        let Some(long) = bytes.first_chunk::<LONG>() else { return Begin::Short };
        let size = u64::from(u32_at(long, 32));
        if !is_segment_size(size) || u64::from(u32_at(long, 36)) != PAGE {
            return Begin::Rubbish;
        }
        (header.length, header.segment_size) = (LONG, Some(size));
    }
    Begin::Header(header)
}

/// Whether segments can have this size: a power of two from 1 MiB to 1 GiB.
pub(super) fn is_segment_size(size: u64) -> bool {
    size.is_power_of_two() && (1 << 20..=1 << 30).contains(&size)
}

/// A number at an offset; 0 where there are no such bytes, so that no offset can do harm.
pub(super) fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    bytes.get(offset..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u16::from_ne_bytes(*bytes))
}

/// As [`u16_at`].
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    bytes.get(offset..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

/// As [`u16_at`].
pub(super) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    bytes.get(offset..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u64::from_ne_bytes(*bytes))
}
