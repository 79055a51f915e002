//! A table without a primary key: its rows are looked for by reading it, which takes a processor and no disk.

use blameio::lab::{
    Culprit,
    mariadb::{MariaOptions, MariaUpdates, visits},
};

use super::{
    LAG,
    scene::{Scene, can_run},
};

/// Statements a second that each change twenty rows of the table.
const RATE: u32 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_without_a_primary_key_owes_the_cpu_that_looking_for_its_rows_takes() {
    if !can_run("a_table_without_a_primary_key_owes_the_cpu_that_looking_for_its_rows_takes") {
        return;
    }
    let mut options = MariaOptions::small();
    options.setup.extend(visits());
    let scene = Scene::build_with(options).await;
    // More than six times as many rows of a table with a key.
    let decoy = scene.lab.start_workload(MariaUpdates::ranges_of_customers(), 25).await.expect("a workload");
    scene.warm_up().await;
    let since = scene.recorder.ticks().len();
    let workload = scene.lab.start_workload(MariaUpdates::visits(), RATE).await.expect("a workload");
    scene.wait_for_lag(LAG).await;
    workload.stop().await.expect("the workload ran");
    let culprit = Culprit::of("cpu").table("visits").rival("no primary key");
    let verdict = scene.judge("missing primary key", since, &culprit);
    assert!(verdict.right_first >= 0.95 && verdict.unknown <= 0.05, "{verdict:?}");
    // Without it there is no lag: all of it is owed by it.
    assert!(verdict.share >= 0.9 && verdict.strangers.is_empty(), "{verdict:?}");
    decoy.stop().await.expect("the workload ran");
    scene.wait_in_step().await;
    scene.end().await;
}
