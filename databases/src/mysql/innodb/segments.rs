//! The segments of a tablespace, and the single pages that each has in mixed extents: what INODE pages say.

use std::collections::BTreeSet;

use super::{
    ReadAt,
    read::{FIL_HEADER, Look, lsn, u16_at, u32_at, u64_at},
    space::Space,
};

const INODE: u16 = 3;
/// The chain's link to the next INODE page, and where the inodes begin.
const NEXT: usize = FIL_HEADER + 6;
const INODES: usize = FIL_HEADER + 12;
/// In an inode.
const MAGIC_AT: usize = 60;
const MAGIC: u32 = 97_937_874;
const SLOTS: usize = 64;
/// On page 0: where the lists of full and of not yet full INODE pages begin.
const LISTS: [usize; 2] = [FIL_HEADER + 80 + 4, FIL_HEADER + 96 + 4];
/// The first INODE page of every tablespace.
pub(super) const FIRST: u32 = 2;
/// Room for 2,700 indexes in one tablespace of 16 KiB pages.
const MOST_PAGES: usize = 64;
/// Room for the single pages of 4,096 segments that have all they can.
const MOST_SINGLE: usize = 1 << 17;
const NULL: u32 = u32::MAX;
/// No segment has this id.
pub(super) const CONTESTED: u64 = 0;

pub(super) struct Segment {
    /// Never given twice in one tablespace.
    pub(super) id: u64,
    /// Where its inode is: the root page of its index says the same.
    pub(super) at: (u32, u16),
    /// Its first single page; the root, if it is the upper segment of an index.
    pub(super) first: Option<u32>,
}

#[derive(Default)]
pub(super) struct Segments {
    /// By where their inodes are.
    pub(super) list: Vec<Segment>,
    /// Page and segment's id, by page. Of nobody (0) is a page that two segments claim.
    single: Vec<(u32, u64)>,
    /// The INODE pages themselves, each with its LSN.
    pub(super) pages: Vec<(u32, u64)>,
    /// All INODE pages could be read.
    pub(super) complete: bool,
    /// An INODE page is encrypted or compressed.
    pub(super) hidden: bool,
}

impl Segments {
    /// Follows the chains that page 0 names.
    pub(super) fn read(file: &(impl ReadAt + ?Sized), space: &Space, first_page: &[u8]) -> Self {
        let mut found = Self { complete: true, ..Self::default() };
        let mut wanted = vec![FIRST];
        wanted.extend(LISTS.map(|at| u32_at(first_page, at)).into_iter().filter(|&page| page != NULL));
        let mut seen = BTreeSet::new();
        while let Some(number) = wanted.pop() {
            if !seen.insert(number) {
                continue;
            }
            if seen.len() > MOST_PAGES {
                found.complete = false;
                break;
            }
            match Look::at(file, space, number, &[INODE]) {
                Look::Page(bytes) => {
                    found.pages.push((number, lsn(&bytes)));
                    found.take(space, number, &bytes);
                    wanted.extend(Some(u32_at(&bytes, NEXT)).filter(|&next| next != NULL));
                }
                Look::Hidden => found.hidden = true,
                Look::None => found.complete = false,
            }
        }
        found.list.sort_unstable_by_key(|segment| segment.at);
        found.single.sort_unstable();
        found.single.dedup();
        for at in 1..found.single.len() {
            if found.single[at - 1].0 == found.single[at].0 {
                found.single[at - 1].1 = CONTESTED;
                found.single[at].1 = CONTESTED;
            }
        }
        found.single.dedup();
        found.single.shrink_to_fit();
        found
    }

    fn take(&mut self, space: &Space, number: u32, page: &[u8]) {
        let slots = space.extent as usize / 2;
        let size = SLOTS + slots * 4;
        let room = page.len().saturating_sub(INODES + 10) / size;
        for at in (0..room).map(|n| INODES + n * size) {
            let (inode, id) = (&page[at..at + size], u64_at(page, at));
            let (Ok(offset), true) = (u16::try_from(at), id != 0 && u32_at(inode, MAGIC_AT) == MAGIC) else {
                continue;
            };
            let slot = |n: usize| Some(u32_at(inode, SLOTS + n * 4)).filter(|&page| page < space.pages);
            if self.single.len() + slots > MOST_SINGLE {
                self.complete = false;
                return;
            }
            self.single.extend((0..slots).filter_map(slot).map(|page| (page, id)));
            self.list.push(Segment { id, at: (number, offset), first: slot(0) });
        }
    }

    /// The segment whose inode is there, as a root page puts it.
    pub(super) fn at(&self, root: &[u8], field: usize) -> Option<&Segment> {
        let at = (u32_at(root, field + 4), u16_at(root, field + 8));
        let at = self.list.binary_search_by_key(&at, |segment| segment.at).ok()?;
        self.list.get(at)
    }

    /// The segment that has this page as a single one.
    pub(super) fn single(&self, page: u32) -> Option<u64> {
        let at = self.single.binary_search_by_key(&page, |&(page, _)| page).ok()?;
        self.single.get(at).map(|&(_, id)| id)
    }

    /// The oldest of what was read: what it says was so at least then.
    pub(super) fn lsn(&self) -> u64 {
        self.pages.iter().map(|&(_, lsn)| lsn).min().unwrap_or(0)
    }

    pub(super) fn has_page(&self, page: u32) -> bool {
        self.pages.iter().any(|&(number, _)| number == page)
    }

    pub(super) fn bytes(&self) -> usize {
        self.list.capacity() * size_of::<Segment>()
            + self.single.capacity() * size_of::<(u32, u64)>()
            + self.pages.capacity() * size_of::<(u32, u64)>()
    }
}
