//! Follows the files of a server's log as they are received.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{count::Counter, decoder::Decoder, segments::Segments};
use crate::{
    postgresql::directory::PgDirectory,
    work::{LogError, LogLook, LogPositions, ReadLog},
};

/// Most bytes that one look reads.
const LOOK: u64 = 4 << 20;
/// Bytes that are read at a time: few enough to stay in the processor's cache.
const PIECE: u64 = 256 << 10;
/// Of more than that only the end is read: it is still in the page cache, what is before costs reads from the device
/// that replay needs.
const MOST_BEHIND: u64 = 1 << 30;
/// A segment that is not there for so long will not come.
const MISSING: Duration = Duration::from_secs(5);
/// How often a younger timeline is looked for where the server does not tell it.
const TIMELINES: Duration = Duration::from_secs(5);

struct Open {
    timeline: u32,
    number: u64,
    file: File,
}

/// Reads one server's log.
#[derive(Default)]
pub(crate) struct Follower {
    directory: Option<(PathBuf, Segments)>,
    decoder: Option<Decoder>,
    open: Option<Open>,
    timeline: Option<u32>,
    looked: Option<Instant>,
    missing: Option<Instant>,
    /// Bytes that the decoder had lost at the end of the last look.
    lost: u64,
    /// Where the last look was that had to wait for more.
    waits_beyond: u64,
    counter: Counter,
    buffer: Vec<u8>,
}

fn target(positions: LogPositions) -> Option<u64> {
    positions.received.max(positions.replayed).filter(|target| *target > 0)
}

impl ReadLog for Follower {
    fn is_due(&self, positions: LogPositions) -> bool {
        target(positions).is_some_and(|target| {
            self.decoder.is_none() || target > self.waits_beyond || self.timeline != positions.timeline
        })
    }

    fn look(&mut self, data_directory: &Path, positions: LogPositions) -> Result<LogLook, LogError> {
        let looked = self.read(data_directory, positions);
        if looked.is_err() {
            // The directory may be another one by now.
            (self.directory, self.open) = (None, None);
        }
        looked
    }
}

impl Follower {
    /// A follower of the log of the server of which this is known.
    pub(crate) fn new(directory: PgDirectory) -> Self {
        Self { counter: Counter::new(directory), ..Self::default() }
    }

    fn read(&mut self, data_directory: &Path, positions: LogPositions) -> Result<LogLook, LogError> {
        let mut look = LogLook::default();
        let Some(target) = target(positions) else { return Ok(look) };
        if self.directory.as_ref().is_none_or(|(path, _)| path != data_directory) {
            self.open = None;
            self.directory = Some((data_directory.to_owned(), Segments::open(data_directory)?));
        }
        let Some((_, segments)) = self.directory.take() else { return Err(LogError::NotHere) };
        let mut decoder = self.decoder.take().unwrap_or_else(|| {
            let start = positions.replayed.unwrap_or(target);
            self.counter.go_on_at(start);
            Decoder::new(start, segments.size())
        });
        let read = self.read_on(&segments, &mut decoder, positions, target, &mut look);
        look.skipped += decoder.lost() - self.lost;
        if decoder.lost() > self.lost {
            // It may have been replaced while it was open.
            self.open = None;
        }
        self.lost = decoder.lost();
        look.format = decoder.format();
        let is_unknown = look.format.is_none() && decoder.lost() > PIECE;
        self.decoder = Some(decoder);
        self.directory = Some((data_directory.to_owned(), segments));
        read?;
        if is_unknown {
            return Err(LogError::Unknown);
        }
        look.stretches = self.counter.take();
        Ok(look)
    }

    fn read_on(
        &mut self,
        segments: &Segments,
        decoder: &mut Decoder,
        positions: LogPositions,
        target: u64,
        look: &mut LogLook,
    ) -> Result<(), LogError> {
        self.follow_timeline(segments, decoder, positions)?;
        let behind = target.saturating_sub(decoder.position());
        if behind > MOST_BEHIND {
            look.skipped += behind - MOST_BEHIND;
            decoder.jump(target - MOST_BEHIND);
            self.counter.go_on_at(decoder.position());
        }
        let mut left = LOOK;
        while left > 0 && decoder.position() < target {
            if !self.open_segment(segments, decoder.position())? {
                look.skipped += self.pass(segments, decoder, positions, target);
                break;
            }
            let Some(Open { file, .. }) = &self.open else { break };
            let at = decoder.position();
            let in_segment = at % segments.size();
            let wanted = PIECE.min(segments.size() - in_segment).min(target - at);
            self.buffer.resize(usize::try_from(PIECE).unwrap_or(0), 0);
            let buffer = &mut self.buffer[..usize::try_from(wanted).unwrap_or(0)];
            let read = file
                .read_at(buffer, in_segment)
                .map_err(|error| LogError::Unreadable { what: "a segment", reason: error.to_string() })?;
            decoder.feed(&buffer[..read], |record| self.counter.add(&record));
            let taken = decoder.position() - at;
            left = left.saturating_sub(taken);
            self.waits_beyond = target;
            // What is left is the beginning of something that goes on beyond the target.
            if taken == 0 {
                break;
            }
        }
        if left == 0 && decoder.position() < target {
            look.has_more = true;
            self.waits_beyond = decoder.position();
        }
        Ok(())
    }

    fn follow_timeline(
        &mut self,
        segments: &Segments,
        decoder: &mut Decoder,
        positions: LogPositions,
    ) -> Result<(), LogError> {
        let mut is_new = positions.timeline != self.timeline;
        self.timeline = positions.timeline;
        if self.timeline.is_none() && self.looked.is_none_or(|looked| looked.elapsed() > TIMELINES) {
            self.looked = Some(Instant::now());
            let youngest = segments.youngest(decoder.position(), None)?;
            is_new = self.open.as_ref().is_some_and(|open| youngest > Some(open.timeline));
        }
        if let (Some(timeline), Some(open)) = (self.timeline, &self.open)
            && open.timeline != timeline
        {
            // The segment in which a timeline begins may be there only after the one before it was opened.
            is_new |= segments.segment(decoder.position(), timeline)?.is_some();
        }
        if is_new {
            self.open = None;
            decoder.rewind();
        }
        Ok(())
    }

    /// Opens the segment of a position, of the timeline that is received, or else of the one before it that has it.
    fn open_segment(&mut self, segments: &Segments, position: u64) -> Result<bool, LogError> {
        let number = position / segments.size();
        if self.open.as_ref().is_some_and(|open| open.number == number) {
            return Ok(true);
        }
        self.open = None;
        let mut found = None;
        if let Some(timeline) = self.timeline {
            found = segments.segment(position, timeline)?.map(|file| Open { timeline, number, file });
        }
        if found.is_none()
            && let Some(timeline) = segments.youngest(position, self.timeline)?
        {
            found = segments.segment(position, timeline)?.map(|file| Open { timeline, number, file });
        }
        self.open = found;
        if self.open.is_some() {
            self.missing = None;
        }
        Ok(self.open.is_some())
    }

    /// Passes over a segment that is not there; how many bytes that are.
    fn pass(
        &mut self,
        segments: &Segments,
        decoder: &mut Decoder,
        positions: LogPositions,
        target: u64,
    ) -> u64 {
        let missing = *self.missing.get_or_insert_with(Instant::now);
        let position = decoder.position();
        let next = (position / segments.size() + 1) * segments.size();
        match positions.replayed {
            // Nobody needs it any more, so it was removed.
            Some(replayed) if replayed >= next => decoder.seek(replayed),
            _ if missing.elapsed() > MISSING && next < target => decoder.jump(next),
            _ => return 0,
        }
        self.counter.go_on_at(decoder.position());
        self.missing = None;
        decoder.position().saturating_sub(position)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::work::Work;

    const RECORDED: &[u8] = include_bytes!("recorded/16.wal");
    /// Where the recording begins, its first record, and its end.
    const PAGE: u64 = 0x60_0000;
    const START: u64 = 0x60_00D8;
    const END: u64 = 0x60_71E0;

    struct Server(tempfile::TempDir);

    impl Server {
        fn new() -> Self {
            let server = Self(tempfile::tempdir().unwrap());
            fs::create_dir(server.0.path().join("pg_wal")).unwrap();
            server
        }

        /// A segment of 1 MiB, of which so much is written.
        fn with(self, timeline: u32, number: u64, bytes: &[u8]) -> Self {
            let name = format!("{timeline:08X}00000000{number:08X}");
            let mut segment = bytes.to_vec();
            segment.resize(1 << 20, 0);
            fs::write(self.0.path().join("pg_wal").join(name), segment).unwrap();
            self
        }

        fn look(&self, follower: &mut Follower, positions: LogPositions) -> Result<LogLook, LogError> {
            follower.look(self.0.path(), positions)
        }
    }

    fn at(received: u64, replayed: u64, timeline: impl Into<Option<u32>>) -> LogPositions {
        LogPositions { received: Some(received), replayed: Some(replayed), timeline: timeline.into() }
    }

    fn sum<'a>(looks: impl IntoIterator<Item = &'a LogLook>) -> Work {
        let mut sum = Work::default();
        for (_, work) in
            looks.into_iter().flat_map(|look| &look.stretches).flat_map(|stretch| &stretch.objects)
        {
            sum.blocks += work.blocks;
            sum.drops += work.drops;
        }
        sum
    }

    /// All that the recording asks for, as the server that wrote it says.
    fn told() -> Work {
        let count = |text: &str| text.split(',').filter(|item| *item != "-").count() as u64;
        let mut told = Work::default();
        for line in include_str!("recorded/16.txt").lines().skip(1) {
            let words: Vec<_> = line.split(' ').collect();
            told.blocks += count(words[3]);
            told.drops += count(words[4]);
        }
        told
    }

    #[test]
    fn what_is_received_is_counted_once_however_it_comes() {
        for step in [10_000, 777, 100] {
            let server = Server::new().with(1, 6, RECORDED);
            let mut follower = Follower::default();
            let mut looks = Vec::new();
            for received in (START..END).step_by(step).chain([END]) {
                looks.push(server.look(&mut follower, at(received, START, 1)).unwrap());
            }
            assert_eq!(sum(&looks), told());
            assert!(looks.iter().all(|look| look.skipped == 0));
            assert!(!follower.is_due(at(END, START, 1)), "nothing is read twice");
        }
    }

    #[test]
    fn another_timeline_is_followed_from_the_last_whole_record() {
        // The first timeline ends inside of a record.
        let cut = 8192 + 100;
        for told_by_server in [true, false] {
            let server = Server::new().with(1, 6, &RECORDED[..cut]);
            let mut follower = Follower::default();
            let timeline = |number| Some(number).filter(|_| told_by_server);
            let cut = PAGE + cut as u64;
            let first = server.look(&mut follower, at(cut, START, timeline(1))).unwrap();
            // The server knows of the other timeline before its file is there.
            let none = server.look(&mut follower, at(cut, START, timeline(2))).unwrap();
            assert_eq!(sum([&none]), Work::default());
            let server = server.with(2, 6, RECORDED);
            follower.looked = None;
            // The stream begins with the segment again.
            let again = server.look(&mut follower, at(PAGE, START, timeline(2))).unwrap();
            let second = server.look(&mut follower, at(END, START, timeline(2))).unwrap();
            assert_eq!(sum([&first, &again, &second]), told(), "{told_by_server}");
        }
    }

    #[test]
    fn a_removed_segment_is_passed_over_and_what_follows_is_counted() {
        let server = Server::new().with(1, 6, RECORDED);
        let mut follower = Follower::default();
        let looked = server.look(&mut follower, at(END, 0x40_1000, 1)).unwrap();
        assert_eq!((sum([&looked]), looked.skipped), (Work::default(), 0), "it may still come");
        let looked = server.look(&mut follower, at(END, START, 1)).unwrap();
        assert_eq!(looked.skipped, 0x60_0000 - 0x40_0000);
        let looked = server.look(&mut follower, at(END, START, 1)).unwrap();
        assert_eq!(sum([&looked]), told());
    }

    #[test]
    fn far_behind_only_the_end_is_read() {
        let server = Server::new().with(1, 6 + 2048, &[]);
        let mut follower = Follower::default();
        let looked = server.look(&mut follower, at(PAGE + (2 << 30), START, 1)).unwrap();
        assert!(looked.skipped >= 1 << 30, "{looked:?}");
    }

    #[test]
    fn a_log_of_an_unknown_version_is_refused() {
        let mut bytes = RECORDED.to_vec();
        bytes.iter_mut().step_by(8192).for_each(|first| *first = 0x77);
        let server = Server::new().with(1, 6, &bytes);
        let looked = server.look(&mut Follower::default(), at(PAGE + (1 << 20), START, 1));
        assert_eq!(looked, Err(LogError::Unknown));
    }

    #[test]
    fn what_is_no_file_of_the_server_is_not_read() {
        let server = Server::new().with(1, 5, RECORDED);
        let name = server.0.path().join("pg_wal/000000010000000000000006");
        std::os::unix::fs::symlink("/dev/zero", &name).unwrap();
        let looked = server.look(&mut Follower::default(), at(END, START, 1));
        assert!(matches!(looked, Err(LogError::Unreadable { .. })), "{looked:?}");
        fs::remove_file(&name).unwrap();
        nix::unistd::mkfifo(&name, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let looked = server.look(&mut Follower::default(), at(END, START, 1));
        assert!(matches!(looked, Err(LogError::Unreadable { .. })), "{looked:?}");
        let nowhere = server.0.path().join("nowhere");
        let looked = Follower::default().look(&nowhere, at(END, START, 1));
        assert!(matches!(looked, Err(LogError::Unreadable { .. })), "{looked:?}");
    }
}
