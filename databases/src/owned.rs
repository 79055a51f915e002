//! Reads small files of a directory that somebody else owns, as a server's data directory is.
//!
//! Any user of the host may run a program called `postgres` in a directory of his own. So nothing here waits, follows
//! a link, reads without a bound, or believes a file that is not of the user who runs the process.

use std::{
    fs::{File, OpenOptions},
    io::Read,
    os::{
        fd::OwnedFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Component, Path},
};

use nix::{
    fcntl::{AtFlags, OFlag, openat},
    sys::stat::{Mode, SFlag, fstatat},
};

/// Most bytes that are read of a file: the control file is that long, and all others are shorter.
const MOST: u64 = 8192;

/// A directory of one user.
pub(crate) struct Directory {
    directory: File,
    owner: u32,
}

impl Directory {
    /// Opens a directory if it is this user's. The path itself is the agent's own choice; links in it are followed.
    pub(crate) fn open(path: &Path, owner: u32) -> Option<Self> {
        // To list it is not needed, so neither is the right to.
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path).ok()?;
        Self { directory, owner }.of_owner()
    }

    fn of_owner(self) -> Option<Self> {
        let metadata = self.directory.metadata().ok()?;
        (metadata.is_dir() && metadata.uid() == self.owner).then_some(self)
    }

    /// Device and inode.
    pub(crate) fn identity(&self) -> Option<(u64, u64)> {
        self.directory.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()))
    }

    /// The first bytes of a file in it or in a directory below, if all of them are the user's.
    pub(crate) fn read(&self, name: &Path) -> Option<Vec<u8>> {
        let mut names = name.components().peekable();
        let mut at = Self { directory: self.directory.try_clone().ok()?, owner: self.owner };
        while let Some(Component::Normal(name)) = names.next() {
            let is_last = names.peek().is_none();
            let flags = if is_last { OFlag::O_NOCTTY } else { OFlag::O_PATH | OFlag::O_DIRECTORY };
            let flags = flags | OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
            let opened: OwnedFd = openat(&at.directory, name, flags, Mode::empty()).ok()?;
            let opened = File::from(opened);
            if is_last {
                return at.contents(opened);
            }
            at = Self { directory: opened, owner: self.owner }.of_owner()?;
        }
        None
    }

    fn contents(&self, file: File) -> Option<Vec<u8>> {
        let metadata = file.metadata().ok()?;
        if !metadata.is_file() || metadata.uid() != self.owner {
            return None;
        }
        let mut bytes = Vec::new();
        file.take(MOST).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// Whether there is a file of the user's with this name; it is not read.
    pub(crate) fn has(&self, name: &str) -> bool {
        let found = fstatat(&self.directory, name, AtFlags::AT_SYMLINK_NOFOLLOW);
        let is_file = |mode| SFlag::from_bits_truncate(mode) & SFlag::S_IFMT == SFlag::S_IFREG;
        found.is_ok_and(|found| is_file(found.st_mode) && found.st_uid == self.owner)
    }

    /// The first bytes of a file, as text.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        String::from_utf8(self.read(Path::new(name))?).ok()
    }
}

/// A path as text that can stand in a configuration and in a log, whoever chose it.
pub(crate) fn plain(path: &Path) -> Option<&str> {
    let is_odd = |c: char| {
        // Line ends that are no control characters, marks that turn the reading direction, and the byte order mark.
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    path.to_str().filter(|text| !text.contains(is_odd))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use nix::unistd::{geteuid, mkfifo};

    use super::*;

    #[test]
    fn only_small_parts_of_regular_files_are_read() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::write(at("version"), "15\n").unwrap();
        fs::write(at("huge"), vec![b'x'; 100_000]).unwrap();
        fs::create_dir(at("global")).unwrap();
        fs::write(at("global/control"), "c").unwrap();
        symlink("version", at("link")).unwrap();
        symlink("global", at("elsewhere")).unwrap();
        mkfifo(&at("fifo"), Mode::S_IRWXU).unwrap();

        let directory = Directory::open(root.path(), geteuid().as_raw()).unwrap();
        assert_eq!(directory.text("version").as_deref(), Some("15\n"));
        assert_eq!(directory.text("huge").map(|text| text.len()), Some(8192));
        assert_eq!(directory.text("global/control").as_deref(), Some("c"));
        for name in
            ["link", "elsewhere/control", "fifo", "global", "missing", "../version", "/etc/passwd", ""]
        {
            assert_eq!(directory.text(name), None, "{name}");
        }
    }

    #[test]
    fn what_is_of_another_user_is_not_believed() {
        let root = tempfile::tempdir().unwrap();
        let me = geteuid().as_raw();
        assert!(Directory::open(root.path(), me + 1).is_none());
        if me == 0 {
            let file = root.path().join("version");
            fs::write(&file, "15").unwrap();
            nix::unistd::chown(&file, Some(1.into()), None).unwrap();
            assert_eq!(Directory::open(root.path(), me).unwrap().text("version"), None);
        }
    }

    #[test]
    fn a_path_that_would_break_a_line_is_not_plain() {
        assert_eq!(plain(Path::new("/var/lib/my 'data'/\u{e4}")), Some("/var/lib/my 'data'/\u{e4}"));
        for path in ["/a\nb", "/a\u{1b}[2J", "/a\u{85}b", "/a\u{2028}b", "/a\u{202e}b"] {
            assert_eq!(plain(Path::new(path)), None, "{path:?}");
        }
    }
}
