//! Compares a map with the pages' own headers. Free pages keep the header of who had them before: whether a page is free is
//! read here from the descriptors' bits, by other code than the map's.

use std::{fmt, fs::File, ops::AddAssign, os::unix::fs::FileExt, path::Path};

use blameio_databases::mysql::innodb::{Dialect, HEADER, Owner, PageHeader, PageKind, PageMap, Roots};

#[derive(Default, Clone, Copy)]
pub(crate) struct Tally {
    pub(crate) pages: u64,
    /// Of type INDEX, RTREE or SDI and in use: the map says the same.
    pub(crate) right: u64,
    pub(crate) wrong: u64,
    pub(crate) unknown: u64,
    /// In use by its descriptor, and free by the map.
    pub(crate) free_in_use: u64,
    /// With an old header, and free by the descriptors.
    pub(crate) free: u64,
    pub(crate) blobs: u64,
    pub(crate) hidden: u64,
    /// Of an index that the server has dropped and not freed: unknown to a map that was given the indexes that there are.
    pub(crate) dropped: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.pages += other.pages;
        self.right += other.right;
        self.wrong += other.wrong;
        self.unknown += other.unknown;
        self.free_in_use += other.free_in_use;
        self.free += other.free;
        self.blobs += other.blobs;
        self.hidden += other.hidden;
        self.dropped += other.dropped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pages, right, wrong, unknown, free_in_use, free, blobs, hidden, dropped } = self;
        write!(
            to,
            "of {pages} pages {right} right, {wrong} wrong, {unknown} unknown, {free_in_use} free by the map and in use; "
        )?;
        write!(
            to,
            "{blobs} of long values, {hidden} hidden, {dropped} of a dropped index, {free} free with an old header"
        )
    }
}

pub(crate) fn every_page(file: &Path, map: &PageMap, roots: Roots<'_>, dialect: Dialect) -> Tally {
    every_page_of(&File::open(file).unwrap(), map, roots, dialect)
}

pub(crate) fn every_page_of(file: &File, map: &PageMap, roots: Roots<'_>, dialect: Dialect) -> Tally {
    let size = u64::from(map.page_size());
    let pages = file.metadata().unwrap().len() / size;
    let mut tally = Tally::default();
    for page in 0..u32::try_from(pages).unwrap() {
        let mut bytes = [0; HEADER];
        file.read_exact_at(&mut bytes, u64::from(page) * size).unwrap();
        tally.pages += 1;
        let header = PageHeader::parse(&bytes, dialect);
        let mapped = map.index_of(page);
        if mapped == Owner::Hidden {
            tally.hidden += 1;
            continue;
        }
        if (header.page, header.space) != (page, map.space_id()) {
            continue;
        }
        let sdi = u16::from_be_bytes([bytes[24], bytes[25]]) == 17853;
        let wanted = match header.kind {
            PageKind::Index { id, .. } => Owner::Index(id),
            PageKind::Bookkeeping if sdi => Owner::Bookkeeping,
            // No id to compare; it must be of the clustered index, which is the first that a table has.
            PageKind::Blob if mapped.index().is_some() => {
                assert_eq!(map.owner(page, &header), Owner::Blob(mapped.index().unwrap()));
                tally.blobs += 1;
                continue;
            }
            _ => continue,
        };
        if is_free(file, map, page) {
            tally.free += 1;
            continue;
        }
        assert_eq!(map.owner(page, &header), wanted, "the header of page {page}");
        match mapped {
            _ if mapped == wanted => tally.right += 1,
            Owner::Unknown if is_dropped(wanted, roots) => tally.dropped += 1,
            Owner::Unknown => tally.unknown += 1,
            Owner::Free => tally.free_in_use += 1,
            other => {
                eprintln!("page {page} says {wanted:?}, the map {other:?}");
                tally.wrong += 1;
            }
        }
    }
    tally
}

fn is_dropped(owner: Owner, roots: Roots<'_>) -> bool {
    match roots {
        Roots::Given(roots) => !roots.iter().any(|root| Owner::Index(root.index) == owner),
        Roots::InFile => false,
    }
}

/// The page's bit in its extent's descriptor.
fn is_free(file: &File, map: &PageMap, page: u32) -> bool {
    let size = u64::from(map.page_size());
    let mut flags = [0; 4];
    file.read_exact_at(&mut flags, 54).unwrap();
    let flags = u32::from_be_bytes(flags);
    // Pages of less than 16 KiB have more to the extent, but not those of compressed tables.
    let logical = match if flags & 16 != 0 { flags & 15 } else { flags >> 6 & 15 } {
        0 => 16384,
        size => 512_u64 << size,
    };
    let extent = (1_u64 << 20) / logical.min(16384);
    let page = u64::from(page);
    let (group, within) = (page / size * size, page % size);
    let (number, bit) = (within / extent, within % extent * 2);
    let descriptor = group * size + 150 + number * (24 + extent / 4);
    let mut byte = [0];
    file.read_exact_at(&mut byte, descriptor + 24 + bit / 8).unwrap();
    byte[0] >> (bit % 8) & 1 == 1
}
