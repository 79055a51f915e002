//! Names follow their files, and maps that fill up make room again. On a real kernel.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking and says on stderr what it skips"
)]

mod support;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use blameio_receiver_ebpf::{FileId, Limits, Operation, Probes, Snapshot, ThreadState};
use support::{Player, cases, load_or_skip, lost, of_file, of_server, sum};
use tempfile::TempDir;

/// The child's side of the tests below.
#[test]
fn play() {
    cases::play();
}

fn directory(names: &[&str]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for name in names {
        std::fs::write(directory.path().join(name), [1; 100]).unwrap();
    }
    directory
}

fn start(probes: &mut Probes, directory: &Path, server: u16) -> Player {
    let (mut player, _) = Player::start("files", directory);
    probes.watch_process(player.tgid(), server, 1).unwrap();
    player.tell("go");
    player.wait_for("next");
    player
}

fn tell(player: &mut Player, word: &str) {
    player.tell(word);
    player.wait_for("next");
}

/// Operations of a file, and its name's last part.
fn read(probes: &mut Probes, snapshot: &Snapshot, path: &Path) -> (u64, Option<String>) {
    let id = of_file(snapshot, path).find_map(|row| row.file);
    let name = id.and_then(|id| probes.file_name(&id));
    let leaf = name.map(|name| name.rsplit('/').next().unwrap().to_owned());
    (sum(of_file(snapshot, path), Operation::Read).0, leaf)
}

#[test]
fn a_renamed_file_gets_its_new_name() {
    let Some(mut probes) = load_or_skip("a_renamed_file_gets_its_new_name", &Limits::default()) else {
        return;
    };
    let directory = directory(&["old", "other"]);
    let path = directory.path();
    let mut player = start(&mut probes, path, 41);
    tell(&mut player, "read old");
    let snapshot = probes.snapshot().unwrap();
    assert_eq!(read(&mut probes, &snapshot, &path.join("old")), (1, Some("old".to_owned())));
    assert!(probes.renamed().unwrap().is_none());

    // By a watched process: the very next operation of the same thread on the same file sees it.
    tell(&mut player, "rename old new");
    tell(&mut player, "read new");
    let snapshot = probes.snapshot().unwrap();
    let found = read(&mut probes, &snapshot, &path.join("new"));
    assert_eq!(found, (2, Some("new".to_owned())), "one row, one file, another name");
    let names = probes.renamed().unwrap().unwrap();
    let id = of_file(&snapshot, &path.join("new")).find_map(|row| row.file).unwrap();
    assert!(names[&id].ends_with("/new"), "{names:?}");
    assert!(probes.renamed().unwrap().is_none());

    // By anybody else: when the thread comes back to it.
    std::fs::rename(path.join("new"), path.join("newest")).unwrap();
    tell(&mut player, "read other");
    tell(&mut player, "read newest");
    let snapshot = probes.snapshot().unwrap();
    assert_eq!(read(&mut probes, &snapshot, &path.join("newest")), (3, Some("newest".to_owned())));
    assert_eq!(lost(&snapshot, "file name unreadable"), 0);
}

#[test]
fn a_long_name_is_marked() {
    let Some(mut probes) = load_or_skip("a_long_name_is_marked", &Limits::default()) else { return };
    let (fits, long) = ("1".repeat(63), "1".repeat(64));
    let directory = directory(&[&fits, &long]);
    let mut player = start(&mut probes, directory.path(), 42);
    tell(&mut player, &format!("read {fits}"));
    tell(&mut player, &format!("read {long}"));
    let snapshot = probes.snapshot().unwrap();
    let name =
        |probes: &mut Probes, file: &str| read(probes, &snapshot, &directory.path().join(file)).1.unwrap();
    assert_eq!(name(&mut probes, &fits), fits);
    assert_eq!(name(&mut probes, &long), format!("{fits}…"));
}

#[test]
fn a_crowded_map_gives_up_idle_rows_of_files_in_use() {
    let test = "a_crowded_map_gives_up_idle_rows_of_files_in_use";
    let limits = Limits { files: 4, io: 64, ..Limits::default() };
    let Some(mut probes) = load_or_skip(test, &limits) else { return };
    let all = ["a", "b", "c", "d", "e", "f"];
    let directory = directory(&all);
    let path = |name: &str| directory.path().join(name);
    let mut player = start(&mut probes, directory.path(), 43);
    for name in &all[..3] {
        tell(&mut player, &format!("read {name}"));
    }
    for _ in 0..30 {
        probes.snapshot().unwrap();
    }
    assert_eq!(probes.sweep(20, |_| false).unwrap().rows, 0, "there is room, and all may be written to");
    for name in &all[3..5] {
        tell(&mut player, &format!("read {name}"));
    }
    let snapshot = probes.snapshot().unwrap();
    assert_eq!(read(&mut probes, &snapshot, &path("d")), (1, Some("d".to_owned())));
    assert_eq!(read(&mut probes, &snapshot, &path("e")), (1, None), "no room for a fifth name");
    assert_eq!(lost(&snapshot, "files map full"), 1);

    let before = snapshot.removals;
    tell(&mut player, "read a");
    let idle = ["a", "b", "c"].map(|name| of_file(&snapshot, &path(name)).find_map(|row| row.file).unwrap());
    assert_eq!(probes.sweep(20, |_| false).unwrap().rows, 2, "b and c; a has moved since");
    let snapshot = probes.snapshot().unwrap();
    assert!(snapshot.removals > before);
    assert_eq!(read(&mut probes, &snapshot, &path("a")), (2, Some("a".to_owned())));
    assert_eq!(of_file(&snapshot, &path("b")).count(), 0);
    assert!(probes.file_name(&idle[1]).is_none() && probes.file_name(&idle[2]).is_none());
    assert!(!snapshot.durations.iter().any(|row| idle[1..].contains(&row.file)));

    // What had no room has it now, and what was removed comes back from nothing, with its name.
    tell(&mut player, "read e");
    tell(&mut player, "read b");
    let snapshot = probes.snapshot().unwrap();
    assert_eq!(read(&mut probes, &snapshot, &path("e")), (2, Some("e".to_owned())));
    assert_eq!(read(&mut probes, &snapshot, &path("b")), (1, Some("b".to_owned())));
    assert_eq!(lost(&snapshot, "row swept while written"), 0);
    assert_eq!(sum(of_server(&snapshot, 43), Operation::Read), (6, 6, 0));
}

#[test]
fn operations_by_path_are_no_waits() {
    let Some(mut probes) = load_or_skip("operations_by_path_are_no_waits", &Limits::default()) else {
        return;
    };
    // In the working directory's file system: one in memory blocks nobody. Where it can, each removal waits for the disk.
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    Command::new("chattr").arg("+D").arg(directory.path()).status().ok();
    let (mut player, tid) = Player::start("by_path", directory.path());
    probes.watch_process(player.tgid(), 44, 1).unwrap();
    probes.watch_thread(tid).unwrap();
    player.go();
    let snapshot = probes.snapshot().unwrap();
    let by_path = snapshot.threads.iter().filter(|row| row.file == Some(FileId::BY_PATH));
    let states: Vec<_> = by_path.map(|row| row.state).collect();
    assert_eq!(states, [ThreadState::Write]);
    assert!(snapshot.io.iter().all(|row| row.file != Some(FileId::BY_PATH)));
    assert_eq!(sum(of_server(&snapshot, 44), Operation::Truncate).0, 0);
}

/// An overlay mount, unmounted when dropped.
struct Overlay(TempDir);

impl Overlay {
    fn new() -> Option<Self> {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        for name in ["lower", "upper", "work", "merged"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        let status = Command::new("mount")
            .args(["-t", "overlay", "overlay", "-o", "lowerdir=lower,upperdir=upper,workdir=work", "merged"])
            .current_dir(directory.path())
            .stderr(std::process::Stdio::null())
            .status();
        status.is_ok_and(|status| status.success()).then_some(Self(directory))
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        Command::new("umount").arg(self.0.path().join("merged")).status().ok();
    }
}

#[test]
fn the_next_owner_of_an_inode_without_generation_has_its_own_name() {
    let test = "the_next_owner_of_an_inode_without_generation_has_its_own_name";
    let Some(mut probes) = load_or_skip(test, &Limits::default()) else { return };
    let Some(overlay) = Overlay::new() else {
        eprintln!("SKIPPED {test}: no overlay can be mounted here");
        return;
    };
    let path = overlay.0.path().join("merged");
    std::fs::write(path.join("dropped"), [1; 100]).unwrap();
    let mut player = start(&mut probes, &path, 45);
    tell(&mut player, "read dropped");
    let snapshot = probes.snapshot().unwrap();
    let id = of_file(&snapshot, &path.join("dropped")).find_map(|row| row.file).unwrap();
    assert_eq!(id.generation, 0);
    assert_eq!(probes.file_name(&id).as_deref(), Some("dropped"), "right below the root of its mount");
    tell(&mut player, "remove dropped");
    // Other users of the file system may have freed numbers before it.
    let created = (0..2000).map(|number| format!("created{number}")).find(|name| {
        std::fs::write(path.join(name), [1; 100]).unwrap();
        std::fs::metadata(path.join(name)).unwrap().ino() == id.inode
    });
    let Some(created) = created else {
        eprintln!("SKIPPED {test}: the file system gave no new file the old number");
        return;
    };
    tell(&mut player, &format!("read {created}"));
    let snapshot = probes.snapshot().unwrap();
    let (operations, name) = read(&mut probes, &snapshot, &path.join(&created));
    assert_eq!((operations, name.as_deref()), (2, Some(created.as_str())));
    assert!(probes.renamed().unwrap().is_some());
    // The mount is busy while anybody is in it.
    drop(player);
}
