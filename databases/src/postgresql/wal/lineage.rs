//! Which relation a file belongs to that the catalog may never show: a table that is emptied or rewritten gets another
//! file each time, and may have left it long before replay lets anybody see it.
//!
//! A new file belongs to the relation that its transaction has locked for itself, as long as all that it has locked is one
//! table with its indexes. What is made of it is counted as of a file of that relation that the catalog has shown.

use std::{collections::HashMap, hash::BuildHasherDefault};

use super::{
    count::Mix,
    event::Lock,
    record::{BlockReference, Locator, Record},
};
use crate::postgresql::directory::PgDirectory;

/// Most transactions that have locked something, and most relations of one.
const MOST_TRANSACTIONS: usize = 1000;
const MOST_LOCKED: usize = 100;
/// Most files, and relations that had several.
const MOST_FILES: usize = 10_000;

/// Follows relations from file to file.
#[derive(Debug, Default)]
pub(super) struct Lineage {
    directory: PgDirectory,
    transactions: HashMap<u32, Transaction>,
    /// Files by the one that they are counted as.
    counted_as: HashMap<Locator, Locator, BuildHasherDefault<Mix>>,
    /// The file that a relation's files are counted as, by database and relation.
    first: HashMap<(u32, u32), Locator>,
}

/// What a transaction has done so far.
#[derive(Debug, Default)]
struct Transaction {
    database: u32,
    locked: Vec<u32>,
    made: Vec<Locator>,
}

impl Lineage {
    pub(super) fn new(directory: PgDirectory) -> Self {
        Self { directory, ..Self::default() }
    }

    /// Takes what a record says, before its blocks are counted.
    #[inline]
    pub(super) fn read(&mut self, record: &Record<'_>) {
        for lock in &record.events.locks {
            self.lock(*lock);
        }
        if let Some(file) = record.events.made {
            self.make(record.transaction, file);
        }
        if record.events.has_ended {
            self.end(record.transaction, &record.events.parts);
        }
    }

    /// The file that a block of this one is counted as.
    #[inline]
    pub(super) fn block(&self, block: BlockReference) -> BlockReference {
        BlockReference { relation: self.file(block.relation), ..block }
    }

    fn file(&self, file: Locator) -> Locator {
        if self.counted_as.is_empty() { file } else { self.counted_as.get(&file).copied().unwrap_or(file) }
    }

    /// The file that the removal of this one is counted as. It is not heard of again.
    pub(super) fn drop(&mut self, file: Locator) -> Locator {
        self.counted_as.remove(&file).unwrap_or(file)
    }

    fn lock(&mut self, Lock { transaction, database, relation }: Lock) {
        if self.transactions.len() >= MOST_TRANSACTIONS && !self.transactions.contains_key(&transaction) {
            // Of some the end was in a part of the log that was not read.
            self.transactions.clear();
        }
        let of = self.transactions.entry(transaction).or_default();
        of.database = database;
        if of.locked.len() < MOST_LOCKED && !of.locked.contains(&relation) {
            of.locked.push(relation);
        }
        // A new relation's first file has its number, and it is locked when it has been made: it is none of the others'.
        for file in of.made.extract_if(.., |file| file.relfilenode == relation) {
            self.counted_as.remove(&file);
        }
    }

    fn make(&mut self, transaction: u32, file: Locator) {
        let Some(of) = self.transactions.get_mut(&transaction) else { return };
        if of.database != file.database || of.locked.len() >= MOST_LOCKED {
            return;
        }
        let Some(relation) = of.locked.last() else { return };
        let key = (of.database, *relation);
        let before = self.first.get(&key).copied();
        let Some(first) = self.directory.file_of(of.database, &of.locked, before) else { return };
        if self.counted_as.len() >= MOST_FILES {
            self.counted_as.clear();
        }
        if self.first.len() >= MOST_FILES {
            self.first.clear();
        }
        self.first.insert(key, first);
        self.counted_as.insert(file, first);
        if of.made.len() < MOST_FILES {
            of.made.push(file);
        }
    }

    fn end(&mut self, transaction: u32, parts: &[u32]) {
        if self.transactions.is_empty() {
            return;
        }
        let ended = [transaction].into_iter().chain(parts.iter().copied());
        let ended: Vec<_> = ended.filter_map(|part| self.transactions.remove(&part)).collect();
        let [first, others @ ..] = &ended[..] else { return };
        // What its parts have locked was locked by one transaction.
        let mut locked = first.locked.clone();
        locked.extend(others.iter().flat_map(|part| &part.locked));
        if !others.is_empty() && self.directory.file_of(first.database, &locked, None).is_none() {
            for file in ended.iter().flat_map(|part| &part.made) {
                self.counted_as.remove(file);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgresql::{directory::Row, relations::Relation, wal::event::Events};

    const SHOP: u32 = 5;

    fn file(relfilenode: u32) -> Locator {
        Locator { tablespace: 1663, database: SHOP, relfilenode }
    }

    fn row(oid: u32, kind: u8, table: u32, toast: u32) -> Row {
        let name = format!("r{oid}").into();
        let relation = Relation {
            relfilenode: oid,
            space: 1663,
            backend: None,
            kind,
            schema: "public".into(),
            name,
            table,
            parent: 0,
            toast,
        };
        Row { oid, shared: false, relation }
    }

    /// Knows the tables 10, with a TOAST table and indexes, and 20.
    fn lineage() -> Lineage {
        let directory = PgDirectory::default();
        let rows = vec![
            row(10, b'r', 0, 11),
            row(11, b't', 0, 0),
            row(12, b'i', 11, 0),
            row(13, b'i', 10, 0),
            row(20, b'r', 0, 0),
        ];
        directory.add(SHOP, "shop", rows, |_| {});
        Lineage::new(directory)
    }

    /// What happens in transaction 7, or in part 8 of it.
    #[derive(Clone, Copy)]
    enum Step {
        Lock(u32),
        Make(u32),
        PartLocks(u32),
        PartMakes(u32),
        Ends,
    }
    use Step::{Ends, Lock as Locks, Make, PartLocks, PartMakes};

    fn run(lineage: &mut Lineage, steps: &[Step]) {
        for step in steps {
            let lock = |transaction, relation| Lock { transaction, database: SHOP, relation };
            let (mut transaction, mut events) = (7, Events::default());
            match *step {
                Locks(relation) => events.locks.push(lock(7, relation)),
                PartLocks(relation) => events.locks.push(lock(8, relation)),
                Make(number) => events.made = Some(file(number)),
                PartMakes(number) => (transaction, events.made) = (8, Some(file(number))),
                Ends => (events.has_ended, events.parts) = (true, vec![8]),
            }
            let (blocks, events) = (&[], &events);
            lineage.read(&Record { start: 1, end: 2, transaction, manager: 0, info: 0, blocks, events });
        }
    }

    fn counted_as(lineage: &Lineage, number: u32) -> u32 {
        lineage.file(file(number)).relfilenode
    }

    #[test]
    fn each_new_file_of_a_table_that_is_emptied_again_and_again_is_counted_as_its_first() {
        let mut lineage = lineage();
        for generation in 1..=20_000 {
            let [heap, toast, toast_index, index] = [0, 1, 2, 3].map(|n| generation * 10 + n + 1000);
            let steps = [
                Locks(10),
                Make(heap),
                Locks(11),
                Make(toast),
                Locks(13),
                Make(index),
                Locks(12),
                Make(toast_index),
                Ends,
            ];
            run(&mut lineage, &steps);
            let numbers = [heap, toast, toast_index, index];
            assert_eq!(numbers.map(|number| counted_as(&lineage, number)), [10, 11, 12, 13]);
            assert_eq!(numbers.map(|number| lineage.drop(file(number)).relfilenode), [10, 11, 12, 13]);
        }
        assert!(lineage.transactions.is_empty() && lineage.counted_as.is_empty());
    }

    #[test]
    fn a_new_relation_is_not_taken_for_the_one_that_was_locked_before() {
        let mut lineage = lineage();
        run(&mut lineage, &[Locks(10), Make(30), Locks(30), Make(31), Ends]);
        assert_eq!([30, 31].map(|number| counted_as(&lineage, number)), [30, 31]);
        run(&mut lineage, &[Make(40), Locks(40), Ends]);
        assert_eq!(counted_as(&lineage, 40), 40);
    }

    #[test]
    fn whose_file_it_is_of_two_tables_is_not_guessed() {
        let mut lineage = lineage();
        run(&mut lineage, &[Locks(10), Locks(20), Make(50), Ends]);
        assert_eq!(counted_as(&lineage, 50), 50);
        // A part of a transaction does not say what the whole has locked before it has ended.
        run(&mut lineage, &[Locks(20), PartLocks(10), PartMakes(60)]);
        assert_eq!(counted_as(&lineage, 60), 10);
        run(&mut lineage, &[Ends]);
        assert_eq!(counted_as(&lineage, 60), 60);
    }

    #[test]
    fn ends_that_are_never_seen_take_no_memory() {
        let mut lineage = lineage();
        for number in 0..50_000 {
            let made = Events { made: Some(file(number + 1000)), ..Events::default() };
            let lock = Lock { transaction: number, database: SHOP, relation: 20 };
            let locked = Events { locks: vec![lock], ..Events::default() };
            for events in [&locked, &made] {
                let (transaction, blocks) = (number, &[]);
                lineage.read(&Record { start: 1, end: 2, transaction, manager: 0, info: 0, blocks, events });
            }
            assert!(
                lineage.transactions.len() <= MOST_TRANSACTIONS && lineage.counted_as.len() <= MOST_FILES
            );
        }
        assert_eq!(counted_as(&lineage, 50_999), 20);
    }
}
