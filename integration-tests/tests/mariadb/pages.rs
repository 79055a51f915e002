//! Every page of a tablespace that is read is counted for the index it belongs to: held against the server's own list of the
//! pages in its buffer pool, which was empty before.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use blameio::lab::{
    Recorder,
    mariadb::{MariaDb, sql},
};
use blameio_integration_tests::scene::{configuration, start_agent};
use mysql_async::Conn;

use super::scene::can_run;

const DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);
const PAGE: f64 = 16_384.0;

/// Tables that are read until the agent is seen to count.
const PROBE: &str = "probe_";
const PROBES: usize = 200;

/// Room for all pages: none is read twice.
const OPTIONS: [&str; 2] = ["--innodb-buffer-pool-size=512M", "--innodb-stats-auto-recalc=OFF"];

/// Tables of all kinds of pages, each with what reads all of it.
const SETUP: &[&str] = &[
    "CREATE DATABASE shop",
    // Sequences need a current one.
    "USE shop",
    "CREATE TABLE shop.many (id bigint PRIMARY KEY, a char(40), b char(80), c int, KEY by_a (a), KEY by_b (b, a), KEY by_c (c))",
    "INSERT INTO shop.many SELECT seq, MD5(seq), MD5(-seq), seq % 7 FROM seq_1_to_40000",
    "CREATE TABLE shop.compact (id int PRIMARY KEY, a char(60), KEY by_a (a)) ROW_FORMAT=COMPACT",
    "INSERT INTO shop.compact SELECT seq, MD5(seq) FROM seq_1_to_20000",
    "CREATE TABLE shop.redundant (id int PRIMARY KEY, a char(60), KEY by_a (a)) ROW_FORMAT=REDUNDANT",
    "INSERT INTO shop.redundant SELECT seq, MD5(seq) FROM seq_1_to_20000",
    "CREATE TABLE shop.zipped (id int PRIMARY KEY, a char(60), KEY by_a (a)) ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8",
    "INSERT INTO shop.zipped SELECT seq, MD5(seq) FROM seq_1_to_20000",
    "CREATE TABLE shop.parts (id int PRIMARY KEY, a char(60), KEY by_a (a)) PARTITION BY HASH (id) PARTITIONS 3",
    "INSERT INTO shop.parts SELECT seq, MD5(seq) FROM seq_1_to_20000",
    "CREATE TABLE shop.keyless (a char(60), KEY by_a (a))",
    "INSERT INTO shop.keyless SELECT MD5(seq) FROM seq_1_to_10000",
    "CREATE TABLE shop.instant (id int PRIMARY KEY, a char(60), KEY by_a (a))",
    "INSERT INTO shop.instant SELECT seq, MD5(seq) FROM seq_1_to_10000",
    "ALTER TABLE shop.instant ADD COLUMN late int NOT NULL DEFAULT 5 FIRST, ALGORITHM=INSTANT",
    "CREATE TABLE shop.large (id int PRIMARY KEY, body longblob)",
    "INSERT INTO shop.large SELECT seq, REPEAT(MD5(seq), 2000) FROM seq_1_to_200",
    "CREATE TABLE shop.spots (id int PRIMARY KEY, place point NOT NULL, SPATIAL KEY by_place (place))",
    "INSERT INTO shop.spots SELECT seq, POINT(seq % 100, seq / 100) FROM seq_1_to_5000",
    "CREATE TABLE shop.squeezed (id int PRIMARY KEY, a char(60), KEY by_a (a)) PAGE_COMPRESSED=1",
    "INSERT INTO shop.squeezed SELECT seq, REPEAT('a', 60) FROM seq_1_to_20000",
];

/// Large enough that pages are read ahead, in requests that another thread reaps.
const SCANS: &[&str] = &[
    "SELECT COUNT(c) FROM shop.many FORCE INDEX (PRIMARY)",
    "SELECT COUNT(a) FROM shop.many FORCE INDEX (by_a) WHERE a > ''",
    "SELECT COUNT(b) FROM shop.many FORCE INDEX (by_b) WHERE b > ''",
    "SELECT COUNT(c) FROM shop.many FORCE INDEX (by_c) WHERE c >= 0",
    "SELECT COUNT(a) FROM shop.compact FORCE INDEX (by_a) WHERE a > ''",
    "SELECT MAX(id + 1) FROM shop.compact FORCE INDEX (PRIMARY)",
    "SELECT COUNT(a) FROM shop.redundant FORCE INDEX (by_a) WHERE a > ''",
    "SELECT COUNT(a) FROM shop.zipped FORCE INDEX (by_a) WHERE a > ''",
    "SELECT COUNT(CONCAT(a, id)) FROM shop.zipped FORCE INDEX (PRIMARY)",
    "SELECT COUNT(a) FROM shop.parts FORCE INDEX (by_a) WHERE a > ''",
    "SELECT COUNT(CONCAT(a, id)) FROM shop.parts FORCE INDEX (PRIMARY)",
    "SELECT COUNT(a) FROM shop.keyless FORCE INDEX (by_a) WHERE a > ''",
    "SELECT COUNT(*), MAX(a) FROM shop.keyless IGNORE INDEX (by_a)",
    "SELECT COUNT(CONCAT(a, late)) FROM shop.instant FORCE INDEX (PRIMARY)",
    "SELECT COUNT(a) FROM shop.instant FORCE INDEX (by_a) WHERE a > ''",
    "SELECT COUNT(MD5(body)) FROM shop.large",
    "SELECT COUNT(*) FROM shop.spots FORCE INDEX (by_place) WHERE MBRContains(ST_GeomFromText('POLYGON((-1 -1, \
     -1 200, 200 200, 200 -1, -1 -1))'), place)",
    "SELECT COUNT(CONCAT(a, id)) FROM shop.squeezed FORCE INDEX (PRIMARY)",
];

/// Bytes read, by table and index.
type Read = BTreeMap<(String, String), f64>;

async fn rows<T: mysql_async::prelude::FromRow + Send + 'static>(
    client: &mut Conn,
    statement: &str,
) -> Vec<T> {
    use mysql_async::prelude::Queryable as _;
    client.query(statement).await.expect(statement)
}

/// What is in the buffer pool, as the server tells it. Pages that no index owns are left out.
async fn in_memory(client: &mut Conn) -> Read {
    let pages: Vec<(String, String, Option<String>, u64)> = rows(
        client,
        "SELECT t.NAME, p.PAGE_TYPE, p.INDEX_NAME, COUNT(*) FROM information_schema.INNODB_BUFFER_PAGE p \
         JOIN information_schema.INNODB_SYS_TABLESPACES t ON t.SPACE = p.SPACE WHERE t.NAME LIKE 'shop/%' \
         GROUP BY t.NAME, p.PAGE_TYPE, p.INDEX_NAME",
    )
    .await;
    let mut read = Read::new();
    for (name, kind, index, count) in pages {
        let file = name.strip_prefix("shop/").unwrap_or(&name);
        let table = file.split('#').next().unwrap_or(file).to_owned();
        let index = match (kind.as_str(), index) {
            _ if table == "squeezed" => "(hidden)".to_owned(),
            (_, Some(index)) => index,
            (kind, None) if kind.contains("BLOB") => "PRIMARY".to_owned(),
            // The only one; its list names indexes of the other kind.
            ("RTREE_INDEX", None) => "by_place".to_owned(),
            _ => continue,
        };
        let page = if table == "zipped" { PAGE / 2.0 } else { PAGE };
        *read.entry((table, index)).or_default() += count as f64 * page;
    }
    read
}

/// The same as the agent counted it.
fn counted(recorder: &Recorder) -> Read {
    let mut read = Read::new();
    for ((table, index, _, operation), bytes) in recorder.bytes() {
        // The server's own tables are not in its list of ours.
        if operation == "read" && !index.is_empty() && !table.starts_with("innodb_") {
            *read.entry((table, index)).or_default() += bytes;
        }
    }
    read
}

/// What came since; nothing that is 0.
fn since(before: &Read, now: &Read) -> Read {
    let grown = now.iter().map(|(key, bytes)| (key.clone(), bytes - before.get(key).copied().unwrap_or(0.0)));
    grown.filter(|((table, _), bytes)| *bytes > 0.0 && !table.starts_with(PROBE)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_that_is_read_is_counted_for_its_index() {
    if !can_run("every_page_that_is_read_is_counted_for_its_index") {
        return;
    }
    let directory = blameio::lab::directory(None).expect("a directory");
    let mut server = MariaDb::create(&directory.path().join("server"), 7, &OPTIONS).await.expect("a server");
    let mut client = sql::connect(&server.access()).await.expect("connected");
    for statement in SETUP {
        sql::execute(&mut client, statement).await.expect("made");
    }
    for number in 1..=PROBES {
        let probe = format!("CREATE TABLE shop.{PROBE}{number} (id int PRIMARY KEY)");
        sql::execute(&mut client, &probe).await.expect("made");
    }
    drop(client);
    // With nothing in memory.
    server.restart().await.expect("restarted");
    let mut client = sql::connect(&server.access()).await.expect("connected");
    let recorder = Arc::new(Recorder::default());
    let agent = start_agent(&[configuration(&server.dsn(), None)], &recorder).await;
    // Whether it counts by now a page tells that is not in memory yet.
    let mut unread = 1..=PROBES;
    while !counted(&recorder).keys().any(|(table, _)| table.starts_with(PROBE)) {
        let number = unread.next().unwrap_or_else(|| panic!("nothing is counted: {:?}", recorder.bytes()));
        let _none: Vec<u64> = rows(&mut client, &format!("SELECT id FROM shop.{PROBE}{number}")).await;
        tokio::time::sleep(POLL).await;
    }
    let (had, known) = (in_memory(&mut client).await, counted(&recorder));
    for scan in SCANS {
        let _answer: Vec<mysql_async::Row> = rows(&mut client, scan).await;
    }
    let truth = since(&had, &in_memory(&mut client).await);
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while since(&known, &counted(&recorder)) != truth && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(POLL).await;
    }
    let found = since(&known, &counted(&recorder));
    println!("pages by index: {} owners, {} KiB", truth.len(), truth.values().sum::<f64>() / 1024.0);
    for ((table, index), bytes) in &truth {
        let ours = found.get(&(table.clone(), index.clone())).copied().unwrap_or(0.0);
        println!("  {table}.{index}: {bytes} bytes in memory, {ours} counted");
    }
    agent.shutdown().await;
    drop(server);
    assert_eq!(found, truth);
    assert!(truth.len() >= 18, "tables of all kinds were read: {truth:?}");
}
