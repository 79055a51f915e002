//! Adds up what records ask of replay, stretch by stretch.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use super::{
    lineage::Lineage,
    record::{BlockReference, Record},
};
use crate::{
    postgresql::{directory::PgDirectory, path::Fork},
    work::{Stretch, Work, WorkOn},
};

/// Bytes of log that are added up to one stretch. At 100 MB/s that is 1,500 a second.
const LENGTH: u64 = 64 << 10;

/// A record that removes so many relations is a stretch of its own: replay stands before it until it is done.
const MANY_DROPS: usize = 8;

/// Adds up.
#[derive(Debug, Default)]
pub(super) struct Counter {
    start: u64,
    end: u64,
    files: HashMap<BlockReference, Work, BuildHasherDefault<Mix>>,
    done: Vec<Stretch>,
    lineage: Lineage,
}

impl Counter {
    pub(super) fn new(directory: PgDirectory) -> Self {
        Self { lineage: Lineage::new(directory), ..Self::default() }
    }

    /// Goes on at another place: what lies before it is not counted.
    pub(super) fn go_on_at(&mut self, position: u64) {
        self.close(false);
        (self.start, self.end) = (position, position);
    }

    #[inline]
    pub(super) fn add(&mut self, record: &Record<'_>) {
        let drops = &record.events.drops;
        if drops.len() >= MANY_DROPS {
            self.close(false);
        }
        self.lineage.read(record);
        for block in record.blocks {
            self.files.entry(self.lineage.block(*block)).or_default().blocks += 1;
        }
        for drop in drops {
            let file = BlockReference { relation: self.lineage.drop(*drop), fork: Fork::Main };
            self.files.entry(file).or_default().drops += 1;
        }
        self.end = record.end;
        if drops.len() >= MANY_DROPS {
            self.close(true);
        } else if self.end.saturating_sub(self.start) >= LENGTH {
            self.close(false);
        }
    }

    fn close(&mut self, is_whole: bool) {
        let (start, end) = (self.start, self.end);
        self.start = end;
        if end > start {
            // What asks for nothing is a stretch too: replay has to pass it.
            let objects = self.files.drain().map(|(file, work)| (WorkOn::File(file), work)).collect();
            self.done.push(Stretch { start, end, is_whole, continues: false, objects });
        }
    }

    /// All there is since the last time.
    pub(super) fn take(&mut self) -> Vec<Stretch> {
        self.close(false);
        std::mem::take(&mut self.done)
    }
}

/// Mixes the few numbers of a reference; who writes the log could make them collide, and gains nothing by it.
#[derive(Debug, Default)]
pub(super) struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(value.cast_unsigned() as u64);
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(23) ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}
