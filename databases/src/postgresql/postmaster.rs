//! Reads `postmaster.pid`, which the postmaster writes into its data directory. Pure.

use std::path::PathBuf;

/// What `postmaster.pid` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PostmasterFile {
    /// Process id as the server counts.
    pub(super) pid: u32,
    pub(super) data_directory: PathBuf,
    /// Start time, in seconds since the epoch.
    pub(super) started: i64,
    pub(super) port: u16,
    /// Directory of the first Unix socket.
    pub(super) socket_directory: Option<PathBuf>,
}

/// Reads the file; `None` while the server has not yet written all of it.
pub(super) fn parse(text: &str) -> Option<PostmasterFile> {
    let mut lines = text.lines().map(str::trim);
    // A single-user backend writes its pid negated.
    let pid = lines.next()?.parse().ok()?;
    let data_directory = lines.next().filter(|path| path.starts_with('/')).map(PathBuf::from)?;
    let started = lines.next()?.parse().ok()?;
    let port = lines.next()?.parse().ok()?;
    let socket_directory = lines.next().filter(|path| !path.is_empty()).map(PathBuf::from);
    Some(PostmasterFile { pid, data_directory, started, port, socket_directory })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_file_of_a_running_server_is_read() {
        let text = "4711\n/var/lib/postgresql/15/main\n1700000000\n5432\n/var/run/postgresql\nlocalhost\n 5432001 0\nready   \n";
        let read = parse(text).unwrap();
        assert_eq!((read.pid, read.port, read.started), (4711, 5432, 1_700_000_000));
        assert_eq!(read.socket_directory, Some(PathBuf::from("/var/run/postgresql")));
        let no_socket = parse("4711\n/data\n1700000000\n5432\n\n*\n").unwrap();
        assert_eq!(no_socket.socket_directory, None);
    }

    #[test]
    fn half_a_file_and_a_single_user_backend_are_no_server() {
        for text in
            ["", "4711\n", "4711\n/data\n170", "-4711\n/data\n1700000000\n5432\n", "4711\ndata\n1\n2\n"]
        {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[0-9/a-z\\n -]{0,80}") {
            let _ = parse(&text);
        }

        #[test]
        fn a_file_round_trips(pid in 1u32.., started in 0i64.., port in 1u16.., path in "/[a-z0-9]{1,20}") {
            let read = parse(&format!("{pid}\n{path}\n{started}\n{port}\n{path}\n*\n"));
            let path = PathBuf::from(path);
            let expected =
                PostmasterFile { pid, data_directory: path.clone(), started, port, socket_directory: Some(path) };
            prop_assert_eq!(read, Some(expected));
        }
    }
}
