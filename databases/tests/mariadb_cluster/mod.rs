//! A throw-away MariaDB primary with one replica, gone when dropped. Just enough for this crate's tests.

#[path = "../port/mod.rs"]
mod port;

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use blameio_config::Secret;
use blameio_databases::{Database, DatabaseExtension, DatabaseSettings, database};
use blameio_pipeline::Extension;
use mysql_async::{Conn, OptsBuilder, Row, prelude::Queryable};
use port::free_port;
use tempfile::TempDir;

const SERVER: &str = "/usr/sbin/mariadbd";
const DEADLINE: Duration = Duration::from_mins(1);
/// Users that the server may run as where the tests run as root; the first that there is.
const USERS: &[&str] = &["mysql", "postgres", "nobody"];

pub(crate) struct Server {
    pub(crate) directory: PathBuf,
    pub(crate) socket: PathBuf,
    pub(crate) port: u16,
    id: u32,
    /// More arguments of the next start.
    pub(crate) arguments: Vec<String>,
    process: Option<Child>,
}

pub(crate) struct Cluster {
    pub(crate) primary: Server,
    pub(crate) replica: Server,
    _root: TempDir,
    _template: Arc<TempDir>,
}

/// A data directory as `mariadb-install-db` makes it; it takes ten seconds, so it is made once for tests that
/// run at the same time, and copied.
fn template() -> Arc<TempDir> {
    static TEMPLATE: Mutex<Weak<TempDir>> = Mutex::new(Weak::new());
    let mut template = TEMPLATE.lock().unwrap_or_else(PoisonError::into_inner);
    template.upgrade().unwrap_or_else(|| {
        let made = Arc::new(install());
        *template = Arc::downgrade(&made);
        made
    })
}

fn install() -> TempDir {
    let root = temporary();
    let directory = format!("--datadir={}", root.path().join("data").display());
    let socket_user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
    let made = unprivileged("mariadb-install-db")
        .args(["--no-defaults", "--skip-test-db", "--innodb-log-file-size=8M", &directory])
        .arg("--auth-root-authentication-method=socket")
        .arg(format!("--auth-root-socket-user={socket_user}"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
    root
}

fn user() -> Option<nix::unistd::User> {
    let named = |name: &&str| nix::unistd::User::from_name(name).ok().flatten();
    nix::unistd::geteuid().is_root().then(|| USERS.iter().find_map(named)).flatten()
}

fn temporary() -> TempDir {
    let root = tempfile::Builder::new().prefix("blameio-mariadb-").tempdir().unwrap();
    if let Some(user) = user() {
        nix::unistd::chown(root.path(), Some(user.uid), Some(user.gid)).unwrap();
    }
    root
}

/// A command as the user that the server runs as; it ends with the thread that starts it.
fn unprivileged(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if let Some(user) = user() {
        command.args(["--reuid", &user.name, "--regid", &user.gid.to_string(), "--clear-groups"]);
    }
    command.arg(program).env("LC_ALL", "C").current_dir("/");
    command
}

impl Cluster {
    /// `None`, and says so, where there is no MariaDB.
    pub(crate) async fn start(test: &str) -> Option<Self> {
        if !Path::new(SERVER).exists() {
            eprintln!("SKIPPED {test}: no {SERVER}");
            return None;
        }
        let template = template();
        let data = template.path().join("data");
        let root = temporary();
        let server = |name: &str, id| Server {
            directory: root.path().join(name),
            socket: root.path().join(format!("{name}.sock")),
            port: free_port(),
            id,
            arguments: Vec::new(),
            process: None,
        };
        let mut cluster = Self {
            primary: server("primary", 101),
            replica: server("replica", 102),
            _root: root,
            _template: template,
        };
        for server in [&mut cluster.primary, &mut cluster.replica] {
            let copied = unprivileged("cp").arg("-a").args([&data, &server.directory]).status().unwrap();
            assert!(copied.success());
            server.up().await;
        }
        let mut primary = cluster.primary.sql().await;
        for sql in [
            "CREATE USER repl@'127.0.0.1' IDENTIFIED BY 'x'",
            "GRANT REPLICATION SLAVE ON *.* TO repl@'127.0.0.1'",
            "CREATE DATABASE shop",
            "CREATE TABLE shop.orders (id INT PRIMARY KEY, x INT) ENGINE=InnoDB",
            "INSERT INTO shop.orders VALUES (1, 1), (2, 2)",
        ] {
            primary.query_drop(sql).await.unwrap();
        }
        let mut replica = cluster.replica.sql().await;
        let source = format!(
            "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={}, MASTER_USER='repl', MASTER_PASSWORD='x', \
             MASTER_LOG_FILE='log.000001', MASTER_LOG_POS=4, MASTER_USE_GTID=no",
            cluster.primary.port
        );
        replica.query_drop(source).await.unwrap();
        replica.query_drop("START SLAVE").await.unwrap();
        cluster.caught_up().await;
        Some(cluster)
    }

    /// Waits until the replica has applied everything.
    pub(crate) async fn caught_up(&self) {
        let (mut primary, mut replica) = (self.primary.sql().await, self.replica.sql().await);
        let row: Row = primary.query_first("SHOW MASTER STATUS").await.unwrap().unwrap();
        let written: (String, u64) = (row.get(0).unwrap(), row.get(1).unwrap());
        let sql = format!("SELECT MASTER_POS_WAIT('{}', {}, 60)", written.0, written.1);
        let waited: Option<i64> = replica.query_first(sql).await.unwrap().unwrap();
        assert!(waited.is_some_and(|waited| waited >= 0), "the replica has not caught up: {waited:?}");
    }
}

impl Server {
    pub(crate) async fn up(&mut self) {
        let log = std::fs::File::create(self.directory.with_extension("log")).unwrap();
        let mut command = unprivileged(SERVER);
        command.args([
            "--no-defaults",
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            "--relay-log=relay-bin",
        ]);
        command.args([
            "--innodb-buffer-pool-size=16M",
            "--innodb-flush-log-at-trx-commit=0",
            "--log-bin=log",
        ]);
        command.arg(format!("--server-id={}", self.id)).arg(format!("--port={}", self.port));
        command.arg(format!("--datadir={}", self.directory.display()));
        command.arg(format!("--socket={}", self.socket.display()));
        // A server that starts clears its directory of whatever looks like a temporary table, of others' too.
        command.arg(format!("--tmpdir={}", self.directory.display()));
        command.arg(format!("--pid-file={}", self.directory.join("server.pid").display()));
        command.args(&self.arguments).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(command.spawn().unwrap());
        until("the server answers", async || Conn::new(self.options()).await.ok().map(drop)).await;
    }

    pub(crate) async fn down(&mut self) {
        let mut sql = self.sql().await;
        sql.query_drop("SHUTDOWN").await.unwrap();
        let mut process = self.process.take().unwrap();
        until("the server has ended", async || process.try_wait().unwrap()).await;
    }

    /// Makes a certificate for 127.0.0.1, which the next start uses; `None`, and says so, where that cannot be done.
    pub(crate) fn with_tls(&mut self, test: &str) -> Option<PathBuf> {
        let (key, certificate) = (self.directory.join("server.key"), self.directory.join("server.crt"));
        let made = unprivileged("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=other"])
            .args(["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-keyout", &key.display().to_string(), "-out", &certificate.display().to_string()])
            .output();
        if !made.is_ok_and(|made| made.status.success()) {
            eprintln!("SKIPPED {test}: no openssl to make a certificate with");
            return None;
        }
        self.arguments.push(format!("--ssl-cert={}", certificate.display()));
        self.arguments.push(format!("--ssl-key={}", key.display()));
        Some(certificate)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    fn options(&self) -> OptsBuilder {
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
        let options = OptsBuilder::default().user(Some(user)).prefer_socket(false);
        options.socket(Some(self.socket.display().to_string()))
    }

    /// A session as the account that may do everything.
    pub(crate) async fn sql(&self) -> Conn {
        Conn::new(self.options()).await.unwrap()
    }

    /// A connection string over the socket.
    pub(crate) fn dsn(&self) -> Secret {
        Secret::new(format!("mysql://localhost/?socket={}", self.socket.display()))
    }

    /// One over TCP.
    pub(crate) fn tcp(&self, account: &str) -> Secret {
        Secret::new(format!("mysql://{account}@127.0.0.1:{}/", self.port))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            drop(process.kill());
            drop(process.wait());
        }
    }
}

pub(crate) struct Watched {
    pub(crate) extension: DatabaseExtension,
    pub(crate) database: Database,
}

pub(crate) async fn watch(dsn: Secret, primary_dsn: Option<Secret>) -> Watched {
    let settings = DatabaseSettings { dsn: Some(dsn), primary_dsn, data_directory: None };
    let extension = DatabaseExtension::new("database/test".parse().unwrap(), settings).unwrap();
    extension.start().await.unwrap();
    let database = database(&extension).unwrap().clone();
    Watched { extension, database }
}

/// Waits for a condition; fails at the deadline with the condition's name.
pub(crate) async fn until<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(begun.elapsed() < DEADLINE, "not in {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
