//! Which index each segment is of: the root page of an index names its two segments.

use std::collections::BTreeMap;

use super::{
    Owner, ReadAt,
    read::{TYPE, head, hides, u16_at, u32_at, u64_at},
    segments::Segments,
    space::Space,
};

const RTREE: u16 = 17854;
const INDEX: u16 = 17855;
const SDI: u16 = 17853;
/// MariaDB: the clustered index's root after an instant ADD or DROP COLUMN. MySQL has no root of that type.
const INSTANT: u16 = 18;
const INDEX_ID: usize = 66;
/// The inodes of the leaf and of the upper segment: space, page, offset.
const LEAF: usize = 74;
const TOP: usize = 84;
const ROOT_HEADER: usize = 94;

/// The root page of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root {
    /// PAGE_NO of information_schema.innodb_sys_indexes (MySQL 8: innodb_indexes).
    pub page: u32,
    /// INDEX_ID.
    pub index: u64,
}

/// Where the indexes of a file are known from.
#[derive(Clone, Copy, Debug)]
pub enum Roots<'a> {
    /// From the server. An index whose root page, as flushed, says another id stays unknown; so do all that are not named.
    Given(&'a [Root]),
    /// From the file: the first page of each segment is looked at. An index made a moment ago may go by the id of a dropped
    /// one in whose place it is, until its root page is flushed.
    InFile,
}

/// What the roots came to.
#[derive(Default)]
pub(super) struct Owners {
    /// By the segment's id.
    pub(super) of: BTreeMap<u64, Owner>,
    pub(super) complete: bool,
    pub(super) hidden: bool,
}

impl Owners {
    pub(super) fn read(
        file: &(impl ReadAt + ?Sized),
        space: &Space,
        segments: &Segments,
        roots: Roots<'_>,
    ) -> Self {
        let mut owners = Self { complete: true, ..Self::default() };
        if let Roots::Given(roots) = roots {
            // A full-text index has no tree of its own in this file, and so no page.
            for root in roots.iter().filter(|root| root.page != 0 && root.page != u32::MAX) {
                let claimed = owners.claim(file, space, segments, root.page, |kind, id| {
                    (kind != SDI && id == root.index).then_some(Owner::Index(id))
                });
                owners.complete &= claimed;
            }
        }
        for segment in &segments.list {
            let Some(page) = segment.first.filter(|_| !owners.of.contains_key(&segment.id)) else { continue };
            owners.claim(file, space, segments, page, |kind, id| match (kind, roots) {
                (SDI, _) => Some(Owner::Bookkeeping),
                (_, Roots::InFile) => Some(Owner::Index(id)),
                (_, Roots::Given(_)) => None,
            });
        }
        owners
    }

    pub(super) fn bytes(&self) -> usize {
        // A B-tree's nodes are between half full and full.
        self.of.len() * 2 * size_of::<(u64, Owner)>()
    }

    /// Gives the two segments of a root page to whom its type and index id are of. False if it is no root.
    fn claim(
        &mut self,
        file: &(impl ReadAt + ?Sized),
        space: &Space,
        segments: &Segments,
        page: u32,
        whose: impl Fn(u16, u64) -> Option<Owner>,
    ) -> bool {
        let Some(root) = head::<ROOT_HEADER>(file, space, page) else { return false };
        if hides(&root, space) {
            self.hidden = true;
            return true;
        }
        let kind = u16_at(&root, TYPE);
        let named = [LEAF, TOP].iter().all(|&at| u32_at(&root, at) == space.id);
        let (Some(leaf), Some(top)) = (segments.at(&root, LEAF), segments.at(&root, TOP)) else {
            return false;
        };
        // Both say so: the page names the segment, and the segment begins with the page.
        if !named || !matches!(kind, INDEX | RTREE | SDI | INSTANT) || top.first != Some(page) {
            return false;
        }
        let Some(owner) = whose(kind, u64_at(&root, INDEX_ID)).filter(|_| leaf.id != top.id) else {
            return false;
        };
        for id in [leaf.id, top.id] {
            let held = self.of.entry(id).or_insert(owner);
            if *held != owner {
                *held = Owner::Unknown;
            }
        }
        true
    }
}
