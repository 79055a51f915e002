//! The bpf(2) calls that the loader library has no function for, or only slow ones. All unsafe code is here.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use bytemuck::{NoUninit, Pod, Zeroable};

/// `enum bpf_cmd` of include/uapi/linux/bpf.h.
#[derive(Debug, Clone, Copy)]
#[repr(i32)]
pub(crate) enum Command {
    Lookup = 1,
    Update = 2,
    Delete = 3,
    Info = 15,
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
    bytes.as_ptr().addr() as u64
}

/// The address of a buffer that the kernel writes.
pub(crate) fn address_mut(bytes: &mut [u8]) -> u64 {
    // Exposed, because the kernel writes through it behind the compiler's back.
    bytes.as_mut_ptr().expose_provenance() as u64
}

/// Calls bpf(2). The attributes must hold addresses of buffers as long as the command and the map make of them; only
/// [`crate::kernel_map`] and [`recursion_misses`] call this, and both size their buffers by the map's record types.
pub(crate) fn bpf<A: Pod + NoUninit>(command: Command, attributes: &mut A) -> io::Result<()> {
    #[expect(unsafe_code, reason = "bpf(2) has no wrapper in libc")]
    // SAFETY: `attributes` is exclusively borrowed, initialized and of the length passed; the buffers that it points
    // to outlive the call and have the sizes the kernel expects, as the callers named above ensure.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command as libc::c_int, std::ptr::from_mut(attributes), size_of::<A>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
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
    bpf(Command::Info, &mut attributes)?;
    Ok(bytemuck::pod_read_unaligned(&info[OFFSET..]))
}
