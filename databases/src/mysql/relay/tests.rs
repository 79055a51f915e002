//! The reader against relay logs that servers wrote, and against rubbish.

use std::{collections::BTreeMap, fs, sync::Arc};

use proptest::prelude::*;

use super::{
    decoder::{Decoder, Stop},
    place::{Spot, Spots},
    *,
};
use crate::{
    mysql::{
        binlogs::{Binlogs, Place},
        catalog::MyDirectory,
    },
    work::{LogError, LogLook, LogPositions, ReadLog, Stretch, WorkOn},
};

/// Three relay logs of a replica that stood at the beginning of the first, at this place of its source's logs.
struct Recorded {
    files: [&'static [u8]; 3],
    source: (&'static str, u64),
    /// Where transactions end, in the first and the second log of the source, and the bytes of rows that they change by
    /// table, be they new or sought. By `SHOW RELAYLOG EVENTS` of the server that wrote it, and the statements that were run: an `int` has four
    /// bytes, and each row one for its NULLs.
    told: &'static [Transaction],
}

type Transaction = (u64, u64, &'static [(&'static str, u64)]);

macro_rules! recorded {
    ($name:literal) => {
        [
            include_bytes!(concat!("recorded/", $name, ".1")),
            include_bytes!(concat!("recorded/", $name, ".2")),
            include_bytes!(concat!("recorded/", $name, ".3")),
        ]
    };
}

const UMLAUT: &str = "fixture.mit \u{dc}mlaut sought";

const MARIADB: Recorded = Recorded {
    files: recorded!("mariadb-10.11"),
    source: ("log.000003", 1809),
    told: &[
        (0, 2166, &[("fixture.keyed", 90)]),
        (0, 2450, &[("fixture.keyless", 45)]),
        (0, 2711, &[("fixture.keyless sought", 36)]),
        (0, 3412, &[("fixture.keyed sought", 180), ("fixture.keyless sought", 9), (UMLAUT, 18)]),
        (0, 3690, &[("fixture.myisam", 15)]),
        (0, 3850, &[]),
        (0, 4063, &[("fixture.later", 5)]),
        // These two were compressed in the source's log.
        (0, 4330, &[("fixture.keyed sought", 180)]),
        (0, 4586, &[("fixture.keyed sought", 45)]),
        (1, 559, &[("fixture.keyed", 9)]),
    ],
};

const MYSQL: Recorded = Recorded {
    files: recorded!("mysql-9.7"),
    source: ("binlog.000002", 5767),
    told: &[
        (0, 6135, &[("fixture.keyed", 90)]),
        (0, 6460, &[("fixture.keyless", 45)]),
        (0, 6786, &[("fixture.keyless sought", 36)]),
        (0, 7470, &[("fixture.keyed sought", 180), ("fixture.keyless sought", 9), (UMLAUT, 18)]),
        (0, 7811, &[("fixture.myisam", 15)]),
        (0, 8021, &[]),
        (0, 8303, &[("fixture.later", 5)]),
        // This one is compressed, with all of its events.
        (0, 8609, &[]),
        (0, 8932, &[("fixture.keyed sought", 45)]),
        (1, 485, &[("fixture.keyed", 9)]),
    ],
};

/// A replica with such files, of which so many bytes are there.
struct Replica {
    directory: tempfile::TempDir,
    binlogs: Arc<Binlogs>,
    spots: Arc<Spots>,
    follower: Follower,
    source: Place,
}

impl Replica {
    fn new(recorded: &Recorded) -> Self {
        let source = Place::read(recorded.source.0, recorded.source.1).unwrap();
        let (binlogs, spots): (Arc<Binlogs>, Arc<Spots>) = Default::default();
        let follower = Follower::new(Arc::clone(&binlogs), Arc::clone(&spots), MyDirectory::default());
        let replica = Self { directory: tempfile::tempdir().unwrap(), binlogs, spots, follower, source };
        replica.stands("relay-bin.000001", 4, &replica.source.clone());
        replica
    }

    fn stands(&self, relay: &str, offset: u64, source: &Place) {
        let relay = Place::read(relay, offset).unwrap();
        self.spots.set(Some(Spot { relay, source: source.clone(), digits: 6, server_id: 1 }));
    }

    fn write(&self, number: usize, bytes: &[u8]) {
        fs::write(self.directory.path().join(format!("relay-bin.{number:06}")), bytes).unwrap();
    }

    fn number(&self, log: u64, offset: u64) -> u64 {
        let place = Place { number: self.source.number + log, offset, name: self.source.name.clone() };
        self.binlogs.number(1, &place)
    }

    fn look_at(&mut self, replayed: u64) -> Result<LogLook, LogError> {
        let positions = LogPositions { received: None, replayed: Some(replayed), timeline: Some(1) };
        self.follower.look(self.directory.path(), positions)
    }

    fn look(&mut self) -> LogLook {
        let replayed = self.binlogs.number(1, &self.source);
        self.look_at(replayed).unwrap()
    }
}

type Told = Vec<(u64, BTreeMap<String, u64>)>;

/// What stretches ask for, those of one transaction together.
fn read(stretches: impl IntoIterator<Item = Stretch>) -> Told {
    let mut told = Told::new();
    for Stretch { end, is_whole, continues, objects, .. } in stretches {
        assert!(is_whole);
        if !continues || told.is_empty() {
            told.push((end, BTreeMap::new()));
        }
        let (until, tables) = told.last_mut().unwrap();
        *until = end;
        for (object, work) in objects {
            let WorkOn::Table(table) = object else { panic!("{object:?} is no table") };
            assert_eq!((work.blocks, work.drops), (0, 0));
            assert!(work.sought == 0 || work.sought == work.bytes, "each transaction here does one thing");
            let sought = if work.sought > 0 { " sought" } else { "" };
            let name = format!("{}.{}{sought}", table.namespace, table.table);
            *tables.entry(name).or_default() += work.bytes;
        }
    }
    told
}

fn expected(recorded: &Recorded, replica: &Replica) -> Told {
    let tables = |tables: &[(&str, u64)]| {
        tables.iter().map(|(table, bytes)| ((*table).to_owned(), *bytes)).collect::<BTreeMap<_, _>>()
    };
    recorded.told.iter().map(|(log, end, told)| (replica.number(*log, *end), tables(told))).collect()
}

/// Without what only the head of the second log is: it changes nothing.
fn transactions(told: Told, ends: &Told) -> Told {
    told.into_iter()
        .filter(|(end, tables)| !tables.is_empty() || ends.iter().any(|(at, _)| at == end))
        .collect()
}

#[test]
fn each_transaction_asks_for_what_the_server_that_wrote_it_says() {
    for recorded in [&MARIADB, &MYSQL] {
        let mut replica = Replica::new(recorded);
        for (number, file) in (1..).zip(recorded.files) {
            replica.write(number, file);
        }
        let look = replica.look();
        let told = read(look.stretches);
        let expected = expected(recorded, &replica);
        assert_eq!(transactions(told, &expected), expected);
        let compressed = if recorded.source == MYSQL.source { 227 } else { 0 };
        assert_eq!((look.skipped, look.has_more), (compressed, false));
        assert!(replica.look().stretches.is_empty(), "nothing is read twice");
    }
}

#[test]
fn what_is_received_is_read_once_however_it_comes() {
    for recorded in [&MARIADB, &MYSQL] {
        for step in [1, 17, 200, 1999] {
            let mut replica = Replica::new(recorded);
            let mut stretches = Vec::new();
            for (number, file) in (1..).zip(recorded.files) {
                for end in (0..file.len()).step_by(step).chain([file.len()]) {
                    replica.write_on(number, &file[..end]);
                    stretches.extend(replica.look().stretches);
                }
            }
            let expected = expected(recorded, &replica);
            assert_eq!(transactions(read(stretches), &expected), expected, "{step}");
        }
    }
}

#[test]
fn reading_begins_where_the_applier_stands() {
    for (recorded, relay, from) in [(&MARIADB, 1744, 3), (&MYSQL, 2068, 3)] {
        let mut replica = Replica::new(recorded);
        for (number, file) in (1..).zip(recorded.files) {
            replica.write(number, file);
        }
        let (_, at, _) = recorded.told[from];
        let source = Place { offset: at, ..replica.source.clone() };
        replica.stands("relay-bin.000001", relay, &source);
        let look = replica.look();
        let expected = expected(recorded, &replica);
        assert_eq!(transactions(read(look.stretches), &expected), expected[from + 1..]);
    }
}

#[test]
fn relay_logs_that_begin_anew_are_read_from_where_the_applier_stands() {
    let mut replica = Replica::new(&MARIADB);
    replica.write(1, MARIADB.files[0]);
    assert!(!replica.look().stretches.is_empty());
    // The first log of the source again: the same transactions at the same place, in another file of that name.
    fs::remove_file(replica.directory.path().join("relay-bin.000001")).unwrap();
    assert!(replica.look().stretches.is_empty(), "and none before there is one");
    replica.write(1, MARIADB.files[0]);
    assert_eq!(read(replica.look().stretches).len(), 9);
}

#[test]
fn what_is_removed_while_it_is_behind_is_passed_over_and_what_follows_is_read() {
    let mut replica = Replica::new(&MARIADB);
    replica.write(1, &MARIADB.files[0][..1744]);
    assert_eq!(read(replica.look().stretches).len(), 4);
    fs::remove_file(replica.directory.path().join("relay-bin.000001")).unwrap();
    replica.write(3, MARIADB.files[2]);
    let source = Place { number: 4, offset: 4, name: "log".to_owned() };
    replica.stands("relay-bin.000003", 4, &source);
    let mut looks = vec![replica.look(), replica.look()];
    let skipped: u64 = looks.iter().map(|look| look.skipped).sum();
    assert!(skipped > 0, "{looks:?}");
    let expected = expected(&MARIADB, &replica);
    let told = looks.drain(..).flat_map(|look| read(look.stretches)).collect();
    assert_eq!(transactions(told, &expected), expected[9..]);
}

#[test]
fn reading_waits_for_the_applier() {
    let mut replica = Replica::new(&MARIADB);
    for (number, file) in (1..).zip(MARIADB.files) {
        replica.write(number, file);
    }
    let at = replica.number(0, 0);
    let far = at.saturating_sub(32 << 20);
    assert!(replica.look_at(far).unwrap().stretches.is_empty(), "it is more than 16 MiB behind");
    let expected = expected(&MARIADB, &replica);
    assert_eq!(transactions(read(replica.look_at(at).unwrap().stretches), &expected), expected);
}

#[test]
fn an_encrypted_log_is_told_as_such() {
    let mut replica = Replica::new(&MARIADB);
    replica.write(1, b"\xfdbin\0\0\0\0");
    let at = replica.number(0, 0);
    assert_eq!(replica.look_at(at), Err(LogError::Encrypted));
    // As MariaDB has it: an event after the format says so.
    let mut bytes = MARIADB.files[0][..256].to_vec();
    let mut start = vec![0; 19 + 17 + 4];
    (start[4], start[9]) = (164, 40);
    bytes.extend(start);
    replica.write(1, &bytes);
    assert_eq!(replica.look_at(at), Err(LogError::Encrypted));
}

#[test]
fn what_is_no_log_is_given_up_until_the_applier_has_passed_it() {
    let mut replica = Replica::new(&MARIADB);
    let mut bytes = MARIADB.files[0].to_vec();
    bytes[1241 + 9..1241 + 13].fill(0xff);
    replica.write(1, &bytes);
    assert_eq!(read(replica.look().stretches).len(), 4, "three and the beginning of the fourth");
    assert!(replica.look().stretches.is_empty());
    let source = Place { offset: 3412, ..replica.source.clone() };
    replica.stands("relay-bin.000001", 1744, &source);
    assert_eq!(read(replica.look().stretches).len(), 5);
}

impl Replica {
    /// Lets a file grow, as a server does.
    fn write_on(&self, number: usize, bytes: &[u8]) {
        let path = self.directory.path().join(format!("relay-bin.{number:06}"));
        let length = fs::metadata(&path).map_or(0, |file| file.len());
        let mut file = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        let new = &bytes[usize::try_from(length).unwrap()..];
        std::io::Write::write_all(&mut file, new).unwrap();
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_to_their_end(
        damage in prop::collection::vec((0usize..3600, any::<u8>()), 0..40),
        cut in 0usize..3600,
        is_mariadb: bool,
    ) {
        let recorded = if is_mariadb { &MARIADB } else { &MYSQL };
        let mut bytes = recorded.files[0].to_vec();
        for (at, byte) in damage {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let bytes = &bytes[..bytes.len().min(cut)];
        let binlogs = Binlogs::default();
        let number = |place: &Place| binlogs.number(1, place);
        let mut decoder = Decoder::new(Place::read(recorded.source.0, recorded.source.1).unwrap(), &number);
        let mut at = Decoder::open(bytes).unwrap_or(0);
        while let Some(rest) = bytes.get(at..) {
            match decoder.step(rest, rest.len() as u64, false, &number) {
                Ok(length) => at += usize::try_from(length).unwrap(),
                Err(Stop::Short | Stop::Rubbish | Stop::Encrypted) => break,
            }
        }
        let stretches = decoder.take(&number);
        prop_assert!(stretches.windows(2).all(|pair| pair[0].end <= pair[1].start));
        prop_assert!(stretches.iter().all(|stretch| stretch.start < stretch.end));
        let rows: u64 = stretches.iter().flat_map(|stretch| &stretch.objects).map(|(_, work)| work.bytes).sum();
        prop_assert!(rows <= bytes.len() as u64);
    }
}
