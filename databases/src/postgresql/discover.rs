//! PostgreSQL servers on this host, from /proc: a postmaster's working directory is its data directory.
//!
//! Files are reached through /proc/PID, so a server in a container is found as one outside of it is.

use std::{fs, path::Path};

use super::{SYSTEM, control, dsn, postmaster};
use crate::{discover::DiscoveredServer, procfs};

/// Names of the server's program; some distributions and forks rename it.
const PROGRAMS: &[&str] = &["postgres", "postmaster", "edb-postgres", "edb-postmaster"];

/// Looks for postmasters.
pub fn discover() -> Vec<DiscoveredServer> {
    procfs::pids().into_iter().filter_map(server).collect()
}

fn server(pid: u32) -> Option<DiscoveredServer> {
    let stat = procfs::stat(pid).filter(|stat| PROGRAMS.contains(&stat.comm.as_str()))?;
    // Every process of a server works in the data directory; the postmaster is the one that its file names.
    let directory = procfs::working_directory(pid);
    let file = postmaster::parse(&fs::read_to_string(directory.join("postmaster.pid")).ok()?)?;
    let server_pid = procfs::own_pid(pid).unwrap_or(pid);
    let is_child = procfs::stat(stat.parent).is_some_and(|parent| parent.comm == stat.comm)
        && procfs::own_pid(stat.parent) == Some(file.pid);
    if file.pid != server_pid || is_child {
        return None;
    }
    let version = fs::read_to_string(directory.join("PG_VERSION")).ok();
    let same_network = procfs::share_namespace(pid, "net");
    Some(DiscoveredServer {
        system: SYSTEM,
        pid,
        server_pid,
        data_directory_id: procfs::identity(&directory)?,
        data_directory: fs::read_link(&directory).unwrap_or(file.data_directory),
        port: file.port,
        major_version: version.and_then(|version| version.trim().split('.').next()?.parse().ok()),
        started: file.started,
        system_identifier: fs::read(directory.join("global/pg_control"))
            .ok()
            .and_then(|control| control::system_identifier(&control)),
        same_network,
        suggested_name: String::new(),
        dsns: dsns(pid, file.socket_directory.as_deref(), file.port, same_network),
        socket_directory: file.socket_directory,
    })
}

/// The superuser that every cluster has, over the socket, then over the loopback address. Whether either may be
/// used is for `pg_hba.conf` to say.
fn dsns(pid: u32, socket: Option<&Path>, port: u16, same_network: bool) -> Vec<blameio_config::Secret> {
    let mut dsns = Vec::new();
    if let Some(socket) = socket.filter(|socket| socket.is_absolute()) {
        let seen = if procfs::share_namespace(pid, "mnt") {
            socket.display().to_string()
        } else {
            format!("/proc/{pid}/root{}", socket.display())
        };
        dsns.push(dsn::without_password("postgres", &seen, port));
    }
    if same_network {
        dsns.push(dsn::without_password("postgres", "127.0.0.1", port));
    }
    dsns
}
