//! Reads `pg_class` and what belongs to it: in chunks, in one short session a database, and never so that the
//! server's caches keep every relation.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Mutex;
use tokio_postgres::types::ToSql;

use super::{
    connect::{Answer, Session},
    directory::{PgDirectory, Read, Row, Spaces},
    link::Link,
    path::PG_GLOBAL,
    relations::Relations,
    rows::{BY_FILE, BY_OID, BY_RANGE, BY_TABLE, MAPPED, SCHEMAS, TABLES, is_index, relation, table},
    timescale::{self, CHUNK},
    waits,
};
use crate::{
    catalog::{FileKey, Wanted},
    error::DatabaseError,
};

/// Most relations that are read ahead, on all databases; about 100 bytes each. Others are looked up when seen.
const READ_AHEAD: usize = 200_000;
/// How long a statement runs before replay is asked whether it waits, and how often from then on.
const PATIENCE: Duration = Duration::from_millis(50);
/// Most steps from a relation to everything that its name needs.
const STEPS: usize = 12;
/// How long the lists of databases and tablespaces hold while look-ups go on.
const LISTED: Duration = Duration::from_secs(10);
/// How long a database that does not let the agent in is left alone.
const SHUT: Duration = Duration::from_mins(1);
const PURPOSE: &str = "its catalog";
/// Number of the first relation that is a user's.
const FIRST_OF_USERS: u32 = 16_384;

/// The limit of -2 is that of a database whose removal was begun.
const DATABASES: &str = "SELECT oid, datname, dattablespace FROM pg_catalog.pg_database WHERE datallowconn \
    AND datconnlimit <> -2 AND datname <> 'template0' AND pg_catalog.has_database_privilege(oid, 'CONNECT') ORDER BY oid";

/// A link in `pg_tblspc` is read for each; an empty text stands for `pg_default` and `pg_global`.
const TABLESPACES: &str =
    "SELECT oid, coalesce(pg_catalog.pg_tablespace_location(oid), '') FROM pg_catalog.pg_tablespace";

/// Reads the catalogs of one server, one database at a time.
#[derive(Debug)]
pub(super) struct Loader {
    pub(super) link: Arc<Link>,
    directory: PgDirectory,
    /// Held while a session is open, so that there is one at most.
    known: Mutex<Known>,
}

/// A database to read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    oid: u32,
    name: String,
    /// Tablespace of relations that name none.
    space: u32,
}

/// The databases of the server.
#[derive(Debug, Default)]
struct Known {
    places: HashMap<u32, Place>,
    listed: Option<Instant>,
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
        self.list(&mut known).await?;
        // Always in the same order: what is read ahead today is read ahead tomorrow.
        let places: BTreeMap<u32, Place> =
            known.places.iter().map(|(oid, place)| (*oid, place.clone())).collect();
        let mut left = READ_AHEAD;
        let (mut read, mut failed, mut refused) = (0, None, None);
        for (oid, place) in &places {
            if left == 0 {
                tracing::info!(
                    "{READ_AHEAD} relations have been read ahead; others are looked up when their files are seen"
                );
                break;
            }
            match self.load_database(place, &mut left).await {
                Ok(()) => {
                    known.shut.remove(oid);
                    read += 1;
                }
                Err(error) if self.is_gone(&mut known, place, &error).await => {}
                Err(error) if known.shuts(*oid, &error) => refused = refused.or(Some(error)),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        // Where the agent is let in nowhere, that is the failure; where somewhere, the others are left alone.
        match failed.or(if read == 0 { refused } else { None }) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    async fn list(&self, known: &mut Known) -> Result<(), DatabaseError> {
        let rows = self.link.rows("its databases", DATABASES, &[]).await?;
        let place = |row: &Answer| {
            let place = Place { oid: row.read(0)?, name: row.read(1)?, space: row.read(2)? };
            Ok((place.oid, place))
        };
        let places = rows.iter().map(place).collect::<Result<HashMap<_, _>, DatabaseError>>()?;
        for (oid, before) in std::mem::replace(&mut known.places, places) {
            if known.places.get(&oid).is_none_or(|now| now.name != before.name) {
                tracing::debug!(database_oid = oid, "dropped or renamed meanwhile");
                known.shut.remove(&oid);
            }
        }
        self.directory.listed(&known.places.keys().copied().collect(), Instant::now());
        match self.link.rows("its tablespaces", TABLESPACES, &[]).await {
            Ok(rows) => {
                let location = |row: &Answer| Ok((row.read(0)?, row.read(1)?));
                let spaces = rows.iter().map(location).collect::<Result<Vec<_>, DatabaseError>>()?;
                self.directory.set_spaces(Spaces::new(spaces));
            }
            // One may be dropped at this moment; the ones that were known stay so.
            Err(error) => tracing::debug!("tablespaces cannot be listed: {error}"),
        }
        known.listed = Some(Instant::now());
        Ok(())
    }

    /// Whether a database refuses because it was dropped or renamed meanwhile. It is not connected to again: from now
    /// on the list is without it, or has its new name.
    async fn is_gone(&self, known: &mut Known, place: &Place, error: &DatabaseError) -> bool {
        if place.oid == 0 || !is_refused(error) || self.list(known).await.is_err() {
            return false;
        }
        let gone = known.places.get(&place.oid).is_none_or(|now| now.name != place.name);
        if gone {
            tracing::debug!(database_oid = place.oid, "could not be read: {error}");
        }
        gone
    }

    async fn load_database(&self, place: &Place, left: &mut usize) -> Result<(), DatabaseError> {
        let session = self.link.open(Some(&place.name)).await?;
        let loaded = self.load_with(&session, place, left).await;
        self.link.end(session).await;
        loaded
    }

    async fn load_with(
        &self,
        session: &Session,
        place: &Place,
        left: &mut usize,
    ) -> Result<(), DatabaseError> {
        let mut read = Read { fresh: Relations::new(&place.name), shared: Vec::new(), complete: false };
        let (mut last, most) = (0_u32, *left);
        while *left > 0 && !read.complete {
            let rows = self.ask(session, BY_RANGE, &[&last]).await?;
            *left = left.saturating_sub(rows.len());
            read.complete = rows.len() < CHUNK;
            let after = last;
            last = rows.last().map_or(Ok(last), |row| row.read(0))?;
            let tables = self.tables(session, &rows, after, last).await?;
            let table = |row: &Answer| Ok(tables.get(&row.read(0)?).copied().unwrap_or(0));
            for row in self.named(session, place, &rows, table).await? {
                if row.relation.is_index() && row.relation.table == 0 {
                    // Dropped between the two questions; what may still write its file has it looked up.
                } else if row.shared {
                    read.shared.push(row);
                } else {
                    read.fresh.insert(row.oid, row.relation);
                }
            }
        }
        if let Some(shape) = self.shape(session).await? {
            read.fresh.hypertables = self.hypertables(session, shape, most).await?;
            let indexes = read.fresh.unmatched(None);
            let left = read.fresh.match_indexes(indexes);
            let mut definitions = HashMap::new();
            if !left.is_empty() {
                let own = read.fresh.indexes_of(&read.fresh.hypertables_of(&left));
                for some in [own, left.clone()].concat().chunks(CHUNK) {
                    definitions.extend(self.definitions(session, some).await?);
                }
            }
            read.fresh.match_by_definition(left, &definitions);
        }
        let (relations, complete) = (read.fresh.len(), read.complete);
        tracing::debug!(database_oid = place.oid, relations, complete, "catalog read");
        self.directory.take(place.oid, &place.name, read);
        Ok(())
    }

    /// The tables of these indexes, which are all that have a number above the first and up to the last.
    async fn tables(
        &self,
        session: &Session,
        rows: &[Answer],
        after: u32,
        last: u32,
    ) -> Result<HashMap<u32, u32>, DatabaseError> {
        for row in rows {
            if is_index(row)? {
                let rows = self.ask(session, TABLES, &[&after, &last]).await?;
                return rows.iter().map(|row| Ok((row.read(0)?, row.read(1)?))).collect();
            }
        }
        Ok(HashMap::new())
    }

    /// Looks up single files and relations; what is not found stays unknown.
    pub(super) async fn look_up(&self, wanted: Vec<Wanted>) -> Result<(), DatabaseError> {
        let mut by_database: BTreeMap<u32, (Vec<FileKey>, Vec<u32>)> = BTreeMap::new();
        for wanted in wanted {
            match wanted {
                Wanted::File(file) => {
                    let FileKey::Relation { database, .. } = file else { continue };
                    by_database.entry(database).or_default().0.push(file);
                }
                Wanted::Relation { database, relation } => {
                    by_database.entry(database).or_default().1.push(relation);
                }
            }
        }
        let mut known = self.known.lock().await;
        let is_listed = known.listed.is_some_and(|listed| listed.elapsed() < LISTED);
        let is_known = |(database, (files, _)): (&u32, &(Vec<FileKey>, _))| {
            (*database == 0 || known.places.contains_key(database)) && self.directory.knows_spaces(files)
        };
        if !is_listed || !by_database.iter().all(is_known) {
            self.list(&mut known).await?;
        }
        let mut failed = None;
        for (database, (files, relations)) in by_database {
            // Shared relations are in all databases.
            let shared = || Place { oid: 0, name: String::new(), space: PG_GLOBAL };
            let place = known.places.get(&database).cloned().or_else(|| (database == 0).then(shared));
            // A database that is gone, or may not be connected to, has no names.
            let Some(place) = place.filter(|place| !known.is_shut(place.oid)) else { continue };
            if let Err(error) = self.look_up_in(&place, &files, relations).await
                && !self.is_gone(&mut known, &place, &error).await
                && !known.shuts(database, &error)
            {
                failed = Some(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn look_up_in(
        &self,
        place: &Place,
        files: &[FileKey],
        relations: Vec<u32>,
    ) -> Result<(), DatabaseError> {
        let session = self.link.open((place.oid != 0).then_some(&*place.name)).await?;
        let found = self.look_up_with(&session, place, files, relations).await;
        self.link.end(session).await;
        found
    }

    async fn look_up_with(
        &self,
        session: &Session,
        place: &Place,
        files: &[FileKey],
        mut relations: Vec<u32>,
    ) -> Result<(), DatabaseError> {
        let number = |file: &FileKey| match file {
            FileKey::Relation { relfilenode, .. } => Some(*relfilenode),
            _ => None,
        };
        let numbers: Vec<u32> = files.iter().filter_map(number).collect();
        if !numbers.is_empty() {
            relations.extend(self.find(session, place, BY_FILE, &numbers).await?);
            // The number of a mapped catalog's file is not in the column.
            if relations.len() < files.len() && self.directory.any_unknown(files) {
                let rows = self.rows(session, place, MAPPED, &[]).await?;
                self.directory.add(place.oid, &place.name, rows, |_| {});
            }
        }
        for _ in 0..STEPS {
            let missing = self.directory.missing(place.oid, &relations);
            if missing.is_empty() || self.find(session, place, BY_OID, &missing).await?.is_empty() {
                break;
            }
        }
        self.match_indexes(session, place, &relations).await
    }

    /// Reads some relations, and what TimescaleDB says of them, which is made known at the same moment.
    async fn find(
        &self,
        session: &Session,
        place: &Place,
        sql: &'static str,
        numbers: &[u32],
    ) -> Result<Vec<u32>, DatabaseError> {
        let rows = self.rows(session, place, sql, &[&numbers]).await?;
        let tables: Vec<u32> = rows
            .iter()
            .filter(|row| row.relation.kind == b'r' && row.oid >= FIRST_OF_USERS)
            .map(|row| row.oid)
            .collect();
        let mut hypertables = None;
        if !tables.is_empty()
            && let Some(shape) = self.shape(session).await?
        {
            let known = |id| self.directory.with(place.oid, |known| known.hypertables.by_id(id));
            hypertables = Some(self.hypertables_of(session, shape, &tables, known).await?);
        }
        Ok(self.directory.add(place.oid, &place.name, rows, |known| {
            if let Some(hypertables) = hypertables {
                known.hypertables.absorb(hypertables);
            }
        }))
    }

    /// Finds out which of the hypertable's indexes the indexes of chunks are, among these relations.
    async fn match_indexes(
        &self,
        session: &Session,
        place: &Place,
        relations: &[u32],
    ) -> Result<(), DatabaseError> {
        let (indexes, tables) = self.directory.with(place.oid, |known| {
            let indexes = known.unmatched(Some(relations));
            let tables: Vec<u32> = known.hypertables_of(&indexes).into_iter().collect();
            (indexes, tables)
        });
        if indexes.is_empty() {
            return Ok(());
        }
        let own = self.find(session, place, BY_TABLE, &tables).await?;
        let left = self.directory.with(place.oid, |known| known.match_indexes(indexes));
        if !left.is_empty() {
            let definitions = self.definitions(session, &[own, left.clone()].concat()).await?;
            self.directory.with(place.oid, |known| known.match_by_definition(left, &definitions));
        }
        Ok(())
    }

    /// How indexes are made.
    async fn definitions(
        &self,
        session: &Session,
        indexes: &[u32],
    ) -> Result<HashMap<u32, String>, DatabaseError> {
        let rows = self.ask(session, timescale::DEFINITIONS, &[&indexes]).await?;
        rows.iter().map(|row| Ok((row.read(0)?, row.read(1)?))).collect()
    }

    async fn rows(
        &self,
        session: &Session,
        place: &Place,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, DatabaseError> {
        let rows = self.ask(session, sql, parameters).await?;
        self.named(session, place, &rows, table).await
    }

    /// The relations of an answer, with the names of their schemas and the tables of which they are indexes.
    async fn named(
        &self,
        session: &Session,
        place: &Place,
        rows: &[Answer],
        table: impl Fn(&Answer) -> Result<u32, DatabaseError>,
    ) -> Result<Vec<Row>, DatabaseError> {
        let schemas = rows.iter().map(|row| row.read(3)).collect::<Result<BTreeSet<u32>, _>>()?;
        let unknown: Vec<u32> =
            schemas.into_iter().filter(|schema| session.schema(*schema).is_none()).collect();
        if !unknown.is_empty() {
            for row in self.ask(session, SCHEMAS, &[&unknown]).await? {
                session.name_schema(row.read(0)?, row.read(1)?);
            }
        }
        let mut read = Vec::with_capacity(rows.len());
        for row in rows {
            // A schema that was dropped meanwhile has no relations.
            if let Some(schema) = session.schema(row.read(3)?) {
                read.push(relation(row, place.space, schema, table(row)?)?);
            }
        }
        Ok(read)
    }

    /// Asks, and takes the question back when replay waits for its end.
    pub(super) async fn ask(
        &self,
        session: &Session,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Answer>, DatabaseError> {
        let mut asking = std::pin::pin!(session.rows(PURPOSE, sql, parameters));
        loop {
            tokio::select! {
                rows = &mut asking => return rows,
                () = tokio::time::sleep(PATIENCE) => {
                    if waits::is_held_up_by(&self.link, session.backend).await {
                        session.cancel().await;
                        return Err(session.yielded(PURPOSE));
                    }
                }
            }
        }
    }
}
