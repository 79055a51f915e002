//! Many databases, none of which the agent sits in, and many relations, which cost little on both sides.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use blameio_databases::{CatalogReader, FileKind, Resolution};
use blameio_pipeline::Extension;
use tokio_postgres::Client;

use crate::{
    cluster::{Cluster, Server, until, value},
    name, name_of, tail,
};

const DATABASES: usize = 50;
/// So many of them are copied and dropped.
const DROPPED: usize = 12;
const RELATIONS: usize = 100_000;

/// Asks for files that nobody has, in all these databases, without a pause.
async fn ask(reader: CatalogReader, databases: Vec<u32>, running: Arc<AtomicBool>) {
    let mut file = 3_000_000_000_u32;
    while running.load(Ordering::Relaxed) {
        for database in &databases {
            reader.resolve(&format!("data/base/{database}/{file}"));
        }
        file += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The most sessions that the agent had with a server at one time.
async fn sessions(sql: Client, running: Arc<AtomicBool>) -> i64 {
    let mut most = 0;
    while running.load(Ordering::Relaxed) {
        let ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'blameio'";
        most = most.max(value::<i64>(&sql, ours).await);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    most
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_are_dropped_and_copied_while_their_files_are_looked_up() {
    let Some(cluster) = Cluster::start("databases_are_dropped_and_copied") else { return };
    let admin = cluster.primary.sql("postgres").await;
    for number in 0..DATABASES {
        admin.batch_execute(&format!("CREATE DATABASE many_{number} STRATEGY file_copy")).await.unwrap();
    }
    let last = cluster.primary.sql("many_49").await;
    last.batch_execute("CREATE TABLE kept (id int)").await.unwrap();
    cluster.caught_up().await;
    let rows = admin.query("SELECT oid FROM pg_database WHERE datname LIKE 'many%' ORDER BY oid", &[]).await;
    let oids: Vec<u32> = rows.unwrap().iter().map(|row| row.get(0)).collect();

    let running = Arc::new(AtomicBool::new(true));
    let (mut askers, mut watched) = (Vec::new(), Vec::new());
    let mut counts = Vec::new();
    for server in [&cluster.primary, &cluster.replica] {
        let one = server.watch(None).await;
        askers.push(tokio::spawn(ask(one.database.catalog(), oids.clone(), Arc::clone(&running))));
        counts.push(tokio::spawn(sessions(server.sql("postgres").await, Arc::clone(&running))));
        watched.push(one);
    }
    let kept = tail(&cluster.primary, &last, "'kept'").await;
    for one in &watched {
        let expected = name("public.kept", "", "", FileKind::Heap);
        assert_eq!(name_of(&one.database, &kept).await, expected, "the last of {DATABASES} databases");
    }
    drop(last);
    let begun = Instant::now();
    let mut slowest = Duration::ZERO;
    for number in DATABASES - DROPPED..DATABASES {
        let (copy, one) = (format!("copy_{number}"), format!("many_{number}"));
        for statement in [
            format!("CREATE DATABASE {copy} TEMPLATE {one} STRATEGY file_copy"),
            format!("DROP DATABASE {one}"),
            format!("DROP DATABASE {copy}"),
        ] {
            let begun = Instant::now();
            let done = admin.batch_execute(&statement).await;
            assert!(done.is_ok(), "{statement}: {done:?}");
            if statement.starts_with("DROP") {
                slowest = slowest.max(begun.elapsed());
            }
        }
    }
    let dropping = begun.elapsed();
    // Its table's name outlives the database.
    for one in &watched {
        assert!(matches!(one.database.catalog().resolve(&kept), Resolution::Object(_)));
    }
    cluster.caught_up().await;
    running.store(false, Ordering::Relaxed);
    for asker in askers {
        asker.await.unwrap();
    }
    for count in counts {
        let most = count.await.unwrap();
        assert!((1..=2).contains(&most), "{most} sessions");
    }
    eprintln!(
        "{DROPPED} of {DATABASES} databases copied and dropped in {dropping:?}, the slowest DROP took {slowest:?}"
    );
    for one in watched {
        one.extension.shutdown().await;
    }
}

/// What a process of the server's has in memory of its own, in KiB, and the processor time that it took, in ticks.
fn cost(pid: i32) -> Option<(i64, i64)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let own = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<i64>().ok()? + fields.get(12)?.parse::<i64>().ok()?;
    Some((own.trim().trim_end_matches(" kB").parse().ok()?, ticks))
}

/// Watches the agent's backends; by process, what they had when first seen, and the most that they had and took.
async fn backends(
    server: &Server,
    running: Arc<AtomicBool>,
) -> tokio::task::JoinHandle<HashMap<i32, (i64, i64, i64)>> {
    let sql = server.sql("postgres").await;
    tokio::spawn(async move {
        let mut seen = HashMap::new();
        let ours = "SELECT pid FROM pg_stat_activity WHERE application_name = 'blameio'";
        while running.load(Ordering::Relaxed) {
            for row in sql.query(ours, &[]).await.unwrap() {
                let pid: i32 = row.get(0);
                if let Some((memory, ticks)) = cost(pid) {
                    let (_, most, last) = seen.entry(pid).or_insert((memory, memory, ticks));
                    (*most, *last) = (memory.max(*most), ticks);
                }
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        seen
    })
}

fn own_memory() -> i64 {
    cost(std::process::id().cast_signed()).map_or(0, |(memory, _)| memory)
}

/// Time from the start of watching until a file has a name.
async fn load(server: &Server, path: &str) -> (Duration, crate::cluster::Watched) {
    let begun = Instant::now();
    let watched = server.watch(None).await;
    let reader = watched.database.catalog();
    // A file is looked up by itself only after everything was read.
    until("the catalog is read", async || {
        matches!(reader.resolve(path), Resolution::Object(_)).then_some(())
    })
    .await;
    (begun.elapsed(), watched)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_relations_are_read_at_little_cost() {
    let Some(cluster) = Cluster::start("a_hundred_thousand_relations") else { return };
    cluster.down(&cluster.replica);
    let server = &cluster.primary;
    let sql = server.sql("postgres").await;
    let first = tail(server, &sql, "'pg_class'").await;
    let (empty, watched) = load(server, &first).await;
    watched.extension.shutdown().await;
    let begun = Instant::now();
    // What CREATE TABLE leaves in the catalog that the agent reads; a hundred thousand files would take minutes.
    sql.batch_execute("CREATE TABLE t_ (); CREATE INDEX t_i ON t_ ((1))").await.unwrap();
    sql.batch_execute("SET allow_system_table_mods = on").await.unwrap();
    let columns = "SELECT string_agg(CASE attname WHEN 'oid' THEN '(100000 + i)::oid' WHEN 'relfilenode' THEN '(100000 + i)::oid' \
        WHEN 'relname' THEN '(''t_'' || i)::name' ELSE quote_ident(attname) END, ',' ORDER BY attnum) FROM pg_attribute \
        WHERE attrelid = 'pg_class'::regclass AND attnum > 0";
    let columns: String = value(&sql, columns).await;
    sql.batch_execute(&format!(
        "INSERT INTO pg_class SELECT {columns} FROM pg_class, generate_series(1, {RELATIONS}) i WHERE relname = 't_'"
    ))
    .await
    .unwrap();
    eprintln!("{RELATIONS} relations made in {:?}", begun.elapsed());
    sql.batch_execute("VACUUM ANALYZE pg_class").await.unwrap();
    let last = tail(server, &sql, "'t_100000'").await;

    let running = Arc::new(AtomicBool::new(true));
    let costs = backends(server, Arc::clone(&running)).await;
    let before = own_memory();
    let (full, watched) = load(server, &last).await;
    let read = own_memory() - before;
    running.store(false, Ordering::Relaxed);
    let costs = costs.await.unwrap();
    let swollen = costs.values().map(|(first, most, _)| most - first).max().unwrap();
    let ticks = costs.values().map(|(_, _, ticks)| *ticks).max().unwrap();

    let rows = sql
        .query("SELECT relfilenode FROM pg_class WHERE relname LIKE 't\\__%' AND relkind = 'r'", &[])
        .await;
    let directory = last.rsplit_once('/').unwrap().0;
    let paths: Vec<String> =
        rows.unwrap().iter().map(|row| format!("{directory}/{}", row.get::<_, u32>(0))).collect();
    assert_eq!(paths.len(), RELATIONS);
    let reader = watched.database.catalog();
    let resolve = || {
        let begun = Instant::now();
        let known = paths.iter().filter(|path| matches!(reader.resolve(path), Resolution::Object(_))).count();
        assert_eq!(known, RELATIONS);
        begun.elapsed() / u32::try_from(RELATIONS).unwrap()
    };
    let cold = resolve();
    let touched = own_memory() - before;
    let warm = (0..5).map(|_| resolve()).min().unwrap();
    let loading = full.saturating_sub(empty);
    eprintln!(
        "{RELATIONS} relations read in {loading:?} (an empty server takes {empty:?}); a look-up takes {cold:?} at first, {warm:?} \
         then; the agent holds {read} KiB for them, {touched} KiB when all have been asked for; the server's backend grew by \
         {swollen} KiB and took {ticks}0 ms of processor time"
    );
    assert!(loading < Duration::from_secs(if cfg!(debug_assertions) { 8 } else { 2 }), "{loading:?}");
    assert!(warm < Duration::from_nanos(if cfg!(debug_assertions) { 20_000 } else { 400 }), "{warm:?}");
    assert!(swollen <= 4 * 1024, "{swollen} KiB");
    watched.extension.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tables_of_many_indexes_are_not_asked_for_one_by_one() {
    const TABLES: i64 = 1_500;
    let Some(cluster) = Cluster::start("the_tables_of_many_indexes") else { return };
    cluster.down(&cluster.replica);
    let server = &cluster.primary;
    let sql = server.sql("postgres").await;
    let made = format!(
        "DO $$ BEGIN FOR i IN 1..{TABLES} LOOP EXECUTE format('CREATE TABLE t_%s (id int PRIMARY KEY)', i); \
         IF i % 100 = 0 THEN COMMIT; END IF; END LOOP; END $$"
    );
    sql.batch_execute(&made).await.unwrap();
    let last = tail(server, &sql, &format!("'t_{TABLES}_pkey'")).await;
    // What this session and those before it have done is told once they have ended.
    drop(sql);
    let sql = server.sql("template1").await;
    let alone = async |database: &str| {
        let others = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}'");
        until("nobody is in the database", async || (value::<i64>(&sql, &others).await == 0).then_some(()))
            .await;
        let scans = server.sql(database).await;
        let sum = "SELECT sum(idx_scan)::int8 FROM pg_stat_all_indexes WHERE relname = 'pg_index'";
        value::<i64>(&scans, sum).await
    };
    let before = alone("postgres").await;
    let (_, watched) = load(server, &last).await;
    let expected = name(&format!("public.t_{TABLES}"), &format!("t_{TABLES}_pkey"), "", FileKind::Index);
    assert_eq!(name_of(&watched.database, &last).await, expected);
    watched.extension.shutdown().await;
    let scans = alone("postgres").await - before;
    assert!(scans < TABLES / 10, "{scans} scans of pg_index for {TABLES} indexes");
}
