//! The decoder against logs that servers wrote, and against rubbish.

use proptest::prelude::*;

use super::{record::Head, *};
use crate::postgresql::path::Fork;

/// A stretch of log as a server of this version wrote it, beside what that server's own `pg_walinspect` says of it.
struct Recorded {
    major: u32,
    bytes: &'static [u8],
    told: &'static str,
}

macro_rules! recorded {
    ($($major:literal),*) => {
        &[$(Recorded {
            major: $major,
            bytes: include_bytes!(concat!("recorded/", $major, ".wal")),
            told: include_str!(concat!("recorded/", $major, ".txt")),
        }),*]
    };
}

const RECORDED: &[Recorded] = recorded!(14, 16, 17, 18);

/// One record, as a line of the recorded text has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    start: u64,
    end: u64,
    blocks: Vec<String>,
    drops: Vec<String>,
}

impl Recorded {
    fn number(&self, name: &str) -> u64 {
        let mut words = self.told.split_ascii_whitespace();
        words.find(|word| *word == name).unwrap();
        u64::from_str_radix(words.next().unwrap(), 16).unwrap()
    }

    fn expected(&self) -> Vec<Line> {
        let list =
            |text: &str| text.split(',').filter(|item| *item != "-").map(str::to_owned).collect::<Vec<_>>();
        self.told
            .lines()
            .skip(1)
            .map(|line| {
                let words: Vec<_> = line.split(' ').collect();
                let position = |text| u64::from_str_radix(text, 16).unwrap();
                Line {
                    start: position(words[0]),
                    end: position(words[1]),
                    blocks: list(words[3]),
                    drops: list(words[4]),
                }
            })
            .collect()
    }

    fn decoder(&self) -> Decoder {
        Decoder::new(self.number("start"), self.number("segment"))
    }

    /// The recorded bytes from there on.
    fn from(&self, position: u64) -> &'static [u8] {
        &self.bytes[usize::try_from(position - self.number("page")).unwrap()..]
    }
}

fn line(record: Record<'_>) -> Line {
    let fork = |fork| match fork {
        Fork::Main => "main",
        Fork::Fsm => "fsm",
        Fork::Vm => "vm",
        Fork::Init => "init",
    };
    let locator = |at: Locator| format!("{}/{}/{}", at.tablespace, at.database, at.relfilenode);
    Line {
        start: record.start,
        end: record.end,
        blocks: record
            .blocks
            .iter()
            .map(|block| format!("{}/{}", locator(block.relation), fork(block.fork)))
            .collect(),
        drops: record
            .events
            .drops
            .iter()
            .map(|drop| {
                assert_eq!(drop.tablespace, 1663);
                format!("base/{}/{}", drop.database, drop.relfilenode)
            })
            .collect(),
    }
}

/// Feeds all of it, so many new bytes at a time.
fn decode(recorded: &Recorded, mut size: impl FnMut() -> usize) -> (Vec<Line>, Decoder) {
    let (mut decoder, mut lines) = (recorded.decoder(), Vec::new());
    let mut known = 0;
    while known < recorded.bytes.len() {
        known = recorded.bytes.len().min(known + size().max(1));
        let end = recorded.number("page") + known as u64;
        let Some(new) = end.checked_sub(decoder.position()) else { continue };
        let bytes = recorded.from(decoder.position());
        decoder.feed(&bytes[..usize::try_from(new).unwrap()], |record| lines.push(line(record)));
    }
    (lines, decoder)
}

#[test]
fn every_record_refers_to_what_the_server_that_wrote_it_says() {
    for recorded in RECORDED {
        let (lines, decoder) = decode(recorded, || usize::MAX / 2);
        assert_eq!(decoder.format().map(|format| format.major), Some(recorded.major));
        assert_eq!((decoder.lost(), decoder.position()), (0, recorded.number("end")), "{}", recorded.major);
        let expected = recorded.expected();
        if !expected.is_empty() {
            assert!(lines == expected, "{}", recorded.major);
        }
        assert!(lines.iter().map(|line| line.drops.len()).sum::<usize>() >= 10);
    }
}

#[test]
fn a_server_without_pg_walinspect_counts_as_many_records() {
    let recorded = &RECORDED[0];
    let (lines, _) = decode(recorded, || usize::MAX / 2);
    let counted = recorded.told.trim().rsplit_once(' ').unwrap().1;
    assert_eq!(lines.len(), counted.parse::<usize>().unwrap());
    // Ten rows, five and one; each heap block, and the index that is changed.
    let relations: std::collections::HashSet<_> = lines.iter().flat_map(|line| &line.blocks).collect();
    assert!(relations.len() > 20, "{relations:?}");
}

#[test]
fn reading_goes_on_at_the_first_record_of_any_page() {
    for recorded in RECORDED {
        let (all, _) = decode(recorded, || usize::MAX / 2);
        let (page, end) = (recorded.number("page"), recorded.number("end"));
        // The recording begins inside of its first page.
        for position in (page + 8192..end).step_by(8192) {
            let mut decoder = recorded.decoder();
            decoder.jump(position + 100);
            let mut lines = Vec::new();
            decoder.feed(recorded.from(position), |record| lines.push(line(record)));
            let first = all.iter().position(|line| line.start >= position).unwrap_or(all.len());
            assert!(lines == all[first..], "{} from {position:X}", recorded.major);
            assert_eq!(decoder.lost(), 0);
        }
    }
}

#[test]
fn what_another_timeline_has_instead_is_read_from_the_records_beginning() {
    let recorded = &RECORDED[1];
    let (all, _) = decode(recorded, || usize::MAX / 2);
    let crossing = all.iter().position(|line| line.start / 8192 != line.end / 8192).unwrap();
    let cut = all[crossing].start.next_multiple_of(8192) + 30;
    let (mut decoder, mut lines) = (recorded.decoder(), Vec::new());
    let page = recorded.number("page");
    decoder.feed(&recorded.bytes[..usize::try_from(cut - page).unwrap()], |record| lines.push(line(record)));
    assert!(lines == all[..crossing]);
    decoder.rewind();
    assert!(decoder.position() <= all[crossing].start);
    decoder.feed(recorded.from(decoder.position()), |record| lines.push(line(record)));
    assert!(lines == all);
    assert_eq!(decoder.lost(), 0);
}

#[test]
fn a_record_that_was_given_up_is_forgotten() {
    let recorded = &RECORDED[3];
    let (all, _) = decode(recorded, || usize::MAX / 2);
    let crossing = all.iter().position(|line| line.start / 8192 != line.end / 8192).unwrap();
    // The page on which it would go on says instead that it never will, and is empty.
    let at = all[crossing].start.next_multiple_of(8192) - recorded.number("page");
    let at = usize::try_from(at).unwrap();
    let mut bytes = recorded.bytes[..at + 24].to_vec();
    bytes[at + 2] = bytes[at + 2] & !1 | 8;
    bytes[at + 16..at + 20].fill(0);
    let mut decoder = recorded.decoder();
    let mut lines = Vec::new();
    decoder.feed(&bytes, |record| lines.push(line(record)));
    assert!(lines == all[..crossing]);
    assert_eq!((decoder.lost(), decoder.position()), (0, recorded.number("page") + bytes.len() as u64));
}

/// No decoder may hand out more than there was, or stand anywhere but in what it was fed.
fn feed_rubbish(decoder: &mut Decoder, bytes: &[u8]) -> usize {
    let (begun, mut records) = (decoder.position(), 0);
    decoder.feed(bytes, |record| {
        records += 1;
        assert!(record.start < record.end && record.blocks.len() <= 33);
        assert!(record.events.drops.len() <= bytes.len() / 12);
    });
    assert!((begun..=begun + bytes.len() as u64).contains(&decoder.position()));
    records
}

#[test]
#[ignore = "a measurement, for an optimized build; it promises nothing"]
fn bytes_decoded_a_second() {
    for recorded in RECORDED {
        let (begun, mut bytes, mut records) = (std::time::Instant::now(), 0, 0_u64);
        while begun.elapsed() < std::time::Duration::from_secs(1) {
            let mut counter = count::Counter::default();
            counter.go_on_at(recorded.number("start"));
            recorded.decoder().feed(recorded.bytes, |record| {
                records += 1;
                counter.add(&record);
            });
            bytes += recorded.bytes.len();
            assert!(!counter.take().is_empty());
        }
        let seconds = begun.elapsed().as_secs_f64();
        let rate = bytes as f64 / 1e6 / seconds;
        eprintln!("{}: {rate:.0} MB/s, {:.0} ns a record", recorded.major, seconds * 1e9 / records as f64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn it_does_not_matter_how_much_comes_at_a_time(which in 0_usize..4, sizes in proptest::collection::vec(1_usize..9000, 1..50)) {
        let recorded = &RECORDED[which];
        let mut sizes = sizes.into_iter().cycle();
        let (lines, decoder) = decode(recorded, || sizes.next().unwrap());
        prop_assert!(lines == decode(recorded, || usize::MAX / 2).0);
        prop_assert_eq!(decoder.lost(), 0);
    }

    #[test]
    fn any_bytes_are_read_or_passed_over(start in 0_u64..1 << 40, segment in 0_u64..1 << 31, bytes in proptest::collection::vec(any::<u8>(), 0..20_000)) {
        let mut decoder = Decoder::new(start, segment);
        feed_rubbish(&mut decoder, &bytes);
        // What is no page is lost with all that would follow on it.
        prop_assert!(bytes.len() < 24 || decoder.lost() > 0);
    }

    #[test]
    fn a_damaged_log_is_read_as_far_as_it_makes_sense(
        which in 0_usize..4,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 1_usize..40), 1..20),
        cut in any::<prop::sample::Index>(),
    ) {
        let recorded = &RECORDED[which];
        let mut bytes = recorded.bytes[..=cut.index(recorded.bytes.len())].to_vec();
        for (at, value, length) in damage {
            let at = at.index(bytes.len());
            let end = bytes.len().min(at + length);
            bytes[at..end].fill(value);
        }
        let mut decoder = recorded.decoder();
        feed_rubbish(&mut decoder, &bytes);
        decoder.rewind();
        let again = decoder.position() - recorded.number("page");
        feed_rubbish(&mut decoder, &bytes[usize::try_from(again).unwrap()..]);
    }

    #[test]
    fn what_records_say_of_relations_may_be_anything(
        manager in 0_u8..10,
        info in any::<u8>(),
        main in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut events = Events::default();
        events.read(&main, Head { length: 24, transaction: 1, previous: 0, info, manager });
        prop_assert!(events.drops.len() + events.locks.len() <= main.len() / 12);
        prop_assert!(events.parts.len() <= main.len() / 4);
    }
}

#[test]
fn a_truncated_table_locks_each_relation_before_it_makes_its_new_file() {
    for recorded in RECORDED {
        let mut told = Vec::new();
        recorded.decoder().feed(
            recorded.from(recorded.number("page")),
            |Record { transaction, events, .. }| {
                told.extend(events.locks.iter().map(|lock| (lock.transaction, "locks")));
                told.extend(events.made.map(|_| (transaction, "makes")));
                told.extend(events.has_ended.then_some((transaction, "ends")));
                told.extend(events.drops.iter().map(|_| (transaction, "drops")));
            },
        );
        // Of a table, its TOAST table, and that one's index.
        let expected =
            ["locks", "makes", "locks", "makes", "locks", "makes", "ends", "drops", "drops", "drops"];
        let is_it = |told: &[(u32, &str)]| {
            told.iter().map(|(_, what)| *what).eq(expected) && told.iter().all(|(by, _)| *by == told[0].0)
        };
        assert!(told.windows(expected.len()).any(is_it), "{}: {told:?}", recorded.major);
    }
}
