//! The commands. Each returns the exit code: 0 when all is well, 1 when it is not, 2 for a bad command line.

use std::{
    io::{self, Write},
    process::ExitCode,
};

pub mod agent;
pub mod components;
pub mod config;
pub mod demo;
pub mod doctor;
pub mod logging;
pub mod run;
pub mod self_metrics;
pub mod validate;

/// Writes a line for the person at the terminal. A closed pipe is no error of ours.
pub(crate) fn say(line: impl AsRef<str>) {
    let mut out = io::stdout().lock();
    drop(writeln!(out, "{}", line.as_ref()).and_then(|()| out.flush()));
}

/// Writes a line about what went wrong.
pub(crate) fn complain(line: impl AsRef<str>) {
    drop(writeln!(io::stderr().lock(), "{}", line.as_ref()));
}

/// The runtime of every command that waits for something. Two workers: one may read kernel maps while the other
/// looks at positions.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, ExitCode> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(|error| {
        complain(format!("cannot start: {error}; the host is out of threads or file descriptors"));
        ExitCode::FAILURE
    })
}
