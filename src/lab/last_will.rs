//! Takes a laboratory down when its process ends without `Drop`, as by SIGKILL or an unhandled Ctrl-C.
//!
//! A shell waits for the end of a pipe whose other end only our process holds: the kernel closes it however we
//! end. It does nothing in an orderly end; `Drop` of the parts does the work then and ends the shell.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// `$1` is the laboratory's directory, `$2` its cgroup or empty. A pid from a file counts only while that
/// process works in the data directory: the number may have gone to another.
const SCRIPT: &str = r#"
read -r _
postmasters() {
    for data in "$1/primary/data" "$1/replica/data" "$1/mnt/replica/data"; do
        pid=$(head -n 1 "$data/postmaster.pid") || continue
        [ "$(readlink "/proc/$pid/cwd")" = "$data" ] && echo "$pid"
    done
}
for pid in $(postmasters "$1"); do kill -QUIT "$pid"; done
n=0
while [ -n "$(postmasters "$1")" ] && [ "$n" -lt 80 ]; do sleep 0.1; n=$((n + 1)); done
for pid in $(postmasters "$1"); do kill -KILL "$pid"; done
if [ -d "$1/mnt" ]; then umount "$1/mnt" || { sleep 1; umount -l "$1/mnt"; }; fi
if [ -n "$2" ]; then rmdir "$2" || { sleep 1; rmdir "$2"; }; fi
rm -rf --one-file-system -- "$1"
"#;

/// The waiting shell.
#[derive(Debug)]
pub(crate) struct LastWill {
    /// Its standard input is the pipe.
    shell: Option<Child>,
}

impl LastWill {
    /// `dir` must be free of symbolic links. Without a shell the laboratory goes on unguarded.
    pub(crate) fn write(dir: &Path, cgroup: Option<&Path>) -> Self {
        let spawned = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "blameio-lab"])
            .arg(dir)
            .arg(cgroup.unwrap_or(Path::new("")))
            .current_dir("/")
            // Else a terminal's Ctrl-C would end it with us.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match spawned {
            Ok(shell) => Self { shell: Some(shell) },
            Err(error) => {
                tracing::warn!(%error, "no shell: the laboratory stays behind if this process is killed");
                Self { shell: None }
            }
        }
    }
}

impl Drop for LastWill {
    fn drop(&mut self) {
        if let Some(shell) = &mut self.shell {
            // Killed while the pipe is still open, so that it never starts; `wait` closes the pipe.
            let _ended = shell.kill();
            let _reaped = shell.wait();
        }
    }
}
