//! A cgroup of our own: made, filled with processes, and removed again. It does not know what a controller does.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{LabError, process};

const REMOVE_DEADLINE: Duration = Duration::from_secs(5);

/// A mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hierarchy {
    V1(PathBuf),
    V2(PathBuf),
}

impl Hierarchy {
    pub(crate) fn root(&self) -> &Path {
        let (Self::V1(root) | Self::V2(root)) = self;
        root
    }

    /// Those that may have `controller`. v1 first: where both are mounted, a controller is bound to one of them, and
    /// v2 then does not have it.
    pub(crate) fn with(controller: &str) -> Vec<Self> {
        hierarchies(&fs::read_to_string("/proc/self/mounts").unwrap_or_default(), controller)
    }

    /// The unified one, whose directories name a process's cgroup; with or without controllers.
    pub(crate) fn unified() -> Option<Self> {
        Self::with("").into_iter().find(|hierarchy| matches!(hierarchy, Self::V2(_)))
    }

    /// Switches a controller on for the children of the root.
    pub(crate) fn enable(&self, controller: &str) -> Result<(), String> {
        let Self::V2(root) = self else { return Ok(()) };
        let has = |file: &str| {
            fs::read_to_string(root.join(file))
                .is_ok_and(|text| text.split_whitespace().any(|word| word == controller))
        };
        if !has("cgroup.controllers") {
            return Err(format!("{} has no {controller} controller", root.display()));
        }
        if !has("cgroup.subtree_control") {
            fs::write(root.join("cgroup.subtree_control"), format!("+{controller}"))
                .map_err(|error| format!("cannot switch {controller} on in {}: {error}", root.display()))?;
        }
        Ok(())
    }
}

fn hierarchies(mounts: &str, controller: &str) -> Vec<Hierarchy> {
    let lines = || mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).filter(|f| f.len() > 3);
    let v1 = lines().filter(|f| f[2] == "cgroup" && f[3].split(',').any(|option| option == controller));
    let v2 = lines().filter(|f| f[2] == "cgroup2");
    let v1 = v1.map(|f| Hierarchy::V1(PathBuf::from(f[1])));
    v1.chain(v2.map(|f| Hierarchy::V2(PathBuf::from(f[1])))).collect()
}

/// A directory of a hierarchy. Dropping it moves its processes to the root of the hierarchy and removes it.
#[derive(Debug)]
pub(crate) struct ControlGroup {
    root: PathBuf,
    dir: PathBuf,
}

impl ControlGroup {
    /// Makes `name` at the root.
    pub(crate) fn create(hierarchy: &Hierarchy, name: &str) -> Result<Self, String> {
        let root = hierarchy.root().to_owned();
        let dir = root.join(name);
        fs::create_dir(&dir).map_err(|error| format!("cannot create {}: {error}", dir.display()))?;
        Ok(Self { root, dir })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    /// Moves a process with all its threads; children that it forks later follow it.
    pub(crate) fn add(&self, pid: i32) -> Result<(), LabError> {
        self.set("cgroup.procs", &pid.to_string())
    }

    /// Moves a process and the children that it has already.
    pub(crate) fn add_with_children(&self, pid: i32) -> Result<(), LabError> {
        self.add(pid)?;
        for child in process::children(pid) {
            // One that ended in between is no failure.
            if let Err(error) = self.add(child.pid) {
                tracing::debug!(child = child.pid, %error, "not moved");
            }
        }
        Ok(())
    }

    /// Moves a process to the root of the hierarchy.
    pub(crate) fn release(&self, pid: i32) -> Result<(), LabError> {
        let path = self.root.join("cgroup.procs");
        fs::write(&path, pid.to_string()).map_err(LabError::file("write a pid to", &path))
    }

    /// The processes in it.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let text = fs::read_to_string(self.dir.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|pid| pid.parse().ok()).collect()
    }

    pub(crate) fn set(&self, file: &str, value: &str) -> Result<(), LabError> {
        let path = self.dir.join(file);
        fs::write(&path, value).map_err(LabError::file("write to", &path))
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        let end = Instant::now() + REMOVE_DEADLINE;
        loop {
            for pid in self.processes() {
                // It may end while we move it.
                let _gone = self.release(pid);
            }
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

#[cfg(test)]
mod tests {
    use super::{Hierarchy, hierarchies};

    #[test]
    fn the_hierarchy_of_version_1_comes_before_version_2() {
        let mounts = "cgroup2 /c/unified cgroup2 rw 0 0\ncgroup /c/blkio cgroup rw,blkio 0 0\n\
                      cgroup /c/cpu cgroup rw,cpu 0 0\n";
        let expected = vec![Hierarchy::V1("/c/blkio".into()), Hierarchy::V2("/c/unified".into())];
        assert_eq!(hierarchies(mounts, "blkio"), expected);
    }
}
