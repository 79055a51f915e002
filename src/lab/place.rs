//! Where a laboratory is: its directory, and a disk that can be slowed down.

use std::path::Path;

use tempfile::TempDir;

use super::{LabError, Limit, SlowDisk, Storage, Throttle, disk, owner};

/// A disk with the cgroup that can slow it down.
pub(crate) struct Slow {
    pub(crate) throttle: Throttle,
    pub(crate) disk: SlowDisk,
    /// Under the disk; the one that is limited, where there is one.
    below: Option<SlowDisk>,
}

impl Slow {
    /// Makes the cgroup and the disk below a laboratory's directory. Needs root.
    pub(crate) fn create(dir: &Path, storage: Storage) -> Result<Self, LabError> {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Before the disk: where no cgroup can be made there is no use for one.
        let throttle = Throttle::create(&name)?;
        let (disk, below) = match storage {
            Storage::Shared { bytes } => {
                SlowDisk::create_pair(dir, bytes).map(|(disk, below)| (disk, Some(below)))?
            }
            Storage::Slow { bytes } => (SlowDisk::create(dir, bytes)?, None),
            Storage::Plain => (SlowDisk::create(dir, disk::DEFAULT_BYTES)?, None),
        };
        Ok(Self { throttle, disk, below })
    }

    /// In place of any limit set before.
    pub(crate) fn limit(&self, limit: Limit) -> Result<(), LabError> {
        self.throttle.limit(self.below.as_ref().unwrap_or(&self.disk).device(), limit)
    }
}

/// A directory that the servers' user can pass through. Removed when dropped.
pub fn directory(parent: Option<&Path>) -> Result<TempDir, LabError> {
    let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
    // The kernel shows paths of processes and loop devices without symbolic links.
    let parent = parent.canonicalize().map_err(LabError::file("look at", &parent))?;
    let dir = tempfile::Builder::new()
        .prefix("blameio-lab-")
        .tempdir_in(&parent)
        .map_err(LabError::file("create a directory in", &parent))?;
    owner::passable(dir.path())?;
    Ok(dir)
}
