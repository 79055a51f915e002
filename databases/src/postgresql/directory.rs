//! What has been read of a server's catalogs, shared between who reads it and who asks. Hash look-ups only.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use super::{
    former::Former,
    path::{self, PG_DEFAULT, PG_GLOBAL},
    relations::{File, Relation, Relations},
    wal::Locator,
};
use crate::catalog::{Directory, FileKey, FileRef, Object, Space};

/// Most rows that are kept of a server, whatever look-ups have added to what was read ahead.
const KEPT_ROWS: usize = 400_000;

/// Names of what is dropped are kept so long at least: until the last that is told of a removed file has been told.
pub(super) const KEPT_FOR: Duration = Duration::from_mins(10);

/// One row of a reading.
pub(super) struct Row {
    pub(super) oid: u32,
    pub(super) shared: bool,
    pub(super) relation: Relation,
}

/// What was read of one database.
pub(super) struct Read {
    pub(super) fresh: Relations,
    /// Relations that all databases share.
    pub(super) shared: Vec<Row>,
    /// Whether there is no more.
    pub(super) complete: bool,
}

/// The tablespaces of a server.
#[derive(Debug, Default)]
pub(super) struct Spaces {
    oids: Vec<u32>,
    /// Those whose directory has a name.
    by_directory: HashMap<Box<str>, Vec<u32>>,
}

impl Spaces {
    /// Tablespaces with their location; that of `pg_default` and `pg_global` is empty.
    pub(super) fn new(locations: impl IntoIterator<Item = (u32, String)>) -> Self {
        let mut spaces = Self::default();
        for (oid, location) in locations {
            spaces.oids.push(oid);
            if let Some(name) = location.rsplit('/').find(|name| !name.is_empty()) {
                spaces.by_directory.entry(name.into()).or_default().push(oid);
            }
        }
        spaces
    }

    /// Which tablespaces a path may mean. A directory that no location ends in is one that a link leads to.
    fn of<'a>(&'a self, space: &'a Space) -> Box<dyn Iterator<Item = u32> + 'a> {
        let others = || self.oids.iter().copied().filter(|oid| !matches!(*oid, PG_DEFAULT | PG_GLOBAL));
        match space {
            Space::Oid(oid) => Box::new(std::iter::once(*oid)),
            Space::Directory(name) => match self.by_directory.get(&**name) {
                Some(oids) => Box::new(oids.iter().copied()),
                None => Box::new(others()),
            },
            Space::NotBase => Box::new(others()),
            Space::Any => Box::new(others().chain([PG_DEFAULT])),
        }
    }

    /// Whether the tablespace of a path has been heard of.
    fn knows(&self, space: &Space) -> bool {
        match space {
            Space::Oid(oid) => matches!(*oid, PG_DEFAULT | PG_GLOBAL) || self.oids.contains(oid),
            Space::Directory(name) => self.by_directory.contains_key(&**name),
            Space::NotBase | Space::Any => true,
        }
    }
}

#[derive(Default)]
struct State {
    /// By database; number 0 holds the shared relations.
    databases: HashMap<u32, Relations>,
    former: Former,
    /// Databases that are not there any more, and since when that is known.
    gone: HashMap<u32, Instant>,
    spaces: Spaces,
}

impl State {
    fn file(&self, key: &FileKey) -> Option<Object> {
        let FileKey::Relation { space, database, relfilenode, backend } = key else { return None };
        let files =
            || self.spaces.of(space).map(|space| File { space, number: *relfilenode, backend: *backend });
        if let Some(known) = self.databases.get(database) {
            let mut held = files().filter(|file| known.holds(file));
            match (held.next(), held.next()) {
                (Some(file), None) => return known.file(&file),
                // Two relations of the same number, and nothing that tells which.
                (Some(_), Some(_)) => return None,
                (None, _) => {}
            }
        }
        let mut former = files().filter_map(|file| self.former.get(*database, file));
        let object = former.next()?;
        former.next().is_none().then(|| object.clone())
    }

    /// The object of a file as the log names it.
    fn at(&self, Locator { tablespace, database, relfilenode }: Locator) -> Option<Object> {
        let file = File { space: tablespace, number: relfilenode, backend: None };
        let known = self.databases.get(&database)?;
        known.file(&file).or_else(|| self.former.get(database, file).cloned())
    }

    fn keep(&mut self, database: u32, files: Vec<(File, Object)>) {
        for (file, object) in files {
            self.former.keep(database, file, object, Instant::now());
        }
    }

    /// Bounds what look-ups add: of the largest database everything is read again when seen.
    fn bound(&mut self) {
        if self.databases.values().map(Relations::len).sum::<usize>() > KEPT_ROWS {
            let largest = self.databases.iter().max_by_key(|(_, known)| known.len()).map(|(oid, _)| *oid);
            self.databases.retain(|oid, _| Some(*oid) != largest);
        }
    }
}

/// What was read. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct PgDirectory(Arc<RwLock<State>>);

impl fmt::Debug for PgDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgDirectory").finish_non_exhaustive()
    }
}

impl Directory for PgDirectory {
    fn read_path(&self, path_tail: &str) -> FileRef {
        path::read(path_tail)
    }

    fn file(&self, key: &FileKey) -> Option<Object> {
        self.look(|state| state.file(key))
    }

    fn relation(&self, database: u32, relation: u32) -> Option<Object> {
        self.look(|state| state.databases.get(&database)?.object(relation))
    }
}

impl PgDirectory {
    fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes what a look-up has found in one database: rows, and what `more` adds to them at the same moment.
    pub(super) fn add(
        &self,
        database: u32,
        name: &str,
        rows: Vec<Row>,
        more: impl FnOnce(&mut Relations),
    ) -> Vec<u32> {
        let found = rows.iter().map(|row| row.oid).collect();
        self.change(|state| {
            more(state.databases.entry(database).or_insert_with(|| Relations::new(name)));
            for row in rows {
                let (at, name) = if row.shared { (0, "") } else { (database, name) };
                let known = state.databases.entry(at).or_insert_with(|| Relations::new(name));
                if let Some((file, object)) = known.insert(row.oid, row.relation) {
                    state.former.keep(at, file, object, Instant::now());
                }
            }
            state.bound();
        });
        found
    }

    /// Takes what was read of one database. What was read to its end stands for all that there is, and of what is not
    /// there any more the names are kept; a part of it takes nothing away that look-ups have found.
    pub(super) fn take(&self, database: u32, name: &str, read: Read) {
        let Read { fresh, shared, complete } = read;
        self.change(|state| {
            let gone = if complete {
                let old = state.databases.insert(database, fresh);
                old.and_then(|old| Some(old.files_gone_in(state.databases.get(&database)?)))
                    .unwrap_or_default()
            } else {
                state.databases.entry(database).or_insert_with(|| Relations::new(name)).absorb(fresh)
            };
            state.keep(database, gone);
        });
        self.add(database, name, shared, |_| {});
    }

    /// These databases there are now. Names in those that are not there any more are kept as long as of their files
    /// something may be told.
    pub(super) fn listed(&self, databases: &HashSet<u32>, now: Instant) {
        self.change(|state| {
            let State { databases: known, gone, .. } = state;
            for oid in known.keys().filter(|oid| **oid != 0 && !databases.contains(oid)) {
                gone.entry(*oid).or_insert(now);
            }
            gone.retain(|oid, _| !databases.contains(oid));
            known.retain(|oid, _| gone.get(oid).is_none_or(|since| now.duration_since(*since) < KEPT_FOR));
            gone.retain(|oid, _| known.contains_key(oid));
        });
    }

    pub(super) fn set_spaces(&self, spaces: Spaces) {
        self.change(|state| state.spaces = spaces);
    }

    /// Whether the tablespaces of all these have been heard of.
    pub(super) fn knows_spaces(&self, files: &[FileKey]) -> bool {
        self.look(|state| {
            files.iter().all(|file| match file {
                FileKey::Relation { space, .. } => state.spaces.knows(space),
                _ => true,
            })
        })
    }

    /// What is still to be read before these relations have names.
    pub(super) fn missing(&self, database: u32, relations: &[u32]) -> Vec<u32> {
        self.look(|state| {
            let Some(known) = state.databases.get(&database) else { return relations.to_vec() };
            let missing: HashSet<u32> = relations.iter().filter_map(|oid| known.missing(*oid)).collect();
            missing.into_iter().collect()
        })
    }

    pub(super) fn any_unknown(&self, files: &[FileKey]) -> bool {
        self.look(|state| files.iter().any(|file| state.file(file).is_none()))
    }

    /// A file by which the last of these relations is known, if all of them are known and of one table: the one that it
    /// was known by before, as long as that has its name.
    pub(super) fn file_of(
        &self,
        database: u32,
        relations: &[u32],
        before: Option<Locator>,
    ) -> Option<Locator> {
        self.look(|state| {
            let known = state.databases.get(&database)?;
            let object = known.object(*relations.last()?)?;
            let is_same =
                |other: &Object| (&other.namespace, &other.table) == (&object.namespace, &object.table);
            if !relations.iter().all(|oid| known.object(*oid).is_some_and(|other| is_same(&other))) {
                return None;
            }
            let still = before.filter(|file| state.at(*file).as_ref() == Some(&object));
            still.or_else(|| {
                let present = relations.iter().rev().find_map(|oid| known.file_by(*oid))?;
                Some(Locator { tablespace: present.space, database, relfilenode: present.number })
            })
        })
    }

    /// Works on what is known of one database.
    pub(super) fn with<T: Default>(&self, database: u32, work: impl FnOnce(&mut Relations) -> T) -> T {
        self.change(|state| state.databases.get_mut(&database).map(work).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(oid: u32, relfilenode: u32, space: u32) -> Row {
        let relation = Relation {
            relfilenode,
            space,
            backend: None,
            kind: b'r',
            schema: "public".into(),
            name: format!("t{oid}").into(),
            table: 0,
            parent: 0,
            toast: 0,
        };
        Row { oid, shared: false, relation }
    }

    fn read(rows: impl IntoIterator<Item = u32>, complete: bool) -> Read {
        let mut fresh = Relations::new("shop");
        for oid in rows {
            fresh.insert(oid, row(oid, oid, PG_DEFAULT).relation);
        }
        Read { fresh, shared: Vec::new(), complete }
    }

    fn table(directory: &PgDirectory, path: &str) -> Option<String> {
        let FileRef::Of(key, _) = directory.read_path(path) else { panic!("{path}") };
        directory.file(&key).map(|object| object.table)
    }

    #[test]
    fn a_part_of_a_catalog_takes_nothing_away() {
        let directory = PgDirectory::default();
        let known = |oid| directory.relation(5, oid).is_some();
        directory.add(5, "shop", vec![row(30_000, 30_000, PG_DEFAULT)], |_| {});
        directory.take(5, "shop", read([20_000], false));
        assert!(known(20_000) && known(30_000));
        directory.take(5, "shop", read([20_001], true));
        assert!(known(20_001) && !known(20_000) && !known(30_000));
    }

    #[test]
    fn names_are_kept_after_a_drop_until_another_takes_the_number() {
        let directory = PgDirectory::default();
        directory.take(5, "shop", read([1, 2], true));
        directory.take(5, "shop", read([2], true));
        assert_eq!(table(&directory, "base/5/1").as_deref(), Some("t1"));
        directory.add(5, "shop", vec![row(3, 1, PG_DEFAULT)], |_| {});
        assert_eq!(table(&directory, "base/5/1").as_deref(), Some("t3"));
        let now = Instant::now();
        directory.listed(&HashSet::new(), now);
        assert_eq!(table(&directory, "base/5/1").as_deref(), Some("t3"), "of a dropped database");
        directory.listed(&HashSet::from([5]), now + KEPT_FOR / 2);
        directory.listed(&HashSet::new(), now + KEPT_FOR);
        assert_eq!(table(&directory, "base/5/1").as_deref(), Some("t3"), "of one that is back");
    }

    #[test]
    fn a_dropped_database_takes_no_memory_for_ever() {
        let directory = PgDirectory::default();
        let now = Instant::now();
        for database in 5..100 {
            directory.take(database, "shop", read(1..100, true));
            directory.listed(&HashSet::from([4, database]), now + KEPT_FOR * (database - 5));
        }
        let kept = directory.look(|state| (state.databases.len(), state.gone.len()));
        assert_eq!(kept, (2, 1), "the last, and the one before it");
    }

    #[test]
    fn the_same_number_in_two_tablespaces_is_never_confused() {
        let directory = PgDirectory::default();
        let locations = [(1663, ""), (1664, ""), (100, "/a/fast"), (200, "/b/slow/"), (300, "/c/slow")];
        directory.set_spaces(Spaces::new(locations.map(|(oid, location)| (oid, location.to_owned()))));
        let rows =
            vec![row(1, 9, PG_DEFAULT), row(2, 9, 100), row(3, 9, 200), row(4, 8, 300), row(5, 7, 100)];
        directory.add(5, "shop", rows, |_| {});
        for (path, expected) in [
            ("data/base/5/9", Some("t1")),
            ("fast/PG_15_202209061/5/9", Some("t2")),
            // Two directories of one name: the number tells.
            ("slow/PG_15_202209061/5/9", Some("t3")),
            ("slow/PG_15_202209061/5/8", Some("t4")),
            ("slow/PG_15_202209061/5/7", None),
            ("pg_tblspc/200/PG_15_202209061/5/9", Some("t3")),
            ("pg_tblspc/300/PG_15_202209061/5/9", None),
            // A link behind the link: the number tells, if it is one relation's only.
            ("real/PG_15_202209061/5/7", Some("t5")),
            ("real/PG_15_202209061/5/9", None),
            ("PG_15_202209061/5/8", Some("t4")),
            ("5/8", Some("t4")),
            ("5/9", None),
        ] {
            assert_eq!(table(&directory, path).as_deref(), expected, "{path}");
        }
    }
}
