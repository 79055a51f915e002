//! Tables without a primary key, as InnoDB knows them: it makes an index of its own for a table that has neither a primary
//! key nor a unique one without NULLs. So no privilege on the tables is needed.
//!
//! Of MySQL, partitions are not told: it does not say which indexes they have.

use std::collections::BTreeSet;

use super::{
    catalog, filename,
    link::Link,
    path::{self, SYSTEM_DATABASES},
};
use crate::{catalog::Object, error::DatabaseError};

const PURPOSE: &str = "which tables have no primary key";

/// The name of the index, and its type, which nobody else can make.
const OF_MARIADB: &str = "SELECT t.name FROM information_schema.innodb_sys_indexes i \
     JOIN information_schema.innodb_sys_tables t ON t.table_id = i.table_id \
     WHERE i.type = 1 AND i.name = 'GEN_CLUST_INDEX' LIMIT 2000";
const SINCE_8: &str = "SELECT t.name FROM information_schema.innodb_indexes i \
     JOIN information_schema.innodb_tables t ON t.table_id = i.table_id \
     WHERE i.type = 1 AND i.name = 'GEN_CLUST_INDEX' LIMIT 2000";

/// Tables without a key, but for the server's own.
pub(super) async fn without(link: &Link) -> Result<Vec<Object>, DatabaseError> {
    let is_mariadb = link.known().await?.is_mariadb;
    let rows = link.rows(PURPOSE, if is_mariadb { OF_MARIADB } else { SINCE_8 }).await?;
    let tables: BTreeSet<Object> = rows.iter().filter_map(|row| table(&row.at(0)?)).collect();
    Ok(tables.into_iter().collect())
}

/// The table of `shop/orders#P#p0`, as InnoDB calls it.
fn table(name: &str) -> Option<Object> {
    let (database, table) = name.split_once('/')?;
    let database = filename::decode(database);
    // What is being made by ALTER TABLE is no table yet.
    let is_table = !SYSTEM_DATABASES.contains(&database.as_str()) && !table.starts_with('#');
    is_table.then(|| catalog::object(&database, &path::split(table).0, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_named_as_people_name_it() {
        let named = |name| table(name).map(|table| (table.namespace, table.table));
        let is = |database: &str, table: &str| Some((database.to_owned(), table.to_owned()));
        assert_eq!(named("shop/orders"), is("shop", "orders"));
        assert_eq!(named("my@002dshop/orders#P#p0"), is("my-shop", "orders"));
        assert_eq!(named("shop/#sql-alter-1-2"), None);
        assert_eq!(named("mysql/innodb_dynamic_metadata"), None);
        assert_eq!(named("SYS_FOREIGN"), None);
    }
}
