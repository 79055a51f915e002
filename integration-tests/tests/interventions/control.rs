//! Nothing was done: nobody may be named.

use std::time::Duration;

use blameio::lab::{Lab, Updates, Verdict};
use blameio_integration_tests::scene::can_run;

use super::scene;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_injection_nobody_is_named() {
    if !can_run("without_an_injection_nobody_is_named", false) {
        return;
    }
    let scene = scene().await;
    let workload = scene.lab.start_workload(&Updates::orders(), Lab::RATE).await.expect("a workload");
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
    let ticks = &scene.recorder.ticks()[since..];
    let verdict = Verdict::of(ticks, None);
    let error = scene.lag_error(ticks);
    println!("control: {verdict:?}\n  lag error against P(flushed): {error:?}");
    assert!(verdict.worst_sum_error <= 0.01, "{verdict:?}");
    assert!(verdict.strangers.is_empty(), "{verdict:?}");
    assert!(error.mean <= 0.020, "{error:?}");
    workload.stop().await.expect("the workload ran");
    scene.end().await;
}
