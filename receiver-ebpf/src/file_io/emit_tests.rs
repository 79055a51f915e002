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
    attribute::{FILE_INODE, SYSTEM_DEVICE, THREAD_ROLE},
    metrics::{attribute, integer_attribute, number, number_points},
    signal::Metric,
};

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

#[test]
fn what_reached_the_disk_goes_out_with_file_role_and_disk() {
    let mut probes = match Probes::load(&Limits::default()) {
        Ok(probes) => probes,
        Err(error) => {
            eprintln!("SKIPPED what_reached_the_disk_goes_out_with_file_role_and_disk: {error}");
            return;
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

    let mut emitter = Emitter::new(SystemTime::now());
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
