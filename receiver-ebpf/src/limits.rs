//! How much kernel memory the probes may take at most. Rows that stay take it when they come, all else when the probes are
//! loaded.

/// Sizes of the maps, in entries. What does not fit is counted in an overflow row or in [`Snapshot::lost`].
///
/// [`Snapshot::lost`]: crate::Snapshot::lost
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Watched processes; a server's backends are one each. About 80 bytes each.
    pub processes: u32,
    /// Threads whose role is not their process's. About 80 bytes each.
    pub thread_roles: u32,
    /// Files whose name is kept. About 350 bytes each.
    pub files: u32,
    /// Rows of file, thread or role class, and operation. About 100 bytes each and 32 more per possible processor.
    pub io: u32,
    /// Rows of server, role class and operation for what finds no room in `io`.
    pub overflow: u32,
    /// Histograms, one per file, server and operation. About 900 bytes each.
    pub durations: u32,
    /// Threads whose wall time is split into states.
    pub critical_threads: u32,
    /// Rows of critical thread, state and file.
    pub thread_time: u32,
    /// Asynchronous operations of watched processes in flight. About 260 bytes each.
    pub requests: u32,
    /// Bios of everyone else in flight. About 110 bytes each.
    pub flights: u32,
    /// Rows of everyone else by device and cgroup or command. About 110 bytes each.
    pub others: u32,
    /// Rows of file, thread or role class, and operation that reached the device or made pages dirty. About 120 bytes
    /// each.
    pub device: u32,
    /// Files whose write-back is counted. About 120 bytes each.
    pub write_back: u32,
    /// Requests of such write-back in flight. About 100 bytes each.
    pub write_back_bios: u32,
}

impl Default for Limits {
    /// A server with some thousand relations in use: 17 MiB on two processors when all is full, 54 MiB on 64.
    fn default() -> Self {
        Self {
            processes: 4096,
            thread_roles: 8192,
            files: 5120,
            io: 16_384,
            overflow: 1024,
            durations: 7168,
            critical_threads: 64,
            thread_time: 8192,
            requests: 8192,
            flights: 8192,
            others: 1024,
            device: 8192,
            write_back: 5120,
            write_back_bios: 4096,
        }
    }
}

impl Limits {
    /// The same, so many times larger.
    #[must_use]
    pub fn times(self, factor: u32) -> Self {
        let Self {
            processes,
            thread_roles,
            files,
            io,
            overflow,
            durations,
            critical_threads,
            thread_time,
            requests,
            flights,
            others,
            device,
            write_back,
            write_back_bios,
        } = self;
        Self {
            processes: processes.saturating_mul(factor),
            thread_roles: thread_roles.saturating_mul(factor),
            files: files.saturating_mul(factor),
            io: io.saturating_mul(factor),
            overflow: overflow.saturating_mul(factor),
            durations: durations.saturating_mul(factor),
            critical_threads: critical_threads.saturating_mul(factor),
            thread_time: thread_time.saturating_mul(factor),
            requests: requests.saturating_mul(factor),
            flights: flights.saturating_mul(factor),
            others: others.saturating_mul(factor),
            device: device.saturating_mul(factor),
            write_back: write_back.saturating_mul(factor),
            write_back_bios: write_back_bios.saturating_mul(factor),
        }
    }

    /// Map name and entries. At least one: the kernel makes no empty map.
    pub(crate) fn entries(&self) -> [(&'static str, u32); 15] {
        let Self {
            processes,
            thread_roles,
            files,
            io,
            overflow,
            durations,
            critical_threads,
            thread_time,
            requests,
            flights,
            others,
            device,
            write_back,
            write_back_bios,
        } = self;
        [
            ("processes", *processes),
            ("thread_roles", *thread_roles),
            ("files", *files),
            ("io", *io),
            ("overflow", *overflow),
            ("durations", *durations),
            ("critical", *critical_threads),
            ("thread_time", *thread_time),
            ("requests", *requests),
            ("pending", *critical_threads),
            ("flights", *flights),
            ("others", *others),
            ("device", *device),
            ("write_back", *write_back),
            ("write_back_bios", *write_back_bios),
        ]
        .map(|(name, entries)| (name, entries.max(1)))
    }
}
