//! Both processors, driven by batches alone: raw kernel points and lag measurements in, blame out.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod road;

use blameio_pipeline::{
    attribute::{
        BLAME_CAUSE, BLAME_CULPRIT, DB_INDEX, DB_NAMESPACE, DB_TABLE, DISK_IO_DIRECTION, FILE_PATH,
        IO_OPERATION, RELNAME, REPLICATION_CHANNEL, SYSTEM_DEVICE, THREAD_ROLE, WORK_KIND, WORK_STAGE,
    },
    metrics::{MetricsBuilder, PointTime, attribute, is_ended, key_value, number},
    signal,
};
use blameio_processors::lag_attribution::{LagAttribution, LagAttributionSettings};
use opentelemetry_proto::tonic::metrics::v1::{NumberDataPoint, ResourceMetrics};
use road::{BEGAN, Road, SECOND, file, identity, lag, points, settings, thread_time};

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
fn at_the_limit_the_busier_takes_the_place_of_who_rests_and_nothing_is_counted_twice() {
    let mut road = Road::new("max_series: 10");
    for n in 1000..1050 {
        road.pass(bytes(n, &format!("srv/file{n}"), 100, 1));
    }
    // What it did before it had a row of its own is in (other), and stays there.
    let out = road.pass(bytes(1, "base/5/100", 900, 100));
    let of = |rows: &[NumberDataPoint], table: &str| {
        let live = |row: &&NumberDataPoint| !is_ended(row.flags);
        let found = rows.iter().filter(live).find(|row| attribute(&row.attributes, DB_TABLE) == Some(table));
        found.map(|row| (number(row).unwrap(), row.start_time_unix_nano))
    };
    let rows = points(&out, &signal::FILE_IO);
    assert_eq!(of(&rows, "(other)").unwrap().0, 4900.0, "{rows:?}");
    let ended: Vec<_> = rows.iter().filter(|row| is_ended(row.flags)).collect();
    assert_eq!(ended.len(), 1, "who makes room is ended: {rows:?}");
    let left = attribute(&ended[0].attributes, FILE_PATH).unwrap().to_owned();
    let rows = points(&road.pass(bytes(1, "base/5/100", 907, 101)), &signal::FILE_IO);
    assert_eq!(of(&rows, "orders"), Some((7.0, BEGAN + 101 * SECOND)), "{rows:?}");
    // Who left comes back only when it is busy again; what rests is not counted a second time.
    let inode: i64 = left.trim_start_matches("srv/file").parse().unwrap();
    let rows = points(&road.pass(bytes(inode, &left, 100, 102)), &signal::FILE_IO);
    assert!(rows.iter().all(|row| attribute(&row.attributes, FILE_PATH) != Some(&left)), "{rows:?}");
    let rows = points(&road.pass(bytes(inode, &left, 103, 103)), &signal::FILE_IO);
    assert_eq!(of(&rows, "(other)").unwrap().0, 4903.0, "{rows:?}");
}

#[test]
fn a_row_that_leaves_the_top_is_ended() {
    let mut road = Road::new("");
    road.attribution =
        LagAttribution::new(&settings::<LagAttributionSettings>("top_k: 1\nstate_directory: \"\""));
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

fn work(path: &str, stage: &str, items: i64, second: u64) -> ResourceMetrics {
    let mut builder = MetricsBuilder::new(identity().resource(), "recorded");
    let attributes = vec![
        key_value(FILE_PATH, path),
        key_value(REPLICATION_CHANNEL, ""),
        key_value(WORK_STAGE, stage),
        key_value(WORK_KIND, "block"),
    ];
    let time = PointTime { start: BEGAN, at: BEGAN + second * SECOND };
    builder.point(&signal::REPLICATION_WORK, items, attributes, time);
    builder.finish()
}

#[test]
fn work_in_the_log_is_named_by_its_path_and_keeps_stage_kind_and_channel() {
    let mut road = Road::new("");
    road.pass(work("base/5/101", "received", 30, 1));
    let rows = points(&road.pass(work("base/5/101", "received", 70, 2)), &signal::REPLICATION_WORK);
    assert_eq!(rows.len(), 1, "{rows:?}");
    let text = |key| attribute(&rows[0].attributes, key);
    assert_eq!((text(DB_TABLE), text(DB_INDEX)), (Some("orders"), Some("orders_cold_idx")));
    assert_eq!((text(WORK_STAGE), text(WORK_KIND)), (Some("received"), Some("block")));
    assert_eq!((text(REPLICATION_CHANNEL), text(FILE_PATH)), (Some(""), None));
    assert_eq!(number(&rows[0]), Some(70.0));
}

#[test]
fn work_of_an_object_has_all_its_stages_or_none() {
    let mut road = Road::new("max_series: 20");
    let mut rows = Vec::new();
    for second in 1..60 {
        for n in 0..30 {
            for stage in ["received", "applied"] {
                let items = i64::try_from(second * (n + 1)).unwrap();
                let out = road.pass(work(&format!("srv/base/9/{n}x"), stage, items, second));
                rows.extend(points(&out, &signal::REPLICATION_WORK));
            }
        }
    }
    let mut stages = std::collections::BTreeMap::new();
    for row in &rows {
        let path = attribute(&row.attributes, FILE_PATH).unwrap_or("(other)").to_owned();
        let stage = attribute(&row.attributes, WORK_STAGE).unwrap().to_owned();
        let count = stages.entry(path).or_insert_with(std::collections::BTreeMap::new);
        *count.entry(stage).or_insert(0_usize) += 1;
        assert!(number(row).is_none_or(|items| items >= 0.0));
    }
    assert!(stages.values().all(|stages| stages.len() == 2), "{stages:?}");
    // Two objects of twenty series; those that were busiest in the end are there.
    let last: std::collections::BTreeSet<_> = rows
        .iter()
        .filter(|row| row.time_unix_nano == BEGAN + 59 * SECOND && !is_ended(row.flags))
        .filter_map(|row| attribute(&row.attributes, FILE_PATH))
        .collect();
    assert_eq!(last.len(), 2, "{last:?}");
}

#[test]
fn bytes_at_the_device_keep_their_direction_and_what_is_of_no_file_passes_untouched() {
    let mut road = Road::new("");
    let mut builder = MetricsBuilder::new(identity().resource(), "recorded");
    let time = PointTime { start: BEGAN, at: BEGAN + SECOND };
    for (direction, bytes) in [("read", 8192_i64), ("write", 4096)] {
        let mut attributes = file(1, "base/5/100");
        attributes.extend([key_value(THREAD_ROLE, "client"), key_value(DISK_IO_DIRECTION, direction)]);
        builder.point(&signal::FILE_DISK_IO, bytes, attributes, time);
    }
    let stranger = vec![key_value(SYSTEM_DEVICE, "vda"), key_value(BLAME_CULPRIT, "fio")];
    builder.point(&signal::DEVICE_TIME, 0.5, stranger.clone(), time);
    let out = road.pass(builder.finish());
    let rows = points(&out, &signal::FILE_DISK_IO);
    let of = |direction| {
        rows.iter()
            .find(|row| attribute(&row.attributes, DISK_IO_DIRECTION) == Some(direction))
            .and_then(number)
    };
    assert_eq!((of("read"), of("write")), (Some(8192.0), Some(4096.0)), "{rows:?}");
    let rows = points(&out, &signal::DEVICE_TIME);
    assert_eq!(rows.len(), 1);
    assert_eq!((&rows[0].attributes, rows[0].start_time_unix_nano), (&stranger, BEGAN));
}
