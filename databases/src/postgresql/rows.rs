//! How relations are asked for, and how a row of the answer is read.
//!
//! The `relfilenode` column is read as it is. Only the some fifty relations whose file is not in that column
//! are asked for by function. Each column of a large catalog costs the server: what others tell is not asked for.

use std::sync::Arc;

use super::{
    connect::Answer,
    directory::Row,
    path::{PG_DEFAULT, PG_GLOBAL},
    relations::Relation,
};
use crate::error::DatabaseError;

/// Without a join: whatever the server believes of the sizes of its catalogs, it follows the index on `pg_class`. With
/// one it may read all that is left of another catalog, or sort it, for each chunk.
macro_rules! relations {
    ($more:literal, $condition:literal) => {
        concat!(
            "SELECT c.oid, CASE WHEN c.relfilenode = 0 AND c.relkind IN ('r', 'i', 't') \
             THEN pg_catalog.pg_relation_filenode(c.oid) ELSE c.relfilenode END, c.relkind, c.relnamespace, c.relname, \
             coalesce(CASE WHEN c.relispartition OR c.relnamespace = \
             (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = '_timescaledb_internal') THEN \
             (SELECT h.inhparent FROM pg_catalog.pg_inherits h WHERE h.inhrelid = c.oid AND h.inhseqno = 1) END, 0::oid), \
             c.reltoastrelid, c.reltablespace", $more, " \
             FROM pg_catalog.pg_class c WHERE c.relkind IN ('r', 'i', 't', 'm', 'p', 'I', 'S') AND ",
            $condition
        )
    };
}

/// Some relations, with the table of each that is an index.
macro_rules! with_tables {
    ($condition:literal) => {
        relations!(
            ", coalesce(CASE WHEN c.relkind IN ('i', 'I') THEN \
             (SELECT i.indrelid FROM pg_catalog.pg_index i WHERE i.indexrelid = c.oid) END, 0::oid)",
            $condition
        )
    };
}

pub(super) const BY_RANGE: &str = relations!("", "c.oid > $1 ORDER BY c.oid LIMIT 2000");
/// The tables of the indexes of such a range: of many, one scan costs a third of as many look-ups.
pub(super) const TABLES: &str = "SELECT i.indexrelid, i.indrelid FROM pg_catalog.pg_index i \
     WHERE i.indexrelid > $1 AND i.indexrelid <= $2";
pub(super) const BY_OID: &str = with_tables!("c.oid = ANY ($1)");
pub(super) const BY_TABLE: &str =
    with_tables!("c.oid IN (SELECT x.indexrelid FROM pg_catalog.pg_index x WHERE x.indrelid = ANY ($1))");
/// The index on files begins with the tablespace.
pub(super) const BY_FILE: &str = with_tables!(
    "c.reltablespace = ANY (ARRAY(SELECT t.oid FROM pg_catalog.pg_tablespace t) || 0::oid) AND c.relfilenode = ANY ($1)"
);
/// Relations whose file is not in the column; their number is below that of any of a user's.
pub(super) const MAPPED: &str = with_tables!("c.relfilenode = 0 AND c.oid < 16384");
pub(super) const SCHEMAS: &str = "SELECT oid, nspname FROM pg_catalog.pg_namespace WHERE oid = ANY ($1)";

/// Whether a row is that of an index.
pub(super) fn is_index(row: &Answer) -> Result<bool, DatabaseError> {
    Ok(matches!(row.read::<i8>(2)?.cast_unsigned(), b'i' | b'I'))
}

/// The table that a row is the index of; 0 if it is none.
pub(super) fn table(row: &Answer) -> Result<u32, DatabaseError> {
    row.read(8)
}

/// A row of a database whose relations are in this tablespace where they name none.
pub(super) fn relation(row: &Answer, space: u32, schema: Arc<str>, table: u32) -> Result<Row, DatabaseError> {
    let own = row.read(7)?;
    Ok(Row {
        oid: row.read(0)?,
        // Nothing else may be in that tablespace.
        shared: own == PG_GLOBAL,
        relation: Relation {
            relfilenode: row.read::<Option<u32>>(1)?.unwrap_or(0),
            space: match own {
                0 if space == 0 => PG_DEFAULT,
                0 => space,
                _ => own,
            },
            backend: backend(&schema),
            kind: row.read::<i8>(2)?.cast_unsigned(),
            schema,
            name: Box::from(row.read::<&str>(4)?),
            table,
            parent: row.read(5)?,
            toast: row.read(6)?,
        },
    })
}

/// The backend whose temporary relations are in a schema such as `pg_temp_3` or `pg_toast_temp_3`. No user's schema has
/// such a name, and no other relation may be in one.
fn backend(schema: &str) -> Option<u32> {
    let number = schema.strip_prefix("pg_temp_").or_else(|| schema.strip_prefix("pg_toast_temp_"))?;
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::backend;

    #[test]
    fn the_backend_of_a_temporary_relation_is_told_by_its_schema() {
        assert_eq!((backend("pg_temp_3"), backend("pg_toast_temp_12")), (Some(3), Some(12)));
        assert_eq!((backend("public"), backend("my_temp_3")), (None, None));
    }
}
