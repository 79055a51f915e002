//! What needs no server: layouts made here, and files that lie.

use proptest::prelude::*;

use super::*;

const PAGE: usize = 16384;
const PAGES: usize = 256;

/// A tablespace of one table: index 7 with root 3 and an extent of leaves, index 8 with root 4 and no extent.
struct Image(Vec<u8>);

impl Image {
    fn new() -> Self {
        let mut image = Self(vec![0; PAGES * PAGE]);
        image.page(0, 8);
        image.put(0, 38, &5_u32.to_be_bytes());
        image.put(0, 46, &(u32::try_from(PAGES).unwrap()).to_be_bytes());
        image.put(0, 50, &192_u32.to_be_bytes());
        // full_crc32, 16 KiB.
        image.put(0, 54, &(16_u32 | 5).to_be_bytes());
        for list in [118, 134] {
            image.put(0, list + 4, &u32::MAX.to_be_bytes());
        }
        image.page(2, 3);
        image.put(2, 44, &u32::MAX.to_be_bytes());
        for (page, index, segment) in [(3, 7_u64, 1_u64), (4, 8, 3)] {
            image.page(page, 17855);
            image.put(page, 66, &index.to_be_bytes());
            for (field, id) in [(84, segment), (74, segment + 1)] {
                let inode = 50 + (usize::try_from(id).unwrap() - 1) * 192;
                image.put(page, field, &5_u32.to_be_bytes());
                image.put(page, field + 4, &2_u32.to_be_bytes());
                image.put(page, field + 8, &u16::try_from(inode).unwrap().to_be_bytes());
                image.put(2, inode, &id.to_be_bytes());
                image.put(2, inode + 60, &97_937_874_u32.to_be_bytes());
                image.put(2, inode + 64, &[0xff; 128]);
            }
            let root = u32::try_from(page).unwrap();
            image.put(2, 50 + (usize::try_from(segment).unwrap() - 1) * 192 + 64, &root.to_be_bytes());
        }
        // Page 5 is a single one of index 8's leaves.
        image.put(2, 50 + 3 * 192 + 64, &5_u32.to_be_bytes());
        // Pages 0 to 5 are in use, and 6, of whom nothing is said.
        image.extent(0, 0, 2);
        image.put(0, 150 + 24, &[0b1010_1010, 0b1110_1010]);
        image.put(0, 150 + 26, &[0xff; 14]);
        image.extent(1, 2, 4);
        image.extent(2, 0, 1);
        image
    }

    fn page(&mut self, page: usize, kind: u16) {
        self.put(page, 4, &u32::try_from(page).unwrap().to_be_bytes());
        self.put(page, 24, &kind.to_be_bytes());
        self.put(page, 34, &5_u32.to_be_bytes());
        self.written(page, 9);
    }

    fn written(&mut self, page: usize, lsn: u32) {
        self.put(page, 20, &lsn.to_be_bytes());
        self.put(page, PAGE - 8, &lsn.to_be_bytes());
    }

    fn extent(&mut self, extent: usize, segment: u64, state: u32) {
        self.put(0, 150 + extent * 40, &segment.to_be_bytes());
        self.put(0, 150 + extent * 40 + 20, &state.to_be_bytes());
    }

    fn put(&mut self, page: usize, at: usize, bytes: &[u8]) {
        self.0[page * PAGE + at..][..bytes.len()].copy_from_slice(bytes);
    }

    fn map(&self) -> PageMap {
        PageMap::read(self.0.as_slice(), Roots::InFile).unwrap()
    }
}

const ROOTS: [Root; 2] = [Root { page: 3, index: 7 }, Root { page: 4, index: 8 }];

#[test]
fn single_pages_extents_and_free_ones_are_told_apart() {
    let image = Image::new();
    for roots in [Roots::InFile, Roots::Given(&ROOTS)] {
        let map = PageMap::read(image.0.as_slice(), roots).unwrap();
        let owners: Vec<Owner> = (0..8).map(|page| map.index_of(page)).collect();
        let (of, own) = (Owner::Index, Owner::Bookkeeping);
        assert_eq!(owners, [own, own, own, of(7), of(8), of(8), Owner::Unknown, Owner::Free]);
        assert_eq!(
            [64, 127, 128, 191].map(|page| map.index_of(page)),
            [of(7), of(7), Owner::Free, Owner::Free]
        );
        // Never handed out, and beyond the end.
        assert_eq!([192, 256].map(|page| map.index_of(page)), [Owner::Free, Owner::Unknown]);
        assert!(!map.is_stale(image.0.len() as u64) && map.is_stale(image.0.len() as u64 + 1));
        assert_eq!((map.page_at(PAGE as u64 * 3 + 1), map.page_size(), map.space_id()), (Some(3), 16384, 5));
    }
}

#[test]
fn an_index_that_the_server_names_otherwise_is_unknown() {
    let image = Image::new();
    let map =
        PageMap::read(image.0.as_slice(), Roots::Given(&[ROOTS[0], Root { page: 4, index: 9 }])).unwrap();
    assert_eq!([3, 4, 5].map(|page| map.index_of(page)), [Owner::Index(7), Owner::Unknown, Owner::Unknown]);
    assert!(map.is_stale(image.0.len() as u64));
}

#[test]
fn a_page_that_was_a_root_once_is_none() {
    let mut image = Image::new();
    let was: Vec<u8> = image.0[3 * PAGE..][66..94].to_vec();
    image.page(64, 17855);
    image.put(64, 66, &was);
    let map = PageMap::read(image.0.as_slice(), Roots::Given(&[Root { page: 64, index: 7 }])).unwrap();
    assert_eq!(map.index_of(64), Owner::Unknown);
}

#[test]
fn what_contradicts_itself_is_unknown() {
    let mut image = Image::new();
    // Page 5 is claimed by another segment too.
    image.put(2, 50 + 192 + 64, &5_u32.to_be_bytes());
    assert_eq!(image.map().index_of(5), Owner::Unknown);
    // A single page in an extent of another segment.
    image.put(2, 50 + 192 + 64, &u32::MAX.to_be_bytes());
    image.put(2, 50 + 3 * 192 + 64, &70_u32.to_be_bytes());
    assert_eq!([69, 70].map(|page| image.map().index_of(page)), [Owner::Index(7), Owner::Unknown]);
}

#[test]
fn of_what_was_flushed_at_different_times_the_later_is_believed() {
    let mut image = Image::new();
    image.put(2, 50 + 3 * 192 + 68, &7_u32.to_be_bytes());
    image.written(0, 10);
    assert_eq!(image.map().index_of(7), Owner::Free);
    image.written(2, 11);
    assert_eq!(image.map().index_of(7), Owner::Index(8));
}

#[test]
fn a_refresh_sees_what_came_and_keeps_what_cannot_be_read_now() {
    let mut image = Image::new();
    let mut map = image.map();
    image.extent(2, 4, 4);
    image.written(0, 12);
    map.refresh(image.0.as_slice(), Roots::InFile).unwrap();
    assert_eq!(map.index_of(130), Owner::Index(8));
    // Torn: another LSN before than behind, and what is between is not to be believed.
    image.put(2, 20, &99_u32.to_be_bytes());
    image.put(2, 50 + 192, &77_u64.to_be_bytes());
    map.refresh(image.0.as_slice(), Roots::InFile).unwrap();
    assert_eq!([3, 64, 130].map(|page| map.index_of(page)), [7, 7, 8].map(Owner::Index));
    image.put(0, 20, &99_u32.to_be_bytes());
    assert!(map.refresh(image.0.as_slice(), Roots::InFile).is_err());
    assert_eq!(map.index_of(130), Owner::Index(8));
}

#[test]
fn a_file_that_is_not_written_yet_says_so() {
    let empty = vec![0; 4 * PAGE];
    assert!(matches!(PageMap::read(empty.as_slice(), Roots::InFile), Err(InnodbError::Unwritten)));
    assert!(matches!(PageMap::read(&empty[..10], Roots::InFile), Err(InnodbError::Read(_))));
    let mut image = Image::new();
    image.put(0, 24, &[0, 1]);
    assert!(matches!(PageMap::read(image.0.as_slice(), Roots::InFile), Err(InnodbError::Foreign(_))));
}

#[test]
fn encrypted_and_compressed_pages_hide_the_index() {
    for flags in [16_u32 | 5 | 1 << 5, 1 << 13, 1 << 16] {
        let mut image = Image::new();
        image.put(0, 54, &flags.to_be_bytes());
        image.put(0, PAGE - 4, &9_u32.to_be_bytes());
        assert_eq!(image.map().index_of(64), Owner::Hidden, "{flags:x}");
    }
    let mut image = Image::new();
    // The key's version.
    image.put(2, 0, &1_u32.to_be_bytes());
    assert!(image.map().is_hidden());
}

#[test]
fn a_page_s_own_header_is_believed_if_it_is_of_this_page() {
    let image = Image::new();
    let map = image.map();
    let header = |page: usize, kind: u16| {
        let mut bytes: [u8; HEADER] = *image.0[page * PAGE..].first_chunk().unwrap();
        bytes[24..26].copy_from_slice(&kind.to_be_bytes());
        PageHeader::parse(&bytes, Dialect::MariaDb)
    };
    assert_eq!(header(4, 17855).kind, PageKind::Index { id: 8, level: 0 });
    assert_eq!(header(4, 18).kind, PageKind::Index { id: 8, level: 0 });
    assert_eq!(map.owner(4, &header(4, 17855)), Owner::Index(8));
    assert_eq!(map.owner(4, &header(3, 17855)), Owner::Index(8), "of another page");
    assert_eq!(map.owner(4, &header(4, 10)), Owner::Blob(8));
    assert_eq!(map.owner(4, &header(4, 9)), Owner::Bookkeeping);
    assert_eq!(map.owner(4, &header(4, 15)), Owner::Hidden);
    for sealed in [15, 34354, 0x8003] {
        assert_eq!(header(4, sealed).kind, PageKind::Hidden);
    }
    assert_eq!(Owner::Blob(8).index(), Some(8));
}

#[test]
fn a_short_file_that_claims_to_be_endless_costs_nothing() {
    let mut image = Image::new();
    image.put(0, 46, &u32::MAX.to_be_bytes());
    let map = image.map();
    assert_eq!(map.index_of(u32::try_from(PAGES).unwrap()), Owner::Unknown);
    assert!(map.bytes() < 10_000);
}

proptest! {
    #[test]
    fn whatever_a_file_says_nothing_panics_or_grows(
        changes in prop::collection::vec((prop::sample::select(vec![0_usize, 0, 2, 2, 3, 4]), 0_usize..1200, any::<u8>()), 0..60),
        cut in prop::option::of(0_usize..PAGES * PAGE),
    ) {
        let mut image = Image::new();
        for (page, at, byte) in changes {
            image.put(page, at, &[byte]);
        }
        image.0.truncate(cut.unwrap_or(usize::MAX));
        let mut kept = Image::new().map();
        drop(kept.refresh(image.0.as_slice(), Roots::Given(&ROOTS)));
        for map in PageMap::read(image.0.as_slice(), Roots::InFile).into_iter().chain([kept]) {
            for page in (0..400).chain([u32::MAX]) {
                let _: Owner = map.index_of(page);
            }
            prop_assert!(map.bytes() < 100_000);
        }
    }

    #[test]
    fn noise_is_no_tablespace(bytes in prop::collection::vec(any::<u8>(), 0..20_000)) {
        prop_assert!(PageMap::read(bytes.as_slice(), Roots::InFile).is_err());
        if let Some(head) = bytes.first_chunk() {
            let _: PageHeader = PageHeader::parse(head, Dialect::MySql);
        }
    }
}
