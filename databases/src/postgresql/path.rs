//! Reads the end of a path below a PostgreSQL data directory. Pure: no file is touched, no catalog asked.
//!
//! The kernel gives at most the last few names of a path and, in a tablespace, those of the directory that
//! the link in `pg_tblspc` leads to; so the names are read from the end.

use std::sync::Arc;

use crate::catalog::{Directory, FileKey, FileKind, FileRef, Object, Space};

/// Fork of a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fork {
    /// The data itself.
    Main,
    /// Free space map.
    Fsm,
    /// Visibility map.
    Vm,
    /// What an unlogged relation is reset to.
    Init,
}

/// Where the directory of a relation's file stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place<'a> {
    /// `base`: the tablespace `pg_default`.
    Base,
    /// `global`: the tablespace `pg_global`.
    Global,
    /// The tablespace with this number.
    Tablespace(u32),
    /// A tablespace whose directory has this name.
    Directory(&'a str),
    /// A tablespace; the path does not tell which.
    SomeTablespace,
    /// The path is too short to tell.
    Somewhere,
}

/// Oid of the tablespace of `base`.
pub(crate) const PG_DEFAULT: u32 = 1663;
/// Oid of the tablespace of `global`.
pub(crate) const PG_GLOBAL: u32 = 1664;

/// What a path says about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PgFile<'a> {
    /// A relation's file.
    Relation {
        /// Where its directory stands.
        place: Place<'a>,
        /// Oid of the database; 0 for relations that all databases share.
        database: u32,
        /// File number; not the relation's oid.
        relfilenode: u32,
        /// Which fork.
        fork: Fork,
        /// Segment, of 1 GiB as a rule.
        segment: u32,
        /// Number of the backend that it belongs to, if it is temporary.
        backend: Option<u32>,
    },
    /// A file of no relation.
    Pseudo(FileKind),
}

/// Directories of a data directory that hold no relations, and what they hold.
const DIRECTORIES: &[(&str, FileKind)] = &[
    ("pg_wal", FileKind::Wal),
    ("pg_xlog", FileKind::Wal),
    ("pgsql_tmp", FileKind::Temp),
    ("pg_xact", FileKind::Control),
    ("pg_clog", FileKind::Control),
    ("pg_multixact", FileKind::Control),
    ("pg_subtrans", FileKind::Control),
    ("pg_commit_ts", FileKind::Control),
    ("pg_twophase", FileKind::Control),
    ("pg_logical", FileKind::Control),
    ("pg_replslot", FileKind::Control),
    ("pg_notify", FileKind::Control),
    ("pg_serial", FileKind::Control),
    ("pg_snapshots", FileKind::Control),
    ("pg_stat", FileKind::Control),
    ("pg_stat_tmp", FileKind::Control),
    ("pg_dynshmem", FileKind::Control),
    ("log", FileKind::Other),
    ("pg_log", FileKind::Other),
];

/// Files that stand outside of those directories.
const FILES: &[&str] = &[
    "pg_control",
    "pg_filenode.map",
    "pg_internal.init",
    "PG_VERSION",
    "postmaster.pid",
    "postmaster.opts",
    "backup_label",
    "tablespace_map",
    "recovery.signal",
    "standby.signal",
];

/// Reads the end of a path; `None` if it is none of PostgreSQL's.
pub fn parse(path_tail: &str) -> Option<PgFile<'_>> {
    let mut names = path_tail.rsplit('/').filter(|name| !name.is_empty());
    let file = names.next()?;
    let parents: [Option<&str>; 4] = [names.next(), names.next(), names.next(), names.next()];
    if FILES.contains(&file) {
        return Some(PgFile::Pseudo(FileKind::Control));
    }
    // A directory of a relation is named by a number; that of anything else is in the table, and may be one
    // or two levels up: `pgsql_tmp/pgsql_tmp12.0.sharedfileset/0.0`, `pg_wal/archive_status/…`.
    if let Some(parent) = parents[0]
        && let Some(relation) = relation(file, parent, parents)
    {
        return Some(relation);
    }
    if let Some(kind) = parents[..3].iter().flatten().find_map(|name| directory(name)) {
        return Some(PgFile::Pseudo(kind));
    }
    if file.starts_with("pgsql_tmp") {
        return Some(PgFile::Pseudo(FileKind::Temp));
    }
    is_wal_segment(file).then_some(PgFile::Pseudo(FileKind::Wal))
}

fn directory(name: &str) -> Option<FileKind> {
    DIRECTORIES.iter().find(|(directory, _)| *directory == name).map(|(_, kind)| *kind)
}

fn is_wal_segment(file: &str) -> bool {
    let name = file.split('.').next().unwrap_or_default();
    name.len() == 24 && name.bytes().all(|byte| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte))
}

fn relation<'a>(file: &str, parent: &'a str, parents: [Option<&'a str>; 4]) -> Option<PgFile<'a>> {
    let (place, database) = if parent == "global" {
        (Place::Global, 0)
    } else {
        let database = number(parent).filter(|database| *database != 0)?;
        (place([parents[1], parents[2], parents[3]])?, database)
    };
    let (backend, rest) = match file.strip_prefix('t').and_then(|rest| rest.split_once('_')) {
        Some((backend, rest)) => (Some(number(backend)?), rest),
        None => (None, file),
    };
    let (rest, segment) = match rest.split_once('.') {
        Some((rest, segment)) => (rest, number(segment)?),
        None => (rest, 0),
    };
    let (relfilenode, fork) = match rest.split_once('_') {
        Some((relfilenode, "fsm")) => (relfilenode, Fork::Fsm),
        Some((relfilenode, "vm")) => (relfilenode, Fork::Vm),
        Some((relfilenode, "init")) => (relfilenode, Fork::Init),
        Some(_) => return None,
        None => (rest, Fork::Main),
    };
    let relfilenode = number(relfilenode).filter(|relfilenode| *relfilenode != 0)?;
    Some(PgFile::Relation { place, database, relfilenode, fork, segment, backend })
}

/// Where a database's directory stands, from the names above it.
fn place([above, higher, highest]: [Option<&str>; 3]) -> Option<Place<'_>> {
    match above {
        None => Some(Place::Somewhere),
        Some("base") => Some(Place::Base),
        Some(version) if version.starts_with("PG_") => Some(match (higher, highest) {
            (Some(oid), Some("pg_tblspc")) => Place::Tablespace(number(oid)?),
            (Some(directory), _) => Place::Directory(directory),
            (None, _) => Place::SomeTablespace,
        }),
        Some(_) => None,
    }
}

/// A number as PostgreSQL writes it: digits only, without a leading zero.
fn number(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

/// What a path says, in the terms of the catalog.
pub(crate) fn read(path_tail: &str) -> FileRef {
    match parse(path_tail) {
        None => FileRef::Nothing,
        Some(PgFile::Pseudo(kind)) => FileRef::Kind(kind),
        Some(PgFile::Relation { place, database, relfilenode, fork, backend, .. }) => {
            let kind = match fork {
                Fork::Fsm => Some(FileKind::Fsm),
                Fork::Vm => Some(FileKind::Vm),
                Fork::Main | Fork::Init => None,
            };
            let space = match place {
                Place::Base => Space::Oid(PG_DEFAULT),
                Place::Global => Space::Oid(PG_GLOBAL),
                Place::Tablespace(oid) => Space::Oid(oid),
                Place::Directory(name) => Space::Directory(Arc::from(name)),
                Place::SomeTablespace => Space::NotBase,
                Place::Somewhere => Space::Any,
            };
            FileRef::Of(FileKey::Relation { space, database, relfilenode, backend }, kind)
        }
    }
}

/// A directory without a catalog.
pub(crate) struct PathsOnly;

impl Directory for PathsOnly {
    fn read_path(&self, path_tail: &str) -> FileRef {
        read(path_tail)
    }

    fn file(&self, _: &FileKey) -> Option<Object> {
        None
    }

    fn relation(&self, _: u32, _: u32) -> Option<Object> {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn main(place: Place<'_>, database: u32, relfilenode: u32, segment: u32) -> PgFile<'_> {
        PgFile::Relation { place, database, relfilenode, fork: Fork::Main, segment, backend: None }
    }

    #[test]
    fn relations_are_read_from_what_the_kernel_gives() {
        for (path, place, database, relfilenode, segment) in [
            ("data/base/16384/16385.1", Place::Base, 16384, 16385, 1),
            ("base/16384/16385", Place::Base, 16384, 16385, 0),
            ("16384/16385", Place::Somewhere, 16384, 16385, 0),
            ("global/1262", Place::Global, 0, 1262, 0),
            ("ts/PG_15_202209061/16384/16385", Place::Directory("ts"), 16384, 16385, 0),
            ("16400/PG_15_202209061/16384/16385", Place::Directory("16400"), 16384, 16385, 0),
            ("pg_tblspc/16400/PG_15_202209061/16384/16385", Place::Tablespace(16400), 16384, 16385, 0),
            ("/PG_15_202209061/16384/16385", Place::SomeTablespace, 16384, 16385, 0),
        ] {
            assert_eq!(parse(path), Some(main(place, database, relfilenode, segment)), "{path}");
        }
        let relation = |fork, segment, backend| {
            let place = Place::Base;
            Some(PgFile::Relation { place, database: 16384, relfilenode: 16385, fork, segment, backend })
        };
        assert_eq!(parse("base/16384/16385_fsm"), relation(Fork::Fsm, 0, None));
        assert_eq!(parse("base/16384/16385_vm.2"), relation(Fork::Vm, 2, None));
        assert_eq!(parse("base/16384/16385_init"), relation(Fork::Init, 0, None));
        assert_eq!(parse("base/16384/t3_16385"), relation(Fork::Main, 0, Some(3)));
        assert_eq!(parse("base/16384/t3_16385_fsm.1"), relation(Fork::Fsm, 1, Some(3)));
    }

    #[test]
    fn files_of_no_relation_have_a_kind() {
        for (path, kind) in [
            ("base/pgsql_tmp/pgsql_tmp123.0", FileKind::Temp),
            ("base/pgsql_tmp/pgsql_tmp12.0.fileset/0.0", FileKind::Temp),
            ("pg_wal/000000010000000000000001", FileKind::Wal),
            ("data/pg_wal/archive_status/000000010000000000000001.done", FileKind::Wal),
            ("pg_wal/xlogtemp.123", FileKind::Wal),
            ("/mnt/wal/000000010000000000000001", FileKind::Wal),
            ("global/pg_control", FileKind::Control),
            ("global/pg_filenode.map", FileKind::Control),
            ("base/5/pg_filenode.map", FileKind::Control),
            ("base/5/pg_internal.init", FileKind::Control),
            ("pg_xact/0000", FileKind::Control),
            ("data/pg_multixact/offsets/0000", FileKind::Control),
            ("data/pg_replslot/a/xid-1-lsn-0-1.spill", FileKind::Control),
            ("data/log/postgresql.log", FileKind::Other),
        ] {
            assert_eq!(parse(path), Some(PgFile::Pseudo(kind)), "{path}");
        }
    }

    #[test]
    fn what_is_not_postgresqls_is_nothing() {
        for path in [
            "",
            "/",
            "etc/passwd",
            "home/16384/16385",
            "base/0/1",
            "base/5/abc",
            "base/5/12_x",
            "5/-1",
            "base/5/tx_1",
        ] {
            assert_eq!(parse(path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(path in "\\PC*") {
            let _ = parse(&path);
        }

        #[test]
        fn anything_like_a_path_is_read_or_refused(path in "[a-z0-9_./]{0,40}") {
            let _ = parse(&path);
        }

        #[test]
        fn a_relations_path_round_trips(
            database in 1u32.., relfilenode in 1u32.., segment in 0u32..100, fork in 0usize..4,
            backend in proptest::option::of(0u32..), prefix in "(|data/base/|base/|PG_15_202209061/|ts/PG_15_202209061/)",
        ) {
            let (name, fork) =
                [("", Fork::Main), ("_fsm", Fork::Fsm), ("_vm", Fork::Vm), ("_init", Fork::Init)][fork];
            let owner = backend.map_or_else(String::new, |backend| format!("t{backend}_"));
            let end = if segment == 0 { String::new() } else { format!(".{segment}") };
            let path = format!("{prefix}{database}/{owner}{relfilenode}{name}{end}");
            let place = match &*prefix {
                "" => Place::Somewhere,
                "PG_15_202209061/" => Place::SomeTablespace,
                "ts/PG_15_202209061/" => Place::Directory("ts"),
                _ => Place::Base,
            };
            prop_assert_eq!(
                parse(&path),
                Some(PgFile::Relation { place, database, relfilenode, fork, segment, backend })
            );
        }
    }
}
