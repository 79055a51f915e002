//! Runs a program to its end, as another user if asked, and turns its failure into an error with its words.
//!
//! Not for servers: see `server.rs`.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::LabError;
use super::owner::Owner;

/// One run of a program.
pub(crate) struct Run {
    command: Command,
}

impl Run {
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        clean_environment(&mut command);
        // A terminal's Ctrl-C is for us: we take down what was made, and a program that it ended would be told as a failure.
        command.stdin(Stdio::null()).process_group(0);
        Self { command }
    }

    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    pub(crate) fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Runs as `owner` in `dir`: our own directory may be closed to that user.
    pub(crate) fn owned(mut self, owner: Option<Owner>, dir: &Path) -> Self {
        become_owner(&mut self.command, owner, dir);
        self
    }

    /// Standard output, when the program succeeded.
    pub(crate) fn output(mut self) -> Result<String, LabError> {
        let program = self.command.get_program().to_string_lossy().into_owned();
        let output =
            self.command.output().map_err(|source| LabError::NotRun { program: program.clone(), source })?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(stdout);
        }
        let arguments =
            self.command.get_args().map(|a| a.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ");
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &stdout;
        Err(LabError::Failed {
            program: format!("{program} {arguments}"),
            status: output.status.to_string(),
            output: last_lines(&said, 10),
        })
    }
}

/// Where mkfs.ext4 and losetup are; root by `su` often has no such entry in its PATH.
const SYSTEM_PROGRAMS: &str = "/usr/sbin:/sbin";

/// The user's own PGHOST, PGOPTIONS or locale must not reach a laboratory server.
pub(crate) fn clean_environment(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":");
    path.push(SYSTEM_PROGRAMS);
    command.env("PATH", path).env("LC_ALL", "C");
}

pub(crate) fn become_owner(command: &mut Command, owner: Option<Owner>, dir: &Path) {
    if let Some(owner) = owner {
        command.uid(owner.uid.as_raw()).gid(owner.gid.as_raw());
    }
    command.current_dir(dir);
}

pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
