//! System calls by number, so that a test says exactly which one it makes: the C library is free to choose another.

use std::ffi::c_long;
use std::os::fd::{AsRawFd, RawFd};

/// Returns what the kernel said, or -1.
pub(crate) fn call(number: c_long, arguments: [i64; 6]) -> i64 {
    let [first, second, third, fourth, fifth, sixth] = arguments;
    #[expect(unsafe_code, reason = "the test is about raw system calls")]
    // SAFETY: the callers pass live buffers of the lengths they name, or addresses that the kernel refuses.
    unsafe {
        libc::syscall(number, first, second, third, fourth, fifth, sixth)
    }
}

/// A buffer that the kernel reads or writes, as an argument.
pub(crate) fn address<T>(buffer: *mut T) -> i64 {
    i64::try_from(buffer.expose_provenance()).unwrap()
}

/// One call on a descriptor with a buffer.
pub(crate) fn with_buffer(number: c_long, fd: RawFd, buffer: &mut [u8], offset: i64) -> i64 {
    let length = i64::try_from(buffer.len()).unwrap();
    call(number, [i64::from(fd), address(buffer.as_mut_ptr()), length, offset, 0, 0])
}

/// One call on a descriptor with two buffers of 10 and 20 bytes.
pub(crate) fn with_vector(number: c_long, fd: RawFd, offset: i64, flags: i64) -> i64 {
    let (mut first, mut second) = ([1_u8; 10], [2_u8; 20]);
    let mut vector = [address(first.as_mut_ptr()), 10, address(second.as_mut_ptr()), 20];
    call(number, [i64::from(fd), address(vector.as_mut_ptr()), 2, offset, 0, flags])
}

/// One call on a descriptor and numbers.
pub(crate) fn plain(number: c_long, fd: &impl AsRawFd, arguments: [i64; 3]) -> i64 {
    let [second, third, fourth] = arguments;
    call(number, [i64::from(fd.as_raw_fd()), second, third, fourth, 0, 0])
}
