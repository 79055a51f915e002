//! Something stands in the applier's way, or keeps from it what it should apply: a lock, a stop, the link. And an intended
//! delay, which is no lag.

use std::time::Duration;

use blameio::lab::{
    Culprit, Link,
    mariadb::{MariaOptions, MariaUpdates, sql},
};

use super::{
    LAG, RATE,
    scene::{Scene, can_run},
};

/// Of what the kernel cannot tell, the server's word is all there is, and it is asked for a few times a second.
const UNKNOWN: f64 = 0.05;

async fn statement(scene: &mut Scene, statement: &str) {
    sql::execute(scene.lab.replica_client(), statement).await.expect(statement);
}

fn hold(scene: &Scene, name: &str, since: usize, culprit: &Culprit) {
    let verdict = scene.judge(name, since, culprit);
    assert!(verdict.right_first >= 0.95 && verdict.unknown <= UNKNOWN, "{verdict:?}");
    assert!(verdict.strangers.is_empty(), "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_lock_owes_the_lag_with_its_table_and_holder() {
    if !can_run("a_row_lock_owes_the_lag_with_its_table_and_holder") {
        return;
    }
    let scene = Scene::build_with(MariaOptions::small()).await;
    let workload = scene.lab.start_workload(MariaUpdates::customers(), RATE).await.expect("a workload");
    scene.warm_up().await;
    let since = scene.recorder.ticks().len();
    let mut holder = sql::connect(&scene.lab.replica().access()).await.expect("connected");
    for statement in ["BEGIN", "SELECT COUNT(*) FROM shop.customers FOR UPDATE"] {
        sql::execute(&mut holder, statement).await.expect(statement);
    }
    scene.wait_for_lag(LAG).await;
    hold(&scene, "row lock", since, &Culprit::of("lock").table("customers"));
    let (connection, holders) = (i64::from(holder.id()), scene.recorder.holders());
    assert!(holders.contains(&connection), "{connection} is not among {holders:?}");
    drop(holder);
    scene.wait_in_step().await;
    workload.stop().await.expect("the workload ran");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_applier_that_was_stopped_is_paused() {
    if !can_run("an_applier_that_was_stopped_is_paused") {
        return;
    }
    let mut scene = Scene::build_with(MariaOptions::small()).await;
    let workload = scene.lab.start_workload(MariaUpdates::customers(), RATE).await.expect("a workload");
    scene.warm_up().await;
    let since = scene.recorder.ticks().len();
    statement(&mut scene, "STOP SLAVE SQL_THREAD").await;
    scene.wait_for_lag(LAG).await;
    hold(&scene, "stopped applier", since, &Culprit::of("paused"));
    statement(&mut scene, "START SLAVE SQL_THREAD").await;
    scene.wait_in_step().await;
    workload.stop().await.expect("the workload ran");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_lets_nothing_through_is_transport() {
    if !can_run("a_link_that_lets_nothing_through_is_transport") {
        return;
    }
    let mut scene = Scene::build_with(MariaOptions::small()).await;
    let link = Link::to(scene.lab.primary().port()).await.expect("a link");
    let through = format!("CHANGE MASTER TO master_port = {}", link.port());
    for change in ["STOP SLAVE", &through, "START SLAVE"] {
        statement(&mut scene, change).await;
    }
    let workload = scene.lab.start_workload(MariaUpdates::customers(), RATE).await.expect("a workload");
    scene.warm_up().await;
    scene.wait_in_step().await;
    let since = scene.recorder.ticks().len();
    link.hold();
    scene.wait_for_lag(LAG).await;
    hold(&scene, "stalled link", since, &Culprit::of("transport"));
    link.release();
    scene.wait_in_step().await;
    workload.stop().await.expect("the workload ran");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_intended_delay_is_no_lag() {
    if !can_run("an_intended_delay_is_no_lag") {
        return;
    }
    let mut scene = Scene::build_with(MariaOptions::small()).await;
    for change in ["STOP SLAVE", "CHANGE MASTER TO master_delay = 4", "START SLAVE"] {
        statement(&mut scene, change).await;
    }
    let workload = scene.lab.start_workload(MariaUpdates::customers(), RATE).await.expect("a workload");
    // Until what is applied is four seconds old.
    scene.warm_up().await;
    let since = scene.recorder.ticks().len();
    let mut ticks = 0;
    let enough = scene.recorder.wait_for(Duration::from_mins(1), |_| {
        ticks += 1;
        ticks >= 10
    });
    assert!(enough.await, "the agent stopped measuring");
    let verdict = scene.control(since);
    // The server counts the delay in whole seconds of the primary's clock.
    assert!(verdict.peak <= 1.1 && verdict.strangers.is_empty(), "{verdict:?}");
    workload.stop().await.expect("the workload ran");
    scene.end().await;
}
