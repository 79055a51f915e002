//! The account of work, without a server.

use std::collections::BTreeMap;

use blameio_databases::postgresql::{
    path::Fork,
    wal::{BlockReference, Locator},
};
use blameio_pipeline::metrics::attribute;
use proptest::prelude::*;

use super::*;

fn file(relfilenode: u32) -> WorkOn {
    let relation = Locator { tablespace: 1663, database: 5, relfilenode };
    WorkOn::File(BlockReference { relation, fork: Fork::Main })
}

fn blocks(blocks: u64) -> Work {
    Work { blocks, ..Work::default() }
}

fn look(stretches: Vec<Stretch>) -> LogLook {
    let format = Some(LogFormat { major: 15, catalog: 202_209_061 });
    LogLook { stretches, format, ..LogLook::default() }
}

fn stretch(start: u64, end: u64, objects: Vec<(WorkOn, Work)>) -> Stretch {
    Stretch { start, end, is_whole: false, continues: false, objects }
}

/// What is told, by stage and path; series that ended are gone.
#[derive(Default)]
struct Told(BTreeMap<(String, String, String), i64>);

impl Told {
    /// Takes points and returns how many there were.
    fn take(&mut self, points: Vec<WorkPoint>) -> usize {
        let count = points.len();
        for WorkPoint { attributes, value, .. } in points {
            let text = |key| attribute(&attributes, key).unwrap_or_default().to_owned();
            let key = (text(WORK_STAGE), text(WORK_KIND), text(FILE_PATH));
            match value {
                Some(value) => {
                    let before = self.0.insert(key.clone(), value);
                    assert!(before < Some(value), "{key:?} only grows, and is only told when it did");
                }
                None => assert!(self.0.remove(&key).is_some(), "only what was told ends: {key:?}"),
            }
        }
        count
    }

    fn get(&self, stage: &str, kind: &str, path: &str) -> i64 {
        self.0.get(&(stage.to_owned(), kind.to_owned(), path.to_owned())).copied().unwrap_or(0)
    }

    fn sum(&self, stage: &str) -> i64 {
        self.0.iter().filter(|((of, ..), _)| of == stage).map(|(_, value)| value).sum()
    }
}

fn ledger(now: Instant) -> Ledger {
    Ledger::new(Uuid::nil(), now, SystemTime::UNIX_EPOCH)
}

#[test]
fn work_is_applied_as_replay_passes_it() {
    let now = Instant::now();
    let (mut ledger, mut told) = (ledger(now), Told::default());
    ledger.received(look(vec![stretch(100, 200, vec![(file(7), blocks(10)), (file(8), blocks(1))])]), now);
    ledger.applied(150, now);
    told.take(ledger.points(now, SystemTime::UNIX_EPOCH));
    let path = "base/5/7";
    assert_eq!((told.get("received", "block", path), told.get("applied", "block", path)), (10, 5));
    ledger.applied(200, now);
    assert_eq!(told.take(ledger.points(now, SystemTime::UNIX_EPOCH)), 2);
    assert_eq!((told.sum("received"), told.sum("applied")), (11, 11));
    assert_eq!(told.take(ledger.points(now, SystemTime::UNIX_EPOCH)), 0, "nothing changed");
}

#[test]
fn a_record_that_removes_many_is_not_half_applied() {
    let now = Instant::now();
    let (mut ledger, mut told) = (ledger(now), Told::default());
    let drops = (0..100).map(|number| (file(number), Work { drops: 1, ..Work::default() })).collect();
    let whole = Stretch { is_whole: true, ..stretch(100, 200, drops) };
    ledger.received(look(vec![whole]), now);
    ledger.applied(199, now);
    told.take(ledger.points(now, SystemTime::UNIX_EPOCH));
    assert_eq!((told.sum("received"), told.sum("applied")), (100, 0));
    ledger.applied(200, now);
    told.take(ledger.points(now, SystemTime::UNIX_EPOCH));
    assert_eq!(told.get("applied", "drop", "base/5/42"), 1);
}

#[test]
fn too_many_files_are_told_as_one_row_without_a_path_and_busy_ones_get_a_row() {
    let mut now = Instant::now();
    let (mut ledger, mut told) = (ledger(now), Told::default());
    let of = |from, to| (from..to).map(|number| (file(number), blocks(1))).collect::<Vec<_>>();
    ledger.received(look(vec![stretch(0, 10, of(0, 10_000))]), now);
    assert!(told.take(ledger.points(now, SystemTime::UNIX_EPOCH)) <= MOST_ROWS + 1);
    assert_eq!((told.get("received", "block", ""), told.sum("received")), (8000, 10_000));
    ledger.applied(10, now);
    ledger.received(look(vec![stretch(10, 20, vec![(file(90_000), blocks(500))])]), now);
    told.take(ledger.points(now, SystemTime::UNIX_EPOCH));
    assert_eq!(told.get("received", "block", "base/5/90000"), 0);
    ledger.applied(20, now);
    now += EXCHANGE;
    told.take(ledger.points(now, SystemTime::UNIX_EPOCH));
    ledger.received(look(vec![stretch(20, 30, vec![(file(90_000), blocks(500))])]), now);
    told.take(ledger.points(now, SystemTime::UNIX_EPOCH));
    assert_eq!(told.get("received", "block", "base/5/90000"), 500);
    assert!(ledger.of_object.len() <= MOST_ROWS && ledger.candidates.len() <= MOST_CANDIDATES);
}

#[test]
fn rows_that_rest_for_an_hour_are_ended_but_not_while_their_work_is_pending() {
    let mut now = Instant::now();
    let (mut ledger, mut told) = (ledger(now), Told::default());
    let two = vec![stretch(0, 10, vec![(file(1), blocks(1))]), stretch(10, 20, vec![(file(2), blocks(1))])];
    ledger.received(look(two), now);
    ledger.applied(10, now);
    told.take(ledger.points(now, SystemTime::UNIX_EPOCH));
    now += IDLE + EXCHANGE;
    told.take(ledger.points(now, SystemTime::UNIX_EPOCH));
    assert_eq!(told.get("received", "block", "base/5/1"), 0);
    assert_eq!(told.get("received", "block", "base/5/2"), 1);
    told.take(ledger.finish(now, SystemTime::UNIX_EPOCH).0);
    assert_eq!(told.0.len(), 0, "a server that is no replica has no work");
    assert_eq!(told.take(ledger.points(now, SystemTime::UNIX_EPOCH)), 0);
}

#[test]
fn an_endless_lag_takes_no_endless_memory() {
    let now = Instant::now();
    let (mut ledger, mut told) = (ledger(now), Told::default());
    let mut end = 0;
    for round in 0..3000_u32 {
        let files = (0..500).map(|number| (file((round * 37 + number * 11) % 5000), blocks(3))).collect();
        ledger.received(look(vec![stretch(end, end + 65_536, files)]), now);
        end += 65_536;
        assert!(ledger.counts + ledger.pending.len() <= MOST_COUNTS + 600);
    }
    ledger.applied(end / 2, now);
    told.take(ledger.points(now, SystemTime::UNIX_EPOCH));
    let half = told.sum("applied") as f64 / told.sum("received") as f64;
    assert!((0.45..=0.55).contains(&half), "{half}");
    ledger.applied(end, now);
    told.take(ledger.points(now, SystemTime::UNIX_EPOCH));
    assert_eq!((told.sum("applied"), told.sum("received")), (4_500_000, 4_500_000));
}

fn table(name: &str) -> Arc<Object> {
    Arc::new(Object {
        database: "shop".to_owned(),
        schema: String::new(),
        namespace: "shop".to_owned(),
        table: name.to_owned(),
        index: None,
        partition: None,
        kind: blameio_databases::FileKind::Heap,
    })
}

fn transaction(start: u64, end: u64, continues: bool, tables: &[(&str, u64)]) -> Stretch {
    let rows = |(name, bytes): &(&str, u64)| {
        (WorkOn::Table(table(name)), Work { bytes: *bytes, sought: *bytes, ..Work::default() })
    };
    Stretch { start, end, is_whole: true, continues, objects: tables.iter().map(rows).collect() }
}

/// Milliseconds by table and key.
fn times(points: &[TimePoint]) -> BTreeMap<(String, String), Option<u128>> {
    let text = |point: &TimePoint, key| attribute(&point.attributes, key).unwrap_or_default().to_owned();
    let value = |point: &TimePoint| {
        let time = point.value.map(|seconds| Duration::from_secs_f64(seconds + 5e-4));
        time.map(|time| time.as_millis())
    };
    points
        .iter()
        .map(|point| ((text(point, DB_TABLE), text(point, "blameio.table.key")), value(point)))
        .collect()
}

fn key(table: &str, key: &str) -> (String, String) {
    (table.to_owned(), key.to_owned())
}

#[test]
fn a_transaction_that_comes_in_parts_is_one_and_its_tables_have_their_bytes() {
    let now = Instant::now();
    let (mut ledger, mut told) = (ledger(now), Told::default());
    let parts = [
        transaction(100, 200, false, &[("orders", 10), ("lines", 5)]),
        transaction(200, 300, true, &[("orders", 10)]),
    ];
    for part in parts {
        ledger.received(look(vec![part]), now);
    }
    ledger.applied(250, now);
    let points = ledger.points(now, SystemTime::UNIX_EPOCH);
    let orders =
        points.iter().find(|point| attribute(&point.attributes, DB_TABLE) == Some("orders")).unwrap();
    assert_eq!(attribute(&orders.attributes, DB_NAMESPACE), Some("shop"));
    told.take(
        points.into_iter().filter(|point| attribute(&point.attributes, DB_TABLE) == Some("orders")).collect(),
    );
    assert_eq!((told.get("received", "row", ""), told.get("applied", "row", "")), (20, 0), "it is not over");
    ledger.applied(300, now);
    let applied: i64 =
        ledger.points(now, SystemTime::UNIX_EPOCH).iter().filter_map(|point| point.value).sum();
    assert_eq!(applied, 25);
}

#[test]
fn time_is_that_of_the_transaction_that_is_being_applied_though_its_log_is_read_later() {
    let mut now = Instant::now();
    let mut ledger = ledger(now);
    ledger.received(look(vec![transaction(0, 100, false, &[("small", 1000)])]), now);
    let mut sample = |ledger: &mut Ledger, position| {
        now += Duration::from_millis(20);
        ledger.sample(now, position);
        now
    };
    // What was before the first sample is not known; 20 ms each follow.
    for position in [None, Some(0), Some(100), Some(100), Some(100), None, Some(200), Some(300)] {
        sample(&mut ledger, position);
    }
    let now = sample(&mut ledger, None);
    ledger.applied(300, now);
    let found = times(&ledger.times(now, SystemTime::UNIX_EPOCH));
    assert_eq!(found, BTreeMap::from([(key("small", ""), Some(20))]), "nothing else was read yet");
    let late = [
        transaction(100, 200, false, &[("slow", 3), ("big", 9)]),
        transaction(200, 300, false, &[]),
        transaction(300, 400, false, &[("small", 1)]),
        transaction(400, 500, false, &[("slow", 1), ("big", 250)]),
    ];
    assert!(ledger.wants_keys(now));
    ledger.received(look(late.into()), now);
    ledger.applied(300, now);
    let found = times(&ledger.times(now, SystemTime::UNIX_EPOCH));
    let told = [(key("slow", ""), 15), (key("big", ""), 45), (key("", ""), 20), (key("small", ""), 40)];
    assert_eq!(found, told.map(|(key, time)| (key, Some(time))).into());
    assert!(ledger.wants_keys(now));
    ledger.keys(Some(vec![table("slow").as_ref().clone()]), now);
    assert!(!ledger.wants_keys(now));
    let now = now + Duration::from_millis(100);
    ledger.sample(now, Some(400));
    ledger.applied(400, now);
    let found = times(&ledger.times(now, SystemTime::UNIX_EPOCH));
    // Of 1,251 parts it has 1,001.
    let told = [(key("slow", "none"), 80), (key("big", ""), 65)];
    assert_eq!(found, told.map(|(key, time)| (key, Some(time))).into());
    assert!(ledger.wants_keys(now + Duration::from_mins(11)));
    // That a table has no key is told when log of it comes, before any time is; of rows that are added it is no matter.
    ledger.keys(Some(vec![table("slow").as_ref().clone(), table("next").as_ref().clone()]), now);
    ledger.received(look(vec![transaction(500, 600, false, &[("next", 1)])]), now);
    let added = Work { bytes: 9, ..Work::default() };
    let objects = vec![(WorkOn::Table(table("slow")), added)];
    ledger.received(look(vec![Stretch { objects, ..transaction(600, 700, false, &[]) }]), now);
    ledger.sample(now + Duration::from_millis(30), Some(600));
    ledger.applied(600, now);
    let found = times(&ledger.times(now, SystemTime::UNIX_EPOCH));
    let told = [(key("next", "none"), 0), (key("slow", ""), 45)];
    assert_eq!(found, told.map(|(key, time)| (key, Some(time))).into());
    let (_, ended) = ledger.finish(now, SystemTime::UNIX_EPOCH);
    assert!(ended.len() == 6 && ended.iter().all(|point| point.value.is_none()));
}

#[test]
fn where_the_log_is_not_read_time_is_nobodys_and_takes_no_endless_memory() {
    let mut now = Instant::now();
    let mut ledger = ledger(now);
    ledger.received(look(vec![transaction(0, 1, false, &[("first", 1)])]), now);
    for position in 0..2000 {
        now += Duration::from_millis(20);
        ledger.sample(now, Some(position));
        ledger.applied(position, now);
    }
    let found = times(&ledger.times(now, SystemTime::UNIX_EPOCH));
    assert!(found[&key("", "")] >= Some(20 * 1490), "{found:?}");
}

proptest! {
    #[test]
    fn what_is_applied_never_exceeds_what_was_received_and_ends_equal(
        steps in proptest::collection::vec((1_u64..1000, 0_u32..3000, 1_u64..50, 0_u64..2000), 1..200),
    ) {
        let mut now = Instant::now();
        let (mut ledger, mut told) = (ledger(now), Told::default());
        let (mut end, mut replayed) = (0, 0);
        for (length, relfilenode, count, replay) in steps {
            let files = vec![(file(relfilenode), blocks(count)), (file(0), Work { blocks: 1, drops: 1, ..Work::default() })];
            ledger.received(look(vec![stretch(end, end + length, files)]), now);
            end += length;
            replayed += replay;
            now += Duration::from_secs(7);
            ledger.applied(replayed, now);
            told.take(ledger.points(now, SystemTime::UNIX_EPOCH));
            for ((stage, kind, path), applied) in &told.0 {
                prop_assert!(stage != "applied" || *applied <= told.get("received", kind, path));
            }
        }
        ledger.applied(end, now);
        told.take(ledger.points(now, SystemTime::UNIX_EPOCH));
        prop_assert_eq!(told.sum("received"), told.sum("applied"));
        prop_assert_eq!(ledger.counts, 0);
    }
}
