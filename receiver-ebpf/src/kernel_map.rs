//! A map of the kernel with typed keys and values: one element, or all of them in few calls.
//! Does not know what any map means.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use aya::maps::{Map, MapData};
use bytemuck::{Pod, bytes_of, bytes_of_mut};

use crate::error::ProbeError;
use crate::raw::records;
use crate::syscall::{BatchAttributes, Command, ElementAttributes, address, address_mut, bpf, number};

/// Elements asked for at first. The kernel refuses when one bucket holds more; then twice as many are tried.
const BATCH: usize = 512;
/// A bucket this long means that something else is wrong.
const LARGEST_BATCH: usize = 1 << 20;

/// Holds the map's descriptor; the map lives until this and the programs that use it are dropped.
pub(crate) struct KernelMap<K, V> {
    name: &'static str,
    data: MapData,
    /// Copies of the value that a lookup gives: one, or one per possible processor.
    copies: usize,
    types: PhantomData<fn(K) -> V>,
}

impl<K: Pod, V: Pod> KernelMap<K, V> {
    /// Takes a map of the loaded object; its key and value must have the sizes of `K` and `V`.
    pub(crate) fn new(name: &'static str, map: Option<Map>, processors: usize) -> Result<Self, ProbeError> {
        let missing = ProbeError::Missing { kind: "map", name };
        let (data, copies) = match map {
            // Task storage is the only kind here that the loader library does not know.
            Some(Map::HashMap(data) | Map::Array(data) | Map::Unsupported(data)) => (data, 1),
            Some(Map::PerCpuHashMap(data) | Map::PerCpuArray(data)) => (data, processors),
            _ => return Err(missing),
        };
        let Ok(info) = data.info() else { return Err(missing) };
        // Every later call relies on these sizes. A value per processor is rounded up to 8 bytes.
        if info.key_size() as usize != size_of::<K>()
            || info.value_size() as usize != size_of::<V>()
            || (copies > 1 && !size_of::<V>().is_multiple_of(8))
        {
            return Err(missing);
        }
        Ok(Self { name, data, copies, types: PhantomData })
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.data.fd().as_fd()
    }

    fn error(&self, action: &'static str, source: io::Error) -> ProbeError {
        ProbeError::Map { map: self.name, action, source }
    }

    /// `values` is empty for commands without one, or holds as many as the map keeps per key.
    fn element(&self, command: Command, key: &K, values: &mut [V]) -> io::Result<()> {
        if !matches!(command, Command::Delete) && values.len() != self.copies {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut attributes = ElementAttributes {
            map: number(self.fd()),
            reserved: 0,
            key: address(bytes_of(key)),
            // The kernel refuses an address where the command has no value.
            value: if values.is_empty() { 0 } else { address_mut(bytemuck::cast_slice_mut(values)) },
            flags: 0,
        };
        #[expect(unsafe_code, reason = "bpf(2) has no wrapper in libc")]
        // SAFETY: key and values are borrowed until the call returns. `new` made sure that they have the map's sizes,
        // a value per processor where the map keeps that many, and the types take any bytes.
        unsafe {
            bpf(command, &mut attributes)
        }
    }

    /// The value of one processor or of all, in order.
    pub(crate) fn copies(&self, key: &K) -> Result<Option<Vec<V>>, ProbeError> {
        let mut values = vec![V::zeroed(); self.copies];
        match self.element(Command::Lookup, key, &mut values) {
            Ok(()) => Ok(Some(values)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(self.error("read", error)),
        }
    }

    /// Removes an element and returns its last values: nothing that was written before is missed.
    pub(crate) fn take(&self, key: &K) -> Result<Option<Vec<V>>, ProbeError> {
        let mut values = vec![V::zeroed(); self.copies];
        match self.element(Command::LookupAndDelete, key, &mut values) {
            Ok(()) => Ok(Some(values)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(self.error("remove from", error)),
        }
    }

    /// The value of a map that keeps one per key.
    pub(crate) fn get(&self, key: &K) -> Result<Option<V>, ProbeError> {
        Ok(self.copies(key)?.and_then(|values| values.first().copied()))
    }

    /// Inserts or replaces. Only for maps that keep one value per key.
    pub(crate) fn set(&self, key: &K, value: &V) -> Result<(), ProbeError> {
        let mut copies = vec![*value; self.copies];
        self.element(Command::Update, key, &mut copies).map_err(|error| self.error("write", error))
    }

    /// True if there was one.
    pub(crate) fn delete(&self, key: &K) -> bool {
        self.element(Command::Delete, key, &mut []).is_ok()
    }

    /// Every key.
    pub(crate) fn keys(&self) -> Result<Vec<K>, ProbeError> {
        let mut keys = Vec::new();
        self.for_each(|key, _| keys.push(key))?;
        Ok(keys)
    }

    /// Every key with its values, one per copy. What is added meanwhile may be in or not.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(K, &[V])) -> Result<(), ProbeError> {
        let mut size = BATCH;
        let mut position = 0_u32;
        let mut first = true;
        let mut keys = vec![K::zeroed(); size];
        let mut values = vec![V::zeroed(); size * self.copies];
        loop {
            let mut next = 0_u32;
            let mut attributes = BatchAttributes {
                position_in: if first { 0 } else { address(bytes_of(&position)) },
                position_out: address_mut(bytes_of_mut(&mut next)),
                keys: address_mut(bytemuck::cast_slice_mut(&mut keys)),
                values: address_mut(bytemuck::cast_slice_mut(&mut values)),
                count: u32::try_from(size).unwrap_or(u32::MAX),
                map: number(self.fd()),
                element_flags: 0,
                flags: 0,
            };
            #[expect(unsafe_code, reason = "bpf(2) has no wrapper in libc")]
            // SAFETY: all buffers outlive the call and hold `size` elements of the sizes that `new` compared with the
            // map's; a position is 4 bytes; the types take any bytes.
            let result = unsafe { bpf(Command::LookupBatch, &mut attributes) };
            let done = match result {
                Ok(()) => false,
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && size < LARGEST_BATCH => {
                    size *= 2;
                    keys.resize(size, K::zeroed());
                    values.resize(size * self.copies, V::zeroed());
                    continue;
                }
                Err(error) => return Err(self.error("read", error)),
            };
            let count = (attributes.count as usize).min(size);
            let found = records::<K>(bytemuck::cast_slice(&keys)).zip(values.chunks_exact(self.copies));
            for (key, copies) in found.take(count) {
                visit(key, copies);
            }
            if done {
                return Ok(());
            }
            position = next;
            first = false;
        }
    }

    /// Kernel memory charged for the map; before Linux 6.4 what it takes when it is full.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let path = format!("/proc/self/fdinfo/{}", self.fd().as_raw_fd());
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("memlock:"));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
    }
}
