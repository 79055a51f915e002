//! One `PostgreSQL` server in a directory of its own: create, start, stop, promote, and its processes.
//!
//! It knows nothing of slow disks or workloads, and speaks no SQL.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::command::Run;
use super::owner::{Owner, private_dir, server_owner};
use super::server::{Launch, Server};
use super::{Binaries, LabError, Settings, process};

/// `sockaddr_un` holds 107 bytes; the file in the directory is ".s.PGSQL.65535.lock".
const LONGEST_SOCKET_DIR: usize = 107 - 20;
/// Another process may take a free port between our look and the server's bind.
const PORT_ATTEMPTS: usize = 3;

/// How to stop a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// Disconnects clients, writes a shutdown checkpoint.
    Fast,
    /// Like a crash: the next start recovers.
    Immediate,
}

/// A server: `dir/data`, `dir/log`, `dir/sockets`. Dropping it stops the server at once and leaves the files.
#[derive(Debug)]
pub struct Cluster {
    binaries: Binaries,
    dir: PathBuf,
    owner: Option<Owner>,
    port: u16,
    /// None while stopped.
    server: Option<Server>,
}

impl Cluster {
    /// Creates and starts a primary. `dir` must be reachable for the server's user (`postgres` or `nobody` when
    /// we are root). Settings come after the laboratory's own and win.
    pub fn primary(binaries: &Binaries, dir: &Path, settings: &Settings) -> Result<Self, LabError> {
        let mut cluster = Self::prepare(binaries, dir)?;
        let mut initdb = Run::new(binaries.program("initdb"))
            .args(["-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-locale", "--no-sync", "-D"])
            .arg(cluster.data());
        // Default from 18 on; with checksums a hint bit writes a whole page into the WAL.
        if binaries.major() >= 18 {
            initdb = initdb.arg("--no-data-checksums");
        }
        initdb.owned(cluster.owner, dir).output()?;
        cluster.configure(&Settings::primary_base().and(settings))?;
        cluster.first_start()?;
        Ok(cluster)
    }

    /// Copies `primary` through a replication slot of its own and starts the copy as a hot standby.
    pub fn replica_of(primary: &Self, dir: &Path, settings: &Settings) -> Result<Self, LabError> {
        let mut cluster = Self::prepare(&primary.binaries, dir)?;
        let slot = format!("lab_{}", cluster.port);
        Run::new(cluster.binaries.program("pg_basebackup"))
            .args(["-X", "stream", "-R", "-C", "--no-sync", "--checkpoint=fast", "-S", &slot, "-d"])
            .arg(format!("host=127.0.0.1 port={} user=postgres application_name={slot}", primary.port))
            .arg("-D")
            .arg(cluster.data())
            .owned(cluster.owner, dir)
            .output()?;
        cluster.configure(&Settings::replica_base(cluster.binaries.major()).and(settings))?;
        cluster.first_start()?;
        Ok(cluster)
    }

    /// The same for programs without `pg_basebackup`: `primary` is stopped, copied as it lies, and started again.
    /// It has no replication slot; the laboratory's primaries keep their WAL.
    pub fn copied_from(primary: &mut Self, dir: &Path, settings: &Settings) -> Result<Self, LabError> {
        let mut cluster = Self::prepare(&primary.binaries, dir)?;
        primary.stop(StopMode::Fast);
        Run::new("cp").arg("-a").arg(primary.data().join(".")).arg(cluster.data()).output()?;
        primary.start()?;
        let upstream = format!("host=127.0.0.1 port={} user=postgres", primary.port);
        let link = Settings::default().with("primary_conninfo", &upstream);
        cluster.configure(&link.and(&Settings::replica_base(cluster.binaries.major())).and(settings))?;
        let signal = cluster.data().join("standby.signal");
        std::fs::write(&signal, "").map_err(LabError::file("create", &signal))?;
        cluster.first_start()?;
        Ok(cluster)
    }

    fn prepare(binaries: &Binaries, dir: &Path) -> Result<Self, LabError> {
        let owner = server_owner();
        for path in [dir.to_owned(), dir.join("data"), dir.join("sockets")] {
            private_dir(&path, owner)?;
        }
        Ok(Self { binaries: binaries.clone(), dir: dir.to_owned(), owner, port: free_port()?, server: None })
    }

    fn first_start(&mut self) -> Result<(), LabError> {
        let mut attempt = 1;
        loop {
            match self.start() {
                Err(LabError::Start { log, .. })
                    if attempt < PORT_ATTEMPTS && log.contains("Address already in use") =>
                {
                    attempt += 1;
                    self.port = free_port()?;
                }
                done => return done,
            }
        }
    }

    /// Starts the server and waits until it accepts connections; nothing to do when it runs.
    pub fn start(&mut self) -> Result<(), LabError> {
        if self.server.is_some() {
            return Ok(());
        }
        let sockets = self.dir.join("sockets");
        let short = sockets.as_os_str().len() <= LONGEST_SOCKET_DIR;
        self.server = Some(Server::start(&Launch {
            postgres: self.binaries.program("postgres"),
            data: &self.data(),
            log: &self.log(),
            sockets: short.then_some(sockets.as_path()),
            port: self.port,
            owner: self.owner,
        })?);
        Ok(())
    }

    /// Stops the server; nothing to do when it does not run.
    pub fn stop(&mut self, mode: StopMode) {
        if let Some(mut server) = self.server.take() {
            match mode {
                StopMode::Fast => server.stop_fast(),
                StopMode::Immediate => server.stop_immediate(),
            }
        }
    }

    /// Stops and starts again.
    pub fn restart(&mut self, mode: StopMode) -> Result<(), LabError> {
        self.stop(mode);
        self.start()
    }

    /// Ends recovery and waits until the server is a primary.
    pub fn promote(&self) -> Result<(), LabError> {
        Run::new(self.binaries.program("pg_ctl"))
            .args(["promote", "-w", "-D"])
            .arg(self.data())
            .owned(self.owner, &self.dir)
            .output()
            .map(drop)
    }

    /// Appends to postgresql.conf; in force after [`Cluster::reload`] or [`Cluster::restart`], as the setting asks.
    pub fn configure(&self, settings: &Settings) -> Result<(), LabError> {
        let path = self.data().join("postgresql.conf");
        OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(settings.to_conf().as_bytes()))
            .map_err(LabError::file("append to", &path))
    }

    /// Makes the server read its configuration again.
    pub fn reload(&self) -> Result<(), LabError> {
        let pid = self.postmaster()?;
        kill(Pid::from_raw(pid), Signal::SIGHUP).map_err(|source| LabError::Signal {
            signal: "SIGHUP",
            pid,
            source,
        })
    }

    /// "postgresql://postgres@127.0.0.1:PORT/postgres"; no password.
    pub fn dsn(&self) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// The TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory given at creation.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The server's log.
    pub fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// The programs it runs.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// The postmaster's pid.
    pub fn postmaster(&self) -> Result<i32, LabError> {
        self.server.as_ref().map(Server::pid).ok_or_else(|| LabError::Stopped { dir: self.dir.clone() })
    }

    /// The process that replays WAL; a primary has none.
    pub fn startup_process(&self) -> Result<i32, LabError> {
        self.process("startup")
    }

    /// The process that receives WAL; it may come some moments after the start.
    pub fn walreceiver(&self) -> Result<i32, LabError> {
        self.process("walreceiver")
    }

    fn process(&self, role: &'static str) -> Result<i32, LabError> {
        process::child_with_role(self.postmaster()?, role).ok_or_else(|| LabError::NoProcess {
            role,
            dir: self.dir.clone(),
            log: self.log(),
        })
    }
}

/// Below those that the kernel gives to connections: nobody takes one while a data directory is made.
const FIRST_PORT: u32 = 20_000;
const PORTS: u32 = 12_000;

pub(crate) fn free_port() -> Result<u16, LabError> {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let mut refused = std::io::Error::from(std::io::ErrorKind::AddrInUse);
    for _ in 0..PORTS {
        let next = std::process::id().wrapping_mul(89).wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(FIRST_PORT + next % PORTS).unwrap_or(u16::MAX);
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(_) => return Ok(port),
            Err(error) => refused = error,
        }
    }
    Err(LabError::file("look for a free port on", Path::new("127.0.0.1"))(refused))
}
