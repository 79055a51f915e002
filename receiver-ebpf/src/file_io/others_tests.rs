//! Tests of names and sums of everyone else.

use std::collections::BTreeMap;

use blameio_pipeline::metrics::PointTime;
use opentelemetry_proto::tonic::{
    common::v1::any_value::Value,
    metrics::v1::{metric::Data, number_data_point},
};

use super::*;

const TIME: PointTime = PointTime { start: 1, at: 2 };

fn row(command: &str, time_ns: u64) -> OtherRow {
    let other = Other::Command(command.to_owned());
    OtherRow { device: u32::MAX, other, by_kernel: false, time_ns, operations: 1, bytes: 1 }
}

/// Seconds by culprit; a series that has ended is `None`.
fn times(builder: Option<MetricsBuilder>) -> BTreeMap<String, Option<f64>> {
    let metrics = builder.map(|builder| builder.finish().scope_metrics).unwrap_or_default();
    let metrics = metrics.into_iter().flat_map(|scope| scope.metrics);
    let mut found = BTreeMap::new();
    for metric in metrics.filter(|metric| metric.name == "blameio.device.time") {
        let Some(Data::Sum(sum)) = metric.data else { continue };
        for point in sum.data_points {
            let culprit = point.attributes.iter().find(|attribute| attribute.key == BLAME_CULPRIT);
            let value = culprit.and_then(|attribute| attribute.value.clone()?.value);
            let Some(Value::StringValue(culprit)) = value else { continue };
            let seconds = match point.value {
                Some(number_data_point::Value::AsDouble(seconds)) if point.flags == 0 => Some(seconds),
                _ => None,
            };
            found.insert(culprit, seconds);
        }
    }
    found
}

#[test]
fn sums_go_on_when_a_row_comes_back() {
    let mut others = Others::new();
    let second = 1_000_000_000;
    let found = times(others.emit(&[row("tar", second)], &mut Leaves::default(), &Refresh::nothing(), TIME));
    assert_eq!(found, BTreeMap::from([("tar".to_owned(), Some(1.0))]));
    assert!(
        others.emit(&[row("tar", second)], &mut Leaves::default(), &Refresh::nothing(), TIME).is_none(),
        "nothing moved"
    );
    assert_eq!(
        times(others.emit(&[], &mut Leaves::default(), &Refresh::everything(), TIME))["tar"],
        Some(1.0),
        "swept"
    );
    assert_eq!(
        times(others.emit(&[row("tar", second / 2)], &mut Leaves::default(), &Refresh::nothing(), TIME))["tar"],
        Some(1.5)
    );
}

#[test]
fn a_device_has_few_culprits_and_the_rest_is_other() {
    let mut others = Others::new();
    let rows: Vec<_> = (0..100).map(|number| row(&format!("c{number}"), 10_000_000)).collect();
    let found = times(others.emit(&rows, &mut Leaves::default(), &Refresh::nothing(), TIME));
    assert_eq!(found.len(), MOST_CULPRITS + 1);
    let sum: f64 = found.values().flatten().sum();
    assert!((sum - 1.0).abs() < 1e-9, "{sum}");

    // What takes next to nothing gets no name.
    let mut others = Others::new();
    let found =
        times(others.emit(&[row("ls", LEAST_NS - 1)], &mut Leaves::default(), &Refresh::nothing(), TIME));
    assert_eq!(found.keys().collect::<Vec<_>>(), [OTHER]);
}

#[test]
fn a_name_that_is_idle_for_long_makes_room() {
    let mut others = Others::new();
    others.emit(&[row("tar", 10_000_000)], &mut Leaves::default(), &Refresh::nothing(), TIME);
    let mut ended = BTreeMap::new();
    for _ in 0..IDLE_COLLECTIONS {
        ended.extend(times(others.emit(&[], &mut Leaves::default(), &Refresh::nothing(), TIME)));
    }
    assert_eq!(ended, BTreeMap::from([("tar".to_owned(), None)]));
    assert!(others.culprits.is_empty());
}

#[test]
fn kernel_threads_are_told_by_their_brackets() {
    let mut cgroups = Cgroups::default();
    assert_eq!(name(&Other::Kernel("md0_resync".to_owned()), &mut cgroups), "[md0_resync]");
    assert_eq!(name(&Other::WriteBack, &mut cgroups), "(write-back)");
    assert_eq!(name(&Other::Cgroup(u64::MAX), &mut cgroups), format!("(cgroup {})", u64::MAX));
}
