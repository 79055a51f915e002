//! What the probes cost a system call: the median of alternating rounds without and with them, of one thread that is
//! bound to one processor. Prints rows `case,off_ns,on_ns`. Needs what the probes need.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a program that prints")]

use std::{
    error::Error,
    fs::File,
    io::Write,
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use blameio_receiver_ebpf::{CostRow, Limits, Probes};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    time::{ClockId, clock_gettime},
    unistd::Pid,
};

/// Long enough for a quiet stretch on a machine that others use too.
const ROUNDS: usize = 15;
/// Of each round the quickest batch counts: the others were disturbed.
const BATCHES: u32 = 100;
const CALLS: u32 = 400;

struct Case {
    name: &'static str,
    watched: bool,
    call: fn(i32),
}

#[expect(unsafe_code, reason = "the call itself is measured, not what a library adds to it")]
fn unrelated(_: i32) {
    // SAFETY: takes no arguments.
    unsafe {
        libc::syscall(libc::SYS_getppid);
    }
}

#[expect(unsafe_code, reason = "the call itself is measured, not what a library adds to it")]
fn pread<const BYTES: usize>(fd: i32) {
    let mut buffer = [0_u8; BYTES];
    // SAFETY: the buffer is live and of the length named.
    unsafe {
        libc::syscall(libc::SYS_pread64, fd, buffer.as_mut_ptr(), BYTES, 0);
    }
    std::hint::black_box(&buffer);
}

#[expect(unsafe_code, reason = "the call itself is measured, not what a library adds to it")]
fn pwrite(fd: i32) {
    let buffer = [0_u8; 8192];
    // SAFETY: the buffer is live and of the length named.
    unsafe {
        libc::syscall(libc::SYS_pwrite64, fd, buffer.as_ptr(), buffer.len(), 0);
    }
}

const CASES: [Case; 6] = [
    Case { name: "unrelated system call", watched: false, call: unrelated },
    Case { name: "cached pread of 1 byte, unwatched", watched: false, call: pread::<1> },
    Case { name: "cached pread of 1 byte, watched", watched: true, call: pread::<1> },
    Case { name: "cached pread of 8 KiB, unwatched", watched: false, call: pread::<8192> },
    Case { name: "cached pread of 8 KiB, watched", watched: true, call: pread::<8192> },
    Case { name: "cached pwrite of 8 KiB, watched", watched: true, call: pwrite },
];

/// The thread's own time: what others do on the processor meanwhile is not the probes' cost.
fn processor_time() -> Result<Duration, nix::Error> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

/// Nanoseconds a call.
fn round(case: &Case, fd: i32) -> Result<f64, nix::Error> {
    let mut quickest = f64::MAX;
    for _ in 0..BATCHES {
        let start = processor_time()?;
        for _ in 0..CALLS {
            (case.call)(fd);
        }
        let took = processor_time()?.saturating_sub(start).as_secs_f64();
        quickest = quickest.min(took * 1e9 / f64::from(CALLS));
    }
    Ok(quickest)
}

fn median(mut rounds: Vec<f64>) -> f64 {
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut processors = CpuSet::new();
    processors.set(0)?;
    sched_setaffinity(Pid::from_raw(0), &processors)?;
    let path = std::env::temp_dir().join(format!("blameio-probe-cost-{}", std::process::id()));
    let mut file = File::options().create_new(true).read(true).write(true).open(&path)?;
    // Nobody else needs the name, and nothing is left behind.
    std::fs::remove_file(&path)?;
    file.write_all(&[1; 8192])?;
    let fd = file.as_raw_fd();
    let mut off: Vec<Vec<f64>> = CASES.iter().map(|_| Vec::new()).collect();
    let mut on = off.clone();
    let (mut loading, mut memory, mut costs) = (Duration::MAX, 0, Vec::new());
    for _ in 0..ROUNDS {
        for (case, rounds) in CASES.iter().zip(&mut off) {
            rounds.push(round(case, fd)?);
        }
        let start = Instant::now();
        let mut probes = Probes::load(&Limits::default())?;
        loading = loading.min(start.elapsed());
        memory = probes.memory_bytes();
        for (case, rounds) in CASES.iter().zip(&mut on) {
            if case.watched {
                probes.watch_process(std::process::id(), 1, 1)?;
            }
            rounds.push(round(case, fd)?);
            probes.forget_process(std::process::id());
        }
        costs = probes.snapshot()?.costs;
    }
    eprintln!("kernel memory: {memory} bytes; loading and attaching: {loading:?}");
    for CostRow { tracepoint, runs, seconds } in costs {
        eprintln!("{tracepoint}: {:.0} ns a run by their own account", seconds / runs as f64 * 1e9);
    }
    println!("case,off_ns,on_ns");
    for ((case, off), on) in CASES.iter().zip(off).zip(on) {
        println!("\"{}\",{:.0},{:.0}", case.name, median(off), median(on));
    }
    Ok(())
}
