//! The primary makes more than this replica can apply, and each piece of it costs what it always did.

use std::time::Duration;

use blameio::lab::{Culprit, Lab, LabError, LabOptions, Schema, Settings, Updates, sql};
use blameio_integration_tests::scene::{Scene, SceneOptions, can_run};

use tokio::sync::oneshot::{self, error::TryRecvError};

use super::{LAG, scene_of};

/// Emptied again and again: a table that an application uses as a queue.
const QUEUE: &str = "staging";
/// Times a second, as every day. Replay is busy with it for a tenth of the time.
const USUAL: u32 = 25;
/// Ticks in which the agent learns what it costs.
const LEARNING: usize = 15;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_log_than_can_be_applied_at_its_normal_cost_is_demand() {
    if !can_run("more_log_than_can_be_applied_at_its_normal_cost_is_demand", false) {
        return;
    }
    let scene = scene_of(options()).await;
    scene.lab.prefer_replay().expect("replay goes first");
    let workload = scene.lab.start_workload(&Updates::customers(), Lab::RATE).await.expect("a workload");
    let emptied = Updates { sql: "SELECT emptied($1::bigint[])".to_owned(), keys: 1 };
    let usual = scene.lab.start_workload(&emptied, USUAL).await.expect("a workload");
    learn(&scene).await;
    let since = scene.recorder.ticks().len();
    let (end, ended) = oneshot::channel();
    let burst = tokio::spawn(emptied_at_once(scene.lab.primary().dsn(), ended));
    scene.wait_for_lag(LAG).await;
    let judged = scene.verdict("burst of log", since, &Culprit::of("demand").table(QUEUE));
    scene.print_baselines().await;
    end.send(()).expect("the burst goes on");
    burst.await.expect("no panic").expect("the burst ran");
    usual.stop().await.expect("the workload ran");
    scene.wait_in_step().await;
    judged.hold();
    workload.stop().await.expect("the workload ran");
    scene.end().await;
}

/// Whoever empties a table gives it a new file, and for the old one replay looks through all of its buffers. The
/// primary's are few: it makes in one second what takes this replica eight.
fn options() -> SceneOptions {
    let options = SceneOptions::default();
    let unsafe_but_quick = Settings::default().with("fsync", "off");
    let replica = unsafe_but_quick.clone().with("shared_buffers", "8GB").with("bgwriter_lru_maxpages", "0");
    let primary = options.lab.primary.clone().and(&unsafe_but_quick).with("shared_buffers", "128MB");
    let mut schema = Schema::orders(20_000);
    schema.setup.push(format!("CREATE TABLE {QUEUE} (id int)"));
    schema.setup.push(format!(
        "CREATE FUNCTION emptied(keys bigint[]) RETURNS void LANGUAGE plpgsql AS $$ BEGIN TRUNCATE {QUEUE}; END $$"
    ));
    SceneOptions { lab: LabOptions { schema, replica, primary, ..options.lab }, ..options }
}

/// As often as the primary can, until told to end.
async fn emptied_at_once(dsn: String, mut ended: oneshot::Receiver<()>) -> Result<(), LabError> {
    let client = sql::connect(&dsn).await?;
    let part = format!(
        "DO $$ BEGIN SET synchronous_commit = off; \
         FOR i IN 1..200 LOOP TRUNCATE {QUEUE}; COMMIT; END LOOP; END $$"
    );
    while ended.try_recv() == Err(TryRecvError::Empty) {
        sql::execute(&client, &part).await?;
    }
    Ok(())
}

/// Waits until the agent has seen enough of it to know what it costs.
async fn learn(scene: &Scene) {
    let mut ticks = 0;
    let learned = scene.recorder.wait_for(Duration::from_mins(1), |_| {
        ticks += 1;
        ticks >= LEARNING
    });
    assert!(learned.await, "the agent stopped measuring");
}
