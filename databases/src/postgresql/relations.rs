//! What has been read of one database's catalog, and how an object is made of it. Pure: no SQL here.
//!
//! Rows are kept as they are and objects made when asked for, so that 100,000 relations take some ten MiB.

use std::{collections::HashMap, sync::Arc};

use super::hypertables::Hypertables;
use crate::catalog::{FileKind, Object};

/// Longest chain from a leaf partition to its root that is followed; a longer one is a loop in wrong data.
const DEEPEST: usize = 32;

/// Schema of TimescaleDB's chunks, which are plain children of their hypertable.
const CHUNK_SCHEMA: &str = "_timescaledb_internal";

/// What a file is known by within one database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct File {
    /// Oid of the tablespace, never 0.
    pub(super) space: u32,
    pub(super) number: u32,
    /// Of a temporary relation.
    pub(super) backend: Option<u32>,
}

/// One row of `pg_class` with what belongs to it in `pg_index` and `pg_inherits`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Relation {
    /// 0 where it has no file.
    pub(super) relfilenode: u32,
    /// Oid of the tablespace, never 0.
    pub(super) space: u32,
    /// Number of the backend that a temporary relation belongs to.
    pub(super) backend: Option<u32>,
    /// `relkind`.
    pub(super) kind: u8,
    pub(super) schema: Arc<str>,
    pub(super) name: Box<str>,
    /// Table of an index; 0 if it is none.
    pub(super) table: u32,
    /// What it is a partition or chunk of; 0 if it is none. Plain inheritance makes tables of their own.
    pub(super) parent: u32,
    /// Its TOAST table; 0 if there is none.
    pub(super) toast: u32,
}

impl Relation {
    pub(super) fn is_index(&self) -> bool {
        matches!(self.kind, b'i' | b'I')
    }

    fn file(&self) -> File {
        File { space: self.space, number: self.relfilenode, backend: self.backend }
    }
}

/// What is known of one database; of the shared relations where the name is empty.
#[derive(Debug, Default)]
pub(super) struct Relations {
    pub(super) name: String,
    pub(super) rows: HashMap<u32, Relation>,
    by_file: HashMap<File, u32>,
    toast_owners: HashMap<u32, u32>,
    /// What TimescaleDB says of them.
    pub(super) hypertables: Hypertables,
}

impl Relations {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Adds a row. Returns the file that the relation had before, where it has another now, with its name: it may
    /// still be written.
    pub(super) fn insert(&mut self, oid: u32, relation: Relation) -> Option<(File, Object)> {
        let before = self.rows.get(&oid).map(Relation::file).filter(|file| *file != relation.file());
        let before = before.filter(|file| self.by_file.get(file) == Some(&oid));
        let former = before.and_then(|file| {
            let object = self.object(oid);
            self.by_file.remove(&file);
            Some((file, object?))
        });
        if relation.relfilenode != 0 {
            self.by_file.insert(relation.file(), oid);
        }
        if relation.toast != 0 {
            self.toast_owners.insert(relation.toast, oid);
        }
        self.rows.insert(oid, relation);
        former
    }

    /// Adds all rows of another reading.
    pub(super) fn absorb(&mut self, other: Self) -> Vec<(File, Object)> {
        self.hypertables.absorb(other.hypertables);
        other.rows.into_iter().filter_map(|(oid, relation)| self.insert(oid, relation)).collect()
    }

    /// The files that another reading has not, with their names.
    pub(super) fn files_gone_in(&self, other: &Self) -> Vec<(File, Object)> {
        self.by_file
            .iter()
            .filter(|(file, _)| !other.by_file.contains_key(file))
            .filter_map(|(file, oid)| Some((*file, self.object(*oid)?)))
            .collect()
    }

    /// The object of a file.
    pub(super) fn file(&self, file: &File) -> Option<Object> {
        self.object(*self.by_file.get(file)?)
    }

    /// The file of a relation that others see and that has one.
    pub(super) fn file_by(&self, oid: u32) -> Option<File> {
        let file = self.rows.get(&oid)?.file();
        (file.number != 0 && file.backend.is_none()).then_some(file)
    }

    /// Whether it is known whose file it is.
    pub(super) fn holds(&self, file: &File) -> bool {
        self.by_file.contains_key(file)
    }

    /// The object with this number; `None` while something that its name needs is not known.
    pub(super) fn object(&self, oid: u32) -> Option<Object> {
        let relation = self.rows.get(&oid)?;
        let (table, index, toast) = match relation.kind {
            b'i' | b'I' => {
                let table = self.rows.get(&relation.table)?;
                if table.kind == b't' {
                    (self.owner(relation.table)?, None, true)
                } else {
                    (relation.table, Some(oid), false)
                }
            }
            b't' => (self.owner(oid)?, None, true),
            _ => (oid, None, false),
        };
        let leaf = self.rows.get(&table)?;
        let root = self.root(table)?;
        let index = match index {
            Some(index) => Some(self.index_name(index, leaf, root)?),
            None => None,
        };
        let kind = if leaf.backend.is_some() {
            FileKind::Temp
        } else if matches!(&*leaf.schema, "pg_catalog" | "information_schema") {
            FileKind::Catalog
        } else if toast {
            FileKind::Toast
        } else if index.is_some() {
            FileKind::Index
        } else {
            FileKind::Heap
        };
        let row = self.rows.get(&root)?;
        let (schema, name) = match self.hypertables.view(root) {
            Some((schema, name)) => (schema, name),
            // The number in the schema of temporary tables is the backend's, and another one in each session.
            None if row.backend.is_some() => ("pg_temp", &*row.name),
            None => (&*row.schema, &*row.name),
        };
        let namespace =
            if self.name.is_empty() { schema.to_owned() } else { format!("{}|{schema}", self.name) };
        let partition = match self.hypertables.chunk(table) {
            Some(chunk) => Some(self.rows.get(&chunk).map_or(&*leaf.name, |chunk| &*chunk.name)),
            None => (!std::ptr::eq(leaf, row)).then_some(&*leaf.name),
        };
        Some(Object {
            database: self.name.clone(),
            schema: schema.to_owned(),
            namespace,
            table: name.to_owned(),
            index,
            partition: partition.map(str::to_owned),
            kind,
        })
    }

    /// What must be read before [`Relations::object`] can name this relation.
    pub(super) fn missing(&self, oid: u32) -> Option<u32> {
        let mut at = oid;
        for _ in 0..DEEPEST {
            let Some(relation) = self.rows.get(&at) else { return Some(at) };
            at = match relation.kind {
                b'i' | b'I' if self.next(at) == 0 || self.rows.contains_key(&self.next(at)) => {
                    // The chain of indexes is complete one step further; the table's is the longer one.
                    self.missing_above(at).unwrap_or(relation.table)
                }
                b'i' | b'I' => return Some(self.next(at)),
                b't' => self.owner(at).or_else(|| owner_by_name(&relation.name))?,
                _ => self.next(at),
            };
            if at == 0 {
                return None;
            }
        }
        None
    }

    /// The first ancestor of an index that is not known.
    fn missing_above(&self, index: u32) -> Option<u32> {
        let mut at = index;
        for _ in 0..DEEPEST {
            match self.next(at) {
                0 => return None,
                parent if self.rows.contains_key(&parent) => at = parent,
                parent => return Some(parent),
            }
        }
        None
    }

    fn owner(&self, toast: u32) -> Option<u32> {
        self.toast_owners.get(&toast).copied()
    }

    /// The parent that a relation counts towards; 0 at the root.
    fn next(&self, oid: u32) -> u32 {
        if let Some(hypertable) = self.hypertables.above(oid) {
            return hypertable;
        }
        self.rows.get(&oid).map_or(0, |relation| relation.parent)
    }

    fn root(&self, oid: u32) -> Option<u32> {
        let mut at = oid;
        for _ in 0..DEEPEST {
            match self.next(at) {
                0 => return Some(at),
                parent if self.rows.contains_key(&parent) => at = parent,
                _ => return None,
            }
        }
        Some(at)
    }

    fn index_name(&self, index: u32, leaf: &Relation, table_root: u32) -> Option<String> {
        let row = self.rows.get(&self.root(index)?)?;
        if self.hypertables.is_chunk(row.table) {
            // Nothing is said before it is known whether the hypertable has such an index.
            return match self.hypertables.index(index)? {
                0 => Some(row.name.to_string()),
                own => Some(self.rows.get(&own)?.name.to_string()),
            };
        }
        // An index of what was compressed is no copy of any other. Where TimescaleDB's catalog cannot be read, a name that
        // is made of the chunk's tells.
        let chunk = self.hypertables.chunk(row.table).is_none()
            && &*leaf.schema == CHUNK_SCHEMA
            && self.next_is_chunk(leaf, table_root);
        let own = chunk.then(|| row.name.strip_prefix(&*leaf.name)?.strip_prefix('_')).flatten();
        Some(own.unwrap_or(&row.name).to_owned())
    }

    fn next_is_chunk(&self, leaf: &Relation, table_root: u32) -> bool {
        self.rows.get(&table_root).is_some_and(|root| root.name != leaf.name)
    }
}

/// PostgreSQL names a TOAST table after its owner's number.
fn owner_by_name(name: &str) -> Option<u32> {
    name.strip_prefix("pg_toast_")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relation(relfilenode: u32, kind: u8, schema: &str, name: &str) -> Relation {
        Relation {
            relfilenode,
            space: 1663,
            backend: None,
            kind,
            schema: schema.into(),
            name: name.into(),
            table: 0,
            parent: 0,
            toast: 0,
        }
    }

    fn at(number: u32) -> File {
        File { space: 1663, number, backend: None }
    }

    fn shop() -> Relations {
        let mut shop = Relations::new("shop");
        shop.insert(10, Relation { toast: 11, ..relation(110, b'r', "public", "orders") });
        shop.insert(11, relation(111, b't', "pg_toast", "pg_toast_10"));
        shop.insert(12, Relation { table: 11, ..relation(112, b'i', "pg_toast", "pg_toast_10_index") });
        shop.insert(13, Relation { table: 10, ..relation(113, b'i', "public", "orders_pkey") });
        shop.insert(20, relation(0, b'p', "public", "events"));
        shop.insert(21, Relation { table: 20, ..relation(0, b'I', "public", "events_pkey") });
        shop.insert(22, Relation { parent: 20, ..relation(0, b'p', "public", "events_2026") });
        shop.insert(
            23,
            Relation { parent: 21, table: 22, ..relation(0, b'I', "public", "events_2026_pkey") },
        );
        shop.insert(24, Relation { parent: 22, toast: 26, ..relation(124, b'r', "parts", "events_2026_11") });
        let name = "events_2026_11_pkey";
        shop.insert(25, Relation { parent: 23, table: 24, ..relation(125, b'i', "parts", name) });
        shop.insert(26, relation(126, b't', "pg_toast", "pg_toast_24"));
        shop.insert(30, relation(130, b'r', "pg_catalog", "pg_class"));
        shop.insert(31, Relation { table: 30, ..relation(131, b'i', "pg_catalog", "pg_class_oid_index") });
        shop.insert(40, relation(140, b'r', "public", "orders_child"));
        shop.insert(50, relation(150, b'r', "public", "metrics"));
        shop.insert(51, Relation { parent: 50, ..relation(151, b'r', CHUNK_SCHEMA, "_hyper_1_2_chunk") });
        let name = "_hyper_1_2_chunk_metrics_time_idx";
        shop.insert(52, Relation { table: 51, ..relation(152, b'i', CHUNK_SCHEMA, name) });
        shop
    }

    fn named(file: u32) -> (String, Option<String>, Option<String>, FileKind) {
        let object = shop().file(&at(file)).unwrap();
        (format!("{}.{}", object.namespace, object.table), object.index, object.partition, object.kind)
    }

    fn text(text: &str) -> String {
        text.to_owned()
    }

    #[test]
    fn toast_and_its_index_are_the_tables() {
        assert_eq!(named(110), ("shop|public.orders".into(), None, None, FileKind::Heap));
        assert_eq!(named(111), ("shop|public.orders".into(), None, None, FileKind::Toast));
        assert_eq!(named(112), ("shop|public.orders".into(), None, None, FileKind::Toast));
        assert_eq!(
            named(113),
            ("shop|public.orders".into(), Some(text("orders_pkey")), None, FileKind::Index)
        );
    }

    #[test]
    fn partitions_count_towards_their_root() {
        let leaf = Some(text("events_2026_11"));
        assert_eq!(named(124), ("shop|public.events".into(), None, leaf.clone(), FileKind::Heap));
        assert_eq!(
            named(125),
            ("shop|public.events".into(), Some(text("events_pkey")), leaf.clone(), FileKind::Index)
        );
        assert_eq!(named(126), ("shop|public.events".into(), None, leaf, FileKind::Toast));
    }

    #[test]
    fn chunks_count_towards_their_hypertable_and_plain_children_do_not() {
        let chunk = Some(text("_hyper_1_2_chunk"));
        assert_eq!(named(151), ("shop|public.metrics".into(), None, chunk.clone(), FileKind::Heap));
        assert_eq!(
            named(152),
            ("shop|public.metrics".into(), Some(text("metrics_time_idx")), chunk, FileKind::Index)
        );
        assert_eq!(named(140), ("shop|public.orders_child".into(), None, None, FileKind::Heap));
    }

    #[test]
    fn catalogs_are_told_apart() {
        assert_eq!(named(130), ("shop|pg_catalog.pg_class".into(), None, None, FileKind::Catalog));
        assert_eq!(named(131).3, FileKind::Catalog);
    }

    #[test]
    fn what_is_missing_for_a_name_is_told_step_by_step() {
        let all = shop();
        let mut some = Relations::new("shop");
        for target in [25, 12, 26, 152 - 100] {
            let mut steps = 0;
            while let Some(oid) = some.missing(target) {
                some.insert(oid, all.rows[&oid].clone());
                steps += 1;
                assert!(steps < 20, "{target} needs {oid} for ever");
            }
            assert_eq!(some.object(target), all.object(target));
        }
    }

    #[test]
    fn a_file_that_was_replaced_is_told_with_its_name() {
        let mut shop = shop();
        let named = shop.file(&at(113)).unwrap();
        let moved = Relation { relfilenode: 999, ..shop.rows[&13].clone() };
        assert_eq!(shop.insert(13, moved.clone()), Some((at(113), named.clone())));
        assert_eq!(shop.insert(13, moved), None);
        assert_eq!((shop.file(&at(113)), shop.file(&at(999))), (None, Some(named)));
    }

    #[test]
    fn a_number_that_another_relation_has_now_is_that_relations() {
        let mut shop = shop();
        shop.insert(60, relation(110, b'r', "public", "new"));
        assert_eq!(shop.file(&at(110)).unwrap().table, "new");
        // What took the number away is not told as the old one's former file.
        let moved = Relation { relfilenode: 999, ..shop.rows[&10].clone() };
        assert_eq!(shop.insert(10, moved), None);
        assert_eq!(shop.file(&at(110)).unwrap().table, "new");
    }

    #[test]
    fn a_number_means_another_relation_in_each_tablespace_and_backend() {
        let mut shop = shop();
        shop.insert(61, Relation { space: 16_400, ..relation(110, b'r', "public", "elsewhere") });
        shop.insert(62, Relation { backend: Some(3), ..relation(110, b'r', "pg_temp_3", "mine") });
        assert_eq!(shop.file(&at(110)).unwrap().table, "orders");
        assert_eq!(shop.file(&File { space: 16_400, ..at(110) }).unwrap().table, "elsewhere");
        let mine = shop.file(&File { backend: Some(3), ..at(110) }).unwrap();
        assert_eq!((&*mine.table, &*mine.schema, mine.kind), ("mine", "pg_temp", FileKind::Temp));
    }

    #[test]
    fn what_a_reading_has_not_any_more_is_told_with_its_name() {
        let (old, mut new) = (shop(), Relations::new("shop"));
        for (oid, row) in old.rows.iter().filter(|(oid, _)| ![10, 11, 12, 13, 40].contains(*oid)) {
            new.insert(*oid, row.clone());
        }
        let mut gone: Vec<_> =
            old.files_gone_in(&new).into_iter().map(|(file, object)| (file.number, object.table)).collect();
        gone.sort();
        let orders = || text("orders");
        let child = text("orders_child");
        assert_eq!(gone, [(110, orders()), (111, orders()), (112, orders()), (113, orders()), (140, child)]);
    }

    #[test]
    fn a_loop_ends() {
        let mut wrong = Relations::new("x");
        let looped = |parent| Relation { parent, ..relation(1, b'r', "s", "t") };
        wrong.insert(1, looped(2));
        wrong.insert(2, looped(1));
        assert_eq!(wrong.missing(1), None);
        assert!(wrong.object(1).is_some());
    }
}
