//! Somebody else uses the replica's disk: a query on the replica itself.

use blameio::lab::{
    Culprit, Limit,
    mariadb::{MariaOptions, MariaUpdates, sql},
};

use super::{
    LAG, RATE, UNKNOWN,
    scene::{Scene, can_run},
};

/// Reads a second that the applier alone does well with, and not together with a scan.
const READS: u64 = 600;

fn archive() -> [String; 2] {
    [
        "CREATE TABLE shop.archive (id bigint PRIMARY KEY, body char(250) NOT NULL)".to_owned(),
        "INSERT INTO shop.archive SELECT seq, REPEAT('a', 250) FROM seq_1_to_400000".to_owned(),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_of_another_table_owes_the_lag_that_its_reads_make() {
    if !can_run("a_scan_of_another_table_owes_the_lag_that_its_reads_make") {
        return;
    }
    let mut options = MariaOptions::default();
    options.setup.extend(archive());
    let mut scene = Scene::build_with(options).await;
    scene.lab.limit(Limit::reads(READS)).expect("limited");
    let workload = scene.lab.start_workload(MariaUpdates::orders(), RATE).await.expect("a workload");
    scene.warm_up().await;
    scene.wait_in_step().await;
    let since = scene.recorder.ticks().len();
    let access = scene.lab.replica().access();
    let scan = tokio::spawn(async move {
        let mut client = sql::connect(&access).await.expect("connected");
        loop {
            let statement = "SELECT SUM(LENGTH(body)) FROM shop.archive";
            sql::execute(&mut client, statement).await.expect(statement);
        }
    });
    scene.wait_for_lag(LAG).await;
    let culprit = Culprit::of("contention").table("archive").index("PRIMARY");
    let verdict = scene.judge("competing scan", since, &culprit);
    scan.abort();
    assert!(verdict.right_first >= 0.95 && verdict.unknown <= UNKNOWN, "{verdict:?}");
    scene.lab.limit(Limit::default()).expect("healed");
    workload.stop().await.expect("the workload ran");
    sql::execute(scene.lab.replica_client(), "SELECT 1").await.expect("the replica answers");
    scene.wait_in_step().await;
    scene.end().await;
}
