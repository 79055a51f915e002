//! What reached the disk goes out with file, role and disk. With real probes, of this very process.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking and says what it skips"
)]

use std::{
    fs::File,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
};

use blameio_pipeline::{
    ServerView, ThreadRole, WatchedProcess, WatchedServer,
    attribute::{DB_SYSTEM_NAME, FILE_INODE, SYSTEM_DEVICE, THREAD_ROLE},
    metrics::{attribute, integer_attribute, is_ended, number, number_points},
    signal::Metric,
};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;

use super::*;
use crate::Limits;

const SIZE: u64 = 256 * 1024;

fn identity() -> ServerIdentity {
    ServerIdentity {
        instance_id: uuid::Uuid::nil(),
        service_name: "orders".to_owned(),
        system: "postgresql",
        address: "localhost".to_owned(),
        port: 5432,
        host_name: "host".to_owned(),
        host_id: None,
    }
}

/// Value and disk of a metric's points of an inode, of the role `client`.
fn points(
    request: &ExportMetricsServiceRequest,
    metric: &Metric,
    inode: u64,
    direction: Option<&str>,
) -> Vec<(f64, Option<String>)> {
    let metrics =
        request.resource_metrics.iter().flat_map(|one| &one.scope_metrics).flat_map(|one| &one.metrics);
    let points = metrics.filter(|found| found.name == metric.name).flat_map(number_points);
    points
        .filter(|point| {
            integer_attribute(&point.attributes, FILE_INODE) == i64::try_from(inode).ok()
                && attribute(&point.attributes, THREAD_ROLE) == Some(ThreadRole::Client.as_str())
                && attribute(&point.attributes, DISK_IO_DIRECTION) == direction
        })
        .map(|point| {
            let disk = attribute(&point.attributes, SYSTEM_DEVICE).map(str::to_owned);
            (number(point).unwrap(), disk)
        })
        .collect()
}

/// Probes that watch this process. `None` where they cannot be loaded.
fn watched(test: &str) -> Option<(Probes, Watch)> {
    let mut probes = match Probes::load(&Limits::default()) {
        Ok(probes) => probes,
        Err(error) => {
            eprintln!("SKIPPED {test}: {error}");
            return None;
        }
    };
    let (publisher, server) = WatchedServer::new("database/orders".parse().unwrap());
    let process = WatchedProcess { pid: std::process::id(), role: ThreadRole::Client };
    publisher.publish(ServerView {
        identity: Some(Arc::new(identity())),
        processes: vec![process],
        ..ServerView::default()
    });
    let mut watch = Watch::new(vec![server]);
    watch.apply(&mut probes);
    Some((probes, watch))
}

/// Metric and attributes of the servers' series that are told of, and whether they have ended.
fn series(request: &ExportMetricsServiceRequest) -> HashSet<(String, String, bool)> {
    let servers = request.resource_metrics.iter().filter(|one| {
        one.resource
            .as_ref()
            .is_some_and(|resource| attribute(&resource.attributes, DB_SYSTEM_NAME).is_some())
    });
    let mut found = HashSet::new();
    for metric in servers.flat_map(|one| &one.scope_metrics).flat_map(|one| &one.metrics) {
        let mut add = |attributes: &[KeyValue], flags| {
            found.insert((metric.name.clone(), format!("{attributes:?}"), is_ended(flags)));
        };
        if let Some(Data::ExponentialHistogram(histogram)) = &metric.data {
            for point in &histogram.data_points {
                add(&point.attributes, point.flags);
            }
        }
        for point in number_points(metric) {
            add(&point.attributes, point.flags);
        }
    }
    found
}

#[test]
fn what_ends_is_the_series_that_was() {
    let Some((mut probes, watch)) = watched("what_ends_is_the_series_that_was") else { return };
    let mut file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    std::io::Write::write_all(&mut file, &[3; 8192]).unwrap();
    file.sync_all().unwrap();
    let mut emitter = Emitter::new(&"file_io".parse().unwrap());
    let live = series(&emitter.emit(&probes.snapshot().unwrap(), &watch, &mut probes));
    let ended = series(&emitter.end(&[], &watch));
    for metric in [&signal::FILE_IO, &signal::FILE_OPERATION_DURATION, &signal::FILE_DISK_IO] {
        assert!(live.iter().any(|(name, ..)| name == metric.name), "no {}: {live:?}", metric.name);
    }
    for (metric, attributes, _) in live {
        assert!(ended.contains(&(metric.clone(), attributes.clone(), true)), "{metric} {attributes} goes on");
    }
}

#[test]
fn what_reached_the_disk_goes_out_with_file_role_and_disk() {
    let Some((mut probes, watch)) = watched("what_reached_the_disk_goes_out_with_file_role_and_disk") else {
        return;
    };
    // On the working directory's disk: a temporary one may be memory.
    let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let file =
        File::options().create_new(true).read(true).write(true).open(directory.path().join("data")).unwrap();
    let inode = file.metadata().unwrap().ino();
    let mut bytes = vec![3; usize::try_from(SIZE).unwrap()];
    file.write_all_at(&bytes, 0).unwrap();
    file.sync_all().unwrap();
    nix::fcntl::posix_fadvise(&file, 0, 0, nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
    file.read_exact_at(&mut bytes, 0).unwrap();

    let mut emitter = Emitter::new(&"file_io".parse().unwrap());
    let request = emitter.emit(&probes.snapshot().unwrap(), &watch, &mut probes);
    assert_eq!(points(&request, &signal::FILE_DISK_IO, inode, Some("read")), [(SIZE as f64, None)]);
    assert_eq!(points(&request, &signal::FILE_DISK_IO, inode, Some("write")), [(SIZE as f64, None)]);
    let found = points(&request, &signal::DEVICE_TIME, inode, None);
    let [(seconds, Some(disk))] = &found[..] else { panic!("{found:?}") };
    assert!(*seconds > 0.0 && Path::new("/sys/block").join(disk).exists(), "{found:?}");
    let found = points(&request, &signal::DEVICE_OPERATIONS, inode, None);
    let [(operations, Some(_))] = &found[..] else { panic!("{found:?}") };
    assert!(*operations >= 3.0, "an fsync, its write-back and a read: {found:?}");

    // What did not move is not repeated.
    let request = emitter.emit(&probes.snapshot().unwrap(), &watch, &mut probes);
    assert!(points(&request, &signal::FILE_DISK_IO, inode, Some("read")).is_empty());
}

#[test]
fn a_row_that_was_swept_and_comes_back_has_a_new_start() {
    let mut clock = Clock::at(100);
    let mut last = None;
    let mut read = |count, ns, second| {
        let moment = clock.second(100 + second, second);
        let (now, moved) = Last::after(last.as_ref(), (count, ns), moment);
        last = Some(now);
        (moment.since(now.start).start, moved)
    };
    assert_eq!(read(3, 30, 10), (100, true));
    assert_eq!(read(3, 30, 20), (100, false));
    assert_eq!(read(4, 90, 30), (100, true));
    assert_eq!(read(1, 20, 40), (130, true), "it fell");
    assert_eq!(read(2, 20, 50), (130, true));
}
