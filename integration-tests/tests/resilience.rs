//! What goes away comes back by itself: servers that are down at the start or restarted, a primary that nobody told of.

use std::{io, sync::Arc, time::Duration};

use blameio::lab::{
    Binaries, Cluster, Culprit, Lab, LabOptions, Recorder, Schema, Settings, StopMode, Storage, Updates,
    Verdict,
};
use blameio_integration_tests::scene::{
    DEADLINE, Scene, SceneOptions, can_run, configuration, free_port, start_agent,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_down_at_the_start_is_measured_when_it_comes() {
    if !can_run("a_replica_that_is_down_at_the_start_is_measured_when_it_comes", false) {
        return;
    }
    let binaries = Binaries::find(None).expect("checked above");
    let dir = tempfile::Builder::new().prefix("blameio-test-").tempdir().expect("a directory");
    // The server's own user must be able to reach it.
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("permissions");
    let primary =
        Cluster::primary(&binaries, &dir.path().join("primary"), &Settings::default()).expect("a primary");
    let mut replica =
        Cluster::replica_of(&primary, &dir.path().join("replica"), &Settings::default()).expect("a replica");
    replica.stop(StopMode::Fast);
    let recorder = Arc::new(Recorder::default());
    let agent = start_agent(&[configuration(&replica.dsn(), Some(&primary.dsn()))], &recorder).await;
    assert!(!recorder.wait_for(Duration::from_secs(3), |_| true).await, "nothing can be measured yet");
    replica.start().expect("the replica starts");
    assert!(recorder.wait_for(DEADLINE, |tick| tick.lag < 0.1).await, "it is up and is not measured");
    agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_replica_is_watched_again_and_blamed_rightly() {
    if !can_run("a_restarted_replica_is_watched_again_and_blamed_rightly", true) {
        return;
    }
    let mut scene = Scene::build(SceneOptions::default()).await;
    scene.warm_up().await;
    let workload = scene.lab.start_workload(&Updates::orders(), Lab::RATE).await.expect("a workload");
    scene.lab.restart_replica(StopMode::Fast).await.expect("restarted");
    scene.wait_in_step().await;
    scene.warm_up().await;
    let since = scene.recorder.ticks().len();
    scene.lab.inject_cold_index().await.expect("an injection");
    scene.wait_for_lag(6.0).await;
    let culprit = Culprit::of("replay").table("orders").index(Schema::COLD_INDEX);
    scene.judge("cold index after a restart", since, &culprit);
    workload.stop().await.expect("the workload ran");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lag_from_before_the_agent_is_unknown_until_it_is_drained() {
    if !can_run("a_lag_from_before_the_agent_is_unknown_until_it_is_drained", true) {
        return;
    }
    let options = SceneOptions::default();
    let mut lab = Lab::build(options.lab.clone()).await.expect("a laboratory");
    let workload = lab.start_workload(&Updates::orders(), Lab::RATE).await.expect("a workload");
    lab.inject_cold_index().await.expect("an injection");
    let end = std::time::Instant::now() + DEADLINE;
    while lab.true_lag().await.expect("the true lag") < Duration::from_secs(5) {
        assert!(std::time::Instant::now() < end, "the injection made no lag");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut scene = Scene::watch(lab, options).await;
    scene.warm_up().await;
    let ticks = scene.ticks_since(0);
    println!("first and last tick of a lag from before: {:?} {:?}", ticks.first(), ticks.last());
    let before = ticks.first().expect("ticks");
    assert!(before.unknown() >= 0.9 * before.lag, "{before:?}");
    let verdict = Verdict::of(&ticks, None);
    assert!(verdict.worst_sum_error <= 0.01, "{verdict:?}");
    // What is added from now on is seen: nobody but the index may be named for it.
    let culprit = Culprit::of("replay").table("orders").index(Schema::COLD_INDEX);
    let verdict = Verdict::of(&ticks, Some(&culprit));
    assert!(verdict.strangers.is_empty(), "{verdict:?}");
    scene.lab.heal().expect("healed");
    scene.wait_in_step().await;
    scene.warm_up().await;
    let since = scene.recorder.ticks().len();
    scene.lab.inject_cold_index().await.expect("an injection");
    scene.wait_for_lag(6.0).await;
    scene.judge("cold index after a start in the middle", since, &culprit);
    workload.stop().await.expect("the workload ran");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_primary_is_asked_again_and_its_replica_blamed_rightly() {
    if !can_run("a_restarted_primary_is_asked_again_and_its_replica_blamed_rightly", true) {
        return;
    }
    let mut scene = Scene::build(SceneOptions::default()).await;
    scene.warm_up().await;
    let workload = scene.lab.start_workload(&Updates::orders(), Lab::RATE).await.expect("a workload");
    scene.warm_up().await;
    let restart = scene.recorder.ticks().len();
    drop(workload);
    scene.lab.restart_primary(StopMode::Fast).await.expect("restarted");
    let workload = scene.lab.start_workload(&Updates::orders(), Lab::RATE).await.expect("a workload");
    // The replica asks for its upstream again after some seconds.
    let caught_up = scene.lab.wait_caught_up(DEADLINE).await;
    caught_up.expect("the replica finds its primary again");
    scene.wait_in_step().await;
    let verdict = Verdict::of(&scene.ticks_since(restart), Some(&Culprit::of("transport")));
    println!("a primary that was away: {verdict:?}");
    assert!(verdict.worst_sum_error <= 0.01, "{verdict:?}");
    assert!(verdict.strangers.is_empty(), "what the restart held up is the link's or nobody's: {verdict:?}");
    scene.warm_up().await;
    let since = scene.recorder.ticks().len();
    scene.lab.inject_cold_index().await.expect("an injection");
    scene.wait_for_lag(6.0).await;
    let culprit = Culprit::of("replay").table("orders").index(Schema::COLD_INDEX);
    scene.judge("cold index after a restart of the primary", since, &culprit);
    assert!(scene.recorder.sources().contains(&"primary".to_owned()), "{:?}", scene.recorder.sources());
    workload.stop().await.expect("the workload ran");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_replica_has_no_lag_and_no_blame_any_more() {
    if !can_run("a_promoted_replica_has_no_lag_and_no_blame_any_more", false) {
        return;
    }
    let scene = Scene::build(plain()).await;
    let port = i64::from(scene.lab.replica().port());
    let workload = scene.lab.start_workload(&Updates::customers(), Lab::RATE).await.expect("a workload");
    scene.warm_up().await;
    scene.lab.pause_replay().await.expect("paused");
    scene.wait_for_lag(2.0).await;
    scene.lab.resume_replay().await.expect("resumed");
    scene.lab.replica().promote().expect("promoted");
    let promoted = || {
        scene.recorder.state(port).as_deref() == Some("promoted")
            && scene.recorder.lag_is_ended(port)
            && scene.recorder.shown_blame(port) == 0
    };
    let end = std::time::Instant::now() + DEADLINE;
    while !promoted() {
        let (state, ended) = (scene.recorder.state(port), scene.recorder.lag_is_ended(port));
        let blame = scene.recorder.shown_blame(port);
        assert!(
            std::time::Instant::now() < end,
            "state {state:?}, lag ended: {ended}, rows of blame: {blame}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let ticks = scene.recorder.ticks().len();
    let more = scene.recorder.wait_for(Duration::from_secs(3), |tick| tick.port == port).await;
    assert!(!more, "a server that is no replica has a lag again: {:?}", &scene.recorder.ticks()[ticks..]);
    workload.stop().await.expect("the workload ran");
    scene.end().await;
}

fn plain() -> SceneOptions {
    SceneOptions {
        lab: LabOptions { storage: Storage::Plain, ..LabOptions::default() },
        ..SceneOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_primary_a_paused_replay_is_still_measured_and_there_is_no_transport() {
    if !can_run("without_the_primary_a_paused_replay_is_still_measured_and_there_is_no_transport", false) {
        return;
    }
    let scene = Scene::build(SceneOptions { with_primary: false, ..plain() }).await;
    scene.warm_up().await;
    let workload = scene.lab.start_workload(&Updates::customers(), Lab::RATE).await.expect("a workload");
    scene.warm_up().await;
    let since = scene.recorder.ticks().len();
    scene.lab.pause_replay().await.expect("paused");
    scene.wait_for_lag(6.0).await;
    scene.judge("paused replay, local timeline", since, &Culprit::of("paused"));
    assert_eq!(scene.recorder.sources(), ["local"]);
    let transport = |row: &blameio::lab::Row| row.cause == "transport";
    assert!(!scene.recorder.ticks().iter().any(|tick| tick.rows.iter().any(transport)));
    scene.lab.resume_replay().await.expect("resumed");
    workload.stop().await.expect("the workload ran");
    scene.end().await;
}

async fn scrape(port: u16) -> io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut page = String::new();
    stream.read_to_string(&mut page).await?;
    Ok(page)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scrape_page_tells_lag_and_blame_that_add_up() {
    if !can_run("the_scrape_page_tells_lag_and_blame_that_add_up", false) {
        return;
    }
    let port = free_port();
    let more = format!(
        "{{exporters: {{prometheus: {{endpoint: '127.0.0.1:{port}', send_timestamps: true}}}}, \
         service: {{pipelines: {{metrics: {{exporters: [prometheus]}}}}}}}}"
    );
    let scene = Scene::build(SceneOptions { more, ..plain() }).await;
    scene.warm_up().await;
    scene.lab.pause_replay().await.expect("paused");
    let workload = scene.lab.start_workload(&Updates::customers(), Lab::RATE).await.expect("a workload");
    scene.wait_for_lag(3.0).await;
    let page = scrape(port).await.expect("the page answers");
    let samples = |name: &str| -> Vec<(f64, String)> {
        page.lines()
            .filter(|line| line.starts_with(name) && line.as_bytes().get(name.len()) == Some(&b'{'))
            .map(|line| {
                let mut fields = line.rsplit(' ');
                let at = fields.next().expect("a timestamp").to_owned();
                (fields.next().expect("a value").parse().expect("a number"), at)
            })
            .collect()
    };
    let lag = samples("blameio_replication_lag_seconds");
    assert_eq!(lag.len(), 1, "one lag a channel:\n{page}");
    let blame = samples("blameio_lag_blame_seconds");
    let sum: f64 = blame.iter().map(|(seconds, _)| seconds).sum();
    assert!((sum - lag[0].0).abs() <= 0.01 * lag[0].0, "{sum} is not {}:\n{page}", lag[0].0);
    assert!(blame.iter().all(|(_, at)| *at == lag[0].1), "one tick has one timestamp:\n{page}");
    assert!(page.contains("blameio_blame_cause=\"paused\""), "{page}");
    assert!(page.contains("blameio_file_operation_duration_seconds_bucket"), "{page}");
    workload.stop().await.expect("the workload ran");
    scene.end().await;
}

/// Values on the page of series whose name and labels contain all of these.
fn values(page: &str, words: &[&str]) -> Vec<f64> {
    page.lines()
        .filter(|line| !line.starts_with('#') && words.iter().all(|word| line.contains(word)))
        .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_that_take_too_much_are_detached_and_lag_is_measured_without_them() {
    if !can_run("probes_that_take_too_much_are_detached_and_lag_is_measured_without_them", false) {
        return;
    }
    let port = free_port();
    let more = format!(
        "{{receivers: {{file_io: {{state_directory: '', max_cpu_percent: 0.0001}}}}, \
         exporters: {{prometheus: {{endpoint: '127.0.0.1:{port}'}}}}, \
         service: {{pipelines: {{metrics: {{exporters: [prometheus]}}}}}}}}"
    );
    let scene = Scene::build(SceneOptions { more, ..plain() }).await;
    let workload = scene.lab.start_workload(&Updates::customers(), Lab::RATE).await.expect("a workload");
    scene.warm_up().await;
    let page = scrape(port).await.expect("the page answers");
    let taken = values(&page, &["blameio_probe_time_seconds_total", "sys_enter"]);
    assert!(taken.iter().all(|seconds| *seconds > 0.0) && taken.len() == 1, "{page}");
    assert!(!values(&page, &["blameio_file_operations_total"]).is_empty(), "{page}");
    // Judged over half a minute.
    let end = std::time::Instant::now() + DEADLINE;
    let page = loop {
        let page = scrape(port).await.expect("the page answers");
        if !values(&page, &["blameio_file_lost_total", "probes detached"]).is_empty() {
            break page;
        }
        assert!(std::time::Instant::now() < end, "the probes are not detached:\n{page}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    for gone in ["blameio_device_time", "blameio_file_operations_total", "blameio_probe_time"] {
        assert!(values(&page, &[gone]).is_empty(), "{gone} stands still:\n{page}");
    }
    let since = scene.recorder.ticks().len();
    scene.lab.pause_replay().await.expect("paused");
    scene.wait_for_lag(3.0).await;
    let verdict = Verdict::of(&scene.ticks_since(since), Some(&Culprit::of("paused")));
    scene.lab.resume_replay().await.expect("resumed");
    scene.wait_in_step().await;
    // The server tells of the pause once a second, and until then nobody knows.
    assert!(verdict.worst_sum_error <= 0.01 && verdict.right_first >= 0.95, "{verdict:?}");
    assert!(verdict.strangers.is_empty() && verdict.unknown <= 0.4, "{verdict:?}");
    workload.stop().await.expect("the workload ran");
    scene.end().await;
}
