//! Follows the files of a replica's relay log as they are received.

use std::{
    fs::File,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    decoder::{Decoder, Number, Stop},
    event::MAGIC,
    place::{Spot, Spots},
};
use crate::{
    log_files::{LogFiles, unreadable},
    mysql::{
        binlogs::{Binlogs, Place},
        catalog::MyDirectory,
    },
    work::{LogError, LogLook, LogPositions, ReadLog},
};

/// Most bytes that one look reads.
const LOOK: u64 = 4 << 20;
/// Bytes that are read at a time: few enough to stay in the processor's cache.
const PIECE: usize = 256 << 10;
/// So far before the applier, in bytes, and no further: what is there has then just been read by it or soon will be, and the
/// transactions of it are few enough to be kept apart.
const AHEAD: u64 = 16 << 20;
/// So far behind it the rest is passed over.
const BEHIND: u64 = 64 << 20;
/// Beginning of a file in which its formats stand.
const BEGINNING: usize = 64 << 10;
const WHAT: &str = "a relay log";

/// A relay log that is read.
struct Open {
    place: Place,
    file: File,
    decoder: Decoder,
}

/// Reads one replica's relay log.
pub(crate) struct Follower {
    binlogs: Arc<Binlogs>,
    spots: Arc<Spots>,
    names: MyDirectory,
    directory: Option<(PathBuf, LogFiles)>,
    open: Option<Open>,
    /// Up to where it was read, of the source's log.
    until: Option<u64>,
    timeline: Option<u32>,
    /// Where reading failed: it goes on when the applier has passed it.
    failed: Option<Place>,
    /// What was known when all was read that was to be.
    rests_at: Option<LogPositions>,
    buffer: Vec<u8>,
}

impl ReadLog for Follower {
    fn is_due(&self, positions: LogPositions) -> bool {
        positions.replayed.is_some() && self.rests_at != Some(positions)
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
    pub(crate) fn new(binlogs: Arc<Binlogs>, spots: Arc<Spots>, names: MyDirectory) -> Self {
        Self {
            binlogs,
            spots,
            names,
            directory: None,
            open: None,
            until: None,
            timeline: None,
            failed: None,
            rests_at: None,
            buffer: vec![0; PIECE],
        }
    }

    fn read(&mut self, data_directory: &Path, positions: LogPositions) -> Result<LogLook, LogError> {
        let mut look = LogLook::default();
        let (Some(spot), Some(replayed)) = (self.spots.get(), positions.replayed) else { return Ok(look) };
        if self.directory.as_ref().is_none_or(|(path, _)| path != data_directory) {
            let place = self.names.relay_directory(data_directory);
            let files = LogFiles::open("the relay logs", &place, data_directory)?;
            (self.directory, self.open) = (Some((data_directory.to_owned(), files)), None);
        }
        if self.timeline != positions.timeline {
            (self.timeline, self.open, self.until, self.failed) = (positions.timeline, None, None, None);
        }
        let Some((path, files)) = self.directory.take() else { return Err(LogError::NotHere) };
        let (binlogs, server_id) = (Arc::clone(&self.binlogs), spot.server_id);
        let number = move |place: &Place| binlogs.number(server_id, place);
        let read = self.read_on(&files, &spot, replayed, &number, &mut look);
        self.directory = Some((path, files));
        if !look.has_more {
            self.rests_at = Some(positions);
        }
        read.map(|()| look)
    }

    fn read_on(
        &mut self,
        files: &LogFiles,
        spot: &Spot,
        replayed: u64,
        number: Number<'_>,
        look: &mut LogLook,
    ) -> Result<(), LogError> {
        let behind = self.until.map_or(0, |until| replayed.saturating_sub(until));
        if behind > BEHIND || !self.is_same(files, spot)? {
            self.open = None;
        }
        if self.open.is_none() && self.failed.as_ref() != Some(&spot.relay) {
            self.open = Self::start(files, spot, number)?;
            let at = number(&spot.source);
            look.skipped += self.open.as_ref().and(self.until).map_or(0, |until| at.saturating_sub(until));
        }
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let mut left = LOOK;
        let mut stopped = None;
        while left > 0 && open.decoder.position(number) <= replayed.saturating_add(AHEAD) {
            match open.read(&mut self.buffer, number)? {
                Ok(0) => match open.next(files, spot.digits, &mut self.buffer, number, look)? {
                    Some(true) => {}
                    Some(false) => break,
                    None => {
                        stopped = Some(Stop::Short);
                        break;
                    }
                },
                Ok(taken) => left = left.saturating_sub(taken),
                Err(stop) => {
                    stopped = Some(stop);
                    break;
                }
            }
        }
        look.has_more = left == 0;
        look.stretches = open.decoder.take(number);
        look.skipped += open.decoder.passed();
        self.until = Some(open.decoder.position(number));
        match stopped {
            None => self.open = Some(open),
            Some(Stop::Encrypted) => return Err(LogError::Encrypted),
            Some(Stop::Rubbish) => self.failed = Some(spot.relay.clone()),
            Some(Stop::Short) => {}
        }
        Ok(())
    }

    /// Whether the file that is open is the one that has its name now, where there is one.
    fn is_same(&self, files: &LogFiles, spot: &Spot) -> Result<bool, LogError> {
        let Some(open) = &self.open else { return Ok(true) };
        let identity = |file: &File| file.metadata().map(|file| (file.dev(), file.ino())).ok();
        let named = files.file(WHAT, &name(&open.place, spot.digits))?;
        Ok(open.place.name == spot.relay.name
            && named.is_none_or(|named| identity(&named) == identity(&open.file)))
    }

    /// Opens the relay log in which the applier stands, and goes there.
    fn start(files: &LogFiles, spot: &Spot, number: Number<'_>) -> Result<Option<Open>, LogError> {
        let Some(file) = files.file(WHAT, &name(&spot.relay, spot.digits))? else { return Ok(None) };
        let mut decoder = Decoder::new(spot.source.clone(), number);
        let size = file.metadata().map_err(unreadable(WHAT))?.len();
        let mut beginning = vec![0; BEGINNING];
        let read = file.read_at(&mut beginning, 0).map_err(unreadable(WHAT))?;
        let beginning = &beginning[..read];
        let mut at = match Decoder::open(beginning) {
            Ok(magic) => magic as u64,
            Err(Stop::Encrypted) => return Err(LogError::Encrypted),
            Err(_) => return Ok(None),
        };
        let end = spot.relay.offset.min(read as u64);
        while at < end {
            let rest = usize::try_from(at).ok().and_then(|at| beginning.get(at..)).unwrap_or_default();
            match decoder.step(rest, size.saturating_sub(at), true, number) {
                Ok(taken) => at += taken,
                Err(Stop::Encrypted) => return Err(LogError::Encrypted),
                Err(_) => break,
            }
        }
        let offset = spot.relay.offset.max(MAGIC.len() as u64);
        Ok(Some(Open { place: Place { offset, ..spot.relay.clone() }, file, decoder }))
    }
}

impl Open {
    /// Reads a piece; how many bytes of it were whole events.
    fn read(&mut self, buffer: &mut [u8], number: Number<'_>) -> Result<Result<u64, Stop>, LogError> {
        let from = self.place.offset;
        let size = self.file.metadata().map_err(unreadable(WHAT))?.len();
        let read = self.file.read_at(buffer, from).map_err(unreadable(WHAT))?;
        let mut taken = 0;
        if from == 0 {
            match Decoder::open(&buffer[..read]) {
                Ok(magic) => taken = magic as u64,
                Err(Stop::Short) => return Ok(Ok(0)),
                Err(stop) => return Ok(Err(stop)),
            }
        }
        let mut stopped = None;
        while let Some(bytes) = usize::try_from(taken).ok().and_then(|at| buffer[..read].get(at..)) {
            match self.decoder.step(bytes, size.saturating_sub(from + taken), false, number) {
                Ok(length) => taken += length,
                Err(stop) => {
                    stopped = Some(stop).filter(|stop| *stop != Stop::Short);
                    break;
                }
            }
        }
        self.place.offset += taken;
        Ok(stopped.map_or(Ok(taken), Err))
    }

    /// Goes on with the next file, where there is one: `false` where this is the last, `None` where it is none any more.
    fn next(
        &mut self,
        files: &LogFiles,
        digits: usize,
        buffer: &mut [u8],
        number: Number<'_>,
        look: &mut LogLook,
    ) -> Result<Option<bool>, LogError> {
        let place = Place { number: self.place.number + 1, offset: 0, name: self.place.name.clone() };
        let Some(file) = files.file(WHAT, &name(&place, digits))? else {
            let is_there = files.file(WHAT, &name(&self.place, digits))?.is_some();
            return Ok(is_there.then_some(false));
        };
        // What was written before the next one began may have come after this one was read.
        if matches!(self.read(buffer, number)?, Ok(0)) {
            let size = self.file.metadata().map_err(unreadable(WHAT))?.len();
            look.skipped += size.saturating_sub(self.place.offset);
            (self.place, self.file) = (place, file);
        }
        Ok(Some(true))
    }
}

/// The name of a file.
fn name(place: &Place, digits: usize) -> String {
    format!("{}.{:0digits$}", place.name, place.number)
}
