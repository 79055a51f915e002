//! The child's side of the asynchronous cases: every road through io_uring and libaio, a known number of times.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, squeue, types};

use super::calls::{address, call};
use super::cases::SIZE;

/// Operations, bytes and errors of `uring`.
pub(crate) const URING_READ: (u64, u64, u64) =
    (8 + 2 + 1 + 2 + 4 + 2 + 3 + 1 + 1, 8 * 4096 + 2 * 30 + 4096 + 2 * 512 + 4 * 8192 + 50 + 3 * 64, 2);
pub(crate) const URING_WRITE: (u64, u64, u64) = (4 + 1 + 1 + 1 + 1, 4 * 4096 + 30 + 512 + 700, 1);
pub(crate) const URING_EXTEND: (u64, u64, u64) = (1 + 1 + 1, 8192 + 10 + (1 << 20), 0);
pub(crate) const URING_FSYNC: (u64, u64, u64) = (2 + 1 + 1, 0, 0);
pub(crate) const URING_PREFETCH: (u64, u64, u64) = (1, 0, 0);
pub(crate) const URING_TRUNCATE: (u64, u64, u64) = (1, 0, 0);

/// Of `aio`.
pub(crate) const AIO_READ: (u64, u64, u64) = (8 + 4 + 2 + 1 + 1 + 1, 8 * 512 + 4 * 4096 + 2 * 30 + 50, 1);
pub(crate) const AIO_WRITE: (u64, u64, u64) = (3 + 2 + 1, 3 * 512 + 2 * 4096 + 30, 0);
pub(crate) const AIO_EXTEND: (u64, u64, u64) = (1 + 1, 4096 + 10, 0);
pub(crate) const AIO_FSYNC: (u64, u64, u64) = (2, 0, 0);

struct Files {
    plain: File,
    direct: File,
    append: File,
    write_only: File,
}

fn files(directory: &Path) -> Files {
    let path = directory.join("data");
    let open = OpenOptions::new;
    Files {
        plain: open().read(true).write(true).open(&path).unwrap(),
        direct: open().read(true).write(true).custom_flags(libc::O_DIRECT).open(&path).unwrap(),
        append: open().append(true).open(&path).unwrap(),
        write_only: open().write(true).open(&path).unwrap(),
    }
}

/// Memory that O_DIRECT takes.
pub(super) struct Aligned {
    memory: Vec<u8>,
    start: usize,
}

impl Aligned {
    pub(super) fn new(length: usize) -> Self {
        let memory = vec![3; length + 4096];
        let start = memory.as_ptr().align_offset(4096);
        Self { memory, start }
    }

    pub(super) fn block(&mut self, number: usize, size: usize) -> *mut u8 {
        let from = self.start + number * size;
        self.memory[from..from + size].as_mut_ptr()
    }
}

/// Submits all at once, waits for all, and returns the results in the order of submission.
pub(super) fn submit(ring: &mut IoUring, entries: &[squeue::Entry]) -> Vec<i32> {
    for (number, entry) in (0_u64..).zip(entries) {
        #[expect(unsafe_code, reason = "the kernel reads and writes at addresses in the entry")]
        // SAFETY: every buffer of the callers outlives this call, which waits for all completions.
        unsafe {
            ring.submission().push(&entry.clone().user_data(number)).unwrap();
        }
    }
    ring.submit_and_wait(entries.len()).unwrap();
    let mut results = vec![i32::MIN; entries.len()];
    for completion in ring.completion() {
        results[usize::try_from(completion.user_data()).unwrap()] = completion.result();
    }
    results
}

fn at(offset: i64) -> u64 {
    offset.cast_unsigned()
}

pub(crate) fn uring(directory: &Path) -> String {
    let Ok(mut ring) = IoUring::new(64) else { return "no io_uring".to_owned() };
    let files = files(directory);
    let fd = types::Fd(files.plain.as_raw_fd());
    let direct = types::Fd(files.direct.as_raw_fd());
    let mut memory = Aligned::new(64 * 1024);

    let reads: Vec<_> = (0..8)
        .map(|n| opcode::Read::new(fd, memory.block(n, 4096), 4096).offset(at(SIZE / 8) * n as u64).build())
        .collect();
    assert_eq!(submit(&mut ring, &reads), [4096; 8]);
    let vector = [
        libc::iovec { iov_base: memory.block(0, 4096).cast(), iov_len: 10 },
        libc::iovec { iov_base: memory.block(1, 4096).cast(), iov_len: 20 },
    ];
    let readv = opcode::Readv::new(fd, vector.as_ptr(), 2).offset(5).build();
    assert_eq!(submit(&mut ring, &[readv.clone(), readv]), [30, 30]);

    let fixed = [libc::iovec { iov_base: memory.block(0, 8192).cast(), iov_len: 8192 }];
    #[expect(unsafe_code, reason = "registers memory with the kernel")]
    // SAFETY: the memory outlives the ring.
    unsafe {
        ring.submitter().register_buffers(&fixed).unwrap();
    }
    ring.submitter().register_files(&[files.write_only.as_raw_fd(), files.plain.as_raw_fd()]).unwrap();
    let read_fixed = opcode::ReadFixed::new(fd, memory.block(0, 4096), 4096, 0).offset(0).build();
    let write_fixed = opcode::WriteFixed::new(fd, memory.block(0, 512), 512, 0).offset(512).build();
    assert_eq!(submit(&mut ring, &[read_fixed]), [4096]);
    assert_eq!(submit(&mut ring, &[write_fixed]), [512]);
    let registered = opcode::Read::new(types::Fixed(1), memory.block(0, 512), 512).offset(0).build();
    assert_eq!(submit(&mut ring, &[registered.clone(), registered]), [512, 512]);
    let registered = opcode::Write::new(types::Fixed(1), memory.block(0, 700), 700).offset(100).build();
    assert_eq!(submit(&mut ring, &[registered]), [700]);

    let reads: Vec<_> = (0..4)
        .map(|n| opcode::Read::new(direct, memory.block(n, 8192), 8192).offset(8192 * n as u64).build())
        .collect();
    assert_eq!(submit(&mut ring, &reads), [8192; 4]);
    // Short, and at the end.
    let short = [
        opcode::Read::new(fd, memory.block(0, 4096), 4096).offset(at(SIZE - 50)).build(),
        opcode::Read::new(fd, memory.block(1, 4096), 4096).offset(at(SIZE)).build(),
    ];
    assert_eq!(submit(&mut ring, &short), [50, 0]);
    // By a worker of the kernel.
    let workers: Vec<_> = (0..3)
        .map(|n| opcode::Read::new(fd, memory.block(n, 64), 64).offset(0).build().flags(squeue::Flags::ASYNC))
        .collect();
    assert_eq!(submit(&mut ring, &workers), [64; 3]);
    // Refused, and in a chain: what follows is cancelled.
    let write_only = types::Fd(files.write_only.as_raw_fd());
    let refused = opcode::Read::new(write_only, memory.block(0, 64), 64).offset(0).build();
    assert_eq!(submit(&mut ring, std::slice::from_ref(&refused)), [-libc::EBADF]);
    let cancelled = opcode::Write::new(fd, memory.block(0, 64), 64).offset(0).build();
    let chain = [refused.flags(squeue::Flags::IO_LINK), cancelled];
    assert_eq!(submit(&mut ring, &chain), [-libc::EBADF, -libc::ECANCELED]);

    // Not where others write through the page cache: the kernel calls it an error when both ways meet.
    let mut writes: Vec<_> = (8..12)
        .map(|n| opcode::Write::new(direct, memory.block(n, 4096), 4096).offset(4096 * n as u64).build())
        .collect();
    writes
        .push(opcode::Writev::new(fd, vector.as_ptr(), 2).offset(1000).build().flags(squeue::Flags::IO_LINK));
    writes.push(opcode::Fsync::new(fd).build());
    assert_eq!(submit(&mut ring, &writes), [4096, 4096, 4096, 4096, 30, 0]);
    let append = types::Fd(files.append.as_raw_fd());
    let longer = [
        opcode::Write::new(fd, memory.block(0, 8192), 8192)
            .offset(at(SIZE))
            .build()
            .flags(squeue::Flags::IO_LINK),
        opcode::Write::new(append, memory.block(0, 10), 10).offset(0).build().flags(squeue::Flags::IO_LINK),
        opcode::Fallocate::new(fd, 1 << 20).offset(at(2 * SIZE)).build(),
    ];
    assert_eq!(submit(&mut ring, &longer), [8192, 10, 0]);
    let rest = [
        opcode::Fsync::new(fd).build(),
        opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build(),
        opcode::SyncFileRange::new(fd, 4096).build(),
        opcode::Fadvise::new(fd, 8192, libc::POSIX_FADV_WILLNEED).build(),
        opcode::Fadvise::new(fd, 8192, libc::POSIX_FADV_DONTNEED).build(),
        opcode::Fallocate::new(fd, 4096).mode(libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE).build(),
    ];
    assert_eq!(submit(&mut ring, &rest), [0; 6]);

    // None of them is a file's.
    let (reader, writer) = std::io::pipe().unwrap();
    let others = [
        opcode::Write::new(types::Fd(writer.as_raw_fd()), memory.block(0, 64), 64)
            .build()
            .flags(squeue::Flags::IO_LINK),
        opcode::Read::new(types::Fd(reader.as_raw_fd()), memory.block(1, 64), 64).build(),
        opcode::Nop::new().build(),
        opcode::Read::new(types::Fd(9999), memory.block(2, 64), 64).build(),
    ];
    assert_eq!(submit(&mut ring, &others), [64, 64, 0, -libc::EBADF]);
    String::new()
}

/// Reads a page that is not in the page cache, and makes one dirty; by a worker of the kernel, or not.
pub(crate) fn uring_fills(directory: &Path, by_worker: bool) -> String {
    let Ok(mut ring) = IoUring::new(8) else { return "no io_uring".to_owned() };
    let files = files(directory);
    nix::fcntl::posix_fadvise(&files.plain, 0, 0, nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED)
        .unwrap();
    let fd = types::Fd(files.plain.as_raw_fd());
    let mut memory = Aligned::new(64 * 1024);
    let flags = if by_worker { squeue::Flags::ASYNC } else { squeue::Flags::empty() };
    let read = opcode::Read::new(fd, memory.block(0, 8192), 8192).offset(0).build().flags(flags);
    assert_eq!(submit(&mut ring, &[read]), [8192]);
    let write = opcode::Write::new(fd, memory.block(0, 4096), 4096).offset(0).build().flags(flags);
    assert_eq!(submit(&mut ring, &[write]), [4096]);
    String::new()
}

/// Requests whose success the kernel tells nobody, and then some that it does.
pub(crate) fn uring_silent(directory: &Path) -> String {
    let Ok(mut ring) = IoUring::new(64) else { return "no io_uring".to_owned() };
    let files = files(directory);
    let fd = types::Fd(files.plain.as_raw_fd());
    let mut memory = Aligned::new(64 * 1024);
    let read = |memory: &mut Aligned, n| opcode::Read::new(fd, memory.block(n, 64), 64).offset(0).build();
    for n in 0..4 {
        let entry = read(&mut memory, n).flags(squeue::Flags::SKIP_SUCCESS);
        #[expect(unsafe_code, reason = "the kernel reads and writes at addresses in the entry")]
        // SAFETY: the memory outlives the ring.
        unsafe {
            ring.submission().push(&entry).unwrap();
        }
        ring.submit().unwrap();
    }
    for n in 0..4 {
        let entry = read(&mut memory, n);
        assert_eq!(submit(&mut ring, &[entry]), [64]);
    }
    String::new()
}

/// Reads past the page cache one by one for a second, and syncs; then says the inode.
pub(crate) fn uring_waits(directory: &Path) -> String {
    let Ok(mut ring) = IoUring::new(8) else { return "no io_uring".to_owned() };
    let files = files(directory);
    let direct = types::Fd(files.direct.as_raw_fd());
    let mut memory = Aligned::new(64 * 1024);
    let end = Instant::now() + Duration::from_secs(1);
    while Instant::now() < end {
        let reads: Vec<_> = (0..8)
            .map(|n| opcode::Read::new(direct, memory.block(n, 8192), 8192).offset(8192 * n as u64).build())
            .collect();
        assert_eq!(submit(&mut ring, &reads), [8192; 8]);
        let write = opcode::Write::new(direct, memory.block(0, 4096), 4096).offset(0).build();
        assert_eq!(submit(&mut ring, &[write]), [4096]);
        assert_eq!(submit(&mut ring, &[opcode::Fsync::new(direct).build()]), [0]);
    }
    String::new()
}

/// `struct iocb` of include/uapi/linux/aio_abi.h, on a machine that is little-endian.
#[repr(C)]
#[derive(Clone, Default)]
pub(super) struct Iocb {
    data: u64,
    key: u32,
    flags: u32,
    opcode: u16,
    priority: i16,
    fd: u32,
    buffer: u64,
    length: u64,
    offset: u64,
    reserved: u64,
    event_flags: u32,
    event_fd: u32,
}

/// `struct io_event`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
struct Event {
    data: u64,
    request: u64,
    result: i64,
    second: i64,
}

/// Of x86: the C library does not name it.
const IO_PGETEVENTS: libc::c_long = 333;

pub(super) const PREAD: u16 = 0;
pub(super) const PWRITE: u16 = 1;
const FSYNC: u16 = 2;
const FDSYNC: u16 = 3;
pub(super) const PREADV: u16 = 7;
pub(super) const PWRITEV: u16 = 8;

pub(super) struct Aio(i64);

impl Aio {
    pub(super) fn new() -> Option<Self> {
        let mut context = 0_i64;
        (call(libc::SYS_io_setup, [64, address(&raw mut context), 0, 0, 0, 0]) == 0).then_some(Self(context))
    }

    /// How many the kernel took.
    fn submit(&self, requests: &mut [Iocb]) -> i64 {
        for (number, request) in (0..).zip(requests.iter_mut()) {
            request.data = number;
        }
        let mut list: Vec<*mut Iocb> = requests.iter_mut().map(std::ptr::from_mut).collect();
        let length = i64::try_from(list.len()).unwrap();
        call(libc::SYS_io_submit, [self.0, length, address(list.as_mut_ptr()), 0, 0, 0])
    }

    /// The results of so many requests, in the order of submission.
    fn reap(&self, number: libc::c_long, count: usize) -> Vec<i64> {
        let mut events = vec![Event::default(); count];
        let wanted = i64::try_from(count).unwrap();
        assert_eq!(call(number, [self.0, wanted, wanted, address(events.as_mut_ptr()), 0, 0]), wanted);
        events.sort_unstable_by_key(|event| event.data);
        events.iter().map(|event| event.result).collect()
    }

    pub(super) fn run(&self, requests: &mut [Iocb]) -> Vec<i64> {
        assert_eq!(self.submit(requests), i64::try_from(requests.len()).unwrap());
        self.reap(libc::SYS_io_getevents, requests.len())
    }
}

impl Drop for Aio {
    fn drop(&mut self) {
        call(libc::SYS_io_destroy, [self.0, 0, 0, 0, 0, 0]);
    }
}

pub(super) fn iocb(opcode: u16, fd: RawFd, buffer: *mut u8, length: u64, offset: u64) -> Iocb {
    let buffer = address(buffer).cast_unsigned();
    Iocb { opcode, fd: fd.cast_unsigned(), buffer, length, offset, ..Iocb::default() }
}

pub(crate) fn aio(directory: &Path) -> String {
    let Some(context) = Aio::new() else { return "no libaio".to_owned() };
    let files = files(directory);
    let (fd, direct) = (files.plain.as_raw_fd(), files.direct.as_raw_fd());
    let mut memory = Aligned::new(64 * 1024);
    let vector = [
        libc::iovec { iov_base: memory.block(0, 4096).cast(), iov_len: 10 },
        libc::iovec { iov_base: memory.block(1, 4096).cast(), iov_len: 20 },
    ];
    let vector = vector.as_ptr().cast_mut().cast::<u8>();

    let mut reads: Vec<_> =
        (0..8).map(|n| iocb(PREAD, fd, memory.block(n, 512), 512, 512 * n as u64)).collect();
    assert_eq!(context.run(&mut reads), [512; 8]);
    let mut reads: Vec<_> =
        (0..4).map(|n| iocb(PREAD, direct, memory.block(n, 4096), 4096, 4096 * n as u64)).collect();
    assert_eq!(context.submit(&mut reads), 4);
    assert_eq!(context.reap(IO_PGETEVENTS, 4), [4096; 4]);
    let mut more = [
        iocb(PREADV, fd, vector, 2, 0),
        iocb(PREADV, fd, vector, 2, 100),
        iocb(PREAD, fd, memory.block(0, 4096), 4096, at(SIZE - 50)),
        // At no multiple of the block size.
        iocb(PREAD, direct, memory.block(0, 4096), 4096, 1),
    ];
    assert_eq!(context.run(&mut more), [30, 30, 50, i64::from(-libc::EINVAL)]);

    let mut writes: Vec<_> =
        (0..3).map(|n| iocb(PWRITE, fd, memory.block(n, 512), 512, 512 * n as u64)).collect();
    // Elsewhere: the kernel calls it an error when both ways meet.
    writes.extend((8..10).map(|n| iocb(PWRITE, direct, memory.block(n, 4096), 4096, 4096 * n as u64)));
    writes.push(iocb(PWRITEV, fd, vector, 2, 9));
    assert_eq!(context.run(&mut writes), [512, 512, 512, 4096, 4096, 30]);
    let append = files.append.as_raw_fd();
    assert_eq!(context.run(&mut [iocb(PWRITE, fd, memory.block(0, 4096), 4096, at(SIZE))]), [4096]);
    assert_eq!(context.run(&mut [iocb(PWRITE, append, memory.block(0, 10), 10, 0)]), [10]);
    let mut syncs =
        [iocb(FSYNC, fd, std::ptr::null_mut(), 0, 0), iocb(FDSYNC, fd, std::ptr::null_mut(), 0, 0)];
    assert_eq!(context.run(&mut syncs), [0, 0]);

    // The kernel takes those before a bad one, and says how many.
    let good = iocb(PREAD, fd, memory.block(0, 4096), 0, 0);
    let mut some = [good.clone(), iocb(PREAD, 9999, memory.block(0, 4096), 1, 0), good];
    some[0].length = 0;
    assert_eq!(context.submit(&mut some), 1);
    assert_eq!(context.reap(libc::SYS_io_getevents, 1), [0]);
    assert_eq!(context.submit(&mut [iocb(77, fd, memory.block(0, 4096), 1, 0)]), -1);
    // Not a file.
    let (reader, writer) = std::io::pipe().unwrap();
    assert_eq!(context.run(&mut [iocb(PWRITE, writer.as_raw_fd(), memory.block(0, 64), 64, 0)]), [64]);
    drop(reader);
    String::new()
}

/// Never asks what became of a request, and makes another at the same address.
pub(crate) fn aio_forgotten(directory: &Path) -> String {
    let files = files(directory);
    let mut memory = Aligned::new(4096);
    let mut request = [iocb(PREAD, files.plain.as_raw_fd(), memory.block(0, 4096), 100, 0)];
    let Some(context) = Aio::new() else { return "no libaio".to_owned() };
    assert_eq!(context.submit(&mut request), 1);
    drop(context);
    let Some(context) = Aio::new() else { return "no libaio".to_owned() };
    assert_eq!(context.run(&mut request), [100]);
    String::new()
}

/// Syncs and reads past the page cache for a second.
pub(crate) fn aio_waits(directory: &Path) -> String {
    let Some(context) = Aio::new() else { return "no libaio".to_owned() };
    let files = files(directory);
    let direct = files.direct.as_raw_fd();
    let mut memory = Aligned::new(64 * 1024);
    let end = Instant::now() + Duration::from_secs(1);
    while Instant::now() < end {
        let mut reads: Vec<_> =
            (0..8).map(|n| iocb(PREAD, direct, memory.block(n, 8192), 8192, 8192 * n as u64)).collect();
        assert_eq!(context.run(&mut reads), [8192; 8]);
        assert_eq!(context.run(&mut [iocb(PWRITE, direct, memory.block(0, 4096), 4096, 0)]), [4096]);
        assert_eq!(context.run(&mut [iocb(FDSYNC, direct, std::ptr::null_mut(), 0, 0)]), [0]);
    }
    String::new()
}
