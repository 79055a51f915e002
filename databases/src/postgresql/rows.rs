//! How relations are asked for, and how a row of the answer is read.
//!
//! The `relfilenode` column is read as it is. Only the some fifty relations whose file is not in that column
//! are asked for by function.

use std::sync::Arc;

use super::{connect::Answer, directory::Row, path::PG_DEFAULT, relations::Relation};
use crate::error::DatabaseError;

/// Without a join: whatever the server believes of the sizes of its catalogs, it follows the index on `pg_class`. With
/// one it may read all that is left of another catalog, or sort it, for each chunk.
macro_rules! relations {
    ($condition:literal) => {
        concat!(
            "SELECT c.oid, CASE WHEN c.relfilenode = 0 AND c.relkind IN ('r', 'i', 't') \
             THEN pg_catalog.pg_relation_filenode(c.oid) ELSE c.relfilenode END, c.relkind, c.relnamespace, c.relname, \
             coalesce(CASE WHEN c.relkind IN ('i', 'I') THEN \
             (SELECT i.indrelid FROM pg_catalog.pg_index i WHERE i.indexrelid = c.oid) END, 0::oid), \
             coalesce(CASE WHEN c.relispartition OR c.relnamespace = \
             (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = '_timescaledb_internal') THEN \
             (SELECT h.inhparent FROM pg_catalog.pg_inherits h WHERE h.inhrelid = c.oid AND h.inhseqno = 1) END, 0::oid), \
             c.relispartition, c.reltoastrelid, c.relisshared, c.reltablespace, c.relpersistence \
             FROM pg_catalog.pg_class c WHERE c.relkind IN ('r', 'i', 't', 'm', 'p', 'I', 'S') AND ",
            $condition
        )
    };
}

pub(super) const BY_RANGE: &str = relations!("c.oid > $1 ORDER BY c.oid LIMIT 2000");
pub(super) const BY_OID: &str = relations!("c.oid = ANY ($1)");
pub(super) const BY_TABLE: &str =
    relations!("c.oid IN (SELECT x.indexrelid FROM pg_catalog.pg_index x WHERE x.indrelid = ANY ($1))");
/// The index on files begins with the tablespace.
pub(super) const BY_FILE: &str = relations!(
    "c.reltablespace = ANY (ARRAY(SELECT t.oid FROM pg_catalog.pg_tablespace t) || 0::oid) AND c.relfilenode = ANY ($1)"
);
/// Relations whose file is not in the column; their number is below that of any of a user's.
pub(super) const MAPPED: &str = relations!("c.relfilenode = 0 AND c.oid < 16384");
pub(super) const SCHEMAS: &str = "SELECT oid, nspname FROM pg_catalog.pg_namespace WHERE oid = ANY ($1)";

/// A row of a database whose relations are in this tablespace where they name none.
pub(super) fn relation(row: &Answer, space: u32, schema: Arc<str>) -> Result<Row, DatabaseError> {
    let is_temporary = row.read::<i8>(11)?.cast_unsigned() == b't';
    Ok(Row {
        oid: row.read(0)?,
        shared: row.read(9)?,
        relation: Relation {
            relfilenode: row.read::<Option<u32>>(1)?.unwrap_or(0),
            space: match row.read::<u32>(10)? {
                0 if space == 0 => PG_DEFAULT,
                0 => space,
                own => own,
            },
            backend: if is_temporary { backend(&schema) } else { None },
            kind: row.read::<i8>(2)?.cast_unsigned(),
            schema,
            name: Box::from(row.read::<&str>(4)?),
            table: row.read(5)?,
            parent: row.read(6)?,
            is_partition: row.read(7)?,
            toast: row.read(8)?,
        },
    })
}

/// The backend whose temporary relations are in a schema such as `pg_temp_3` or `pg_toast_temp_3`.
fn backend(schema: &str) -> Option<u32> {
    schema.rsplit_once("temp_")?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::backend;

    #[test]
    fn the_backend_of_a_temporary_relation_is_told_by_its_schema() {
        assert_eq!((backend("pg_temp_3"), backend("pg_toast_temp_12")), (Some(3), Some(12)));
        assert_eq!((backend("public"), backend("temp_x")), (None, None));
    }
}
