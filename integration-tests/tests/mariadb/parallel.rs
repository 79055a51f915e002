//! Workers that apply in parallel: what holds up all of them is named, whichever of them it is that waits.

use blameio::lab::{
    Culprit, Limit,
    mariadb::{MariaOptions, MariaUpdates},
};

use super::{
    LAG, RATE, READ_IOPS, UNKNOWN,
    scene::{Scene, can_run},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_parallel_workers_that_read_a_cold_index_it_owes_the_lag() {
    if !can_run("of_parallel_workers_that_read_a_cold_index_it_owes_the_lag") {
        return;
    }
    let replica = vec!["--slave-parallel-threads=4", "--slave-parallel-mode=optimistic"];
    let scene = Scene::build_with(MariaOptions { replica, ..MariaOptions::default() }).await;
    let workload = scene.lab.start_workload(MariaUpdates::orders(), RATE).await.expect("a workload");
    scene.warm_up().await;
    let since = scene.recorder.ticks().len();
    scene.lab.limit(Limit::reads(READ_IOPS)).expect("limited");
    scene.wait_for_lag(LAG).await;
    let culprit = Culprit::of("replay").table("orders").index("reference");
    let verdict = scene.judge("cold index, parallel workers", since, &culprit);
    assert!(verdict.right_first >= 0.95 && verdict.unknown <= UNKNOWN, "{verdict:?}");
    assert!(verdict.strangers.is_empty(), "{verdict:?}");
    scene.lab.limit(Limit::default()).expect("healed");
    workload.stop().await.expect("the workload ran");
    scene.wait_in_step().await;
    scene.end().await;
}
