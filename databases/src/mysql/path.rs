//! Reads the end of a path below a MySQL data directory. Pure: no file is touched, no server asked.
//!
//! Files name their table: `shop/orders.ibd`, `shop/orders#P#p0.ibd`. What does not is a file of the server's own.

use super::filename::decode;
use crate::catalog::FileKind;

/// What the server calls its files, as far as it was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The data directory, name by name.
    pub data_directory: Vec<String>,
    /// File name of the binary logs, without the number.
    pub binlog: Option<String>,
    /// File name of the relay logs, without the number.
    pub relay_log: Option<String>,
}

/// What a path says about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MyFile {
    /// A table's file.
    Table {
        /// Its database.
        database: String,
        /// The table.
        table: String,
        /// Its partition, with that partition's own after a `/`.
        partition: Option<String>,
        /// Rows, indexes or both.
        kind: FileKind,
    },
    /// A file of no table.
    Pseudo(FileKind),
}

/// Databases that the server itself keeps.
pub(super) const SYSTEM_DATABASES: &[&str] = &["mysql", "sys", "performance_schema", "information_schema"];

/// Files that are known by how their name begins.
const BEGINNINGS: &[(&str, FileKind)] = &[
    ("ibdata", FileKind::Other),
    ("ibtmp", FileKind::Temp),
    ("ib_logfile", FileKind::Redo),
    ("#ib_redo", FileKind::Redo),
    ("#ib_archive", FileKind::Redo),
    ("#sql-temptable", FileKind::Temp),
    ("#sql_", FileKind::Temp),
    // What ALTER TABLE makes: whose it is stands in no name.
    ("#sql", FileKind::Other),
    // Full-text indexes are known by the number of their table.
    ("fts_", FileKind::Other),
    ("FTS_", FileKind::Other),
    ("aria_log", FileKind::Control),
    ("ib_buffer_pool", FileKind::Other),
];

/// Files that are known by their name.
const FILES: &[(&str, FileKind)] = &[
    ("mysql.ibd", FileKind::Catalog),
    ("auto.cnf", FileKind::Control),
    ("master.info", FileKind::Control),
    ("multi-master.info", FileKind::Control),
    ("relay-log.info", FileKind::Control),
    ("ddl_recovery.log", FileKind::Control),
    ("tc.log", FileKind::Control),
];

/// Files that are known by what follows the last dot.
const ENDINGS: &[(&str, FileKind)] = &[
    ("dblwr", FileKind::Doublewrite),
    ("bdblwr", FileKind::Doublewrite),
    ("ibu", FileKind::Undo),
    ("ibt", FileKind::Temp),
    ("index", FileKind::Control),
    ("state", FileKind::Control),
    ("frm", FileKind::Control),
    ("par", FileKind::Control),
    ("opt", FileKind::Control),
    ("isl", FileKind::Control),
    ("cfg", FileKind::Control),
    ("sdi", FileKind::Control),
    ("TRG", FileKind::Control),
    ("TRN", FileKind::Control),
    ("sst", FileKind::Other),
];

/// Files of tables by what follows the last dot: of InnoDB rows and indexes are in one.
const TABLES: &[(&str, FileKind)] = &[
    ("ibd", FileKind::Heap),
    ("MYD", FileKind::Heap),
    ("MAD", FileKind::Heap),
    ("CSV", FileKind::Heap),
    ("ARZ", FileKind::Heap),
    ("MYI", FileKind::Index),
    ("MAI", FileKind::Index),
];

/// Reads the end of a path; `None` if it is none of MySQL's.
pub fn parse(path_tail: &str, names: &Names) -> Option<MyFile> {
    let mut parts = path_tail.rsplit('/').filter(|name| !name.is_empty());
    let file = parts.next()?;
    let parents: Vec<&str> = parts.collect();
    if let Some(kind) = of_server(file, &parents, names) {
        return Some(MyFile::Pseudo(kind));
    }
    let (stem, ending) = file.rsplit_once('.')?;
    let kind = named(TABLES, |name| name == ending)?;
    let database = *parents.first()?;
    if is_top(&parents, names) {
        // A tablespace of its own name, with any number of tables in it.
        return Some(MyFile::Pseudo(FileKind::Other));
    }
    let (table, partition) = split(stem);
    Some(MyFile::Table { database: decode(database), table, partition, kind })
}

fn named(table: &[(&str, FileKind)], is_it: impl Fn(&str) -> bool) -> Option<FileKind> {
    table.iter().find(|(name, _)| is_it(name)).map(|(_, kind)| *kind)
}

/// A file that the server keeps beside its tables.
fn of_server(file: &str, parents: &[&str], names: &Names) -> Option<FileKind> {
    if let Some(kind) = numbered(file, names) {
        return Some(kind);
    }
    match parents.first() {
        Some(&"#innodb_redo") => return Some(FileKind::Redo),
        Some(&"#innodb_temp") => return Some(FileKind::Temp),
        _ => {}
    }
    let by_name = named(FILES, |name| name == file);
    let by_name = by_name.or_else(|| named(BEGINNINGS, |beginning| file.starts_with(beginning)));
    if by_name.is_some() {
        // A table may be called so too; then it is in a database, and its name ends as a table's does.
        let (_, ending) = file.rsplit_once('.').unwrap_or_default();
        let is_table = !file.starts_with(['#', 'f', 'F']) && named(TABLES, |name| name == ending).is_some();
        return by_name.filter(|_| !is_table || file == "mysql.ibd");
    }
    let undo = file.strip_prefix("innodb_").unwrap_or(file).strip_prefix("undo");
    if undo.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_')) {
        return Some(FileKind::Undo);
    }
    let (_, ending) = file.rsplit_once('.')?;
    named(ENDINGS, |name| name == ending)
}

/// A binary or relay log: its name ends in a number of six digits at least.
fn numbered(file: &str, names: &Names) -> Option<FileKind> {
    let (stem, number) = file.rsplit_once('.')?;
    if number.len() < 6 || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if stem == "aria_log" {
        return Some(FileKind::Control);
    }
    let is = |name: &Option<String>| name.as_ref().is_some_and(|name| stem == name);
    // Of several sources each has its name after the common one.
    let is_of_source = names.relay_log.as_ref().is_some_and(|name| {
        stem.strip_prefix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    });
    if is(&names.binlog) {
        Some(FileKind::Binlog)
    } else if is_of_source || stem.contains("relay-bin") || stem.contains("relay-log") {
        Some(FileKind::Relaylog)
    } else {
        Some(FileKind::Binlog)
    }
}

/// Whether a file with these parents, innermost first, stands in the data directory itself.
fn is_top(parents: &[&str], names: &Names) -> bool {
    let directory = names.data_directory.iter().rev();
    !names.data_directory.is_empty()
        && parents.len() > 1
        && parents.iter().zip(directory).all(|(parent, name)| parent == name)
}

/// Table and partition of `orders#P#p0#SP#p0sp1`; MySQL 8 writes it small. A temporary ending of ALTER TABLE is dropped.
pub(super) fn split(stem: &str) -> (String, Option<String>) {
    let stem = ["#TMP#", "#tmp#", "#REN#", "#ren#"]
        .iter()
        .find_map(|ending| stem.strip_suffix(ending))
        .unwrap_or(stem);
    let cut = |text: &'_ str, marks: [&str; 2]| {
        let (before, after) = marks.iter().find_map(|mark| text.split_once(mark))?;
        Some((before.to_owned(), after.to_owned()))
    };
    let Some((table, partition)) = cut(stem, ["#P#", "#p#"]) else { return (decode(stem), None) };
    let partition = match cut(&partition, ["#SP#", "#sp#"]) {
        Some((partition, own)) => format!("{}/{}", decode(&partition), decode(&own)),
        None => decode(&partition),
    };
    (decode(&table), Some(partition))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names() -> Names {
        Names {
            data_directory: ["var", "lib", "mysql"].map(str::to_owned).to_vec(),
            binlog: Some("orders".to_owned()),
            relay_log: Some("mysqld-relay".to_owned()),
        }
    }

    fn table(database: &str, table: &str, partition: Option<&str>, kind: FileKind) -> MyFile {
        let partition = partition.map(str::to_owned);
        MyFile::Table { database: database.to_owned(), table: table.to_owned(), partition, kind }
    }

    #[test]
    fn a_file_names_its_table_and_partition() {
        for (path, database, name, partition, kind) in [
            ("data/shop/orders.ibd", "shop", "orders", None, FileKind::Heap),
            ("shop/orders.ibd", "shop", "orders", None, FileKind::Heap),
            ("lib/mysql/shop/we@0040ird@002dn@0kme.ibd", "shop", "we@ird-n\u{e4}me", None, FileKind::Heap),
            ("data/my@002dshop/part#P#p0.ibd", "my-shop", "part", Some("p0"), FileKind::Heap),
            ("data/shop/sub#P#PBig#SP#PBigsp0.ibd", "shop", "sub", Some("PBig/PBigsp0"), FileKind::Heap),
            ("data/shop/t1#p#p0#sp#s.ibd", "shop", "t1", Some("p0/s"), FileKind::Heap),
            ("data/shop/part#P#p0#TMP#.ibd", "shop", "part", Some("p0"), FileKind::Heap),
            ("data/shop/old.MYD", "shop", "old", None, FileKind::Heap),
            ("data/shop/old.MYI", "shop", "old", None, FileKind::Index),
            ("data/shop/aria.MAD", "shop", "aria", None, FileKind::Heap),
            ("data/shop/aria.MAI", "shop", "aria", None, FileKind::Index),
            ("data/shop/undo001.ibd", "shop", "undo001", None, FileKind::Heap),
            ("data/shop/ibdata1.ibd", "shop", "ibdata1", None, FileKind::Heap),
            ("lib/mysql/mysql/gtid_slave_pos.ibd", "mysql", "gtid_slave_pos", None, FileKind::Heap),
        ] {
            assert_eq!(parse(path, &names()), Some(table(database, name, partition, kind)), "{path}");
        }
    }

    #[test]
    fn files_of_no_table_have_a_kind() {
        for (path, kind) in [
            ("data/ibdata1", FileKind::Other),
            ("data/ib_logfile0", FileKind::Redo),
            ("data/#innodb_redo/#ib_redo12", FileKind::Redo),
            ("data/#innodb_redo/#ib_redo13_tmp", FileKind::Redo),
            ("data/undo_001", FileKind::Undo),
            ("data/undo001", FileKind::Undo),
            ("data/innodb_undo_001", FileKind::Undo),
            ("data/extra.ibu", FileKind::Undo),
            ("data/#ib_16384_0.dblwr", FileKind::Doublewrite),
            ("data/#ib_16384_1.bdblwr", FileKind::Doublewrite),
            ("data/ibtmp1", FileKind::Temp),
            ("data/#innodb_temp/temp_7.ibt", FileKind::Temp),
            ("tmp/#sql-temptable-1-2-3.MAD", FileKind::Temp),
            ("data/shop/#sql-ib57.ibd", FileKind::Other),
            ("data/shop/#sql-alter-1-2.ibd", FileKind::Other),
            ("data/shop/fts_000000000000010a_config.ibd", FileKind::Other),
            ("data/db7-bin.000017", FileKind::Binlog),
            ("data/orders.1000001", FileKind::Binlog),
            ("data/binlog.000001", FileKind::Binlog),
            ("data/db7-bin.index", FileKind::Control),
            ("data/db7-relay-bin.000002", FileKind::Relaylog),
            ("data/mysqld-relay.000002", FileKind::Relaylog),
            ("data/mysqld-relay-berlin.000002", FileKind::Relaylog),
            ("data/relay-log.info", FileKind::Control),
            ("data/master.info", FileKind::Control),
            ("data/aria_log.00000001", FileKind::Control),
            ("lib/mysql/mysql.ibd", FileKind::Catalog),
            ("lib/mysql/general.ibd", FileKind::Other),
            ("data/shop/orders.frm", FileKind::Control),
        ] {
            assert_eq!(parse(path, &names()), Some(MyFile::Pseudo(kind)), "{path}");
        }
        for path in ["", "etc/passwd", "orders.ibd", "/", "data/shop/orders"] {
            assert_eq!(parse(path, &names()), None, "{path:?}");
        }
    }

    proptest! {
        #[test]
        fn any_path_is_read_or_refused(path in "((shop|mysql|#|@|\\PC){0,6}/){0,5}(#P#|#SP#|@|\\PC){0,9}(\\.ibd|\\.MYI|\\.000001)?") {
            let _ = parse(&path, &names());
        }
    }
}
