//! What can go wrong with the probes, and what the operator can do about it.
//! Does not decide whether the agent goes on without them.

use std::error::Error;
use std::io;

/// An error of loading, attaching or reading the probes.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The kernel does not describe its own types.
    #[error(
        "no kernel type information at /sys/kernel/btf/vmlinux: the kernel must be built with \
         CONFIG_DEBUG_INFO_BTF=y, and /sys must be mounted and readable ({reason})"
    )]
    NoBtf {
        /// What reading it said.
        reason: String,
    },
    /// The numbers of processes here are not those that the kernel's probes see.
    #[error(
        "the agent must be in the initial pid namespace, or it would watch other processes than it means ({found}): \
         share the host's (Kubernetes: hostPID: true, Docker: --pid=host), with /proc of that namespace"
    )]
    PidNamespace {
        /// What was found.
        found: String,
    },
    /// The host or the agent crashed shortly after attaching, more than once.
    #[error(
        "the probes are not attached: {attempts} times the host or the agent ended within a minute of attaching them; \
         look into the kernel's log of that time, and remove {file} to try again"
    )]
    NotSurvived {
        /// How many times.
        attempts: u32,
        /// The mark on disk.
        file: String,
    },
    /// The thread that loads is gone.
    #[error("nobody can load the probes any more: the loading thread has ended; restart the agent")]
    LoaderEnded,
    /// The kernel refused, and capabilities are missing.
    #[error(
        "the kernel refused to load the probes: {} missing; grant CAP_BPF and CAP_PERFMON (systemd: \
         AmbientCapabilities=, Kubernetes: securityContext.capabilities.add) or run as root",
        .missing.join(" and ")
    )]
    NotPrivileged {
        /// The capabilities that are needed and not held.
        missing: Vec<&'static str>,
    },
    /// The object as a whole could not be loaded: a map could not be made or a type was not found.
    #[error("cannot load the object {object}: {detail}; {advice}")]
    Object {
        /// The provider's object.
        object: &'static str,
        /// The chain of causes.
        detail: String,
        /// What can be done.
        advice: &'static str,
    },
    /// The kernel has no such event.
    #[error(
        "the kernel has no tracepoint {tracepoint} for the program {program}; Linux 5.18 is the oldest that has all that \
         are always needed"
    )]
    NoTracepoint {
        /// The function in the object.
        program: &'static str,
        /// The BTF tracepoint.
        tracepoint: &'static str,
    },
    /// One program was refused.
    #[error("cannot load the program {program} (errno {errno:?}): {detail}; {advice}{}", verifier_words(.log))]
    Load {
        /// The function in the object.
        program: &'static str,
        /// The error number of the system call, if it got that far.
        errno: Option<i32>,
        /// The chain of causes.
        detail: String,
        /// What can be done.
        advice: &'static str,
        /// The verifier's words; empty if it was not asked.
        log: String,
    },
    /// A program was loaded and could not be attached.
    #[error("cannot attach the program {program} to {tracepoint} (errno {errno:?}): {detail}; {advice}")]
    Attach {
        /// The function in the object.
        program: &'static str,
        /// The BTF tracepoint.
        tracepoint: &'static str,
        /// The error number of the system call, if it got that far.
        errno: Option<i32>,
        /// The chain of causes.
        detail: String,
        /// What can be done.
        advice: &'static str,
    },
    /// The object does not hold what this build expects.
    #[error("the object holds no {kind} {name}: it was not built from this version's sources")]
    Missing {
        /// "map" or "program".
        kind: &'static str,
        /// Its name.
        name: &'static str,
    },
    /// A map could not be read or changed.
    #[error("cannot {action} the map {map}: {source}{}", full_advice(.source))]
    Map {
        /// The map's name.
        map: &'static str,
        /// What was tried.
        action: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The process or thread has ended: not watched.
    #[error("the {kind} {id} has ended")]
    Gone {
        /// "process" or "thread".
        kind: &'static str,
        /// Its number in the initial pid namespace.
        id: u32,
    },
}

/// For a program that the verifier has looked at and refused.
pub(crate) const VERIFIER: &str =
    "the kernel's verifier does not take it; please report this with the kernel's version and what follows";

fn verifier_words(log: &str) -> String {
    if log.is_empty() { String::new() } else { format!("\nverifier log:\n{log}") }
}

fn full_advice(error: &io::Error) -> &'static str {
    if error.raw_os_error() == Some(libc::E2BIG) { " (it is full: raise its limit)" } else { "" }
}

/// All causes in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = error.source();
    }
    text
}

/// The error number at the root of a chain, if a system call failed.
pub(crate) fn errno(error: &(dyn Error + 'static)) -> Option<i32> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// What an operator can do about an error number of loading or attaching, the capabilities being there.
pub(crate) fn advice(errno: Option<i32>) -> &'static str {
    match errno {
        Some(libc::EPERM | libc::EACCES) => {
            "the capabilities are there, so a security module, the kernel's lockdown or a container's seccomp \
             profile refuses bpf(2)"
        }
        Some(libc::ENOMEM | libc::E2BIG) => "lower the limits of the maps",
        Some(libc::EINVAL | libc::ENOTSUP) => {
            "this kernel is too old for it: 5.18 is the oldest that may work"
        }
        Some(libc::ENOSYS) => "the kernel was built without CONFIG_BPF_SYSCALL=y",
        _ => "please report this with the kernel's version",
    }
}
