//! Which table a file belongs to. Files name their table themselves; the server is asked only what it calls its logs and
//! where its data directory is.

use std::{
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use super::{
    link::Link,
    path::{self, MyFile, Names, SYSTEM_DATABASES},
};
use crate::{
    catalog::{Directory, FileKey, FileKind, FileRef, Object},
    error::DatabaseError,
};

const NAMES: &str = "SELECT @@datadir, @@log_bin_basename, @@relay_log_basename";

/// What is known of the names of a server's files. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct MyDirectory(Arc<RwLock<Names>>);

impl MyDirectory {
    /// Asks the server what it calls its files.
    pub(super) async fn load(&self, link: &Link) -> Result<(), DatabaseError> {
        let row = link.row("what it calls its files", NAMES).await?;
        let name = |path: String| Path::new(&path).file_name()?.to_str().map(str::to_owned);
        let directory = row.at(0).unwrap_or_default();
        let names = Names {
            data_directory: directory.split('/').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
            binlog: row.at(1).and_then(name),
            relay_log: row.at(2).and_then(name),
        };
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = names;
        Ok(())
    }
}

impl Directory for MyDirectory {
    fn read_path(&self, path_tail: &str) -> FileRef {
        let names = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match path::parse(path_tail, &names) {
            None => FileRef::Nothing,
            Some(MyFile::Pseudo(kind)) => FileRef::Kind(kind),
            Some(MyFile::Table { database, table, partition, kind }) => {
                let mut named = object(&database, &table, partition);
                if named.kind != FileKind::Catalog {
                    named.kind = kind;
                }
                FileRef::Named(named)
            }
        }
    }

    fn file(&self, _: &FileKey) -> Option<Object> {
        None
    }

    fn relation(&self, _: u32, _: u32) -> Option<Object> {
        None
    }
}

/// A table as an operator names it.
pub(super) fn object(database: &str, table: &str, partition: Option<String>) -> Object {
    Object {
        database: database.to_owned(),
        schema: String::new(),
        namespace: database.to_owned(),
        table: table.to_owned(),
        index: None,
        partition,
        kind: if SYSTEM_DATABASES.contains(&database) { FileKind::Catalog } else { FileKind::Heap },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{CatalogReader, Resolution};

    #[test]
    fn a_file_is_named_at_once_and_without_a_server() {
        let reader = CatalogReader::new(Box::new(MyDirectory::default()));
        let resolved = |path: &str| match reader.resolve(path) {
            Resolution::Object(object) => (object.namespace.clone(), object.table.clone(), object.kind),
            other => panic!("{path}: {other:?}"),
        };
        assert_eq!(resolved("data/shop/orders.ibd"), ("shop".into(), "orders".into(), FileKind::Heap));
        assert_eq!(resolved("data/shop/old.MYI"), ("shop".into(), "old".into(), FileKind::Index));
        assert_eq!(resolved("data/shop/old.MYD"), ("shop".into(), "old".into(), FileKind::Heap));
        assert_eq!(resolved("data/mysql/proc.MAI"), ("mysql".into(), "proc".into(), FileKind::Catalog));
        assert_eq!(reader.resolve("data/ib_logfile0"), Resolution::Kind(FileKind::Redo));
        assert_eq!(reader.resolve("etc/passwd"), Resolution::Unresolved);
    }
}
