//! What a laboratory is built from. It builds nothing; see `scenario.rs`.

use std::path::PathBuf;

use super::{Lab, Schema, Settings, disk};

/// Where the replica's files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// On a loop device whose reads can be limited. Needs root and a cgroup.
    Slow {
        /// Size of its sparse image.
        bytes: u64,
    },
    /// On such a device on top of another, which is the one that is limited: a device that is slow in the eyes of all
    /// who use it, whatever the limit is made of. Needs root and a cgroup.
    Shared {
        /// Size of the sparse image.
        bytes: u64,
    },
    /// Beside the primary. No root; `inject_cold_index` is refused.
    Plain,
}

/// What to build.
#[derive(Debug, Clone)]
pub struct LabOptions {
    /// Directory of the server programs; searched for when not given.
    pub binaries: Option<PathBuf>,
    /// Where to make the laboratory's directory; the system's temporary directory when not given. The server's
    /// user must be able to reach it.
    pub parent: Option<PathBuf>,
    /// The replica's storage.
    pub storage: Storage,
    /// Reads a second that the replica gets while its index is cold: well under the rate of updates.
    pub read_iops: u64,
    /// The tables.
    pub schema: Schema,
    /// Settings of the primary, over the laboratory's own.
    pub primary: Settings,
    /// Settings of the replica, over the laboratory's own.
    pub replica: Settings,
}

impl Default for LabOptions {
    fn default() -> Self {
        Self {
            binaries: None,
            parent: None,
            storage: Storage::Slow { bytes: disk::DEFAULT_BYTES },
            read_iops: Lab::READ_IOPS,
            schema: Schema::default(),
            // A vacuum would walk through the cold index and add reads that no test asked for.
            primary: Settings::default().with("autovacuum", "off"),
            replica: Settings::default(),
        }
    }
}
