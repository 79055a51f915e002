//! The disk below a device: partitions, LVM and loop devices are followed down. Reads /sys; counts nothing.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Devices on devices on devices: deeper is not looked.
const DEEPEST: usize = 8;

/// The number of a device as the kernel keeps it: 20 bits of minor.
pub(crate) fn number(major: u64, minor: u64) -> Option<u32> {
    u32::try_from(major << 20 | minor & 0xf_ffff).ok()
}

/// The folder of a device in /sys.
fn folder(device: u32) -> Option<PathBuf> {
    let path = format!("/sys/dev/block/{}:{}", device >> 20, device & 0xf_ffff);
    fs::canonicalize(path).ok()
}

/// The folder's device number.
fn number_of(folder: &Path) -> Option<u32> {
    let text = fs::read_to_string(folder.join("dev")).ok()?;
    let (major, minor) = text.trim().split_once(':')?;
    number(major.parse().ok()?, minor.parse().ok()?)
}

/// What is right below: the disk of a partition, the only part of a mapped device, the file system of a loop device's
/// file. `None` for a disk, and for what has several parts.
fn below(folder: &Path) -> Option<u32> {
    if folder.join("partition").exists() {
        return number_of(folder.parent()?);
    }
    if let Ok(file) = fs::read_to_string(folder.join("loop/backing_file")) {
        // A file of another mount namespace or of no disk ends the way here.
        let device = fs::metadata(file.trim_end()).ok()?.dev();
        let below = number(u64::from(libc::major(device)), u64::from(libc::minor(device)))?;
        return self::folder(below).is_some().then_some(below);
    }
    let mut parts = fs::read_dir(folder.join("slaves")).ok()?.flatten();
    let only = parts.next()?;
    if parts.next().is_some() {
        return None;
    }
    number_of(&fs::canonicalize(only.path()).ok()?)
}

/// The name of the disk below a device, such as `vda`; of the device itself if nothing is below. `None` if there is no
/// such device.
pub(crate) fn leaf_of(device: u32) -> Option<String> {
    let mut folder = folder(device)?;
    for _ in 0..DEEPEST {
        let Some(next) = below(&folder).and_then(self::folder) else { break };
        folder = next;
    }
    // What stands for a slash in names of disks.
    folder.file_name().map(|name| name.to_string_lossy().replace('!', "/"))
}

/// Whether another device is made of this one. What a thread of the kernel does to it was done to the other before.
pub(crate) fn is_part(device: u32) -> bool {
    let holders = folder(device).and_then(|folder| fs::read_dir(folder.join("holders")).ok());
    holders.is_some_and(|mut holders| holders.next().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_does_not_exist_has_no_disk() {
        assert_eq!(leaf_of(u32::MAX), None);
        assert!(!is_part(u32::MAX));
    }

    #[test]
    fn every_device_of_this_machine_has_a_disk_that_is_its_own() {
        let Ok(devices) = fs::read_dir("/sys/dev/block") else { return };
        for device in devices.flatten() {
            let folder = fs::canonicalize(device.path()).unwrap_or_default();
            let Some(leaf) = number_of(&folder).and_then(leaf_of) else {
                // It may have gone meanwhile.
                assert!(!folder.exists(), "{folder:?}");
                continue;
            };
            let disk = Path::new("/sys/class/block").join(leaf.replace('/', "!"));
            assert!(disk.exists() && !disk.join("partition").exists(), "{folder:?} is on {leaf}");
        }
    }
}
