//! Which of the capabilities that the probes need are held. Says nothing about whether loading works.

/// Bits of include/uapi/linux/capability.h.
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// What is needed and not there, of the effective set in the text of /proc/thread-self/status.
fn missing_in(status: &str) -> Vec<&'static str> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let held = line.and_then(|value| u64::from_str_radix(value.trim(), 16).ok()).unwrap_or(0);
    let has = |bit: u32| held >> bit & 1 == 1;
    if has(CAP_SYS_ADMIN) {
        return Vec::new();
    }
    let needed = [(CAP_BPF, "CAP_BPF"), (CAP_PERFMON, "CAP_PERFMON")];
    needed.into_iter().filter(|(bit, _)| !has(*bit)).map(|(_, name)| name).collect()
}

/// What this thread lacks: threads of a process may differ.
pub(crate) fn missing() -> Vec<&'static str> {
    missing_in(&std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::missing_in;

    #[test]
    fn each_missing_capability_is_named() {
        assert_eq!(missing_in("CapEff:\t0000000000000000\n"), ["CAP_BPF", "CAP_PERFMON"]);
        assert_eq!(missing_in("CapEff:\t0000008000000000\n"), ["CAP_PERFMON"]);
        assert!(missing_in("CapEff:\t000000c000000000\n").is_empty());
        assert!(missing_in("CapEff:\t0000000000200000\n").is_empty(), "CAP_SYS_ADMIN holds both");
    }
}
