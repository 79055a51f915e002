//! The files of a write-ahead log, by name.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use super::page::is_segment_size;
use crate::{
    log_files::{LogFiles, unreadable},
    work::LogError,
};

/// Most names of a directory that are looked at.
const MOST_NAMES: usize = 200_000;

/// The directory of a server's log.
#[derive(Debug)]
pub(super) struct Segments {
    files: LogFiles,
    size: u64,
}

impl Segments {
    /// Opens the log of a data directory.
    pub(super) fn open(data_directory: &Path) -> Result<Self, LogError> {
        let files = LogFiles::open("pg_wal", &place(data_directory), data_directory)?;
        let mut segments = Self { files, size: 0 };
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
        let names = fs::read_dir(self.files.path()).map_err(unreadable("pg_wal"))?.take(MOST_NAMES);
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
        self.files.file("a segment", name)
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
