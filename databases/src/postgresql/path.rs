//! Reads the end of a path below a PostgreSQL data directory. Pure: no file is touched, no catalog asked.
//!
//! The kernel gives at most the last few names of a path and, in a tablespace, those of the directory that
//! the link in `pg_tblspc` leads to; so the names are read from the end.

use crate::catalog::{Directory, FileKey, FileKind, FileRef, Object};

/// Fork of a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

/// What a path says about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PgFile {
    /// A relation's file.
    Relation {
        /// Oid of the database; 0 for relations that all databases share.
        database: u32,
        /// File number; not the relation's oid.
        relfilenode: u32,
        /// Which fork.
        fork: Fork,
        /// Segment, of 1 GiB as a rule.
        segment: u32,
        /// Whether it belongs to a temporary table.
        temporary: bool,
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
pub fn parse(path_tail: &str) -> Option<PgFile> {
    let mut names = path_tail.rsplit('/').filter(|name| !name.is_empty());
    let file = names.next()?;
    let parents: [Option<&str>; 3] = [names.next(), names.next(), names.next()];
    if FILES.contains(&file) {
        return Some(PgFile::Pseudo(FileKind::Control));
    }
    // A directory of a relation is named by a number; that of anything else is in the table, and may be one
    // or two levels up: `pgsql_tmp/pgsql_tmp12.0.sharedfileset/0.0`, `pg_wal/archive_status/…`.
    if let Some(parent) = parents[0]
        && let Some(relation) = relation(file, parent, parents[1])
    {
        return Some(relation);
    }
    if let Some(kind) = parents.iter().flatten().find_map(|name| directory(name)) {
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

fn relation(file: &str, parent: &str, grandparent: Option<&str>) -> Option<PgFile> {
    let database = if parent == "global" {
        0
    } else {
        let database = number(parent)?;
        let below = grandparent.is_none_or(|name| name == "base" || name.starts_with("PG_"));
        if !below || database == 0 {
            return None;
        }
        database
    };
    let (temporary, rest) = match file.strip_prefix('t').and_then(|rest| rest.split_once('_')) {
        Some((backend, rest)) => (number(backend).map(|_| true)?, rest),
        None => (false, file),
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
    Some(PgFile::Relation { database, relfilenode, fork, segment, temporary })
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
        // Temporary tables belong to one session and have no name that an operator would look for.
        Some(PgFile::Relation { temporary: true, .. }) => FileRef::Kind(FileKind::Temp),
        Some(PgFile::Relation { database, relfilenode, fork, .. }) => {
            let kind = match fork {
                Fork::Fsm => Some(FileKind::Fsm),
                Fork::Vm => Some(FileKind::Vm),
                Fork::Main | Fork::Init => None,
            };
            FileRef::Of(FileKey::Relation { database, relfilenode }, kind)
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

    fn main(database: u32, relfilenode: u32, segment: u32) -> PgFile {
        PgFile::Relation { database, relfilenode, fork: Fork::Main, segment, temporary: false }
    }

    #[test]
    fn relations_are_read_from_what_the_kernel_gives() {
        assert_eq!(parse("data/base/16384/16385.1"), Some(main(16384, 16385, 1)));
        assert_eq!(parse("base/16384/16385"), Some(main(16384, 16385, 0)));
        assert_eq!(parse("16384/16385"), Some(main(16384, 16385, 0)));
        assert_eq!(parse("global/1262"), Some(main(0, 1262, 0)));
        assert_eq!(parse("ts/PG_15_202209061/16384/16385"), Some(main(16384, 16385, 0)));
        let fork = |fork, segment| {
            Some(PgFile::Relation { database: 16384, relfilenode: 16385, fork, segment, temporary: false })
        };
        assert_eq!(parse("base/16384/16385_fsm"), fork(Fork::Fsm, 0));
        assert_eq!(parse("PG_15_202209061/16384/16385_vm.2"), fork(Fork::Vm, 2));
        assert_eq!(parse("base/16384/16385_init"), fork(Fork::Init, 0));
        let temporary = PgFile::Relation {
            database: 16384,
            relfilenode: 16400,
            fork: Fork::Main,
            segment: 0,
            temporary: true,
        };
        assert_eq!(parse("base/16384/t3_16400"), Some(temporary));
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
        for path in
            ["", "/", "etc/passwd", "home/16384/16385", "base/0/1", "base/5/abc", "base/5/12_x", "5/-1"]
        {
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
            temporary in any::<bool>(), prefix in "(|data/base/|base/|PG_15_202209061/)",
        ) {
            let (name, fork) =
                [("", Fork::Main), ("_fsm", Fork::Fsm), ("_vm", Fork::Vm), ("_init", Fork::Init)][fork];
            let backend = if temporary { "t7_" } else { "" };
            let end = if segment == 0 { String::new() } else { format!(".{segment}") };
            let path = format!("{prefix}{database}/{backend}{relfilenode}{name}{end}");
            prop_assert_eq!(
                parse(&path),
                Some(PgFile::Relation { database, relfilenode, fork, segment, temporary })
            );
        }
    }
}
