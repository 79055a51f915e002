//! Two causes at once: the larger comes first, and what each owes is what each did.

use blameio::lab::{Culprit, Lab, LabOptions, Limit, Schema, Tick, Updates};
use blameio_integration_tests::scene::{Scene, SceneOptions, can_run, quiet_place};

use super::{LAG, scene_of};

/// Enough reads that their shares are those of the workloads.
const LONG: f64 = 10.0;
/// A limited disk lets reads through in bursts of a tenth of a second, and only the last of each burst waits. With one
/// read a burst each waits as long as the other, and time is shared as reads are.
const READS: u64 = 10;

/// Most that a share may be from the truth on the mean, in points.
const SHARE_ERROR: f64 = 10.0;
const RIGHT_FIRST: f64 = 0.85;

fn orders() -> Culprit {
    Culprit::of("replay").table("orders").index(Schema::COLD_INDEX)
}

fn payments() -> Culprit {
    Culprit::of("replay").table("payments").index("payments_reference_idx")
}

/// Share of what these two owe that the first owes, in percent.
fn share(tick: &Tick, [first, second]: &[Culprit; 2]) -> f64 {
    let owed = |culprit: &Culprit| -> f64 {
        tick.rows.iter().filter(|row| culprit.matches(row)).map(|row| row.seconds).sum()
    };
    100.0 * owed(first) / (owed(first) + owed(second)).max(f64::MIN_POSITIVE)
}

/// Holds the ticks of an incident against the true share of the first, in percent at each tick.
fn hold(name: &str, ticks: &[Tick], culprits: &[Culprit; 2], truth: impl Fn(&Tick) -> f64) {
    let incident: Vec<&Tick> =
        ticks.iter().filter(|tick| tick.lag >= blameio::lab::verdict::INCIDENT).collect();
    assert!(!incident.is_empty(), "{name}: no lag");
    let count = incident.len() as f64;
    let errors: Vec<f64> = incident.iter().map(|tick| (share(tick, culprits) - truth(tick)).abs()).collect();
    let mean = errors.iter().sum::<f64>() / count;
    let larger = |tick: &Tick| if truth(tick) >= 50.0 { &culprits[0] } else { &culprits[1] };
    let decided: Vec<&&Tick> = incident.iter().filter(|tick| (truth(tick) - 50.0).abs() > 5.0).collect();
    let first = |tick: &&&&Tick| tick.rows.first().is_some_and(|row| larger(tick).matches(row));
    let right = decided.iter().filter(first).count() as f64 / decided.len().max(1) as f64;
    let last = incident[incident.len() - 1];
    println!(
        "{name}: {count} ticks, share of the first {:.1} %, truth {:.1} %, mean error {mean:.1} points, right first \
         {right:.2} of {}\n  last tick: {last:?}",
        share(last, culprits),
        truth(last),
        decided.len()
    );
    assert!(mean <= SHARE_ERROR, "{name}: {ticks:?}");
    assert!(decided.is_empty() || right >= RIGHT_FIRST, "{name}: {ticks:?}");
    let named: f64 =
        last.rows.iter().filter(|row| culprits.iter().any(|c| c.matches(row))).map(|r| r.seconds).sum();
    assert!(named >= 0.9 * last.lag, "{name}: others are named too: {last:?}");
}

/// Bytes of an index that replay has read.
fn reads(scene: &Scene, index: &str) -> f64 {
    let bytes = scene.recorder.bytes();
    let of_replay =
        |key: &(String, String, String, String)| key.1 == index && key.2 == "apply" && key.3 == "read";
    bytes.iter().filter(|(key, _)| of_replay(key)).map(|(_, bytes)| bytes).sum()
}

async fn two_cold_indexes(scene: &mut Scene, of_ten: u32) {
    let workload =
        scene.lab.start_workload(&Updates::mixed(of_ten, 2_000), Lab::RATE).await.expect("a workload");
    scene.warm_up().await;
    let since = scene.recorder.ticks().len();
    let before = [reads(scene, Schema::COLD_INDEX), reads(scene, "payments_reference_idx")];
    scene.lab.keep_cold(&[Schema::COLD_INDEX, "payments_reference_idx"]).await.expect("cold");
    scene.lab.limit(Limit::reads(READS)).expect("limited");
    scene.wait_for_lag(LONG).await;
    // Each update needs one page that is cold: the reads are as the updates are.
    let truth = 10.0 * f64::from(of_ten);
    let ticks = scene.ticks_since(since);
    let [first, second] =
        [0, 1].map(|n| reads(scene, [Schema::COLD_INDEX, "payments_reference_idx"][n]) - before[n]);
    println!("bytes read by replay: {first} and {second}, {:.1} %", 100.0 * first / (first + second));
    scene.lab.heal().expect("healed");
    workload.stop().await.expect("the workload ran");
    scene.wait_in_step().await;
    hold(&format!("two cold indexes of ten {of_ten}"), &ticks, &[orders(), payments()], |_| truth);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_cold_indexes_share_the_lag_as_they_share_the_reads() {
    if !can_run("two_cold_indexes_share_the_lag_as_they_share_the_reads", true) {
        return;
    }
    let options = SceneOptions::default();
    let schema =
        Schema::orders(100_000).with_reference_table("payments", 100_000).with_mixture("orders", "payments");
    let lab = LabOptions { schema, parent: quiet_place(), ..options.lab };
    let mut scene = scene_of(SceneOptions { lab, ..options }).await;
    two_cold_indexes(&mut scene, 7).await;
    two_cold_indexes(&mut scene, 5).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_and_a_cold_index_share_the_lag_by_the_time_that_each_took() {
    if !can_run("a_lock_and_a_cold_index_share_the_lag_by_the_time_that_each_took", true) {
        return;
    }
    let mut scene = scene_of(SceneOptions::default()).await;
    let workload = scene.lab.start_workload(&Updates::orders(), Lab::RATE).await.expect("a workload");
    scene.warm_up().await;
    let since = scene.recorder.ticks().len();
    let lock = scene.lab.hold_lock("customers").await.expect("a lock");
    scene.wait_for_lag(LAG / 2.0).await;
    // What lag there is when it is released is the lock's, to the last second; what is added afterwards is not.
    scene.lab.limit(Limit::reads(Lab::READ_IOPS / 4)).expect("limited");
    scene.lab.keep_cold(&[Schema::COLD_INDEX]).await.expect("cold");
    let of_lock = scene.lab.true_lag().await.expect("the true lag").as_secs_f64();
    lock.release().await.expect("released");
    scene.wait_for_lag(of_lock / 0.3).await;
    let ticks = scene.ticks_since(since);
    scene.lab.heal().expect("healed");
    workload.stop().await.expect("the workload ran");
    scene.wait_in_step().await;
    let culprits = [Culprit::of("lock").table("customers"), orders()];
    hold("lock, then cold index", &ticks, &culprits, |tick| 100.0 * (of_lock / tick.lag).min(1.0));
    scene.end().await;
}
