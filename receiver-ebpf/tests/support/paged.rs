//! The child's side of the cases of pages: a tablespace whose pages belong to different owners, read and written on every
//! road that InnoDB takes, each page a known number of times.

use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, types};

use super::calls::{address, call};
use super::rings::{Aio, Aligned, PREAD, PREADV, PWRITE, PWRITEV, iocb, submit};

/// Bytes of a page.
pub(crate) const PAGE: usize = 16_384;
/// The file.
pub(crate) const TABLESPACE: &str = "orders.ibd";
/// The same bytes under a name that is no tablespace's.
pub(crate) const PLAIN: &str = "orders.frm";
/// Roads of system calls and libaio that read, and that write.
pub(crate) const ROADS: (u64, u64) = (5, 5);
/// Roads of io_uring that read, and that write.
pub(crate) const RINGS: (u64, u64) = (2, 2);

/// An index, its head alone: type, and a number.
fn page(kind: u16, index: u64) -> Vec<u8> {
    let mut page = vec![0x5a; PAGE];
    page[24..26].copy_from_slice(&kind.to_be_bytes());
    page[66..74].copy_from_slice(&index.to_be_bytes());
    page
}

/// The pages of a tablespace of MariaDB: two indexes, a spatial one, one with instant columns, large values, pages that are
/// compressed and encrypted, and one that manages space.
pub(crate) fn pages() -> Vec<Vec<u8>> {
    vec![
        page(17_855, 157),
        page(17_855, 158),
        page(17_854, 159),
        page(18, 160),
        page(10, 157),
        page(34_354, 157),
        page(17_855, 0xd5a4_0000_0000_009d),
        page(8, 157),
    ]
}

pub(crate) fn make(directory: &Path) {
    for name in [TABLESPACE, PLAIN] {
        std::fs::write(directory.join(name), pages().concat()).unwrap();
    }
}

pub(crate) fn every_road(directory: &Path, name: &str) -> String {
    let file = OpenOptions::new().read(true).write(true).open(directory.join(name)).unwrap();
    let fd = file.as_raw_fd();
    let pages = pages();
    let length = i64::try_from(PAGE).unwrap();
    let ring = IoUring::new(8).ok();
    for (number, page) in (0_i64..).zip(&pages) {
        let at = number * length;
        let mut memory = Aligned::new(PAGE);
        let buffer = memory.block(0, PAGE);
        let vector = [libc::iovec { iov_base: buffer.cast(), iov_len: PAGE }];
        let vectored = |call_number, flags| {
            let list = address(vector.as_ptr().cast_mut());
            assert_eq!(call(call_number, [i64::from(fd), list, 1, at, 0, flags]), length);
        };
        assert_eq!(call(libc::SYS_pread64, [i64::from(fd), address(buffer), length, at, 0, 0]), length);
        vectored(libc::SYS_preadv, 0);
        vectored(libc::SYS_preadv2, 0);
        if let Some(context) = Aio::new() {
            let asked = PAGE as u64;
            let place = at.cast_unsigned();
            let list = address(vector.as_ptr().cast_mut());
            let list = std::ptr::with_exposed_provenance_mut(usize::try_from(list).unwrap());
            let mut requests = [iocb(PREAD, fd, buffer, asked, place), iocb(PREADV, fd, list, 1, place)];
            assert_eq!(context.run(&mut requests), [length; 2]);
            let mut requests = [iocb(PWRITE, fd, buffer, asked, place), iocb(PWRITEV, fd, list, 1, place)];
            assert_eq!(context.run(&mut requests), [length; 2]);
        }
        assert_eq!(call(libc::SYS_pwrite64, [i64::from(fd), address(buffer), length, at, 0, 0]), length);
        vectored(libc::SYS_pwritev, 0);
        vectored(libc::SYS_pwritev2, 0);
        let mut read = vec![0; PAGE];
        // Not counted: a call of less than a page tells nothing, and is asked for last.
        file.read_exact_at(&mut read[..512], at.cast_unsigned()).unwrap();
        assert_eq!(read[..512], page[..512]);
    }
    let Some(mut ring) = ring else { return "no io_uring".to_owned() };
    let target = types::Fd(fd);
    let bytes = u32::try_from(PAGE).unwrap();
    for number in 0..pages.len() {
        let at = (number * PAGE) as u64;
        let mut memory = Aligned::new(PAGE);
        let buffer = memory.block(0, PAGE);
        let vector = [libc::iovec { iov_base: buffer.cast(), iov_len: PAGE }];
        for entry in [
            opcode::Read::new(target, buffer, bytes).offset(at).build(),
            opcode::Readv::new(target, vector.as_ptr(), 1).offset(at).build(),
            opcode::Write::new(target, buffer, bytes).offset(at).build(),
            opcode::Writev::new(target, vector.as_ptr(), 1).offset(at).build(),
        ] {
            assert_eq!(submit(&mut ring, &[entry]), [i32::try_from(PAGE).unwrap()]);
        }
    }
    String::new()
}

/// Reads one page of each of two indexes past the page cache for a second, the second three times as often.
pub(crate) fn wait_for_pages(directory: &Path) -> String {
    let path = directory.join(TABLESPACE);
    let file = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path).unwrap();
    let mut memory = Aligned::new(PAGE);
    let buffer = address(memory.block(0, PAGE));
    let length = i64::try_from(PAGE).unwrap();
    let end = Instant::now() + Duration::from_secs(1);
    while Instant::now() < end {
        for number in [0, 1, 1, 1] {
            let fd = i64::from(file.as_raw_fd());
            assert_eq!(call(libc::SYS_pread64, [fd, buffer, length, number * length, 0, 0]), length);
        }
    }
    String::new()
}
