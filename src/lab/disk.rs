//! A disk of our own: an image file behind a loop device with ext4 on it, so that reads of one server can be
//! limited without touching any other disk.
//!
//! It is not slow by itself; `throttle.rs` limits it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat;
use nix::unistd::Uid;

use super::LabError;
use super::command::Run;

/// Size of the image; sparse, so that only what is written takes space.
pub const DEFAULT_BYTES: u64 = 2 << 30;
/// One database page: a read of a page is one request to the device, and never brings its neighbours along.
/// With 0 the kernel reads each of the page's two memory pages on its own.
const READ_AHEAD_KB: &str = "8";
const UMOUNT_DEADLINE: Duration = Duration::from_secs(10);
const DETACH_DEADLINE: Duration = Duration::from_secs(5);

/// A block device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockDevice {
    /// As "loop0".
    pub name: String,
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
}

/// A mounted loop device. Dropping it unmounts and detaches; the image file stays in its directory.
#[derive(Debug)]
pub struct SlowDisk {
    image: PathBuf,
    mount_point: PathBuf,
    device: BlockDevice,
    /// The device outlives us and goes to another user: its value is put back.
    read_ahead_before: Option<String>,
}

impl SlowDisk {
    /// Makes `dir/disk.img` of `bytes` and mounts it at `dir/mnt`. Needs root.
    pub fn create(dir: &Path, bytes: u64) -> Result<Self, LabError> {
        Self::create_at(dir.join("disk.img"), dir.join("mnt"), bytes)
    }

    /// A disk on a disk, mounted at `dir/mnt` and `dir/below`. Where the lower one is limited, requests are in flight on
    /// the upper one for as long as they wait: it looks to everybody as a slow device does.
    pub fn create_pair(dir: &Path, bytes: u64) -> Result<(Self, Self), LabError> {
        let below = Self::create_at(dir.join("below.img"), dir.join("below"), bytes + bytes / 8)?;
        let above = Self::create_at(below.path().join("disk.img"), dir.join("mnt"), bytes)?;
        Ok((above, below))
    }

    fn create_at(image: PathBuf, mount_point: PathBuf, bytes: u64) -> Result<Self, LabError> {
        if !Uid::effective().is_root() {
            return Err(LabError::NotRoot { what: "a loop device" });
        }
        File::create(&image)
            .and_then(|file| file.set_len(bytes))
            .map_err(LabError::file("create", &image))?;
        std::fs::create_dir_all(&mount_point).map_err(LabError::file("create", &mount_point))?;
        // No journal: its own I/O would stand between the cause and the effect.
        Run::new("mkfs.ext4")
            .args(["-q", "-F", "-m", "0", "-O", "^has_journal", "-E", "lazy_itable_init=0,nodiscard"])
            .arg(&image)
            .output()?;
        let device = attach(&image)?;
        let node = PathBuf::from("/dev").join(&device.name);
        let read_ahead_before = set_read_ahead(&device.name, READ_AHEAD_KB);
        let disk = Self { image, mount_point, device, read_ahead_before };
        mount(Some(&node), &disk.mount_point, Some("ext4"), MsFlags::MS_NOATIME, None::<&str>)
            .map_err(|errno| LabError::file("mount", &disk.mount_point)(errno.into()))?;
        // Detaching a device in use makes the kernel free it at the unmount, whoever does that.
        Run::new("losetup").arg("-d").arg(&node).output()?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount_point
    }

    /// The device under the file system.
    pub fn device(&self) -> &BlockDevice {
        &self.device
    }

    fn unmount(&self) {
        let end = Instant::now() + UMOUNT_DEADLINE;
        loop {
            match umount2(&self.mount_point, MntFlags::empty()) {
                Err(Errno::EBUSY) if Instant::now() < end => std::thread::sleep(Duration::from_millis(50)),
                Err(Errno::EBUSY) => {
                    tracing::warn!(mount = %self.mount_point.display(), "still in use: detached lazily");
                    let _last_way = umount2(&self.mount_point, MntFlags::MNT_DETACH);
                    return;
                }
                // EINVAL: it is not mounted, because the mount itself failed.
                Ok(()) | Err(_) => return,
            }
        }
    }

    fn attached(&self) -> bool {
        let path = format!("/sys/block/{}/loop/backing_file", self.device.name);
        std::fs::read_to_string(path).is_ok_and(|file| Path::new(file.trim_end()) == self.image)
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        if let Some(before) = &self.read_ahead_before {
            set_read_ahead(&self.device.name, before);
        }
        self.unmount();
        let end = Instant::now() + DETACH_DEADLINE;
        while self.attached() && Instant::now() < end {
            // Does nothing where the unmount has already freed it.
            let _freed = Run::new("losetup").arg("-d").arg(format!("/dev/{}", self.device.name)).output();
            std::thread::sleep(Duration::from_millis(20));
        }
        if self.attached() {
            tracing::warn!(device = self.device.name, "loop device still attached: free it by `losetup -d`");
        }
    }
}

/// Direct I/O to the image, so that its own page cache does not hide reads; without it where it is refused.
fn attach(image: &Path) -> Result<BlockDevice, LabError> {
    let losetup = |direct: &str| Run::new("losetup").args(["--find", "--show", direct]).arg(image).output();
    let node = losetup("--direct-io=on").or_else(|_| losetup("--direct-io=off"))?;
    let node = Path::new(node.trim());
    let rdev = stat::stat(node).map_err(|errno| LabError::file("look at", node)(errno.into()))?.st_rdev;
    let name = node.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(BlockDevice { name, major: stat::major(rdev), minor: stat::minor(rdev) })
}

/// Returns what was set before, when it could be changed.
fn set_read_ahead(device: &str, kilobytes: &str) -> Option<String> {
    let path = format!("/sys/block/{device}/queue/read_ahead_kb");
    let before = std::fs::read_to_string(&path).ok()?;
    std::fs::write(&path, kilobytes).ok()?;
    Some(before.trim().to_owned())
}
