//! Replicas that are fed in other ways than by a stream from their primary, and that change whom they follow: each gives
//! the right answer, or says that it does not know.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use blameio::{
    command::agent::Agent,
    lab::{
        Binaries, Cluster, GroundTruth, Recorder, Settings, StopMode, StoppedProcess, Tick, Updates,
        Workload, sql,
    },
};
use blameio_integration_tests::scene::{DEADLINE, can_run, configuration, start_agent};

/// Rows updated a second: a little log all the time.
const RATE: u32 = 500;

/// Servers below one directory, which goes with them.
struct Site {
    dir: tempfile::TempDir,
    binaries: Binaries,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("blameio-test-").tempdir().expect("a directory");
        // The servers' own user must be able to pass.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
        Self { dir, binaries: Binaries::find(None).expect("checked before") }
    }

    fn primary(&self, settings: &Settings) -> Cluster {
        // A replica can only be copied from where pages are whole in the log.
        let settings = &Settings::default().with("full_page_writes", "on").and(settings);
        Cluster::primary(&self.binaries, &self.dir.path().join("primary"), settings).expect("a primary")
    }

    fn replica(&self, upstream: &Cluster, name: &str) -> Cluster {
        Cluster::replica_of(upstream, &self.dir.path().join(name), &Settings::default()).expect("a replica")
    }

    /// A directory that any server may write to.
    fn shared(&self, name: &str) -> std::path::PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir(&path).expect("a directory");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("permissions");
        path
    }
}

async fn workload(primary: &Cluster) -> Workload {
    let client = sql::connect(&primary.dsn()).await.expect("the primary answers");
    let table = "CREATE TABLE IF NOT EXISTS t (id bigint PRIMARY KEY, n bigint NOT NULL DEFAULT 0); \
                 INSERT INTO t SELECT i FROM generate_series(1, 1000) i ON CONFLICT DO NOTHING";
    sql::execute(&client, table).await.expect("a table");
    let updates =
        Updates { sql: "UPDATE t SET n = n + 1 WHERE id = ANY($1::bigint[])".to_owned(), keys: 1000 };
    Workload::start(&primary.dsn(), &updates, RATE).await.expect("a workload")
}

async fn watch(replica: &Cluster, primary: Option<&str>) -> (Agent, Arc<Recorder>) {
    let recorder = Arc::new(Recorder::default());
    let agent = start_agent(&[configuration(&replica.dsn(), primary)], &recorder).await;
    (agent, recorder)
}

async fn wait_in_step(recorder: &Recorder) {
    let in_step = recorder.wait_for(DEADLINE, |tick| tick.lag < 0.5).await;
    assert!(in_step, "not in step: {:?}", recorder.ticks().last());
}

fn sums_to_its_lag(ticks: &[Tick]) {
    for tick in ticks {
        assert!((tick.sum() - tick.lag).abs() <= 0.01 * tick.lag.max(0.01), "{tick:?}");
    }
}

fn archived(archive: &Path) -> Settings {
    let command = format!("cp %p {}/%f.part && mv {0}/%f.part {0}/%f", archive.display());
    Settings::default().with("archive_mode", "on").with("archive_command", &command)
}

/// A replica that is fed by restored files alone.
fn fed_by(archive: &Path) -> Settings {
    let command = format!("cp {}/%f \"%p\"", archive.display());
    Settings::default()
        .with("restore_command", &command)
        .with("primary_conninfo", "")
        .with("primary_slot_name", "")
        .with("wal_retrieve_retry_interval", "100ms")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_that_waits_for_its_archiving_is_transport() {
    if !can_run("log_that_waits_for_its_archiving_is_transport", false) {
        return;
    }
    let site = Site::new();
    let archive = site.shared("archive");
    let primary = site.primary(&archived(&archive));
    let mut replica = site.replica(&primary, "replica");
    replica.configure(&fed_by(&archive)).expect("configured");
    // pg_basebackup -R writes the upstream's address where it wins over postgresql.conf.
    fs::write(replica.data().join("postgresql.auto.conf"), "").expect("written");
    replica.restart(StopMode::Fast).expect("restarted");
    let (agent, recorder) = watch(&replica, Some(&primary.dsn())).await;
    let workload = workload(&primary).await;
    let client = sql::connect(&primary.dsn()).await.expect("the primary answers");
    // What was there before the agent is nobody's; from here on it knows when the primary wrote what.
    sql::execute(&client, "SELECT pg_switch_wal()").await.expect("switched");
    assert!(recorder.wait_for(DEADLINE, |tick| tick.lag < 4.0).await, "{:?}", recorder.ticks().last());
    let lagged = recorder.wait_for(DEADLINE, |tick| tick.lag > 5.0).await;
    assert!(lagged, "nothing is archived and nothing lags: {:?}", recorder.ticks().last());
    let last = recorder.ticks().last().cloned().expect("ticks");
    assert_eq!(last.rows[0].cause, "transport", "{last:?}");
    assert!(last.rows[0].seconds > 0.6 * last.lag, "{last:?}");
    // A segment is finished: its changes arrive, and the lag falls by their age.
    sql::execute(&client, "SELECT pg_switch_wal()").await.expect("switched");
    let fell = recorder.wait_for(DEADLINE, |tick| tick.lag < 3.0).await;
    assert!(fell, "the segment arrived and the lag stays: {:?}", recorder.ticks().last());
    sums_to_its_lag(&recorder.ticks());
    workload.stop().await.expect("the workload ran");
    agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_stream_and_without_the_primary_nobody_is_named_and_the_lag_is_never_zero_for_want_of_knowledge()
 {
    let test = "without_a_stream_and_without_the_primary_nobody_is_named_and_the_lag_is_never_zero_for_want_of_knowledge";
    if !can_run(test, false) {
        return;
    }
    let site = Site::new();
    let archive = site.shared("archive");
    let primary = site.primary(&archived(&archive));
    let workload = workload(&primary).await;
    let mut replica = site.replica(&primary, "replica");
    replica.configure(&fed_by(&archive)).expect("configured");
    fs::write(replica.data().join("postgresql.auto.conf"), "").expect("written");
    replica.restart(StopMode::Fast).expect("restarted");
    let (agent, recorder) = watch(&replica, None).await;
    let told = recorder.wait_for(DEADLINE, |tick| tick.lag > 1.0).await;
    assert!(told, "the engine's word is not told: {:?}", recorder.ticks());
    for tick in &recorder.ticks() {
        let named = tick.rows.iter().find(|row| row.cause != "unknown" && row.seconds > 0.0);
        assert!(named.is_none(), "{named:?} is named though nothing can tell: {tick:?}");
        assert!(tick.lag > 0.0, "{tick:?}");
    }
    assert_eq!(recorder.sources(), ["engine"]);
    sums_to_its_lag(&recorder.ticks());
    workload.stop().await.expect("the workload ran");
    agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_replica_in_the_middle_does_not_hand_on_is_transport_for_the_one_behind_it() {
    let test = "what_a_replica_in_the_middle_does_not_hand_on_is_transport_for_the_one_behind_it";
    if !can_run(test, false) {
        return;
    }
    let site = Site::new();
    let primary = site.primary(&Settings::default());
    let middle = site.replica(&primary, "middle");
    let last = site.replica(&middle, "last");
    let truth = GroundTruth::start(&primary.dsn()).expect("the truth");
    let (agent, recorder) = watch(&last, Some(&primary.dsn())).await;
    let workload = workload(&primary).await;
    wait_in_step(&recorder).await;
    let since = recorder.ticks().len();
    let stalled = StoppedProcess::stop(middle.walreceiver().expect("it receives")).expect("stopped");
    let lagged = recorder.wait_for(DEADLINE, |tick| tick.lag > 5.0).await;
    assert!(lagged, "{:?}", recorder.ticks().last());
    let tick = recorder.ticks().last().cloned().expect("ticks");
    assert_eq!(tick.rows[0].cause, "transport", "{tick:?}");
    assert!(tick.rows[0].seconds > 0.9 * tick.lag, "{tick:?}");
    let client = sql::connect(&last.dsn()).await.expect("the replica answers");
    let replayed = sql::replayed(&client).await.expect("a position");
    let tick = recorder.ticks().last().cloned().expect("ticks");
    let error = (truth.lag(replayed, tick.at).as_secs_f64() - tick.lag).abs();
    assert!(error < 0.1, "the lag is that towards the first primary: {error} s off");
    drop(stalled);
    wait_in_step(&recorder).await;
    sums_to_its_lag(&recorder.ticks()[since..]);
    workload.stop().await.expect("the workload ran");
    agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failover_the_old_primary_says_nothing_of_the_lag_and_the_new_one_does() {
    let test = "after_a_failover_the_old_primary_says_nothing_of_the_lag_and_the_new_one_does";
    if !can_run(test, false) {
        return;
    }
    let site = Site::new();
    let mut primary = site.primary(&Settings::default());
    let heir = site.replica(&primary, "heir");
    let replica = site.replica(&heir, "replica");
    // Whichever of the two is the primary is asked.
    let either = format!(
        "postgresql://postgres@127.0.0.1:{},127.0.0.1:{}/postgres?target_session_attrs=read-write",
        primary.port(),
        heir.port()
    );
    let (agent, recorder) = watch(&replica, Some(&either)).await;
    let (loyal, loyal_recorder) = watch(&replica, Some(&primary.dsn())).await;
    let before = workload(&primary).await;
    wait_in_step(&recorder).await;
    wait_in_step(&loyal_recorder).await;
    drop(before);
    primary.stop(StopMode::Immediate);
    heir.promote().expect("promoted");
    let after = workload(&heir).await;
    wait_in_step(&recorder).await;
    // Whoever is told only of the old primary knows nothing any more; the last value stays.
    let ticks = loyal_recorder.ticks();
    let named = |row: &blameio::lab::Row| row.cause != "unknown" && row.seconds > 0.5;
    assert!(!ticks.iter().any(|tick| tick.rows.iter().any(named)), "{ticks:?}");
    // The new pair is measured: what replay is told to hold back is seen.
    let client = sql::connect(&replica.dsn()).await.expect("the replica answers");
    sql::execute(&client, "SELECT pg_wal_replay_pause()").await.expect("paused");
    let lagged = recorder.wait_for(DEADLINE, |tick| tick.lag > 5.0).await;
    assert!(lagged, "{:?}", recorder.ticks().last());
    let last = recorder.ticks().last().cloned().expect("ticks");
    assert_eq!(last.rows[0].cause, "paused", "{last:?}");
    sums_to_its_lag(&recorder.ticks());
    after.stop().await.expect("the workload ran");
    agent.shutdown().await;
    loyal.shutdown().await;
}
