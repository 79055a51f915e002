//! MySQL and MariaDB servers on this host, from /proc: a server works in its data directory, and listens where it says.
//!
//! Files are reached through /proc/PID, so a server in a container is found as one outside of it is. They are read as
//! what any user may have written.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{MARIADB, MYSQL, dsn, server::half, sockets};
use crate::{
    discover::{DiscoveredServer, container, seen},
    owned, procfs, url,
};

/// Names of the server's program; MariaDB before 10.5 has that of MySQL.
const PROGRAMS: &[&str] = &["mariadbd", "mysqld", "mariadbd-debug", "mysqld-debug"];

/// A file that only a data directory of MariaDB has, and those of which one is in every data directory.
const OF_MARIADB: &str = "aria_log_control";
const OF_EITHER: &[&str] = &[OF_MARIADB, "auto.cnf", "ibdata1"];

/// Files that say which version last had the data directory.
const VERSIONS: &[&str] = &["mariadb_upgrade_info", "mysql_upgrade_info"];

/// Files that are there while a server is a replica. MySQL 8 keeps what they say in tables, and has the relay logs alone.
const REPLICA: &str = "master.info";
const SOURCES: &str = "multi-master.info";

/// The server whose main process this is, and the user that it runs as.
pub(crate) fn server(pid: u32) -> Option<(u32, DiscoveredServer)> {
    procfs::stat(pid).filter(|stat| PROGRAMS.contains(&stat.comm.as_str()))?;
    let user = procfs::user(pid)?;
    let path = procfs::working_directory(pid);
    let directory = owned::Directory::open(&path, user)?;
    // Until it works in its data directory it is being started, and one that makes a data directory listens nowhere.
    if !OF_EITHER.iter().any(|name| directory.has(name)) {
        return None;
    }
    let arguments = procfs::arguments(pid);
    let argument =
        |name: &str| arguments.iter().find_map(|argument| argument.strip_prefix(name)?.strip_prefix('='));
    let listens = sockets::of(pid, argument("--port").and_then(|port| port.parse().ok()));
    if listens.port.is_none() && listens.socket.is_none() {
        return None;
    }
    let data_directory = fs::read_link(&path).ok()?;
    let socket = listens.socket.filter(|path| path.is_absolute());
    if ![Some(&data_directory), socket.as_ref()]
        .into_iter()
        .flatten()
        .all(|path| owned::plain(path).is_some())
    {
        tracing::debug!(pid, "the paths of a server hold characters that are not text; it is passed over");
        return None;
    }
    let system = system(pid, &directory);
    let version = VERSIONS.iter().find_map(|name| directory.text(name));
    let server = DiscoveredServer {
        system,
        pid,
        server_pid: procfs::own_pid(pid).unwrap_or(pid),
        data_directory_id: directory.identity()?,
        data_directory,
        port: listens.port.unwrap_or(0),
        major_version: version.and_then(|version| version.trim().split('.').next()?.parse().ok()),
        started: procfs::started_at(pid)?,
        system_identifier: directory.text("auto.cnf").and_then(|text| uuid(&text)),
        is_standby: is_replica(&directory, argument("--relay-log")),
        same_network: procfs::share_namespace(pid, "net"),
        container: container(pid),
        suggested_name: String::new(),
        dsns: socket.iter().filter_map(|socket| own_dsn(system, pid, socket)).collect(),
        socket,
    };
    Some((user, server))
}

fn system(pid: u32, directory: &owned::Directory) -> &'static str {
    let program = fs::read_link(format!("/proc/{pid}/exe")).ok();
    let name =
        program.as_deref().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
    if name.contains("mariadb") || directory.has(OF_MARIADB) { MARIADB } else { MYSQL }
}

/// The UUID in `auto.cnf`.
fn uuid(text: &str) -> Option<u64> {
    half(text.lines().find_map(|line| line.trim().strip_prefix("server-uuid="))?)
}

/// What stands in the files is not read: it holds the password of replication.
fn is_replica(directory: &owned::Directory, relay_log: Option<&str>) -> bool {
    let relay_log = relay_log.filter(|name| !name.contains('/'));
    directory.has(REPLICA)
        || directory.text(SOURCES).is_some_and(|sources| !sources.trim().is_empty())
        || relay_log.is_some_and(|name| directory.has(&format!("{name}.index")))
        || directory.has(&format!("{}-relay-bin.index", blameio_pipeline::machine::host_name()))
}

/// The account of the agent's own name, which a server lets in over its socket without a password where it lets in
/// anybody so.
fn own_dsn(system: &str, pid: u32, socket: &Path) -> Option<blameio_config::Secret> {
    let user = url::operating_system_user()?;
    dsn::without_password(system, &user, &PathBuf::from(seen(pid, socket)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_read_from_its_file() {
        let text = "[auto]\nserver-uuid=3e11fa47-71ca-11e1-9e33-c80aa9429562\n";
        assert_eq!(uuid(text), Some(0x3e11_fa47_71ca_11e1));
        assert_eq!(uuid("[auto]\n"), None);
    }
}
