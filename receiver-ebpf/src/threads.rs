//! Wall time of critical threads: reads what the scheduler's probes kept and adds the interval that is still open.
//! Does not decide which threads are critical.

use std::os::fd::AsFd;

use crate::Probes;
use crate::error::ProbeError;
use crate::pages::PageIndex;
use crate::raw::{STATE_EXITED, STATE_UNKNOWN, Slot, Thread, ThreadTimeKey};
use crate::reconcile::{RowKey, Rows, reconcile};
use crate::syscall::{number, thread_descriptor};
use crate::types::{ThreadRow, ThreadState};

/// Reads of a thread's record before a torn one is taken as it is. A write takes well below a microsecond.
const ATTEMPTS: usize = 16;

/// Between the copies and the clock a thread may have moved on, and the time since is told as of the state it had. A
/// reader that lost the processor meanwhile, perhaps to that very thread, reads again; a quiet read takes some ten
/// microseconds.
const QUIET_NS: u64 = 200_000;

/// What was last reported of a thread, so that no row ever falls.
#[derive(Debug, Default)]
pub(crate) struct ThreadAccount {
    pub(crate) last: Rows,
    /// Nanoseconds of rows that were swept away: no longer part of the sum.
    pub(crate) swept_ns: u64,
    pub(crate) exited: bool,
}

/// `CLOCK_MONOTONIC`, the clock of the probes. 0 if there is none, which Linux excludes.
pub(crate) fn clock_ns() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    now.map_or(0, |time| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
        seconds * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap_or(0)
    })
}

/// The letter of a live thread's state in /proc/TID/stat: R is running or queued. `None` if it has ended.
pub(crate) fn run_state(tid: u32) -> Option<char> {
    let text = std::fs::read(format!("/proc/{tid}/stat")).ok()?;
    // The command may hold anything, so the last parenthesis counts.
    let end = text.iter().rposition(|byte| *byte == b')')?;
    let state = char::from(*text.get(end + 2)?);
    (!matches!(state, 'Z' | 'X' | 'x')).then_some(state)
}

/// The rows of one thread as read, their true total, and the row that is growing.
pub(crate) fn thread_rows(
    thread: &Thread,
    times: &[(ThreadTimeKey, u64)],
    now: u64,
    slot: Option<&Slot>,
    runnable: bool,
) -> (Rows, u64, RowKey) {
    let mut rows = Rows::new();
    for (key, ns) in times {
        if let Some(state) = ThreadState::from_raw(key.state).filter(|state| state.has_file()) {
            rows.insert((state, Some(key.file), PageIndex::from_raw(key.index)), *ns);
        }
    }
    for ((state, ns), unkept) in ThreadState::ALL.into_iter().zip(thread.state_ns).zip(thread.unkept_ns) {
        rows.insert((state, None, PageIndex::None), if state.has_file() { unkept } else { ns });
    }
    if thread.held_ns > 0 {
        let row = rows.entry((ThreadState::Read, Some(thread.file), PageIndex::None)).or_insert(0);
        *row = row.saturating_add(thread.held_ns);
    }
    let exited = thread.state == STATE_EXITED;
    let open = if exited { 0 } else { now.saturating_sub(thread.since_ns) };
    let index = PageIndex::from_raw(if thread.held == 0 { thread.index } else { 0 });
    let (state, file, index) = match ThreadState::from_raw(thread.state) {
        Some(state) => (state, Some(thread.file), index),
        // Not seen to move since it is watched. Whether it runs or is queued is told by its first move.
        None if thread.state == STATE_UNKNOWN && !runnable => (
            slot.map_or(ThreadState::Wait, |slot| ThreadState::blocked_in(slot.operation)),
            slot.map(|slot| slot.file),
            PageIndex::None,
        ),
        None => (ThreadState::Cpu, None, PageIndex::None),
    };
    let current = if state.has_file() { (state, file, index) } else { (state, None, PageIndex::None) };
    let row = rows.entry(current).or_insert(0);
    *row = row.saturating_add(open);
    let total = thread.state_ns.iter().fold(open, |sum, ns| sum.saturating_add(*ns));
    (rows, total, current)
}

impl Probes {
    /// A copy that no write tore: the same even sequence and the same bytes twice.
    fn stable_thread(&self, tid: u32) -> Result<Option<Thread>, ProbeError> {
        let mut copy = self.maps.critical.get(&tid)?;
        for _ in 0..ATTEMPTS {
            let again = self.maps.critical.get(&tid)?;
            if copy == again && again.is_none_or(|thread| thread.sequence.is_multiple_of(2)) {
                break;
            }
            copy = again;
        }
        Ok(copy)
    }

    /// Copies of all records, and a moment right after them.
    fn quiet_copies(&self) -> Result<(u64, Vec<(u32, Thread)>), ProbeError> {
        let mut attempt = 1;
        loop {
            let before = clock_ns();
            let mut threads = Vec::with_capacity(self.accounts.len());
            for tid in self.accounts.keys() {
                threads.extend(self.stable_thread(*tid)?.map(|thread| (*tid, thread)));
            }
            // After the copies: no interval that they hold began later.
            let now = clock_ns();
            if now.saturating_sub(before) <= QUIET_NS || attempt >= ATTEMPTS {
                return Ok((now, threads));
            }
            attempt += 1;
        }
    }

    /// What a thread is in; `None` if it has done no file I/O, or the kernel cannot tell of a single thread.
    fn slot(&self, tid: u32) -> Option<Slot> {
        let descriptor = thread_descriptor(tid)?;
        self.maps.slots.get(&number(descriptor.as_fd())).ok().flatten()
    }

    /// The rows of all critical threads, and the instant that they are of.
    pub(crate) fn read_threads(&mut self) -> Result<(u64, Vec<ThreadRow>), ProbeError> {
        let (now, threads) = self.quiet_copies()?;
        let mut times: Vec<(ThreadTimeKey, u64)> = Vec::new();
        if !threads.is_empty() {
            self.maps.thread_time.for_each(|key, ns| times.extend(ns.first().map(|ns| (key, *ns))))?;
            times.sort_unstable_by_key(|(key, _)| key.tid);
        }
        let mut found = Vec::new();
        for (tid, thread) in threads {
            let runnable = thread.state == STATE_UNKNOWN && run_state(tid) == Some('R');
            let from = times.partition_point(|(key, _)| key.tid < tid);
            let to = times.partition_point(|(key, _)| key.tid <= tid);
            let slot = if thread.state == STATE_UNKNOWN { self.slot(tid) } else { None };
            let (mut rows, total, current) =
                thread_rows(&thread, &times[from..to], now, slot.as_ref(), runnable);
            let Some(account) = self.accounts.get_mut(&tid) else { continue };
            reconcile(&account.last, &mut rows, total.saturating_sub(account.swept_ns), current);
            account.exited = thread.state == STATE_EXITED;
            found.extend(rows.iter().filter(|(_, ns)| **ns > 0).map(|((state, file, index), ns)| {
                ThreadRow { tid, state: *state, file: *file, index: *index, ns: *ns }
            }));
            account.last = rows;
        }
        Ok((now, found))
    }
}
