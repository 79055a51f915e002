//! A throw-away primary with one streaming replica, gone when dropped. Just enough for this crate's tests.

#[path = "../port/mod.rs"]
mod port;
pub(crate) mod wire;

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use blameio_config::Secret;
use blameio_databases::{Database, DatabaseExtension, DatabaseSettings, database};
use blameio_pipeline::Extension;
pub(crate) use port::free_port;
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) struct Server {
    pub(crate) directory: PathBuf,
    pub(crate) port: u16,
}

pub(crate) struct Cluster {
    pub(crate) primary: Server,
    pub(crate) replica: Server,
    root: TempDir,
}

impl Cluster {
    /// `None`, and says so, where there is no PostgreSQL.
    pub(crate) fn start(test: &str) -> Option<Self> {
        if !Path::new(PROGRAMS).join("postgres").exists() {
            eprintln!("SKIPPED {test}: no PostgreSQL 15 in {PROGRAMS}");
            return None;
        }
        let root = tempfile::Builder::new().prefix("blameio-databases-").tempdir().unwrap();
        if nix::unistd::geteuid().is_root() {
            let postgres = nix::unistd::User::from_name("postgres").unwrap();
            let Some(postgres) = postgres else {
                eprintln!("SKIPPED {test}: root may not run PostgreSQL, and there is no user postgres");
                return None;
            };
            nix::unistd::chown(root.path(), Some(postgres.uid), Some(postgres.gid)).unwrap();
        }
        let server = |name: &str| Server { directory: root.path().join(name), port: free_port() };
        let cluster = Self { primary: server("primary"), replica: server("replica"), root };
        let directory = cluster.primary.directory.display().to_string();
        cluster.run("initdb", &["-D", &directory, "-A", "trust", "-U", "postgres", "--no-sync"]);
        let hba = cluster.primary.directory.join("pg_hba.conf");
        let shut = "host all locked 127.0.0.1/32 scram-sha-256\nhost shut all 127.0.0.1/32 reject\n";
        let trusted = std::fs::read_to_string(&hba).unwrap();
        std::fs::write(&hba, format!("{shut}{trusted}")).unwrap();
        cluster.configure(&cluster.primary, "autovacuum = off");
        cluster.up(&cluster.primary);
        let (directory, port) =
            (cluster.replica.directory.display().to_string(), cluster.primary.port.to_string());
        let backup = ["-D", &directory, "-R", "-X", "stream", "-c", "fast", "-h", "127.0.0.1", "-p", &port];
        cluster.run(
            "pg_basebackup",
            &[&backup[..], &["-U", "postgres", "-C", "-S", "seat", "--no-sync"]].concat(),
        );
        let settings = "cluster_name = 'the: replica'\nmax_standby_streaming_delay = -1\nwal_receiver_status_interval = 1";
        cluster.configure(&cluster.replica, settings);
        cluster.up(&cluster.replica);
        Some(cluster)
    }

    pub(crate) fn configure(&self, server: &Server, more: &str) {
        let file = server.directory.join("postgresql.auto.conf");
        let old = std::fs::read_to_string(&file).unwrap_or_default();
        let (port, sockets) = (server.port, self.root.path().display());
        let settings = format!(
            "port = {port}\nunix_socket_directories = '{sockets}'\nlisten_addresses = '127.0.0.1'\nfsync = off\n\
             shared_buffers = '16MB'\nmax_connections = 30\n{more}\n"
        );
        std::fs::write(&file, old + &settings).unwrap();
    }

    pub(crate) fn up(&self, server: &Server) {
        let (directory, log) = (server.directory.display().to_string(), server.directory.join("server.log"));
        self.run("pg_ctl", &["-D", &directory, "-l", &log.display().to_string(), "-w", "-t", "60", "start"]);
    }

    pub(crate) fn down(&self, server: &Server) {
        let directory = server.directory.display().to_string();
        self.run("pg_ctl", &["-D", &directory, "-w", "-m", "fast", "stop"]);
    }

    pub(crate) fn promote(&self, server: &Server) {
        self.run("pg_ctl", &["-D", &server.directory.display().to_string(), "-w", "promote"]);
    }

    pub(crate) fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let program = Path::new(PROGRAMS).join(program);
        let mut command = if nix::unistd::geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.args(arguments).current_dir(self.root.path()).env("LC_ALL", "C");
        command
    }

    /// Starts a server as a container's would be: in network, host name and mounts of its own. `None`, and says so, where
    /// that may not be done.
    pub(crate) fn up_in_container(&self, server: &Server, name: &str) -> Option<()> {
        let (file, log) = (self.root.path().join("hostname"), server.directory.join("server.log"));
        std::fs::write(&file, name).unwrap();
        let (directory, log) = (server.directory.display().to_string(), log.display().to_string());
        let start = self.command("pg_ctl", &["-D", &directory, "-l", &log, "-w", "-t", "60", "start"]);
        let mut command = Command::new("unshare");
        command.args([
            "--net",
            "--uts",
            "--mount",
            "sh",
            "-c",
            "mount --bind \"$0\" /etc/hostname && exec \"$@\"",
        ]);
        command.arg(&file).arg(start.get_program()).args(start.get_args()).current_dir(self.root.path());
        let started = command.env("LC_ALL", "C").stdout(std::process::Stdio::null()).status();
        if !started.is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED {name}: namespaces may not be made here");
            return None;
        }
        Some(())
    }

    pub(crate) fn run(&self, program: &str, arguments: &[&str]) {
        // Output goes to a file: the server inherits it, and a pipe would be open as long as it runs.
        let log = self.root.path().join(format!("{program}.log"));
        let file = std::fs::File::create(&log).unwrap();
        let mut command = self.command(program, arguments);
        let status = command.stdout(file.try_clone().unwrap()).stderr(file).status().unwrap();
        assert!(status.success(), "{program}: {}", std::fs::read_to_string(&log).unwrap_or_default());
    }

    /// Gives the replica a certificate for `localhost` and returns the authority to trust.
    pub(crate) async fn with_tls(&self, test: &str) -> Option<PathBuf> {
        let file = |name: &str| self.replica.directory.join(name);
        let (key, certificate) = (file("server.key"), file("server.crt"));
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
            .args([
                "-addext",
                "subjectAltName=DNS:localhost",
                "-addext",
                "basicConstraints=critical,CA:FALSE",
            ])
            .args(["-keyout", &key.display().to_string(), "-out", &certificate.display().to_string()])
            .output();
        if !made.is_ok_and(|made| made.status.success()) {
            eprintln!("SKIPPED {test}: no openssl to make a certificate with");
            return None;
        }
        let owner = std::fs::metadata(&self.replica.directory).unwrap();
        for file in [&key, &certificate] {
            let (user, group) = (owner.uid().into(), owner.gid().into());
            nix::unistd::chown(file, Some(user), Some(group)).unwrap();
        }
        let sql = self.replica.sql("postgres").await;
        sql.batch_execute("ALTER SYSTEM SET ssl = on").await.unwrap();
        sql.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        until("TLS is on", async || {
            let fresh = self.replica.sql("postgres").await;
            (value::<String>(&fresh, "SHOW ssl").await == "on").then_some(())
        })
        .await;
        Some(certificate)
    }

    /// Waits until the replica has replayed everything.
    pub(crate) async fn caught_up(&self) {
        let (primary, replica) = (self.primary.sql("postgres").await, self.replica.sql("postgres").await);
        let now: String = value(&primary, "SELECT pg_current_wal_lsn()::text").await;
        until("the replica has caught up", async || {
            let sql = format!("SELECT coalesce(pg_last_wal_replay_lsn() >= '{now}', false)");
            value::<bool>(&replica, &sql).await.then_some(())
        })
        .await;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for server in [&self.replica, &self.primary] {
            let directory = server.directory.display().to_string();
            let stop = ["-D", &directory, "-w", "-m", "immediate", "stop"];
            if server.directory.join("postmaster.pid").exists() {
                drop(self.command("pg_ctl", &stop).output());
            }
        }
    }
}

impl Server {
    pub(crate) fn dsn(&self, user: &str) -> Secret {
        Secret::new(format!("postgresql://{user}@127.0.0.1:{}/postgres", self.port))
    }

    pub(crate) async fn sql(&self, database: &str) -> Client {
        let config = format!("host=127.0.0.1 port={} user=postgres dbname={database}", self.port);
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// A started extension for this server.
    pub(crate) async fn watch(&self, primary: Option<&Self>) -> Watched {
        watch(DatabaseSettings {
            dsn: Some(self.dsn("postgres")),
            primary_dsn: primary.map(|primary| primary.dsn("postgres")),
            data_directory: None,
        })
        .await
    }
}

pub(crate) struct Watched {
    pub(crate) extension: DatabaseExtension,
    pub(crate) database: Database,
}

pub(crate) async fn watch(settings: DatabaseSettings) -> Watched {
    let extension = DatabaseExtension::new("database/test".parse().unwrap(), settings).unwrap();
    extension.start().await.unwrap();
    let database = database(&extension).unwrap().clone();
    Watched { extension, database }
}

pub(crate) async fn value<T>(client: &Client, sql: &str) -> T
where
    T: for<'a> tokio_postgres::types::FromSql<'a>,
{
    client.query_one(sql, &[]).await.unwrap().get(0)
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
