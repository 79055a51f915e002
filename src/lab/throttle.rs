//! A cgroup of our own that limits the I/O of its processes on one block device (cgroup v1 or v2).
//!
//! It limits nothing else and leaves all other cgroups as they are; on v2 it may switch the io controller on
//! for the children of the root, which changes nothing for those that set no limit.

use std::path::Path;

use super::control_group::{ControlGroup, Hierarchy};
use super::{BlockDevice, LabError};

/// What a device serves; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limit {
    /// Reads a second.
    pub read_iops: Option<u64>,
    /// Bytes read a second.
    pub read_bps: Option<u64>,
    /// Writes a second. On v1 only of those that a process sends and waits for, as in fsync.
    pub write_iops: Option<u64>,
}

impl Limit {
    /// So many reads a second.
    pub fn reads(iops: u64) -> Self {
        Self { read_iops: Some(iops), ..Self::default() }
    }
}

/// The cgroup. Dropping it moves its processes to the root of the hierarchy and removes it.
#[derive(Debug)]
pub struct Throttle {
    version: u8,
    group: ControlGroup,
}

impl Throttle {
    /// Tries whether a cgroup can be made: which kind it would be, or why not.
    pub fn support() -> Result<&'static str, LabError> {
        let trial = Self::create(&format!("blameio-lab-trial-{}", std::process::id()))?;
        Ok(if trial.version == 1 { "cgroup v1 blkio" } else { "cgroup v2 io" })
    }

    /// Makes a cgroup called `name` at the root of the first hierarchy that can limit reads.
    pub fn create(name: &str) -> Result<Self, LabError> {
        let mut reasons = Vec::new();
        for hierarchy in Hierarchy::with("blkio") {
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
        let (version, file) = match hierarchy {
            Hierarchy::V1(_) => (1, "blkio.throttle.read_iops_device"),
            Hierarchy::V2(_) => (2, "io.max"),
        };
        hierarchy.enable("io")?;
        let throttle = Self { version, group: ControlGroup::create(hierarchy, name)? };
        let file = throttle.group.path().join(file);
        if file.exists() { Ok(throttle) } else { Err(format!("no {}", file.display())) }
    }

    /// Moves a process with all its threads; children that it forks later follow it.
    pub fn add(&self, pid: i32) -> Result<(), LabError> {
        self.group.add(pid)
    }

    /// Moves a process and the children that it has already.
    pub fn add_with_children(&self, pid: i32) -> Result<(), LabError> {
        self.group.add_with_children(pid)
    }

    /// Lets only `pid` stay.
    pub fn keep_only(&self, pid: i32) -> Result<(), LabError> {
        for other in self.group.processes() {
            if other != pid {
                self.group.release(other)?;
            }
        }
        Ok(())
    }

    /// Limits I/O on `device`, in place of any limit set before.
    pub fn limit(&self, device: &BlockDevice, limit: Limit) -> Result<(), LabError> {
        let id = format!("{}:{}", device.major, device.minor);
        if self.version == 1 {
            // 0 takes a limit away.
            for (file, value) in [
                ("read_iops", limit.read_iops),
                ("read_bps", limit.read_bps),
                ("write_iops", limit.write_iops),
            ] {
                let value = format!("{id} {}", value.unwrap_or(0));
                self.group.set(&format!("blkio.throttle.{file}_device"), &value)?;
            }
            return Ok(());
        }
        let text = |value: Option<u64>| value.map_or("max".to_owned(), |v| v.to_string());
        let (reads, bytes, writes) = (text(limit.read_iops), text(limit.read_bps), text(limit.write_iops));
        self.group.set("io.max", &format!("{id} riops={reads} rbps={bytes} wiops={writes}"))
    }

    /// Takes the limit away.
    pub fn unlimit(&self, device: &BlockDevice) -> Result<(), LabError> {
        self.limit(device, Limit::default())
    }

    /// Whether cgroups of version 2 are free of it, so that they tell who somebody is and not what he may have.
    pub fn leaves_unified_alone(&self) -> bool {
        self.version == 1
    }

    /// The cgroup's directory.
    pub fn path(&self) -> &Path {
        self.group.path()
    }
}
