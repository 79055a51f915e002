//! Commits and aborts: which relations they remove. As `access/xact.h` has them; what stands before the relations is
//! the same from 14 to 18.

use super::{page::u32_at, record::Locator};

/// Most bytes of such a record that are looked at; further relations of a larger one are not counted.
pub(super) const MOST: usize = 4 << 20;

const OPERATION: u8 = 0x70;
const COMMIT: u8 = 0x00;
const ABORT: u8 = 0x20;
const COMMIT_PREPARED: u8 = 0x30;
const ABORT_PREPARED: u8 = 0x40;
const HAS_INFO: u8 = 0x80;

const HAS_DATABASE: u32 = 1 << 0;
const HAS_SUBTRANSACTIONS: u32 = 1 << 1;
const HAS_RELATIONS: u32 = 1 << 2;

/// Adds the relations that a record of a transaction's end removes, from its main data.
pub(super) fn drops(main: &[u8], info: u8, drops: &mut Vec<Locator>) {
    if !matches!(info & OPERATION, COMMIT | ABORT | COMMIT_PREPARED | ABORT_PREPARED) || info & HAS_INFO == 0
    {
        return;
    }
    // The time of the commit, then what there is.
    let flags = u32_at(main, 8);
    let mut at = 12;
    if flags & HAS_DATABASE != 0 {
        at += 8;
    }
    if flags & HAS_SUBTRANSACTIONS != 0 {
        at += 4 + 4 * u32_at(main, at) as usize;
    }
    if flags & HAS_RELATIONS != 0 {
        let relations = main.get(at + 4..).unwrap_or_default();
        let count = u32_at(main, at) as usize;
        drops.extend(relations.chunks_exact(12).take(count).map(|relation| Locator::at(relation, 0)));
    }
}
