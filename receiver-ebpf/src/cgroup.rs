//! Names of cgroups by their ids, which are the inode numbers of their folders in the unified hierarchy. Looks again
//! when it is asked for one that it does not know, and not often.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::DirEntryExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Between two searches of the whole hierarchy.
const SEARCH_INTERVAL: Duration = Duration::from_secs(5);
/// Folders that are looked at in one search.
const MOST_FOLDERS: usize = 50_000;

/// The paths that were found.
#[derive(Debug, Default)]
pub(crate) struct Cgroups {
    paths: HashMap<u64, String>,
    searched: Option<Instant>,
}

impl Cgroups {
    /// The path below the root of the hierarchy, such as `/system.slice/backup.service`. `None` if there is no such
    /// cgroup, or none that can be seen from here.
    pub(crate) fn path(&mut self, id: u64) -> Option<&str> {
        if !self.paths.contains_key(&id)
            && self.searched.is_none_or(|searched| searched.elapsed() >= SEARCH_INTERVAL)
        {
            self.searched = Some(Instant::now());
            if let Some(root) = mount_point(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()) {
                self.paths = search(root);
            }
        }
        self.paths.get(&id).map(String::as_str)
    }
}

/// Where the unified hierarchy is mounted.
fn mount_point(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        (system.split(' ').next() == Some("cgroup2")).then(|| mount.split(' ').nth(4).map(PathBuf::from))?
    })
}

fn search(root: PathBuf) -> HashMap<u64, String> {
    let mut paths = HashMap::new();
    let mut folders = vec![(root, String::new())];
    while let Some((folder, path)) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            if paths.len() >= MOST_FOLDERS {
                return paths;
            }
            let path = format!("{path}/{}", entry.file_name().to_string_lossy());
            paths.insert(entry.ino(), path.clone());
            folders.push((entry.path(), path));
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unified_hierarchy_is_found_beside_the_others() {
        let mounts = "35 34 0:30 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
                      36 34 0:31 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(mount_point(mounts), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(mount_point("35 34 0:30 / /proc rw - proc proc rw\n"), None);
    }
}
