//! Real servers for the recorder: a primary and a replica, and the situations that the scenes are about.

use std::{
    fmt::Debug,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use mysql_async::{Conn, OptsBuilder, prelude::Queryable};
use tempfile::TempDir;

use super::{Act, beats, holder, made};

const DEADLINE: Duration = Duration::from_mins(1);

/// What differs between the two servers.
pub(super) struct Flavour {
    pub(super) is_mysql: bool,
    program: PathBuf,
    installer: PathBuf,
    install: &'static [&'static str],
    source: &'static str,
    /// Statements with other words: stop, start and delay of what applies, and to be no replica any more.
    stop: &'static str,
    start: &'static str,
    delay: &'static str,
    forget: &'static str,
    grants: &'static str,
}

impl Flavour {
    pub(super) fn mysql(program: PathBuf) -> Self {
        Self {
            is_mysql: true,
            installer: program.clone(),
            program,
            install: &["--initialize-insecure", "--secure-file-priv="],
            source: "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_USER='repl', SOURCE_PASSWORD='x', \
                     GET_SOURCE_PUBLIC_KEY=1, SOURCE_LOG_FILE='log.000001', SOURCE_LOG_POS=4, SOURCE_PORT=",
            stop: "STOP REPLICA SQL_THREAD",
            start: "START REPLICA",
            delay: "CHANGE REPLICATION SOURCE TO SOURCE_DELAY = 600",
            forget: "RESET REPLICA ALL",
            grants: "GRANT REPLICATION CLIENT, PROCESS ON *.* TO agent@'127.0.0.1'; \
                     GRANT SELECT ON performance_schema.* TO agent@'127.0.0.1'; \
                     GRANT CREATE, SELECT, INSERT, UPDATE ON beats.* TO agent@'127.0.0.1'",
        }
    }

    pub(super) fn mariadb() -> Self {
        Self {
            is_mysql: false,
            installer: "mariadb-install-db".into(),
            program: "/usr/sbin/mariadbd".into(),
            install: &["--auth-root-authentication-method=normal", "--skip-test-db"],
            source: "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_USER='repl', MASTER_PASSWORD='x', \
                     MASTER_LOG_FILE='log.000001', MASTER_LOG_POS=4, MASTER_USE_GTID=no, MASTER_PORT=",
            stop: "STOP SLAVE SQL_THREAD",
            start: "START SLAVE",
            delay: "STOP SLAVE; CHANGE MASTER TO MASTER_DELAY = 600",
            forget: "RESET SLAVE ALL",
            grants: "GRANT SLAVE MONITOR, BINLOG MONITOR, PROCESS ON *.* TO agent@'127.0.0.1'; \
                     GRANT CREATE, SELECT, INSERT, UPDATE ON beats.* TO agent@'127.0.0.1'",
        }
    }
}

struct Server {
    socket: PathBuf,
    port: u16,
    process: Child,
}

impl Server {
    /// Starts a server on a data directory of its own; the account of the tests is root, and so is the server.
    async fn start(flavour: &Flavour, root: &Path, id: u32, arguments: &[&str]) -> Self {
        let directory = root.join(id.to_string());
        let of_all = ["--no-defaults".to_owned(), "--user=root".to_owned()];
        let data = format!("--datadir={}", directory.display());
        let log = std::fs::File::create(directory.with_extension("log")).unwrap();
        let mut made = Command::new(&flavour.installer);
        made.args(&of_all).arg(&data).args(flavour.install);
        let made = made.stdout(log.try_clone().unwrap()).stderr(log.try_clone().unwrap()).status().unwrap();
        assert!(made.success(), "see {}", directory.display());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, socket) = (listener.local_addr().unwrap().port(), directory.with_extension("sock"));
        drop(listener);
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]).arg(&flavour.program).args(&of_all).arg(&data);
        command.args(["--bind-address=127.0.0.1", "--relay-log=relay-bin", "--innodb-buffer-pool-size=16M"]);
        command.arg(format!("--server-id={id}")).arg(format!("--port={port}"));
        command.arg(format!("--socket={}", socket.display()));
        command.arg(format!("--pid-file={}", directory.join("server.pid").display()));
        if flavour.is_mysql {
            command.args(["--secure-file-priv=", "--mysqlx=OFF", "--report-host=127.0.0.1"]);
        }
        let process = command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone().unwrap());
        let server = Self { process: process.stderr(log).spawn().unwrap(), port, socket };
        until("the server answers", async || Conn::new(server.options()).await.ok().map(drop)).await;
        server
    }

    fn options(&self) -> OptsBuilder {
        let options = OptsBuilder::default().user(Some("root")).prefer_socket(false);
        options.socket(Some(self.socket.display().to_string()))
    }

    async fn sql(&self) -> Conn {
        Conn::new(self.options()).await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The shell around it, where there is one, has become the server.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// What somebody else does to the server that is asked, just before an answer is given to the agent.
#[derive(Clone)]
pub(super) struct Meanwhile {
    root: OptsBuilder,
    /// A piece of the statement that is answered, and what is done.
    due: Arc<Mutex<Option<[&'static str; 2]>>>,
}

impl Meanwhile {
    pub(super) async fn answered(&self, asked: &str) {
        let due = self.due.lock().unwrap().take_if(|[after, _]| asked.contains(*after));
        if let Some([_, statement]) = due {
            run(&mut Conn::new(self.root.clone()).await.unwrap(), statement).await;
        }
    }
}

/// The servers of one act, and what is held open for a scene.
pub(super) struct Scenery {
    flavour: [&'static str; 4],
    is_mysql: bool,
    act: Act,
    primary: Server,
    replica: Server,
    held: Option<Conn>,
    pub(super) meanwhile: Meanwhile,
    _root: TempDir,
}

impl Scenery {
    pub(super) async fn start(flavour: &Flavour, act: Act) -> Self {
        let root = tempfile::Builder::new().prefix("blameio-recorded-").tempdir().unwrap();
        let primary = Server::start(flavour, root.path(), 101, &["--log-bin=log"]).await;
        let workers = match (act, flavour.is_mysql) {
            (Act::WithoutPerformanceSchema, _) => "--performance-schema=OFF",
            (Act::Single, true) => "--replica-parallel-workers=1",
            (Act::Parallel, false) => "--slave-parallel-threads=4",
            _ => "--performance-schema=ON",
        };
        let replica = Server::start(flavour, root.path(), 102, &["--log-bin=log", workers]).await;
        let mut sql = primary.sql().await;
        let grants = if act == Act::Unprivileged { "DO 0" } else { flavour.grants };
        let accounts = "CREATE USER repl@'127.0.0.1' IDENTIFIED BY 'x'; \
                        GRANT REPLICATION SLAVE ON *.* TO repl@'127.0.0.1'; CREATE USER agent@'127.0.0.1'; \
                        CREATE USER super@'127.0.0.1'; GRANT ALL ON *.* TO super@'127.0.0.1'; \
                        CREATE USER secret@'127.0.0.1' IDENTIFIED BY 'geheim'";
        let tables = "CREATE DATABASE shop; CREATE TABLE shop.orders (id INT PRIMARY KEY, x INT) ENGINE=InnoDB; \
                      CREATE TABLE shop.tags (name CHAR(8) NOT NULL UNIQUE) ENGINE=InnoDB; \
                      CREATE TABLE shop.`order lines` (x INT UNIQUE) ENGINE=InnoDB; \
                      CREATE TABLE shop.parts (x INT) ENGINE=InnoDB PARTITION BY HASH (x) PARTITIONS 2; \
                      INSERT INTO shop.orders VALUES (1, 1), (2, 2)";
        run(&mut sql, &[accounts, grants, tables].join(";")).await;
        let mut sql = replica.sql().await;
        run(&mut sql, &format!("{}{}; {}", flavour.source, primary.port, flavour.start)).await;
        until("the replica has the table", async || {
            let mut sql = replica.sql().await;
            sql.query_first::<u32, _>("SELECT x FROM shop.orders WHERE id = 2").await.ok().flatten()
        })
        .await;
        let asked = if act == Act::Primary { &primary } else { &replica };
        let meanwhile = Meanwhile { root: asked.options(), due: Arc::default() };
        let is_mysql = flavour.is_mysql;
        let flavour = [flavour.stop, flavour.start, flavour.delay, flavour.forget];
        Self { flavour, is_mysql, act, primary, replica, held: None, meanwhile, _root: root }
    }

    /// Port of the server that the agent's code asks.
    pub(super) fn asked(&self) -> u16 {
        if self.act == Act::Primary { self.primary.port } else { self.replica.port }
    }

    /// Brings about what a scene is about; what has to be known of it.
    pub(super) async fn set(&mut self, scene: &str) -> Vec<(String, String)> {
        let mut replica = self.replica.sql().await;
        let mut primary = self.primary.sql().await;
        let [stop, start, delay, forget] = self.flavour;
        self.held = None;
        let changed = "UPDATE shop.orders SET x = x + 1 WHERE id = 1";
        match scene {
            "start" => {
                let table = if self.is_mysql { "INNODB_INDEXES" } else { "INNODB_SYS_INDEXES" };
                let tables = table.replace("INDEXES", "TABLES");
                let sql = format!(
                    "SELECT i.INDEX_ID FROM information_schema.{table} i JOIN information_schema.{tables} t \
                     ON t.TABLE_ID = i.TABLE_ID WHERE t.NAME = 'shop/orders'"
                );
                let id: u64 = replica.query_first(sql).await.unwrap().unwrap();
                return vec![("index".to_owned(), id.to_string())];
            }
            "beats" if self.act != Act::Primary => {
                let dsn = format!("mysql://agent@127.0.0.1:{}/?ssl-mode=DISABLED", self.primary.port);
                let (engine, _) = made(&dsn);
                beats::write_all(&*engine).await;
                engine.close(false).await;
                until("the replica has the beats", async || {
                    let mut sql = self.replica.sql().await;
                    let number = sql
                        .query_first("SELECT number FROM beats.heartbeat ORDER BY number DESC LIMIT 1")
                        .await
                        .ok()
                        .flatten();
                    number.filter(|number: &u64| *number == beats::newest()[0].number)
                })
                .await;
            }
            "read-only" => run(&mut primary, "SET GLOBAL read_only = 1").await,
            "read-only meanwhile" | "read-only meanwhile for others" => {
                run(&mut primary, "SET GLOBAL read_only = 0").await;
                let due = ["@@global.innodb_read_only", "SET GLOBAL read_only = 1"];
                *self.meanwhile.due.lock().unwrap() = Some(due);
            }
            "read-only transactions" => {
                run(&mut primary, "SET GLOBAL read_only = 0; SET GLOBAL TRANSACTION READ ONLY").await;
            }
            "statements logged" => {
                let sql = "SET GLOBAL TRANSACTION READ WRITE; SET GLOBAL binlog_format = STATEMENT";
                run(&mut primary, sql).await;
            }
            "row lock" | "metadata lock" | "global lock" => {
                let mut held = self.replica.sql().await;
                let lock = match scene {
                    "row lock" => "SET autocommit = 0; SELECT x FROM shop.orders WHERE id = 1 FOR UPDATE",
                    "metadata lock" => "LOCK TABLES shop.orders READ",
                    _ => "FLUSH TABLES WITH READ LOCK",
                };
                run(&mut held, lock).await;
                run(&mut primary, changed).await;
                let notes = vec![(holder(scene), held.id().to_string())];
                self.held = Some(held);
                return notes;
            }
            "idle workers" => {
                // What they have applied is told at a checkpoint only.
                run(&mut replica, "SET GLOBAL replica_checkpoint_period = 4000000000").await;
                run(&mut primary, changed).await;
            }
            "stopped" => {
                run(&mut replica, stop).await;
                run(&mut primary, changed).await;
            }
            "delayed" => {
                run(&mut replica, &format!("{delay}; {start}")).await;
                run(&mut primary, changed).await;
            }
            "channels" => {
                // A second source that nobody listens on: it has no positions, and never comes to any.
                let other = "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT=1, SOURCE_USER='repl' \
                             FOR CHANNEL 'archive'; START REPLICA FOR CHANNEL 'archive'";
                run(&mut replica, other).await;
            }
            "promoted" => run(&mut replica, &format!("{}; {forget}", start.replace("START", "STOP"))).await,
            "rotated" => {
                run(&mut primary, changed).await;
                run(&mut primary, "FLUSH BINARY LOGS").await;
                run(&mut primary, changed).await;
            }
            _ => {}
        }
        Vec::new()
    }
}

async fn run(sql: &mut Conn, statements: &str) {
    for statement in statements.split(';') {
        sql.query_drop(statement.trim()).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
}

async fn until<T: Debug>(what: &str, condition: impl AsyncFn() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(begin.elapsed() < DEADLINE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
