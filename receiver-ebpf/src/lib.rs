//! File I/O and thread time, seen from the kernel.
//!
//! This half loads the probes and reads their maps: numbers with kernel identities, cumulative since the probes were
//! loaded. It knows nothing of tables, metrics or roles' meaning.

mod attempts;
mod capabilities;
mod cgroup;
mod cost;
mod error;
pub mod file_io;
mod histogram;
mod kernel_map;
mod limits;
mod loader;
mod names;
mod namespace;
mod object;
mod others;
mod pages;
mod provider;
mod raw;
mod reconcile;
mod snapshot;
mod support;
mod sweep;
mod syscall;
mod threads;
mod types;

pub use error::ProbeError;
pub use file_io::FILE_IO;
pub use histogram::{DURATION_BUCKETS, DURATION_OFFSET, DURATION_SCALE, DURATION_ZERO_SECONDS, bucket_index};
pub use limits::Limits;
pub use loader::Loader;
pub use pages::PageIndex;
pub use provider::Probes;
pub use raw::FileId;
pub use support::{Support, probe_support};
pub use sweep::Swept;
pub use types::{
    CostRow, DeviceRow, DurationRow, IoRow, Operation, Other, OtherRow, Snapshot, ThreadRow, ThreadState,
    WriteBackRow,
};
