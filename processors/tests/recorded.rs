//! Both processors, driven by batches alone: raw kernel points and lag measurements in, blame out.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use blameio_config::{Decode, Diagnostics, Path, parse};
use blameio_databases::{CatalogReader, FileKind, Object};
use blameio_pipeline::{
    Batch, Processor, ServerIdentity,
    attribute::{
        BLAME_CAUSE, DB_INDEX, DB_NAMESPACE, DB_TABLE, FILE_DEVICE, FILE_GENERATION, FILE_INODE, FILE_PATH,
        IO_OPERATION, LAG_FRESHNESS, LAG_SOURCE, RELNAME, REPLICATION_CHANNEL, THREAD_ID, THREAD_ROLE,
        THREAD_STATE,
    },
    metrics::{MetricsBuilder, PointTime, attribute, is_ended, key_value, number, number_points},
    signal::{self, Metric},
};
use blameio_processors::{
    db_resolver::{Catalogs, DbResolver, DbResolverSettings},
    lag_attribution::{LagAttribution, LagAttributionSettings},
};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::KeyValue,
    metrics::v1::{NumberDataPoint, ResourceMetrics},
};
use uuid::Uuid;

const SECOND: u64 = 1_000_000_000;
const BEGAN: u64 = 1_700_000_000 * SECOND;

fn identity() -> ServerIdentity {
    ServerIdentity {
        instance_id: Uuid::from_u128(7),
        service_name: "replica".into(),
        system: "postgresql",
        address: "db7".into(),
        port: 5432,
        host_name: "db7".into(),
        host_id: None,
    }
}

fn object(table: &str, index: Option<&str>, kind: FileKind) -> Object {
    Object {
        database: "shop".into(),
        schema: "public".into(),
        namespace: "shop|public".into(),
        table: table.into(),
        index: index.map(Into::into),
        partition: None,
        kind,
    }
}

fn settings<T: Decode>(yaml: &str) -> T {
    T::decode(&parse(yaml).unwrap(), &Path::root(), &mut Diagnostics::new()).unwrap()
}

/// The two processors in a row.
struct Road {
    resolver: DbResolver,
    attribution: LagAttribution,
}

impl Road {
    fn new(resolver: &str) -> Self {
        let catalog = CatalogReader::recorded(vec![
            ("base/5/100".into(), object("orders", None, FileKind::Heap)),
            ("base/5/101".into(), object("orders", Some("orders_cold_idx"), FileKind::Index)),
        ]);
        let catalogs = Catalogs::Recorded(BTreeMap::from([(identity().instance_id.to_string(), catalog)]));
        Self {
            resolver: DbResolver::new(catalogs, &settings::<DbResolverSettings>(resolver)),
            attribution: LagAttribution::new(&settings::<LagAttributionSettings>("")),
        }
    }

    fn pass(&mut self, resource: ResourceMetrics) -> Vec<ResourceMetrics> {
        let batch = Batch::metrics(ExportMetricsServiceRequest { resource_metrics: vec![resource] });
        self.resolver
            .process(batch)
            .unwrap()
            .into_iter()
            .flat_map(|batch| self.attribution.process(batch).unwrap())
            .flat_map(|batch| batch.into_metrics().unwrap().resource_metrics)
            .collect()
    }
}

fn file(inode: i64, path: &str) -> Vec<KeyValue> {
    vec![
        key_value(FILE_DEVICE, "8:1"),
        key_value(FILE_INODE, inode),
        key_value(FILE_GENERATION, 1_i64),
        key_value(FILE_PATH, path),
    ]
}

/// State, file (inode and path) where the state has one, and cumulative seconds.
type TimeRow = (&'static str, Option<(i64, &'static str)>, f64);

/// Cumulative thread time after some seconds.
fn thread_time(second: u64, rows: &[TimeRow]) -> ResourceMetrics {
    let mut builder = MetricsBuilder::new(identity().resource(), "recorded");
    let time = PointTime { start: BEGAN, at: BEGAN + second * SECOND + 3_000_000 };
    for (state, of, seconds) in rows {
        let mut attributes = of.map(|(inode, path)| file(inode, path)).unwrap_or_default();
        attributes.extend([
            key_value(THREAD_ID, 4242_i64),
            key_value(THREAD_ROLE, "apply"),
            key_value(THREAD_STATE, *state),
        ]);
        builder.point(&signal::THREAD_TIME, *seconds, attributes, time);
    }
    builder.finish()
}

fn lag(second: u64, lag: f64, applied: i64) -> ResourceMetrics {
    let mut builder = MetricsBuilder::new(identity().resource(), "recorded");
    let time = PointTime { start: BEGAN, at: BEGAN + second * SECOND };
    let channel = || key_value(REPLICATION_CHANNEL, "");
    builder.point(&signal::REPLICATION_LAG, lag, vec![channel()], time);
    builder.point(&signal::REPLICATION_APPLIED, applied, vec![channel()], time);
    let info = vec![channel(), key_value(LAG_SOURCE, "primary"), key_value(LAG_FRESHNESS, "fresh")];
    builder.point(&signal::REPLICATION_INFO, 1_i64, info, time);
    builder.finish()
}

fn points(resources: &[ResourceMetrics], metric: &Metric) -> Vec<NumberDataPoint> {
    resources
        .iter()
        .flat_map(|resource| &resource.scope_metrics)
        .flat_map(|scope| &scope.metrics)
        .filter(|found| found.name == metric.name)
        .flat_map(number_points)
        .cloned()
        .collect()
}

fn blame(resources: &[ResourceMetrics], cause: &str, index: Option<&str>) -> f64 {
    points(resources, &signal::LAG_BLAME)
        .iter()
        .filter(|point| {
            attribute(&point.attributes, BLAME_CAUSE) == Some(cause)
                && attribute(&point.attributes, DB_INDEX) == index
        })
        .filter_map(number)
        .sum()
}

#[test]
fn reads_of_a_file_become_seconds_owed_by_its_index_and_sum_to_the_lag() {
    let mut road = Road::new("");
    for second in 0..10_u64 {
        let read = second as f64 * 0.9;
        let rows = [("read", Some((101, "data/base/5/101.1")), read), ("cpu", None, second as f64 - read)];
        // The kernel's reading comes after the lag's, and by a few milliseconds later.
        let early = road.pass(lag(second, second as f64 * 0.8, 1000));
        assert!(
            points(&early, &signal::REPLICATION_LAG).is_empty(),
            "nothing is issued before both are there"
        );
        let out = road.pass(thread_time(second, &rows));
        let lags = points(&out, &signal::REPLICATION_LAG);
        assert_eq!(lags.len(), 1);
        let rows = points(&out, &signal::LAG_BLAME);
        let sum: f64 = rows.iter().filter_map(number).sum();
        assert!((sum - second as f64 * 0.8).abs() < 1e-9);
        assert!(
            rows.iter().all(|row| row.time_unix_nano == lags[0].time_unix_nano),
            "one tick has one timestamp"
        );
        if second == 9 {
            assert!(blame(&out, "replay", Some("orders_cold_idx")) > 0.85 * 7.2, "{rows:?}");
            let row = rows.iter().find(|row| attribute(&row.attributes, DB_INDEX).is_some()).unwrap();
            assert_eq!(attribute(&row.attributes, DB_TABLE), Some("orders"));
            assert_eq!(attribute(&row.attributes, DB_NAMESPACE), Some("shop|public"));
        }
    }
}

#[test]
fn a_file_that_nobody_knows_enlarges_unknown_and_no_table() {
    let mut road = Road::new("");
    for second in 0..8_u64 {
        let rows = [("read", Some((77, "srv/backup.tar")), second as f64)];
        road.pass(lag(second, second as f64, 1000));
        let out = road.pass(thread_time(second, &rows));
        assert!((blame(&out, "unknown", None) - second as f64).abs() < 1e-9);
    }
}

#[test]
fn without_the_kernels_eyes_the_lag_is_still_accounted_for() {
    let mut road = Road::new("");
    let mut issued = Vec::new();
    for second in 0..8_u64 {
        issued.extend(road.pass(lag(second, second as f64, 1000)));
    }
    let lags = points(&issued, &signal::REPLICATION_LAG);
    assert!(lags.len() >= 6, "a lag does not wait for ever: {}", lags.len());
    for point in lags {
        let rows = points(&issued, &signal::LAG_BLAME);
        let same = rows.iter().filter(|row| row.time_unix_nano == point.time_unix_nano);
        let sum: f64 = same.filter_map(number).sum();
        assert!((sum - number(&point).unwrap()).abs() < 1e-9);
    }
    assert_eq!(blame(&issued, "replay", None), 0.0);
}

fn bytes(path_inode: i64, path: &str, value: i64, second: u64) -> ResourceMetrics {
    let mut builder = MetricsBuilder::new(identity().resource(), "recorded");
    let mut attributes = file(path_inode, path);
    attributes.extend([key_value(THREAD_ROLE, "client"), key_value(IO_OPERATION, "read")]);
    let time = PointTime { start: BEGAN, at: BEGAN + second * SECOND };
    builder.point(&signal::FILE_IO, value, attributes, time);
    builder.finish()
}

#[test]
fn segments_of_one_object_are_summed_and_a_counter_that_starts_anew_loses_nothing() {
    let mut road = Road::new("join_labels: true");
    road.pass(bytes(1, "base/5/100", 1000, 1));
    road.pass(bytes(2, "base/5/100.1", 500, 2));
    let out = road.pass(bytes(1, "base/5/100", 200, 3));
    let rows = points(&out, &signal::FILE_IO);
    assert_eq!(rows.len(), 1);
    assert_eq!(number(&rows[0]), Some(1700.0));
    assert_eq!(attribute(&rows[0].attributes, RELNAME), Some("orders"));
    assert_eq!(attribute(&rows[0].attributes, FILE_PATH), None);
}

#[test]
fn what_does_not_fit_under_the_limit_is_counted_in_other() {
    let mut road = Road::new("max_series: 10");
    let mut last = Vec::new();
    for n in 0..50 {
        last.extend(road.pass(bytes(n, &format!("srv/file{n}"), 100, 1)));
    }
    let names: std::collections::BTreeSet<_> = points(&last, &signal::FILE_IO)
        .iter()
        .map(|row| format!("{:?}", attribute(&row.attributes, FILE_PATH)))
        .collect();
    assert!(names.len() <= 11, "{names:?}");
    let rows = points(&last, &signal::FILE_IO);
    let other = rows.iter().rfind(|row| attribute(&row.attributes, DB_TABLE) == Some("(other)")).unwrap();
    assert_eq!(number(other), Some(4000.0));
}

#[test]
fn at_the_limit_what_rests_makes_room_for_what_moves() {
    let mut road = Road::new("max_series: 10");
    for n in 1000..1050 {
        road.pass(bytes(n, &format!("srv/file{n}"), 100, 1));
    }
    let out = road.pass(bytes(1, "base/5/100", 7, 100));
    let rows = points(&out, &signal::FILE_IO);
    let of = |table: &str| {
        rows.iter().find(|row| attribute(&row.attributes, DB_TABLE) == Some(table) && !is_ended(row.flags))
    };
    assert_eq!(of("orders").and_then(number), Some(7.0), "{rows:?}");
    // What rests is not counted a second time, and comes back only when it moves.
    assert_eq!(of("(other)").and_then(number), Some(4000.0), "{rows:?}");
    let ended = rows.iter().filter(|row| is_ended(row.flags)).count();
    assert_eq!(ended, 10, "what made room is ended: {rows:?}");
    let again = points(&road.pass(bytes(1000, "srv/file1000", 100, 101)), &signal::FILE_IO);
    assert!(
        again.iter().all(|row| attribute(&row.attributes, FILE_PATH) != Some("srv/file1000")),
        "{again:?}"
    );
}

#[test]
fn a_row_that_leaves_the_top_is_ended() {
    let mut road = Road::new("");
    road.attribution = LagAttribution::new(&settings::<LagAttributionSettings>("top_k: 1"));
    let mut ended = Vec::new();
    for second in 0..40_u64 {
        // The index first, the heap later.
        let early = second.min(10) as f64;
        let late = second.saturating_sub(10) as f64;
        let rows =
            [("read", Some((101, "data/base/5/101")), early), ("read", Some((100, "data/base/5/100")), late)];
        road.pass(lag(second, second.min(10) as f64, 1000));
        let out = road.pass(thread_time(second, &rows));
        ended.extend(points(&out, &signal::LAG_BLAME).into_iter().filter(|row| is_ended(row.flags)));
    }
    let index = ended.iter().find(|row| attribute(&row.attributes, DB_INDEX) == Some("orders_cold_idx"));
    assert!(index.is_some(), "{ended:?}");
}

#[test]
fn a_server_that_is_promoted_ends_its_lag_and_its_blame() {
    let mut road = Road::new("");
    for second in 0..5_u64 {
        road.pass(lag(second, second as f64, 1000));
        road.pass(thread_time(second, &[("cpu", None, second as f64)]));
    }
    let mut builder = MetricsBuilder::new(identity().resource(), "recorded");
    let time = PointTime { start: 0, at: BEGAN + 5 * SECOND };
    builder.ended(&signal::REPLICATION_LAG, vec![key_value(REPLICATION_CHANNEL, "")], time);
    let out = road.pass(builder.finish());
    let lags = points(&out, &signal::REPLICATION_LAG);
    assert!(lags.len() == 1 && is_ended(lags[0].flags), "{lags:?}");
    let rows = points(&out, &signal::LAG_BLAME);
    assert!(rows.len() >= 2 && rows.iter().all(|row| is_ended(row.flags)), "{rows:?}");
}
