//! A cgroup of our own that limits the reads of its processes on one block device (cgroup v1 or v2).
//!
//! It limits nothing else and leaves all other cgroups as they are; on v2 it may switch the io controller on
//! for the children of the root, which changes nothing for those that set no limit.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{BlockDevice, LabError, process};

const REMOVE_DEADLINE: Duration = Duration::from_secs(5);

/// Reads that a device serves; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limit {
    /// Requests a second.
    pub read_iops: Option<u64>,
    /// Bytes a second.
    pub read_bps: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hierarchy {
    V1(PathBuf),
    V2(PathBuf),
}

/// The cgroup. Dropping it moves its processes to the root of the hierarchy and removes it.
#[derive(Debug)]
pub struct Throttle {
    hierarchy: Hierarchy,
    dir: PathBuf,
}

impl Throttle {
    /// Tries whether a cgroup can be made: which kind it would be, or why not.
    pub fn support() -> Result<&'static str, LabError> {
        let trial = Self::create(&format!("blameio-lab-trial-{}", std::process::id()))?;
        Ok(match trial.hierarchy {
            Hierarchy::V1(_) => "cgroup v1 blkio",
            Hierarchy::V2(_) => "cgroup v2 io",
        })
    }

    /// Makes a cgroup called `name` at the root of the first hierarchy that can limit reads.
    pub fn create(name: &str) -> Result<Self, LabError> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let mut reasons = Vec::new();
        for hierarchy in hierarchies(&mounts) {
            match Self::create_in(&hierarchy, name) {
                Ok(throttle) => return Ok(throttle),
                Err(reason) => reasons.push(reason),
            }
        }
        if reasons.is_empty() {
            reasons.push("neither cgroup v1 blkio nor cgroup v2 is mounted".to_owned());
        }
        Err(LabError::NoThrottle { reason: reasons.join("; ") })
    }

    fn create_in(hierarchy: &Hierarchy, name: &str) -> Result<Self, String> {
        let (root, file) = match hierarchy {
            Hierarchy::V1(root) => (root, "blkio.throttle.read_iops_device"),
            Hierarchy::V2(root) => (root, "io.max"),
        };
        if matches!(hierarchy, Hierarchy::V2(_)) {
            enable_io(root)?;
        }
        let dir = root.join(name);
        fs::create_dir(&dir).map_err(|error| format!("cannot create {}: {error}", dir.display()))?;
        let throttle = Self { dir, hierarchy: hierarchy.clone() };
        let file = throttle.dir.join(file);
        if file.exists() { Ok(throttle) } else { Err(format!("no {}", file.display())) }
    }

    /// Moves a process with all its threads; children that it forks later follow it.
    pub fn add(&self, pid: i32) -> Result<(), LabError> {
        let path = self.dir.join("cgroup.procs");
        fs::write(&path, pid.to_string()).map_err(LabError::file("write a pid to", &path))
    }

    /// Moves a process and the children that it has already.
    pub fn add_with_children(&self, pid: i32) -> Result<(), LabError> {
        self.add(pid)?;
        for child in process::children(pid) {
            // One that ended in between is no failure.
            if let Err(error) = self.add(child.pid) {
                tracing::debug!(child = child.pid, %error, "not moved");
            }
        }
        Ok(())
    }

    /// Limits reads of `device`, in place of any limit set before.
    pub fn limit(&self, device: &BlockDevice, limit: Limit) -> Result<(), LabError> {
        let id = format!("{}:{}", device.major, device.minor);
        match &self.hierarchy {
            Hierarchy::V1(_) => {
                // 0 takes a limit away.
                self.set(
                    "blkio.throttle.read_iops_device",
                    &format!("{id} {}", limit.read_iops.unwrap_or(0)),
                )?;
                self.set("blkio.throttle.read_bps_device", &format!("{id} {}", limit.read_bps.unwrap_or(0)))
            }
            Hierarchy::V2(_) => {
                let text = |value: Option<u64>| value.map_or("max".to_owned(), |v| v.to_string());
                let (iops, bps) = (text(limit.read_iops), text(limit.read_bps));
                self.set("io.max", &format!("{id} riops={iops} rbps={bps}"))
            }
        }
    }

    /// Takes the limit away.
    pub fn unlimit(&self, device: &BlockDevice) -> Result<(), LabError> {
        self.limit(device, Limit::default())
    }

    /// The cgroup's directory.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    fn set(&self, file: &str, value: &str) -> Result<(), LabError> {
        let path = self.dir.join(file);
        fs::write(&path, value).map_err(LabError::file("set a limit in", &path))
    }

    fn release_processes(&self) {
        let (Hierarchy::V1(root) | Hierarchy::V2(root)) = &self.hierarchy;
        for pid in fs::read_to_string(self.dir.join("cgroup.procs")).unwrap_or_default().lines() {
            // It may end while we move it.
            let _gone = fs::write(root.join("cgroup.procs"), pid);
        }
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        let end = Instant::now() + REMOVE_DEADLINE;
        loop {
            self.release_processes();
            match fs::remove_dir(&self.dir) {
                Ok(()) => return,
                Err(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(20)),
                Err(error) => {
                    tracing::warn!(cgroup = %self.dir.display(), %error, "not removed: use rmdir");
                    return;
                }
            }
        }
    }
}

/// v1 first: where both are mounted, the controller is bound to one of them, and v2 then has no io.
fn hierarchies(mounts: &str) -> Vec<Hierarchy> {
    let lines = || mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).filter(|f| f.len() > 3);
    let v1 = lines().filter(|f| f[2] == "cgroup" && f[3].split(',').any(|option| option == "blkio"));
    let v2 = lines().filter(|f| f[2] == "cgroup2");
    let v1 = v1.map(|f| Hierarchy::V1(PathBuf::from(f[1])));
    v1.chain(v2.map(|f| Hierarchy::V2(PathBuf::from(f[1])))).collect()
}

fn enable_io(root: &Path) -> Result<(), String> {
    let has = |file: &str| {
        fs::read_to_string(root.join(file)).is_ok_and(|text| text.split_whitespace().any(|c| c == "io"))
    };
    if !has("cgroup.controllers") {
        return Err(format!("{} has no io controller", root.display()));
    }
    if !has("cgroup.subtree_control") {
        fs::write(root.join("cgroup.subtree_control"), "+io")
            .map_err(|error| format!("cannot switch io on in {}: {error}", root.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Hierarchy, hierarchies};

    #[test]
    fn the_hierarchy_of_version_1_comes_before_version_2() {
        let mounts = "cgroup2 /c/unified cgroup2 rw 0 0\ncgroup /c/blkio cgroup rw,blkio 0 0\n\
                      cgroup /c/cpu cgroup rw,cpu 0 0\n";
        let expected = vec![Hierarchy::V1("/c/blkio".into()), Hierarchy::V2("/c/unified".into())];
        assert_eq!(hierarchies(mounts), expected);
    }
}
