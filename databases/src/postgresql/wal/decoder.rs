//! Follows the log from page to page, over records that go on on the next one, and hands out record by record.
//!
//! It is fed with the bytes from where it stands, as many as there are. Whatever they are, it gets on: what is no
//! log is passed over to the next page on which a record begins.

use super::{
    page::{self, Begin, Format, PAGE},
    record::{HEADER, Head, Record, References, is_length},
};

/// Most bytes of memory that are kept for the next record that does not stand on one page.
const KEPT: usize = 64 << 10;

/// Where in the log the decoder stands.
#[derive(Clone, Copy, Debug)]
enum State {
    /// At the beginning of a record, or of the padding before a page. `None` where the record before is not known.
    Between(Option<u64>),
    /// Inside of a record that began at `start` on an earlier page.
    Inside { start: u64, previous: Option<u64>, left: u64 },
    /// Inside of a record whose beginning was not seen.
    Passing { left: u64 },
    /// Before a place where a record begins, on the page that it begins on or in the empty rest of a segment.
    Before { record: u64, previous: Option<u64> },
    /// At the page on which this record begins.
    Seeking(u64),
    /// Nowhere: the next page on which a record begins is looked for.
    Lost,
}

/// Reads a log.
#[derive(Debug)]
pub struct Decoder {
    position: u64,
    state: State,
    format: Option<Format>,
    segment_size: u64,
    /// The beginning of a record that does not stand on one page.
    begun: Vec<u8>,
    references: References,
    lost: u64,
}

impl Decoder {
    /// A decoder that stands where a record begins.
    pub fn new(position: u64, segment_size: u64) -> Self {
        let mut decoder = Self {
            position,
            state: State::Lost,
            format: None,
            segment_size,
            begun: Vec::new(),
            references: References::default(),
            lost: 0,
        };
        decoder.seek(position);
        decoder
    }

    /// Where it stands: the next byte that it wants.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Whose log it read last.
    pub fn format(&self) -> Option<Format> {
        self.format
    }

    /// Bytes ever passed over because they were no log.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Back to where the record begins that is not complete yet: on another timeline it may go on differently.
    pub fn rewind(&mut self) {
        if let State::Inside { start, .. } = self.state {
            self.seek(start);
        }
    }

    /// Goes on at another place where a record begins.
    pub fn seek(&mut self, record: u64) {
        // The header of its page tells whose log it is.
        (self.position, self.state) = (record / PAGE * PAGE, State::Seeking(record));
        self.begun.clear();
    }

    /// Goes on at another place, at the first record that begins on that page or a later one.
    pub fn jump(&mut self, position: u64) {
        (self.position, self.state) = (position / PAGE * PAGE, State::Lost);
        self.begun.clear();
    }

    /// Reads the bytes from [`Decoder::position`] on; what it could not use yet must be fed again.
    pub fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(Record<'_>)) {
        let mut at = 0;
        // Each turn takes bytes or ends.
        while at < bytes.len() {
            let taken = self.step(&bytes[at..], &mut each);
            if taken == 0 {
                return;
            }
            at += taken;
            self.position += taken as u64;
        }
    }

    /// Takes bytes of one page; 0 where there are too few to get on.
    fn step(&mut self, bytes: &[u8], each: &mut impl FnMut(Record<'_>)) -> usize {
        if let State::Before { record, previous } = self.state {
            let left = record.saturating_sub(self.position);
            if left > 0 {
                return at_most(left, bytes.len());
            }
            self.state = State::Between(previous);
        }
        let in_page = self.position % PAGE;
        if in_page == 0 {
            return self.page(bytes);
        }
        let rest = at_most(PAGE - in_page, usize::MAX);
        let on_page = &bytes[..rest.min(bytes.len())];
        match self.state {
            State::Between(previous) => self.between(on_page, rest, previous, each),
            State::Inside { start, previous, left } => self.inside(on_page, (start, previous, left), each),
            State::Passing { left } => {
                let taken = at_most(left, on_page.len());
                let left = left - taken as u64;
                self.state = if left == 0 { State::Between(None) } else { State::Passing { left } };
                taken
            }
            State::Lost | State::Seeking(_) | State::Before { .. } => {
                self.lost += on_page.len() as u64;
                on_page.len()
            }
        }
    }

    /// The header of a page.
    fn page(&mut self, bytes: &[u8]) -> usize {
        let header = match page::header(bytes, self.position) {
            Begin::Header(header) => header,
            Begin::Short => return 0,
            Begin::Rubbish => return self.give_up(1),
        };
        self.format = Some(header.format);
        if let Some(size) = header.segment_size {
            self.segment_size = size;
        }
        let remaining = u64::from(header.remaining);
        let goes_on = match self.state {
            State::Inside { left, .. } | State::Passing { left } => left == remaining,
            State::Between(_) => remaining == 0,
            State::Lost | State::Seeking(_) | State::Before { .. } => false,
        };
        let at = self.position + header.length as u64;
        if let State::Seeking(record) = self.state
            && record > at
        {
            self.state = State::Before { record, previous: None };
        } else if !goes_on {
            // Either nothing was known before, or a record was begun that will never be completed.
            self.begun.clear();
            self.state =
                if remaining == 0 { State::Between(None) } else { State::Passing { left: remaining } };
        }
        header.length
    }

    /// Passes over so many bytes, and all that follow on the page.
    fn give_up(&mut self, bytes: usize) -> usize {
        self.begun.clear();
        self.state = State::Lost;
        self.lost += bytes as u64;
        bytes
    }

    /// Where a record begins. `rest` is what there is of the page at most.
    fn between(
        &mut self,
        on_page: &[u8],
        rest: usize,
        previous: Option<u64>,
        each: &mut impl FnMut(Record<'_>),
    ) -> usize {
        let padding = at_most(self.position.next_multiple_of(8) - self.position, on_page.len());
        if padding > 0 {
            return padding;
        }
        let length = page::u32_at(on_page, 0);
        if on_page.len() < 4 {
            return 0;
        }
        if !is_length(length) {
            return self.give_up(on_page.len());
        }
        let start = self.position;
        if at_most(length.into(), usize::MAX) <= rest {
            let Some(record) = on_page.get(..length as usize) else { return 0 };
            let read = self.finish(record, start, start + u64::from(length), previous, each);
            return if read { record.len() } else { self.give_up(on_page.len()) };
        }
        if on_page.len() < rest {
            return 0;
        }
        self.begun.clear();
        let left = u64::from(length) - rest as u64;
        self.state = State::Inside { start, previous, left };
        self.collect(on_page);
        rest
    }

    fn inside(
        &mut self,
        on_page: &[u8],
        (start, previous, left): (u64, Option<u64>, u64),
        each: &mut impl FnMut(Record<'_>),
    ) -> usize {
        let taken = at_most(left, on_page.len());
        self.collect(&on_page[..taken]);
        let left = left - taken as u64;
        self.state = State::Inside { start, previous, left };
        if left > 0 {
            return taken;
        }
        let begun = std::mem::take(&mut self.begun);
        let read = self.finish(&begun, start, self.position + taken as u64, previous, each);
        self.begun = begun;
        self.begun.clear();
        if self.begun.capacity() > KEPT {
            self.begun = Vec::new();
        }
        if read { taken } else { self.give_up(taken) }
    }

    /// Keeps as much of a record that does not stand on one page as has to be seen of it.
    fn collect(&mut self, bytes: &[u8]) {
        let mut bytes = bytes;
        loop {
            let needed = if self.begun.len() < HEADER {
                HEADER
            } else {
                // What is no head is refused when it is complete.
                Head::read(&self.begun).map_or(0, Head::needed)
            };
            let missing = needed.saturating_sub(self.begun.len()).min(bytes.len());
            if missing == 0 {
                return;
            }
            let (taken, rest) = bytes.split_at(missing);
            self.begun.extend_from_slice(taken);
            bytes = rest;
        }
    }

    /// Hands out a record of which the bytes that matter are there. `false` if it is none.
    fn finish(
        &mut self,
        record: &[u8],
        start: u64,
        end: u64,
        previous: Option<u64>,
        each: &mut impl FnMut(Record<'_>),
    ) -> bool {
        let (Some(head), Some(format)) = (Head::read(record), self.format) else { return false };
        let follows = previous.map_or(head.previous < start, |previous| head.previous == previous);
        if !follows || self.references.read(record, head, format).is_none() {
            return false;
        }
        let mut end = end.next_multiple_of(8);
        self.state = State::Between(Some(start));
        if head.is_switch() {
            end = end.next_multiple_of(self.segment_size);
            self.state = State::Before { record: end, previous: Some(start) };
        }
        let References { blocks, events } = &self.references;
        let Head { transaction, manager, info, .. } = head;
        each(Record { start, end, transaction, manager, info, blocks, events });
        true
    }
}

fn at_most(count: u64, most: usize) -> usize {
    usize::try_from(count).map_or(most, |count| count.min(most))
}
