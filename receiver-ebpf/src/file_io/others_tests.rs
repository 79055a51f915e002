//! Tests of names and sums of everyone else.

use std::collections::BTreeMap;

use blameio_pipeline::{
    attribute::HOST_NAME,
    machine::{host_name, host_resource},
    metrics::{attribute, number, number_points},
};
use opentelemetry_proto::tonic::metrics::v1::NumberDataPoint;

use super::*;
use crate::file_io::clock::Clock;

fn row(command: &str, time_ns: u64) -> OtherRow {
    let other = Other::Command(command.to_owned());
    OtherRow { device: u32::MAX, other, by_kernel: false, time_ns, operations: 1, bytes: 1 }
}

/// The points of the time on devices.
fn emit(others: &mut Others, rows: &[OtherRow], refresh: &Refresh, moment: Moment) -> Vec<NumberDataPoint> {
    let mut builder = MetricsBuilder::new(host_resource(&"file_io".parse().unwrap()), "test");
    others.emit(rows, &mut Leaves::default(), refresh, moment, &mut builder);
    let metrics = builder.finish().scope_metrics.into_iter().flat_map(|scope| scope.metrics);
    let metrics = metrics.filter(|metric| metric.name == signal::DEVICE_TIME.name);
    metrics.flat_map(|metric| number_points(&metric).to_vec()).collect()
}

/// Seconds by culprit; a series that has ended is `None`.
fn times(others: &mut Others, rows: &[OtherRow], refresh: &Refresh) -> BTreeMap<String, Option<f64>> {
    let points = emit(others, rows, refresh, Clock::at(1).second(2, 1));
    let culprit = |point: &NumberDataPoint| attribute(&point.attributes, BLAME_CULPRIT).unwrap().to_owned();
    points.iter().map(|point| (culprit(point), number(point))).collect()
}

#[test]
fn sums_go_on_when_a_row_comes_back() {
    let mut others = Others::new();
    let second = 1_000_000_000;
    let found = times(&mut others, &[row("tar", second)], &Refresh::nothing());
    assert_eq!(found, BTreeMap::from([("tar".to_owned(), Some(1.0))]));
    assert!(times(&mut others, &[row("tar", second)], &Refresh::nothing()).is_empty(), "nothing moved");
    assert_eq!(times(&mut others, &[], &Refresh::everything())["tar"], Some(1.0), "swept");
    assert_eq!(times(&mut others, &[row("tar", second / 2)], &Refresh::nothing())["tar"], Some(1.5));
}

#[test]
fn a_device_has_few_culprits_and_the_rest_is_other() {
    let mut others = Others::new();
    let rows: Vec<_> = (0..100).map(|number| row(&format!("c{number}"), 10_000_000)).collect();
    let found = times(&mut others, &rows, &Refresh::nothing());
    assert_eq!(found.len(), MOST_CULPRITS + 1);
    let sum: f64 = found.values().flatten().sum();
    assert!((sum - 1.0).abs() < 1e-9, "{sum}");

    // What takes next to nothing gets no name.
    let mut others = Others::new();
    let found = times(&mut others, &[row("ls", LEAST_NS - 1)], &Refresh::nothing());
    assert_eq!(found.keys().collect::<Vec<_>>(), [OTHER]);
}

#[test]
fn a_name_that_is_idle_for_long_makes_room() {
    let mut others = Others::new();
    times(&mut others, &[row("tar", 10_000_000)], &Refresh::nothing());
    let mut ended = BTreeMap::new();
    for _ in 0..IDLE_COLLECTIONS {
        ended.extend(times(&mut others, &[], &Refresh::nothing()));
    }
    assert_eq!(ended, BTreeMap::from([("tar".to_owned(), None)]));
    assert!(others.culprits.is_empty());
}

#[test]
fn a_name_that_comes_back_has_a_new_start() {
    let mut others = Others::new();
    let mut clock = Clock::at(1_000);
    let mut second = |others: &mut Others, at: u64, rows: &[OtherRow]| {
        let points = emit(others, rows, &Refresh::nothing(), clock.second(1_000 + at, at));
        points.first().map(|point| (number(point), point.start_time_unix_nano, point.time_unix_nano))
    };
    assert_eq!(second(&mut others, 1, &[row("tar", 10_000_000)]), Some((Some(0.01), 1_000, 1_001)));
    let idle = u64::from(IDLE_COLLECTIONS);
    let ended = (2..=idle + 1).find_map(|at| second(&mut others, at, &[row("tar", 10_000_000)]));
    assert_eq!(ended, Some((None, 1_000, 1_001 + idle)));
    let back = second(&mut others, idle + 2, &[row("tar", 30_000_000)]);
    assert_eq!(back, Some((Some(0.02), 1_001 + idle, 1_002 + idle)));
}

#[test]
fn points_of_a_device_name_their_host() {
    let points =
        emit(&mut Others::new(), &[row("tar", 10_000_000)], &Refresh::nothing(), Clock::at(1).second(2, 1));
    assert_eq!(attribute(&points[0].attributes, HOST_NAME), Some(host_name()));
}

#[test]
fn kernel_threads_are_told_by_their_brackets() {
    let mut cgroups = Cgroups::default();
    assert_eq!(name(&Other::Kernel("md0_resync".to_owned()), &mut cgroups), "[md0_resync]");
    assert_eq!(name(&Other::WriteBack, &mut cgroups), "(write-back)");
    assert_eq!(name(&Other::Cgroup(u64::MAX), &mut cgroups), format!("(cgroup {})", u64::MAX));
}
