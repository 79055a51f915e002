//! Thousands of relations that are made, rewritten, emptied and dropped on a primary, while files of its replica are
//! looked up as they appear; and replay, which must not wait for the agent.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use blameio_databases::{CatalogReader, Resolution};
use blameio_pipeline::Extension;
use tokio_postgres::Client;

use crate::cluster::{Cluster, until, value};

/// How long relations come and go.
const CHURN: Duration = Duration::from_secs(12);
/// Within this time of its commit a file must have a name.
const NAMED: Duration = Duration::from_secs(5);
/// Relations that one transaction makes or drops.
const BATCH: usize = 100;
/// How long a relation is left alone at least, between two changes.
const REST: Duration = Duration::from_millis(800);
/// Processes that change relations.
const WORKERS: usize = 3;

/// What the primary knows of a file: its table, its index, and when it was committed.
#[derive(Clone, Debug)]
struct Truth {
    table: String,
    index: Option<String>,
    /// A position behind its commit.
    position: i64,
}

/// When which position was replayed.
type Replayed = Arc<Mutex<Vec<(Instant, i64)>>>;

type Truths = Arc<Mutex<HashMap<u32, Truth>>>;

/// What was said of a file.
#[derive(Debug)]
struct Seen {
    size: u64,
    named: Option<(Instant, String, Option<String>)>,
    /// The first time that it was said to be nobody's.
    given_up: Option<Instant>,
}

/// Keeps what files some tables have now, with those of their TOAST.
async fn record(sql: &Client, truths: &Truths, prefix: &str) {
    let position = value(sql, "SELECT (pg_current_wal_insert_lsn() - '0/0')::int8").await;
    let rows = sql
        .query(
            "SELECT f.relfilenode, t.relname::text, CASE WHEN f.relkind = 'i' AND f.relname LIKE 'churn%' THEN f.relname::text END
             FROM pg_class t JOIN pg_class f ON f.oid = t.oid OR f.oid = t.reltoastrelid
             OR f.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid IN (t.oid, t.reltoastrelid))
             WHERE t.relkind = 'r' AND t.relname LIKE $1 AND f.relfilenode <> 0",
            &[&format!("{prefix}%")],
        )
        .await
        .unwrap();
    let mut truths = truths.lock().unwrap();
    for row in rows {
        let truth = Truth { table: row.get(1), index: row.get(2), position };
        truths.entry(row.get(0)).or_insert(truth);
    }
}

/// Makes relations in batches and takes each batch through its life. Returns how many relations it made.
async fn work(sql: Client, worker: usize, truths: Truths, made: Arc<AtomicUsize>) {
    let begun = Instant::now();
    let mut batch = 0;
    while begun.elapsed() < CHURN {
        let prefix = format!("churn_{worker}_{batch}_");
        let each =
            |statement: &str| format!("DO $$BEGIN FOR i IN 1..{BATCH} LOOP {statement}; END LOOP; END$$");
        let execute = |template: &str| each(&format!("EXECUTE format('{template}', '{prefix}' || i)"));
        sql.batch_execute(&execute("CREATE TABLE %1$I (id int PRIMARY KEY, note text)")).await.unwrap();
        made.fetch_add(BATCH * 2, Ordering::Relaxed);
        for statement in [
            "INSERT INTO %1$I SELECT n, repeat(md5(n::text), 4) FROM generate_series(1, 40) n",
            "REINDEX TABLE %1$I",
            "TRUNCATE %1$I",
            "INSERT INTO %1$I SELECT n, md5(n::text) FROM generate_series(1, 40) n",
        ] {
            sql.batch_execute(&execute(statement)).await.unwrap();
            record(&sql, &truths, &prefix).await;
            tokio::time::sleep(REST).await;
        }
        let few: Vec<_> = (1..=BATCH / 10).map(|i| format!("{prefix}{i}")).collect();
        sql.batch_execute(&format!("VACUUM FULL {}", few.join(", "))).await.unwrap();
        record(&sql, &truths, &prefix).await;
        tokio::time::sleep(REST).await;
        sql.batch_execute(&execute("DROP TABLE %1$I")).await.unwrap();
        batch += 1;
    }
}

/// Looks at a directory as the kernel's probes would tell of it, and asks for every file until it has a name.
async fn observe(
    directory: std::path::PathBuf,
    database: u32,
    reader: CatalogReader,
    seen: Arc<Mutex<BTreeMap<u32, Seen>>>,
    running: Arc<AtomicBool>,
) {
    while running.load(Ordering::Relaxed) {
        for entry in std::fs::read_dir(&directory).unwrap().flatten() {
            let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if number < 16_384 {
                continue;
            }
            let size = entry.metadata().map_or(0, |metadata| metadata.len());
            let mut seen = seen.lock().unwrap();
            let file = seen.entry(number).or_insert(Seen { size, named: None, given_up: None });
            file.size = file.size.max(size);
        }
        let unnamed: Vec<u32> = {
            let seen = seen.lock().unwrap();
            seen.iter().filter(|(_, file)| file.named.is_none()).map(|(number, _)| *number).collect()
        };
        for number in unnamed {
            let resolution = reader.resolve(&format!("data/base/{database}/{number}"));
            let mut seen = seen.lock().unwrap();
            let Some(file) = seen.get_mut(&number) else { continue };
            match resolution {
                Resolution::Object(object) => {
                    file.named = Some((Instant::now(), object.table.clone(), object.index.clone()));
                }
                Resolution::Unresolved => drop(file.given_up.get_or_insert_with(Instant::now)),
                Resolution::Pending | Resolution::Kind(_) => {}
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Watches the startup process, and returns the longest time at a stretch that it waited for one of the agent's.
async fn held_up(sql: Client, replayed: Replayed, running: Arc<AtomicBool>) -> Duration {
    let ours = "SELECT (pg_last_wal_replay_lsn() - '0/0')::int8, EXISTS (SELECT 1 FROM pg_stat_activity s JOIN pg_stat_activity o
        ON o.pid = ANY (pg_blocking_pids(s.pid)) AND o.application_name = 'blameio'
        WHERE s.backend_type = 'startup' AND s.wait_event_type = 'Lock')";
    let (mut longest, mut since) = (Duration::ZERO, None);
    while running.load(Ordering::Relaxed) {
        let row = sql.query_one(ours, &[]).await.unwrap();
        replayed.lock().unwrap().push((Instant::now(), row.get(0)));
        if row.get(1) {
            let since: &mut Instant = since.get_or_insert_with(Instant::now);
            longest = longest.max(since.elapsed());
        } else {
            since = None;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    longest
}

/// Compares what was said of files with what the primary knows of them.
fn judge(replayed: &Replayed, truths: &Truths, seen: &Mutex<BTreeMap<u32, Seen>>, made: usize) {
    let replayed = replayed.lock().unwrap();
    let committed_at = |position: i64| {
        let at = replayed.partition_point(|(_, replayed)| *replayed < position);
        replayed.get(at).map(|(at, _)| *at)
    };
    let (truths, seen) = (truths.lock().unwrap(), seen.lock().unwrap());
    let (mut files, mut bytes, mut late, mut late_bytes, mut wrong) = (0, 0, 0, 0, 0);
    let mut delays = Vec::new();
    for (number, truth) in truths.iter() {
        let Some(file) = seen.get(number) else { continue };
        (files, bytes) = (files + 1, bytes + file.size);
        match &file.named {
            Some((at, table, index)) => {
                let after = at.saturating_duration_since(committed_at(truth.position).unwrap());
                delays.push(after);
                let right = *table == truth.table && *index == truth.index;
                wrong += usize::from(!right);
                if after <= NAMED {
                    continue;
                }
            }
            None => eprintln!("without a name: {number} of {truth:?}, {file:?}"),
        }
        (late, late_bytes) = (late + 1, late_bytes + file.size);
    }
    delays.sort();
    eprintln!(
        "{made} relations made, {files} files seen ({bytes} bytes), {late} of them ({late_bytes} bytes) without a name after \
         {NAMED:?}; half had it {:?} after their commit, the last {:?}",
        delays.get(delays.len() / 2).copied().unwrap_or_default(),
        delays.last().copied().unwrap_or_default(),
    );
    assert_eq!(wrong, 0, "names that are not right");
    assert!(files >= 2_000, "{files} files are too few to tell");
    assert!(late * 200 <= files && late_bytes * 200 <= bytes, "{late} of {files} files have no name in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn relations_that_come_and_go_have_names_and_replay_does_not_wait() {
    let Some(cluster) = Cluster::start("relations_that_come_and_go_have_names") else { return };
    let admin = cluster.primary.sql("postgres").await;
    let oid: u32 = value(&admin, "SELECT oid FROM pg_database WHERE datname = 'postgres'").await;
    cluster.caught_up().await;
    let watched = cluster.replica.watch(None).await;
    let reader = watched.database.catalog();
    until("the catalog is read", async || {
        matches!(reader.resolve("global/1262"), Resolution::Object(_)).then_some(())
    })
    .await;

    let (running, truths) = (Arc::new(AtomicBool::new(true)), Truths::default());
    let (seen, made) = (Arc::new(Mutex::new(BTreeMap::new())), Arc::new(AtomicUsize::new(0)));
    let directory = cluster.replica.directory.join(format!("base/{oid}"));
    let observer = tokio::spawn(observe(
        directory.clone(),
        oid,
        reader.clone(),
        Arc::clone(&seen),
        Arc::clone(&running),
    ));
    let replica = cluster.replica.sql("postgres").await;
    let replayed = Replayed::default();
    let guard = tokio::spawn(held_up(replica, Arc::clone(&replayed), Arc::clone(&running)));
    let mut workers = Vec::new();
    for worker in 0..WORKERS {
        let sql = cluster.primary.sql("postgres").await;
        workers.push(tokio::spawn(work(sql, worker, Arc::clone(&truths), Arc::clone(&made))));
    }

    // A file of a transaction that is not over is held back, and has its name soon after.
    let mut slow = cluster.primary.sql("postgres").await;
    let transaction = slow.transaction().await.unwrap();
    transaction.batch_execute("CREATE TABLE slowly AS SELECT generate_series(1, 1000) n").await.unwrap();
    let number: i64 =
        transaction.query_one("SELECT pg_relation_filenode('slowly')::int8", &[]).await.unwrap().get(0);
    let path = format!("data/base/{oid}/{number}");
    until("its file is there", async || directory.join(number.to_string()).exists().then_some(())).await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        assert_eq!(reader.resolve(&path), Resolution::Pending, "after {:?}", begun.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    transaction.commit().await.unwrap();
    cluster.caught_up().await;
    let committed = Instant::now();
    until("what was committed has a name", async || {
        matches!(reader.resolve(&path), Resolution::Object(object) if object.table == "slowly").then_some(())
    })
    .await;
    let slowly = committed.elapsed();
    assert!(slowly < NAMED, "{slowly:?}");

    for worker in workers {
        worker.await.unwrap();
    }
    cluster.caught_up().await;
    // Locks on the catalogs themselves, while files that nobody knows are looked up in them.
    let rewriter = cluster.primary.sql("postgres").await;
    let begun = Instant::now();
    let (mut rewritten, mut unknown) = (0, 4_000_000_000_u32);
    while begun.elapsed() < NAMED {
        rewriter.batch_execute("VACUUM FULL pg_class").await.unwrap();
        rewriter.batch_execute("VACUUM FULL pg_index").await.unwrap();
        rewritten += 1;
        for _ in 0..20 {
            unknown += 1;
            reader.resolve(&format!("data/base/{oid}/{unknown}"));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    running.store(false, Ordering::Relaxed);
    observer.await.unwrap();
    let held_up = guard.await.unwrap();

    judge(&replayed, &truths, &seen, made.load(Ordering::Relaxed));
    eprintln!(
        "{rewritten} times pg_class rewritten, replay held up by the agent for {held_up:?} at most; what took 3 s to commit \
         was named after {slowly:?}"
    );
    assert!(held_up < Duration::from_millis(300), "replay waited for the agent for {held_up:?}");
    watched.extension.shutdown().await;
}
