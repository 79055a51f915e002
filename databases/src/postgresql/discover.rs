//! PostgreSQL servers on this host, from /proc: a postmaster's working directory is its data directory.
//!
//! Files are reached through /proc/PID, so a server in a container is found as one outside of it is. They are read as
//! what any user may have written.

use std::{fs, path::Path};

use super::{SYSTEM, control, dsn, postmaster};
use crate::{
    discover::{DiscoveredServer, container, seen},
    owned, procfs,
};

/// Names of the server's program; some distributions and forks rename it.
const PROGRAMS: &[&str] = &["postgres", "postmaster", "edb-postgres", "edb-postmaster"];

/// Files that are there while a server is a standby; the last one until version 11.
const STANDBY: &[&str] = &["standby.signal", "recovery.signal", "recovery.conf"];

/// The server whose postmaster this process is, and the user that it runs as.
pub(crate) fn server(pid: u32) -> Option<(u32, DiscoveredServer)> {
    let stat = procfs::stat(pid).filter(|stat| PROGRAMS.contains(&stat.comm.as_str()))?;
    let user = procfs::user(pid)?;
    // Every process of a server works in the data directory; the postmaster is the one that its file names.
    let path = procfs::working_directory(pid);
    let directory = owned::Directory::open(&path, user)?;
    let file = postmaster::parse(&directory.text("postmaster.pid")?)?;
    let server_pid = procfs::own_pid(pid).unwrap_or(pid);
    let is_child = procfs::stat(stat.parent).is_some_and(|parent| parent.comm == stat.comm)
        && procfs::own_pid(stat.parent) == Some(file.pid);
    if file.pid != server_pid || is_child {
        return None;
    }
    let data_directory = fs::read_link(&path).unwrap_or(file.data_directory);
    let paths = [Some(&data_directory), file.socket_directory.as_ref()];
    if !paths.into_iter().flatten().all(|path| owned::plain(path).is_some()) {
        tracing::debug!(pid, "the paths of a server hold characters that are not text; it is passed over");
        return None;
    }
    let version = directory.text("PG_VERSION");
    let same_network = procfs::share_namespace(pid, "net");
    let server = DiscoveredServer {
        system: SYSTEM,
        pid,
        server_pid,
        data_directory_id: directory.identity()?,
        data_directory,
        port: file.port,
        major_version: version.and_then(|version| version.trim().split('.').next()?.parse().ok()),
        started: file.started,
        system_identifier: directory
            .read(Path::new("global/pg_control"))
            .and_then(|control| control::system_identifier(&control)),
        is_standby: STANDBY.iter().any(|name| directory.read(Path::new(name)).is_some()),
        same_network,
        container: container(pid),
        suggested_name: String::new(),
        dsns: dsns(pid, file.socket_directory.as_deref(), file.port, same_network),
        socket: file.socket_directory,
    };
    Some((user, server))
}

/// The superuser that every cluster has, over the socket, then over the loopback address. Whether either may be
/// used is for `pg_hba.conf` to say.
fn dsns(pid: u32, socket: Option<&Path>, port: u16, same_network: bool) -> Vec<blameio_config::Secret> {
    let mut dsns = Vec::new();
    if let Some(socket) = socket.filter(|socket| socket.is_absolute()) {
        dsns.push(dsn::without_password("postgres", &seen(pid, socket), port));
    }
    if same_network {
        dsns.push(dsn::without_password("postgres", "127.0.0.1", port));
    }
    dsns
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::process::CommandExt,
        process::{Child, Command, Stdio},
        time::{Duration, Instant},
    };

    use super::*;

    /// A process that calls itself `postgres`, gone when dropped.
    struct Fake(Child);

    impl Fake {
        fn start(directory: &Path) -> Self {
            // The name of a process is that of the file that was executed, be it a link.
            let program = directory.with_extension("d").join("postgres");
            fs::create_dir(program.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink("/bin/sleep", &program).unwrap();
            let mut command = Command::new(&program);
            command.arg0("sleep").arg("60").current_dir(directory).stdin(Stdio::null());
            Self(command.spawn().unwrap())
        }

        fn found(&self) -> Option<DiscoveredServer> {
            let begun = Instant::now();
            let found = server(self.0.id());
            assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
            found.map(|(_, server)| server)
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }

    #[test]
    fn nobody_stops_the_agent_with_a_program_called_postgres() {
        let root = tempfile::tempdir().unwrap();
        for (name, is_found) in [("data", true), ("data\nextensions:", false)] {
            let directory = root.path().join(name);
            fs::create_dir(&directory).unwrap();
            let fake = Fake::start(&directory);
            let file = directory.join("postmaster.pid");
            nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
            assert_eq!(fake.found(), None);
            fs::remove_file(&file).unwrap();
            fs::write(&file, format!("{}\n/data\n1700000000\n5999\n", fake.0.id())).unwrap();
            std::os::unix::fs::symlink("/dev/zero", directory.join("PG_VERSION")).unwrap();
            assert_eq!(
                fake.found().map(|server| (server.port, server.major_version)),
                is_found.then_some((5999, None))
            );
        }
    }
}
