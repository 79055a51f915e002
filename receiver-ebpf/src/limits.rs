//! How much kernel memory the probes may take: everything is made when they are loaded and never grows.

/// Sizes of the maps, in entries. What does not fit is counted in an overflow row or in [`Snapshot::lost`].
///
/// [`Snapshot::lost`]: crate::Snapshot::lost
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Watched processes; a server's backends are one each. About 80 bytes each.
    pub processes: u32,
    /// Threads of watched processes that have done file I/O. About 150 bytes each. An operation of a thread that
    /// does not fit is not counted at all, except as lost.
    pub threads: u32,
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
    /// Asynchronous operations of watched processes in flight. About 150 bytes each.
    pub requests: u32,
    /// Bios of everyone else in flight. About 110 bytes each.
    pub flights: u32,
    /// Rows of everyone else by device and cgroup or command. About 110 bytes each.
    pub others: u32,
}

impl Default for Limits {
    /// A server with some thousand relations in use: 16 MiB on two processors, 53 MiB on 64.
    fn default() -> Self {
        Self {
            processes: 4096,
            threads: 8192,
            files: 5120,
            io: 16_384,
            overflow: 1024,
            durations: 7168,
            critical_threads: 64,
            thread_time: 8192,
            requests: 8192,
            flights: 8192,
            others: 1024,
        }
    }
}

impl Limits {
    /// The same, so many times larger.
    #[must_use]
    pub fn times(self, factor: u32) -> Self {
        let Self {
            processes,
            threads,
            files,
            io,
            overflow,
            durations,
            critical_threads,
            thread_time,
            requests,
            flights,
            others,
        } = self;
        Self {
            processes: processes.saturating_mul(factor),
            threads: threads.saturating_mul(factor),
            files: files.saturating_mul(factor),
            io: io.saturating_mul(factor),
            overflow: overflow.saturating_mul(factor),
            durations: durations.saturating_mul(factor),
            critical_threads: critical_threads.saturating_mul(factor),
            thread_time: thread_time.saturating_mul(factor),
            requests: requests.saturating_mul(factor),
            flights: flights.saturating_mul(factor),
            others: others.saturating_mul(factor),
        }
    }

    /// Map name and entries. At least one: the kernel makes no empty map.
    pub(crate) fn entries(&self) -> [(&'static str, u32); 12] {
        let Self {
            processes,
            threads,
            files,
            io,
            overflow,
            durations,
            critical_threads,
            thread_time,
            requests,
            flights,
            others,
        } = self;
        [
            ("processes", *processes),
            ("threads", *threads),
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
        ]
        .map(|(name, entries)| (name, entries.max(1)))
    }
}
