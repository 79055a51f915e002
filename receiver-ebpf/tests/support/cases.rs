//! What a child plays: known operations on known files, and what it must be counted as.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::calls::{call, plain, with_buffer, with_vector};
use super::paged;
use super::rings;
use super::roads::travel;
use super::{CASE, DIRECTORY};

/// The size of `data` before the cases begin.
pub(crate) const SIZE: i64 = 65_536;
/// What `every_call` must be counted as: operations, bytes, errors.
pub(crate) const READ: (u64, u64, u64) = (13, 3 * 100 + 2 * 8192 + 4 * 30 + 100, 2);
pub(crate) const WRITE: (u64, u64, u64) = (7, 1000 + 4096 + 3 * 30, 2);
pub(crate) const EXTEND: (u64, u64, u64) = (8, 8192 + 10 + 5 + 100 + 30 + 30 + (1 << 20), 1);
pub(crate) const FSYNC: (u64, u64, u64) = (4, 0, 0);
pub(crate) const PREFETCH: (u64, u64, u64) = (2, 0, 0);
pub(crate) const TRUNCATE: (u64, u64, u64) = (3, 0, 1);
/// Operations of each of the threads of `threads`.
pub(crate) const THREADS: u64 = 4;
pub(crate) const READS_PER_THREAD: u64 = 5000;
/// Files of `many_files`, one write of 100 bytes and two reads of 50 each.
pub(crate) const FILES: u64 = 16;
/// Files of `rush`, the same with each: nearly as many as there is room for.
pub(crate) const RUSH: u64 = 3_000;

/// Blocks of 8 KiB that `foreign` reads or writes at a time.
pub(crate) const BLOCKS: usize = 128;

fn say(words: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "CASE {words}").unwrap();
    out.flush().unwrap();
}

fn wait_for_word() -> bool {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).unwrap() > 0
}

/// The child's side; returns at once in the parent.
pub(crate) fn play() {
    let (Ok(case), Ok(directory)) = (std::env::var(CASE), std::env::var(DIRECTORY)) else { return };
    let directory = Path::new(&directory);
    if case == "first_operation" {
        // No handshake: it is seen from the beginning or not at all.
        let mut byte = [0];
        File::open(directory.join("data")).unwrap().read_exact_at(&mut byte, 0).unwrap();
        return;
    }
    // Whatever the harness and the runtime read, they have read by now.
    say(&format!("ready {}", call(libc::SYS_gettid, [0; 6])));
    if !wait_for_word() {
        return;
    }
    let said = match case.as_str() {
        "every_call" => every_call(directory),
        "threads" => threads(directory),
        "many_files" => many_files(directory, FILES),
        "rush" => many_files(directory, RUSH),
        "parent" => parent(),
        "states" => states(directory),
        "files" => files(directory),
        "by_path" => by_path(directory),
        "spin" => spin(),
        "foreign" => foreign(directory),
        "uring" => rings::uring(directory),
        "uring_fills" => rings::uring_fills(directory, false),
        "uring_fills_by_workers" => rings::uring_fills(directory, true),
        "uring_silent" => rings::uring_silent(directory),
        "uring_waits" => rings::uring_waits(directory),
        "aio" => rings::aio(directory),
        "aio_forgotten" => rings::aio_forgotten(directory),
        "aio_waits" => rings::aio_waits(directory),
        "roads" => roads(directory),
        "pages" => paged::every_road(directory, paged::TABLESPACE),
        "pages_of_another_name" => paged::every_road(directory, paged::PLAIN),
        "pages_waited_for" => paged::wait_for_pages(directory),
        other => panic!("no case {other}"),
    };
    say(&format!("done {said}"));
    wait_for_word();
}

fn every_call(directory: &Path) -> String {
    let path = directory.join("data");
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let append = OpenOptions::new().append(true).open(&path).unwrap();
    let write_only = OpenOptions::new().write(true).open(&path).unwrap();
    let read_only = File::open(&path).unwrap();
    let fd = file.as_raw_fd();
    let mut buffer = vec![7_u8; 8192];

    for _ in 0..3 {
        assert_eq!(with_buffer(libc::SYS_read, fd, &mut buffer[..100], 0), 100);
    }
    for _ in 0..2 {
        assert_eq!(with_buffer(libc::SYS_pread64, fd, &mut buffer, 4096), 8192);
    }
    assert_eq!(with_vector(libc::SYS_readv, fd, 0, 0), 30);
    assert_eq!(with_vector(libc::SYS_preadv, fd, 0, 0), 30);
    assert_eq!(with_vector(libc::SYS_preadv2, fd, 0, 0), 30);
    assert_eq!(with_vector(libc::SYS_preadv2, fd, -1, 0), 30);
    assert_eq!(with_buffer(libc::SYS_pread64, fd, &mut buffer, SIZE - 100), 100);
    assert_eq!(with_buffer(libc::SYS_pread64, fd, &mut buffer, SIZE), 0);
    assert_eq!(call(libc::SYS_pread64, [i64::from(fd), 1, 10, 0, 0, 0]), -1);
    assert_eq!(with_buffer(libc::SYS_read, write_only.as_raw_fd(), &mut buffer, 0), -1);

    plain(libc::SYS_lseek, &file, [0, 0, 0]);
    assert_eq!(with_buffer(libc::SYS_write, fd, &mut buffer[..1000], 0), 1000);
    assert_eq!(with_buffer(libc::SYS_pwrite64, fd, &mut buffer[..4096], SIZE - 4096), 4096);
    assert_eq!(with_vector(libc::SYS_writev, fd, 0, 0), 30);
    assert_eq!(with_vector(libc::SYS_pwritev, fd, 0, 0), 30);
    assert_eq!(with_vector(libc::SYS_pwritev2, fd, 0, 0), 30);
    assert_eq!(with_buffer(libc::SYS_pwrite64, read_only.as_raw_fd(), &mut buffer, 0), -1);
    assert_eq!(call(libc::SYS_pwrite64, [i64::from(fd), 1, 10, 0, 0, 0]), -1);

    assert_eq!(with_buffer(libc::SYS_pwrite64, fd, &mut buffer, SIZE), 8192);
    assert_eq!(with_buffer(libc::SYS_write, append.as_raw_fd(), &mut buffer[..10], 0), 10);
    assert_eq!(with_buffer(libc::SYS_pwrite64, append.as_raw_fd(), &mut buffer[..5], 0), 5);
    let end = SIZE + 8192 + 15;
    assert_eq!(with_buffer(libc::SYS_pwrite64, fd, &mut buffer[..100], end - 50), 100);
    plain(libc::SYS_lseek, &file, [end + 50, 0, 0]);
    assert_eq!(with_vector(libc::SYS_pwritev2, fd, -1, 0), 30);
    assert_eq!(with_vector(libc::SYS_pwritev2, fd, 0, i64::from(libc::RWF_APPEND)), 30);
    assert_eq!(plain(libc::SYS_fallocate, &file, [0, end + 110, 1 << 20]), 0);
    assert_eq!(plain(libc::SYS_fallocate, &file, [0, 0, 0]), -1);

    for number in [libc::SYS_fsync, libc::SYS_fdatasync, libc::SYS_sync_file_range, libc::SYS_fsync] {
        assert_eq!(plain(number, &file, [0, 0, 0]), 0);
    }
    for advice in [libc::POSIX_FADV_WILLNEED, libc::POSIX_FADV_DONTNEED, libc::POSIX_FADV_WILLNEED] {
        assert_eq!(plain(libc::SYS_fadvise64, &file, [0, 8192, i64::from(advice)]), 0);
    }
    let hole = i64::from(libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE);
    assert_eq!(plain(libc::SYS_fallocate, &file, [hole, 0, 4096]), 0);
    assert_eq!(plain(libc::SYS_ftruncate, &file, [100, 0, 0]), 0);
    assert_eq!(plain(libc::SYS_ftruncate, &file, [-1, 0, 0]), -1);

    // Neither is a regular file.
    let (left, right) = UnixStream::pair().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    for (from, to) in [(right.as_raw_fd(), left.as_raw_fd()), (reader.as_raw_fd(), writer.as_raw_fd())] {
        assert_eq!(with_buffer(libc::SYS_write, to, &mut buffer[..64], 0), 64);
        assert_eq!(with_buffer(libc::SYS_read, from, &mut buffer[..64], 0), 64);
    }
    String::new()
}

fn threads(directory: &Path) -> String {
    let file = File::open(directory.join("data")).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut bytes = [0; 10];
                for _ in 0..READS_PER_THREAD {
                    file.read_exact_at(&mut bytes, 0).unwrap();
                }
            });
        }
    });
    String::new()
}

fn many_files(directory: &Path, files: u64) -> String {
    let mut bytes = [3; 100];
    for number in 0..files {
        let file = OpenOptions::new()
            .create_new(true)
            .read(true)
            .write(true)
            .open(directory.join(number.to_string()));
        let file = file.unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        file.read_exact_at(&mut bytes[..50], 0).unwrap();
        file.read_exact_at(&mut bytes[..50], 50).unwrap();
    }
    String::new()
}

fn parent() -> String {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "play", "--nocapture", "--test-threads=1"])
        .env(CASE, "first_operation")
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    String::new()
}

/// Takes one road after the other, as it is told.
fn roads(directory: &Path) -> String {
    loop {
        say("next");
        let mut line = String::new();
        if std::io::stdin().lock().read_line(&mut line).unwrap() == 0 {
            return String::new();
        }
        travel(directory, line.trim_end());
    }
}

/// Reads, renames and removes files as it is told: a word and a name, or two.
fn files(directory: &Path) -> String {
    loop {
        say("next");
        let mut line = String::new();
        if std::io::stdin().lock().read_line(&mut line).unwrap() == 0 {
            return String::new();
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["read", name] => {
                File::open(directory.join(name)).unwrap().read_exact_at(&mut [0], 0).unwrap();
            }
            ["remove", name] => std::fs::remove_file(directory.join(name)).unwrap(),
            ["rename", from, to] => std::fs::rename(directory.join(from), directory.join(to)).unwrap(),
            _ => panic!("no {line}"),
        }
    }
}

/// Creates a large file and removes it by its path, again and again.
fn by_path(directory: &Path) -> String {
    let path = directory.join("large");
    let end = Instant::now() + Duration::from_secs(1);
    while Instant::now() < end {
        std::fs::write(&path, vec![1; 1 << 20]).unwrap();
        File::open(&path).unwrap().sync_all().unwrap();
        let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        let address = i64::try_from(name.as_ptr().expose_provenance()).unwrap();
        assert_eq!(call(libc::SYS_truncate, [address, 4096, 0, 0, 0, 0]), 0);
        std::fs::remove_file(&path).unwrap();
        File::open(directory).unwrap().sync_all().unwrap();
    }
    String::new()
}

/// Rounds of spinning, sleeping, syncing and reading past the page cache, each as long as the word that starts it.
fn states(directory: &Path) -> String {
    let data = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(directory.join("data"))
        .unwrap();
    let log = OpenOptions::new().write(true).create(true).truncate(true).open(directory.join("log")).unwrap();
    let mut memory = vec![0_u8; 8192 + 4096];
    let start = memory.as_ptr().align_offset(4096);
    let block = &mut memory[start..start + 8192];
    loop {
        let end = Instant::now() + Duration::from_millis(400);
        // A slow disk may take all that time for the first.
        let mut left = 6;
        while Instant::now() < end || left > 0 {
            left = i32::max(left - 1, 0);
            let spin = Instant::now() + Duration::from_millis(5);
            while Instant::now() < spin {
                std::hint::spin_loop();
            }
            std::thread::sleep(Duration::from_millis(5));
            log.write_all_at(&block[..512], 0).unwrap();
            log.sync_all().unwrap();
            for offset in (0..65_536).step_by(8192) {
                data.read_exact_at(block, offset).unwrap();
            }
        }
        say(&format!("round {}", log.metadata().unwrap().ino()));
        if !wait_for_word() {
            return String::new();
        }
    }
}

/// Wants a processor for two seconds, and again.
fn spin() -> String {
    for again in [true, false] {
        let end = Instant::now() + Duration::from_secs(2);
        while Instant::now() < end {
            std::hint::spin_loop();
        }
        if again {
            say("done");
            wait_for_word();
        }
    }
    String::new()
}

/// Takes a name, reads past the page cache, and writes, as it is told.
fn foreign(directory: &Path) -> String {
    let mut memory = vec![0_u8; 8192 + 4096];
    let start = memory.as_ptr().align_offset(4096);
    let block = &mut memory[start..start + 8192];
    loop {
        say("next");
        let mut line = String::new();
        if std::io::stdin().lock().read_line(&mut line).unwrap() == 0 {
            return String::new();
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            // Of the first thread, whichever this is.
            ["name", name] => std::fs::write("/proc/self/comm", name).unwrap(),
            ["direct", path] => {
                let path = directory.join(path);
                let file = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path).unwrap();
                for number in 0..BLOCKS {
                    file.read_exact_at(block, 8192 * number as u64).unwrap();
                }
            }
            ["overwrite", path] => {
                let path = directory.join(path);
                let file = OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(path).unwrap();
                for number in 0..BLOCKS {
                    file.write_all_at(block, 8192 * number as u64).unwrap();
                }
            }
            ["read", path] => drop(std::fs::read(directory.join(path)).unwrap()),
            ["begin", path] => File::open(directory.join(path)).unwrap().read_exact_at(block, 0).unwrap(),
            ["dirty", path] => std::fs::write(directory.join(path), vec![5; BLOCKS * 8192]).unwrap(),
            ["sync"] => assert_eq!(call(libc::SYS_sync, [0; 6]), 0),
            _ => panic!("no {line}"),
        }
    }
}
