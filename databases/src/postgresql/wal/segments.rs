//! The files of a write-ahead log: names, and opening them as what any user may have put there.

use std::{
    fs::{self, File, OpenOptions},
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

use super::page::is_segment_size;
use crate::work::LogError;

/// Most names of a directory that are looked at.
const MOST_NAMES: usize = 200_000;

/// The directory of a server's log.
#[derive(Debug)]
pub(super) struct Segments {
    directory: File,
    /// Only files of the user whose data directory it is are read.
    owner: u32,
    size: u64,
}

fn unreadable(what: &'static str) -> impl Fn(io::Error) -> LogError {
    move |error| LogError::Unreadable { what, reason: error.to_string() }
}

impl Segments {
    /// Opens the log of a data directory.
    pub(super) fn open(data_directory: &Path) -> Result<Self, LogError> {
        let owner = fs::metadata(data_directory).map_err(unreadable("data directory"))?.uid();
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let directory = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits())
            .open(place(data_directory))
            .map_err(unreadable("pg_wal"))?;
        let mut segments = Self { directory, owner, size: 0 };
        segments.size = segments.find_size()?;
        Ok(segments)
    }

    /// Bytes of each file.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Every file is as long as a segment.
    fn find_size(&self) -> Result<u64, LogError> {
        for (timeline, rest) in self.names()? {
            let file = self.open_name(&format!("{timeline:08X}{rest}"))?;
            let size = file.and_then(|file| file.metadata().ok()).map_or(0, |metadata| metadata.len());
            if is_segment_size(size) {
                return Ok(size);
            }
        }
        Err(LogError::Unreadable { what: "pg_wal", reason: "it holds no file of the log".to_owned() })
    }

    /// Timeline and the rest of the name of all files of the log.
    fn names(&self) -> Result<Vec<(u32, String)>, LogError> {
        let path = format!("/proc/self/fd/{}", self.directory.as_fd().as_raw_fd());
        let names = fs::read_dir(path).map_err(unreadable("pg_wal"))?.take(MOST_NAMES);
        Ok(names
            .filter_map(|entry| {
                let name = entry.ok()?.file_name().into_string().ok()?;
                let is_log = name.len() == 24
                    && name.bytes().all(|byte| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte));
                let (timeline, rest) = name.split_at_checked(8).filter(|_| is_log)?;
                Some((u32::from_str_radix(timeline, 16).ok()?, rest.to_owned()))
            })
            .collect())
    }

    fn rest(&self, position: u64) -> String {
        let segment = position / self.size;
        let of_file = (1 << 32) / self.size;
        format!("{:08X}{:08X}", segment / of_file, segment % of_file)
    }

    /// The youngest timeline, up to `most`, that has the segment of a position.
    pub(super) fn youngest(&self, position: u64, most: Option<u32>) -> Result<Option<u32>, LogError> {
        let wanted = self.rest(position);
        let found = self.names()?.into_iter().filter(|(_, rest)| *rest == wanted);
        Ok(found
            .map(|(timeline, _)| timeline)
            .filter(|timeline| most.is_none_or(|most| *timeline <= most))
            .max())
    }

    /// The segment of a position; `None` where there is none.
    pub(super) fn segment(&self, position: u64, timeline: u32) -> Result<Option<File>, LogError> {
        self.open_name(&format!("{timeline:08X}{}", self.rest(position)))
    }

    fn open_name(&self, name: &str) -> Result<Option<File>, LogError> {
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
            Err(error) => return Err(unreadable("a segment")(error.into())),
        };
        let metadata = file.metadata().map_err(unreadable("a segment"))?;
        if metadata.is_file() && metadata.uid() == self.owner {
            Ok(Some(file))
        } else {
            let reason = "it is not a file of the server's user".to_owned();
            Err(LogError::Unreadable { what: "a segment", reason })
        }
    }
}

/// Where the log is: below the data directory, or where the link there leads as the server sees it.
fn place(data_directory: &Path) -> PathBuf {
    let below = data_directory.join("pg_wal");
    let root = data_directory.parent().map(|process| process.join("root"));
    match (fs::read_link(&below), root.filter(|_| data_directory.starts_with("/proc"))) {
        (Ok(target), Some(root)) if target.is_absolute() => {
            root.join(target.strip_prefix("/").unwrap_or(&target))
        }
        _ => below,
    }
}
