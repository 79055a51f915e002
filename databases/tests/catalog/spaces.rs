//! Tablespaces, and relations that are stored in other ways than most: temporary, unlogged, mapped, shared.

use blameio_databases::{FileKind, Resolution};
use blameio_pipeline::Extension;

use crate::{
    cluster::{Cluster, value},
    directory_beside, name, name_of, resolved, run, tail,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_file_number_in_two_tablespaces_is_never_confused() {
    let Some(cluster) = Cluster::start("a_file_number_in_two_tablespaces_is_never_confused") else { return };
    // Both would use the same directory.
    cluster.down(&cluster.replica);
    let server = &cluster.primary;
    let admin = server.sql("postgres").await;
    for (space, directory) in [("fast", "fast"), ("slow", "a/same"), ("other", "b/same")] {
        let location = directory_beside(server, directory);
        run(&admin, &format!("CREATE TABLESPACE {space} LOCATION '{}'", location.display())).await;
    }
    run(&admin, "SET allow_in_place_tablespaces = on; CREATE TABLESPACE inside LOCATION ''").await;
    run(&admin, "CREATE DATABASE roomy TABLESPACE fast; CREATE DATABASE shop").await;
    let (shop, roomy) = (server.sql("shop").await, server.sql("roomy").await);
    let spaces = ["pg_default", "fast", "slow", "other", "inside"];
    for sql in [&shop, &roomy] {
        for space in spaces {
            run(sql, &format!("CREATE TABLE in_{space} (id int PRIMARY KEY) TABLESPACE {space}")).await;
        }
        run(sql, "CREATE TABLE in_default (id int)").await;
        // A number is unique in a tablespace only. No server makes this of itself before its numbers have wrapped.
        run(sql, "SET allow_system_table_mods = on; UPDATE pg_class SET relfilenode = 4000000000 WHERE relname LIKE 'in\\_%' AND relkind = 'r' AND relname <> 'in_default'").await;
    }
    let watched = server.watch(None).await;
    let database = &watched.database;
    for (sql, of) in [(&shop, "shop"), (&roomy, "roomy")] {
        for space in spaces {
            let table = format!("in_{space}");
            let path: String = value(sql, &format!("SELECT pg_relation_filepath('{table}')")).await;
            let path = crate::last_names(&server.directory.join(path));
            if space == "fast" && of == "roomy" {
                // In a database's own tablespace both kinds of tables are.
                let default = tail(server, sql, "'in_default'").await;
                assert_eq!(
                    name_of(database, &default).await,
                    name("public.in_default", "", "", FileKind::Heap)
                );
            }
            if ["slow", "other"].contains(&space) {
                // Two directories of one name: nothing in four names tells which, so nothing is said.
                assert!(path.starts_with("same/PG_15_"), "{path}");
                assert!(!matches!(database.catalog().resolve(&path), Resolution::Object(_)), "{path}");
                let key = tail(server, sql, &format!("'{table}_pkey'")).await;
                let index = name(&format!("public.{table}"), &format!("{table}_pkey"), "", FileKind::Index);
                assert_eq!(name_of(database, &key).await, index, "its index has a number of its own");
                // What the log calls it by is whole.
                let whole: String = value(sql, &format!("SELECT pg_relation_filepath('{table}')")).await;
                assert_eq!(resolved(database, &whole).await.table, table);
                continue;
            }
            let object = resolved(database, &path).await;
            assert_eq!((&*object.table, &*object.database), (&*table, of), "{path}");
        }
    }

    // What moves keeps its name at both places; so does a whole database.
    let old = tail(server, &shop, "'in_default'").await;
    resolved(database, &old).await;
    run(&shop, "ALTER TABLE in_default SET TABLESPACE inside").await;
    let new = tail(server, &shop, "'in_default'").await;
    assert_eq!(resolved(database, &new).await.table, "in_default");
    assert_eq!(resolved(database, &old).await.table, "in_default");
    run(&admin, "SET allow_in_place_tablespaces = on; CREATE TABLESPACE later LOCATION ''").await;
    run(&shop, "CREATE TABLE in_later (id int) TABLESPACE later").await;
    let later = tail(server, &shop, "'in_later'").await;
    assert_eq!(resolved(database, &later).await.table, "in_later");
    watched.extension.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn relations_of_every_kind_have_names() {
    let Some(cluster) = Cluster::start("relations_of_every_kind_have_names") else { return };
    let server = &cluster.primary;
    let sql = server.sql("postgres").await;
    let watched = server.watch(None).await;
    let database = &watched.database;
    let early = tail(server, &sql, "'pg_class'").await;
    assert_eq!(name_of(database, &early).await, name("pg_catalog.pg_class", "", "", FileKind::Catalog));
    run(
        &sql,
        "CREATE UNLOGGED TABLE fleeting (id int PRIMARY KEY, note text); CREATE SEQUENCE numbers;
         CREATE MATERIALIZED VIEW seen AS SELECT 1 AS one; CREATE INDEX seen_idx ON seen (one);
         CREATE TEMP TABLE mine (id int PRIMARY KEY, note text); VACUUM FULL pg_class",
    )
    .await;
    let (shared, public) = (FileKind::Catalog, |table| format!("public.{table}"));
    let toast = |table: &str| format!("(SELECT reltoastrelid FROM pg_class WHERE relname = '{table}')");
    for (relation, fork, expected) in [
        ("'fleeting'", "", name(&public("fleeting"), "", "", FileKind::Heap)),
        ("'fleeting'", "_init", name(&public("fleeting"), "", "", FileKind::Heap)),
        ("'fleeting_pkey'", "_init", name(&public("fleeting"), "fleeting_pkey", "", FileKind::Index)),
        (&*toast("fleeting"), "_init", name(&public("fleeting"), "", "", FileKind::Toast)),
        ("'numbers'", "", name(&public("numbers"), "", "", FileKind::Heap)),
        ("'seen'", "", name(&public("seen"), "", "", FileKind::Heap)),
        ("'seen_idx'", "", name(&public("seen"), "seen_idx", "", FileKind::Index)),
        ("'pg_class'", "", name("pg_catalog.pg_class", "", "", shared)),
        ("'pg_class_oid_index'", "", name("pg_catalog.pg_class", "pg_class_oid_index", "", shared)),
        ("'pg_database'", "", name("pg_catalog.pg_database", "", "", shared)),
        (
            "'pg_authid_rolname_index'",
            "",
            name("pg_catalog.pg_authid", "pg_authid_rolname_index", "", shared),
        ),
        ("'mine'", "", name("pg_temp.mine", "", "", FileKind::Temp)),
        ("'mine'", "_fsm", name("pg_temp.mine", "", "", FileKind::Temp)),
        ("'mine_pkey'", "", name("pg_temp.mine", "mine_pkey", "", FileKind::Temp)),
        (&*toast("mine"), "", name("pg_temp.mine", "", "", FileKind::Temp)),
    ] {
        let path = format!("{}{fork}", tail(server, &sql, relation).await);
        assert_eq!(name_of(database, &path).await, expected, "{relation} {path}");
    }
    assert_ne!(tail(server, &sql, "'pg_class'").await, early);
    assert_eq!(
        name_of(database, &early).await,
        name("pg_catalog.pg_class", "", "", shared),
        "its former file"
    );

    // A temporary table that nobody else can see yet is temporary all the same.
    let other = server.sql("postgres").await;
    other.batch_execute("BEGIN; CREATE TEMP TABLE hidden (id int)").await.unwrap();
    let hidden = tail(server, &other, "'hidden'").await;
    assert_eq!(database.catalog().resolve(&hidden), Resolution::Kind(FileKind::Temp));
    watched.extension.shutdown().await;
}
