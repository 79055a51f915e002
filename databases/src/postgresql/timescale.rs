//! Asks TimescaleDB's catalog what belongs to which hypertable. Its shape changes between versions, so the columns that
//! are there are looked at first, and a shape that is not known, or may not be read, only costs the names it would give.
//!
//! - Up to 2.28 a chunk is a row with schema and name, and what was compressed of it is another such row.
//! - From 2.29 on a chunk is its `relid`, and what was compressed of it stands in `compression_settings`.

use std::collections::HashSet;

use super::{
    catalog::Loader,
    connect::{Answer, Session},
    hypertables::Hypertables,
};
use crate::error::DatabaseError;

/// Rows of one statement.
pub(super) const CHUNK: usize = 2_000;

const COLUMNS: &str = "SELECT c.relname::text, a.attname::text FROM pg_catalog.pg_class c \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = '_timescaledb_catalog' \
     JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
     WHERE c.relname IN ('hypertable', 'chunk', 'continuous_agg', 'compression_settings')";

macro_rules! hypertables {
    ($internal:literal) => {
        concat!(
            "SELECT h.id, r.oid, ",
            $internal,
            " FROM _timescaledb_catalog.hypertable h \
             JOIN pg_catalog.pg_namespace n ON n.nspname = h.schema_name \
             JOIN pg_catalog.pg_class r ON r.relnamespace = n.oid AND r.relname = h.table_name \
             WHERE h.id > $1 ORDER BY h.id LIMIT 2000"
        )
    };
}
const HYPERTABLES: &str = hypertables!("0");
const HYPERTABLES_AND_INTERNAL: &str = hypertables!("coalesce(h.compressed_hypertable_id, 0)");
const AGGREGATES: &str = "SELECT a.mat_hypertable_id, a.user_view_schema::text, a.user_view_name::text \
     FROM _timescaledb_catalog.continuous_agg a WHERE a.mat_hypertable_id > $1 ORDER BY a.mat_hypertable_id LIMIT 2000";

/// Up to 2.28. What was compressed belongs to the hypertable of the chunk that it was compressed of.
macro_rules! by_name {
    ($condition:literal) => {
        concat!(
            "SELECT c.id, r.oid, coalesce(o.hypertable_id, c.hypertable_id), \
             CASE WHEN o.id IS NULL THEN r.oid ELSE coalesce(u.oid, r.oid) END \
             FROM _timescaledb_catalog.chunk c \
             JOIN pg_catalog.pg_namespace n ON n.nspname = c.schema_name \
             JOIN pg_catalog.pg_class r ON r.relnamespace = n.oid AND r.relname = c.table_name \
             LEFT JOIN _timescaledb_catalog.chunk o ON o.compressed_chunk_id = c.id \
             LEFT JOIN pg_catalog.pg_namespace m ON m.nspname = o.schema_name \
             LEFT JOIN pg_catalog.pg_class u ON u.relnamespace = m.oid AND u.relname = o.table_name \
             WHERE ",
            $condition
        )
    };
}
/// From 2.29 on. A chunk that has no relation has no file either.
macro_rules! by_relid {
    ($condition:literal) => {
        concat!(
            "SELECT c.id, c.relid::oid, c.hypertable_id, c.relid::oid FROM _timescaledb_catalog.chunk c \
             WHERE c.relid IS NOT NULL AND ",
            $condition
        )
    };
}
macro_rules! compressed {
    ($condition:literal) => {
        concat!(
            "SELECT c.id, s.compress_relid::oid, c.hypertable_id, c.relid::oid \
             FROM _timescaledb_catalog.compression_settings s \
             JOIN _timescaledb_catalog.chunk c ON c.relid = s.relid \
             WHERE s.compress_relid IS NOT NULL AND ",
            $condition
        )
    };
}

/// How one kind of chunk is asked for: all in their order, and those of some relations.
struct Chunks {
    all: &'static str,
    of_relations: &'static str,
}
const BY_NAME: Chunks = Chunks {
    all: by_name!("c.id > $1 ORDER BY c.id LIMIT 2000"),
    of_relations: by_name!("r.oid = ANY ($1)"),
};
const BY_RELID: Chunks = Chunks {
    all: by_relid!("c.id > $1 ORDER BY c.id LIMIT 2000"),
    of_relations: by_relid!("c.relid::oid = ANY ($1)"),
};
const COMPRESSED: Chunks = Chunks {
    all: compressed!("c.id > $1 ORDER BY c.id LIMIT 2000"),
    of_relations: compressed!("s.compress_relid::oid = ANY ($1)"),
};

/// How an index is made, but for the numbers of its table's columns, which differ from chunk to chunk.
pub(super) const DEFINITIONS: &str = "SELECT i.indexrelid, pg_catalog.concat_ws(' ', c.relam, i.indisunique, \
     i.indisexclusion, i.indnkeyatts, i.indclass, i.indcollation, i.indoption, i.indpred IS NULL, \
     (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ',' ORDER BY a.attnum) FROM pg_catalog.pg_attribute a \
     WHERE a.attrelid = i.indexrelid AND a.attnum > 0)) \
     FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid WHERE i.indexrelid = ANY ($1)";

/// What the catalog of the extension looks like, as far as it matters here.
#[expect(clippy::struct_excessive_bools, reason = "each says whether one thing is there, in any mixture")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Chunks have a `relid`; otherwise schema and name.
    relid: bool,
    /// `compression_settings` tells what was compressed.
    settings: bool,
    /// A hypertable has another one for what was compressed.
    internal: bool,
    aggregates: bool,
}

impl Shape {
    /// `None` where there is no such extension, or one of a shape that is not known.
    fn of(columns: &HashSet<(String, String)>) -> Option<Self> {
        let has = |table: &str, names: &[&str]| {
            names.iter().all(|name| columns.contains(&(table.to_owned(), (*name).to_owned())))
        };
        let relid = has("chunk", &["id", "relid", "hypertable_id"]);
        let named =
            has("chunk", &["id", "hypertable_id", "schema_name", "table_name", "compressed_chunk_id"]);
        (has("hypertable", &["id", "schema_name", "table_name"]) && (relid || named)).then(|| Self {
            relid,
            settings: has("compression_settings", &["relid", "compress_relid"]),
            internal: has("hypertable", &["compressed_hypertable_id"]),
            aggregates: has("continuous_agg", &["mat_hypertable_id", "user_view_schema", "user_view_name"]),
        })
    }

    fn chunks(self) -> impl Iterator<Item = Chunks> {
        let (first, second) = match self {
            Self { relid: true, settings: true, .. } => (BY_RELID, Some(COMPRESSED)),
            Self { relid: true, settings: false, .. } => (BY_RELID, None),
            Self { relid: false, .. } => (BY_NAME, None),
        };
        std::iter::once(first).chain(second)
    }
}

/// Whether an error is about the statement, not about the session.
fn is_of_statement(error: &DatabaseError) -> bool {
    matches!(error, DatabaseError::Query { .. }) && !error.is_fatal_to_connection()
}

fn without<T: Default>(read: Result<T, DatabaseError>) -> Result<T, DatabaseError> {
    match read {
        Err(error) if is_of_statement(&error) => {
            tracing::debug!("hypertables are not told apart from their chunks: {error}");
            Ok(T::default())
        }
        read => read,
    }
}

impl Loader {
    /// The shape of the extension's catalog in this database, if there is one.
    pub(super) async fn shape(&self, session: &Session) -> Result<Option<Shape>, DatabaseError> {
        let rows = self.ask(session, COLUMNS, &[]).await?;
        let columns =
            rows.iter().map(|row| Ok((row.read(0)?, row.read(1)?))).collect::<Result<_, DatabaseError>>()?;
        Ok(Shape::of(&columns))
    }

    /// All that belongs to hypertables in this database; `most` bounds the chunks.
    pub(super) async fn hypertables(
        &self,
        session: &Session,
        shape: Shape,
        most: usize,
    ) -> Result<Hypertables, DatabaseError> {
        let mut read = without(self.hypertables_alone(session, shape).await)?;
        for chunks in shape.chunks() {
            let (mut last, mut left) = (0_i32, most);
            while left > 0 {
                let rows = without(self.ask(session, chunks.all, &[&last]).await)?;
                for row in &rows {
                    last = row.read(0)?;
                    add(&mut read, row)?;
                }
                if rows.len() < CHUNK {
                    break;
                }
                left = left.saturating_sub(rows.len());
            }
        }
        Ok(read)
    }

    /// What belongs to hypertables among these relations. Hypertables are read anew if one is not among the `known`.
    pub(super) async fn hypertables_of(
        &self,
        session: &Session,
        shape: Shape,
        relations: &[u32],
        known: impl Fn(i32) -> Option<u32>,
    ) -> Result<Hypertables, DatabaseError> {
        let mut read = Hypertables::default();
        for chunks in shape.chunks() {
            let rows = without(self.ask(session, chunks.of_relations, &[&relations]).await)?;
            for row in &rows {
                let id: i32 = row.read(2)?;
                if read.by_id(id).is_none() {
                    match known(id) {
                        Some(table) => read.add_hypertable(id, table),
                        None => read.absorb(without(self.hypertables_alone(session, shape).await)?),
                    }
                }
                add(&mut read, row)?;
            }
        }
        Ok(read)
    }

    /// Hypertables and views, without chunks.
    async fn hypertables_alone(&self, session: &Session, shape: Shape) -> Result<Hypertables, DatabaseError> {
        let mut read = Hypertables::default();
        let sql = if shape.internal { HYPERTABLES_AND_INTERNAL } else { HYPERTABLES };
        let (mut last, mut internals, mut rest) = (0_i32, Vec::new(), true);
        while rest {
            let rows = self.ask(session, sql, &[&last]).await?;
            rest = rows.len() == CHUNK;
            for row in &rows {
                last = row.read(0)?;
                let (table, internal): (u32, i32) = (row.read(1)?, row.read(2)?);
                read.add_hypertable(last, table);
                if internal != 0 {
                    internals.push((internal, table));
                }
            }
        }
        for (internal, table) in internals {
            if let Some(internal) = read.by_id(internal) {
                read.add_internal(internal, table);
            }
        }
        let (mut last, mut rest) = (0_i32, shape.aggregates);
        while rest {
            let rows = without(self.ask(session, AGGREGATES, &[&last]).await)?;
            rest = rows.len() == CHUNK;
            for row in &rows {
                last = row.read(0)?;
                if let Some(table) = read.by_id(last) {
                    read.add_view(table, row.read(1)?, row.read(2)?);
                }
            }
        }
        Ok(read)
    }
}

/// Adds a chunk; one whose hypertable is not known is nobody's.
fn add(read: &mut Hypertables, row: &Answer) -> Result<(), DatabaseError> {
    let (relation, id, chunk): (u32, i32, u32) = (row.read(1)?, row.read(2)?, row.read(3)?);
    if let Some(table) = read.by_id(id) {
        read.add_chunk(relation, table, chunk);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(columns: &[&str]) -> Option<Shape> {
        let split =
            |column: &&str| column.split_once('.').map(|(table, name)| (table.to_owned(), name.to_owned()));
        Shape::of(&columns.iter().filter_map(split).collect())
    }

    #[test]
    fn the_shape_is_told_by_columns_alone() {
        let hypertable = ["hypertable.id", "hypertable.schema_name", "hypertable.table_name"];
        let named = ["chunk.id", "chunk.hypertable_id", "chunk.schema_name", "chunk.table_name"];
        let old = shape(&[&hypertable[..], &named, &["chunk.compressed_chunk_id"]].concat()).unwrap();
        assert!(!old.relid && !old.settings && !old.internal && !old.aggregates);
        let relid = ["chunk.id", "chunk.hypertable_id", "chunk.relid"];
        let settings = ["compression_settings.relid", "compression_settings.compress_relid"];
        let new = shape(&[&hypertable[..], &relid, &settings].concat()).unwrap();
        assert!(new.relid && new.settings);
        assert_eq!(shape(&hypertable), None);
        assert_eq!(shape(&[&hypertable[..], &named].concat()), None, "a shape that nobody has seen");
        assert_eq!(shape(&[]), None);
    }
}
