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

/// How many pages of a file are in the page cache.
pub(crate) fn cached_pages(file: &impl AsRawFd, length: u64) -> usize {
    let size = i64::try_from(length).unwrap();
    let fd = i64::from(file.as_raw_fd());
    let (protection, flags) = (i64::from(libc::PROT_READ), i64::from(libc::MAP_SHARED));
    let mapped = call(libc::SYS_mmap, [0, size, protection, flags, fd, 0]);
    assert!(mapped > 0);
    let mut pages = vec![0_u8; usize::try_from(length.div_ceil(4096)).unwrap()];
    assert_eq!(call(libc::SYS_mincore, [mapped, size, address(pages.as_mut_ptr()), 0, 0, 0]), 0);
    assert_eq!(call(libc::SYS_munmap, [mapped, size, 0, 0, 0, 0]), 0);
    pages.iter().filter(|page| **page & 1 == 1).count()
}
