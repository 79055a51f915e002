//! Where a process listens, from the tables of sockets in /proc and the process's open files.
//!
//! Any user may give a socket any path, a line's end in it too, so a socket that stands twice in a table is not believed.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::Read,
    path::PathBuf,
};

/// Most open files of one process, and most bytes of a table, that are looked at.
const FILES: usize = 200_000;
const TABLE: u64 = 32 << 20;
/// Ports that a server listens on for other things: the X protocol, administration, and Galera.
const OTHERS: &[u16] = &[33060, 33062, 4444, 4567, 4568];
/// Port of a server that nobody set another for.
const USUAL: u16 = 3306;

/// Where a server listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listens {
    pub(super) port: Option<u16>,
    pub(super) socket: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Socket {
    Tcp(u16),
    Unix(PathBuf),
}

/// Where a process listens; of several ports it is the one that it was told to, or else the most usual.
pub(super) fn of(pid: u32, told: Option<u16>) -> Listens {
    let table = |name: &str| {
        let mut text = Vec::new();
        let file = File::open(format!("/proc/{pid}/net/{name}"));
        drop(file.and_then(|file| file.take(TABLE).read_to_end(&mut text)));
        String::from_utf8_lossy(&text).into_owned()
    };
    let mut sockets = HashMap::new();
    for name in ["tcp", "tcp6"] {
        add(&mut sockets, table(name).lines().filter_map(tcp));
    }
    add(&mut sockets, table("unix").lines().filter_map(unix));
    choose(open(pid, &sockets), told)
}

/// Sockets by inode; `None` of one that stands there twice.
type Sockets = HashMap<u64, Option<Socket>>;

fn add(sockets: &mut Sockets, lines: impl Iterator<Item = (u64, Socket)>) {
    for (inode, socket) in lines {
        sockets.entry(inode).and_modify(|known| *known = None).or_insert(Some(socket));
    }
}

/// The sockets of these that the process has open.
fn open(pid: u32, sockets: &Sockets) -> Vec<Socket> {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let mut open = Vec::new();
    for file in files.take(FILES).flatten() {
        let Ok(target) = fs::read_link(file.path()) else { continue };
        let inode =
            target.to_str().and_then(|name| name.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
        let socket = inode.and_then(|inode: u64| sockets.get(&inode).cloned().flatten());
        open.extend(socket);
    }
    open
}

/// A line of `net/tcp` whose socket listens.
fn tcp(line: &str) -> Option<(u64, Socket)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    let port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
    (*state == "0A").then_some((inode.parse().ok()?, Socket::Tcp(port)))
}

/// A line of `net/unix` whose socket listens and has a path.
fn unix(line: &str) -> Option<(u64, Socket)> {
    let mut rest = line;
    let mut field = || {
        let (field, after) = rest.trim_start().split_once(' ')?;
        rest = after;
        Some(field)
    };
    let (_, _, _, flags, _, _) = (field()?, field()?, field()?, field()?, field()?, field()?);
    let inode = field()?.parse().ok()?;
    let path = rest.strip_prefix(' ').unwrap_or(rest);
    // The kernel's flag of a socket that accepts.
    let accepts = u32::from_str_radix(flags, 16).ok()? & 0x10000 != 0;
    (accepts && path.starts_with('/')).then(|| (inode, Socket::Unix(PathBuf::from(path))))
}

fn choose(open: Vec<Socket>, told: Option<u16>) -> Listens {
    let mut ports = Vec::new();
    let mut paths = Vec::new();
    for socket in open {
        match socket {
            Socket::Tcp(port) => ports.push(port),
            Socket::Unix(path) => paths.push(path),
        }
    }
    ports.sort_by_key(|port| (Some(*port) != told, *port != USUAL, OTHERS.contains(port), *port));
    let is_other =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().contains("mysqlx"));
    paths.sort_by_key(|path| (is_other(path), path.clone()));
    Listens { port: ports.first().copied(), socket: paths.into_iter().next() }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::unix::net::UnixListener};

    use super::*;

    #[test]
    fn the_own_process_is_seen_to_listen() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a b.sock");
        let _unix = UnixListener::bind(&path).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        let listens = of(std::process::id(), Some(port));
        assert_eq!(listens.port, Some(port));
        // Other tests of this process may listen on paths of their own.
        let mut sockets = Sockets::new();
        let table = fs::read_to_string("/proc/self/net/unix").unwrap();
        add(&mut sockets, table.lines().filter_map(unix));
        assert!(open(std::process::id(), &sockets).contains(&Socket::Unix(path)));
    }

    #[test]
    fn a_path_with_a_line_of_its_own_is_not_believed() {
        let line = |inode: u32, path: &str| {
            format!("0000000000000000: 00000002 00000000 00010000 0001 01 {inode} {path}")
        };
        let text =
            [line(7, "/run/mysqld.sock"), line(8, &format!("/x\n{}", line(7, "/evil.sock")))].join("\n");
        let mut sockets = Sockets::new();
        add(&mut sockets, text.lines().filter_map(unix));
        assert_eq!(sockets.get(&7), Some(&None));
        let connected = "0000000000000000: 00000003 00000000 00000000 0001 03 9 /run/mysqld.sock";
        assert_eq!(unix(connected), None);
        assert_eq!(unix(&line(9, "@abstract")), None);
        assert_eq!(unix("Num       RefCount Protocol Flags    Type St Inode Path"), None);
    }

    #[test]
    fn the_port_that_was_told_or_is_usual_is_meant() {
        let ports =
            |ports: &[u16], told| choose(ports.iter().map(|port| Socket::Tcp(*port)).collect(), told).port;
        assert_eq!(ports(&[33060, 13306, 4567], Some(13306)), Some(13306));
        assert_eq!(ports(&[33060, 3306, 3000], None), Some(3306));
        assert_eq!(ports(&[4567, 33060, 13306], None), Some(13306));
        assert_eq!(ports(&[], Some(3306)), None);
        let socket = |path: &str| Socket::Unix(path.into());
        let chosen = choose(vec![socket("/run/a-mysqlx.sock"), socket("/run/mysqld.sock")], None);
        assert_eq!(chosen.socket, Some("/run/mysqld.sock".into()));
    }
}
