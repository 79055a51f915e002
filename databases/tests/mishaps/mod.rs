//! What this crate promises where the network, a pooler or the configuration is not as it should be, against a real
//! PostgreSQL 15 primary and replica.

use std::time::{Duration, Instant};

use crate::cluster::{Cluster, Watched, until, watch, wire::Wire};
use blameio_config::Secret;
use blameio_databases::{
    Database, DatabaseError, DatabaseExtension, DatabaseSettings, WaitKind, database as database_of,
};
use blameio_pipeline::Extension;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};

/// How long who samples waits for one look.
const LOOK: Duration = Duration::from_secs(1);

async fn through(wire: &Wire) -> Watched {
    let dsn = Some(Secret::new(format!("postgresql://postgres@127.0.0.1:{}/postgres", wire.port)));
    watch(DatabaseSettings { dsn, ..DatabaseSettings::default() }).await
}

async fn answers(database: &Database, what: &str) {
    until(what, async || timeout(LOOK, database.replica().sample()).await.ok()?.ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_has_gone_silent_is_replaced() {
    let Some(cluster) = Cluster::start("a_connection_that_has_gone_silent_is_replaced") else { return };
    let wire = Wire::to(cluster.replica.port).await;
    let watched = through(&wire).await;
    answers(&watched.database, "a first sample").await;

    // Who waits is told within the time of one look.
    wire.silence();
    let told = timeout(LOOK, watched.database.replica().sample()).await.expect("the look is told in time");
    assert!(
        matches!(told.as_ref().map_err(DatabaseError::root), Err(DatabaseError::Timeout { .. })),
        "{told:?}"
    );
    answers(&watched.database, "the silent connection is replaced").await;

    // So it is where nobody waits as long, and the questions do not pile up.
    let before = wire.accepted();
    wire.silence();
    let begun = Instant::now();
    until("impatient askers get a new connection", async || {
        timeout(Duration::from_millis(100), watched.database.replica().sample()).await.ok()?.ok()
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
    assert!(wire.accepted() <= before + 4, "{} connections", wire.accepted() - before);
    until("no silent connection is kept", async || (wire.open() <= 2).then_some(())).await;
    watched.extension.shutdown().await;
    until("all connections are closed", async || (wire.open() == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_connect_leads_somewhere() {
    let Some(cluster) = Cluster::start("a_slow_connect_leads_somewhere") else { return };
    let wire = Wire::to(cluster.replica.port).await;
    wire.delay(Duration::from_millis(2_500));
    let watched = through(&wire).await;
    assert!(timeout(LOOK, watched.database.replica().sample()).await.is_err());
    answers(&watched.database, "who waits a second at a time gets there").await;
    watched.extension.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_primary_is_noticed() {
    let Some(cluster) = Cluster::start("a_wrong_primary_is_noticed") else { return };
    let Some(other) = Cluster::start("a_wrong_primary_is_noticed") else { return };
    for (primary, expected) in [(&other.primary, "another cluster"), (&cluster.replica, "in recovery")] {
        let watched = cluster.replica.watch(Some(primary)).await;
        let mut sampler = watched.database.primary().unwrap();
        let told = until("the wrong primary is told", async || {
            let error = sampler.clone().flushed().await.err()?.root().to_string();
            error.contains(expected).then_some(error)
        })
        .await;
        assert!(told.contains("primary_dsn"), "{told}");
        assert!(sampler.flushed().await.is_err());
        let findings = watched.database.check().await;
        assert!(
            findings.iter().any(|finding| !finding.ok && finding.what.contains(expected)),
            "{findings:?}"
        );
        watched.extension.shutdown().await;
    }
}

/// A replica whose primary is asked through a connection string of the test's own.
async fn asking(cluster: &Cluster, primary: &str) -> Watched {
    let dsn = Some(cluster.replica.dsn("postgres"));
    let primary_dsn = Some(Secret::new(format!("postgresql://postgres@{primary}")));
    watch(DatabaseSettings { dsn, primary_dsn, data_directory: None }).await
}

/// Waits until the primary answers, and tells its timeline and how long it took.
async fn primary_answers(watched: &Watched, what: &str) -> (u32, Duration) {
    let (begun, sampler) = (Instant::now(), watched.database.primary().unwrap());
    let position = until(what, async || timeout(LOOK, sampler.clone().flushed()).await.ok()?.ok()).await;
    (position.timeline, begun.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failover_the_primary_is_found_again_within_seconds_and_without_a_storm() {
    let test = "after_a_failover_the_primary_is_found_again_within_seconds_and_without_a_storm";
    let Some(cluster) = Cluster::start(test) else { return };
    let wire = Wire::to(cluster.primary.port).await;
    let watched = asking(&cluster, &format!("127.0.0.1:{}/postgres", wire.port)).await;
    primary_answers(&watched, "the primary answers").await;
    let sampler = watched.database.primary().unwrap();
    let in_recovery = async || {
        let error = timeout(LOOK, sampler.clone().flushed()).await.ok()?.err()?;
        matches!(error.root(), DatabaseError::InRecovery { .. }).then_some(())
    };

    // The name leads to a standby for a while.
    wire.lead_to(cluster.replica.port);
    until("the standby is told", in_recovery).await;
    let (begun, before) = (Instant::now(), wire.accepted());
    while begun.elapsed() < Duration::from_secs(6) {
        assert!(sampler.clone().flushed().await.is_err());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let connections = wire.accepted() - before;
    assert!((2..=6).contains(&connections), "{connections} connections in 6 s");
    wire.lead_to(cluster.primary.port);
    let (timeline, took) = primary_answers(&watched, "the name leads to the primary again").await;
    assert!(timeline == 1 && took < Duration::from_secs(4), "{took:?}");

    // A standby that is promoted is the primary.
    wire.lead_to(cluster.replica.port);
    until("the standby is told again", in_recovery).await;
    cluster.promote(&cluster.replica);
    let (timeline, took) = primary_answers(&watched, "the promotion is noticed").await;
    assert!(timeline == 2 && took < Duration::from_secs(4), "{took:?}");
    watched.extension.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_hosts_the_primary_is_asked() {
    let Some(cluster) = Cluster::start("of_several_hosts_the_primary_is_asked") else { return };
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", cluster.replica.port, cluster.primary.port);
    for attributes in ["", "?target_session_attrs=read-write"] {
        let watched = asking(&cluster, &format!("{hosts}/postgres{attributes}")).await;
        assert_eq!(watched.database.primary().unwrap().flushed().await.unwrap().timeline, 1);
        watched.extension.shutdown().await;
    }
    // Where none of them is a primary, the one that cannot be reached is told: it should be.
    let watched = asking(&cluster, &format!("{hosts}/postgres")).await;
    primary_answers(&watched, "the primary answers").await;
    cluster.down(&cluster.primary);
    let (sampler, down) =
        (watched.database.primary().unwrap(), format!("127.0.0.1:{}", cluster.primary.port));
    until("the primary that is down is told", async || {
        let error = sampler.clone().flushed().await.err()?;
        matches!(error.root(), DatabaseError::Connect { server, .. } if *server == down).then_some(())
    })
    .await;
    cluster.promote(&cluster.replica);
    let (timeline, _) = primary_answers(&watched, "the promoted one is asked").await;
    assert_eq!(timeline, 2);
    watched.extension.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_little_is_told_what_can_be_told() {
    let Some(cluster) = Cluster::start("a_role_that_may_little_is_told_what_can_be_told") else { return };
    let primary = cluster.primary.sql("postgres").await;
    primary.batch_execute("CREATE ROLE blameio LOGIN").await.unwrap();
    let revoke = "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC";
    primary.batch_execute(revoke).await.unwrap();
    cluster.caught_up().await;

    let watched =
        watch(DatabaseSettings { dsn: Some(cluster.replica.dsn("blameio")), ..DatabaseSettings::default() })
            .await;
    answers(&watched.database, "positions need no grant").await;
    // Where the address does not tell, and the system identifier may not be asked for, it has an identity all the same.
    let wire = Wire::to(cluster.replica.port).await;
    let dsn = Some(Secret::new(format!("postgresql://blameio@127.0.0.1:{}/postgres", wire.port)));
    let wired = watch(DatabaseSettings { dsn, ..DatabaseSettings::default() }).await;
    until("an identity", async || wired.database.server().view().identity.clone()).await;
    wired.extension.shutdown().await;
    let replica = cluster.replica.sql("postgres").await;
    replica.batch_execute("SELECT pg_wal_replay_pause()").await.unwrap();
    let paused = until("a pause is told where the wait is hidden", async || {
        watched.database.replica().sample().await.ok().filter(|sample| sample.paused)
    })
    .await;
    assert_eq!(paused.wait.map(|wait| wait.kind), Some(WaitKind::Paused));

    replica.batch_execute("SELECT pg_wal_replay_resume()").await.unwrap();
    let streams = async |is_so: bool| {
        until("whether there is a stream is told", async || {
            let sample = watched.database.replica().sample().await.ok()?;
            let info = watched.database.replica().info().await.ok()?;
            let has_all = sample.received.is_some() && sample.received == sample.replayed;
            (has_all && sample.streaming == is_so && info.streaming == is_so).then_some(sample)
        })
        .await
    };
    assert_eq!(streams(true).await.timeline, None, "it is hidden from the role");
    cluster.down(&cluster.primary);
    // What was received stays, and nothing but the walreceiver tells that no more comes.
    assert_eq!(streams(false).await.timeline, None);
    cluster.up(&cluster.primary);
    streams(true).await;

    watched.extension.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_about_to_be_found_is_waited_for() {
    let Some(cluster) = Cluster::start("a_server_that_is_about_to_be_found_is_waited_for") else { return };
    let data_directory = Some(cluster.replica.directory.clone());
    let settings = DatabaseSettings { data_directory, ..DatabaseSettings::default() };
    let watched = watch(settings.clone()).await;
    let first = watched.database.replica().sample().await;
    assert!(!matches!(first, Err(DatabaseError::NotConfigured { .. })), "{first:?}");
    watched.extension.shutdown().await;

    // A check finds it without any worker.
    let extension = DatabaseExtension::new("database/checked".parse().unwrap(), settings).unwrap();
    let findings = database_of(&extension).unwrap().check().await;
    assert!(findings.iter().any(|finding| finding.ok && finding.what == "is a replica"), "{findings:?}");
    extension.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_is_told_and_left_alone() {
    // It answers to the start as poolers do to options that they do not know.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let pooler = tokio::spawn(async move {
        let (mut agent, _) = listener.accept().await.unwrap();
        let mut start = vec![0; 4];
        agent.read_exact(&mut start).await.unwrap();
        let length = u32::from_be_bytes([start[0], start[1], start[2], start[3]]) as usize;
        let mut rest = vec![0; length - 4];
        agent.read_exact(&mut rest).await.unwrap();
        let fields = b"SFATAL\0C08P01\0Munsupported startup parameter: options\0\0";
        agent.write_u8(b'E').await.unwrap();
        agent.write_u32(u32::try_from(fields.len() + 4).unwrap()).await.unwrap();
        agent.write_all(fields).await.unwrap();
        agent.flush().await.unwrap();
        String::from_utf8_lossy(&rest).into_owned()
    });
    let dsn =
        format!("postgresql://blameio@127.0.0.1:{port}/postgres?sslmode=disable&options=-c%20work_mem%3D1MB");
    let dsn = Some(Secret::new(dsn));
    let watched = watch(DatabaseSettings { dsn, ..DatabaseSettings::default() }).await;
    let error = watched.database.replica().sample().await.unwrap_err().to_string();
    assert!(error.contains("08P01") && error.contains("not to a pooler"), "{error}");
    let start = pooler.await.unwrap();
    for option in
        ["work_mem=1MB", "default_transaction_read_only=on", "statement_timeout=800", "lock_timeout=100"]
    {
        assert!(start.contains(option), "{option}: {start}");
    }
    watched.extension.shutdown().await;
}
