//! Reads `pg_class` and what belongs to it: in chunks, in one short session a database, and never so that the
//! server's caches keep every relation.
//!
//! The `relfilenode` column is read as it is. Only the some fifty relations whose file is not in that column
//! are asked for by function.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use tokio::sync::Mutex;
use tokio_postgres::types::ToSql;

use super::{
    connect::{Answer, Session},
    link::Link,
    path,
    relations::{Relation, Relations},
    waits,
};
use crate::{
    catalog::{Directory, FileKey, FileRef, Object, Wanted},
    error::DatabaseError,
};

/// Rows of one statement; some ten milliseconds.
const CHUNK: usize = 2_000;
/// Most relations that are read ahead, on all databases; about 100 bytes each. Others are looked up when seen.
const READ_AHEAD: usize = 200_000;
/// How long a statement runs before replay is asked whether it waits, and how often from then on.
const PATIENCE: Duration = Duration::from_millis(50);
/// Most steps from a relation to everything that its name needs.
const STEPS: usize = 12;
/// How long a database that does not let the agent in is left alone.
const SHUT: Duration = Duration::from_mins(1);
const PURPOSE: &str = "its catalog";

macro_rules! relations {
    ($condition:literal) => {
        concat!(
            "SELECT c.oid, CASE WHEN c.relfilenode = 0 AND c.relkind IN ('r', 'i', 't') \
             THEN pg_catalog.pg_relation_filenode(c.oid) ELSE c.relfilenode END, c.relkind, n.nspname, c.relname, \
             coalesce(i.indrelid, 0::oid), coalesce(h.inhparent, 0::oid), c.relispartition, c.reltoastrelid, \
             c.relisshared FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid \
             LEFT JOIN pg_catalog.pg_inherits h ON h.inhrelid = c.oid AND h.inhseqno = 1 \
             WHERE c.relkind IN ('r', 'i', 't', 'm', 'p', 'I', 'S') AND ",
            $condition
        )
    };
}

const BY_RANGE: &str = relations!("c.oid > $1 ORDER BY c.oid LIMIT 2000");
const BY_OID: &str = relations!("c.oid = ANY ($1)");
/// The index on files begins with the tablespace.
const BY_FILE: &str = relations!(
    "c.reltablespace = ANY (ARRAY(SELECT t.oid FROM pg_catalog.pg_tablespace t) || 0::oid) AND c.relfilenode = ANY ($1)"
);
/// Relations whose file is not in the column; their number is below that of any of a user's.
const MAPPED: &str = relations!("c.relfilenode = 0 AND c.oid < 16384");
/// The limit of -2 is that of a database whose removal was begun.
const DATABASES: &str = "SELECT oid, datname FROM pg_catalog.pg_database WHERE datallowconn \
    AND datconnlimit <> -2 AND datname <> 'template0' AND pg_catalog.has_database_privilege(oid, 'CONNECT') ORDER BY oid";

/// What was read, by database; number 0 holds the shared relations.
#[derive(Clone, Default)]
pub(crate) struct PgDirectory(Arc<RwLock<HashMap<u32, Relations>>>);

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
        let FileKey::Relation { database, relfilenode } = key;
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(database)?.file(*relfilenode)
    }

    fn relation(&self, database: u32, relation: u32) -> Option<Object> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&database)?.object(relation)
    }
}

impl PgDirectory {
    fn write<T>(&self, change: impl FnOnce(&mut HashMap<u32, Relations>) -> T) -> T {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, database: u32, name: &str, rows: Vec<Row>) {
        self.write(|all| {
            for row in rows {
                let (at, name) = if row.shared { (0, "") } else { (database, name) };
                all.entry(at).or_insert_with(|| Relations::new(name)).insert(row.oid, row.relation);
            }
        });
    }

    /// Takes what was read of one database. What was read to its end stands for all that there is; a part of it
    /// takes nothing away that look-ups have found.
    fn take(&self, database: u32, name: &str, read: Read) {
        let Read { fresh, shared, complete } = read;
        self.write(|all| {
            if complete {
                all.insert(database, fresh);
            } else {
                all.entry(database).or_insert_with(|| Relations::new(name)).absorb(fresh);
            }
        });
        self.add(database, name, shared);
    }

    fn missing(&self, database: u32, relations: &[u32]) -> Vec<u32> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = all.get(&database) else { return relations.to_vec() };
        let missing: HashSet<u32> = relations.iter().filter_map(|oid| known.missing(*oid)).collect();
        missing.into_iter().collect()
    }

    fn unknown_files(&self, database: u32, files: &[u32]) -> Vec<u32> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let known = all.get(&database);
        files.iter().copied().filter(|file| known.is_none_or(|known| !known.contains_file(*file))).collect()
    }
}

struct Row {
    oid: u32,
    shared: bool,
    relation: Relation,
}

/// What was read of one database.
struct Read {
    fresh: Relations,
    /// Relations that all databases share.
    shared: Vec<Row>,
    /// Whether there is no more.
    complete: bool,
}

/// Reads the catalogs of one server, one database at a time.
#[derive(Debug)]
pub(super) struct Loader {
    link: Arc<Link>,
    directory: PgDirectory,
    /// Held while a session is open, so that there is one at most.
    known: Mutex<Known>,
}

/// The databases of the server.
#[derive(Debug, Default)]
struct Known {
    names: HashMap<u32, String>,
    /// Databases that do not let the agent in, and since when: each attempt is a line in the server's log.
    shut: HashMap<u32, Instant>,
}

/// Whether the server does not let the agent into one database.
fn is_refused(error: &DatabaseError) -> bool {
    matches!(error, DatabaseError::Refused { code, .. }
        if code.starts_with("28") || code == "42501" || code == "3D000" || code == "55000")
}

impl Known {
    /// Whether an error is about one database only; then it is left alone for a while.
    fn shuts(&mut self, database: u32, error: &DatabaseError) -> bool {
        let refused = is_refused(error);
        if refused && self.shut.insert(database, Instant::now()).is_none() {
            tracing::warn!(database_oid = database, "names in this database cannot be read: {error}");
        }
        refused
    }

    fn is_shut(&self, database: u32) -> bool {
        self.shut.get(&database).is_some_and(|since| since.elapsed() < SHUT)
    }
}

impl Loader {
    pub(super) fn new(link: Arc<Link>, directory: PgDirectory) -> Self {
        Self { link, directory, known: Mutex::default() }
    }

    /// Reads all databases. One that cannot be read does not keep the others from being read.
    pub(super) async fn load(&self) -> Result<(), DatabaseError> {
        let mut known = self.known.lock().await;
        self.list(&mut known.names).await?;
        // Always in the same order: what is read ahead today is read ahead tomorrow.
        let names: BTreeMap<u32, String> =
            known.names.iter().map(|(oid, name)| (*oid, name.clone())).collect();
        let mut left = READ_AHEAD;
        let (mut read, mut failed, mut refused) = (0, None, None);
        for (oid, name) in &names {
            if left == 0 {
                tracing::info!(
                    "{READ_AHEAD} relations have been read ahead; others are looked up when their files are seen"
                );
                break;
            }
            match self.load_database(*oid, name, &mut left).await {
                Ok(()) => {
                    known.shut.remove(oid);
                    read += 1;
                }
                Err(error) if self.is_gone(&mut known, *oid, name, &error).await => {}
                Err(error) if known.shuts(*oid, &error) => refused = refused.or(Some(error)),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        self.directory.write(|all| all.retain(|oid, _| *oid == 0 || known.names.contains_key(oid)));
        // Where the agent is let in nowhere, that is the failure; where somewhere, the others are left alone.
        match failed.or(if read == 0 { refused } else { None }) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    async fn list(&self, names: &mut HashMap<u32, String>) -> Result<(), DatabaseError> {
        let rows = self.link.rows("its databases", DATABASES, &[]).await?;
        *names =
            rows.iter().map(|row| Ok((row.read(0)?, row.read(1)?))).collect::<Result<_, DatabaseError>>()?;
        Ok(())
    }

    /// Whether a database refuses because it was dropped or renamed meanwhile. It is not connected to again: from now
    /// on the list is without it, or has its new name.
    async fn is_gone(&self, known: &mut Known, oid: u32, name: &str, error: &DatabaseError) -> bool {
        if oid == 0 || !is_refused(error) || self.list(&mut known.names).await.is_err() {
            return false;
        }
        let gone = known.names.get(&oid).is_none_or(|now| now != name);
        if gone {
            tracing::debug!(database_oid = oid, "dropped or renamed meanwhile: {error}");
            known.shut.remove(&oid);
        }
        gone
    }

    async fn load_database(&self, oid: u32, name: &str, left: &mut usize) -> Result<(), DatabaseError> {
        let session = self.link.open(Some(name)).await?;
        let loaded = self.load_with(&session, oid, name, left).await;
        self.link.end(session).await;
        loaded
    }

    async fn load_with(
        &self,
        session: &Session,
        oid: u32,
        name: &str,
        left: &mut usize,
    ) -> Result<(), DatabaseError> {
        let mut read = Read { fresh: Relations::new(name), shared: Vec::new(), complete: false };
        let mut last = 0_u32;
        while *left > 0 && !read.complete {
            let rows = self.ask(session, BY_RANGE, &[&last]).await?;
            *left = left.saturating_sub(rows.len());
            read.complete = rows.len() < CHUNK;
            for row in rows {
                last = row.oid;
                if row.shared {
                    read.shared.push(row);
                } else {
                    read.fresh.insert(row.oid, row.relation);
                }
            }
        }
        let (relations, complete) = (read.fresh.len(), read.complete);
        tracing::debug!(database_oid = oid, relations, complete, "catalog read");
        self.directory.take(oid, name, read);
        Ok(())
    }

    /// Looks up single files and relations; what is not found stays unknown.
    pub(super) async fn look_up(&self, wanted: Vec<Wanted>) -> Result<(), DatabaseError> {
        let mut by_database: HashMap<u32, (Vec<u32>, Vec<u32>)> = HashMap::new();
        for wanted in wanted {
            match wanted {
                Wanted::File(FileKey::Relation { database, relfilenode }) => {
                    by_database.entry(database).or_default().0.push(relfilenode);
                }
                Wanted::Relation { database, relation } => {
                    by_database.entry(database).or_default().1.push(relation);
                }
            }
        }
        let mut known = self.known.lock().await;
        if by_database.keys().any(|database| *database != 0 && !known.names.contains_key(database)) {
            self.list(&mut known.names).await?;
        }
        let mut failed = None;
        for (database, (files, relations)) in by_database {
            let name = known.names.get(&database).cloned();
            // A database that is gone, or may not be connected to, has no names; shared relations are in all.
            if (database != 0 && name.is_none()) || known.is_shut(database) {
                continue;
            }
            if let Err(error) = self.look_up_in(database, name.as_deref(), files, relations).await
                && !self.is_gone(&mut known, database, name.as_deref().unwrap_or_default(), &error).await
                && !known.shuts(database, &error)
            {
                failed = Some(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn look_up_in(
        &self,
        database: u32,
        name: Option<&str>,
        files: Vec<u32>,
        relations: Vec<u32>,
    ) -> Result<(), DatabaseError> {
        let session = self.link.open(name).await?;
        let found = self.look_up_with(&session, database, name.unwrap_or_default(), files, relations).await;
        self.link.end(session).await;
        found
    }

    async fn look_up_with(
        &self,
        session: &Session,
        database: u32,
        name: &str,
        files: Vec<u32>,
        mut relations: Vec<u32>,
    ) -> Result<(), DatabaseError> {
        let add = |rows: Vec<Row>| {
            let found: Vec<u32> = rows.iter().map(|row| row.oid).collect();
            self.directory.add(database, name, rows);
            found
        };
        relations.extend(add(self.ask(session, BY_FILE, &[&files]).await?));
        if !self.directory.unknown_files(database, &files).is_empty() && relations.len() < files.len() {
            add(self.ask(session, MAPPED, &[]).await?);
        }
        for _ in 0..STEPS {
            let missing = self.directory.missing(database, &relations);
            if missing.is_empty() || add(self.ask(session, BY_OID, &[&missing]).await?).is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Asks, and takes the question back when replay waits for its end.
    async fn ask(
        &self,
        session: &Session,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, DatabaseError> {
        let mut asking = std::pin::pin!(session.rows(PURPOSE, sql, parameters));
        let rows = loop {
            tokio::select! {
                rows = &mut asking => break rows?,
                () = tokio::time::sleep(PATIENCE) => {
                    if waits::is_held_up_by(&self.link, session.backend).await {
                        session.cancel().await;
                        return Err(session.yielded(PURPOSE));
                    }
                }
            }
        };
        rows.iter().map(read).collect()
    }
}

fn read(row: &Answer) -> Result<Row, DatabaseError> {
    Ok(Row {
        oid: row.read(0)?,
        shared: row.read(9)?,
        relation: Relation {
            relfilenode: row.read::<Option<u32>>(1)?.unwrap_or(0),
            kind: row.read::<i8>(2)?.cast_unsigned(),
            schema: Arc::from(row.read::<&str>(3)?),
            name: Box::from(row.read::<&str>(4)?),
            table: row.read(5)?,
            parent: row.read(6)?,
            is_partition: row.read(7)?,
            toast: row.read(8)?,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(oid: u32) -> Row {
        let relation = Relation {
            relfilenode: oid,
            kind: b'r',
            schema: "public".into(),
            name: format!("t{oid}").into(),
            table: 0,
            parent: 0,
            is_partition: false,
            toast: 0,
        };
        Row { oid, shared: false, relation }
    }

    #[test]
    fn a_part_of_a_catalog_takes_nothing_away() {
        let directory = PgDirectory::default();
        let known = |oid| directory.relation(5, oid).is_some();
        directory.add(5, "shop", vec![row(30_000)]);
        let read = |oid, complete| {
            let mut fresh = Relations::new("shop");
            fresh.insert(oid, row(oid).relation);
            Read { fresh, shared: Vec::new(), complete }
        };
        directory.take(5, "shop", read(20_000, false));
        assert!(known(20_000) && known(30_000));
        directory.take(5, "shop", read(20_001, true));
        assert!(known(20_001) && !known(20_000) && !known(30_000));
    }
}
