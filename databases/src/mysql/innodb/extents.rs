//! Which segment each extent is of: what one page of descriptors says, in as few bytes as it can be kept.

use std::collections::BTreeMap;

use super::{
    read::{lsn, u32_at, u64_at},
    space::{DESCRIPTORS, Space},
};

/// In a descriptor: the state and the pages' bits, after the segment's id and the list's links.
const STATE: usize = 20;
const BITMAP: usize = 24;
/// More segments than this one file has not: the rest stays unknown.
const MOST_SEGMENTS: u16 = 24_000;

/// Whose an extent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    Segment(u64),
    /// Its pages are handed out singly; is this one free?
    Mixed {
        free: bool,
    },
    Free,
    Unknown,
}

/// Segment ids, numbered so that an extent takes two bytes.
#[derive(Default)]
pub(super) struct Numbers {
    ids: Vec<u64>,
    of: BTreeMap<u64, u16>,
}

const UNKNOWN: u16 = u16::MAX;
const FREE: u16 = u16::MAX - 1;
const MIXED: u16 = u16::MAX - 2;

impl Numbers {
    fn of(&mut self, id: u64) -> u16 {
        let next = u16::try_from(self.ids.len()).unwrap_or(MOST_SEGMENTS);
        if let Some(&known) = self.of.get(&id) {
            return known;
        }
        if next >= MOST_SEGMENTS {
            return UNKNOWN;
        }
        self.of.insert(id, next);
        self.ids.push(id);
        next
    }

    pub(super) fn bytes(&self) -> usize {
        self.ids.capacity() * size_of::<u64>() + self.of.len() * 2 * size_of::<(u64, u16)>()
    }
}

/// The extents that one page of descriptors describes.
#[derive(Default)]
pub(super) struct Group {
    /// Of the page; 0 where it could not be read.
    pub(super) lsn: u64,
    /// First extent, whose: until the next one's first.
    runs: Vec<(u16, u16)>,
    /// Which pages of a mixed extent are free, bit by bit.
    mixed: Vec<(u16, Box<[u8]>)>,
}

impl Group {
    pub(super) fn parse(space: &Space, page: &[u8], numbers: &mut Numbers) -> Self {
        let mut group = Self { lsn: lsn(page), ..Self::default() };
        let size = BITMAP + space.extent as usize / 4;
        for number in 0..space.stride() / space.extent {
            let at = DESCRIPTORS + number as usize * size;
            let (Some(descriptor), Ok(number)) = (page.get(at..at + size), u16::try_from(number)) else {
                break;
            };
            let whose = match u32_at(descriptor, STATE) {
                1 => FREE,
                2 | 3 => MIXED,
                // 5: MySQL lends an extent that begins with a page of descriptors to one segment.
                4 | 5 if u64_at(descriptor, 0) != 0 => numbers.of(u64_at(descriptor, 0)),
                _ => UNKNOWN,
            };
            if group.runs.last().is_none_or(|&(_, last)| last != whose) {
                group.runs.push((number, whose));
            }
            if whose == MIXED {
                group.mixed.push((number, descriptor[BITMAP..].into()));
            }
        }
        group.runs.shrink_to_fit();
        group.mixed.shrink_to_fit();
        group
    }

    /// Whose the extent is that a page is in, counted from the group's first page.
    pub(super) fn extent(&self, space: &Space, page: u32, numbers: &Numbers) -> Extent {
        let Ok(number) = u16::try_from(page / space.extent) else { return Extent::Unknown };
        let run = self.runs.partition_point(|&(first, _)| first <= number).checked_sub(1);
        match run.and_then(|run| self.runs.get(run)).map_or(UNKNOWN, |&(_, whose)| whose) {
            UNKNOWN => Extent::Unknown,
            FREE => Extent::Free,
            MIXED => Extent::Mixed { free: self.is_free(number, (page % space.extent) as usize) },
            segment => numbers.ids.get(segment as usize).map_or(Extent::Unknown, |&id| Extent::Segment(id)),
        }
    }

    /// Two bits a page, the lower one of which says that it is free.
    fn is_free(&self, extent: u16, page: usize) -> bool {
        let at = self.mixed.binary_search_by_key(&extent, |&(number, _)| number).ok();
        let bits = at.and_then(|at| self.mixed.get(at)).map(|(_, bits)| bits);
        bits.and_then(|bits| bits.get(page / 4)).is_some_and(|byte| byte >> (page % 4 * 2) & 1 == 1)
    }

    pub(super) fn bytes(&self) -> usize {
        let bits: usize = self.mixed.iter().map(|(_, bits)| bits.len()).sum();
        self.runs.capacity() * 4
            + self.mixed.capacity() * size_of::<(u16, Box<[u8]>)>()
            + bits
            + size_of::<Self>()
    }
}
