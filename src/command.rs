//! The commands. Each returns the exit code: 0 when all is well, 1 when it is not, 2 for a bad command line.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
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

/// Writes a line for the person at the terminal. A closed pipe is no error of ours. Names come from servers and file
/// systems, so nothing in them may steer the terminal.
pub(crate) fn say(line: impl AsRef<str>) {
    let mut out = io::stdout().lock();
    drop(writeln!(out, "{}", plain(line.as_ref())).and_then(|()| out.flush()));
}

/// Writes a line about what went wrong.
pub(crate) fn complain(line: impl AsRef<str>) {
    drop(writeln!(io::stderr().lock(), "{}", plain(line.as_ref())));
}

fn plain(text: &str) -> String {
    text.split('\n').map(blameio_exporters::plain).collect::<Vec<_>>().join("\n")
}

/// Time for what may be stuck, such as a write to a paused terminal, after everything else has ended.
const STUCK: Duration = Duration::from_secs(1);

/// Runs a command that waits for something. Two workers: one may read kernel maps while the other looks at positions.
pub(crate) fn block_on(command: impl Future<Output = ExitCode>) -> ExitCode {
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match built {
        Ok(runtime) => {
            let code = runtime.block_on(command);
            runtime.shutdown_timeout(STUCK);
            code
        }
        Err(error) => {
            complain(format!("cannot start: {error}; the host is out of threads or file descriptors"));
            ExitCode::FAILURE
        }
    }
}
