//! Goes through a replica's relay logs, event by event, and adds up what each transaction asks for.
//!
//! It is fed with the bytes from where it stands; of an event that is longer than them it needs the first few only.

use std::{collections::HashMap, sync::Arc};

use super::event::{ENCRYPTED, Event, HEAD, Head, MAGIC, SEEN};
use crate::{
    catalog::Object,
    mysql::{binlogs::Place, catalog},
    work::{Stretch, Work, WorkOn},
};

/// Tables that one transaction may have numbers for; those of a later one are told anew.
const MOST_TABLES: usize = 4096;
/// Tables of one transaction that are counted apart.
const MOST_OBJECTS: usize = 4096;

/// What cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// More is needed.
    Short,
    /// It is no log.
    Rubbish,
    /// It is encrypted.
    Encrypted,
}

/// What a place of the source's logs is as one number.
pub(super) type Number<'a> = &'a dyn Fn(&Place) -> u64;

/// Reads a replica's relay logs.
#[derive(Debug)]
pub(super) struct Decoder {
    /// Where the source's log is read; what its events say of their end moves it.
    source: Place,
    checksum: usize,
    tables: HashMap<u64, Arc<Object>>,
    begin: u64,
    /// Whether what was handed out last is the beginning of the transaction that is being read.
    continues: bool,
    objects: HashMap<Arc<Object>, Work>,
    done: Vec<Stretch>,
    passed: u64,
}

impl Decoder {
    /// Stands at the head of the file, or behind that at the beginning of a transaction at this place of the source's logs.
    pub(super) fn new(source: Place, number: Number<'_>) -> Self {
        let begin = number(&source);
        Self {
            source,
            checksum: 0,
            tables: HashMap::new(),
            begin,
            continues: false,
            objects: HashMap::new(),
            done: Vec::new(),
            passed: 0,
        }
    }

    /// Up to where the source's logs are read, as one number.
    pub(super) fn position(&self, number: Number<'_>) -> u64 {
        number(&self.source)
    }

    /// The head of a file: how long it is.
    pub(super) fn open(bytes: &[u8]) -> Result<usize, Stop> {
        match bytes.get(..MAGIC.len()) {
            None => Err(Stop::Short),
            Some(magic) if magic == MAGIC => Ok(MAGIC.len()),
            Some(magic) if magic == ENCRYPTED => Err(Stop::Encrypted),
            Some(_) => Err(Stop::Rubbish),
        }
    }

    /// Reads one event, of which `bytes` are the first and `there` is how much the file has from here on; how long it is.
    /// `is_before` is the part of a file before the place where counting starts: only what matters later is taken from it.
    pub(super) fn step(
        &mut self,
        bytes: &[u8],
        there: u64,
        is_before: bool,
        number: Number<'_>,
    ) -> Result<u64, Stop> {
        if bytes.len() < HEAD {
            return Err(Stop::Short);
        }
        let head = Head::read(bytes).ok_or(Stop::Rubbish)?;
        let length = u64::from(head.length);
        let wanted = usize::try_from(length).map_or(SEEN, |length| length.min(SEEN));
        if there < length || bytes.len() < wanted {
            return Err(Stop::Short);
        }
        let event = Event::read(head, &bytes[..wanted], self.checksum).ok_or(Stop::Rubbish)?;
        match event {
            Event::Format { checksum } => self.checksum = checksum,
            Event::Encryption => return Err(Stop::Encrypted),
            _ if is_before => {}
            Event::Rotate { file, position } if !head.is_own => self.rotate(&file, position, number),
            event if !head.is_own => self.read(event, head, number),
            _ => {}
        }
        Ok(length)
    }

    fn rotate(&mut self, file: &str, position: u64, number: Number<'_>) {
        if let Some(place) = Place::read(file, position)
            && place > self.source
        {
            self.close(true, number);
            self.source = place;
            self.begin = self.begin.max(number(&self.source));
        }
    }

    fn read(&mut self, event: Event, head: Head, number: Number<'_>) {
        if event == Event::Begin {
            self.close(true, number);
            self.tables.clear();
        }
        if head.end > 0 {
            self.source.offset = after(self.source.offset, head.end);
        }
        match event {
            Event::Table { number, database, table }
                if self.tables.len() < MOST_TABLES || self.tables.contains_key(&number) =>
            {
                self.tables.insert(number, Arc::new(catalog::object(&database, &table, None)));
            }
            Event::Rows { number, bytes, is_sought } => {
                if let Some(table) = self.tables.get(&number)
                    && (self.objects.len() < MOST_OBJECTS || self.objects.contains_key(table))
                {
                    let work = self.objects.entry(Arc::clone(table)).or_default();
                    work.bytes += bytes;
                    work.sought += if is_sought { bytes } else { 0 };
                }
            }
            Event::Compressed => {
                self.passed += u64::from(head.length);
                self.close(true, number);
            }
            Event::End => self.close(true, number),
            _ => {}
        }
    }

    /// Hands out what was read since the last time. What asks for nothing is a stretch too: the applier has to pass it.
    fn close(&mut self, is_over: bool, number: Number<'_>) {
        let (start, end) = (self.begin, number(&self.source).max(self.begin));
        if end > start {
            let objects = self.objects.drain().map(|(table, work)| (WorkOn::Table(table), work)).collect();
            self.done.push(Stretch { start, end, is_whole: true, continues: self.continues, objects });
            self.begin = end;
            self.continues = true;
        }
        if is_over {
            self.continues = false;
            self.objects.clear();
        }
    }

    /// All there is since the last time; of a transaction that is not read to its end, what was read.
    pub(super) fn take(&mut self, number: Number<'_>) -> Vec<Stretch> {
        self.close(false, number);
        std::mem::take(&mut self.done)
    }

    /// Bytes passed over since the last time, because they are compressed.
    pub(super) fn passed(&mut self) -> u64 {
        std::mem::take(&mut self.passed)
    }
}

/// Where an event ends of which only the lower 32 bits are told, after one that ended at `before`.
fn after(before: u64, end: u32) -> u64 {
    const WRAP: u64 = 1 << 32;
    let at = before / WRAP * WRAP + u64::from(end);
    if at + WRAP / 2 < before { at + WRAP } else { at }
}
