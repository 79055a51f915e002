//! Something stands in replay's way: a lock, a query, a pause, the link.

use blameio::lab::{Culprit, Lab, Updates};
use blameio_integration_tests::scene::can_run;

use super::{LAG, scene};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_lock_owes_the_lag_with_its_relation_and_holder() {
    if !can_run("a_held_lock_owes_the_lag_with_its_relation_and_holder", false) {
        return;
    }
    let scene = scene().await;
    let workload = scene.lab.start_workload(&Updates::customers(), Lab::RATE).await.expect("a workload");
    scene.warm_up().await;
    let since = scene.recorder.ticks().len();
    let lock = scene.lab.hold_lock("orders").await.expect("a lock");
    scene.wait_for_lag(LAG).await;
    let culprit = Culprit::of("lock").table("orders");
    scene.judge("held lock", since, &culprit);
    scene.print_baselines().await;
    let holder = i64::from(lock.backend());
    assert!(
        scene.recorder.holders().contains(&holder),
        "{holder} is not among {:?}",
        scene.recorder.holders()
    );
    lock.release().await.expect("released");
    scene.wait_in_step().await;
    workload.stop().await.expect("the workload ran");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_still_needs_old_rows_is_a_conflict() {
    if !can_run("a_query_that_still_needs_old_rows_is_a_conflict", false) {
        return;
    }
    let scene = scene().await;
    let workload = scene.lab.start_workload(&Updates::customers(), Lab::RATE).await.expect("a workload");
    scene.warm_up().await;
    let reader = blameio::lab::sql::connect(&scene.lab.replica().dsn()).await.expect("a session");
    let backend: i32 = reader.query_one("SELECT pg_backend_pid()", &[]).await.expect("its process id").get(0);
    let snapshot = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM orders";
    blameio::lab::sql::execute(&reader, snapshot).await.expect("a snapshot");
    let since = scene.recorder.ticks().len();
    let primary = scene.lab.primary_client();
    // Both this vacuum and the updates' own pruning remove rows that the reader's snapshot still sees.
    blameio::lab::sql::execute(primary, "DELETE FROM customers WHERE id > 10000").await.expect("deleted");
    blameio::lab::sql::execute(primary, "VACUUM customers").await.expect("vacuumed");
    scene.wait_for_lag(LAG).await;
    scene.judge("query conflict", since, &Culprit::of("conflict"));
    let holders = scene.recorder.holders();
    assert!(holders.contains(&i64::from(backend)), "{backend} is not among {holders:?}");
    blameio::lab::sql::execute(&reader, "COMMIT").await.expect("released");
    scene.wait_in_step().await;
    workload.stop().await.expect("the workload ran");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paused_replay_is_nobodys_table() {
    if !can_run("paused_replay_is_nobodys_table", false) {
        return;
    }
    let scene = scene().await;
    let workload = scene.lab.start_workload(&Updates::customers(), Lab::RATE).await.expect("a workload");
    scene.warm_up().await;
    let since = scene.recorder.ticks().len();
    scene.lab.pause_replay().await.expect("paused");
    scene.wait_for_lag(LAG).await;
    scene.judge("paused replay", since, &Culprit::of("paused"));
    scene.print_baselines().await;
    scene.lab.resume_replay().await.expect("resumed");
    scene.wait_in_step().await;
    workload.stop().await.expect("the workload ran");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_link_is_transport() {
    if !can_run("a_stalled_link_is_transport", false) {
        return;
    }
    let scene = scene().await;
    let workload = scene.lab.start_workload(&Updates::customers(), Lab::RATE).await.expect("a workload");
    scene.warm_up().await;
    let since = scene.recorder.ticks().len();
    let stopped = scene.lab.stop_walreceiver().expect("a walreceiver");
    scene.wait_for_lag(LAG).await;
    scene.judge("stalled link", since, &Culprit::of("transport"));
    scene.print_baselines().await;
    drop(stopped);
    scene.wait_in_step().await;
    workload.stop().await.expect("the workload ran");
    scene.end().await;
}
