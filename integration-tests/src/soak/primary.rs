//! The laboratory's primary, restarted with the server's own `pg_ctl`: from then on it is no child of ours.

use std::{
    fs::File,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use blameio::lab::Lab;
use nix::unistd::{Uid, User};

use crate::bench::Outcome;

/// How to restart it. Dropping it stops what it has started.
#[derive(Debug)]
pub struct Primary {
    program: PathBuf,
    data: PathBuf,
    log: PathBuf,
    restarted: bool,
}

impl Primary {
    /// Of a laboratory; to be dropped before it.
    pub fn of(lab: &Lab) -> Self {
        let primary = lab.primary();
        let program = primary.binaries().dir().join("pg_ctl");
        Self { program, data: primary.data(), log: primary.log(), restarted: false }
    }

    /// Stops it in order and starts it with the same options; waits until it accepts connections.
    pub fn restart(&mut self) -> Outcome<()> {
        self.restarted = true;
        self.pg_ctl("restart", "fast")
    }

    fn pg_ctl(&self, what: &str, mode: &str) -> Outcome<()> {
        // The server inherits it: a pipe would never end.
        let log = File::options().append(true).open(&self.log)?;
        let mut command = Command::new(&self.program);
        command.args([what, "-w", "-t", "60", "-m", mode, "-D"]).arg(&self.data).current_dir(&self.data);
        if Uid::effective().is_root() {
            // PostgreSQL refuses root; the laboratory chose the same user.
            let user = User::from_name("postgres")?.or(User::from_name("nobody")?);
            let user = user.ok_or("this host has neither a user postgres nor nobody")?;
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        let copy = log.try_clone()?;
        let status = command.stdin(Stdio::null()).stdout(copy).stderr(log).process_group(0).status()?;
        if status.success() { Ok(()) } else { Err(format!("pg_ctl {what}: {status}").into()) }
    }
}

impl Drop for Primary {
    fn drop(&mut self) {
        if self.restarted
            && let Err(error) = self.pg_ctl("stop", "immediate")
        {
            eprintln!("soak: the primary in {} may still run: {error}", self.data.display());
        }
    }
}
