//! Reading pages: where from, and whether what came is the page that was asked for.

use std::{fs::File, io, os::unix::fs::FileExt};

use super::space::Space;

/// The size of the header that every page begins with. Source of this and all offsets here: fil0types.h, fsp0fsp.h.
pub(super) const FIL_HEADER: usize = 38;
const PAGE_NUMBER: usize = 4;
const LSN: usize = 16;
pub(super) const TYPE: usize = 24;
const SPACE: usize = 34;
/// How often a page that was torn by a write under way is read again.
const TRIES: usize = 3;

/// Bytes of a file at an offset. A file does; tests give bytes.
pub trait ReadAt {
    /// Fills the buffer; an error if the file ends before.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// The file's size in bytes.
    fn size(&self) -> io::Result<u64>;
}

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).ok().and_then(|from| self.get(from..));
        let bytes = from.and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

/// Big-endian numbers of a page; 0 beyond its end, which no check takes for anything.
pub(super) fn u16_at(page: &[u8], at: usize) -> u16 {
    array(page, at).map_or(0, u16::from_be_bytes)
}

pub(super) fn u32_at(page: &[u8], at: usize) -> u32 {
    array(page, at).map_or(0, u32::from_be_bytes)
}

pub(super) fn u64_at(page: &[u8], at: usize) -> u64 {
    array(page, at).map_or(0, u64::from_be_bytes)
}

fn array<const N: usize>(page: &[u8], at: usize) -> Option<[u8; N]> {
    page.get(at..)?.first_chunk().copied()
}

/// What reading one page of the bookkeeping came to.
pub(super) enum Look {
    /// A page of the wanted type, whole.
    Page(Vec<u8>),
    /// There, and not to be read by us: compressed or encrypted.
    Hidden,
    /// Not written yet, torn each time, or something else.
    None,
}

impl Look {
    /// Reads the whole page with this number if it is of one of these types.
    pub(super) fn at(file: &(impl ReadAt + ?Sized), space: &Space, number: u32, types: &[u16]) -> Self {
        let mut bytes = vec![0; space.page as usize];
        for _ in 0..TRIES {
            if number >= space.pages || file.read_at(&mut bytes, space.offset(number)).is_err() {
                return Self::None;
            }
            if hides(&bytes, space) {
                return Self::Hidden;
            }
            if !is_page(&bytes, space, number) {
                return Self::None;
            }
            if space.is_whole(&bytes) {
                let right = types.contains(&u16_at(&bytes, TYPE));
                return if right { Self::Page(bytes) } else { Self::None };
            }
        }
        Self::None
    }
}

/// The first bytes of a page, if it is this one.
pub(super) fn head<const N: usize>(
    file: &(impl ReadAt + ?Sized),
    space: &Space,
    number: u32,
) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let read = number < space.pages && file.read_at(&mut bytes, space.offset(number)).is_ok();
    (read && is_page(&bytes, space, number)).then_some(bytes)
}

pub(super) fn lsn(page: &[u8]) -> u64 {
    u64_at(page, LSN)
}

/// An encrypted page of a full_crc32 file does not show its space; its number it shows.
fn is_page(bytes: &[u8], space: &Space, number: u32) -> bool {
    let shown = hides(bytes, space) || u32_at(bytes, SPACE) == space.id;
    u32_at(bytes, PAGE_NUMBER) == number && lsn(bytes) != 0 && shown
}

/// Whether the page's content is compressed or encrypted, as its header tells it.
pub(super) fn hides(page: &[u8], space: &Space) -> bool {
    super::header::hides(page, space.full_crc32)
}
