//! What the limit of a cgroup holds back is sent on by a thread of the kernel, and still counts once: at the file layer if
//! it is a watched process's, else as somebody else's. On a real kernel, with a cgroup and a disk of the test's own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking and says on stderr what it skips"
)]

mod support;

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use blameio_receiver_ebpf::{Limits, Operation, Other, Probes, Snapshot};
use support::calls::{cached_pages, plain};
use support::mounts::Mounted;
use support::{Player, cases, load_or_skip, lost, until};

/// What one command reads or writes, and what the cgroup may in a second.
const BYTES: u64 = cases::BLOCKS as u64 * 8192;
const LIMIT: u64 = 2 * BYTES;

/// The child's side of the tests below.
#[test]
fn play() {
    cases::play();
}

/// A cgroup whose I/O on one device is limited. Removed when dropped, after its processes.
struct Cgroup {
    path: PathBuf,
    /// Of version 2: what the probes call it.
    id: Option<u64>,
}

impl Cgroup {
    fn new(device: u64) -> Result<Self, String> {
        // The tests of a file run at the same time.
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!("blameio-test-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let number = format!("{}:{}", libc::major(device), libc::minor(device));
        let first = Path::new("/sys/fs/cgroup/blkio");
        if first.join("blkio.throttle.read_bps_device").exists() {
            let cgroup = Self { path: first.join(name), id: None };
            fs::create_dir(&cgroup.path).map_err(|error| error.to_string())?;
            for way in ["read", "write"] {
                let file = cgroup.path.join(format!("blkio.throttle.{way}_bps_device"));
                fs::write(file, format!("{number} {LIMIT}")).map_err(|error| error.to_string())?;
            }
            return Ok(cgroup);
        }
        let root = Path::new("/sys/fs/cgroup");
        let controllers = fs::read_to_string(root.join("cgroup.subtree_control")).unwrap_or_default();
        if !controllers.split_whitespace().any(|name| name == "io") {
            return Err("no hierarchy of cgroups has the io controller".to_owned());
        }
        let mut cgroup = Self { path: root.join(name), id: None };
        fs::create_dir(&cgroup.path).map_err(|error| error.to_string())?;
        cgroup.id = Some(fs::metadata(&cgroup.path).unwrap().ino());
        fs::write(cgroup.path.join("io.max"), format!("{number} rbps={LIMIT} wbps={LIMIT}"))
            .map_err(|error| format!("io.max (CONFIG_BLK_DEV_THROTTLING): {error}"))?;
        Ok(cgroup)
    }

    fn add(&self, process: u32) {
        fs::write(self.path.join("cgroup.procs"), process.to_string()).unwrap();
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Processes that were killed leave a little later.
        let end = Instant::now() + support::DEADLINE;
        while fs::remove_dir(&self.path).is_err() && self.path.exists() && Instant::now() < end {
            std::thread::yield_now();
        }
    }
}

struct Bench {
    probes: Probes,
    server: Player,
    rival: Player,
    // Dropped after its processes.
    cgroup: Cgroup,
    mounted: Mounted,
}

/// Two processes, one of them watched, and two files that are not in the page cache.
fn bench(test: &str) -> Option<Bench> {
    let mut probes = load_or_skip(test, &Limits::default())?;
    let mounted = Mounted::new(test, "ext4")?;
    let cgroup = match Cgroup::new(fs::metadata(mounted.path()).unwrap().dev()) {
        Ok(cgroup) => cgroup,
        Err(error) => {
            eprintln!("SKIPPED {test}: {error}");
            return None;
        }
    };
    let start = |name: &str| {
        let (mut player, _) = Player::start("foreign", mounted.path());
        player.tell("go");
        player.wait_for("next");
        tell(&mut player, &format!("name {name}"));
        player
    };
    let (server, rival) = (start("blameio-server"), start("blameio-rival"));
    probes.watch_process(server.tgid(), 91, 1).unwrap();
    for name in ["data", "other"] {
        fs::write(mounted.path().join(name), vec![1; usize::try_from(BYTES).unwrap()]).unwrap();
    }
    mounted.sync();
    let bench = Bench { probes, server, rival, cgroup, mounted };
    bench.cool();
    Some(bench)
}

fn tell(player: &mut Player, words: &str) {
    player.tell(words);
    player.wait_for("next");
}

/// What was counted: of the server's operations at the file layer, by the rival's name and by the kernel's workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counted {
    files: u64,
    rival: u64,
    workers: u64,
}

impl Bench {
    fn cool(&self) {
        for name in ["data", "other"] {
            let file = File::open(self.mounted.path().join(name)).unwrap();
            let advice = i64::from(libc::POSIX_FADV_DONTNEED);
            until("a cold file", || {
                assert_eq!(plain(libc::SYS_fadvise64, &file, [0, 0, advice]), 0);
                (cached_pages(&file, BYTES) == 0).then_some(())
            });
        }
    }

    fn counted(&self, snapshot: &Snapshot) -> Counted {
        let device = fs::metadata(self.mounted.path()).unwrap().dev();
        let device = libc::major(device) << 20 | libc::minor(device);
        let of = |wanted: &[Other]| -> u64 {
            let rows = snapshot.others.iter().filter(|row| row.device == device);
            rows.filter(|row| wanted.contains(&row.other)).map(|row| row.bytes).sum()
        };
        let mut rivals = vec![Other::Command("blameio-rival".to_owned())];
        rivals.extend(self.cgroup.id.map(Other::Cgroup));
        let files = snapshot.device.iter().filter(|row| row.server == 91);
        Counted {
            files: files.filter(|row| row.operation != Operation::Fsync).map(|row| row.bytes).sum(),
            rival: of(&rivals),
            workers: of(&[Other::Kernel("kworker".to_owned())]),
        }
    }

    /// What a command adds, and how long it took. The kernel does not tell the probes of everything on every machine: that
    /// is in `lost`, each at most one request here.
    fn run(&mut self, of_server: bool, words: &str) -> (Counted, Duration, u64) {
        let before = self.probes.snapshot().unwrap();
        let begin = Instant::now();
        tell(if of_server { &mut self.server } else { &mut self.rival }, words);
        let elapsed = begin.elapsed();
        let after = self.probes.snapshot().unwrap();
        let missed = |reason| lost(&after, reason) - lost(&before, reason);
        let missed = missed("probe skipped") + missed("bio not seen to end");
        let (before, after) = (self.counted(&before), self.counted(&after));
        let found = Counted {
            files: after.files - before.files,
            rival: after.rival - before.rival,
            workers: after.workers - before.workers,
        };
        eprintln!("{words}: {found:?} in {elapsed:?}, missed {missed}");
        (found, elapsed, missed)
    }

    /// The rival does something that is held back, and all of it is counted, once.
    fn rival(&mut self, words: &str) {
        let (found, elapsed, missed) = self.run(false, words);
        assert!(elapsed > Duration::from_millis(200), "nothing was held back: {elapsed:?}");
        let bytes = found.rival + found.workers;
        assert!(bytes <= BYTES && bytes + missed * (1 << 20) >= BYTES, "{words}: {found:?}, missed {missed}");
        assert_eq!(found.files, 0, "{words}: {found:?}");
        // Only where the cgroups for I/O are a hierarchy of their own its name is not known.
        assert_eq!(found.workers == 0, self.cgroup.id.is_some(), "{words}: {found:?}");
    }
}

#[test]
fn a_rival_that_is_held_back_counts_though_the_server_has_read_the_same_file() {
    let test = "a_rival_that_is_held_back_counts_though_the_server_has_read_the_same_file";
    let Some(mut bench) = bench(test) else { return };
    bench.cgroup.add(bench.rival.tgid());
    bench.rival("read data");
    bench.cool();
    tell(&mut bench.server, "begin data");
    bench.cool();
    bench.rival("read data");
    bench.rival("direct data");
}

#[test]
fn what_is_held_back_of_a_server_counts_at_the_file_layer_only() {
    let test = "what_is_held_back_of_a_server_counts_at_the_file_layer_only";
    let Some(mut bench) = bench(test) else { return };
    // It is known by what it does, also when it was moved after it was seen first.
    tell(&mut bench.server, "direct other");
    bench.cgroup.add(bench.server.tgid());
    for words in ["direct data", "overwrite data", "read data"] {
        let (found, elapsed, _) = bench.run(true, words);
        assert!(elapsed > Duration::from_millis(200), "{words}: nothing was held back: {elapsed:?}");
        assert_eq!(found, Counted { files: BYTES, rival: 0, workers: 0 }, "{words}");
    }
}

#[test]
fn of_a_cgroup_that_both_are_in_the_file_tells_whose_read_was_held_back() {
    let test = "of_a_cgroup_that_both_are_in_the_file_tells_whose_read_was_held_back";
    let Some(mut bench) = bench(test) else { return };
    bench.cgroup.add(bench.server.tgid());
    bench.cgroup.add(bench.rival.tgid());
    let (found, ..) = bench.run(true, "read data");
    assert_eq!(found, Counted { files: BYTES, rival: 0, workers: 0 });
    bench.rival("read other");
}
