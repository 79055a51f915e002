//! Bios whose end the probes do not see: made by taking the probes of the ends away for a while, on a real kernel.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test fails by panicking")]

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::time::{Duration, Instant};

use super::*;
use crate::others::GIVE_UP_NS;
use crate::raw::{BIO_UNFINISHED, OTHER_PROCESS};

const ENDS: [object::Names; 2] =
    [("on_bio_complete", "block_bio_complete"), ("on_request_complete", "block_rq_complete")];
/// What only this test reads at a time.
const READ: usize = 5 * 4096;
const BLOCKS: u64 = 32;

fn load_or_skip(test: &str) -> Option<Probes> {
    match Probes::load(&Limits::default()) {
        Ok(probes) => Some(probes),
        Err(
            error @ (ProbeError::NotPrivileged { .. }
            | ProbeError::NoBtf { .. }
            | ProbeError::PidNamespace { .. }),
        ) => {
            eprintln!("SKIPPED {test}: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

impl Probes {
    /// What is left of work whose ends nobody sees, and how much was lost before that: strangers work too, and come to the
    /// same places.
    fn without_ends(
        &mut self,
        work: impl Fn(),
        left: impl Fn(&Self) -> HashSet<(u64, u64)>,
    ) -> (HashSet<(u64, u64)>, u64) {
        for (name, _) in ENDS {
            let Some(Program::BtfTracePoint(program)) = self.object.program_mut(name) else {
                panic!("{name}")
            };
            program.unload().unwrap();
        }
        let types = object::kernel_types().unwrap();
        for (name, tracepoint) in ENDS {
            object::load_program(&mut self.object, &types, name, tracepoint).unwrap();
        }
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            work();
            let lost = self.unfinished();
            let left = left(self);
            if !left.is_empty() {
                for (name, tracepoint) in ENDS {
                    object::attach_program(&mut self.object, name, tracepoint).unwrap();
                }
                return (left, lost);
            }
            assert!(Instant::now() < end, "nothing is left");
        }
    }

    fn unfinished(&mut self) -> u64 {
        let lost = self.snapshot().unwrap().lost;
        lost.iter().find(|(reason, _)| *reason == BIO_UNFINISHED).unwrap().1
    }

    /// Of this test's reads.
    fn left_flights(&self) -> HashSet<(u64, u64)> {
        let mut left = HashSet::new();
        let bytes = u64::try_from(READ).unwrap();
        let visit = |address, values: &[crate::raw::Flight]| {
            let ours =
                values.iter().filter(|flight| flight.key.kind == OTHER_PROCESS && flight.bytes == bytes);
            left.extend(ours.map(|flight| (address, flight.start_ns)));
        };
        self.maps.flights.for_each(visit).unwrap();
        left
    }

    fn left_write_back(&self, inode: u64) -> HashSet<(u64, u64)> {
        let mut left = HashSet::new();
        let visit = |address, values: &[crate::raw::WriteBackBio]| {
            left.extend(
                values.iter().filter(|bio| bio.host.inode == inode).map(|bio| (address, bio.start_ns)),
            );
        };
        self.maps.write_back_bios.for_each(visit).unwrap();
        left
    }

    /// Works until the place of one of those that are left is used again: each that goes is lost, and none has ended.
    fn reuse(
        &mut self,
        (left, lost): &(HashSet<(u64, u64)>, u64),
        now: impl Fn(&Self) -> HashSet<(u64, u64)>,
        work: impl Fn(),
    ) {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            work();
            let gone = left.difference(&now(self)).count();
            let lost = self.unfinished() - lost;
            assert!(lost >= u64::try_from(gone).unwrap(), "{gone} have gone, {lost} are lost");
            if gone > 0 {
                return;
            }
            assert!(Instant::now() < end, "no place of {left:?} was used again");
        }
    }
}

/// With a file on a disk, past whose cache can be read.
fn directory() -> (tempfile::TempDir, File) {
    // Where this was built: a temporary one may be memory.
    let directory = tempfile::tempdir_in(std::env::current_exe().unwrap().parent().unwrap()).unwrap();
    let path = directory.path().join("direct");
    fs::write(&path, vec![1; READ * usize::try_from(BLOCKS).unwrap()]).unwrap();
    File::open(&path).unwrap().sync_all().unwrap();
    let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT).open(path).unwrap();
    (directory, file)
}

/// A block at an address that direct I/O takes.
fn with_block(work: impl Fn(&mut [u8], u64)) {
    let mut memory = vec![0_u8; READ + 4096];
    let start = memory.as_ptr().align_offset(4096);
    for number in 0..BLOCKS {
        work(&mut memory[start..start + READ], number * READ as u64);
    }
}

#[test]
fn a_stranger_whose_end_was_missed_is_not_ended_by_a_watched_process() {
    let test = "a_stranger_whose_end_was_missed_is_not_ended_by_a_watched_process";
    let Some(mut probes) = load_or_skip(test) else { return };
    let (_directory, file) = directory();
    // Several at once, for several places.
    let read = || {
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| with_block(|block, at| file.read_exact_at(block, at).unwrap()));
            }
        });
    };
    let left = probes.without_ends(read, Probes::left_flights);
    probes.watch_process(std::process::id(), 1, 1).unwrap();
    probes.reuse(&left, Probes::left_flights, read);
}

#[test]
fn write_back_whose_end_was_missed_is_not_ended_by_a_stranger_and_is_given_up() {
    let test = "write_back_whose_end_was_missed_is_not_ended_by_a_stranger_and_is_given_up";
    let Some(mut probes) = load_or_skip(test) else { return };
    let (directory, _) = directory();
    let [written, other] = ["written", "other"].map(|name| {
        let file = File::create(directory.path().join(name)).unwrap();
        file.write_all_at(&vec![1; 2 * READ * usize::try_from(BLOCKS).unwrap()], 0).unwrap();
        file.sync_all().unwrap();
        file
    });
    let inode = written.metadata().unwrap().ino();
    probes.watch_process(std::process::id(), 1, 1).unwrap();
    // With gaps: a bio each, and all at once.
    let write = |file: &File| {
        with_block(|block, at| file.write_all_at(block, 2 * at).unwrap());
        file.sync_data().unwrap();
    };
    let left = probes.without_ends(|| write(&written), |probes| probes.left_write_back(inode));
    probes.forget_process(std::process::id());
    probes.reuse(&left, |probes| probes.left_write_back(inode), || write(&other));
    let (left, lost) = (probes.left_write_back(inode).len(), probes.unfinished());
    probes.give_up(clock_ns()).unwrap();
    assert_eq!(probes.left_write_back(inode).len(), left, "it may still end");
    probes.give_up(clock_ns() + 2 * GIVE_UP_NS).unwrap();
    assert!(probes.left_write_back(inode).is_empty());
    assert!(probes.unfinished() >= lost + u64::try_from(left).unwrap());
}
