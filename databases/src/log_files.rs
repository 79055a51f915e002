//! The directory of a server's log, and opening files of it as what any user may have put there.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, openat},
    sys::stat::Mode,
};

use crate::work::LogError;

/// A directory of log files.
#[derive(Debug)]
pub(crate) struct LogFiles {
    directory: File,
    /// Only files of the user whose data directory it is are read.
    owner: u32,
}

/// That something of a log cannot be read.
pub(crate) fn unreadable(what: &'static str) -> impl Fn(io::Error) -> LogError {
    move |error| LogError::Unreadable { what, reason: error.to_string() }
}

impl LogFiles {
    /// Opens the directory at `path` of the server with this data directory.
    pub(crate) fn open(what: &'static str, path: &Path, data_directory: &Path) -> Result<Self, LogError> {
        let owner = std::fs::metadata(data_directory).map_err(unreadable("data directory"))?.uid();
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let directory = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path);
        Ok(Self { directory: directory.map_err(unreadable(what))?, owner })
    }

    /// Its path, whatever it is called by now.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.directory.as_fd().as_raw_fd()).into()
    }

    /// The file of this name; `None` where there is none.
    pub(crate) fn file(&self, what: &'static str, name: &str) -> Result<Option<File>, LogError> {
        let flags =
            OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        // That it was read is nobody's business but the owner's, who alone may ask for that.
        let opened = match openat(&self.directory, name, flags | OFlag::O_NOATIME, Mode::empty()) {
            Err(Errno::EPERM) => openat(&self.directory, name, flags, Mode::empty()),
            opened => opened,
        };
        let file = match opened {
            Ok(file) => File::from(file),
            Err(Errno::ENOENT) => return Ok(None),
            Err(error) => return Err(unreadable(what)(error.into())),
        };
        let metadata = file.metadata().map_err(unreadable(what))?;
        if metadata.is_file() && metadata.uid() == self.owner {
            Ok(Some(file))
        } else {
            Err(LogError::Unreadable { what, reason: "it is not a file of the server's user".to_owned() })
        }
    }
}
