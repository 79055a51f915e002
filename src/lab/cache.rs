//! Takes files out of the page cache and puts them into it.
//!
//! It cannot tell what is cached, and does not reach a server's own buffers.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use super::LabError;

/// Writes dirty pages out, because only clean ones leave, then drops all pages of each file. A file that is
/// gone is passed over: a server removes files as it likes.
pub fn evict(paths: &[PathBuf]) -> Result<(), LabError> {
    for path in paths {
        let Some(file) = open(path)? else { continue };
        file.sync_data().map_err(LabError::file("sync", path))?;
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)
            .map_err(|errno| LabError::file("evict", path)(errno.into()))?;
    }
    Ok(())
}

/// Reads each file through; returns the bytes read.
pub fn warm(paths: &[PathBuf]) -> Result<u64, LabError> {
    let mut buffer = vec![0; 1 << 20];
    let mut total = 0;
    for path in paths {
        let Some(mut file) = open(path)? else { continue };
        loop {
            match file.read(&mut buffer).map_err(LabError::file("read", path))? {
                0 => break,
                count => total += count as u64,
            }
        }
    }
    Ok(total)
}

/// All regular files under `dir`.
pub fn files_under(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        // A directory may vanish under a running server.
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(entry.path()),
                Ok(kind) if kind.is_file() => files.push(entry.path()),
                _ => {}
            }
        }
    }
    files
}

/// A relation's first file and its further segments `.1`, `.2` that exist.
pub fn segments(first: &Path) -> Vec<PathBuf> {
    let further = (1_u32..).map(|n| PathBuf::from(format!("{}.{n}", first.display())));
    std::iter::once(first.to_owned()).chain(further.take_while(|path| path.exists())).collect()
}

fn open(path: &Path) -> Result<Option<File>, LabError> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(LabError::file("open", path)(error)),
    }
}
