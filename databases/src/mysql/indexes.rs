//! Which index of which table has a number: InnoDB's own lists, asked only for numbers that pages have shown.
//!
//! Numbers are never given twice, so that what was read stays true until something is renamed.

use std::{collections::HashMap, sync::Arc};

use super::{
    catalog::object,
    connect::Answer,
    filename::decode,
    grants::quote,
    link::Link,
    path::{SYSTEM_DATABASES, split},
};
use crate::{
    catalog::{FileKey, FileKind, Object, Wanted},
    error::DatabaseError,
};

const OF_MARIADB: &str = "SELECT i.INDEX_ID, i.NAME, i.TYPE, t.NAME FROM information_schema.INNODB_SYS_INDEXES i \
     JOIN information_schema.INNODB_SYS_TABLES t ON t.TABLE_ID = i.TABLE_ID WHERE ";
const OF_MYSQL: &str = "SELECT i.INDEX_ID, i.NAME, i.TYPE, t.NAME FROM information_schema.INNODB_INDEXES i \
     JOIN information_schema.INNODB_TABLES t ON t.TABLE_ID = i.TABLE_ID WHERE ";

/// Most indexes that are kept; beyond them all are forgotten and asked for again.
const KEPT: usize = 50_000;

/// `DICT_CLUSTERED` in `TYPE`.
const CLUSTERED: u32 = 1;

/// Indexes by what pages tell of them.
#[derive(Debug, Default)]
pub(super) struct Indexes(HashMap<FileKey, Object>);

/// One row of InnoDB's lists.
struct Listed {
    id: u32,
    index: String,
    is_clustered: bool,
    /// As the file has it: `shop/orders#P#p0`.
    table: String,
}

impl Indexes {
    pub(super) fn get(&self, key: &FileKey) -> Option<Object> {
        self.0.get(key).cloned()
    }

    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    /// Keeps what was read.
    pub(super) fn keep(&mut self, rows: &[Answer]) {
        for listed in rows.iter().filter_map(listed) {
            let Some(named) = named(&listed) else { continue };
            if self.0.len() >= KEPT {
                self.0.clear();
            }
            if listed.is_clustered {
                self.0.insert(FileKey::ClusteredIndex(Arc::from(listed.table.as_str())), named.clone());
            }
            self.0.insert(FileKey::Index(listed.id), named);
        }
    }
}

/// Asks for what is wanted, in one statement.
pub(super) async fn ask(link: &Link, wanted: &[Wanted]) -> Result<Vec<Answer>, DatabaseError> {
    let (mut ids, mut tables) = (Vec::new(), Vec::new());
    for wanted in wanted {
        match wanted {
            Wanted::File(FileKey::Index(id)) => ids.push(id.to_string()),
            Wanted::File(FileKey::ClusteredIndex(table)) => tables.push(quote(table)),
            _ => {}
        }
    }
    let mut conditions = Vec::new();
    if !ids.is_empty() {
        conditions.push(format!("i.INDEX_ID IN ({})", ids.join(", ")));
    }
    if !tables.is_empty() {
        conditions.push(format!("i.TYPE & {CLUSTERED} AND t.NAME IN ({})", tables.join(", ")));
    }
    if conditions.is_empty() {
        return Ok(Vec::new());
    }
    let lists = if link.known().await?.is_mariadb { OF_MARIADB } else { OF_MYSQL };
    link.rows("its indexes", format!("{lists}{}", conditions.join(" OR "))).await
}

fn listed(row: &Answer) -> Option<Listed> {
    let number = |at| row.at(at)?.parse::<u32>().ok();
    let is_clustered = number(2)? & CLUSTERED != 0;
    Some(Listed { id: number(0)?, index: row.at(1)?, is_clustered, table: row.at(3)? })
}

/// `None` of what has no name yet: an index that is being built begins with a byte that no name may have.
fn named(listed: &Listed) -> Option<Object> {
    if listed.index.starts_with(|first: char| !first.is_ascii_graphic() && !first.is_alphanumeric()) {
        return None;
    }
    let (database, table) = listed.table.split_once('/')?;
    // Of no table that an operator knows: what ALTER TABLE makes, and parts of a full-text index.
    if ["#sql", "FTS_", "fts_"].iter().any(|beginning| table.starts_with(beginning)) {
        return None;
    }
    let (table, partition) = split(table);
    let mut named = object(&decode(database), &table, partition);
    if !SYSTEM_DATABASES.contains(&named.database.as_str()) {
        named.kind = if listed.is_clustered { FileKind::Heap } else { FileKind::Index };
    }
    named.index = Some(listed.index.clone());
    Some(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(index: &str, is_clustered: bool, table: &str) -> Option<Object> {
        named(&Listed { id: 1, index: index.to_owned(), is_clustered, table: table.to_owned() })
    }

    #[test]
    fn an_index_is_named_with_its_table_and_partition() {
        let primary = found("PRIMARY", true, "my@002dshop/orders#P#p0").unwrap();
        assert_eq!((primary.namespace.as_str(), primary.table.as_str()), ("my-shop", "orders"));
        assert_eq!(primary.partition.as_deref(), Some("p0"));
        assert_eq!((primary.index.as_deref(), primary.kind), (Some("PRIMARY"), FileKind::Heap));
        let secondary = found("by_customer", false, "shop/orders").unwrap();
        assert_eq!((secondary.index.as_deref(), secondary.kind), (Some("by_customer"), FileKind::Index));
        assert_eq!(found("PRIMARY", true, "mysql/innodb_index_stats").unwrap().kind, FileKind::Catalog);
        assert_eq!(found("\u{fffd}by_date", false, "shop/orders"), None, "being built");
        assert_eq!(found("PRIMARY", true, "shop/#sql-ib57"), None, "an intermediate table");
        assert_eq!(found("CLUST_IND", true, "SYS_FOREIGN"), None, "no table of a database");
    }
}
