//! The work itself is what takes long: fsyncs, dropped tables, many indexes.

use blameio::lab::{Culprit, Lab, LabError, LabOptions, Limit, Schema, Settings, Tick, Updates, sql};
use blameio_integration_tests::scene::{SceneOptions, can_run};

use super::{LAG, scene_of};

fn options(schema: Schema, replica: Settings) -> SceneOptions {
    let options = SceneOptions::default();
    SceneOptions { lab: LabOptions { schema, replica, ..options.lab }, ..options }
}

/// Without flushes on both sides: the processor is all that replay needs.
fn without_flushes(schema: Schema, shared_buffers: &str) -> SceneOptions {
    let unsafe_but_quick = Settings::default().with("fsync", "off");
    let replica = unsafe_but_quick.clone().with("shared_buffers", shared_buffers);
    let options = options(schema, replica.with("bgwriter_lru_maxpages", "0"));
    let primary = options.lab.primary.clone().and(&unsafe_but_quick);
    SceneOptions { lab: LabOptions { primary, ..options.lab }, ..options }
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

/// Tables that are dropped.
const TABLES: u32 = 2_000;
const INDEXES: u32 = 15;
const ROWS: u32 = 80_000;

fn ledger() -> Updates {
    Updates::many_indexes("ledger", INDEXES, ROWS.into())
}

/// Updates every row of the ledger, in two sessions.
async fn burst(dsn: &str) -> Result<(), LabError> {
    let half = |first: u32, last: u32| async move {
        let client = sql::connect(dsn).await?;
        let ids = format!("{{{}}}", (first..=last).map(|id| id.to_string()).collect::<Vec<_>>().join(","));
        sql::execute(&client, &ledger().sql.replace("$1", &format!("'{ids}'"))).await
    };
    tokio::try_join!(half(1, ROWS / 2), half(ROWS / 2 + 1, ROWS)).map(|_| ())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_tables_cost_the_processor_time_that_their_buffers_are_looked_for() {
    if !can_run("dropped_tables_cost_the_processor_time_that_their_buffers_are_looked_for", false) {
        return;
    }
    // Each dropped table makes the replica look through all of its buffers; the primary's are few.
    let schema = Schema::orders(1_000).with_small_tables("old", TABLES);
    let scene = scene_of(without_flushes(schema, "8GB")).await;
    let workload = scene.lab.start_workload(&Updates::customers(), Lab::RATE).await.expect("a workload");
    scene.warm_up().await;
    let since = scene.recorder.ticks().len();
    let drop = format!(
        "DO $$ BEGIN SET synchronous_commit = off; FOR i IN 1..{TABLES} LOOP \
         EXECUTE 'DROP TABLE old_' || i; COMMIT; END LOOP; END $$"
    );
    sql::execute(scene.lab.primary_client(), &drop).await.expect("dropped");
    // Two thousand tables make some five seconds of it.
    scene.wait_for_lag(4.0).await;
    // Two thousand owe a part each: most are shown as others, which is the right answer as well as their names are.
    let gathered: Vec<Tick> = scene.ticks_since(since).into_iter().map(old_tables_as_one).collect();
    let culprit = Culprit::of("cpu").table("old").rival("drop of relations");
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
            (row.index, row.kind) = (None, None);
        }
    }
    tick.merged()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_indexes_are_named_for_the_processor_time_that_they_cost_and_so_is_a_limit_of_it() {
    if !can_run("many_indexes_are_named_for_the_processor_time_that_they_cost_and_so_is_a_limit_of_it", false)
    {
        return;
    }
    // Everything is in the replica's memory: no reads, no writes. What is normal is learned of another table.
    let schema = Schema::orders(1_000).with_many_indexes("ledger", INDEXES, ROWS);
    let mut scene = scene_of(without_flushes(schema, "256MB")).await;
    let normal = scene.lab.start_workload(&Updates::customers(), Lab::RATE).await.expect("a workload");
    scene.warm_up().await;
    normal.stop().await.expect("the workload ran");
    let since = scene.recorder.ticks().len();
    let busy = scene.lab.crowd_processor().expect("a busy processor");
    burst(&scene.lab.primary().dsn()).await.expect("the burst ran");
    scene.wait_for_lag(LAG).await;
    let ticks = scene.ticks_since(since).into_iter().map(indexes_as_their_table).collect();
    let table = Culprit::of("cpu").table("ledger");
    let crowded = scene.verdict_of("many indexes", ticks, &table);
    scene.print_baselines().await;
    drop(busy);
    scene.wait_in_step().await;
    // The same work, and a container that gives replay too little: it is the limit that the operator can lift.
    let since = scene.recorder.ticks().len();
    scene.lab.limit_processor(5).expect("a small processor");
    burst(&scene.lab.primary().dsn()).await.expect("the burst ran");
    scene.wait_for_lag(LAG).await;
    let ticks = scene.ticks_since(since).into_iter().map(indexes_as_their_table).collect();
    let limit = Culprit::of("cpu").rival("cpu limit of its cgroup");
    let limited = scene.verdict_of("limited processor", ticks, &limit);
    scene.lab.heal().expect("healed");
    scene.wait_in_step().await;
    crowded.hold();
    assert!(crowded.verdict.share >= 0.95, "too much has no table: {:?}", crowded.verdict);
    // The part of a processor that it has is spent on the table.
    limited.hold_beside(&table);
    scene.end().await;
}

/// Fifteen indexes owe about as much each: together they are what the table costs.
fn indexes_as_their_table(mut tick: Tick) -> Tick {
    for row in &mut tick.rows {
        if row.table.as_deref() == Some("ledger") {
            (row.index, row.kind) = (None, None);
        }
    }
    tick.merged()
}
