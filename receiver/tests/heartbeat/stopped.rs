//! A server that is stopped as SIGSTOP does it: it accepts connections and never answers. It goes on when this is dropped.

use std::fs;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

pub(crate) struct Stopped(Vec<Pid>);

impl Stopped {
    /// Stops a process and its children.
    pub(crate) fn new(main: i32) -> Self {
        let children = fs::read_to_string(format!("/proc/{main}/task/{main}/children")).unwrap_or_default();
        let children = children.split_whitespace().map(|pid| pid.parse().unwrap());
        let pids: Vec<_> = std::iter::once(main).chain(children).map(Pid::from_raw).collect();
        let stopped = Self(pids);
        for pid in &stopped.0 {
            kill(*pid, Signal::SIGSTOP).unwrap();
        }
        stopped
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for pid in &self.0 {
            if let Err(error) = kill(*pid, Signal::SIGCONT) {
                eprintln!("{pid} does not go on: {error}");
            }
        }
    }
}
