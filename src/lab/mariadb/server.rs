//! One `MariaDB` server in a directory of its own: create, copy, start, stop. It knows nothing of slow disks or workloads.

use std::fs::OpenOptions;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::LabError;
use crate::lab::cluster::free_port;
use crate::lab::command::{Run, become_owner, clean_environment, last_lines};
use crate::lab::owner::{Owner, private_dir, server_owner};

use super::sql::{self, Access};

const START_DEADLINE: Duration = Duration::from_mins(1);
const STOP_DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// Where Debian and others put what no user is meant to start by hand.
const DIRECTORIES: [&str; 4] = ["/usr/sbin", "/usr/libexec", "/usr/local/sbin", "/usr/local/bin"];

/// What every server of the laboratory starts with. Row events, as `MySQL` has by default; no fsync for each commit:
/// what a disk owes is the matter of scenarios that limit it.
const BASE: [&str; 13] = [
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--log-bin=binlog",
    "--binlog-format=ROW",
    "--sync-binlog=0",
    "--innodb-flush-log-at-trx-commit=2",
    "--innodb-log-file-size=256M",
    "--innodb-buffer-pool-dump-at-shutdown=OFF",
    "--innodb-buffer-pool-load-at-startup=OFF",
    // Only primary and replica speak to each other, and both start anew in the middle of a file.
    "--gtid-strict-mode=OFF",
    "--slave-net-timeout=10",
    "--max-connections=60",
    "--skip-slave-start",
];

/// A server: `dir/data`, `dir/tmp`, `dir/log`, `dir/socket`. Dropping it stops the server and leaves the files.
#[derive(Debug)]
pub struct MariaDb {
    dir: PathBuf,
    owner: Option<Owner>,
    port: u16,
    options: Vec<String>,
    /// None while stopped.
    child: Option<Child>,
}

/// The server's program, in PATH or where distributions put it.
pub fn program() -> Result<PathBuf, LabError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    dirs.extend(DIRECTORIES.map(PathBuf::from));
    dirs.iter().map(|dir| dir.join("mariadbd")).find(|program| program.is_file()).ok_or(LabError::NoMariaDb)
}

impl MariaDb {
    /// Creates and starts a server with accounts for the laboratory. Options are those of `mariadbd`, and come after the
    /// laboratory's own.
    pub async fn create(dir: &Path, server_id: u32, options: &[&str]) -> Result<Self, LabError> {
        let mut server = Self::prepare(dir, server_id, options)?;
        Run::new("mariadb-install-db")
            .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
            .arg(format!("--datadir={}", server.data().display()))
            .owned(server.owner, dir)
            .output()?;
        server.start().await?;
        sql::accounts(&mut sql::connect(&server.access_as("root")).await?).await?;
        Ok(server)
    }

    /// Stops `primary`, copies it as it lies, starts both, and lets the copy replicate from where the primary stood.
    pub async fn copied_from(
        primary: &mut Self,
        dir: &Path,
        server_id: u32,
        options: &[&str],
    ) -> Result<Self, LabError> {
        let mut replica = Self::prepare(dir, server_id, options)?;
        primary.stop();
        Run::new("cp").arg("-a").arg(primary.data().join(".")).arg(replica.data()).output()?;
        // Else it would be written in the middle of what is measured.
        Run::new("sync").arg("-f").arg(replica.data()).output()?;
        primary.start().await?;
        // The primary began a new log at its start: nothing is before it.
        let start = sql::position(&mut sql::connect(&primary.access()).await?).await?;
        replica.start().await?;
        let mut client = sql::connect(&replica.access()).await?;
        sql::replicate(&mut client, primary.port, &start).await?;
        Ok(replica)
    }

    fn prepare(dir: &Path, server_id: u32, options: &[&str]) -> Result<Self, LabError> {
        let owner = server_owner();
        for path in [dir.to_owned(), dir.join("data"), dir.join("tmp")] {
            private_dir(&path, owner)?;
        }
        let options = [format!("--server-id={server_id}")]
            .into_iter()
            .chain(BASE.into_iter().chain(options.iter().copied()).map(str::to_owned))
            .collect();
        Ok(Self { dir: dir.to_owned(), owner, port: free_port()?, options, child: None })
    }

    /// Starts the server and waits until it answers; nothing to do when it runs.
    pub async fn start(&mut self) -> Result<(), LabError> {
        if self.child.is_some() {
            return Ok(());
        }
        let (program, log) = (program()?, self.log());
        let file = OpenOptions::new().create(true).append(true).open(&log);
        let file = file.map_err(LabError::file("open", &log))?;
        let copy = file.try_clone().map_err(LabError::file("open", &log))?;
        let mut command = Command::new(&program);
        clean_environment(&mut command);
        become_owner(&mut command, self.owner, &self.data());
        command
            .arg("--no-defaults")
            .arg(format!("--datadir={}", self.data().display()))
            .arg(format!("--socket={}", self.socket().display()))
            .arg(format!("--pid-file={}", self.data().join("mariadbd.pid").display()))
            .arg(format!("--port={}", self.port))
            // A server that starts clears its directory of whatever looks like a temporary table.
            .arg(format!("--tmpdir={}", self.dir.join("tmp").display()))
            .args(&self.options)
            // A terminal's Ctrl-C is for us.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(copy)
            .stderr(file);
        let child = command
            .spawn()
            .map_err(|source| LabError::NotRun { program: program.display().to_string(), source })?;
        self.child = Some(child);
        self.wait_ready().await
    }

    async fn wait_ready(&mut self) -> Result<(), LabError> {
        let end = Instant::now() + START_DEADLINE;
        let root = self.access_as("root");
        loop {
            let exited = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            let reason = match exited {
                Some(status) => status.to_string(),
                None if sql::connect(&root).await.is_ok() => return Ok(()),
                None if Instant::now() > end => format!("not in {START_DEADLINE:?}"),
                None => {
                    tokio::time::sleep(POLL).await;
                    continue;
                }
            };
            let log = last_lines(&std::fs::read_to_string(self.log()).unwrap_or_default(), 12);
            return Err(LabError::Start { data: self.data(), reason, log });
        }
    }

    /// Stops the server in order, or at last by SIGKILL; nothing to do when it does not run.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        for (signal, deadline) in [(Signal::SIGTERM, STOP_DEADLINE), (Signal::SIGKILL, STOP_DEADLINE)] {
            let end = Instant::now() + deadline;
            // Until try_wait has reaped it the pid cannot belong to anyone else.
            if matches!(child.try_wait(), Ok(None)) {
                let _gone = kill(Pid::from_raw(child.id().cast_signed()), signal);
            }
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < end {
                std::thread::sleep(POLL);
            }
        }
    }

    /// Stops and starts again.
    pub async fn restart(&mut self) -> Result<(), LabError> {
        self.stop();
        self.start().await
    }

    /// How the laboratory reaches it.
    pub fn access(&self) -> Access {
        self.access_as(sql::ACCOUNT)
    }

    fn access_as(&self, user: &'static str) -> Access {
        Access { user, socket: self.socket() }
    }

    /// `mysql://lab@127.0.0.1:PORT/`; no password.
    pub fn dsn(&self) -> String {
        format!("mysql://{}@127.0.0.1:{}/", sql::ACCOUNT, self.port)
    }

    /// The TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The server's log of errors.
    pub fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// The server's socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("socket")
    }

    /// The server's process.
    pub fn pid(&self) -> Result<i32, LabError> {
        let child = self.child.as_ref().ok_or_else(|| LabError::Stopped { dir: self.dir.clone() })?;
        Ok(child.id().cast_signed())
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        self.stop();
    }
}
