//! Which table a file belongs to, and which index its pages. Files name their table themselves; the server is asked what it
//! calls its logs, where its data directory is, and for the names of indexes.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use super::{
    indexes::{self, Indexes},
    link::Link,
    path::{self, MyFile, Names, SYSTEM_DATABASES},
};
use crate::{
    catalog::{Directory, FileKey, FileKind, FileRef, Object, Wanted},
    error::DatabaseError,
};

const NAMES: &str = "SELECT @@datadir, @@log_bin_basename, @@relay_log_basename";

/// What an index is called whose pages do not tell which it is.
const HIDDEN: &str = "(hidden)";

/// What is known of the names of a server's files and indexes. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct MyDirectory(Arc<Known>);

#[derive(Debug, Default)]
struct Known {
    names: RwLock<Names>,
    indexes: RwLock<Indexes>,
    relay_logs: RwLock<RelayLogs>,
}

/// Where the server says that its relay logs are.
#[derive(Debug, Default)]
struct RelayLogs {
    data_directory: PathBuf,
    directory: PathBuf,
}

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
        *self.0.names.write().unwrap_or_else(PoisonError::into_inner) = names;
        // They may have been renamed.
        self.0.indexes.write().unwrap_or_else(PoisonError::into_inner).forget();
        let relay = row.at(2).map(PathBuf::from).unwrap_or_default();
        *self.0.relay_logs.write().unwrap_or_else(PoisonError::into_inner) = RelayLogs {
            data_directory: directory.into(),
            directory: relay.parent().unwrap_or(Path::new("")).to_owned(),
        };
        Ok(())
    }

    /// Asks the server for indexes.
    pub(super) async fn look_up(&self, link: &Link, wanted: &[Wanted]) -> Result<(), DatabaseError> {
        let rows = indexes::ask(link, wanted).await?;
        self.0.indexes.write().unwrap_or_else(PoisonError::into_inner).keep(&rows);
        Ok(())
    }

    /// The directory of its relay logs, as seen from here, of a server whose data directory is seen here.
    pub(super) fn relay_directory(&self, data_directory: &Path) -> PathBuf {
        let told = self.0.relay_logs.read().unwrap_or_else(PoisonError::into_inner);
        if let Ok(below) = told.directory.strip_prefix(&told.data_directory) {
            return data_directory.join(below);
        }
        // The data directory is seen as /proc/PID/cwd.
        let root = data_directory.parent().filter(|process| process.starts_with("/proc"));
        match told.directory.strip_prefix("/") {
            Ok(below) => root.map_or(Path::new("/").join(below), |process| process.join("root").join(below)),
            Err(_) => data_directory.join(&told.directory),
        }
    }
}

impl Directory for MyDirectory {
    fn read_path(&self, path_tail: &str) -> FileRef {
        let names = self.0.names.read().unwrap_or_else(PoisonError::into_inner);
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

    fn read_pages(&self, path_tail: &str, index: &str) -> FileRef {
        let file = self.read_path(path_tail);
        if let Ok(id) = index.parse() {
            // Of whatever file: one that is called as no table is may hold many.
            return FileRef::Of(FileKey::Index(id), None);
        }
        match (file, index) {
            (FileRef::Named(_), "blob") => match table_of(path_tail) {
                Some(table) => FileRef::Of(FileKey::ClusteredIndex(table), None),
                None => FileRef::Nothing,
            },
            (FileRef::Named(named), "hidden") => {
                FileRef::Named(Object { index: Some(HIDDEN.to_owned()), ..named })
            }
            (file, _) => file,
        }
    }

    fn file(&self, key: &FileKey) -> Option<Object> {
        self.0.indexes.read().unwrap_or_else(PoisonError::into_inner).get(key)
    }

    fn relation(&self, _: u32, _: u32) -> Option<Object> {
        None
    }
}

/// `shop/orders#P#p0` of `data/shop/orders#P#p0.ibd`, as InnoDB calls the table.
fn table_of(path_tail: &str) -> Option<Arc<str>> {
    let (stem, _) = path_tail.rsplit_once('.')?;
    let (above, table) = stem.rsplit_once('/')?;
    let database = above.rsplit('/').next()?;
    Some(Arc::from(format!("{database}/{table}")))
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
        assert_eq!(table_of("data/shop/orders#P#p0.ibd").as_deref(), Some("shop/orders#P#p0"));
        assert_eq!(reader.resolve("data/ib_logfile0"), Resolution::Kind(FileKind::Redo));
        assert_eq!(reader.resolve("etc/passwd"), Resolution::Unresolved);
        let Resolution::Object(hidden) = reader.resolve_pages("data/shop/orders.ibd", "hidden") else {
            panic!()
        };
        assert_eq!((hidden.table.as_str(), hidden.index.as_deref()), ("orders", Some("(hidden)")));
        assert_eq!(reader.resolve_pages("data/shop/orders.ibd", "157"), Resolution::Pending);
        assert_eq!(reader.resolve_pages("data/shop/orders.ibd", "blob"), Resolution::Pending);
    }
}
