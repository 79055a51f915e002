//! The map of one tablespace file: page to index.

use std::mem;

use super::{
    InnodbError, Owner, PageHeader, PageKind, ReadAt, Roots,
    extents::{Extent, Group, Numbers},
    read::{FIL_HEADER, Look, head, lsn},
    roots::Owners,
    segments::{CONTESTED, FIRST, Segments},
    space::Space,
};

const XDES: u16 = 9;
/// Each group of pages begins with its descriptors and the change buffer's bitmap.
const RESERVED: u32 = 2;
/// What a map may take: the descriptors of a terabyte take 4 MiB if no two neighbours are of one segment. Pages beyond it
/// are unknown.
const MOST_BYTES: usize = 16 << 20;
/// Pages of descriptors: those of 16 TiB of 16 KiB pages.
const MOST_GROUPS: usize = 1 << 16;

/// Which index each page of a tablespace file belongs to, as of the last look. Whoever holds it looks again (`refresh`) when
/// `is_stale` says so, and, at a pace of its own, when pages in use are `Unknown` or `Free`.
pub struct PageMap {
    space: Space,
    segments: Segments,
    owners: Owners,
    numbers: Numbers,
    groups: Vec<Group>,
    /// Of the file, at the last look.
    size: u64,
    complete: bool,
}

impl PageMap {
    /// Reads page 0, the INODE pages, the pages of descriptors (one in 256 MiB of 16 KiB pages) and the heads of root pages.
    pub fn read(file: &(impl ReadAt + ?Sized), roots: Roots<'_>) -> Result<Self, InnodbError> {
        let (space, page) = Space::read(file)?;
        let mut map = Self {
            space,
            segments: Segments::default(),
            owners: Owners::default(),
            numbers: Numbers::default(),
            groups: Vec::new(),
            size: 0,
            complete: false,
        };
        map.look(file, &page, roots);
        Ok(map)
    }

    /// Looks again. Of the pages of descriptors only new ones and those with another LSN are read whole. What was
    /// known of pages that cannot be read now stays, and all of it on an error.
    pub fn refresh(&mut self, file: &(impl ReadAt + ?Sized), roots: Roots<'_>) -> Result<(), InnodbError> {
        let (space, page) = Space::read(file)?;
        if !space.same(&self.space) {
            // Truncated or rebuilt in place.
            *self = Self::read(file, roots)?;
            return Ok(());
        }
        self.space = space;
        self.look(file, &page, roots);
        Ok(())
    }

    fn look(&mut self, file: &(impl ReadAt + ?Sized), first: &[u8], roots: Roots<'_>) {
        self.size = file.size().unwrap_or(0);
        self.complete = true;
        if self.space.hidden {
            return;
        }
        let segments = Segments::read(file, &self.space, first);
        if segments.complete || !self.segments.complete {
            self.segments = segments;
        }
        self.owners = Owners::read(file, &self.space, &self.segments, roots);
        self.complete = self.segments.complete && self.owners.complete;
        if !self.is_hidden() {
            self.describe(file, first);
        }
    }

    fn describe(&mut self, file: &(impl ReadAt + ?Sized), first: &[u8]) {
        let stride = self.space.stride();
        self.groups.truncate(self.space.pages.div_ceil(stride) as usize);
        let mut bytes = self.bytes();
        for (number, from) in (0..self.space.pages).step_by(stride as usize).enumerate() {
            if bytes > MOST_BYTES || number >= MOST_GROUPS {
                break;
            }
            let known = self.groups.get(number).map_or(0, |group| group.lsn);
            let group = if number == 0 {
                Group::parse(&self.space, first, &mut self.numbers)
            } else {
                let now = head::<FIL_HEADER>(file, &self.space, from).map_or(0, |head| lsn(&head));
                if now == known && known != 0 {
                    continue;
                }
                match Look::at(file, &self.space, from, &[XDES]) {
                    Look::Page(page) => Group::parse(&self.space, &page, &mut self.numbers),
                    Look::Hidden | Look::None => {
                        self.complete = false;
                        if known != 0 {
                            continue;
                        }
                        Group::default()
                    }
                }
            };
            bytes += group.bytes();
            match self.groups.get_mut(number) {
                Some(old) => bytes = bytes.saturating_sub(mem::replace(old, group).bytes()),
                None => self.groups.push(group),
            }
        }
    }

    /// Whether to look again: the file is of another size now, or something could not be read the last time. Cheap, so ask at
    /// every event; look at most every second or so, for what the server has not flushed yet cannot be read.
    pub fn is_stale(&self, file_size: u64) -> bool {
        file_size != self.size || !self.complete
    }

    /// Who a page belongs to, by the map alone.
    pub fn index_of(&self, page: u32) -> Owner {
        if self.is_hidden() {
            return Owner::Hidden;
        }
        if page >= self.space.pages {
            return Owner::Unknown;
        }
        let (group, within) = (page / self.space.stride(), page % self.space.stride());
        if within < RESERVED || page == FIRST || self.segments.has_page(page) {
            return Owner::Bookkeeping;
        }
        let Some(group) = self.groups.get(group as usize) else { return Owner::Unknown };
        let (single, newer) = (self.segments.single(page), self.segments.lsn() >= group.lsn);
        // INODE pages and descriptors are flushed at different times: what contradicts itself is not known.
        match (group.extent(&self.space, within, &self.numbers), single) {
            (_, Some(CONTESTED)) => Owner::Unknown,
            (Extent::Segment(id), Some(other)) if id != other => Owner::Unknown,
            (Extent::Segment(id), _) | (Extent::Mixed { free: false }, Some(id)) => self.of(id),
            (Extent::Mixed { .. } | Extent::Free | Extent::Unknown, Some(id)) if newer => self.of(id),
            (Extent::Free | Extent::Mixed { free: true }, _) => Owner::Free,
            (Extent::Unknown, None) if page >= self.space.free_limit => Owner::Free,
            (Extent::Mixed { .. } | Extent::Unknown, _) => Owner::Unknown,
        }
    }

    /// Who a page belongs to whose first bytes were seen as the server read or wrote it: they know more than the map, if
    /// they are of this page.
    pub fn owner(&self, page: u32, header: &PageHeader) -> Owner {
        let mapped = self.index_of(page);
        let sealed = self.is_hidden() || (self.space.full_crc32 && header.key);
        if sealed || (header.page, header.space) != (page, self.space.id) {
            return mapped;
        }
        match (header.kind, mapped) {
            (PageKind::Index { id, .. }, _) => Owner::Index(id),
            (PageKind::Blob, Owner::Index(id)) => Owner::Blob(id),
            (PageKind::Bookkeeping, _) => Owner::Bookkeeping,
            (PageKind::Hidden, _) => Owner::Hidden,
            (PageKind::Blob | PageKind::Undo | PageKind::Other(_), _) => mapped,
        }
    }

    /// The page at an offset of the file. `None` beyond what a tablespace can have.
    pub fn page_at(&self, offset: u64) -> Option<u32> {
        u32::try_from(offset / u64::from(self.space.page)).ok()
    }

    /// Bytes of a page in the file.
    pub fn page_size(&self) -> u32 {
        self.space.page
    }

    /// The tablespace's id (SPACE of information_schema).
    pub fn space_id(&self) -> u32 {
        self.space.id
    }

    /// Compressed by pages or encrypted: no page's index can be told.
    pub fn is_hidden(&self) -> bool {
        self.space.hidden || self.segments.hidden || self.owners.hidden
    }

    /// Memory that the map takes.
    pub fn bytes(&self) -> usize {
        let groups: usize = self.groups.iter().map(Group::bytes).sum();
        groups + self.segments.bytes() + self.owners.bytes() + self.numbers.bytes() + size_of::<Self>()
    }

    fn of(&self, segment: u64) -> Owner {
        self.owners.of.get(&segment).copied().unwrap_or(Owner::Unknown)
    }
}
