//! What the probes say that they cost is what the kernel says. On a real kernel.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking and says on stderr what it skips"
)]

mod support;

use std::fs;
use std::os::fd::{FromRawFd, OwnedFd};

use blameio_receiver_ebpf::{Limits, Probes};
use support::{load_or_skip, times_are_real};

/// As long as it is held, the kernel counts and times every run of every program.
#[expect(unsafe_code, reason = "bpf(2) has no wrapper in libc")]
fn kernel_statistics() -> OwnedFd {
    const BPF_ENABLE_STATS: libc::c_int = 32;
    const BPF_STATS_RUN_TIME: u32 = 0;
    let kind = BPF_STATS_RUN_TIME;
    // SAFETY: the attributes of this command are the kind alone, and live until the call returns.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_ENABLE_STATS, &raw const kind, size_of_val(&kind)) };
    let fd = i32::try_from(fd).expect("a descriptor");
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the kernel has just made it for us.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Runs and nanoseconds of all programs that this process holds, by the kernel.
fn by_the_kernel() -> (f64, f64) {
    let mut sums = (0.0, 0.0);
    for entry in fs::read_dir("/proc/self/fdinfo").unwrap().flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let field = |name: &str| -> f64 {
            let value = text.lines().find_map(|line| line.strip_prefix(name));
            value.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0)
        };
        sums.0 += field("run_cnt:");
        sums.1 += field("run_time_ns:");
    }
    sums
}

/// Runs and nanoseconds, by the probes.
fn by_the_probes(probes: &mut Probes) -> (f64, f64) {
    let costs = probes.snapshot().unwrap().costs;
    (costs.iter().map(|row| row.runs as f64).sum(), costs.iter().map(|row| row.seconds * 1e9).sum())
}

#[test]
fn the_probes_own_account_of_their_cost_agrees_with_the_kernels() {
    let name = "the_probes_own_account_of_their_cost_agrees_with_the_kernels";
    let Some(mut probes) = load_or_skip(name, &Limits::default()) else { return };
    probes.watch_process(std::process::id(), 1, 1).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), vec![7; 100_000]).unwrap();
    let _statistics = kernel_statistics();
    let (kernel, own) = (by_the_kernel(), by_the_probes(&mut probes));
    for _ in 0..20_000 {
        assert_eq!(fs::read(file.path()).unwrap().len(), 100_000);
    }
    let (kernel_after, own_after) = (by_the_kernel(), by_the_probes(&mut probes));
    let (runs, own_runs) = (kernel_after.0 - kernel.0, own_after.0 - own.0);
    let (took, own_took) = (kernel_after.1 - kernel.1, own_after.1 - own.1);
    eprintln!("runs: {runs} by the kernel, {own_runs} by the probes; ns: {took} and {own_took}");
    // An open, a read, a close and more of each file. The two looks at each end are not one moment.
    assert!(runs > 100_000.0, "{runs}");
    assert!((own_runs / runs - 1.0).abs() < 0.02, "{own_runs} of {runs} runs");
    if !times_are_real(name) {
        return;
    }
    // The kernel does not time its own way to the programs, which is most of a system call's price, but its clock's.
    assert!((0.5..4.0).contains(&(own_took / took)), "{own_took} ns of {took}");
}
