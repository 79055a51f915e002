//! What page 0 says of the whole tablespace: page size, extents, and whether its pages can be read at all.

use super::{
    InnodbError, ReadAt,
    read::{FIL_HEADER, TYPE, lsn, u16_at, u32_at},
};

const FSP_HDR: u16 = 8;
/// Beside the fields of the file header (page number, space): those of the space header, from 38 on.
const SPACE_ID: usize = FIL_HEADER;
const SIZE: usize = FIL_HEADER + 8;
const FREE_LIMIT: usize = FIL_HEADER + 12;
const FLAGS: usize = FIL_HEADER + 16;
/// Where the space header ends and the descriptors of extents begin.
pub(super) const DESCRIPTORS: usize = FIL_HEADER + 112;

/// Flags, MariaDB since 10.4 with full_crc32: bit 4, which the older format keeps 0, says so.
const FULL_CRC32: u32 = 1 << 4;
/// Older format: MariaDB's page compression, MySQL's encryption.
const PAGE_COMPRESSED: u32 = 1 << 16;
const ENCRYPTED: u32 = 1 << 13;

/// The shape of a tablespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Space {
    pub(super) id: u32,
    pub(super) full_crc32: bool,
    /// Bytes of a page in the file: less than `logical` with ROW_FORMAT=COMPRESSED.
    pub(super) page: u32,
    zipped: bool,
    /// Pages of an extent.
    pub(super) extent: u32,
    /// Pages that the file has, by its own word and by its size.
    pub(super) pages: u32,
    /// From here on no extent was ever handed out.
    pub(super) free_limit: u32,
    /// Every page but the bookkeeping's is compressed or encrypted.
    pub(super) hidden: bool,
}

impl Space {
    /// Reads page 0. Also gives its bytes, for the descriptors in it.
    pub(super) fn read(file: &(impl ReadAt + ?Sized)) -> Result<(Self, Vec<u8>), InnodbError> {
        let mut head = [0; DESCRIPTORS];
        file.read_at(&mut head, 0)?;
        let space = Self::parse(&head)?;
        let mut page = vec![0; space.page as usize];
        // Written to meanwhile: what is torn now is whole in a moment, and is not for three times in a row.
        for _ in 0..3 {
            file.read_at(&mut page, 0)?;
            if Self::parse(&page)?.page == space.page && space.is_whole(&page) {
                let mut space = Self::parse(&page)?;
                let there = file.size()? / u64::from(space.page);
                space.pages = u32::try_from(there).unwrap_or(u32::MAX).min(space.pages);
                return Ok((space, page));
            }
        }
        Err(InnodbError::Foreign("its first page does not end as it begins"))
    }

    fn parse(page: &[u8]) -> Result<Self, InnodbError> {
        // MariaDB leaves it empty until the first flush, MySQL writes a part of it.
        if lsn(page) == 0 && u32_at(page, 4) == 0 {
            return Err(InnodbError::Unwritten);
        }
        let id = u32_at(page, SPACE_ID);
        if u16_at(page, TYPE) != FSP_HDR || u32_at(page, 4) != 0 || u32_at(page, 34) != id {
            return Err(InnodbError::Foreign("no space header on its first page"));
        }
        let flags = u32_at(page, FLAGS);
        let full_crc32 = flags & FULL_CRC32 != 0;
        let (logical, zipped, hidden) = if full_crc32 {
            (shifted(flags & 15), None, (flags >> 5) & 7 != 0)
        } else {
            let zipped = (flags >> 1) & 7;
            // 0, from when there was one size only, is 16 KiB.
            let logical = Some((flags >> 6) & 15).filter(|&size| size != 0).unwrap_or(5);
            let hidden = flags & (PAGE_COMPRESSED | ENCRYPTED) != 0;
            (shifted(logical), (zipped != 0).then(|| 512 << zipped), hidden)
        };
        let logical = logical.ok_or(InnodbError::Foreign("its page size is none that exists"))?;
        if zipped.is_some_and(|zipped: u32| zipped > logical || logical > 16384) {
            return Err(InnodbError::Foreign("its compressed page size is none that exists"));
        }
        // fsp0types.h: 1 MiB for pages up to 16 KiB, 64 pages above, by the size before compression.
        let extent = (1024 * 1024 / logical).max(64);
        Ok(Self {
            id,
            full_crc32,
            page: zipped.unwrap_or(logical),
            zipped: zipped.is_some(),
            extent,
            pages: u32_at(page, SIZE),
            free_limit: u32_at(page, FREE_LIMIT),
            hidden,
        })
    }

    /// A page carries the low half of its LSN at both ends, unless it is a compressed one.
    pub(super) fn is_whole(&self, page: &[u8]) -> bool {
        let end = page.len().saturating_sub(if self.full_crc32 { 8 } else { 4 });
        self.zipped || u32_at(page, end) == u32_at(page, 20)
    }

    pub(super) fn offset(&self, page: u32) -> u64 {
        u64::from(page) * u64::from(self.page)
    }

    /// Every how many pages there is a page of descriptors.
    pub(super) fn stride(&self) -> u32 {
        self.page
    }

    /// Whether these describe the same file: if not, it was replaced.
    pub(super) fn same(&self, other: &Self) -> bool {
        (self.id, self.page, self.extent) == (other.id, other.page, other.extent)
    }
}

/// 4 to 64 KiB, as a power of two above 512.
fn shifted(size: u32) -> Option<u32> {
    (3..=7).contains(&size).then(|| 512 << size)
}
