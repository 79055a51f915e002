//! The disk would do for replay alone, and others keep it busy: queries of the same server, of another server, and a
//! process that is no database. Before it, replay reads as much and is in step: what a read costs alone is learned.

use blameio::lab::{Culprit, LabOptions, Limit, Rival, Scan, Schema, Storage, Updates};
use blameio_integration_tests::scene::{Judged, Scene, SceneOptions, can_run};

use super::{LAG, scene_of};

/// Cold pages that replay needs in a second: a quarter of what the disk gives.
const READS: u32 = 100;
const DISK: Limit = Limit { read_iops: Some(400), read_bps: None, write_iops: None };
/// What the other disk gives, in bytes a second: ten times what replay needs.
const BANDWIDTH: Limit = Limit { read_iops: None, read_bps: Some(8 << 20), write_iops: None };
const SESSIONS: u32 = 8;
const ARCHIVE: &str = "archive";

fn options(storage: Storage) -> SceneOptions {
    let options = SceneOptions::default();
    let schema = Schema::default().with_archive(ARCHIVE, 160, SESSIONS);
    SceneOptions { lab: LabOptions { schema, storage, ..options.lab }, ..options }
}

fn slow() -> Storage {
    LabOptions::default().storage
}

/// Replay reads cold pages of an index and keeps in step.
async fn reading_in_step(scene: &mut Scene, limit: Limit) -> blameio::lab::Workload {
    let parts = (0..SESSIONS).map(|n| format!("{ARCHIVE}_p{n}"));
    let cold: Vec<_> = parts.chain([Schema::COLD_INDEX.to_owned()]).collect();
    scene.lab.keep_cold(&cold).await.expect("cold");
    scene.lab.limit(limit).expect("limited");
    let workload = scene.lab.start_workload(&Updates::new_orders(), READS).await.expect("a workload");
    scene.warm_up().await;
    scene.wait_in_step().await;
    scene.warm_up().await;
    let ticks = scene.ticks_since(0);
    let before = ticks.last().expect("ticks");
    assert!(before.lag < 0.5, "the disk does not do for replay alone: {before:?}");
    workload
}

/// Sessions for a scan that the agent has had time to see: what a process is for is known a second after its start.
async fn connected(scene: &Scene, dsn: &str) -> Scan {
    let scan = Scan::connect(dsn, ARCHIVE, SESSIONS).await.expect("sessions");
    scene.warm_up().await;
    scan
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_that_read_another_table_owe_the_lag_that_they_make() {
    if !can_run("queries_that_read_another_table_owe_the_lag_that_they_make", true) {
        return;
    }
    let mut scene = scene_of(options(slow())).await;
    let workload = reading_in_step(&mut scene, DISK).await;
    let scan = connected(&scene, &scene.lab.replica().dsn()).await;
    let since = scene.recorder.ticks().len();
    scan.begin();
    scene.wait_for_lag(LAG).await;
    let culprit = Culprit::of("contention").table(ARCHIVE).role("client");
    let judged = scene.verdict("competing scan", since, &culprit);
    scan.stop().await.expect("the scan ran");
    scene.print_baselines().await;
    // Without the scan the same work makes no lag: it was the scan.
    scene.wait_in_step().await;
    judged.hold();
    workload.stop().await.expect("the workload ran");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_no_database_is_named_by_its_cgroup_or_its_command() {
    let test = "a_process_that_is_no_database_is_named_by_its_cgroup_or_its_command";
    if !can_run(test, true) {
        return;
    }
    let LabOptions { storage: Storage::Slow { bytes }, .. } = LabOptions::default() else {
        panic!("the usual storage is slow");
    };
    let mut scene = scene_of(options(Storage::Shared { bytes })).await;
    if !scene.lab.throttle().is_some_and(blameio::lab::Throttle::leaves_unified_alone) {
        eprintln!(
            "SKIPPED {test}: the limit of a cgroup of version 2 does not reach processes outside of it"
        );
        return scene.end().await;
    }
    let file = scene.lab.disk().expect("a disk").path().join("backup");
    Rival::file(&file, 256).expect("a file");
    let workload = reading_in_step(&mut scene, BANDWIDTH).await;
    let group = format!("/{}", scene.lab.rival_group());
    let mut all = Vec::new();
    for (own_group, who) in [(true, group.as_str()), (false, "dd")] {
        let since = scene.recorder.ticks().len();
        let rival = scene.lab.start_rival(&file, own_group).expect("a rival");
        scene.wait_for_lag(LAG).await;
        let culprit = Culprit::of("contention").rival(who);
        all.push(scene.verdict("foreign process", since, &culprit));
        scene.print_baselines().await;
        drop(rival);
        scene.wait_in_step().await;
    }
    all.iter().for_each(Judged::hold);
    workload.stop().await.expect("the workload ran");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_server_on_the_same_device_is_named_by_its_service_and_table() {
    if !can_run("another_server_on_the_same_device_is_named_by_its_service_and_table", true) {
        return;
    }
    let mut scene = scene_of(SceneOptions { second: true, ..options(slow()) }).await;
    let second = scene.lab.replicas()[1].dsn();
    let workload = reading_in_step(&mut scene, DISK).await;
    let scan = connected(&scene, &second).await;
    let since = scene.recorder.ticks().len();
    scan.begin();
    scene.wait_for_lag(LAG).await;
    let culprit = Culprit::of("contention").rival("second").table(ARCHIVE).role("client");
    let judged = scene.verdict("another server", since, &culprit);
    scan.stop().await.expect("the scan ran");
    scene.print_baselines().await;
    judged.hold();
    workload.stop().await.expect("the workload ran");
    scene.end().await;
}
