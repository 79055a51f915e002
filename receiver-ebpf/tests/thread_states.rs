//! A critical thread's states sum to the time that passed, and agree with the scheduler's own account. On a real
//! kernel.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking and says on stderr what it skips"
)]

mod support;

use std::{
    collections::HashMap,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use blameio_receiver_ebpf::{FileId, Limits, Probes, Snapshot, ThreadState};
use support::{DEADLINE, Player, cases, load_or_skip, times_are_real};

/// The child's side of the tests below.
#[test]
fn play() {
    cases::play();
}

type Rows = HashMap<(ThreadState, Option<FileId>), u64>;

fn rows(snapshot: &Snapshot, tid: u32) -> Rows {
    let own = snapshot.threads.iter().filter(|row| row.tid == tid);
    own.map(|row| ((row.state, row.file), row.ns)).collect()
}

/// What passed between two snapshots, by row. No row falls.
fn deltas(before: &Rows, after: &Rows) -> Rows {
    assert!(before.keys().all(|key| after.contains_key(key)), "a row is gone");
    let delta = |(key, ns): (&(ThreadState, Option<FileId>), &u64)| {
        (*key, ns.checked_sub(before.get(key).copied().unwrap_or(0)).expect("a row fell"))
    };
    after.iter().map(delta).collect()
}

fn in_state(rows: &Rows, state: ThreadState) -> u64 {
    rows.iter().filter(|((found, _), _)| *found == state).map(|(_, ns)| ns).sum()
}

/// Time on a processor and time queued, by the scheduler.
fn schedstat(tid: u32) -> (u64, u64) {
    let text = std::fs::read_to_string(format!("/proc/{tid}/schedstat")).unwrap();
    let mut numbers = text.split_whitespace().map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// A snapshot and the scheduler's numbers of one and the same moment: the thread has come to rest before both. On a busy
/// machine it may be queued for a long time between its last word and its next wait.
fn at_rest(probes: &mut Probes, tid: u32) -> (Snapshot, (u64, u64)) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let before = schedstat(tid);
        let stat = std::fs::read_to_string(format!("/proc/{tid}/stat")).unwrap();
        let sleeps = stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'));
        let snapshot = probes.snapshot().unwrap();
        if sleeps && schedstat(tid) == before {
            return (snapshot, before);
        }
        assert!(Instant::now() < deadline, "the thread does not come to rest: {stat}");
    }
}

fn assert_near(ours: u64, theirs: u64, what: &str) {
    // The scheduler's own numbers of a thread that is running or queued are as old as its last tick.
    let allowed = theirs / 50 + 8_000_000;
    assert!(ours.abs_diff(theirs) <= allowed, "{what}: {ours} ns, the scheduler says {theirs} ns");
}

#[test]
fn states_sum_to_the_window_and_agree_with_the_scheduler() {
    let test = "states_sum_to_the_window_and_agree_with_the_scheduler";
    let Some(mut probes) = load_or_skip(test, &Limits::default()) else { return };
    let real = times_are_real(test);
    // In the working directory's file system: a temporary one may be memory, that blocks nobody.
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path().join("data");
    std::fs::write(&path, vec![1; 65_536]).unwrap();
    std::fs::File::open(&path).unwrap().sync_all().unwrap();

    let (mut player, tid) = Player::start("states", directory.path());
    probes.watch_process(player.tgid(), 31, 3).unwrap();
    // It sleeps, and has not been seen to move.
    probes.watch_thread(tid).unwrap();
    let (mut start, mut scheduler) = at_rest(&mut probes, tid);
    for _ in 0..4 {
        player.tell("go");
        // Windows in the middle of things add up too.
        let mut before = start.clone();
        for _ in 0..200 {
            let after = probes.snapshot().unwrap();
            let delta = deltas(&rows(&before, tid), &rows(&after, tid));
            assert_eq!(delta.values().sum::<u64>(), after.monotonic_ns - before.monotonic_ns);
            before = after;
        }
        let inode = player.wait_for("round").parse::<u64>().unwrap();
        let (end, now) = at_rest(&mut probes, tid);
        let delta = deltas(&rows(&start, tid), &rows(&end, tid));
        let window = end.monotonic_ns - start.monotonic_ns;
        let sum: u64 = delta.values().sum();
        assert!(sum.abs_diff(window) <= window / 100, "{sum} of {window} ns");
        let all = format!("{delta:?}, lost: {:?}", end.lost);
        let (cpu, queued) = (in_state(&delta, ThreadState::Cpu), in_state(&delta, ThreadState::Runqueue));
        if real {
            assert_near(cpu, now.0 - scheduler.0, &format!("cpu of {all}"));
            assert_near(queued, now.1 - scheduler.1, &format!("runqueue of {all}"));
        }
        let least = 10_000_000;
        assert!(in_state(&delta, ThreadState::Cpu) > least, "{delta:?}");
        assert!(in_state(&delta, ThreadState::Wait) > least, "{delta:?}");
        let synced = delta.iter().filter(|((state, file), _)| {
            *state == ThreadState::Fsync && file.is_some_and(|file| file.inode == inode)
        });
        assert!(synced.map(|(_, ns)| ns).sum::<u64>() > 0, "{delta:?}");
        assert!(in_state(&delta, ThreadState::Read) > 0, "{delta:?}");
        (start, scheduler) = (end, now);
    }
}

#[test]
fn time_that_finds_no_row_has_no_file() {
    let limits = Limits { thread_time: 1, ..Limits::default() };
    let Some(mut probes) = load_or_skip("time_that_finds_no_row_has_no_file", &limits) else { return };
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    std::fs::write(directory.path().join("data"), vec![1; 65_536]).unwrap();
    let (mut player, tid) = Player::start("states", directory.path());
    probes.watch_process(player.tgid(), 32, 3).unwrap();
    probes.watch_thread(tid).unwrap();
    let before = probes.snapshot().unwrap();
    player.tell("go");
    player.wait_for("round");
    let after = probes.snapshot().unwrap();
    let delta = deltas(&rows(&before, tid), &rows(&after, tid));
    assert_eq!(delta.values().sum::<u64>(), after.monotonic_ns - before.monotonic_ns);
    assert!(support::lost(&after, "thread time map full") > 0);
    let unkept = delta.iter().filter(|((state, file), ns)| state.has_file() && file.is_none() && **ns > 0);
    assert!(unkept.count() > 0, "{delta:?}");
}

/// A thread that is on a processor for a while whenever it is told to, and waits otherwise.
struct Worker {
    tid: u32,
    tell: SyncSender<()>,
    said: Receiver<u32>,
    thread: JoinHandle<()>,
}

impl Worker {
    fn start() -> Self {
        let (tell, told) = sync_channel(1);
        let (say, said) = sync_channel(1);
        let thread = std::thread::spawn(move || {
            let tid = nix::unistd::gettid().as_raw().cast_unsigned();
            say.send(tid).unwrap();
            for () in told {
                let begin = Instant::now();
                while begin.elapsed() < Duration::from_millis(5) {}
                say.send(tid).unwrap();
            }
        });
        Self { tid: said.recv().unwrap(), tell, said, thread }
    }

    /// Two whose numbers have their bits in one word, of 64.
    fn start_two() -> (Self, Self) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let (first, second) = (Self::start(), Self::start());
            if first.tid / 64 == second.tid / 64 {
                return (first, second);
            }
            first.end();
            second.end();
            assert!(Instant::now() < deadline, "no two numbers are close");
        }
    }

    /// Time on a processor by the probes, of a while in which it was there.
    fn seen_to_work(&self, probes: &mut Probes) -> u64 {
        let before = rows(&probes.snapshot().unwrap(), self.tid);
        self.tell.send(()).unwrap();
        self.said.recv_timeout(DEADLINE).unwrap();
        let after = rows(&probes.snapshot().unwrap(), self.tid);
        in_state(&deltas(&before, &after), ThreadState::Cpu)
    }

    fn end(self) {
        drop(self.tell);
        self.thread.join().unwrap();
    }
}

#[test]
fn a_thread_is_split_on_when_its_neighbour_is_forgotten() {
    let test = "a_thread_is_split_on_when_its_neighbour_is_forgotten";
    let Some(mut probes) = load_or_skip(test, &Limits::default()) else { return };
    let (worker, neighbour) = Worker::start_two();
    for watched in [&worker, &neighbour] {
        probes.watch_thread(watched.tid).unwrap();
        assert!(watched.seen_to_work(&mut probes) > 0);
    }
    probes.forget_thread(neighbour.tid);
    assert!(worker.seen_to_work(&mut probes) > 0);
    // And one that is watched again is seen again.
    probes.forget_thread(worker.tid);
    probes.watch_thread(worker.tid).unwrap();
    assert!(worker.seen_to_work(&mut probes) > 0);
    worker.end();
    neighbour.end();
}
