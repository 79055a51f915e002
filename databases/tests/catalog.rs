//! Which object a file belongs to, against a real PostgreSQL 15 primary and replica: hypertables, tablespaces, temporary
//! relations, many databases, 100,000 relations, and relations that come and go.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, tells by printing, and shares one costly cluster among its steps"
)]

#[path = "catalog/churn.rs"]
mod churn;
#[expect(dead_code, reason = "other tests use the rest")]
mod cluster;
#[path = "catalog/hypertables.rs"]
mod hypertables;
#[path = "catalog/many.rs"]
mod many;
#[path = "catalog/spaces.rs"]
mod spaces;

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use blameio_databases::{Database, FileKind, Object, Resolution};
use cluster::{Server, until, value};
use tokio_postgres::Client;

/// Table with schema, index, partition, kind.
type Name = (String, Option<String>, Option<String>, FileKind);

/// What a test expects of a file, in short.
pub(crate) fn name(table: &str, index: &str, partition: &str, kind: FileKind) -> Name {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    (table.to_owned(), some(index), some(partition), kind)
}

fn named(object: &Object) -> Name {
    let table = format!("{}.{}", object.schema, object.table);
    (table, object.index.clone(), object.partition.clone(), object.kind)
}

/// The object of a file, once it is known.
pub(crate) async fn resolved(database: &Database, path: &str) -> Arc<Object> {
    let reader = database.catalog();
    until(path, async || match reader.resolve(path) {
        Resolution::Object(object) => Some(object),
        Resolution::Kind(_) | Resolution::Pending | Resolution::Unresolved => None,
    })
    .await
}

/// What a file is called, once it is known.
pub(crate) async fn name_of(database: &Database, path: &str) -> Name {
    named(&*resolved(database, path).await)
}

/// The path of a relation's file as the kernel gives it: its last four names, links followed.
pub(crate) async fn tail(server: &Server, sql: &Client, relation: &str) -> String {
    let path: String = value(sql, &format!("SELECT pg_relation_filepath({relation}::regclass)")).await;
    last_names(&server.directory.join(path))
}

/// The last four names of a path, links of its directory followed.
pub(crate) fn last_names(path: &Path) -> String {
    let directory = std::fs::canonicalize(path.parent().unwrap()).unwrap();
    let path = directory.join(path.file_name().unwrap());
    let names: Vec<_> = path.iter().map(|name| name.to_string_lossy()).collect();
    names[names.len().saturating_sub(4)..].join("/")
}

/// A directory beside a server's own, which it may write to.
pub(crate) fn directory_beside(server: &Server, name: &str) -> PathBuf {
    let directory = server.directory.parent().unwrap().join(name);
    std::fs::create_dir_all(&directory).unwrap();
    let owner = std::fs::metadata(&server.directory).unwrap();
    nix::unistd::chown(&directory, Some(owner.uid().into()), Some(owner.gid().into())).unwrap();
    directory
}

/// Runs statements one by one, each in a transaction of its own.
pub(crate) async fn run(sql: &Client, statements: &str) {
    for statement in statements.split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
        sql.batch_execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    }
}
