//! Device numbers lead to disks, on this machine's own.

use std::{fs, os::unix::fs::MetadataExt, path::Path, process::Command};

use super::*;

fn kernel_number(device: u64) -> u32 {
    libc::major(device) << 20 | libc::minor(device)
}

fn leaf_of(device: u64) -> Option<Arc<str>> {
    Leaves::default().of(kernel_number(device), None)
}

/// Detached when dropped.
struct Loop(String);

impl Drop for Loop {
    fn drop(&mut self) {
        Command::new("losetup").args(["-d", &self.0]).status().ok();
    }
}

#[test]
fn a_loop_device_leads_to_the_disk_of_its_file() {
    let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let image = directory.path().join("image with space");
    fs::File::create(&image).unwrap().set_len(1 << 20).unwrap();
    let below = leaf_of(fs::metadata(&image).unwrap().dev()).unwrap();
    assert!(Path::new("/sys/block").join(&*below).exists(), "{below}");

    let made = Command::new("losetup").args(["--find", "--show"]).arg(&image).output();
    let Some(made) = made.ok().filter(|made| made.status.success()) else {
        eprintln!("SKIPPED a_loop_device_leads_to_the_disk_of_its_file: no loop device");
        return;
    };
    let device = Loop(String::from_utf8(made.stdout).unwrap().trim().to_owned());
    assert_eq!(leaf_of(fs::metadata(&device.0).unwrap().rdev()), Some(below));
}

#[test]
fn memory_has_no_disk_and_a_missing_device_none_either() {
    assert_eq!(leaf_of(fs::metadata("/proc").unwrap().dev()), None);
    assert_eq!(Leaves::default().of(4000 << 20, None), None);
}

#[test]
fn a_line_of_mountinfo_is_read_with_its_escapes() {
    let line = "36 35 0:43 / /mnt/a\\040b rw,noatime master:1 - overlay overlay rw,upperdir=/u,workdir=/w";
    let found = mount(line).unwrap();
    assert_eq!((found.number, found.point.as_path()), ((0, 43), Path::new("/mnt/a b")));
    assert_eq!((found.kind, found.options), ("overlay", "rw,upperdir=/u,workdir=/w"));
    assert!(mount("").is_none());
    assert!(mount("36 35 0:43 / /mnt rw - ext4").is_none());
}
