//! What a few records say of relations as such: that a file was made, that one is removed, that a relation was locked so
//! that nobody else may see it, and that a transaction has ended. As `access/xact.h`, `catalog/storage_xlog.h` and
//! `storage/lockdefs.h` have them; what is read of them is the same from 14 to 18.

use super::{
    page::u32_at,
    record::{Head, Locator},
};

/// Most bytes of such a record that are looked at; what a larger one has beyond is not counted.
const MOST: usize = 4 << 20;

const TRANSACTION: u8 = 1;
const STORAGE: u8 = 2;
const STANDBY: u8 = 8;

const OPERATION: u8 = 0x70;
const COMMIT: u8 = 0x00;
const ABORT: u8 = 0x20;
const COMMIT_PREPARED: u8 = 0x30;
const ABORT_PREPARED: u8 = 0x40;
const HAS_INFO: u8 = 0x80;

const HAS_DATABASE: u32 = 1 << 0;
const HAS_SUBTRANSACTIONS: u32 = 1 << 1;
const HAS_RELATIONS: u32 = 1 << 2;

const INFO: u8 = 0xF0;
const CREATE: u8 = 0x10;
const LOCK: u8 = 0x00;

/// How many bytes of a manager's records have to be seen, where any are.
pub(super) fn needed(manager: u8) -> Option<usize> {
    matches!(manager, TRANSACTION | STORAGE | STANDBY).then_some(MOST)
}

/// A relation that a transaction has for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Who has it.
    pub transaction: u32,
    /// Oid of the database.
    pub database: u32,
    /// Oid of the relation, which stays when it gets another file.
    pub relation: u32,
}

/// What one record says.
#[derive(Debug, Default)]
pub struct Events {
    /// Relations whose files are removed.
    pub drops: Vec<Locator>,
    /// A relation's file that was made.
    pub made: Option<Locator>,
    /// Relations that were locked.
    pub locks: Vec<Lock>,
    /// Whether the record's transaction has ended.
    pub has_ended: bool,
    /// The parts of it that have ended with it.
    pub parts: Vec<u32>,
}

impl Events {
    pub(super) fn clear(&mut self) {
        self.drops.clear();
        self.made = None;
        self.locks.clear();
        self.has_ended = false;
        self.parts.clear();
    }

    /// Reads the main data of a record of one of these managers.
    pub(super) fn read(&mut self, main: &[u8], head: Head) {
        match (head.manager, head.info) {
            (TRANSACTION, info) => self.end(main, info),
            // The number of the fork is the last.
            (STORAGE, info) if info & INFO == CREATE && main.len() >= 16 && u32_at(main, 12) == 0 => {
                self.made = Some(Locator::at(main, 0));
            }
            (STANDBY, info) if info & INFO == LOCK => {
                let locks = main.get(4..).unwrap_or_default().chunks_exact(12);
                self.locks.extend(locks.take(u32_at(main, 0) as usize).map(|lock| Lock {
                    transaction: u32_at(lock, 0),
                    database: u32_at(lock, 4),
                    relation: u32_at(lock, 8),
                }));
            }
            _ => {}
        }
    }

    fn end(&mut self, main: &[u8], info: u8) {
        if !matches!(info & OPERATION, COMMIT | ABORT | COMMIT_PREPARED | ABORT_PREPARED) {
            return;
        }
        self.has_ended = true;
        if info & HAS_INFO == 0 {
            return;
        }
        // The time of the commit, then what there is.
        let flags = u32_at(main, 8);
        let mut at = 12;
        if flags & HAS_DATABASE != 0 {
            at += 8;
        }
        if flags & HAS_SUBTRANSACTIONS != 0 {
            let count = u32_at(main, at) as usize;
            let parts = main.get(at + 4..).unwrap_or_default();
            self.parts.extend(parts.chunks_exact(4).take(count).map(|part| u32_at(part, 0)));
            at += 4 + 4 * count;
        }
        if flags & HAS_RELATIONS != 0 {
            let count = u32_at(main, at) as usize;
            let relations = main.get(at + 4..).unwrap_or_default();
            self.drops
                .extend(relations.chunks_exact(12).take(count).map(|relation| Locator::at(relation, 0)));
        }
    }
}
