//! The database side against a real MariaDB primary and replica.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking and tells by printing"
)]

mod mariadb_cluster;

use std::collections::BTreeMap;

use blameio_config::Secret;
use blameio_databases::{
    Database, DatabaseError, DatabaseExtension, DiscoveredServer, FileKind, LogPositions, LogReader,
    ReplicaSample, Resolution, Stretch, WaitKind, WorkOn, database, discover,
};
use blameio_pipeline::{Extension, ThreadRole};
use mariadb_cluster::{Cluster, Server, until, watch};
use mysql_async::{Conn, prelude::Queryable};

fn discovered(server: &Server) -> DiscoveredServer {
    let found = discover().into_iter().find(|found| found.pid == server.pid());
    found.expect("a server that runs is found")
}

async fn sampled(
    database: &Database,
    what: &str,
    mut is_it: impl FnMut(&ReplicaSample) -> bool,
) -> ReplicaSample {
    let mut replica = database.replica();
    let mut last = None;
    let begun = std::time::Instant::now();
    while begun.elapsed().as_secs() < 30 {
        match replica.sample().await {
            Ok(sample) if is_it(&sample) => return sample,
            other => last = Some(other),
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("not in 30 s: {what}; the last one was {last:?}")
}

fn kind(sample: &ReplicaSample) -> Option<WaitKind> {
    sample.wait.as_ref().map(|wait| wait.kind)
}

async fn run(sql: &mut Conn, statements: &[&str]) {
    for statement in statements {
        sql.query_drop(*statement).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_found_without_configuration_and_followed_through_a_restart() {
    let Some(mut cluster) = Cluster::start("discovery").await else { return };
    let (primary, replica) = (discovered(&cluster.primary), discovered(&cluster.replica));
    for (found, server) in [(&primary, &cluster.primary), (&replica, &cluster.replica)] {
        assert_eq!((found.system, found.port), ("mariadb", server.port));
        assert_eq!(found.socket.as_ref(), Some(&server.socket));
        assert_eq!(found.data_directory, server.directory);
        assert_eq!((found.major_version, found.dsns.len(), found.same_network), (Some(10), 1, true));
    }
    assert!(replica.is_standby && !primary.is_standby);

    let extension = DatabaseExtension::discovered("database/found".parse().unwrap(), &replica).unwrap();
    extension.start().await.unwrap();
    let database = database(&extension).unwrap();
    let sample = sampled(database, "its SQL thread is seen", |sample| sample.apply_thread.is_some()).await;
    let server = database.server();
    let view = until("its threads have roles", async || {
        let view = server.view();
        (!view.critical.is_empty()).then_some(view)
    })
    .await;
    assert_eq!(
        view.critical,
        [sample.apply_thread.unwrap()],
        "the test and the server share a pid namespace"
    );
    let role = |role| view.threads.iter().filter(|thread| thread.role == role).count();
    assert_eq!((role(ThreadRole::Apply), role(ThreadRole::Receive)), (1, 1));
    assert!(role(ThreadRole::Client) >= 1, "the agent's own session is a client: {:?}", view.threads);
    assert_eq!(view.processes.iter().map(|process| process.pid).collect::<Vec<_>>(), [replica.pid]);
    let identity = view.identity.clone().unwrap();
    assert_eq!(
        (identity.system, identity.port, identity.service_name.as_str()),
        ("mariadb", replica.port, "found")
    );

    cluster.replica.down().await;
    until("it is seen to be down", async || server.view().processes.is_empty().then_some(())).await;
    cluster.replica.up().await;
    let after = until("it is found again", async || {
        let view = server.view();
        (!view.critical.is_empty()).then_some(view)
    })
    .await;
    assert_eq!(after.incarnation, view.incarnation + 1);
    assert_eq!(after.identity.as_ref().map(|identity| identity.instance_id), Some(identity.instance_id));
    let again = sampled(database, "it answers again", |sample| sample.apply_thread.is_some()).await;
    assert_eq!(after.critical, [again.apply_thread.unwrap()]);
    extension.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_of_both_sides_grow_and_become_equal_through_rotations() {
    let Some(cluster) = Cluster::start("positions").await else { return };
    let watched = watch(cluster.replica.dsn(), Some(cluster.primary.dsn())).await;
    let database = &watched.database;
    let mut source = database.primary().unwrap();
    let mut sql = cluster.primary.sql().await;
    let mut last = (0, 0);
    for round in 0..4u32 {
        run(&mut sql, &["INSERT INTO shop.orders SELECT MAX(id) + 1, 7 FROM shop.orders"]).await;
        if round > 0 {
            run(&mut sql, &["FLUSH BINARY LOGS", "FLUSH BINARY LOGS"]).await;
        }
        cluster.caught_up().await;
        let written = source.flushed().await.unwrap();
        let sample =
            sampled(database, "all is applied", |sample| sample.replayed == Some(written.flushed)).await;
        assert_eq!((sample.received, sample.timeline), (Some(written.flushed), Some(written.timeline)));
        assert!(sample.in_recovery && !sample.paused);
        assert!(written.flushed > last.0, "{written:?} is not after {last:?}");
        // Two files that were rotated at once are a few hundred bytes.
        assert!(round == 0 || written.flushed - last.0 < 10_000, "{written:?} is far from {last:?}");
        last = (written.flushed, written.timeline);
    }
    assert_eq!(last.1, 101, "the timeline is the server id of the source");
    let info = database.replica().info().await.unwrap();
    assert_eq!(info.upstream, Some(format!("127.0.0.1:{}", cluster.primary.port)));
    assert!(info.streaming && info.intended_delay.is_zero() && info.slot.is_none());

    let mut replica = cluster.replica.sql().await;
    run(&mut replica, &["STOP SLAVE", "RESET SLAVE"]).await;
    run(&mut sql, &["RESET MASTER"]).await;
    run(&mut replica, &["CHANGE MASTER TO MASTER_LOG_FILE='log.000001', MASTER_LOG_POS=4", "START SLAVE"])
        .await;
    run(&mut sql, &["INSERT INTO shop.orders VALUES (1000, 7)"]).await;
    let written = source.flushed().await.unwrap();
    assert_ne!(written.timeline, last.1, "logs that began anew cannot be compared");
    sampled(database, "all is applied on the new timeline", |sample| {
        (sample.replayed, sample.timeline) == (Some(written.flushed), Some(written.timeline))
    })
    .await;

    // The replica is no source of its own.
    let wrong = watch(cluster.replica.dsn(), Some(cluster.replica.tcp("repl:x"))).await;
    drop(wrong.database.replica().sample().await.unwrap());
    run(&mut sql, &["GRANT BINLOG MONITOR ON *.* TO repl@'127.0.0.1'"]).await;
    let error = wrong.database.primary().unwrap().flushed().await.unwrap_err();
    assert!(matches!(error.root(), DatabaseError::NotUpstream { .. }), "{error}");
    wrong.extension.shutdown().await;
    watched.extension.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_sql_thread_waits_for_is_told() {
    let Some(cluster) = Cluster::start("waits").await else { return };
    let watched = watch(cluster.replica.dsn(), None).await;
    let database = &watched.database;
    let (mut primary, mut replica) = (cluster.primary.sql().await, cluster.replica.sql().await);
    let idle =
        sampled(database, "it has nothing to do", |sample| kind(sample) == Some(WaitKind::Starved)).await;
    assert_eq!(idle.received, idle.replayed);
    assert!(idle.apply_thread.is_some());

    let mut holder = cluster.replica.sql().await;
    run(&mut holder, &["BEGIN", "UPDATE shop.orders SET x = 9 WHERE id = 1"]).await;
    run(&mut primary, &["UPDATE shop.orders SET x = 5 WHERE id = 1"]).await;
    let locked = sampled(database, "it waits for a row", |sample| kind(sample) == Some(WaitKind::Lock)).await;
    let wait = locked.wait.unwrap();
    assert_eq!(
        wait.object.map(|object| (object.namespace.clone(), object.table.clone())),
        Some(("shop".into(), "orders".into()))
    );
    assert_eq!((wait.holder, wait.own), (Some(holder.id()), false));
    assert!(locked.replayed < locked.received);
    run(&mut holder, &["ROLLBACK"]).await;
    sampled(database, "it goes on", |sample| kind(sample) == Some(WaitKind::Starved)).await;

    run(&mut holder, &["BEGIN", "SELECT * FROM shop.orders"]).await;
    run(&mut primary, &["ALTER TABLE shop.orders ADD COLUMN y INT"]).await;
    let locked =
        sampled(database, "it waits for the table", |sample| kind(sample) == Some(WaitKind::Lock)).await;
    assert!(locked.replayed < locked.received);
    run(&mut holder, &["ROLLBACK"]).await;
    sampled(database, "it goes on", |sample| kind(sample) == Some(WaitKind::Starved)).await;

    run(&mut replica, &["STOP SLAVE SQL_THREAD"]).await;
    run(&mut primary, &["UPDATE shop.orders SET x = 6 WHERE id = 1"]).await;
    let paused = sampled(database, "it is stopped and more arrives", |sample| {
        sample.paused && sample.replayed < sample.received
    })
    .await;
    assert_eq!((kind(&paused), paused.apply_thread), (Some(WaitKind::Paused), None));

    run(&mut replica, &["STOP SLAVE", "CHANGE MASTER TO MASTER_DELAY = 600", "START SLAVE"]).await;
    let delayed = sampled(database, "it is delayed", |sample| kind(sample) == Some(WaitKind::Delayed)).await;
    assert!(delayed.replayed < delayed.received && delayed.apply_thread.is_some());
    assert_ne!(delayed.apply_thread, idle.apply_thread, "it is another thread now");
    assert_eq!(database.replica().info().await.unwrap().intended_delay.as_secs(), 600);

    run(&mut replica, &["STOP SLAVE", "RESET SLAVE ALL"]).await;
    let promoted = sampled(database, "it is no replica any more", |sample| !sample.in_recovery).await;
    assert_eq!((promoted.received, promoted.wait), (None, None));
    watched.extension.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_told_what_it_lacks() {
    let Some(cluster) = Cluster::start("grants").await else { return };
    let mut sql = cluster.primary.sql().await;
    run(&mut sql, &["CREATE USER agent@'127.0.0.1' IDENTIFIED BY 'geheim'"]).await;
    cluster.caught_up().await;
    let watched = watch(cluster.replica.tcp("agent:geheim"), None).await;
    let told = async |missing: &[&str]| {
        let findings = watched.database.check().await;
        let remedies: Vec<_> = findings.iter().filter_map(|finding| finding.remedy.clone()).collect();
        assert_eq!(remedies.len(), missing.len(), "{findings:?}");
        for (remedy, missing) in remedies.iter().zip(missing) {
            let grant = format!("GRANT {missing} ON *.* TO 'agent'@'127.0.0.1';");
            assert!(remedy.ends_with(&grant), "{remedy}");
        }
        remedies
    };
    let remedies = told(&["SLAVE MONITOR", "PROCESS"]).await;
    // What is told mends it.
    for remedy in remedies {
        let (_, grant) = remedy.split_once(": ").unwrap();
        sql.query_drop(grant).await.unwrap();
    }
    cluster.caught_up().await;
    watched.extension.shutdown().await;
    let watched = watch(cluster.replica.tcp("agent:geheim"), Some(cluster.primary.tcp("agent:geheim"))).await;
    let findings = watched.database.check().await;
    let missing: Vec<_> = findings.iter().filter(|finding| !finding.ok).collect();
    assert_eq!(missing.len(), 1, "{findings:?}");
    assert!(missing[0].what.contains("BINLOG MONITOR"), "{findings:?}");
    run(&mut sql, &["GRANT BINLOG MONITOR ON *.* TO agent@'127.0.0.1'"]).await;
    watched.extension.shutdown().await;
    let watched = watch(cluster.replica.tcp("agent:geheim"), Some(cluster.primary.tcp("agent:geheim"))).await;
    let findings = watched.database.check().await;
    assert!(findings.iter().all(|finding| finding.ok), "{findings:?}");
    let seen = until("it is found by its port", async || {
        let view = watched.database.server().view();
        view.data_directory.is_some().then_some(view)
    })
    .await;
    assert_eq!(seen.processes.len(), 1);
    watched.extension.shutdown().await;

    for (dsn, code) in [(cluster.replica.tcp("agent:wrong"), "1045"), (cluster.replica.tcp("agent"), "1045")]
    {
        let watched = watch(dsn, None).await;
        let error = watched.database.replica().sample().await.unwrap_err();
        let told = error.root().to_string();
        assert!(told.contains(code) && !told.contains("wrong") && !told.contains("geheim"), "{told}");
        watched.extension.shutdown().await;
    }
    let down = watch(Secret::new("mysql://agent@127.0.0.1:1/"), None).await;
    let error = down.database.replica().sample().await.unwrap_err();
    assert!(matches!(error.root(), DatabaseError::Connect { .. }), "{error}");
    down.extension.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_the_server_have_their_names() {
    let Some(cluster) = Cluster::start("files").await else { return };
    let mut sql = cluster.primary.sql().await;
    run(
        &mut sql,
        &[
            "SET NAMES utf8mb4",
            "CREATE DATABASE `my-shop`",
            "CREATE TABLE `my-shop`.`we@ird-näme \u{416} \u{4e2d}` (id INT PRIMARY KEY)",
            "CREATE TABLE `my-shop`.part (id INT PRIMARY KEY) PARTITION BY RANGE (id) \
             (PARTITION p0 VALUES LESS THAN (10), PARTITION `P-1` VALUES LESS THAN MAXVALUE)",
            "CREATE TABLE `my-shop`.old (id INT PRIMARY KEY) ENGINE=MyISAM",
        ],
    )
    .await;
    cluster.caught_up().await;
    let watched = watch(cluster.replica.dsn(), None).await;
    let catalog = watched.database.catalog();
    let directory = &cluster.replica.directory;
    let mut named = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir(directory.join("my@002dshop")).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let tail = format!("tmp/replica/my@002dshop/{file}");
        if let Resolution::Object(object) = catalog.resolve(&tail) {
            assert_eq!((object.namespace.as_str(), object.schema.as_str()), ("my-shop", ""));
            named.insert((object.table.clone(), object.partition.clone(), object.kind));
        }
    }
    let expected = [
        ("old", None, FileKind::Heap),
        ("old", None, FileKind::Index),
        ("part", Some("P-1"), FileKind::Heap),
        ("part", Some("p0"), FileKind::Heap),
        ("we@ird-n\u{e4}me \u{416} \u{4e2d}", None, FileKind::Heap),
    ];
    let expected =
        expected.map(|(table, partition, kind)| (table.to_owned(), partition.map(str::to_owned), kind));
    assert_eq!(named, expected.into_iter().collect());
    until("the server has told what it calls its logs", async || {
        let own = catalog.resolve("tmp/replica/log.000001") == Resolution::Kind(FileKind::Binlog);
        let relay = catalog.resolve("tmp/replica/relay-bin.000002") == Resolution::Kind(FileKind::Relaylog);
        (own && relay).then_some(())
    })
    .await;
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let file = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_file() && file != "server.pid" {
            let resolved = catalog.resolve(&format!("tmp/replica/{file}"));
            let known = matches!(resolved, Resolution::Kind(_)) || file == "mysql_upgrade_info";
            assert!(known, "{file}: {resolved:?}");
        }
    }
    watched.extension.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ssl_mode_means_what_it_says() {
    const TEST: &str = "ssl-mode";
    let Some(mut cluster) = Cluster::start(TEST).await else { return };
    let mut sql = cluster.primary.sql().await;
    run(
        &mut sql,
        &[
            "CREATE USER agent@'127.0.0.1' IDENTIFIED BY 'geheim'",
            "GRANT SLAVE MONITOR ON *.* TO agent@'127.0.0.1'",
        ],
    )
    .await;
    cluster.caught_up().await;
    let asked = async |server: &Server, options: &str| {
        let dsn = format!("{}?{options}", server.tcp("agent:geheim").expose());
        let watched = watch(Secret::new(dsn), None).await;
        let answer = watched.database.replica().sample().await;
        watched.extension.shutdown().await;
        answer.map(drop).map_err(|error| error.root().to_string())
    };
    let without = asked(&cluster.replica, "ssl-mode=REQUIRED").await.unwrap_err();
    assert!(without.contains("has no TLS"), "{without}");
    assert_eq!(asked(&cluster.replica, "ssl-mode=PREFERRED").await, Ok(()));

    cluster.replica.down().await;
    let Some(certificate) = cluster.replica.with_tls(TEST) else { return };
    cluster.replica.up().await;
    run(&mut sql, &["ALTER USER agent@'127.0.0.1' REQUIRE SSL"]).await;
    cluster.caught_up().await;
    let trusted = format!("ssl-mode=VERIFY_IDENTITY&ssl-ca={}", certificate.display());
    for (options, refused) in [
        ("", None),
        ("ssl-mode=REQUIRED", None),
        (trusted.as_str(), None),
        ("ssl-mode=DISABLED", Some("1045")),
        ("ssl-mode=VERIFY_IDENTITY", Some("ertificate")),
    ] {
        match (asked(&cluster.replica, options).await, refused) {
            (Ok(()), None) => {}
            (Err(error), Some(reason)) if error.contains(reason) => {}
            (other, _) => panic!("{options}: {other:?}"),
        }
    }
}

/// Looks until a position is read; the bytes of rows by table.
async fn rows_until(log: &mut LogReader, from: &ReplicaSample, end: u64) -> BTreeMap<String, (u64, u64)> {
    let positions = |received| LogPositions {
        received: Some(received),
        replayed: from.replayed,
        timeline: from.timeline,
    };
    let mut read = 0;
    let mut rows: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    until("the relay log is read", async || {
        // The look is made because there may be more, not because it is known to be there.
        let look = log.look(positions(end + read)).await.unwrap();
        read += 1;
        assert_eq!(look.skipped, 0);
        for Stretch { start, end: until, is_whole, objects, .. } in &look.stretches {
            assert!(start < until && *is_whole);
            for (object, work) in objects {
                let WorkOn::Table(table) = object else { panic!("{object:?} is no table") };
                let row = rows.entry(format!("{}.{}", table.namespace, table.table)).or_default();
                *row = (row.0 + work.bytes, row.1 + work.sought);
            }
        }
        look.stretches.last().is_some_and(|stretch| stretch.end >= end).then_some(())
    })
    .await;
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_log_names_the_tables_whose_rows_are_changed_and_their_bytes() {
    let Some(mut cluster) = Cluster::start("relay log").await else { return };
    let watched = watch(cluster.replica.dsn(), Some(cluster.primary.dsn())).await;
    let database = &watched.database;
    let mut source = database.primary().unwrap();
    let (mut sql, mut replica) = (cluster.primary.sql().await, cluster.replica.sql().await);
    let begin = [
        "USE shop",
        "SET SESSION binlog_format = ROW",
        "CREATE TABLE shop.keyless (a INT, b INT)",
        "CREATE TABLE shop.`ge-teilt` (a INT, b INT) PARTITION BY HASH (a) PARTITIONS 2",
        "CREATE TABLE shop.unique_key (a INT NOT NULL UNIQUE, b INT)",
    ];
    run(&mut sql, &begin).await;
    cluster.caught_up().await;
    until("its processes are found", async || database.server().view().data_directory.clone()).await;
    let from = sampled(database, "where it stands", |sample| sample.replayed.is_some()).await;
    let mut log = database.log();
    let positions =
        LogPositions { received: from.received, replayed: from.replayed, timeline: from.timeline };
    log.look(positions).await.unwrap();

    // The applier stands still: what is received is read before it is applied.
    run(&mut replica, &["STOP SLAVE SQL_THREAD"]).await;
    let changes = [
        "INSERT INTO shop.keyless SELECT seq, seq % 10 FROM seq_1_to_5000",
        "UPDATE shop.keyless SET a = a + 1 WHERE b = 3",
        "FLUSH BINARY LOGS",
        "INSERT INTO shop.`ge-teilt` VALUES (1, 1), (2, 2), (3, 3)",
        "DELETE FROM shop.keyless WHERE b = 4",
        "INSERT INTO shop.unique_key SELECT seq, seq FROM seq_1_to_100",
    ];
    run(&mut sql, &changes).await;
    let end = source.flushed().await.unwrap().flushed;
    sampled(database, "all is received", |sample| sample.received >= Some(end)).await;
    let rows = rows_until(&mut log, &from, end).await;
    // A row of two INTs has nine bytes, and an update has two of them.
    let expected = [
        ("shop.ge-teilt", (3 * 9, 0)),
        ("shop.keyless", (5000 * 9 + 500 * 18 + 500 * 9, 500 * 18 + 500 * 9)),
        ("shop.unique_key", (100 * 9, 0)),
    ];
    assert_eq!(rows, expected.map(|(table, bytes)| (table.to_owned(), bytes)).into());

    // A replica that is started again has other relay logs, and receives again what it did not apply.
    cluster.replica.down().await;
    cluster.replica.up().await;
    cluster.caught_up().await;
    // The primary may have told since that it needs a log no more.
    let from = sampled(database, "all is applied", |sample| sample.replayed >= Some(end)).await;
    until("its processes are found again", async || {
        let view = database.server().view();
        view.processes.iter().any(|process| process.pid == cluster.replica.pid()).then_some(())
    })
    .await;
    let mut log = database.log();
    let mut sql = cluster.primary.sql().await;
    run(&mut sql, &["SET SESSION binlog_format = ROW", "UPDATE shop.orders SET x = x + 1"]).await;
    cluster.caught_up().await;
    let end = source.flushed().await.unwrap().flushed;
    let rows = rows_until(&mut log, &from, end).await;
    assert_eq!(rows.get("shop.orders"), Some(&(2 * 18, 2 * 18)), "{rows:?}");

    let without: Vec<String> =
        database.tables_without_key().await.unwrap().into_iter().map(|table| table.table).collect();
    assert_eq!(without, ["ge-teilt", "keyless"]);
    let findings = database.check().await;
    let told = findings.iter().find(|finding| finding.what.contains("without a primary key")).unwrap();
    assert!(told.ok && told.what.ends_with("shop.ge-teilt, shop.keyless"), "{told:?}");
    watched.extension.shutdown().await;
}
