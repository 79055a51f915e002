//! In another pid namespace the probes refuse to load: they would watch whoever has the number outside.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking and says on stderr what it skips"
)]

mod support;

use std::process::Command;

use blameio_receiver_ebpf::{Limits, ProbeError, Probes, probe_support};
use support::load_or_skip;

const INSIDE: &str = "BLAMEIO_TEST_INSIDE";

/// The side of the test below that runs in another namespace.
#[test]
fn inside() {
    if std::env::var_os(INSIDE).is_none() {
        return;
    }
    let error = Probes::load(&Limits::default()).map(drop).unwrap_err();
    assert!(matches!(error, ProbeError::PidNamespace { .. }), "{error}");
    let found = probe_support();
    let part = found.iter().find(|part| part.name == "pid namespace").unwrap();
    assert!(!part.ok && part.detail.contains("hostPID: true"), "{part:?}");
}

#[test]
fn another_namespace_is_refused() {
    let test = "another_namespace_is_refused";
    if load_or_skip(test, &Limits::default()).is_none() {
        return;
    }
    let unshare = |mount: &[&str], program: &std::ffi::OsStr, arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork"]).args(mount).arg(program).args(arguments).env(INSIDE, "1").output()
    };
    if !unshare(&[], "true".as_ref(), &[]).is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED {test}: no new pid namespace can be made here");
        return;
    }
    let binary = std::env::current_exe().unwrap();
    // With its own /proc, and with the one of the namespace outside.
    for mount in [&["--mount-proc"][..], &[]] {
        let output = unshare(mount, binary.as_os_str(), &["--exact", "inside", "--nocapture"]).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
    }
}
