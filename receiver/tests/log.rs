//! The work in a real replica's log, against what `pg_waldump` says of it.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, tells by printing, and shares one costly cluster among its steps"
)]

#[path = "../../databases/tests/cluster/mod.rs"]
#[expect(dead_code, reason = "the tests of another crate use more of it")]
mod cluster;

use std::{collections::BTreeMap, path::Path, process::Command};

use blameio_databases::{LogFormat, LogPositions, LogReader, Stretch, Work, WorkOn};
use blameio_pipeline::Extension;
use cluster::{Cluster, until, value};
use tokio_postgres::Client;

/// Work by path.
type ByPath = BTreeMap<String, Work>;

const FORMAT: LogFormat = LogFormat { major: 15, catalog: 202_209_061 };

async fn position(client: &Client, function: &str) -> u64 {
    let sql = format!("SELECT ({function}() - '0/0')::int8");
    value::<i64>(client, &sql).await.cast_unsigned()
}

fn lsn(position: u64) -> String {
    format!("{:X}/{:X}", position >> 32, position & 0xFFFF_FFFF)
}

/// What `pg_waldump` says of the log from one position to the next.
fn told(data: &Path, start: u64, end: u64) -> ByPath {
    let output = Command::new("/usr/lib/postgresql/15/bin/pg_waldump")
        .args(["-p", &data.join("pg_wal").display().to_string(), "-s", &lsn(start), "-e", &lsn(end)])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let mut told = ByPath::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        for at in 0..words.len() {
            if words[at] == "blkref" {
                let relation: Vec<&str> = words[at + 3].trim_end_matches(',').split('/').collect();
                let fork =
                    if words[at + 4] == "fork" { format!("_{}", words[at + 5]) } else { String::new() };
                let path = match relation[..] {
                    ["1663", database, file] => format!("base/{database}/{file}{fork}"),
                    ["1664", _, file] => format!("global/{file}{fork}"),
                    [space, database, file] => {
                        format!("pg_tblspc/{space}/PG_15_202209061/{database}/{file}{fork}")
                    }
                    _ => panic!("{line}"),
                };
                told.entry(path).or_default().blocks += 1;
            }
        }
        let is_end = line.starts_with("rmgr: Transaction");
        if let Some((_, rest)) = line.split_once("; rels: ").filter(|_| is_end) {
            let drops = rest.split(';').next().unwrap().split_ascii_whitespace();
            drops.for_each(|path| told.entry(path.to_owned()).or_default().drops += 1);
        }
    }
    assert!(!told.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    told
}

fn counted(stretches: &[Stretch]) -> ByPath {
    let mut counted = ByPath::new();
    for (object, work) in stretches.iter().flat_map(|stretch| &stretch.objects) {
        let WorkOn::File(file) = object else { panic!("{object:?} is no file") };
        let sum = counted.entry(file.path(FORMAT)).or_default();
        sum.blocks += work.blocks;
        sum.drops += work.drops;
    }
    counted
}

/// Reads until the log is read up to a position.
async fn read(reader: &mut LogReader, replica: &Client, start: u64, end: u64) -> Vec<Stretch> {
    let mut stretches: Vec<Stretch> = Vec::new();
    let begun = std::time::Instant::now();
    while stretches.last().is_none_or(|stretch| stretch.end < end) {
        assert!(begun.elapsed() < std::time::Duration::from_secs(30), "the log is not read up to {end:X}");
        let positions = LogPositions {
            received: Some(position(replica, "pg_last_wal_receive_lsn").await),
            replayed: Some(start),
            timeline: Some(1),
        };
        let look = reader.look(positions).await.unwrap();
        assert_eq!(look.skipped, 0);
        stretches.extend(look.stretches);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    stretches
}

async fn run(client: &Client, statements: &str) {
    for statement in statements.split('|').filter(|statement| !statement.trim().is_empty()) {
        client.batch_execute(statement).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_work_read_from_a_replicas_log_is_what_pg_waldump_says() {
    let Some(cluster) = Cluster::start("the_work_read_from_a_replicas_log") else { return };
    let primary = cluster.primary.sql("postgres").await;
    let replica = cluster.replica.sql("postgres").await;
    run(
        &primary,
        "CREATE TABLE orders (id int PRIMARY KEY, a int, b text)
         | CREATE INDEX orders_a ON orders (a) | CREATE INDEX orders_b ON orders (b)
         | INSERT INTO orders SELECT i, i, md5(i::text) FROM generate_series(1, 5000) i
         | SET allow_in_place_tablespaces = on | CREATE TABLESPACE far LOCATION ''
         | CREATE TABLE remote (id int) TABLESPACE far |
         DO $$BEGIN FOR i IN 1..50 LOOP EXECUTE format('CREATE TABLE gone_%s (id int PRIMARY KEY)', i); END LOOP; END$$",
    )
    .await;
    cluster.caught_up().await;
    let watched = cluster.replica.watch(None).await;
    until("the server is found on this host", async || {
        watched.database.server().view().data_directory.clone()
    })
    .await;
    let mut reader = watched.database.log();

    // Compressed images, records of many pages, a switch of the segment, and more than one look's worth.
    let start = position(&replica, "pg_last_wal_replay_lsn").await;
    run(
        &primary,
        "UPDATE orders SET a = a + 1 WHERE id <= 1000 | SELECT pg_switch_wal() | SET wal_compression = on | CHECKPOINT
         | UPDATE orders SET b = concat(b, 'x') WHERE id > 4000 | INSERT INTO remote SELECT generate_series(1, 100)
         | SELECT pg_logical_emit_message(false, 'm', repeat('x', 3000000)) |
         DO $$BEGIN FOR i IN 1..50 LOOP EXECUTE format('DROP TABLE gone_%s', i); END LOOP; END$$
         | VACUUM orders | SET wal_compression = lz4 | CHECKPOINT
         | INSERT INTO orders SELECT i, i, md5(i::text) FROM generate_series(5001, 60000) i
         | SET wal_compression = zstd | CHECKPOINT | DELETE FROM orders WHERE id % 3 = 0 | TRUNCATE remote",
    )
    .await;
    cluster.caught_up().await;
    let end = position(&replica, "pg_last_wal_replay_lsn").await;
    assert!(end - start > 8 << 20, "more than one look reads");
    let stretches = read(&mut reader, &replica, start, end).await;
    let last = stretches.last().unwrap().end;
    assert_eq!(counted(&stretches), told(&cluster.replica.directory, start, last));
    assert!(stretches.windows(2).all(|pair| pair[0].end == pair[1].start), "without a gap");
    let many = stretches.iter().find(|stretch| stretch.is_whole).unwrap();
    let drops: u64 = many.objects.iter().map(|(_, work)| work.drops).sum();
    assert_eq!(drops, 100, "50 tables and their indexes go at one record");

    // A restart of the replica loses and repeats nothing.
    replica.batch_execute("ALTER SYSTEM SET allow_in_place_tablespaces = on").await.unwrap();
    cluster.down(&cluster.replica);
    run(&primary, "UPDATE orders SET a = a + 1 WHERE id BETWEEN 30000 AND 31000").await;
    cluster.up(&cluster.replica);
    cluster.caught_up().await;
    let replica = cluster.replica.sql("postgres").await;
    let end = position(&replica, "pg_last_wal_replay_lsn").await;
    let begun = std::time::Instant::now();
    let mut more: Vec<Stretch> = Vec::new();
    while more.last().is_none_or(|stretch| stretch.end < end) {
        assert!(begun.elapsed() < std::time::Duration::from_secs(30), "the log is not read after a restart");
        let positions = LogPositions { received: Some(end), replayed: Some(end), timeline: None };
        if let Ok(look) = reader.look(positions).await {
            assert_eq!(look.skipped, 0);
            more.extend(look.stretches);
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let upto = more.last().unwrap().end;
    assert_eq!(counted(&more), told(&cluster.replica.directory, last, upto));
    watched.extension.shutdown().await;
    eprintln!("{} stretches and {} more compared", stretches.len(), more.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_no_catalog_ever_shows_are_counted_as_the_tables() {
    let Some(cluster) = Cluster::start("files_that_no_catalog_ever_shows") else { return };
    let primary = cluster.primary.sql("postgres").await;
    let replica = cluster.replica.sql("postgres").await;
    run(&primary, "CREATE TABLE queue (id int PRIMARY KEY, what text) | CREATE TABLE other (id int)").await;
    cluster.caught_up().await;
    let watched = cluster.replica.watch(None).await;
    until("the server is found on this host", async || {
        watched.database.server().view().data_directory.clone()
    })
    .await;
    let path = async |relation: &str| {
        value::<String>(&primary, &format!("SELECT pg_relation_filepath('{relation}')")).await
    };
    let (heap, index) = (path("queue").await, path("queue_pkey").await);
    let catalog = watched.database.catalog();
    for path in [&heap, &index] {
        until("the catalog is read", async || {
            matches!(catalog.resolve(path), blameio_databases::Resolution::Object(_)).then_some(())
        })
        .await;
    }
    let mut reader = watched.database.log();
    let start = position(&replica, "pg_last_wal_replay_lsn").await;
    run(
        &primary,
        "DO $$BEGIN FOR i IN 1..100 LOOP INSERT INTO queue VALUES (i, 'x'); TRUNCATE queue; COMMIT; END LOOP; END$$
         | BEGIN | TRUNCATE queue, other | COMMIT",
    )
    .await;
    let two = [path("queue").await, path("other").await];
    run(&primary, "INSERT INTO queue VALUES (1, 'x') | INSERT INTO other VALUES (1)").await;
    cluster.caught_up().await;
    let end = position(&replica, "pg_last_wal_replay_lsn").await;
    let counted = counted(&read(&mut reader, &replica, start, end).await);
    assert!(counted[&heap].blocks >= 100 && counted[&index].blocks >= 100, "{counted:?}");
    assert_eq!((counted[&heap].drops, counted[&index].drops), (101, 101));
    // Which of two that were emptied together a file belongs to, nobody says.
    assert!(two.iter().all(|path| counted[path].blocks > 0), "{counted:?}");
    watched.extension.shutdown().await;
}
