//! The work itself is what takes long: fsyncs, a burst of log, dropped tables, many indexes.

use blameio::lab::{Culprit, Lab, LabOptions, Limit, Schema, Settings, Tick, Updates, sql};
use blameio_integration_tests::scene::{SceneOptions, can_run};

use super::{LAG, scene_of};

fn options(schema: Schema, replica: Settings) -> SceneOptions {
    let options = SceneOptions::default();
    SceneOptions { lab: LabOptions { schema, replica, ..options.lab }, ..options }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fsyncs_of_the_control_file_owe_the_lag_that_they_make() {
    if !can_run("fsyncs_of_the_control_file_owe_the_lag_that_they_make", true) {
        return;
    }
    // Sixteen pages of memory: nearly every page that is replayed puts out another that was just changed, and each such
    // page moves the point to which recovery must go, which is written to the control file and flushed.
    let replica = Settings::default().with("shared_buffers", "128kB").with("bgwriter_lru_maxpages", "0");
    let scene = scene_of(options(Schema::orders(20_000), replica)).await;
    let workload = scene.lab.start_workload(&Updates::orders(), Lab::RATE).await.expect("a workload");
    scene.warm_up().await;
    let since = scene.recorder.ticks().len();
    // The log arrives and is flushed without limit: only replay waits.
    let startup = scene.lab.replica().startup_process().expect("a replica");
    scene.lab.throttle().expect("a slow disk").keep_only(startup).expect("moved");
    scene.lab.limit(Limit { write_iops: Some(20), ..Limit::default() }).expect("limited");
    scene.wait_for_lag(LAG).await;
    scene.lab.limit(Limit::default()).expect("no limit");
    let judged = scene.verdict("fsync storm", since, &Culprit::of("fsync").kind("control"));
    scene.print_baselines().await;
    scene.wait_in_step().await;
    judged.hold();
    workload.stop().await.expect("the workload ran");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_log_than_a_replica_can_apply_is_demand_of_the_table_that_is_written() {
    if !can_run("more_log_than_a_replica_can_apply_is_demand_of_the_table_that_is_written", false) {
        return;
    }
    // Few pages of memory: each change costs the replica a copy from and to the page cache that it does not cost the
    // primary.
    let replica = Settings::default().with("shared_buffers", "128kB").with("bgwriter_lru_maxpages", "0");
    let rows = 100_000;
    let scene = scene_of(options(Schema::orders(rows), replica)).await;
    let updates = Updates { keys: rows.into(), ..Updates::orders() };
    let workload = scene.lab.start_workload(&updates, 1_000).await.expect("a workload");
    scene.warm_up().await;
    scene.warm_up().await;
    let since = scene.recorder.ticks().len();
    let burst = burst(&scene.lab.primary().dsn(), rows).await;
    scene.wait_for_lag(LAG).await;
    let judged = scene.verdict("burst", since, &Culprit::of("demand").table("orders"));
    scene.print_baselines().await;
    burst.expect("the burst ran");
    scene.wait_in_step().await;
    judged.hold();
    workload.stop().await.expect("the workload ran");
    scene.end().await;
}

/// Updates every row, in two sessions.
async fn burst(dsn: &str, rows: u32) -> Result<(), blameio::lab::LabError> {
    let half = |first: u32, last: u32| async move {
        let client = sql::connect(dsn).await?;
        let update = format!(
            "SET synchronous_commit = off; UPDATE orders SET reference = md5(random()::text), \
             status = (random() * 4)::int WHERE id BETWEEN {first} AND {last}"
        );
        sql::execute(&client, &update).await
    };
    tokio::try_join!(half(1, rows / 2), half(rows / 2 + 1, rows)).map(|_| ())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_tables_cost_the_processor_time_that_their_buffers_are_looked_for() {
    if !can_run("dropped_tables_cost_the_processor_time_that_their_buffers_are_looked_for", false) {
        return;
    }
    const TABLES: u32 = 2_000;
    // Each dropped table makes the replica look through all of its buffers; the primary's are few.
    let replica = Settings::default().with("shared_buffers", "6GB");
    let schema = Schema::orders(1_000).with_small_tables("old", TABLES);
    let scene = scene_of(options(schema, replica)).await;
    let workload = scene.lab.start_workload(&Updates::customers(), Lab::RATE).await.expect("a workload");
    scene.warm_up().await;
    let since = scene.recorder.ticks().len();
    let drop = format!(
        "DO $$ BEGIN SET synchronous_commit = off; FOR i IN 1..{TABLES} LOOP \
         EXECUTE 'DROP TABLE old_' || i; COMMIT; END LOOP; END $$"
    );
    sql::execute(scene.lab.primary_client(), &drop).await.expect("dropped");
    scene.wait_for_lag(LAG).await;
    // Two thousand owe a part each: most are shown as others, which is the right answer as well as their names are.
    let gathered: Vec<Tick> = scene.ticks_since(since).into_iter().map(old_tables_as_one).collect();
    let culprit = Culprit::of("cpu").table("old");
    let judged = scene.verdict_of("dropped tables", gathered, &culprit);
    scene.print_baselines().await;
    scene.wait_in_step().await;
    judged.hold();
    workload.stop().await.expect("the workload ran");
    scene.end().await;
}

fn old_tables_as_one(mut tick: Tick) -> Tick {
    for row in &mut tick.rows {
        let old = |table: &str| table.starts_with("old_") || table == "(other)";
        if row.cause == "cpu" && row.table.as_deref().is_some_and(old) {
            row.table = Some("old".to_owned());
            row.index = None;
        }
    }
    tick.merged()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_of_many_indexes_is_named_for_the_processor_time_that_they_cost() {
    if !can_run("a_table_of_many_indexes_is_named_for_the_processor_time_that_they_cost", false) {
        return;
    }
    const INDEXES: u32 = 15;
    const ROWS: u32 = 4_000;
    // Everything is in the replica's memory: no reads, no writes.
    let replica = Settings::default().with("shared_buffers", "256MB");
    let schema = Schema::orders(1_000).with_many_indexes("ledger", INDEXES, ROWS);
    let mut scene = scene_of(options(schema, replica)).await;
    let normal = scene.lab.start_workload(&Updates::customers(), Lab::RATE).await.expect("a workload");
    scene.warm_up().await;
    scene.lab.limit_processor(10).expect("a small processor");
    scene.warm_up().await;
    let since = scene.recorder.ticks().len();
    let updates = Updates::many_indexes("ledger", INDEXES, ROWS.into());
    let heavy = scene.lab.start_workload(&updates, 10_000).await.expect("a workload");
    scene.wait_for_lag(LAG).await;
    heavy.stop().await.expect("the workload ran");
    let ticks = scene.ticks_since(since).into_iter().map(indexes_as_their_table).collect();
    let judged = scene.verdict_of("many indexes", ticks, &Culprit::of("cpu").table("ledger"));
    scene.print_baselines().await;
    scene.lab.heal().await.expect("healed");
    scene.wait_in_step().await;
    judged.hold();
    normal.stop().await.expect("the workload ran");
    scene.end().await;
}

/// Fifteen indexes owe about as much each: together they are what the table costs.
fn indexes_as_their_table(mut tick: Tick) -> Tick {
    for row in &mut tick.rows {
        if row.cause == "cpu" && row.table.as_deref() == Some("ledger") {
            row.index = None;
        }
    }
    tick.merged()
}
