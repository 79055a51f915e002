//! File systems made for one test, on a loop device, and taken away after it.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// xfs takes nothing smaller than 300 MB; the image has holes.
const SIZE: u64 = 512 << 20;

/// A mounted file system. Unmounted when dropped, and its image removed.
pub(crate) struct Mounted {
    points: Vec<PathBuf>,
    directory: TempDir,
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    // The sbin directories are not on every user's path.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(program).args(arguments).env("PATH", path).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

impl Mounted {
    /// ext4, xfs, btrfs, or overlay on ext4. `None` and a line that says why, if this machine cannot.
    pub(crate) fn new(test: &str, kind: &str) -> Option<Self> {
        // On the working directory's disk: a temporary one may be memory.
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut mounted = Self { points: Vec::new(), directory };
        match mounted.mount(kind) {
            Ok(()) => Some(mounted),
            Err(error) => {
                eprintln!("SKIPPED {test}: {kind}: {error}");
                None
            }
        }
    }

    fn mount(&mut self, kind: &str) -> Result<(), String> {
        let base = self.directory.path().to_owned();
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let image = base.join("image");
        std::fs::File::create(&image).unwrap().set_len(SIZE).unwrap();
        let made = if kind == "overlay" { "ext4" } else { kind };
        let arguments: &[&str] = if made == "ext4" { &["-q", "-F"] } else { &["-q"] };
        run(&format!("mkfs.{made}"), &[arguments, &[&text(&image)]].concat())?;
        let point = base.join("mount");
        std::fs::create_dir(&point).unwrap();
        run("mount", &["-t", made, "-o", "loop", &text(&image), &text(&point)])?;
        self.points.push(point.clone());
        if kind == "overlay" {
            let over = base.join("over");
            let [lower, upper, work] = ["lower", "upper", "work"].map(|name| point.join(name));
            for made in [&over, &lower, &upper, &work] {
                std::fs::create_dir(made).unwrap();
            }
            let (lower, upper, work) = (text(&lower), text(&upper), text(&work));
            let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
            run("mount", &["-t", "overlay", "-o", &options, "overlay", &text(&over)])?;
            self.points.push(over);
        }
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        self.points.last().unwrap()
    }

    /// Has the kernel's own threads write everything.
    pub(crate) fn sync(&self) {
        for point in &self.points {
            run("sync", &["-f", point.to_str().unwrap()]).unwrap();
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        while let Some(point) = self.points.pop() {
            // A child that was killed a moment ago may still hold it; the loop device goes with the mount.
            if let Err(error) = run("umount", &[point.to_str().unwrap()]) {
                eprintln!("{error}; detaching");
                run("umount", &["-l", point.to_str().unwrap()]).ok();
            }
        }
    }
}
