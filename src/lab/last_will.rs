//! Takes a laboratory down when its process ends without `Drop`, as by SIGKILL or an unhandled Ctrl-C.
//!
//! A shell waits for the end of a pipe whose other end only our process holds: the kernel closes it however we
//! end. It does nothing in an orderly end; `Drop` of the parts does the work then and ends the shell.

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::control_group::Hierarchy;

/// `$1` is the laboratory's directory; after it come the roots of hierarchies that may hold cgroups of its name. A pid
/// from a file counts only while that process works in the data directory: the number may have gone to another.
const SCRIPT: &str = r#"
read -r _
dir=$1
shift
servers() {
    for file in "$1"/*/data/*.pid "$1"/mnt/*/data/*.pid; do
        pid=$(head -n 1 "$file") || continue
        [ "$(readlink "/proc/$pid/cwd")" = "${file%/*}" ] && echo "$pid"
    done
}
for pid in $(servers "$dir"); do kill -QUIT "$pid"; done
n=0
while [ -n "$(servers "$dir")" ] && [ "$n" -lt 80 ]; do sleep 0.1; n=$((n + 1)); done
for pid in $(servers "$dir"); do kill -KILL "$pid"; done
groups() {
    for root in "$@"; do for group in "$root/${dir##*/}"*; do [ -d "$group" ] && echo "$group"; done; done
}
for group in $(groups "$@"); do for pid in $(cat "$group/cgroup.procs"); do kill -KILL "$pid"; done; done
for mount in "$dir/mnt" "$dir/below"; do
    if [ -d "$mount" ]; then umount "$mount" || { sleep 1; umount -l "$mount"; }; fi
done
for group in $(groups "$@"); do rmdir "$group" || { sleep 1; rmdir "$group"; }; done
rm -rf --one-file-system -- "$dir"
"#;

/// The waiting shell.
#[derive(Debug)]
pub(crate) struct LastWill {
    /// Its standard input is the pipe.
    shell: Option<Child>,
}

impl LastWill {
    /// `dir` must be free of symbolic links. Without a shell the laboratory goes on unguarded.
    pub(crate) fn write(dir: &Path) -> Self {
        let hierarchies = ["blkio", "cpu", ""].into_iter().flat_map(Hierarchy::with);
        let roots: BTreeSet<_> = hierarchies.map(|hierarchy| hierarchy.root().to_owned()).collect();
        let spawned = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "blameio-lab"])
            .arg(dir)
            .args(roots)
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
