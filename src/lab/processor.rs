//! Two ways to give a process a part of a processor: a cgroup, as a small container has, and somebody else who is busy
//! on the same one.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::LabError;
use super::command::Run;
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

/// Weighs a thirtieth of an equal.
const HUMBLE: i32 = 15;
/// Weighs nearly thirty of them.
const PREFERRED: i32 = -15;

/// A thread of ours that is always busy on the processor to which a process is bound; the process is the humbler of the
/// two. Dropping it ends the thread and lets the process go.
#[derive(Debug)]
pub struct Busy {
    pid: i32,
    before: CpuSet,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Busy {
    /// Binds `pid` to the last processor that it may use.
    pub fn beside(pid: i32) -> Result<Self, LabError> {
        let failed = |errno: nix::errno::Errno| {
            LabError::file("bind to a processor", Path::new("/proc"))(errno.into())
        };
        let before = sched_getaffinity(Pid::from_raw(pid)).map_err(failed)?;
        let last = (0..CpuSet::count()).rev().find(|cpu| before.is_set(*cpu).unwrap_or(false));
        let mut one = CpuSet::new();
        one.set(last.unwrap_or(0)).map_err(failed)?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut busy = Self { pid, before, stop: Arc::clone(&stop), thread: None };
        sched_setaffinity(Pid::from_raw(pid), &one).map_err(failed)?;
        renice(pid, HUMBLE)?;
        let spin = move || {
            if let Err(error) = sched_setaffinity(Pid::from_raw(0), &one) {
                tracing::warn!(%error, "the busy thread is not bound to its processor");
            }
            while !stop.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        };
        let thread = std::thread::Builder::new().name("busy".to_owned()).spawn(spin);
        busy.thread = Some(thread.map_err(LabError::file("start the thread", Path::new("busy")))?);
        Ok(busy)
    }
}

/// Lets a process have a processor whenever it wants one, before all others.
pub fn prefer(pid: i32) -> Result<(), LabError> {
    renice(pid, PREFERRED)
}

fn renice(pid: i32, nice: i32) -> Result<(), LabError> {
    let nice = nice.to_string();
    Run::new("renice").args(["-n", &nice, "-p", &pid.to_string()]).output()?;
    // Where each session is a group of its own to the scheduler, as a server's processes are, the group's weight counts.
    let group = Path::new("/proc").join(pid.to_string()).join("autogroup");
    if group.exists() {
        std::fs::write(&group, nice).map_err(LabError::file("write to", &group))
    } else {
        Ok(())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported by itself.
            let _reported = thread.join();
        }
        // It may have ended.
        let _gone = sched_setaffinity(Pid::from_raw(self.pid), &self.before);
        let _gone = renice(self.pid, 0);
    }
}
