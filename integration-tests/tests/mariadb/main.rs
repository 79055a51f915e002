//! A `MariaDB` replica whose lag has one known cause: who does the agent name? On real servers, a real disk, a real kernel.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking, and prints what it measured and what it skips"
)]

mod keyless;
mod pages;
mod parallel;
mod rivals;
mod scene;
mod stalls;

use std::time::Duration;

use blameio::lab::{
    Culprit, Limit,
    mariadb::{MariaOptions, MariaUpdates},
};
use scene::{Scene, can_run};

/// Changes a second.
const RATE: u32 = 200;
/// Reads a second that the replica gets: a new order needs one.
const READ_IOPS: u64 = 40;
/// Most of the lag that may be owed to nobody: what the applier waits for inside the server, as for a free page of the
/// buffer pool, has no name yet.
const UNKNOWN: f64 = 0.15;
/// Lag at which a cause is judged.
const LAG: f64 = 5.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_does_not_fit_into_memory_owes_the_lag_that_its_reads_make() {
    if !can_run("an_index_that_does_not_fit_into_memory_owes_the_lag_that_its_reads_make") {
        return;
    }
    let scene = Scene::build().await;
    let workload = scene.lab.start_workload(MariaUpdates::orders(), RATE).await.expect("a workload");
    scene.warm_up().await;
    let since = scene.recorder.ticks().len();
    scene.lab.limit(Limit::reads(READ_IOPS)).expect("limited");
    scene.wait_for_lag(LAG).await;
    let verdict = scene.judge("cold index", since, &Culprit::of("replay").table("orders").index("reference"));
    assert!(verdict.right_first >= 0.95 && verdict.unknown <= UNKNOWN, "{verdict:?}");
    assert!(verdict.strangers.is_empty(), "{verdict:?}");
    scene.lab.limit(Limit::default()).expect("healed");
    workload.stop().await.expect("the workload ran");
    scene.wait_in_step().await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_injection_nobody_is_named() {
    if !can_run("without_an_injection_nobody_is_named") {
        return;
    }
    let scene = Scene::build_with(MariaOptions::small()).await;
    let workload = scene.lab.start_workload(MariaUpdates::customers(), RATE).await.expect("a workload");
    let since = scene.recorder.ticks().len();
    let mut ticks = 0;
    let enough = scene
        .recorder
        .wait_for(Duration::from_mins(1), |_| {
            ticks += 1;
            ticks >= 20
        })
        .await;
    assert!(enough, "the agent stopped measuring");
    let verdict = scene.control(since);
    assert!(verdict.worst_sum_error <= 0.01 && verdict.strangers.is_empty(), "{verdict:?}");
    assert!(verdict.peak < 1.0, "nothing was injected: {verdict:?}");
    workload.stop().await.expect("the workload ran");
    scene.end().await;
}
