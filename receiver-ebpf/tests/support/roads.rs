//! What a child plays on a file system: each road that file I/O can take, one at a time, as it is told.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::calls::{call, plain};

/// The size of the file, and of the blocks in which it is written and read.
pub(crate) const SIZE: u64 = 1 << 20;
pub(crate) const BLOCK: u64 = 8192;
pub(crate) const BLOCKS: u64 = SIZE / BLOCK;
pub(crate) const PAGE: u64 = 4096;
/// Blocks of direct I/O, blocks that are overwritten, pages that are touched, bytes that are prefetched.
pub(crate) const DIRECT: u64 = 4;
pub(crate) const OVERWRITTEN: u64 = 64;
pub(crate) const TOUCHED: u64 = 5;
pub(crate) const PREFETCHED: u64 = 65_536;

fn open(path: &Path, flags: i32) -> File {
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).unwrap()
}

fn overwrite(file: &File, blocks: u64, block: &[u8]) {
    for number in 0..blocks {
        file.write_all_at(block, number * BLOCK).unwrap();
    }
}

pub(crate) fn travel(directory: &Path, road: &str) {
    let path = directory.join("data");
    let mut memory = vec![7_u8; 3 * 4096];
    let start = memory.as_ptr().align_offset(4096);
    let block = &mut memory[start..start + 8192];
    match road {
        "create" => overwrite(&File::create_new(&path).unwrap(), BLOCKS, block),
        "fsync" => File::open(&path).unwrap().sync_all().unwrap(),
        "read" => {
            let file = File::open(&path).unwrap();
            for number in 0..BLOCKS {
                file.read_exact_at(block, number * BLOCK).unwrap();
            }
        }
        "read directly" => {
            let file = open(&path, libc::O_DIRECT);
            for number in 0..DIRECT {
                file.read_exact_at(block, number * BLOCK).unwrap();
            }
        }
        "write directly" => overwrite(&open(&path, libc::O_DIRECT), DIRECT, block),
        "write synchronously" => overwrite(&open(&path, libc::O_DSYNC), 1, block),
        "overwrite" => overwrite(&open(&path, 0), OVERWRITTEN, block),
        "sync a range" => {
            let file = open(&path, 0);
            overwrite(&file, 1, block);
            let flags = libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
            assert_eq!(plain(libc::SYS_sync_file_range, &file, [0, 8192, i64::from(flags)]), 0);
        }
        "prefetch" => {
            let length = i64::try_from(PREFETCHED).unwrap();
            let advice = i64::from(libc::POSIX_FADV_WILLNEED);
            assert_eq!(plain(libc::SYS_fadvise64, &open(&path, 0), [0, length, advice]), 0);
        }
        "map" => touch(&open(&path, 0)),
        other => panic!("no road {other}"),
    }
}

/// Reads single pages through a mapping, without readahead, each twice.
#[expect(unsafe_code, reason = "a page fault is a read of memory")]
fn touch(file: &File) {
    let (length, fd) = (i64::try_from(SIZE).unwrap(), i64::from(file.as_raw_fd()));
    let protection = i64::from(libc::PROT_READ);
    let mapped = call(libc::SYS_mmap, [0, length, protection, i64::from(libc::MAP_SHARED), fd, 0]);
    assert!(mapped > 0);
    assert_eq!(call(libc::SYS_madvise, [mapped, length, i64::from(libc::MADV_RANDOM), 0, 0, 0]), 0);
    let start = std::ptr::with_exposed_provenance::<u8>(usize::try_from(mapped).unwrap());
    for _ in 0..2 {
        for page in 0..TOUCHED {
            let offset = usize::try_from(page * 16 * PAGE).unwrap();
            // SAFETY: inside the mapping, which lives until below and whose file is as long.
            assert_eq!(unsafe { start.add(offset).read_volatile() }, 7);
        }
    }
    assert_eq!(call(libc::SYS_munmap, [mapped, length, 0, 0, 0, 0]), 0);
}
