//! What the probes take of the processors themselves: their own work, timed in the kernel now and then, and the kernel's
//! way to them, measured when they are attached.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::error::ProbeError;
use crate::kernel_map::KernelMap;
use crate::raw::Cost;
use crate::types::CostRow;

/// Tracepoints of the programs, in the order of `enum program` in bpf/cost.h.
const TRACEPOINTS: [&str; 15] = [
    SYS_ENTER,
    SYS_EXIT,
    "mm_filemap_add_to_page_cache",
    "mm_filemap_fault",
    "mm_filemap_map_pages",
    "writeback_dirty_folio",
    "block_bio_queue",
    "block_bio_complete",
    "block_rq_complete",
    "sched_switch",
    "sched_wakeup",
    "sched_process_fork",
    "sched_process_exit",
    "io_uring_submit",
    "io_uring_complete",
];

const SYS_ENTER: &str = "sys_enter";
const SYS_EXIT: &str = "sys_exit";

/// The kernel's way to a program that is not called for each system call. An estimate, and no low one.
const WAY: Duration = Duration::from_nanos(20);

/// Of each batch the quickest counts: the others were disturbed.
const BATCHES: u32 = 20;
const CALLS: u32 = 500;

/// What a system call takes that does nothing, on this thread.
pub(crate) fn empty_call() -> Duration {
    let batch = || {
        let begin = processor_time();
        for _ in 0..CALLS {
            // Not kept by the C library, unlike getpid.
            let _parent = nix::unistd::getppid();
        }
        processor_time().saturating_sub(begin) / CALLS
    };
    (0..BATCHES).map(|_| batch()).min().unwrap_or_default()
}

/// Whoever else runs meanwhile is not in it.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

/// The kernel's way to a program of each system call, from what such a call took before and after attaching.
pub(crate) fn way_of_calls(before: Duration, after: Duration) -> Duration {
    after.saturating_sub(before) / 2
}

/// The costs of all programs that have run.
pub(crate) fn read(costs: &KernelMap<u32, Cost>, way_of_calls: Duration) -> Result<Vec<CostRow>, ProbeError> {
    let mut rows = Vec::with_capacity(TRACEPOINTS.len());
    for (index, tracepoint) in (0_u32..).zip(TRACEPOINTS) {
        let way = if [SYS_ENTER, SYS_EXIT].contains(&tracepoint) { way_of_calls } else { WAY };
        rows.extend(row(tracepoint, &costs.copies(&index)?.unwrap_or_default(), way));
    }
    Ok(rows)
}

/// Of up to about a thousand runs on each processor the time is not known yet: it comes with the next that is timed, so
/// that the sum never falls.
fn row(tracepoint: &'static str, copies: &[Cost], way: Duration) -> Option<CostRow> {
    let runs: u64 = copies.iter().map(|cost| cost.runs).sum();
    let own: u64 = copies.iter().map(|cost| cost.ns).sum();
    let seconds = own as f64 / 1e9 + runs as f64 * way.as_secs_f64();
    (runs > 0).then_some(CostRow { tracepoint, runs, seconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(runs: u64, ns: u64) -> Cost {
        Cost { runs, next: 0, timed: 0, ns }
    }

    #[test]
    fn the_kernels_way_comes_on_top_of_each_run() {
        let copies = [cost(1_000, 100_000), cost(2_000, 1_000_000), cost(0, 0)];
        let row = row("sys_enter", &copies, Duration::from_nanos(10)).expect("a row");
        assert_eq!(row.runs, 3_000);
        // 100 µs, 1 ms, and 3,000 × 10 ns.
        assert!((row.seconds - 1.13e-3).abs() < 1e-12, "{row:?}");
    }

    #[test]
    fn a_program_that_never_ran_has_no_row() {
        assert_eq!(row("sys_enter", &[cost(0, 0)], WAY), None);
    }

    #[test]
    fn an_empty_call_takes_time() {
        assert!(empty_call() > Duration::ZERO);
    }

    #[test]
    fn every_program_has_its_place() {
        let header = include_str!("../bpf/cost.h");
        let names = header.lines().filter(|line| line.starts_with("\tPROGRAM")).count();
        assert_eq!(names - 1, TRACEPOINTS.len(), "PROGRAMS itself is none");
    }
}
