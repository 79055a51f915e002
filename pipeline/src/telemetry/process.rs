//! CPU, memory and age of the agent's process, read from /proc when somebody asks.

use std::{fs, time::Instant};

use opentelemetry::metrics::Meter;

/// Kernel clock ticks a second in /proc/PID/stat; fixed at 100 on every Linux architecture for user space.
const TICKS_PER_SECOND: f64 = 100.0;

pub(super) fn observe(meter: &Meter) {
    let born = Instant::now();
    meter
        .f64_observable_counter("otelcol_process_uptime")
        .with_description("Age of the agent's process")
        .with_callback(move |observer| observer.observe(born.elapsed().as_secs_f64(), &[]))
        .build();
    meter
        .f64_observable_counter("otelcol_process_cpu_seconds")
        .with_description("CPU time of the agent's process")
        .with_callback(|observer| {
            if let Some(seconds) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(cpu_seconds)
            {
                observer.observe(seconds, &[]);
            }
        })
        .build();
    meter
        .u64_observable_gauge("otelcol_process_memory_rss")
        .with_description("Resident memory of the agent's process")
        .with_callback(|observer| {
            if let Some(bytes) = fs::read_to_string("/proc/self/status").ok().as_deref().and_then(rss_bytes) {
                observer.observe(bytes, &[]);
            }
        })
        .build();
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    // The command may hold blanks and brackets; the numbers begin after its last bracket.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / TICKS_PER_SECOND)
}

fn rss_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_cannot_shift_the_fields() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0";
        assert_eq!(cpu_seconds(stat), Some(2.0));
    }

    #[test]
    fn resident_memory_is_in_bytes() {
        assert_eq!(rss_bytes("VmSize:\t 9 kB\nVmRSS:\t  12 kB\n"), Some(12_288));
        assert_eq!(rss_bytes("nothing"), None);
    }
}
