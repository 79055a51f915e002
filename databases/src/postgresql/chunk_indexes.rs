//! Which of a hypertable's indexes the index of a chunk is: the one that it is named after, or else the only one that is
//! made the same way. One that is neither is called by its own name.

use std::collections::{HashMap, HashSet};

use super::{
    hypertables,
    relations::{Relation, Relations},
};

impl Relations {
    /// Indexes of chunks, among these or among all, of which it is not known yet which of the hypertable's they are.
    pub(super) fn unmatched(&self, among: Option<&[u32]>) -> Vec<u32> {
        let is = |oid: &u32| {
            self.rows.get(oid).is_some_and(|row| {
                row.kind == b'i'
                    && self.hypertables.is_chunk(row.table)
                    && self.hypertables.index(*oid).is_none()
            })
        };
        match among {
            Some(oids) => oids.iter().copied().filter(is).collect(),
            None if self.hypertables.is_empty() => Vec::new(),
            None => self.rows.keys().copied().filter(is).collect(),
        }
    }

    /// The hypertables of these indexes of chunks.
    pub(super) fn hypertables_of(&self, indexes: &[u32]) -> HashSet<u32> {
        let tables = indexes.iter().filter_map(|index| self.hypertables.above(self.rows.get(index)?.table));
        tables.collect()
    }

    /// Indexes of these tables.
    pub(super) fn indexes_of(&self, tables: &HashSet<u32>) -> Vec<u32> {
        let of = |row: &Relation| row.kind == b'i' && tables.contains(&row.table);
        self.rows.iter().filter(|(_, row)| of(row)).map(|(oid, _)| *oid).collect()
    }

    /// Matches indexes of chunks with those of their hypertable by name. What no name tells alone is left, and returned.
    pub(super) fn match_indexes(&mut self, indexes: Vec<u32>) -> Vec<u32> {
        self.match_with(indexes, |known, index, own| {
            let (Some(row), Some(own)) = (known.rows.get(&index), known.rows.get(&own)) else { return false };
            let chunk = known.rows.get(&row.table).map(|chunk| &*chunk.name).unwrap_or_default();
            hypertables::is_named_after(&row.name, chunk, &own.name)
        })
    }

    /// Matches those that are left by their definition. One that no definition tells alone keeps its own name.
    pub(super) fn match_by_definition(&mut self, indexes: Vec<u32>, definitions: &HashMap<u32, String>) {
        let left = self.match_with(indexes, |_, index, own| {
            definitions.get(&index).is_some_and(|definition| definitions.get(&own) == Some(definition))
        });
        for index in left {
            self.hypertables.match_index(index, 0);
        }
    }

    fn match_with(&mut self, indexes: Vec<u32>, same: impl Fn(&Self, u32, u32) -> bool) -> Vec<u32> {
        let mut by_table: HashMap<u32, Vec<u32>> = HashMap::new();
        for own in self.indexes_of(&self.hypertables_of(&indexes)) {
            by_table.entry(self.rows[&own].table).or_default().push(own);
        }
        let mut left = Vec::new();
        for index in indexes {
            let above = self.rows.get(&index).and_then(|row| self.hypertables.above(row.table));
            let candidates =
                above.and_then(|table| by_table.get(&table)).map(Vec::as_slice).unwrap_or_default();
            let mut fits = candidates.iter().filter(|own| same(self, index, **own));
            match (fits.next(), fits.next()) {
                (Some(own), None) => self.hypertables.match_index(index, *own),
                _ => left.push(index),
            }
        }
        left
    }
}
