//! Records what a real server answers: a wire between the agent's code and the server that listens, and the situations
//! in which every statement is asked.

use std::{
    collections::{HashMap, VecDeque},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};
use tokio_postgres::{Client, NoTls};

use super::{
    engine, file, is_named,
    replayer::{bound, database, framed, message, read_values, text},
    resolved, sampled,
    tape::{Statement, Tape, Value},
    waits_for,
};
use crate::{
    engine::Engine,
    positions::WaitKind,
    postgresql::{PostgreSql, waits},
};

/// What the server owes an answer to.
enum Owed {
    Prepared(String),
    Bound(String, Vec<Value>),
    Closed,
}

/// A wire to a server that records what passes. Reading of a catalog is slowed down, so that it is asked whether
/// replay waits for it.
async fn wire(server: u16, tape: Arc<Mutex<Tape>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
            tokio::spawn(carry(near, far, Arc::clone(&tape)));
        }
    });
    port
}

async fn carry(near: TcpStream, far: TcpStream, tape: Arc<Mutex<Tape>>) {
    let (mut from_agent, mut to_agent) = near.into_split();
    let (mut from_server, mut to_server) = far.into_split();
    let Some((_, start)) = message(&mut from_agent, true).await else { return };
    let database = database(&start);
    let mut first = u32::try_from(start.len() + 4).unwrap().to_be_bytes().to_vec();
    first.extend(&start);
    to_server.write_all(&first).await.unwrap();
    let owed: Arc<Mutex<VecDeque<Owed>>> = Arc::default();
    let owing = Arc::clone(&owed);
    tokio::spawn(async move {
        let mut prepared: HashMap<String, String> = HashMap::new();
        while let Some((kind, content)) = message(&mut from_agent, false).await {
            if kind == b'P' {
                let (name, rest) = text(&content);
                let sql = text(rest).0.split_whitespace().collect::<Vec<_>>().join(" ");
                prepared.insert(name, sql.clone());
                owing.lock().unwrap().push_back(Owed::Prepared(sql));
            } else if kind == b'B' {
                let (name, parameters) = bound(&content);
                let sql = prepared.get(&name).cloned().unwrap_or_default();
                owing.lock().unwrap().push_back(Owed::Bound(sql, parameters));
            } else if kind == b'C' {
                owing.lock().unwrap().push_back(Owed::Closed);
            }
            if to_server.write_all(&framed(kind, &content)).await.is_err() {
                return;
            }
        }
    });
    let mut rows = Vec::new();
    while let Some((kind, content)) = message(&mut from_server, false).await {
        let slow = match kind {
            b't' | b'T' => {
                let owed = owed.lock().unwrap();
                if let Some(Owed::Prepared(sql)) = owed.front() {
                    let mut tape = tape.lock().unwrap();
                    let statement = tape.statements.entry((database.clone(), sql.clone())).or_default();
                    describe(statement, kind, &content);
                }
                false
            }
            b'D' => {
                rows.push(read_values(&content));
                false
            }
            b'C' => match owed.lock().unwrap().front() {
                Some(Owed::Bound(sql, parameters)) => {
                    let key = (database.clone(), sql.clone());
                    tape.lock().unwrap().keep(&key, parameters.clone(), std::mem::take(&mut rows));
                    sql.contains("pg_class c")
                }
                _ => false,
            },
            b'Z' => {
                owed.lock().unwrap().pop_front();
                false
            }
            _ => false,
        };
        if slow {
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        if to_agent.write_all(&framed(kind, &content)).await.is_err() {
            return;
        }
    }
}

fn describe(statement: &mut Statement, kind: u8, content: &[u8]) {
    let number = |at: usize| u32::from_be_bytes(content[at..at + 4].try_into().unwrap());
    let count = usize::from(u16::from_be_bytes([content[0], content[1]]));
    if kind == b't' {
        statement.parameters = (0..count).map(|at| number(2 + 4 * at)).collect();
        return;
    }
    let mut rest = &content[2..];
    statement.columns = (0..count)
        .map(|_| {
            let (name, after) = text(rest);
            rest = &after[18..];
            (name, u32::from_be_bytes(after[6..10].try_into().unwrap()))
        })
        .collect();
}

/// A server of the version that is to be recorded.
struct Server<'a> {
    programs: &'a Path,
    directory: PathBuf,
    port: u16,
}

impl Server<'_> {
    fn run(&self, program: &str, arguments: &[&str]) {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]);
        let log = std::fs::File::create(self.directory.with_extension("log")).unwrap();
        let command =
            command.arg(self.programs.join(program)).args(["-D", &self.directory.display().to_string()]);
        let done = command
            .args(arguments)
            .current_dir("/")
            .env("LC_ALL", "C")
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        assert!(done.status().unwrap().success(), "{program}: see {}", self.directory.display());
    }

    fn start(&self, settings: &str) {
        let sockets = self.directory.parent().unwrap().display();
        let settings = format!(
            "port = {}\nunix_socket_directories = '{sockets}'\nlisten_addresses = '127.0.0.1'\nfsync = off\n{settings}\n",
            self.port
        );
        std::fs::write(self.directory.join("postgresql.auto.conf"), settings).unwrap();
        self.run("pg_ctl", &["-w", "start"]);
    }

    async fn sql(&self, database: &str) -> Client {
        let config = format!("host=127.0.0.1 port={} user=postgres dbname={database}", self.port);
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        if self.directory.join("postmaster.pid").exists() {
            self.run("pg_ctl", &["-w", "-m", "immediate", "stop"]);
        }
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn path(sql: &Client, relation: &str) -> String {
    let sql_text = format!("SELECT pg_relation_filepath({relation}::regclass)");
    sql.query_one(&sql_text, &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes the recordings: BLAMEIO_RECORD names a directory with <version>/native/bin of each PostgreSQL"]
async fn answers_of_real_servers_are_recorded() {
    let servers = PathBuf::from(std::env::var("BLAMEIO_RECORD").expect("BLAMEIO_RECORD is set"));
    for version in super::VERSIONS {
        record(version, &servers.join(format!("{version}/native/bin"))).await;
    }
}

async fn record(version: u32, programs: &Path) {
    let root = tempfile::Builder::new().prefix("blameio-recorded-").tempdir().unwrap();
    let postgres = nix::unistd::User::from_name("postgres").unwrap().unwrap();
    nix::unistd::chown(root.path(), Some(postgres.uid), Some(postgres.gid)).unwrap();
    let server = |name: &str| Server { programs, directory: root.path().join(name), port: free_port() };
    let (primary, replica) = (server("primary"), server("replica"));
    primary.run("initdb", &["-A", "trust", "-U", "postgres", "--no-sync"]);
    primary.start("autovacuum = off");
    let sql = primary.sql("postgres").await;
    for statement in [
        "SELECT pg_create_physical_replication_slot('seat')",
        "CREATE TABLE orders (id int PRIMARY KEY, note text)",
        "INSERT INTO orders SELECT i, md5(i::text) FROM generate_series(1, 1000) i",
        "CREATE TABLE events (at int PRIMARY KEY) PARTITION BY RANGE (at)",
        "CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (10)",
    ] {
        sql.batch_execute(statement).await.unwrap();
    }
    drop(sql);
    primary.run("pg_ctl", &["-w", "-m", "fast", "stop"]);
    let copied =
        Command::new("cp").arg("-a").args([&primary.directory, &replica.directory]).status().unwrap();
    assert!(copied.success());
    std::fs::remove_dir_all(replica.directory.join("pg_replslot/seat")).unwrap();
    std::fs::write(replica.directory.join("standby.signal"), "").unwrap();
    primary.start("autovacuum = off");
    replica.start(&format!(
        "primary_conninfo = 'host=127.0.0.1 port={} user=postgres'\nprimary_slot_name = 'seat'\nmax_standby_streaming_delay = -1",
        primary.port
    ));
    let (sql, reader) = (primary.sql("postgres").await, replica.sql("postgres").await);

    let tape: Arc<Mutex<Tape>> = Arc::default();
    let (engine_of_replica, catalog) = engine(wire(replica.port, Arc::clone(&tape)).await);
    let engine_of = &engine_of_replica;
    let mut tries = 0;
    while let Err(error) = engine_of.load_catalog().await {
        tries += 1;
        assert!(tries < 20, "{error}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    sql.batch_execute("CREATE TABLE late (id int)").await.unwrap();
    let toast = "(SELECT reltoastrelid FROM pg_class WHERE relname = 'orders')";
    for (name, relation) in [
        ("orders", "'orders'"),
        ("orders_pkey", "'orders_pkey'"),
        ("toast", toast),
        ("events_1_pkey", "'events_1_pkey'"),
        ("pg_class", "'pg_class'"),
        ("pg_database", "'pg_database'"),
        ("late", "'late'"),
    ] {
        let path = path(&sql, relation).await;
        resolved(engine_of, &catalog, &path).await;
        tape.lock().unwrap().notes.insert(name.to_owned(), path);
    }
    sampled(engine_of, "a first sample", |sample| sample.apply_thread.is_some()).await;
    sampled(engine_of, "a starved one", waits_for(WaitKind::Starved)).await;
    engine_of.info().await.unwrap();
    engine_of.system_identifier().await.unwrap();
    engine_of.started().await.unwrap();
    engine_of.roles().await.unwrap();
    engine_of.check().await;
    let held_up = async || {
        let backend = engine_of.link.session().await.unwrap().backend;
        waits::is_held_up_by(&engine_of.link, backend).await
    };
    let stopped = |seconds| tokio::time::sleep(Duration::from_millis(seconds));
    reader.batch_execute("BEGIN; SELECT count(*) FROM orders").await.unwrap();
    sql.batch_execute("ALTER TABLE orders ADD more int").await.unwrap();
    let named = |sample: &crate::positions::ReplicaSample| {
        waits_for(WaitKind::Lock)(sample) && sample.wait.as_ref().is_some_and(|wait| wait.object.is_some())
    };
    sampled(engine_of, "a lock", named).await;
    assert!(!held_up().await);
    reader.batch_execute("COMMIT").await.unwrap();
    stopped(500).await;
    let pid = conflict(engine_of, &sql, &reader, &replica.sql("template1").await).await;
    tape.lock().unwrap().notes.insert("reader".to_owned(), pid.to_string());
    reader.batch_execute("COMMIT").await.unwrap();
    stopped(500).await;
    reader.batch_execute("SELECT pg_wal_replay_pause()").await.unwrap();
    sql.batch_execute("DELETE FROM orders WHERE id > 9").await.unwrap();
    sampled(engine_of, "a pause", |sample| sample.paused && waits_for(WaitKind::Paused)(sample)).await;
    engine_of.close(false).await;
    tape.lock().unwrap().write(&file(version, "replica"));

    let tape: Arc<Mutex<Tape>> = Arc::default();
    let (engine_of_primary, _) = engine(wire(primary.port, Arc::clone(&tape)).await);
    engine_of_primary.flushed().await.unwrap();
    engine_of_primary.close(false).await;
    tape.lock().unwrap().write(&file(version, "primary"));
}

/// Lets a reader hold up replay while a session elsewhere has an older snapshot; the reader's process is told.
async fn conflict(engine_of: &PostgreSql, sql: &Client, reader: &Client, elsewhere: &Client) -> u32 {
    // An older snapshot in another database is not in the way.
    let repeatable = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM";
    elsewhere.batch_execute(&format!("{repeatable} pg_class")).await.unwrap();
    sql.batch_execute("INSERT INTO orders VALUES (-1)").await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    reader.batch_execute(&format!("{repeatable} orders")).await.unwrap();
    let pid: i32 = reader.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let pid = pid.cast_unsigned();
    sql.batch_execute("DELETE FROM orders WHERE id > 10").await.unwrap();
    sql.batch_execute("VACUUM (TRUNCATE off) orders").await.unwrap();
    let conflict = sampled(engine_of, "a conflict", waits_for(WaitKind::Conflict)).await;
    assert_eq!(conflict.wait.unwrap().holder, None);
    let backend = engine_of.link.session().await.unwrap().backend;
    assert!(!waits::is_held_up_by(&engine_of.link, backend).await);
    assert!(waits::is_held_up_by(&engine_of.link, pid).await);
    elsewhere.batch_execute("COMMIT").await.unwrap();
    is_named(engine_of, conflict.apply_thread.unwrap(), Some(pid)).await;
    pid
}
