//! A cgroup of our own that gives a process a part of a processor, as a small container has.

use std::path::Path;

use super::LabError;
use super::control_group::{ControlGroup, Hierarchy};

/// Short, so that a process that is out of its share waits milliseconds.
const PERIOD_MICROSECONDS: u32 = 20_000;
/// The kernel refuses less.
const LEAST_MICROSECONDS: u32 = 1_000;

/// The cgroup. Dropping it moves its processes to the root of the hierarchy and removes it.
#[derive(Debug)]
pub struct Quota {
    group: ControlGroup,
}

impl Quota {
    /// Makes a cgroup called `name` whose processes get `percent` of one processor; at least 5.
    pub fn create(name: &str, percent: u32) -> Result<Self, LabError> {
        let mut reasons = Vec::new();
        for hierarchy in Hierarchy::with("cpu") {
            match Self::create_in(&hierarchy, name, percent) {
                Ok(quota) => return Ok(quota),
                Err(reason) => reasons.push(reason),
            }
        }
        Err(LabError::NoThrottle {
            reason: format!("no cgroup limits the processor: {}", reasons.join("; ")),
        })
    }

    fn create_in(hierarchy: &Hierarchy, name: &str, percent: u32) -> Result<Self, String> {
        hierarchy.enable("cpu")?;
        let group = ControlGroup::create(hierarchy, name)?;
        let quota = (PERIOD_MICROSECONDS / 100 * percent).max(LEAST_MICROSECONDS);
        let set = |file: &str, value: String| group.set(file, &value).map_err(|error| error.to_string());
        match hierarchy {
            Hierarchy::V1(_) => {
                set("cpu.cfs_period_us", PERIOD_MICROSECONDS.to_string())?;
                set("cpu.cfs_quota_us", quota.to_string())?;
            }
            Hierarchy::V2(_) => set("cpu.max", format!("{quota} {PERIOD_MICROSECONDS}"))?,
        }
        Ok(Self { group })
    }

    /// Moves a process.
    pub fn add(&self, pid: i32) -> Result<(), LabError> {
        self.group.add(pid)
    }

    /// The cgroup's directory.
    pub fn path(&self) -> &Path {
        self.group.path()
    }
}
