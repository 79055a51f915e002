//! What goes on without the capabilities that loading needs: everything but loading. On a real kernel.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking and says on stderr what it skips"
)]

mod support;

use blameio_receiver_ebpf::{Limits, Operation, ProbeError, Probes};
use support::{Player, calls::call, cases, kernel_is_before, load_or_skip, of_server, sum};

/// The child's side of the test below.
#[test]
fn play() {
    cases::play();
}

/// Of this thread alone.
fn drop_all_capabilities() {
    let mut header = [0x2008_0522_u32, 0];
    let mut sets = [0_u32; 6];
    let address = |numbers: &mut [u32]| i64::try_from(numbers.as_mut_ptr().expose_provenance()).unwrap();
    assert_eq!(call(libc::SYS_capset, [address(&mut header), address(&mut sets), 0, 0, 0, 0]), 0);
}

#[test]
fn a_thread_without_capabilities_reads_watches_and_sweeps() {
    let test = "a_thread_without_capabilities_reads_watches_and_sweeps";
    let Some(mut probes) = load_or_skip(test, &Limits::default()) else { return };
    // Which stopped asking for them in operations on maps that are open already.
    if kernel_is_before((5, 19)) {
        eprintln!("SKIPPED {test}: this kernel wants capabilities for every call");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("data"), [1; 100]).unwrap();
    let (mut player, tid) = Player::start("threads", directory.path());
    drop_all_capabilities();
    assert!(matches!(Probes::load(&Limits::default()), Err(ProbeError::NotPrivileged { .. })));
    probes.watch_process(player.tgid(), 51, 1).unwrap();
    probes.watch_thread(tid).unwrap();
    player.go();
    let snapshot = probes.snapshot().unwrap();
    let reads = cases::THREADS * cases::READS_PER_THREAD;
    assert_eq!(sum(of_server(&snapshot, 51), Operation::Read).0, reads);
    probes.forget_thread(tid);
    probes.forget_process(player.tgid());
    assert_eq!(probes.sweep(0, |_| false).unwrap().rows, 1);
    assert!(probes.snapshot().unwrap().io.is_empty());
}
