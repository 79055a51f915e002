//! The disk that a file's device number leads to: below partitions, LVM, md and loop devices. Reads /sys and
//! mountinfo, and remembers what it found.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

/// How long an answer holds: a loop device gets another file, a number another disk.
const KNOWN: Duration = Duration::from_mins(1);
/// How long it holds that there is none.
const UNKNOWN: Duration = Duration::from_secs(10);
/// Nobody stacks more.
const DEPTH: usize = 8;

/// Names of disks by the device numbers of files.
#[derive(Debug, Default)]
pub(super) struct Leaves {
    known: HashMap<u32, (Option<Arc<str>>, Instant)>,
}

impl Leaves {
    /// The disk below a kernel device number (20 bits of minor), as it is called in /sys/block. `process` sees the
    /// file's mount, when this one does not. `None` for file systems without a disk, or when it cannot be told.
    pub(super) fn of(&mut self, device: u32, process: Option<u32>) -> Option<Arc<str>> {
        let now = Instant::now();
        if let Some((name, until)) = self.known.get(&device)
            && now < *until
        {
            return name.clone();
        }
        let name = Search::new(process).leaf((device >> 20, device & 0xf_ffff), DEPTH).map(Arc::from);
        let holds = if name.is_some() { KNOWN } else { UNKNOWN };
        // File systems come and go; a host has few at a time.
        self.known.retain(|_, (_, until)| now < *until);
        self.known.insert(device, (name.clone(), now + holds));
        name
    }
}

/// Whether another device is made of this one. What a thread of the kernel does to it was done to the other before.
pub(super) fn has_holders(device: u32) -> bool {
    let holders = fs::read_dir(format!("/sys/dev/block/{}:{}/holders", device >> 20, device & 0xf_ffff));
    holders.is_ok_and(|mut holders| holders.next().is_some())
}

/// Major and minor.
type Number = (u32, u32);

fn number(text: &str) -> Option<Number> {
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn number_of(device: u64) -> Number {
    (libc::major(device), libc::minor(device))
}

/// What of a line of mountinfo is asked for.
struct Mount<'a> {
    number: Number,
    point: PathBuf,
    kind: &'a str,
    source: PathBuf,
    options: &'a str,
}

fn mount(line: &str) -> Option<Mount<'_>> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(2);
    let number = number(before.next()?)?;
    let point = unescape(before.nth(1)?);
    let mut after = after.split(' ');
    Some(Mount {
        number,
        point,
        kind: after.next()?,
        source: unescape(after.next()?),
        options: after.next()?,
    })
}

/// Space, tab, newline and backslash are written as three octal digits.
fn unescape(text: &str) -> PathBuf {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    escapes.iter().fold(text.to_owned(), |text, (code, meant)| text.replace(code, meant)).into()
}

/// One search; reads mountinfo when it is needed.
struct Search {
    process: Option<u32>,
    mounts: Option<String>,
}

impl Search {
    fn new(process: Option<u32>) -> Self {
        Self { process, mounts: None }
    }

    fn mounts(&mut self) -> &str {
        let process = self.process;
        self.mounts.get_or_insert_with(|| {
            let mut text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
            // In a container a server's file systems may be mounted where this process does not see them.
            if let Some(pid) = process {
                text += &fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
            }
            text
        })
    }

    fn leaf(&mut self, number: Number, depth: usize) -> Option<String> {
        let depth = depth.checked_sub(1)?;
        if number.0 == 0 {
            return self.below_anonymous(number, depth);
        }
        let found = fs::canonicalize(format!("/sys/dev/block/{}:{}", number.0, number.1)).ok()?;
        let disk = if found.join("partition").exists() { found.parent()? } else { &found };
        self.below_disk(disk, depth).or_else(|| Some(disk.file_name()?.to_str()?.to_owned()))
    }

    /// `None`: it is the lowest, or what is below cannot be told or is more than one.
    fn below_disk(&mut self, disk: &Path, depth: usize) -> Option<String> {
        if let Ok(file) = fs::read_to_string(disk.join("loop/backing_file")) {
            return self.of_path(Path::new(file.trim_end_matches('\n')), depth);
        }
        let mut slaves = fs::read_dir(disk.join("slaves")).ok()?.flatten();
        let only = slaves.next()?;
        if slaves.next().is_some() {
            return None;
        }
        let below = number(&fs::read_to_string(only.path().join("dev")).ok()?)?;
        self.leaf(below, depth)
    }

    /// File systems that have no device number of their own: btrfs tells its disk, overlayfs the upper directory's.
    fn below_anonymous(&mut self, number: Number, depth: usize) -> Option<String> {
        let text = self.mounts().to_owned();
        let mount = text.lines().filter_map(mount).find(|mount| mount.number == number)?;
        if mount.kind == "overlay" {
            let option = |name: &str| mount.options.split(',').find_map(|option| option.strip_prefix(name));
            let directory = option("upperdir=").or_else(|| option("lowerdir=")?.split(':').next())?;
            return self.of_path(&unescape(directory), depth);
        }
        if !mount.source.starts_with("/dev") {
            return None;
        }
        self.leaf(number_of(fs::metadata(&mount.source).ok()?.rdev()), depth)
    }

    fn of_path(&mut self, path: &Path, depth: usize) -> Option<String> {
        let found = number_of(fs::metadata(path).ok()?.dev());
        if found.0 != 0 {
            return self.leaf(found, depth);
        }
        // What stat says of btrfs is in no mountinfo: by the mount that the path lies in.
        let path = fs::canonicalize(path).ok()?;
        let text = self.mounts().to_owned();
        let mounts = text.lines().filter_map(mount).filter(|mount| path.starts_with(&mount.point));
        let mount = mounts.max_by_key(|mount| mount.point.as_os_str().len())?;
        self.leaf(mount.number, depth)
    }
}

#[cfg(test)]
#[path = "leaf_tests.rs"]
mod tests;
