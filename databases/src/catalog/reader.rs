//! `CatalogReader`: the side that asks what a file is. A hash look-up under a short lock, never SQL.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::{FileKind, Object, Resolution, wanted::Queue, wanted::Wanted};

/// Most files whose object is kept ready. A server with more open files than this is not known to exist;
/// when it is reached, everything is forgotten and read again from the directory.
const KEPT_FILES: usize = 200_000;

/// Most relations that are remembered by number, for the waits of replay.
const KEPT_RELATIONS: usize = 10_000;

/// What a path says about a file, before any catalog was asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum FileRef {
    /// A file of an object; the kind is given where the path alone tells it.
    Of(FileKey, Option<FileKind>),
    /// A file that names its object.
    Named(Object),
    /// A file of no object.
    Kind(FileKind),
    /// Nothing.
    Nothing,
}

/// What an engine's catalog knows an object's file by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum FileKey {
    /// PostgreSQL: a file number is one relation's in one tablespace of one database, and of temporary relations in
    /// one backend.
    Relation {
        /// Tablespace, as far as the path tells.
        space: Space,
        /// Oid of the database; 0 for relations that all share.
        database: u32,
        /// File number.
        relfilenode: u32,
        /// The backend's number, of a temporary relation.
        backend: Option<u32>,
    },
    /// InnoDB: an index by its number, which no other index of its server ever has.
    Index(u32),
    /// InnoDB: the clustered index of a table, by the table's name as its file has it: `shop/orders#P#p0`.
    ClusteredIndex(Arc<str>),
}

/// A tablespace, as far as a path tells.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Space {
    /// The one with this oid.
    Oid(u32),
    /// One whose directory has this name.
    Directory(Arc<str>),
    /// One of those that are neither `pg_default` nor `pg_global`.
    NotBase,
    /// Any of the database's.
    Any,
}

/// What an engine has read of its catalog so far.
pub(crate) trait Directory: Send + Sync {
    /// What a path says.
    fn read_path(&self, path_tail: &str) -> FileRef;
    /// What a path says of pages of the file that belong to this index; see `FILE_INDEX` of the attributes.
    fn read_pages(&self, path_tail: &str, _: &str) -> FileRef {
        self.read_path(path_tail)
    }
    /// The object of a file, if it has been read; never one of several that it may be.
    fn file(&self, key: &FileKey) -> Option<Object>;
    /// The object with this number in this database, if it has been read.
    fn relation(&self, database: u32, relation: u32) -> Option<Object>;
}

struct Shared {
    directory: Box<dyn Directory>,
    files: RwLock<HashMap<FileRef, Arc<Object>>>,
    relations: RwLock<HashMap<(u32, u32), Arc<Object>>>,
    queue: Mutex<Queue>,
    wake: Notify,
}

/// Tells which object a file belongs to. Cheap to clone; clones share what is known.
#[derive(Clone)]
pub struct CatalogReader(Arc<Shared>);

impl fmt::Debug for CatalogReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CatalogReader").finish_non_exhaustive()
    }
}

impl CatalogReader {
    pub(crate) fn new(directory: Box<dyn Directory>) -> Self {
        Self(Arc::new(Shared {
            directory,
            files: RwLock::default(),
            relations: RwLock::default(),
            queue: Mutex::default(),
            wake: Notify::new(),
        }))
    }

    /// A reader that knows these files and nothing else: it drives processors without a server. Keys are path
    /// tails, such as `base/16384/16385`; segments and forks of the same relation are found too.
    pub fn recorded(objects: Vec<(String, Object)>) -> Self {
        let reader = Self::new(Box::new(crate::postgresql::path::PathsOnly));
        {
            let mut files = reader.0.files.write().unwrap_or_else(PoisonError::into_inner);
            for (tail, object) in objects {
                if let FileRef::Of(key, _) = reader.0.directory.read_path(&tail) {
                    for kind in [FileKind::Fsm, FileKind::Vm] {
                        let fork = Object { kind, ..object.clone() };
                        files.insert(FileRef::Of(key.clone(), Some(kind)), Arc::new(fork));
                    }
                    files.insert(FileRef::Of(key, None), Arc::new(object));
                }
            }
        }
        reader
    }

    /// What the file at this path is. `path_tail` is the end of the path as the kernel gives it: up to four
    /// names joined by `/`. Never waits for SQL.
    pub fn resolve(&self, path_tail: &str) -> Resolution {
        self.resolve_file(self.0.directory.read_path(path_tail))
    }

    /// The same of pages of a file that several indexes share, by what the pages tell. Where that leads to no index, they
    /// are the file's.
    pub fn resolve_pages(&self, path_tail: &str, index: &str) -> Resolution {
        match self.resolve_file(self.0.directory.read_pages(path_tail, index)) {
            Resolution::Unresolved => self.resolve(path_tail),
            resolution => resolution,
        }
    }

    fn resolve_file(&self, file: FileRef) -> Resolution {
        match &file {
            FileRef::Kind(kind) => return Resolution::Kind(*kind),
            FileRef::Nothing => return Resolution::Unresolved,
            FileRef::Of(..) | FileRef::Named(_) => {}
        }
        let known = self.0.files.read().unwrap_or_else(PoisonError::into_inner).get(&file).cloned();
        if let Some(object) = known {
            return Resolution::Object(object);
        }
        let (key, kind) = match &file {
            FileRef::Named(object) => {
                let object = object.clone();
                return Resolution::Object(self.keep(file, object));
            }
            FileRef::Of(key, kind) => (key, *kind),
            FileRef::Kind(_) | FileRef::Nothing => return Resolution::Unresolved,
        };
        if let Some(mut object) = self.0.directory.file(key) {
            object.kind = kind.filter(|_| object.kind != FileKind::Temp).unwrap_or(object.kind);
            return Resolution::Object(self.keep(file, object));
        }
        let temporary = matches!(key, FileKey::Relation { backend: Some(_), .. });
        let asked = self.want(Wanted::File(key.clone()));
        // Most temporary tables are never visible to others: their kind is said at once, their name when it is seen.
        if temporary { Resolution::Kind(FileKind::Temp) } else { asked }
    }

    fn keep(&self, file: FileRef, object: Object) -> Arc<Object> {
        let object = Arc::new(object);
        let mut files = self.0.files.write().unwrap_or_else(PoisonError::into_inner);
        if files.len() >= KEPT_FILES {
            files.clear();
        }
        files.insert(file, Arc::clone(&object));
        object
    }

    /// The object with this number, looked up if need be.
    pub(crate) fn relation(&self, database: u32, relation: u32) -> Option<Arc<Object>> {
        let known = self.0.relations.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(object) = known.get(&(database, relation)) {
            return Some(Arc::clone(object));
        }
        drop(known);
        let Some(object) = self.0.directory.relation(database, relation) else {
            self.want(Wanted::Relation { database, relation });
            return None;
        };
        let object = Arc::new(object);
        let mut known = self.0.relations.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KEPT_RELATIONS {
            known.clear();
        }
        known.insert((database, relation), Arc::clone(&object));
        Some(object)
    }

    fn want(&self, wanted: Wanted) -> Resolution {
        let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = queue.ask(wanted, Instant::now());
        if asked.due {
            self.0.wake.notify_one();
        }
        if asked.pending { Resolution::Pending } else { Resolution::Unresolved }
    }

    /// Waits until something is to be looked up.
    pub(crate) async fn wanted(&self) {
        self.0.wake.notified().await;
    }

    /// Takes what is to be looked up now, and how long until more becomes due.
    pub(crate) fn take_due(&self) -> (Vec<Wanted>, Option<Duration>) {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner).take_due(Instant::now())
    }

    /// Of these nothing was found out, because the look-up failed.
    pub(crate) fn failed(&self, wanted: &[Wanted]) {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner).failed(wanted, Instant::now());
    }

    /// Forgets those of the wanted that are known by now, so that the queue has room.
    pub(crate) fn settle(&self, wanted: &[Wanted]) {
        let found: Vec<_> = wanted
            .iter()
            .filter(|wanted| match wanted {
                Wanted::File(key) => self.0.directory.file(key).is_some(),
                Wanted::Relation { database, relation } => {
                    self.0.directory.relation(*database, *relation).is_some()
                }
            })
            .collect();
        let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        for wanted in found {
            queue.forget(wanted);
        }
    }

    /// Forgets names that may have changed; they are made anew from the directory when asked for.
    pub(crate) fn refresh(&self) {
        self.0.files.write().unwrap_or_else(PoisonError::into_inner).clear();
        self.0.relations.write().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_reader_answers_without_a_server() {
        let object = Object {
            database: "shop".into(),
            schema: "public".into(),
            namespace: "shop|public".into(),
            table: "orders".into(),
            index: None,
            partition: None,
            kind: FileKind::Heap,
        };
        let reader = CatalogReader::recorded(vec![("base/16384/16385".into(), object.clone())]);
        let orders = Resolution::Object(Arc::new(object.clone()));
        assert_eq!(reader.resolve("data/base/16384/16385.3"), orders);
        let map = Resolution::Object(Arc::new(Object { kind: FileKind::Fsm, ..object }));
        assert_eq!(reader.resolve("base/16384/16385_fsm"), map);
        assert_eq!(reader.resolve("pg_wal/000000010000000000000001"), Resolution::Kind(FileKind::Wal));
        assert_eq!(reader.resolve("base/16384/1"), Resolution::Pending);
        assert_eq!(reader.resolve("base/16384/t3_16385"), Resolution::Kind(FileKind::Temp));
        let elsewhere = "ts/PG_15_202209061/16384/16385";
        assert_eq!(reader.resolve(elsewhere), Resolution::Pending, "another tablespace's");
        assert_eq!(reader.resolve("etc/passwd"), Resolution::Unresolved);
    }
}
