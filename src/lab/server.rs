//! One running postmaster as our direct child: start, wait until it accepts connections, stop, clean up.
//!
//! A direct child, not `pg_ctl start`: only a parent learns of its end without a race and reaps it. It has its
//! own process group, so that a terminal's Ctrl-C reaches us alone. It does not create data directories.

use std::fs::OpenOptions;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::command::{become_owner, clean_environment, last_lines};
use super::owner::Owner;
use super::{LabError, process};

const START_DEADLINE: Duration = Duration::from_mins(1);
const STOP_DEADLINE: Duration = Duration::from_secs(30);
/// In an immediate stop the postmaster itself kills stragglers after 5 s; we wait a little longer than that.
const IMMEDIATE_DEADLINE: Duration = Duration::from_secs(8);
const POLL: Duration = Duration::from_millis(20);

/// What a start needs to know.
pub(crate) struct Launch<'a> {
    pub(crate) postgres: PathBuf,
    pub(crate) data: &'a Path,
    pub(crate) log: &'a Path,
    pub(crate) sockets: Option<&'a Path>,
    pub(crate) port: u16,
    pub(crate) owner: Option<Owner>,
}

/// A postmaster. Dropping it stops it at once.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
}

impl Server {
    /// Returns when the server accepts connections.
    pub(crate) fn start(launch: &Launch<'_>) -> Result<Self, LabError> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(launch.log)
            .map_err(LabError::file("open", launch.log))?;
        let copy = log.try_clone().map_err(LabError::file("open", launch.log))?;
        let sockets = launch.sockets.map(|dir| dir.display().to_string()).unwrap_or_default();
        let mut command = Command::new(&launch.postgres);
        clean_environment(&mut command);
        become_owner(&mut command, launch.owner, launch.data);
        command
            .arg("-D")
            .arg(launch.data)
            .args(["-p", &launch.port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c"])
            .arg(format!("unix_socket_directories={sockets}"))
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(copy)
            .stderr(log);
        let child = command
            .spawn()
            .map_err(|source| LabError::NotRun { program: launch.postgres.display().to_string(), source })?;
        let mut server = Self { child };
        server.wait_ready(launch)?;
        Ok(server)
    }

    fn wait_ready(&mut self, launch: &Launch<'_>) -> Result<(), LabError> {
        let failed = |reason: String| LabError::Start {
            data: launch.data.to_owned(),
            reason,
            log: last_lines(&std::fs::read_to_string(launch.log).unwrap_or_default(), 12),
        };
        let end = Instant::now() + START_DEADLINE;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Err(failed(status.to_string())),
                Ok(None) if is_ready(launch.data, self.pid()) => return Ok(()),
                Ok(None) if Instant::now() > end => return Err(failed(format!("not in {START_DEADLINE:?}"))),
                Ok(None) => std::thread::sleep(POLL),
                Err(error) => return Err(failed(error.to_string())),
            }
        }
    }

    /// The postmaster's pid.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or(i32::MAX)
    }

    /// Disconnects clients and writes a shutdown checkpoint; falls back to an immediate stop.
    pub(crate) fn stop_fast(&mut self) {
        if !self.signal_and_wait(Signal::SIGINT, STOP_DEADLINE) {
            self.stop_immediate();
        }
    }

    /// Ends without a checkpoint, as a crash would, and at last by SIGKILL.
    pub(crate) fn stop_immediate(&mut self) {
        let children: Vec<i32> = process::children(self.pid()).iter().map(|child| child.pid).collect();
        for pid in &children {
            // One that a test has stopped could not obey its postmaster. It may have ended by itself: no matter.
            let _gone = kill(Pid::from_raw(*pid), Signal::SIGCONT);
        }
        if !self.signal_and_wait(Signal::SIGQUIT, IMMEDIATE_DEADLINE) {
            // Children are listed again before their parent dies: afterwards they have another parent.
            let left = process::children(self.pid());
            self.signal_and_wait(Signal::SIGKILL, IMMEDIATE_DEADLINE);
            for child in &left {
                let _gone = kill(Pid::from_raw(child.pid), Signal::SIGKILL);
            }
        }
        if !process::wait_gone(&children, IMMEDIATE_DEADLINE) {
            tracing::warn!(postmaster = self.pid(), "server processes outlived their postmaster");
        }
    }

    fn signal_and_wait(&mut self, signal: Signal, deadline: Duration) -> bool {
        let end = Instant::now() + deadline;
        // Until try_wait has reaped it the pid cannot belong to anyone else.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _gone = kill(Pid::from_raw(self.pid()), signal);
        }
        loop {
            match self.child.try_wait() {
                Ok(None) if Instant::now() > end => return false,
                Ok(None) => std::thread::sleep(POLL),
                Ok(Some(_)) | Err(_) => return true,
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.stop_immediate();
        }
    }
}

/// Line 1 of postmaster.pid is the pid, line 8 the state; a file left by a crash has another pid.
fn is_ready(data: &Path, pid: i32) -> bool {
    let Ok(text) = std::fs::read_to_string(data.join("postmaster.pid")) else { return false };
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.first().is_some_and(|line| *line == pid.to_string())
        && lines.get(7).is_some_and(|state| matches!(*state, "ready" | "standby"))
}
