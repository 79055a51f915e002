//! What a snapshot holds, in Rust's terms. All counters are cumulative since the row was made.

use crate::pages::PageIndex;
use crate::raw::{FileId, OPERATION_BY_PATH, OPERATION_FAULT};

/// An operation on a regular file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// read, pread64, readv, preadv, preadv2.
    Read,
    /// write, pwrite64, writev, pwritev, pwritev2 within the file as it was.
    Write,
    /// A write that ended past the end the file had when it began, or fallocate.
    Extend,
    /// fsync, fdatasync, `sync_file_range`.
    Fsync,
    /// fadvise64 with `POSIX_FADV_WILLNEED`.
    Prefetch,
    /// ftruncate, or fallocate that gives blocks back.
    Truncate,
    /// A page fault of a mapped file that had to read.
    Fault,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Read, Self::Write, Self::Extend, Self::Fsync, Self::Prefetch, Self::Truncate, Self::Fault];

    /// The name in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Extend => "extend",
            Self::Fsync => "fsync",
            Self::Prefetch => "prefetch",
            Self::Truncate => "truncate",
            Self::Fault => "fault",
        }
    }

    pub(crate) fn from_raw(value: u8) -> Option<Self> {
        match value {
            OPERATION_BY_PATH => None,
            OPERATION_FAULT => Some(Self::Fault),
            _ => Self::ALL.get(usize::from(value).checked_sub(1)?).copied(),
        }
    }
}

/// Where a critical thread's wall time goes. Exclusive: exactly one at every moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ThreadState {
    /// Running, inside a system call too.
    Cpu,
    /// Could run and does not: preempted, or woken and queued.
    Runqueue,
    /// Blocked in a read, or in a page fault that reads.
    Read,
    /// Blocked in a write, an extend, a truncate, or an operation by path.
    Write,
    /// Blocked in an fsync.
    Fsync,
    /// Blocked in a prefetch.
    Prefetch,
    /// Blocked with no file operation in flight; stopped too.
    Wait,
    /// Could run, and its cgroup has used up its processor time.
    Throttled,
}

impl ThreadState {
    /// All of them, in the order of the kernel's array.
    pub const ALL: [Self; 8] = [
        Self::Cpu,
        Self::Runqueue,
        Self::Read,
        Self::Write,
        Self::Fsync,
        Self::Prefetch,
        Self::Wait,
        Self::Throttled,
    ];

    /// The name in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Runqueue => "runqueue",
            Self::Read => "read",
            Self::Write => "write",
            Self::Fsync => "fsync",
            Self::Prefetch => "prefetch",
            Self::Wait => "wait",
            Self::Throttled => "throttled",
        }
    }

    /// Whether time in this state belongs to a file.
    pub const fn has_file(self) -> bool {
        matches!(self, Self::Read | Self::Write | Self::Fsync | Self::Prefetch)
    }

    pub(crate) fn from_raw(value: u64) -> Option<Self> {
        Self::ALL.get(usize::try_from(value).ok()?).copied()
    }

    /// The state of a thread that is blocked in an operation, as a slot holds it.
    pub(crate) fn blocked_in(operation: u8) -> Self {
        if operation == OPERATION_BY_PATH {
            return Self::Write;
        }
        match Operation::from_raw(operation) {
            Some(Operation::Read | Operation::Fault) => Self::Read,
            Some(Operation::Write | Operation::Extend | Operation::Truncate) => Self::Write,
            Some(Operation::Fsync) => Self::Fsync,
            Some(Operation::Prefetch) => Self::Prefetch,
            None => Self::Wait,
        }
    }
}

/// One reading of all maps.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// When the thread rows were read, `CLOCK_MONOTONIC`.
    pub monotonic_ns: u64,
    /// Operations by file.
    pub io: Vec<IoRow>,
    /// Wall time of critical threads by state.
    pub threads: Vec<ThreadRow>,
    /// Critical threads that have exited: their rows stand still until they are forgotten.
    pub exited_threads: Vec<u32>,
    /// Durations of operations by file.
    pub durations: Vec<DurationRow>,
    /// What of the operations reached the device.
    pub device: Vec<DeviceRow>,
    /// Write-back of files that watched processes made dirty.
    pub write_back: Vec<WriteBackRow>,
    /// What processes that are not watched do to devices.
    pub others: Vec<OtherRow>,
    /// Grows whenever rows may have been removed; while it stands still, every row of the snapshot before is in this.
    pub removals: u64,
    /// What could not be kept, by reason, cumulative. Every reason is there, with 0 too.
    pub lost: Vec<(&'static str, u64)>,
    /// What the probes themselves have cost.
    pub costs: Vec<CostRow>,
}

/// Processor time that the probes at one tracepoint have taken from whoever passed it.
#[derive(Debug, Clone, PartialEq)]
pub struct CostRow {
    /// The tracepoint; both of io_uring's submission go by one name.
    pub tracepoint: &'static str,
    /// How often it was passed.
    pub runs: u64,
    /// An estimate: about one run in a thousand is timed.
    pub seconds: f64,
}

/// Operations of one kind on one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IoRow {
    /// `None`: the overflow row of server, role and operation.
    pub file: Option<FileId>,
    /// Whose pages of the file, as far as they tell.
    pub index: PageIndex,
    /// As given to [`Probes::watch_process`](crate::Probes::watch_process).
    pub server: u16,
    /// Critical threads have rows of their own.
    pub tid: Option<u32>,
    /// The role of the process when the operation began.
    pub role: u8,
    /// What was done.
    pub operation: Operation,
    /// Finished operations, failed ones too.
    pub operations: u64,
    /// What the system calls returned, or the length of a fallocate; of a fault the page.
    pub bytes: u64,
    /// Failed operations.
    pub errors: u64,
    /// From entry to exit of the system call, on a processor or not. Of a fault: from its first page that is read. Of an
    /// asynchronous operation: from submission to completion (io_uring), or to being reaped (libaio).
    pub time_ns: u64,
}

/// What of the operations of one kind on one file reached the device: those that added pages to the page cache, slept for
/// such pages, are direct, or end only when data is on the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRow {
    /// The file.
    pub file: FileId,
    /// Whose pages of the file, as far as they tell.
    pub index: PageIndex,
    /// As given to [`Probes::watch_process`](crate::Probes::watch_process).
    pub server: u16,
    /// Critical threads have rows of their own.
    pub tid: Option<u32>,
    /// The role of the process when the operation began.
    pub role: u8,
    /// What was done.
    pub operation: Operation,
    /// Operations that reached the device.
    pub operations: u64,
    /// Bytes read from the device, or written to it directly. Not what write-back writes.
    pub bytes: u64,
    /// Their whole time in flight.
    pub time_ns: u64,
    /// Bytes of pages that the operations made dirty, whether or not one reached the device; through a mapping too (as
    /// [`Operation::Write`]).
    pub dirtied_bytes: u64,
}

/// Write-back of one file at the block layer, by whomever: write-back threads, fsync, or the writer itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteBackRow {
    /// The file, as its [`DeviceRow`]s name it.
    pub file: FileId,
    /// The inode that its pages belong to: another one on overlayfs.
    pub host: FileId,
    /// Requests of the file system to the block layer.
    pub operations: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Time that the requests were in flight, each for itself.
    pub time_ns: u64,
}

/// Wall time of a critical thread in one state. Over any two snapshots the deltas of a thread's rows sum to the time
/// between them, the interval still open included. Never decreases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadRow {
    /// The thread.
    pub tid: u32,
    /// The state.
    pub state: ThreadState,
    /// The file of states that have one, [`FileId::BY_PATH`] if the operation does not tell it; `None` there for time
    /// that found no room in the map.
    pub file: Option<FileId>,
    /// Whose pages of the file, as far as they tell. Of an operation in flight they do not yet: what of it was reported
    /// stays in the row of [`PageIndex::None`].
    pub index: PageIndex,
    /// Nanoseconds since the thread was watched.
    pub ns: u64,
}

/// Who does I/O beside the watched processes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Other {
    /// A process, by the id of its cgroup in the unified hierarchy.
    Cgroup(u64),
    /// A process in the root cgroup, by its command.
    Command(String),
    /// A thread of the kernel, by its command; `kworker` for all of those.
    Kernel(String),
    /// Pages that were dirtied before, nobody knows by whom.
    WriteBack,
    /// What found no room in the map.
    Overflow,
}

/// I/O at the block layer of somebody who is not watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherRow {
    /// The disk or partition: major << 20 | minor.
    pub device: u32,
    /// Who.
    pub other: Other,
    /// A thread of the kernel did it, on behalf of somebody or nobody.
    pub by_kernel: bool,
    /// From queueing to completion, of all bios.
    pub time_ns: u64,
    /// Bios.
    pub operations: u64,
    /// What they read and wrote.
    pub bytes: u64,
}

/// Durations of one kind of operation on one file, as a base-2 exponential histogram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DurationRow {
    /// The file.
    pub file: FileId,
    /// Whose pages of the file, as far as they tell.
    pub index: PageIndex,
    /// The server.
    pub server: u16,
    /// What was done.
    pub operation: Operation,
    /// Buckets per power of two = 2^scale.
    pub scale: i32,
    /// The index of the first bucket: bucket i holds (b^(offset+i), b^(offset+i+1)] seconds, b = 2^(2^-scale).
    pub offset: i32,
    /// Counts, from the first that is not 0 to the last. The last one of all also holds everything longer.
    pub buckets: Vec<u64>,
    /// Operations of at most 2^-20 s, where the first bucket begins: shorter ones are not told apart. The bound is
    /// [`DURATION_ZERO_SECONDS`](crate::DURATION_ZERO_SECONDS).
    pub zero_count: u64,
    /// All operations: the buckets and `zero_count`.
    pub count: u64,
    /// Sum of all durations. Read an instant apart from the buckets.
    pub sum_ns: u64,
}
