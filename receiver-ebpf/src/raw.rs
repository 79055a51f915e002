//! The kernel's records, byte for byte: mirrors of `bpf/maps.h`. No meaning here, and any bytes are a valid record.

use bytemuck::{AnyBitPattern, Pod, Zeroable};

use crate::histogram::DURATION_BUCKETS;

/// A file's identity: names and paths change, this does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct FileId {
    /// `s_dev` as the kernel keeps it: major << 20 | minor. What mountinfo shows, not always what stat shows.
    pub device: u32,
    /// Tells owners of a reused inode number apart. 0 on overlayfs.
    pub generation: u32,
    /// Inode number.
    pub inode: u64,
}

impl FileId {
    /// Of operations by path, which do not tell their file: truncate, unlink, rename.
    pub const BY_PATH: Self = Self { device: 0, generation: 0, inode: 0 };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Process {
    pub(crate) server: u16,
    pub(crate) role: u8,
    pub(crate) pages: u8,
    pub(crate) reserved: [u8; 4],
}

#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Slot {
    pub(crate) start_ns: u64,
    pub(crate) position: u64,
    pub(crate) size: u64,
    pub(crate) amount: u64,
    pub(crate) file: FileId,
    pub(crate) super_block: u64,
    pub(crate) opened: u64,
    pub(crate) host: u64,
    pub(crate) faulting: u64,
    pub(crate) filled: u64,
    pub(crate) dirtied: u64,
    pub(crate) moves: u32,
    pub(crate) epoch: u32,
    pub(crate) server: u16,
    pub(crate) role: u8,
    pub(crate) operation: u8,
    pub(crate) critical: u8,
    pub(crate) watched: u8,
    pub(crate) reached: u8,
    pub(crate) medium: u8,
    pub(crate) switched: u8,
    pub(crate) quick_left: u8,
    pub(crate) pages: u8,
    pub(crate) tablespace: u8,
    pub(crate) quick_ns: u32,
    pub(crate) quick_asked: u64,
    pub(crate) submitting: u64,
    pub(crate) owner: u64,
    pub(crate) page: u64,
    pub(crate) index: u32,
    pub(crate) reserved: u32,
}

/// What a program has cost on one processor.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Cost {
    pub(crate) runs: u64,
    pub(crate) next: u64,
    pub(crate) timed: u64,
    pub(crate) ns: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct IoKey {
    pub(crate) file: FileId,
    pub(crate) tid: u32,
    pub(crate) server: u16,
    pub(crate) role: u8,
    pub(crate) operation: u8,
    pub(crate) index: u32,
    pub(crate) reserved: u32,
}

#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct IoCounters {
    pub(crate) operations: u64,
    pub(crate) bytes: u64,
    pub(crate) errors: u64,
    pub(crate) time_ns: u64,
}

#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct DeviceCounters {
    pub(crate) operations: u64,
    pub(crate) bytes: u64,
    pub(crate) time_ns: u64,
    pub(crate) dirtied: u64,
}

#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct WriteBack {
    pub(crate) file: FileId,
    pub(crate) operations: u64,
    pub(crate) bytes: u64,
    pub(crate) time_ns: u64,
}

#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct WriteBackBio {
    pub(crate) host: FileId,
    pub(crate) start_ns: u64,
}

#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct OverflowKey {
    pub(crate) server: u16,
    pub(crate) role: u8,
    pub(crate) operation: u8,
}

/// Names kept per file, and bytes of each with its closing zero.
pub(crate) const NAMES: usize = 4;
pub(crate) const NAME_SIZE: usize = 64;

#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct FileName {
    pub(crate) leaf: u64,
    pub(crate) depth: u32,
    pub(crate) truncated: u32,
    pub(crate) names: [[u8; NAME_SIZE]; NAMES],
}

#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct DurationKey {
    pub(crate) file: FileId,
    pub(crate) server: u16,
    pub(crate) operation: u8,
    pub(crate) reserved: u8,
    pub(crate) index: u32,
}

#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Durations {
    pub(crate) sum_ns: u64,
    pub(crate) zero: u64,
    pub(crate) buckets: [u64; DURATION_BUCKETS],
}

#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Naming {
    pub(crate) moves: u64,
    pub(crate) full: u64,
    pub(crate) renamed: u64,
}

/// `OPERATION_BY_PATH` in maps.h, which no row has.
pub(crate) const OPERATION_BY_PATH: u8 = 7;
/// `OPERATION_FAULT` in maps.h.
pub(crate) const OPERATION_FAULT: u8 = 8;

/// `CRITICAL_BITS` in maps.h.
pub(crate) const CRITICAL_BITS: u32 = 4096;

/// The bit of a thread: the key of its word, and the bit in it.
pub(crate) fn critical_bit(tid: u32) -> (u32, u64) {
    (tid % CRITICAL_BITS / u64::BITS, 1 << (tid % u64::BITS))
}

/// A word of the bits of such threads.
pub(crate) fn critical_word(threads: impl IntoIterator<Item = u32>, word: u32) -> u64 {
    let bits = threads.into_iter().map(critical_bit).filter(|(of, _)| *of == word);
    bits.fold(0, |bits, (_, bit)| bits | bit)
}

/// `STATES` in maps.h: the eight states, and the one before the first move.
pub(crate) const STATES: usize = 9;
pub(crate) const STATE_UNKNOWN: u64 = 8;
pub(crate) const STATE_EXITED: u64 = 9;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Thread {
    pub(crate) sequence: u64,
    pub(crate) since_ns: u64,
    pub(crate) state: u64,
    pub(crate) file: FileId,
    pub(crate) state_ns: [u64; STATES],
    pub(crate) unkept_ns: [u64; STATES],
    pub(crate) queue: u64,
    pub(crate) throttled_before: u64,
    pub(crate) held_ns: u64,
    pub(crate) index: u32,
    pub(crate) held: u32,
}

#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct ThreadTimeKey {
    pub(crate) tid: u32,
    pub(crate) index: u32,
    pub(crate) file: FileId,
    pub(crate) state: u64,
}

/// An asynchronous operation in flight: by the kernel's address, or by a process and its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct RequestKey {
    pub(crate) address: u64,
    pub(crate) tgid: u32,
    pub(crate) reserved: u32,
}

#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Request {
    pub(crate) slot: Slot,
    pub(crate) tid: u32,
    pub(crate) tgid: u32,
}

/// `PENDING` in async.h, and three words of each.
pub(crate) const PENDING: usize = 32;

#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Pending {
    pub(crate) first: u64,
    pub(crate) next: u64,
    pub(crate) requests: [[u64; 3]; PENDING],
}

/// `enum other_kind` in others.h.
pub(crate) const OTHER_PROCESS: u32 = 0;
pub(crate) const OTHER_KERNEL: u32 = 1;
pub(crate) const OTHER_WRITE_BACK: u32 = 2;
/// Bytes of a command, with its closing zero.
pub(crate) const COMMAND: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct OtherKey {
    pub(crate) device: u32,
    pub(crate) kind: u32,
    pub(crate) cgroup: u64,
    pub(crate) command: [u8; COMMAND],
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct OtherCounters {
    pub(crate) time_ns: u64,
    pub(crate) operations: u64,
    pub(crate) bytes: u64,
}

/// A bio in flight.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Flight {
    pub(crate) key: OtherKey,
    pub(crate) start_ns: u64,
    pub(crate) bytes: u64,
}

/// Of an asynchronous operation whose end the probes did not see.
pub(crate) const REQUEST_UNFINISHED: &str = "request not seen to end";

/// Of a bio whose end the probes did not see.
pub(crate) const BIO_UNFINISHED: &str = "bio not seen to end";

/// Why something was not kept, in the order of `enum lost`.
pub(crate) const LOST_REASONS: [&str; 18] = [
    "io map full",
    "overflow map full",
    "files map full",
    "thread storage refused",
    "thread time map full",
    "durations map full",
    "processes map full",
    "file name unreadable",
    "device map full",
    "write-back map full",
    "write-back in flight map full",
    "requests map full",
    "request unreadable",
    REQUEST_UNFINISHED,
    "flights map full",
    BIO_UNFINISHED,
    "others map full",
    "cgroups map full",
];

/// Records out of the flat bytes of a batch. A last, incomplete record is dropped.
pub(crate) fn records<T: AnyBitPattern>(bytes: &[u8]) -> impl Iterator<Item = T> + '_ {
    bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::names::tail;
    use crate::others::other_row;
    use crate::snapshot::{device_row, duration_row, io_row, overflow_row};
    use crate::threads::thread_rows;

    #[test]
    fn records_have_the_sizes_of_the_c_structs() {
        assert_eq!(size_of::<FileId>(), 16);
        assert_eq!(size_of::<Process>(), 8);
        assert_eq!(size_of::<Slot>(), 160);
        assert_eq!(size_of::<Cost>(), 32);
        assert_eq!(size_of::<Naming>(), 24);
        assert_eq!(size_of::<IoKey>(), 32);
        assert_eq!(size_of::<DeviceCounters>(), 32);
        assert_eq!(size_of::<WriteBack>(), 40);
        assert_eq!(size_of::<WriteBackBio>(), 24);
        assert_eq!(size_of::<FileName>(), 272);
        assert_eq!(size_of::<DurationKey>(), 24);
        assert_eq!(size_of::<Durations>(), 784);
        assert_eq!(size_of::<Thread>(), 216);
        assert_eq!(size_of::<ThreadTimeKey>(), 32);
        assert_eq!(size_of::<RequestKey>(), 16);
        assert_eq!(size_of::<Request>(), 168);
        assert_eq!(size_of::<Pending>(), 784);
        assert_eq!(size_of::<OtherKey>(), 32);
        assert_eq!(size_of::<OtherCounters>(), 24);
        assert_eq!(size_of::<Flight>(), 48);
    }

    #[test]
    fn every_number_below_the_count_of_bits_has_its_own_bit() {
        assert!(include_str!("../bpf/maps.h").contains(&format!("#define CRITICAL_BITS {CRITICAL_BITS}\n")));
        let mut words = vec![0_u64; (CRITICAL_BITS / u64::BITS) as usize];
        for tid in 7 * CRITICAL_BITS..8 * CRITICAL_BITS {
            let (word, bit) = critical_bit(tid);
            assert_eq!(words[word as usize] & bit, 0);
            words[word as usize] |= bit;
        }
        assert!(words.iter().all(|word| *word == u64::MAX));
    }

    #[test]
    fn a_bit_stays_as_long_as_one_thread_has_it() {
        let (word, bit) = critical_bit(70);
        assert_eq!(critical_word([70, 70 + CRITICAL_BITS, 6], word), bit);
        assert_eq!(critical_word([70 + CRITICAL_BITS, 71 + CRITICAL_BITS], word), bit | bit << 1);
        assert_eq!(critical_word([6], word), 0);
    }

    proptest! {
        #[test]
        fn any_bytes_decode(bytes in proptest::collection::vec(any::<u8>(), 0..4096), now in any::<u64>()) {
            for name in records::<FileName>(&bytes) {
                let _ = tail(&name);
            }
            for key in records::<IoKey>(&bytes) {
                let values: Vec<IoCounters> = records(&bytes).collect();
                let _ = io_row(&key, &values);
            }
            for key in records::<IoKey>(&bytes) {
                for value in records::<DeviceCounters>(&bytes) {
                    let _ = device_row(&key, &value);
                }
            }
            for key in records::<OverflowKey>(&bytes) {
                let _ = overflow_row(key, &[]);
            }
            for key in records::<DurationKey>(&bytes) {
                for value in records::<Durations>(&bytes) {
                    let _ = duration_row(&key, &value);
                }
            }
            for key in records::<OtherKey>(&bytes) {
                let _ = other_row(&key, &OtherCounters::default());
            }
            let times: Vec<(ThreadTimeKey, u64)> = records(&bytes).map(|key| (key, now)).collect();
            for thread in records::<Thread>(&bytes) {
                for slot in records::<Slot>(&bytes) {
                    let _ = thread_rows(&thread, &times, now, Some(&slot), true);
                }
            }
        }
    }
}
