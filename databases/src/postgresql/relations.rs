//! What has been read of one database's catalog, and how an object is made of it. Pure: no SQL here.
//!
//! Rows are kept as they are and objects made when asked for, so that 100,000 relations take some ten MiB.

use std::{collections::HashMap, sync::Arc};

use crate::catalog::{FileKind, Object};

/// Longest chain from a leaf partition to its root that is followed; a longer one is a loop in wrong data.
const DEEPEST: usize = 32;

/// Schema of TimescaleDB's chunks, which are plain children of their hypertable.
const CHUNK_SCHEMA: &str = "_timescaledb_internal";

/// One row of `pg_class` with what belongs to it in `pg_index` and `pg_inherits`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Relation {
    /// 0 where it has no file.
    pub(super) relfilenode: u32,
    /// `relkind`.
    pub(super) kind: u8,
    pub(super) schema: Arc<str>,
    pub(super) name: Box<str>,
    /// Table of an index; 0 if it is none.
    pub(super) table: u32,
    /// First parent; 0 if there is none.
    pub(super) parent: u32,
    pub(super) is_partition: bool,
    /// Its TOAST table; 0 if there is none.
    pub(super) toast: u32,
}

/// What is known of one database; of the shared relations where the name is empty.
#[derive(Debug, Default)]
pub(super) struct Relations {
    pub(super) name: String,
    rows: HashMap<u32, Relation>,
    by_file: HashMap<u32, u32>,
    toast_owners: HashMap<u32, u32>,
}

impl Relations {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Adds a row. A file that the relation had before stays known: it may still be written.
    pub(super) fn insert(&mut self, oid: u32, relation: Relation) {
        if relation.relfilenode != 0 {
            self.by_file.insert(relation.relfilenode, oid);
        }
        if relation.toast != 0 {
            self.toast_owners.insert(relation.toast, oid);
        }
        self.rows.insert(oid, relation);
    }

    /// Adds all rows of another reading.
    pub(super) fn absorb(&mut self, other: Self) {
        for (oid, relation) in other.rows {
            self.insert(oid, relation);
        }
    }

    pub(super) fn contains_file(&self, relfilenode: u32) -> bool {
        self.file(relfilenode).is_some()
    }

    /// The object of a file.
    pub(super) fn file(&self, relfilenode: u32) -> Option<Object> {
        self.object(*self.by_file.get(&relfilenode)?)
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
        let kind = if matches!(&*leaf.schema, "pg_catalog" | "information_schema") {
            FileKind::Catalog
        } else if toast {
            FileKind::Toast
        } else if index.is_some() {
            FileKind::Index
        } else {
            FileKind::Heap
        };
        let root = self.rows.get(&root)?;
        let namespace = if self.name.is_empty() {
            root.schema.to_string()
        } else {
            format!("{}|{}", self.name, root.schema)
        };
        Some(Object {
            database: self.name.clone(),
            schema: root.schema.to_string(),
            namespace,
            table: root.name.to_string(),
            index,
            partition: (!std::ptr::eq(leaf, root)).then(|| leaf.name.to_string()),
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
        let Some(relation) = self.rows.get(&oid) else { return 0 };
        // Plain inheritance makes tables of their own; partitions and chunks are parts of one.
        if relation.is_partition || &*relation.schema == CHUNK_SCHEMA { relation.parent } else { 0 }
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
        let name = &self.rows.get(&self.root(index)?)?.name;
        // TimescaleDB names a chunk's index after the chunk and the hypertable's index.
        let chunk = &*leaf.schema == CHUNK_SCHEMA && self.next_is_chunk(leaf, table_root);
        let own = chunk.then(|| name.strip_prefix(&*leaf.name)?.strip_prefix('_')).flatten();
        Some(own.unwrap_or(name).to_owned())
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
            kind,
            schema: schema.into(),
            name: name.into(),
            table: 0,
            parent: 0,
            is_partition: false,
            toast: 0,
        }
    }

    fn shop() -> Relations {
        let mut shop = Relations::new("shop");
        shop.insert(10, Relation { toast: 11, ..relation(110, b'r', "public", "orders") });
        shop.insert(11, relation(111, b't', "pg_toast", "pg_toast_10"));
        shop.insert(12, Relation { table: 11, ..relation(112, b'i', "pg_toast", "pg_toast_10_index") });
        shop.insert(13, Relation { table: 10, ..relation(113, b'i', "public", "orders_pkey") });
        shop.insert(20, relation(0, b'p', "public", "events"));
        shop.insert(21, Relation { table: 20, ..relation(0, b'I', "public", "events_pkey") });
        let part = |relation| Relation { is_partition: true, ..relation };
        shop.insert(22, part(Relation { parent: 20, ..relation(0, b'p', "public", "events_2026") }));
        shop.insert(
            23,
            part(Relation { parent: 21, table: 22, ..relation(0, b'I', "public", "events_2026_pkey") }),
        );
        shop.insert(
            24,
            part(Relation { parent: 22, toast: 26, ..relation(124, b'r', "parts", "events_2026_11") }),
        );
        shop.insert(
            25,
            part(Relation { parent: 23, table: 24, ..relation(125, b'i', "parts", "events_2026_11_pkey") }),
        );
        shop.insert(26, relation(126, b't', "pg_toast", "pg_toast_24"));
        shop.insert(30, relation(130, b'r', "pg_catalog", "pg_class"));
        shop.insert(31, Relation { table: 30, ..relation(131, b'i', "pg_catalog", "pg_class_oid_index") });
        shop.insert(40, Relation { parent: 10, ..relation(140, b'r', "public", "orders_child") });
        shop.insert(50, relation(150, b'r', "public", "metrics"));
        shop.insert(51, Relation { parent: 50, ..relation(151, b'r', CHUNK_SCHEMA, "_hyper_1_2_chunk") });
        let name = "_hyper_1_2_chunk_metrics_time_idx";
        shop.insert(52, Relation { table: 51, ..relation(152, b'i', CHUNK_SCHEMA, name) });
        shop
    }

    fn named(file: u32) -> (String, Option<String>, Option<String>, FileKind) {
        let object = shop().file(file).unwrap();
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
    fn a_new_file_does_not_make_the_old_one_unknown() {
        let mut shop = shop();
        let moved = Relation { relfilenode: 999, ..shop.rows[&13].clone() };
        shop.insert(13, moved);
        assert_eq!(shop.file(113), shop.file(999));
        assert!(shop.contains_file(999));
    }

    #[test]
    fn a_loop_ends() {
        let mut wrong = Relations::new("x");
        let looped = |parent| Relation { is_partition: true, parent, ..relation(1, b'r', "s", "t") };
        wrong.insert(1, looped(2));
        wrong.insert(2, looped(1));
        assert_eq!(wrong.missing(1), None);
        assert!(wrong.object(1).is_some());
    }
}
