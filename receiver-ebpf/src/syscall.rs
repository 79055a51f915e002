//! The bpf(2) calls that the loader library has no function for, or only slow ones.
//! Knows nothing of maps' types: what an address must point to is the callers' to ensure.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use bytemuck::{NoUninit, Pod, Zeroable};

/// `enum bpf_cmd` of include/uapi/linux/bpf.h.
#[derive(Debug, Clone, Copy)]
#[repr(i32)]
pub(crate) enum Command {
    Lookup = 1,
    Update = 2,
    Delete = 3,
    Info = 15,
    LookupAndDelete = 21,
    LookupBatch = 24,
}

/// The part of `union bpf_attr` for one element of a map.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct ElementAttributes {
    pub(crate) map: u32,
    pub(crate) reserved: u32,
    pub(crate) key: u64,
    pub(crate) value: u64,
    pub(crate) flags: u64,
}

/// The part of `union bpf_attr` for a batch of elements.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct BatchAttributes {
    pub(crate) position_in: u64,
    pub(crate) position_out: u64,
    pub(crate) keys: u64,
    pub(crate) values: u64,
    pub(crate) count: u32,
    pub(crate) map: u32,
    pub(crate) element_flags: u64,
    pub(crate) flags: u64,
}

/// The part of `union bpf_attr` for the description of an object.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct InfoAttributes {
    object: u32,
    length: u32,
    info: u64,
}

/// The number of a descriptor, as the attributes want it.
pub(crate) fn number(fd: BorrowedFd<'_>) -> u32 {
    // A borrowed descriptor is never negative.
    fd.as_raw_fd().cast_unsigned()
}

/// The address of a buffer that the kernel reads.
pub(crate) fn address(bytes: &[u8]) -> u64 {
    // Exposed, because the kernel reads through it behind the compiler's back.
    bytes.as_ptr().expose_provenance() as u64
}

/// The address of a buffer that the kernel writes.
pub(crate) fn address_mut(bytes: &mut [u8]) -> u64 {
    // Exposed, because the kernel writes through it behind the compiler's back.
    bytes.as_mut_ptr().expose_provenance() as u64
}

/// Calls bpf(2).
///
/// # Safety
///
/// Every address in the attributes must be that of a buffer from [`address`] or [`address_mut`], borrowed until this
/// returns, and as long as the command and the map or the object make of it; what the kernel writes must be any bytes.
#[expect(unsafe_code, reason = "the kernel reads and writes at addresses that are passed as numbers")]
pub(crate) unsafe fn bpf<A: Pod + NoUninit>(command: Command, attributes: &mut A) -> io::Result<()> {
    // SAFETY: `attributes` is exclusively borrowed, initialized and of the length passed; for the buffers that it
    // points to the caller answers.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command as libc::c_int, std::ptr::from_mut(attributes), size_of::<A>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A descriptor of a thread. Before Linux 6.9 only of a process' first.
pub(crate) fn thread_descriptor(tid: u32) -> Option<OwnedFd> {
    let tid = libc::pid_t::try_from(tid).ok()?;
    [libc::PIDFD_THREAD, 0].into_iter().find_map(|flags| {
        #[expect(unsafe_code, reason = "pidfd_open(2) has no wrapper in libc")]
        // SAFETY: the call takes numbers only, and what it returns is a new descriptor that nobody else has.
        unsafe {
            let opened = libc::syscall(libc::SYS_pidfd_open, tid, flags);
            let opened = RawFd::try_from(opened).ok().filter(|fd| *fd >= 0)?;
            Some(OwnedFd::from_raw_fd(opened))
        }
    })
}

/// How often a program was skipped because it interrupted itself: events that were not seen.
pub(crate) fn recursion_misses(program: BorrowedFd<'_>) -> io::Result<u64> {
    const OFFSET: usize = std::mem::offset_of!(aya_obj::generated::bpf_prog_info, recursion_misses);
    let mut info = [0; OFFSET + size_of::<u64>()];
    let mut attributes = InfoAttributes {
        object: number(program),
        length: u32::try_from(info.len()).unwrap_or(u32::MAX),
        info: address_mut(&mut info),
    };
    #[expect(unsafe_code, reason = "bpf(2) has no wrapper in libc")]
    // SAFETY: the one address is that of `info`, which outlives the call, with its own length; any bytes are a number.
    unsafe {
        bpf(Command::Info, &mut attributes)?;
    }
    Ok(bytemuck::pod_read_unaligned(&info[OFFSET..]))
}
