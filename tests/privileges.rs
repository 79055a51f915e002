//! What a running agent may still do: watch, and nothing that loading needed. On a real kernel.

#![allow(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test fails by panicking and says what it skips"
)]

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use blameio_receiver_ebpf::probe_support;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const DEADLINE: Duration = Duration::from_secs(30);

/// Bits of include/uapi/linux/capability.h.
const FORBIDDEN: [(u32, &str); 4] =
    [(21, "CAP_SYS_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF"), (16, "CAP_SYS_MODULE")];

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Each thread's name and effective capabilities.
fn threads(pid: u32) -> Vec<(String, u64)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the agent runs");
    tasks
        .filter_map(|task| {
            let status = fs::read_to_string(task.ok()?.path().join("status")).ok()?;
            let field = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
            Some((field("Name:")?.to_owned(), u64::from_str_radix(field("CapEff:")?, 16).ok()?))
        })
        .collect()
}

#[test]
fn once_the_probes_are_attached_no_thread_can_load_any() {
    let test = "once_the_probes_are_attached_no_thread_can_load_any";
    if let Some(missing) = probe_support().into_iter().find(|support| !support.ok) {
        eprintln!("SKIPPED {test}: {}: {}", missing.name, missing.detail);
        return;
    }
    let state = tempfile::tempdir().expect("a directory");
    let configuration = format!(
        "yaml:{{receivers: {{file_io: {{state_directory: '{}'}}}}, exporters: {{debug: }}, service: {{telemetry: \
         {{metrics: {{level: none}}}}, pipelines: {{metrics: {{receivers: [file_io], exporters: [debug]}}}}}}}}",
        state.path().display()
    );
    let mut agent = Running(
        Command::new(env!("CARGO_BIN_EXE_blameio"))
            .args(["run", "--config", &configuration])
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs"),
    );
    let said = BufReader::new(agent.0.stderr.take().expect("a pipe"));
    let mut told = Vec::new();
    let mut lines = said.lines().map_while(Result::ok);
    for line in lines.by_ref() {
        let attached = line.contains("probes are attached");
        told.push(line);
        if attached {
            break;
        }
    }
    assert!(told.last().is_some_and(|line| line.contains("probes are attached")), "{told:#?}");
    let mark = state.path().join("probes-attaching-file_io");
    assert!(mark.exists(), "a crash now would not be noticed at the next start");
    let until = Instant::now() + DEADLINE;
    loop {
        let threads = threads(agent.0.id());
        let loader = threads.iter().any(|(name, _)| name == "blameio-loader");
        if !loader {
            assert!(threads.len() > 2, "{threads:?}");
            for (name, held) in &threads {
                for (bit, forbidden) in FORBIDDEN {
                    assert_eq!(held >> bit & 1, 0, "thread {name} still holds {forbidden}");
                }
            }
            break;
        }
        assert!(Instant::now() < until, "the loading thread does not end: {threads:?}");
        std::thread::yield_now();
    }
    let pid = i32::try_from(agent.0.id()).expect("a process id");
    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("told to end");
    // Nobody reads what it says any more; it ends in order all the same.
    drop(lines);
    let status = agent.0.wait().expect("it ends");
    assert!(status.success(), "{status}: {told:#?}");
    assert!(!mark.exists(), "an orderly end counts as a crash");
}
