//! What this crate promises, against a real PostgreSQL 15 primary and replica.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, tells by printing, and shares one costly cluster among its steps"
)]

mod cluster;
mod identity;
mod mishaps;
mod told;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use blameio_config::Secret;
use blameio_databases::{
    Database, DatabaseExtension, DatabaseSettings, FileKind, Object, ReplicaSample, Resolution, WaitKind,
    database as database_of, discover,
};
use blameio_pipeline::{Extension, ServerView, ThreadRole};
use cluster::{Cluster, until, value, watch};

async fn resolved(database: &Database, path: &str) -> Arc<Object> {
    let reader = database.catalog();
    until(path, async || match reader.resolve(path) {
        Resolution::Object(object) => Some(object),
        Resolution::Kind(kind) => panic!("{path} is of no table: {kind:?}"),
        Resolution::Pending | Resolution::Unresolved => None,
    })
    .await
}

async fn view(database: &Database, what: &str, condition: impl Fn(&ServerView) -> bool) -> Arc<ServerView> {
    let server = database.server();
    until(what, async || Some(server.view()).filter(|view| condition(view))).await
}

async fn sampled(
    database: &Database,
    what: &str,
    condition: impl Fn(&ReplicaSample) -> bool,
) -> ReplicaSample {
    let sampler = database.replica();
    until(what, async || sampler.clone().sample().await.ok().filter(|sample| condition(sample))).await
}

fn waits(kind: WaitKind) -> impl Fn(&ReplicaSample) -> bool {
    move |sample| sample.wait.as_ref().is_some_and(|wait| wait.kind == kind)
}

fn count(view: &ServerView, role: ThreadRole) -> usize {
    view.processes.iter().filter(|process| process.role == role).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_named() {
    let Some(cluster) = Cluster::start("files_are_named") else { return };
    let admin = cluster.primary.sql("postgres").await;
    // One of them lets nobody in, which must not keep the others from being read.
    for database in ["shut", "shop", "second"] {
        admin.batch_execute(&format!("CREATE DATABASE {database}")).await.unwrap();
    }
    let shop = cluster.primary.sql("shop").await;
    let tables = "CREATE TABLE orders (id int PRIMARY KEY, note text);
        INSERT INTO orders SELECT i, repeat(md5(i::text), 200) FROM generate_series(1, 2000) i;
        ALTER TABLE orders ALTER note SET STORAGE EXTERNAL; UPDATE orders SET note = note || 'x'; VACUUM orders;
        CREATE TABLE events (at int, id int, PRIMARY KEY (at, id)) PARTITION BY RANGE (at);
        CREATE SCHEMA parts;
        CREATE TABLE parts.events_1 PARTITION OF events FOR VALUES FROM (0) TO (10);
        INSERT INTO events SELECT 1, i FROM generate_series(1, 100) i";
    for statement in tables.split(';') {
        shop.batch_execute(statement).await.unwrap();
    }
    cluster.primary.sql("second").await.batch_execute("CREATE TABLE stock (id int)").await.unwrap();
    cluster.caught_up().await;

    let watched = cluster.replica.watch(None).await;
    let database = &watched.database;
    let path = async |relation: &str| -> String {
        let sql = format!("SELECT pg_relation_filepath({relation}::regclass)");
        value(&shop, &sql).await
    };
    let toast = "(SELECT reltoastrelid FROM pg_class WHERE relname = 'orders')";
    let toast_index = format!("(SELECT indexrelid FROM pg_index WHERE indrelid = {toast})");
    for (relation, table, index, partition, kind) in [
        ("'orders'", "orders", None, None, FileKind::Heap),
        ("'orders_pkey'", "orders", Some("orders_pkey"), None, FileKind::Index),
        (toast, "orders", None, None, FileKind::Toast),
        (&*toast_index, "orders", None, None, FileKind::Toast),
        ("'parts.events_1'", "events", None, Some("events_1"), FileKind::Heap),
        ("'parts.events_1_pkey'", "events", Some("events_pkey"), Some("events_1"), FileKind::Index),
        ("'pg_class'", "pg_class", None, None, FileKind::Catalog),
        ("'pg_class_oid_index'", "pg_class", Some("pg_class_oid_index"), None, FileKind::Catalog),
    ] {
        let object = resolved(database, &format!("data/{}", path(relation).await)).await;
        assert_eq!(object.database, "shop");
        assert_eq!(object.namespace, format!("shop|{}", object.schema));
        assert_eq!(
            (&*object.table, object.index.as_deref(), object.partition.as_deref(), object.kind),
            (table, index, partition, kind)
        );
    }
    let orders = path("'orders'").await;
    assert_eq!(resolved(database, &format!("{orders}_fsm")).await.kind, FileKind::Fsm);
    assert_eq!(resolved(database, &format!("{orders}_vm")).await.kind, FileKind::Vm);
    assert_eq!(resolved(database, &format!("{orders}.7")).await.table, "orders");
    let shared = resolved(database, &path("'pg_database'").await).await;
    assert_eq!((&*shared.table, &*shared.database, shared.kind), ("pg_database", "", FileKind::Catalog));
    let second = cluster.primary.sql("second").await;
    let stock: String = value(&second, "SELECT pg_relation_filepath('stock')").await;
    assert_eq!(resolved(database, &stock).await.namespace, "second|public");

    // What has got a new file since the catalog was read is looked up when the file is first seen.
    shop.batch_execute("REINDEX INDEX orders_pkey").await.unwrap();
    shop.batch_execute("VACUUM FULL orders").await.unwrap();
    shop.batch_execute("CREATE TABLE parts.events_2 PARTITION OF events FOR VALUES FROM (10) TO (20)")
        .await
        .unwrap();
    admin.batch_execute("CREATE DATABASE third").await.unwrap();
    let third = cluster.primary.sql("third").await;
    third.batch_execute("CREATE TABLE late (id int)").await.unwrap();
    cluster.caught_up().await;
    let late: String = value(&third, "SELECT pg_relation_filepath('late')").await;
    for (path, table, index) in [
        (path("'orders'").await, "orders", None),
        (path("'orders_pkey'").await, "orders", Some("orders_pkey")),
        (path(&toast_index).await, "orders", None),
        (path("'parts.events_2_pkey'").await, "events", Some("events_pkey")),
        (late, "late", None),
    ] {
        assert_eq!(database.catalog().resolve(&path), Resolution::Pending, "{path}");
        let begun = Instant::now();
        let object = resolved(database, &path).await;
        assert_eq!((&*object.table, object.index.as_deref()), (table, index));
        assert!(begun.elapsed() < Duration::from_secs(5), "{table} took {:?}", begun.elapsed());
    }
    // The file that it had before may still be written.
    assert_eq!(resolved(database, &orders).await.table, "orders");
    let nobodys = format!("{}/4000000000", orders.rsplit_once('/').unwrap().0);
    assert_eq!(database.catalog().resolve(&nobodys), Resolution::Pending);
    let given_up = async || (database.catalog().resolve(&nobodys) == Resolution::Unresolved).then_some(());
    until("a file of nobody's is unresolved", given_up).await;
    watched.extension.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_are_known() {
    let Some(cluster) = Cluster::start("processes_are_known") else { return };

    let found = discover();
    let found =
        found.iter().find(|server| server.port == cluster.replica.port).expect("discovery finds the replica");
    assert_eq!(found.data_directory, cluster.replica.directory);
    assert_eq!(found.major_version, Some(15));
    assert!(found.system_identifier.is_some() && found.same_network && found.dsns.len() == 2);

    let watched = cluster.replica.watch(Some(&cluster.primary)).await;
    let database = &watched.database;
    let seen = view(database, "startup and walreceiver", |view| {
        view.critical.len() == 1 && count(view, ThreadRole::Receive) == 1
    })
    .await;
    let replica = cluster.replica.sql("postgres").await;
    let startup: i32 =
        value(&replica, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'startup'").await;
    assert_eq!(seen.critical, vec![startup.cast_unsigned()]);
    assert_eq!((count(&seen, ThreadRole::Checkpoint), count(&seen, ThreadRole::Writer)), (1, 1));

    // The same without SQL: the password is wrong, the data directory is known.
    let locked =
        Secret::new(format!("postgresql://locked:geheim@127.0.0.1:{}/postgres", cluster.replica.port));
    let data_directory = Some(cluster.replica.directory.clone());
    let blind = watch(DatabaseSettings { dsn: Some(locked), primary_dsn: None, data_directory }).await;
    let unseen = view(&blind.database, "roles without SQL", |view| view.critical == seen.critical).await;
    assert_eq!(count(&unseen, ThreadRole::Receive), 1);
    assert_eq!(
        unseen.identity.as_ref().map(|id| id.instance_id),
        seen.identity.as_ref().map(|id| id.instance_id)
    );
    blind.extension.shutdown().await;

    // And the same again without any settings, as discovery found it.
    let adopted = DatabaseExtension::discovered("database/adopted".parse().unwrap(), found).unwrap();
    adopted.start().await.unwrap();
    let handle = database_of(&adopted).unwrap();
    let adopted_view = view(handle, "a discovered server", |view| view.critical == seen.critical).await;
    let instance = |view: &ServerView| view.identity.as_ref().map(|id| id.instance_id);
    assert_eq!(instance(&adopted_view), instance(&seen));
    assert_eq!(adopted_view.identity.as_ref().unwrap().service_name, "adopted");
    sampled(handle, "SQL over the socket", |sample| sample.in_recovery).await;
    adopted.shutdown().await;

    watched.extension.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_is_watched() {
    let Some(cluster) = Cluster::start("replay_is_watched") else { return };
    let primary = cluster.primary.sql("postgres").await;
    primary.batch_execute("CREATE TABLE orders (id int PRIMARY KEY, n int)").await.unwrap();
    primary.batch_execute("INSERT INTO orders SELECT i, i FROM generate_series(1, 1000) i").await.unwrap();
    cluster.caught_up().await;
    let watched = cluster.replica.watch(Some(&cluster.primary)).await;
    let database = &watched.database;
    let replica = cluster.replica.sql("postgres").await;
    let startup: i32 =
        value(&replica, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'startup'").await;

    let before = sampled(database, "a first sample", |sample| sample.apply_thread.is_some()).await;
    assert!(before.in_recovery && !before.paused);
    assert_eq!((before.apply_thread, before.timeline), (Some(startup.cast_unsigned()), Some(1)));
    sampled(database, "an idle replica is starved", waits(WaitKind::Starved)).await;
    primary.batch_execute("INSERT INTO orders SELECT i, i FROM generate_series(1001, 2000) i").await.unwrap();
    let flushed = database.primary().expect("primary_dsn is set").flushed().await.unwrap();
    assert_eq!(flushed.timeline, 1);
    let after =
        sampled(database, "replay reaches the primary", |sample| sample.replayed >= Some(flushed.flushed))
            .await;
    assert!(after.replayed > before.replayed && after.received >= after.replayed);
    assert!(after.last_replayed_commit_age.is_some_and(|age| age < Duration::from_secs(30)));
    let info = database.replica().info().await.unwrap();
    assert_eq!(info.upstream, Some(format!("127.0.0.1:{}", cluster.primary.port)));
    assert_eq!(
        (info.slot.as_deref(), info.streaming, info.intended_delay),
        (Some("seat"), true, Duration::ZERO)
    );

    let mut costs = Vec::new();
    for _ in 0..500 {
        let begun = Instant::now();
        database.replica().sample().await.unwrap();
        costs.push(begun.elapsed());
    }
    costs.sort();
    eprintln!("a sample: median {:?}, 99th percentile {:?}", costs[250], costs[495]);

    replica.batch_execute("SELECT pg_wal_replay_pause()").await.unwrap();
    primary.batch_execute("UPDATE orders SET n = 0 WHERE id = 1").await.unwrap();
    sampled(database, "pause is seen", |sample| {
        sample.paused && waits(WaitKind::Paused)(sample) && sample.received > sample.replayed
    })
    .await;
    replica.batch_execute("SELECT pg_wal_replay_resume()").await.unwrap();
    cluster.caught_up().await;

    // A reader holds the table's lock, and replay needs it.
    let reader = cluster.replica.sql("postgres").await;
    let holder: i32 = value(&reader, "SELECT pg_backend_pid()").await;
    reader.batch_execute("BEGIN; SELECT count(*) FROM orders").await.unwrap();
    primary.batch_execute("ALTER TABLE orders ADD note text").await.unwrap();
    let named = |sample: &ReplicaSample| sample.wait.as_ref().is_some_and(|wait| wait.object.is_some());
    let locked =
        sampled(database, "the lock is seen", |sample| waits(WaitKind::Lock)(sample) && named(sample)).await;
    let wait = locked.wait.unwrap();
    assert_eq!(
        (wait.object.unwrap().table.as_str(), wait.holder, wait.own),
        ("orders", Some(holder.cast_unsigned()), false)
    );
    reader.batch_execute("COMMIT").await.unwrap();
    cluster.caught_up().await;

    // A reader's snapshot needs rows that replay would remove.
    reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM orders").await.unwrap();
    primary.batch_execute("DELETE FROM orders WHERE id > 10").await.unwrap();
    primary.batch_execute("VACUUM (TRUNCATE off) orders").await.unwrap();
    let held = sampled(database, "the conflict is seen", waits(WaitKind::Conflict)).await;
    assert_eq!(held.wait.unwrap().holder, Some(holder.cast_unsigned()));
    reader.batch_execute("COMMIT").await.unwrap();
    cluster.caught_up().await;

    replica.batch_execute("ALTER SYSTEM SET recovery_min_apply_delay = '3s'").await.unwrap();
    replica.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    until("the delay is set", async || {
        let info = database.replica().info().await.ok()?;
        (info.intended_delay == Duration::from_secs(3)).then_some(())
    })
    .await;
    primary.batch_execute("UPDATE orders SET n = 1 WHERE id = 1").await.unwrap();
    sampled(database, "the delay is seen", waits(WaitKind::Delayed)).await;

    let findings = database.check().await;
    assert!(findings.iter().all(|finding| finding.ok), "{findings:?}");
    watched.extension.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_named_for_a_conflict_is_the_one_whose_end_lets_replay_go_on() {
    let test = "who_is_named_for_a_conflict_is_the_one_whose_end_lets_replay_go_on";
    let Some(cluster) = Cluster::start(test) else { return };
    let admin = cluster.primary.sql("postgres").await;
    for database in ["one", "two"] {
        admin.batch_execute(&format!("CREATE DATABASE {database}")).await.unwrap();
        let sql = cluster.primary.sql(database).await;
        let table = "CREATE TABLE t AS SELECT i FROM generate_series(1, 1000) i";
        sql.batch_execute(table).await.unwrap();
    }
    let watched = cluster.replica.watch(None).await;
    let open = async |database: &str| {
        cluster.caught_up().await;
        let sql = cluster.replica.sql(database).await;
        sql.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t").await.unwrap();
        let pid: i32 = value(&sql, "SELECT pg_backend_pid()").await;
        (sql, pid.cast_unsigned())
    };
    let (elsewhere, _) = open("one").await;
    let primary = cluster.primary.sql("two").await;
    primary.batch_execute("UPDATE t SET i = -1 WHERE i = 1").await.unwrap();
    let (holder, pid) = open("two").await;
    primary.batch_execute("DELETE FROM t WHERE i > 10").await.unwrap();
    primary.batch_execute("VACUUM (TRUNCATE off) t").await.unwrap();
    let conflict = waits(WaitKind::Conflict);
    let held = sampled(&watched.database, "the conflict is seen", &conflict).await;
    // It may be a session of either database, and the older one is not it.
    assert_eq!(held.wait.unwrap().holder, None);
    // Who comes later, with a snapshot as old, is not in the way either.
    let newcomer = cluster.replica.sql("two").await;
    newcomer.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t").await.unwrap();
    elsewhere.batch_execute("COMMIT").await.unwrap();
    let named = sampled(&watched.database, "somebody is named", |sample| {
        conflict(sample) && sample.wait.as_ref().is_some_and(|wait| wait.holder.is_some())
    })
    .await;
    assert_eq!(named.wait.unwrap().holder, Some(pid));
    holder.batch_execute("COMMIT").await.unwrap();
    cluster.caught_up().await;
    watched.extension.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_are_left_alone_and_found_again() {
    let Some(cluster) = Cluster::start("servers_are_left_alone_and_found_again") else { return };
    let primary = cluster.primary.sql("postgres").await;
    primary.batch_execute("CREATE DATABASE doomed").await.unwrap();
    primary.batch_execute("CREATE ROLE blameio LOGIN").await.unwrap();
    cluster.caught_up().await;

    // At most two connections, whatever is asked for at the same time.
    let watched = cluster.replica.watch(None).await;
    let running = Arc::new(AtomicBool::new(true));
    let mut askers = Vec::new();
    for _ in 0..3 {
        let (database, running) = (watched.database.clone(), Arc::clone(&running));
        askers.push(tokio::spawn(async move {
            let mut file = 3_000_000_000_u32;
            while running.load(Ordering::Relaxed) {
                drop(database.replica().sample().await);
                database.catalog().resolve(&format!("base/5/{file}"));
                file += 1;
            }
        }));
    }
    let replica = cluster.replica.sql("postgres").await;
    let mut most = 0;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(4) {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'blameio'";
        most = most.max(value::<i64>(&replica, sql).await);
    }
    assert!((1..=2).contains(&most), "{most} connections");

    // Nobody sits in a database that is to go, on the primary or on the replica.
    let on_primary = cluster.primary.watch(None).await;
    view(&on_primary.database, "the primary is watched", |view| view.identity.is_some()).await;
    primary.batch_execute("DROP DATABASE doomed").await.unwrap();
    cluster.caught_up().await;
    assert_eq!(value::<i64>(&replica, "SELECT count(*) FROM pg_database WHERE datname = 'doomed'").await, 0);
    on_primary.extension.shutdown().await;

    let old = view(&watched.database, "the replica is watched", |view| view.critical.len() == 1).await;
    cluster.down(&cluster.replica);
    view(&watched.database, "the replica is gone", |view| view.processes.is_empty()).await;
    cluster.up(&cluster.replica);
    let new = view(&watched.database, "the replica is back", |view| view.critical.len() == 1).await;
    assert_eq!((new.identity.clone(), new.incarnation), (old.identity.clone(), old.incarnation + 1));
    assert_ne!(new.critical, old.critical);
    sampled(&watched.database, "samples come again", |sample| {
        sample.in_recovery && sample.apply_thread.is_some()
    })
    .await;

    running.store(false, Ordering::Relaxed);
    for asker in askers {
        asker.await.unwrap();
    }
    watched.extension.shutdown().await;
    let replica = cluster.replica.sql("postgres").await;
    until("all connections are closed", async || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'blameio'";
        (value::<i64>(&replica, sql).await == 0).then_some(())
    })
    .await;

    // What is refused is said with what mends it and without what is secret.
    let wrong =
        Secret::new(format!("postgresql://locked:geheim@127.0.0.1:{}/postgres", cluster.replica.port));
    let refused = watch(DatabaseSettings { dsn: Some(wrong), ..DatabaseSettings::default() }).await;
    let error = refused.database.replica().sample().await.unwrap_err();
    let findings = refused.database.check().await;
    let told = format!("{error} {error:?} {findings:?} {refused:?}", refused = refused.database);
    assert!(told.contains("28P01") && told.contains("ALTER ROLE locked PASSWORD"), "{told}");
    assert!(!told.contains("geheim") && !told.contains("postgresql://"), "{told}");
    refused.extension.shutdown().await;

    // A role that may little still gets positions, and the SQL that gives it the rest.
    let dsn = Some(cluster.replica.dsn("blameio"));
    let humble = watch(DatabaseSettings { dsn, ..DatabaseSettings::default() }).await;
    let sample =
        sampled(&humble.database, "positions need no grant", |sample| sample.replayed.is_some()).await;
    assert!(sample.in_recovery);
    let findings = humble.database.check().await;
    let remedies: Vec<_> = findings.iter().filter_map(|finding| finding.remedy.as_deref()).collect();
    assert!(
        remedies.contains(&"on the primary (a replica has it by replication): GRANT pg_monitor TO blameio;"),
        "{findings:?}"
    );
    humble.extension.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sslmode_means_what_libpq_means() {
    let Some(cluster) = Cluster::start("sslmode_means_what_libpq_means") else { return };
    let Some(authority) = cluster.with_tls("sslmode_means_what_libpq_means").await else { return };
    let authority = authority.display().to_string().replace('/', "%2F");
    let sample = async |host: &str, options: &str| {
        let port = cluster.replica.port;
        let dsn = Some(Secret::new(format!("postgresql://postgres@{host}:{port}/postgres?{options}")));
        let watched = watch(DatabaseSettings { dsn, ..DatabaseSettings::default() }).await;
        let sampled = watched.database.replica().sample().await;
        let encrypted = cluster.replica.sql("postgres").await;
        let sql = "SELECT coalesce(bool_or(ssl), false) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
            WHERE application_name = 'blameio'";
        let encrypted: bool = value(&encrypted, sql).await;
        watched.extension.shutdown().await;
        sampled.map(|_| encrypted).map_err(|error| error.to_string())
    };
    let trusted = |mode: &str| format!("sslmode={mode}&sslrootcert={authority}");
    assert_eq!(sample("127.0.0.1", "sslmode=disable").await, Ok(false));
    assert_eq!(sample("127.0.0.1", "").await, Ok(true));
    assert_eq!(sample("127.0.0.1", "sslmode=require").await, Ok(true));
    assert_eq!(sample("127.0.0.1", &trusted("verify-ca")).await, Ok(true));
    assert_eq!(sample("localhost", &trusted("verify-full")).await, Ok(true));
    for (host, options) in [
        ("127.0.0.1", trusted("verify-full")),
        ("localhost", "sslmode=verify-full".to_owned()),
        ("localhost", "sslmode=verify-ca".to_owned()),
    ] {
        let refused = sample(host, &options).await.unwrap_err();
        assert!(refused.contains("sslrootcert"), "{host} {options}: {refused}");
    }
}
