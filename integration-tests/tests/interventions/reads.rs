//! Pages that replay needs are not in memory, and the disk is slow.

use blameio::lab::{Culprit, Lab, LabOptions, Limit, Schema, Updates};
use blameio_integration_tests::scene::{SceneOptions, can_run};

use super::{LAG, scene, scene_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cold_index_owes_the_lag_it_makes() {
    if !can_run("a_cold_index_owes_the_lag_it_makes", true) {
        return;
    }
    let mut scene = scene().await;
    let workload = scene.lab.start_workload(&Updates::orders(), Lab::RATE).await.expect("a workload");
    scene.warm_up().await;
    let since = scene.recorder.ticks().len();
    scene.lab.inject_cold_index().await.expect("an injection");
    scene.wait_for_lag(LAG).await;
    let culprit = Culprit::of("replay").table("orders").index(Schema::COLD_INDEX);
    scene.judge("cold index", since, &culprit);
    scene.print_baselines().await;
    scene.lab.heal().expect("healed");
    scene.wait_in_step().await;
    workload.stop().await.expect("the workload ran");
    scene.end().await;
}

fn with(schema: Schema) -> SceneOptions {
    let options = SceneOptions::default();
    SceneOptions { lab: LabOptions { schema, ..options.lab }, ..options }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cold_index_of_many_partitions_is_named_by_the_table_that_people_know() {
    if !can_run("a_cold_index_of_many_partitions_is_named_by_the_table_that_people_know", true) {
        return;
    }
    let mut scene = scene_of(with(Schema::orders(1_000).with_partitions("events", 8, 100_000))).await;
    let updates = Updates::reference("events", 2_000);
    let workload = scene.lab.start_workload(&updates, Lab::RATE).await.expect("a workload");
    scene.warm_up().await;
    let since = scene.recorder.ticks().len();
    let cold: Vec<_> = (0..8).map(|n| format!("events_p{n}_reference_idx")).collect();
    scene.lab.keep_cold(&cold).await.expect("cold");
    scene.lab.limit(Limit::reads(Lab::READ_IOPS)).expect("limited");
    scene.wait_for_lag(LAG).await;
    let culprit = Culprit::of("replay").table("events").index("events_reference_idx");
    scene.judge("cold partitions", since, &culprit);
    scene.print_baselines().await;
    scene.lab.heal().expect("healed");
    scene.wait_in_step().await;
    workload.stop().await.expect("the workload ran");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cold_toast_table_is_named_by_the_table_that_it_belongs_to() {
    if !can_run("a_cold_toast_table_is_named_by_the_table_that_it_belongs_to", true) {
        return;
    }
    let mut scene = scene_of(with(Schema::orders(1_000).with_documents("documents", 20_000))).await;
    let query = "SELECT reltoastrelid::regclass::text FROM pg_class WHERE relname = 'documents'";
    let toast: String = scene.lab.primary_client().query_one(query, &[]).await.expect("a TOAST table").get(0);
    let updates = Updates::documents("documents", 20_000);
    let workload = scene.lab.start_workload(&updates, 100).await.expect("a workload");
    scene.warm_up().await;
    let since = scene.recorder.ticks().len();
    scene.lab.keep_cold(&[toast]).await.expect("cold");
    scene.lab.limit(Limit::reads(20)).expect("limited");
    scene.wait_for_lag(LAG).await;
    let culprit = Culprit::of("replay").table("documents").kind("toast");
    scene.judge("cold TOAST", since, &culprit);
    scene.print_baselines().await;
    scene.lab.heal().expect("healed");
    scene.wait_in_step().await;
    workload.stop().await.expect("the workload ran");
    scene.end().await;
}
