//! Whether this process sees the numbers of processes that the kernel's probes see: those of the initial pid namespace.

use std::io;
use std::os::unix::fs::MetadataExt;

use crate::error::ProbeError;

/// `PROC_PID_INIT_INO` of include/linux/proc_ns.h: the same on every machine and at every boot.
const INITIAL: u64 = 0xEFFF_FFFC;

fn judge(inode: io::Result<u64>) -> Result<(), ProbeError> {
    match inode {
        Ok(INITIAL) => Ok(()),
        Ok(_) => Err(ProbeError::PidNamespace { found: "it is in another".to_owned() }),
        Err(error) => Err(ProbeError::PidNamespace { found: format!("/proc/self/ns/pid: {error}") }),
    }
}

/// In another namespace every number would mean somebody else's thread.
pub(crate) fn require_initial() -> Result<(), ProbeError> {
    judge(std::fs::metadata("/proc/self/ns/pid").map(|metadata| metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_initial_namespace_will_do() {
        assert!(judge(Ok(0xEFFF_FFFC)).is_ok());
        for other in [Ok(0xF000_0001), Err(io::ErrorKind::NotFound.into())] {
            let error = judge(other).err().map(|error| error.to_string());
            assert!(
                error.is_some_and(|error| error.contains("hostPID: true") && error.contains("--pid=host"))
            );
        }
    }
}
