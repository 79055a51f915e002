//! The same on PostgreSQL 18, whose queries read through processes of their own.

use std::time::Duration;

use blameio::lab::{Binaries, Culprit, Lab, LabOptions, Scan, Schema, Updates, Verdict};
use blameio_integration_tests::scene::{DEADLINE, Scene, SceneOptions, can_run};

use super::{LAG, scene_of};

/// The scene, when this machine has the server.
async fn scene(test: &str, needs_slow_disk: bool) -> Option<Scene> {
    if !can_run(test, needs_slow_disk) {
        return None;
    }
    let binaries = match Binaries::version(18) {
        Ok(binaries) => binaries,
        Err(error) => {
            eprintln!("SKIPPED {test}: {error}; `scripts/setup test` fetches it through npm");
            return None;
        }
    };
    let options = SceneOptions::default();
    let schema = Schema::default().with_archive("archive", 64, 2);
    let lab = LabOptions { binaries: Some(binaries.dir().to_owned()), schema, ..options.lab };
    Some(scene_of(SceneOptions { lab, ..options }).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_18_replays_own_reads_are_told_from_those_of_the_io_workers() {
    let test = "on_18_replays_own_reads_are_told_from_those_of_the_io_workers";
    let Some(mut scene) = scene(test, true).await else { return };
    scene.lab.keep_cold(&["archive_p0", "archive_p1"]).await.expect("cold");
    let scan = Scan::start(&scene.lab.replica().dsn(), "archive", 2).await.expect("a scan");
    let by_worker = || {
        let bytes = scene.recorder.bytes();
        let workers = bytes.iter().filter(|((table, _, role, operation), _)| {
            table == "archive" && role == "io_worker" && operation == "read"
        });
        workers.map(|(_, bytes)| bytes).sum::<f64>()
    };
    let seen = scene.recorder.wait_for(DEADLINE, |_| by_worker() > f64::from(8 << 20)).await;
    assert!(seen, "no reads of io workers: {:?}", scene.recorder.bytes());
    scan.stop().await.expect("the scan ran");
    let workload = scene.lab.start_workload(&Updates::orders(), Lab::RATE).await.expect("a workload");
    scene.warm_up().await;
    let since = scene.recorder.ticks().len();
    scene.lab.inject_cold_index().await.expect("an injection");
    scene.wait_for_lag(LAG).await;
    let culprit = Culprit::of("replay").table("orders").index(Schema::COLD_INDEX);
    let judged = scene.verdict("cold index on 18", since, &culprit);
    scene.print_baselines().await;
    scene.lab.heal().expect("healed");
    scene.wait_in_step().await;
    judged.hold();
    workload.stop().await.expect("the workload ran");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_18_nobody_is_named_for_nothing_and_a_held_lock_is_named() {
    let test = "on_18_nobody_is_named_for_nothing_and_a_held_lock_is_named";
    let Some(scene) = scene(test, false).await else { return };
    let workload = scene.lab.start_workload(&Updates::orders(), Lab::RATE).await.expect("a workload");
    scene.warm_up().await;
    let control = scene.recorder.ticks().len();
    let enough = scene
        .recorder
        .wait_for(Duration::from_mins(1), |_| scene.recorder.ticks().len() >= control + 10)
        .await;
    assert!(enough, "the agent stopped measuring");
    let verdict = Verdict::of(&scene.ticks_since(control), None);
    println!("control on 18: {verdict:?}");
    assert!(verdict.worst_sum_error <= 0.01, "{verdict:?}");
    assert!(verdict.strangers.is_empty(), "{verdict:?}");
    let since = scene.recorder.ticks().len();
    let lock = scene.lab.hold_lock("orders").await.expect("a lock");
    scene.wait_for_lag(LAG).await;
    scene.judge("held lock on 18", since, &Culprit::of("lock").table("orders"));
    let holder = i64::from(lock.backend());
    let holders = scene.recorder.holders();
    assert!(holders.contains(&holder), "{holder} is not among {holders:?}");
    lock.release().await.expect("released");
    scene.wait_in_step().await;
    workload.stop().await.expect("the workload ran");
    scene.end().await;
}
