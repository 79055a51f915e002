//! Whole seconds of a replica, as its receivers tell them, and what they are owed to.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod road;
mod scene;

use blameio_pipeline::{
    attribute::{DB_TABLE, SYSTEM_DEVICE, THREAD_ID, THREAD_ROLE, THREAD_STATE},
    metrics::{attribute, integer_attribute, is_ended, number},
    signal,
};
use proptest::prelude::*;
use road::points;
use scene::{COLD, EVENTS, GONE, ITEMS, ORDERS, Row, Scene, owed, owed_by};

/// Nothing lags: reads of the cold index take 1 ms each.
fn in_step(scene: &mut Scene) {
    for _ in 0..5 {
        scene.reads(COLD, 0.1, 100.0);
        scene.thread("wait", None, 0.9);
        scene.tick(0.0, 1_000_000.0);
    }
}

/// Ten seconds in which each read takes nine times as long as alone, beside who else is there.
fn slow_reads(scene: &mut Scene, mut others: impl FnMut(&mut Scene)) -> Vec<Row> {
    let mut rows = Vec::new();
    for second in 1..=10 {
        scene.reads(COLD, 0.9, 100.0);
        scene.thread("cpu", None, 0.1);
        others(scene);
        rows = scene.tick(f64::from(second) * 0.9, 100_000.0);
    }
    rows
}

#[test]
fn above_the_learned_time_reads_are_owed_by_who_keeps_the_device_busy() {
    let mut scene = Scene::default();
    in_step(&mut scene);
    let rows = slow_reads(&mut scene, |scene| scene.device("client", ITEMS, 3.0, 300.0));
    // 0.1 of each 0.9 s is what 100 reads take alone, less what is normal for so little log.
    assert!(owed(&rows, "contention") > 0.7 * 9.0, "{rows:?}");
    let items = rows.iter().find(|row| row.cause == "contention").unwrap();
    assert_eq!((items.table.as_str(), items.role.as_str(), items.culprit.as_str()), ("items", "client", ""));
}

#[test]
fn before_anything_was_learned_the_time_is_shared_as_the_device_serves_all_alike() {
    let mut scene = Scene::default();
    scene.tick(0.0, 0.0);
    let rows = slow_reads(&mut scene, |scene| scene.device("client", ITEMS, 2.0, 300.0));
    let (contention, replay) = (owed(&rows, "contention"), owed(&rows, "replay"));
    assert!((contention / replay - 2.0).abs() < 0.01, "{rows:?}");
}

#[test]
fn an_outside_process_is_named() {
    let mut scene = Scene::default();
    in_step(&mut scene);
    let rows = slow_reads(&mut scene, |scene| scene.stranger("/system.slice/backup.service", 4.0));
    assert!(owed_by(&rows, "/system.slice/backup.service") > 0.7 * 9.0, "{rows:?}");
}

#[test]
fn a_slow_device_with_nobody_else_is_owed_by_the_object() {
    let mut scene = Scene::default();
    in_step(&mut scene);
    let rows = slow_reads(&mut scene, |_| {});
    assert_eq!(owed(&rows, "contention"), 0.0, "{rows:?}");
    assert!(owed(&rows, "replay") > 0.85 * 9.0, "{rows:?}");
}

#[test]
fn another_server_on_the_device_is_named_in_whatever_order_they_are_told_of() {
    let mut all = Vec::new();
    for turned in [false, true] {
        let mut scene = Scene::default();
        scene.turned = turned;
        in_step(&mut scene);
        let rows = slow_reads(&mut scene, |scene| {
            scene.neighbour(EVENTS, 3.0);
            scene.stranger("fio", 1.0);
        });
        let (billing, fio) = (owed_by(&rows, "billing"), owed_by(&rows, "fio"));
        assert!((billing / fio - 3.0).abs() < 0.01, "{rows:?}");
        let row = rows.iter().find(|row| row.culprit == "billing").unwrap();
        assert_eq!((row.table.as_str(), row.cause.as_str()), ("events", "contention"));
        all.push(rows);
    }
    assert_eq!(all[0], all[1]);
}

#[test]
fn two_servers_on_one_device_each_have_their_own_account() {
    let mut scene = Scene::default();
    let mut theirs = Vec::new();
    for second in 0..8 {
        scene.reads(COLD, 0.9, 10.0);
        scene.neighbour(EVENTS, 0.9);
        scene.neighbour_lag(f64::from(second) * 3.0);
        let rows = scene.tick(f64::from(second) * 0.5, 1000.0);
        assert!(second < 2 || owed_by(&rows, "billing") > 0.0, "{rows:?}");
        theirs.extend(scene.lag_and_blame_of_neighbour());
    }
    // Nothing tells of its threads: it is waited for, and then accounted for without.
    assert!(theirs.len() >= 5 && theirs.iter().all(|(lag, blame)| (lag - blame).abs() < 1e-9), "{theirs:?}");
    assert!(theirs.iter().any(|(lag, _)| *lag >= 15.0), "{theirs:?}");
}

#[test]
fn the_processor_is_owed_by_the_tables_whose_blocks_were_applied() {
    let mut scene = Scene::default();
    scene.tick(0.0, 0.0);
    let mut rows = Vec::new();
    for second in 1..=5 {
        scene.thread("cpu", None, 0.9);
        scene.thread("runqueue", None, 0.1);
        // The heap and two indexes of one table, against one block of another.
        scene.work(ORDERS, true, false, 50.0);
        scene.work(COLD, true, false, 100.0);
        scene.work(ITEMS, true, false, 50.0);
        rows = scene.tick(f64::from(second), 1_000_000.0);
    }
    let of = |table: &str| {
        rows.iter().find(|row| row.cause == "cpu" && row.table == table).map_or(0.0, |row| row.seconds)
    };
    assert!((of("orders") - 3.75).abs() < 0.01, "{rows:?}");
    assert!((of("items") - 1.25).abs() < 0.01, "{rows:?}");
    let time = points(&scene.out, &signal::APPLY_TIME);
    let cpu = time.iter().filter(|row| attribute(&row.attributes, THREAD_STATE) == Some("cpu"));
    let named = cpu.filter(|row| attribute(&row.attributes, DB_TABLE) == Some("orders")).filter_map(number);
    assert!((named.sum::<f64>() - 0.75 * 0.9 * 5.0).abs() < 0.01, "{time:?}");
}

#[test]
fn a_commit_that_removes_relations_for_seconds_is_owed_by_them_while_it_lasts_and_after() {
    let mut scene = Scene::default();
    scene.tick(0.0, 1000.0);
    scene.work(GONE, false, true, 2000.0);
    let mut rows = Vec::new();
    for second in 1..=8 {
        scene.thread("cpu", None, 1.0);
        let done = second == 8;
        if done {
            scene.work(GONE, true, true, 2000.0);
        }
        rows = scene.tick(f64::from(second), if done { 100_000.0 } else { 0.0 });
        let row = rows.iter().find(|row| row.cause == "cpu").unwrap();
        assert_eq!((row.table.as_str(), row.culprit.as_str()), ("gone", "drop of relations"), "{rows:?}");
    }
    assert!(owed(&rows, "cpu") > 7.9, "{rows:?}");
}

#[test]
fn more_than_can_be_applied_is_owed_by_the_tables_whose_work_waits() {
    let mut scene = Scene::default();
    for _ in 0..5 {
        scene.thread("cpu", None, 0.5);
        scene.thread("wait", None, 0.5);
        for stage in [false, true] {
            scene.work(ORDERS, stage, false, 1000.0);
            scene.work(ITEMS, stage, false, 1000.0);
        }
        scene.tick(0.0, 1_000_000.0);
    }
    let mut rows = Vec::new();
    for second in 1..=5 {
        // As much as fits into a second is applied, at its normal cost; nine times as much arrives, mostly of one table.
        scene.thread("cpu", None, 1.0);
        scene.work(ORDERS, false, false, 30_000.0);
        scene.work(ITEMS, false, false, 6000.0);
        scene.work(ORDERS, true, false, 3333.0);
        scene.work(ITEMS, true, false, 667.0);
        rows = scene.tick(f64::from(second) * 0.9, 2_000_000.0);
    }
    let of = |table: &str| {
        rows.iter().find(|row| row.cause == "demand" && row.table == table).map_or(0.0, |row| row.seconds)
    };
    assert!((of("orders") + of("items") - 4.5).abs() < 0.1, "{rows:?}");
    assert!((of("orders") / of("items") - 5.0).abs() < 0.1, "{rows:?}");
}

#[test]
fn room_is_owed_by_the_object_that_was_read_and_growth_by_the_one_that_grew() {
    let mut scene = Scene::default();
    scene.tick(0.0, 0.0);
    let mut rows = Vec::new();
    for second in 1..=5 {
        scene.thread("read", Some(COLD), 0.3);
        scene.thread("write", Some(ITEMS), 0.4);
        scene.thread("write", Some(ORDERS), 0.3);
        scene.operation("write", ITEMS, 0.4);
        scene.operation("extend", ORDERS, 0.3);
        rows = scene.tick(f64::from(second), 1000.0);
    }
    let of = |cause: &str, table: &str, index: &str| {
        let found = rows.iter().find(|row| row.cause == cause && row.table == table && row.index == index);
        found.map_or(0.0, |row| row.seconds)
    };
    assert!((of("eviction", "orders", "orders_cold_idx") - 2.0).abs() < 0.01, "{rows:?}");
    assert!((of("replay", "orders", "") - 1.5).abs() < 0.01, "{rows:?}");
    assert!(rows.iter().all(|row| row.table != "items"), "the victim is not named: {rows:?}");
}

#[test]
fn a_limit_on_the_processor_is_told_from_work() {
    let mut scene = Scene::default();
    scene.tick(0.0, 0.0);
    scene.thread("throttled", None, 0.8);
    scene.thread("cpu", None, 0.2);
    let rows = scene.tick(1.0, 1000.0);
    assert!((owed_by(&rows, "cpu limit of its cgroup") - 0.8).abs() < 0.01, "{rows:?}");
}

#[test]
fn while_the_lag_is_stale_nobody_is_charged_and_it_holds() {
    let mut scene = Scene::default();
    scene.tick(0.0, 0.0);
    scene.reads(COLD, 1.0, 10.0);
    let before = scene.tick(1.0, 1000.0);
    scene.stale = true;
    for _ in 0..5 {
        scene.reads(ITEMS, 1.0, 10.0);
        assert_eq!(scene.tick(1.0, 0.0), before);
    }
    scene.stale = false;
    let rows = scene.tick(4.0, 0.0);
    assert!((owed(&rows, "unknown") - 3.0).abs() < 0.01, "what grew meanwhile is nobody's: {rows:?}");
}

#[test]
fn what_would_be_saved_is_never_more_than_the_lag_and_ends_with_its_row() {
    let mut scene = Scene::default();
    scene.tick(0.0, 0.0);
    for second in 1..=20_u32 {
        scene.reads(COLD, 0.9, 10.0);
        let lag = f64::from(if second > 10 { 20 - second } else { second }) * 0.5;
        scene.tick(lag, 1000.0);
        let saved = points(&scene.out, &signal::LAG_SAVED);
        let live: Vec<_> = saved.iter().filter(|row| !is_ended(row.flags)).collect();
        assert!(live.iter().filter_map(|row| number(row)).all(|saved| (0.0..=lag).contains(&saved)));
        if second == 10 {
            let most = live.iter().filter_map(|row| number(row)).fold(0.0, f64::max);
            assert!((most - lag).abs() < 1e-9, "without its reads there were no lag: {saved:?}");
        }
        if lag == 0.0 {
            assert!(live.is_empty() && !saved.is_empty(), "{saved:?}");
        }
    }
}

#[test]
fn what_a_device_takes_alone_survives_a_restart_and_damage() {
    let directory = tempfile::tempdir().unwrap();
    let yaml = format!("state_directory: {}", directory.path().display());
    let contention = |scene: &mut Scene| {
        scene.tick(0.0, 0.0);
        let rows = slow_reads(scene, |scene| scene.stranger("fio", 1.0));
        owed_by(&rows, "fio")
    };
    let mut scene = Scene::with(&yaml);
    in_step(&mut scene);
    drop(scene);
    // Learned: 0.8 of 0.9 s. Not learned: half of it. A tenth of all is the processor's.
    let kept = contention(&mut Scene::with(&yaml));
    assert!(kept > 0.75 * 9.0, "{kept}");
    let file = directory.path().join("lag_attribution.state");
    std::fs::write(&file, "nonsense").unwrap();
    let anew = contention(&mut Scene::with(&yaml));
    assert!((anew - 0.45 * 9.0).abs() < 0.1, "{anew}");
}

#[test]
fn a_data_directory_that_was_made_anew_begins_an_account_and_ends_the_old_one() {
    let mut scene = Scene::default();
    scene.tick(0.0, 0.0);
    scene.reads(COLD, 1.0, 10.0);
    scene.tick(1.0, 1000.0);
    scene.recreate();
    let mut ended = 0;
    for _ in 0..5 {
        let rows = scene.tick(5.0, 0.0);
        assert!((owed(&rows, "unknown") - 5.0).abs() < 1e-9, "{rows:?}");
        let lags = points(&scene.out, &signal::REPLICATION_LAG);
        ended += lags.iter().filter(|point| is_ended(point.flags)).count();
    }
    assert_eq!(ended, 1);
}

#[test]
fn two_servers_on_one_port_of_a_host_keep_an_account_each() {
    let mut scene = Scene::default();
    scene.share_the_port();
    scene.neighbour_lag(0.0);
    scene.tick(0.0, 0.0);
    for second in 1..=10 {
        scene.reads(ORDERS, 1.0, 10.0);
        scene.neighbour_lag(f64::from(second));
        let rows = scene.tick(f64::from(second), 0.0);
        assert!((owed(&rows, "replay") - f64::from(second)).abs() < 0.01, "{rows:?}");
        let lags = points(&scene.out, &signal::REPLICATION_LAG);
        assert!(lags.iter().all(|point| !is_ended(point.flags)), "{lags:?}");
    }
}

#[test]
fn a_wait_of_which_nothing_is_told_any_more_charges_nothing() {
    let mut scene = Scene::default();
    scene.waits("conflict", 100, 8.0);
    scene.waits("conflict", 200, 1.0);
    scene.tick(0.0, 0.0);
    scene.wait_is_forgotten("conflict", 100);
    scene.thread("wait", None, 1.0);
    scene.waits("paused", 0, 1.0);
    let rows = scene.tick(1.0, 0.0);
    assert!(owed(&rows, "conflict") < 1e-9, "{rows:?}");
    assert!((owed(&rows, "paused") - 1.0).abs() < 0.01, "{rows:?}");
}

#[test]
fn rows_of_single_threads_stay_inside_and_those_of_roles_and_strangers_go_on() {
    let mut scene = Scene::default();
    for _ in 0..3 {
        scene.reads(COLD, 0.1, 10.0);
        scene.device("client", ITEMS, 0.2, 5.0);
        scene.stranger("fio", 1.0);
        scene.tick(0.0, 1000.0);
    }
    let time = points(&scene.out, &signal::DEVICE_TIME);
    assert!(time.iter().all(|row| integer_attribute(&row.attributes, THREAD_ID).is_none()), "{time:?}");
    assert!(time.iter().all(|row| attribute(&row.attributes, SYSTEM_DEVICE) == Some("vda")), "{time:?}");
    let of = |role: Option<&str>| {
        time.iter().find(|row| attribute(&row.attributes, THREAD_ROLE) == role).and_then(number).unwrap()
    };
    assert!((of(Some("apply")) - 0.3).abs() < 1e-9);
    assert!((of(Some("client")) - 0.6).abs() < 1e-9);
    assert!((of(None) - 3.0).abs() < 1e-9);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn on_every_tick_of_any_mixture_blame_sums_to_the_lag(
        seconds in proptest::collection::vec(
            (0.0_f64..50.0, proptest::collection::vec((0_u8..9, 0_usize..4, 0.0_f64..3.0), 0..8), any::<bool>()),
            1..25)
    ) {
        let mut scene = Scene::default();
        for (lag, happened, stale) in seconds {
            scene.stale = stale;
            for (what, whose, amount) in happened {
                let file = [ORDERS, COLD, ITEMS, GONE][whose];
                match what {
                    0 => scene.reads(file, amount, amount * 50.0),
                    1 => scene.thread("write", Some(file), amount),
                    2 => scene.thread("fsync", Some(file), amount),
                    3 => scene.thread("cpu", None, amount),
                    4 => scene.device("client", file, amount * 4.0, amount),
                    5 => scene.stranger("fio", amount),
                    6 => scene.work(file, false, amount > 1.5, amount * 1000.0),
                    7 => scene.work(file, true, amount > 1.5, amount * 1000.0),
                    _ => scene.operation("extend", file, amount),
                }
            }
            // The scene looks at the sum of every tick.
            scene.tick(lag, lag * 1000.0);
        }
        prop_assert!(scene.ticks > 0);
    }
}
