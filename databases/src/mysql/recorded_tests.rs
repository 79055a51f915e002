//! Answers of MySQL and MariaDB servers, given over the wire to the same code that asks them. Those of MySQL 9.7 and
//! MariaDB 10.11 were recorded from such servers; of versions that could not be run the columns, types and names are
//! those of their manuals: the note `source` of each file says which.

mod beats;
mod packet;
mod recorder;
mod replayer;
mod servers;
mod statements;
mod tape;

use std::{path::PathBuf, sync::Arc, time::Duration};

use blameio_config::Secret;
use blameio_pipeline::ThreadRole;

use crate::{
    catalog::{CatalogReader, FileKey, Resolution, Wanted},
    engine::Engine,
    error::DatabaseError,
    heartbeat::NotWritable,
    locate::Place,
    positions::{ReplicaSample, WaitKind},
};
use recorder::Recorder;
use replayer::Replayer;
use tape::Tape;

/// Versions of which answers are kept.
const VERSIONS: [&str; 5] = ["mysql-8.0.21", "mysql-8.0", "mysql-8.4", "mysql-9.7", "mariadb-10.11"];

/// Whom the agent's code asks, and what is the matter there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Primary,
    Replica,
    Single,
    Parallel,
    Unprivileged,
    WithoutPerformanceSchema,
}

/// Where answers come from.
enum Stage {
    Live(Box<Recorder>),
    Recorded(Replayer),
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/recorded")
}

fn file(version: &str, act: &str) -> PathBuf {
    directory().join(format!("{version}-{act}.txt"))
}

impl Stage {
    async fn enter(&mut self, scene: &str) {
        match self {
            Self::Live(recorder) => recorder.enter(scene).await,
            Self::Recorded(replayer) => replayer.enter(scene),
        }
    }

    fn note(&self, name: &str) -> String {
        match self {
            Self::Live(recorder) => recorder.note(name),
            Self::Recorded(replayer) => replayer.note(name),
        }
    }

    /// An engine that asks the server with an account.
    fn engine(&self, account: &str) -> (Arc<dyn Engine>, CatalogReader) {
        let port = match self {
            Self::Live(recorder) => recorder.port(),
            Self::Recorded(replayer) => replayer.port,
        };
        made(&format!("mysql://{account}@127.0.0.1:{port}/?ssl-mode=DISABLED"))
    }
}

fn made(dsn: &str) -> (Arc<dyn Engine>, CatalogReader) {
    let id = "database/recorded".parse().unwrap();
    let made = super::make(&id, Some(&Secret::new(dsn)), None, Place::default()).unwrap();
    (made.engine, made.catalog)
}

/// Samples until a condition holds.
async fn sampled(
    engine: &dyn Engine,
    what: &str,
    condition: impl Fn(&ReplicaSample) -> bool,
) -> ReplicaSample {
    let mut last = None;
    for _ in 0..250 {
        match engine.sample().await {
            Ok(sample) if condition(&sample) => return sample,
            answer => last = Some(answer),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not in time: {what}, but {last:?}");
}

fn waits_for(kind: WaitKind) -> impl Fn(&ReplicaSample) -> bool {
    move |sample| sample.wait.as_ref().is_some_and(|wait| wait.kind == kind)
}

impl Act {
    const ALL: [Self; 6] = [
        Self::Primary,
        Self::Replica,
        Self::Single,
        Self::Parallel,
        Self::Unprivileged,
        Self::WithoutPerformanceSchema,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
            Self::Single => "single",
            Self::Parallel => "parallel",
            Self::Unprivileged => "unprivileged",
            Self::WithoutPerformanceSchema => "without-performance-schema",
        }
    }

    /// Whether it is another one than `Replica`: MySQL has workers unless told otherwise, and MariaDB has none. Of the
    /// latter no answer depends on its `performance_schema`.
    fn is_of(self, is_mysql: bool) -> bool {
        match self {
            Self::Single | Self::WithoutPerformanceSchema => is_mysql,
            Self::Parallel => !is_mysql,
            Self::Primary | Self::Replica | Self::Unprivileged => true,
        }
    }

    /// Asks everything that the agent asks, and looks at what is made of it.
    async fn play(self, stage: &mut Stage, version: &str) {
        let what = format!("{version} {}", self.name());
        let (engine, catalog) = stage.engine("agent");
        match self {
            Self::Primary => {
                primary(stage, &*engine, &what).await;
                beats::on_primary(stage, &*engine, &what).await;
            }
            Self::Replica | Self::Single | Self::Parallel => {
                replica(stage, &*engine, &what).await;
                indexes(stage, &*engine, &catalog).await;
                beats::on_replica(stage, &*engine, &what).await;
                self.locks(stage, &*engine, version).await;
                positions(stage, &*engine, &what).await;
            }
            Self::Unprivileged => {
                unprivileged(stage, &*engine, &what).await;
                beats::without_privileges(&*engine, &what).await;
            }
            Self::WithoutPerformanceSchema => blind(stage, &*engine, &what).await,
        }
        engine.close(false).await;
    }

    /// Who holds a lock that replay waits for, and on what; and that workers without work wait for more.
    async fn locks(self, stage: &mut Stage, engine: &dyn Engine, version: &str) {
        for scene in ["row lock", "metadata lock", "global lock"] {
            stage.enter(scene).await;
            if scene != "row lock" && version.starts_with("mariadb") {
                // It tells who holds such a lock only with a plugin.
                sampled(engine, scene, waits_for(WaitKind::Lock)).await;
                continue;
            }
            // For a moment the wait before may still be told.
            let holder = stage.note(&holder(scene)).parse().ok();
            let is_named = |sample: &ReplicaSample| {
                waits_for(WaitKind::Lock)(sample)
                    && sample.wait.as_ref().is_some_and(|wait| wait.holder == holder)
            };
            assert!(holder.is_some());
            let wait = sampled(engine, scene, is_named).await.wait.unwrap();
            let object = wait.object.as_ref().map(|object| (&*object.namespace, &*object.table));
            let expected = (scene != "global lock").then_some(("shop", "orders"));
            assert_eq!(object, expected, "{scene} on {version}");
            assert!(!wait.own);
        }
        if version.starts_with("mysql") && workers(&format!("{version} {}", self.name())) > 0 {
            let scene = "idle workers";
            stage.enter(scene).await;
            let is_idle = |sample: &ReplicaSample| {
                waits_for(WaitKind::Starved)(sample) && sample.replayed < sample.received
            };
            sampled(engine, scene, is_idle).await;
        }
    }
}

/// The note of who holds the lock of a scene.
fn holder(scene: &str) -> String {
    format!("holder-of-{}", scene.replace(' ', "-"))
}

async fn primary(stage: &mut Stage, engine: &dyn Engine, what: &str) {
    stage.enter("start").await;
    // Nobody has asked before, so that it is asked who the server is.
    keyless(engine, what).await;
    let before = engine.flushed().await.unwrap();
    assert!(before.flushed > 0 && before.timeline == 101, "{what}: {before:?}");
    assert!(!engine.sample().await.unwrap().in_recovery);
    let missing = engine.check().await.into_iter().filter(|finding| !finding.ok);
    let missing: Vec<_> = missing.map(|finding| finding.what).collect();
    assert_eq!(missing, ["is not a replica: there is no lag to attribute"], "{what}");
    stage.enter("rotated").await;
    let after = engine.flushed().await.unwrap();
    // The end of the file before is told by the server.
    assert!(after.flushed > before.flushed && after.flushed < before.flushed + 4096, "{what}: {after:?}");
}

async fn replica(stage: &mut Stage, engine: &dyn Engine, what: &str) {
    stage.enter("start").await;
    engine.load_catalog().await.unwrap();
    let is_mariadb = what.starts_with("mariadb");
    let caught_up = |sample: &ReplicaSample| {
        sample.apply_thread.is_some()
            && waits_for(WaitKind::Starved)(sample)
            && sample.received.is_some()
            && sample.received == sample.replayed
    };
    let idle = sampled(engine, "it has caught up", caught_up).await;
    assert!(idle.in_recovery && idle.streaming && !idle.paused, "{what}: {idle:?}");
    assert_eq!(idle.timeline, Some(101), "{what}");
    assert_eq!(engine.system(), if is_mariadb { super::MARIADB } else { super::MYSQL });
    let info = engine.info().await.unwrap();
    assert!(info.streaming && info.upstream.is_some_and(|at| at.starts_with("127.0.0.1:")), "{what}");
    assert_eq!((info.timeline, info.intended_delay), (Some(101), Duration::ZERO), "{what}");
    assert_eq!(engine.system_identifier().await.unwrap().is_some(), !is_mariadb, "{what}");
    assert!(engine.started().await.unwrap() > 1_700_000_000, "{what}");
    let roles = engine.roles().await.unwrap();
    let applier = roles.get(&idle.apply_thread.unwrap()).unwrap();
    assert!(applier.role == ThreadRole::Apply, "{what}: {roles:?}");
    let count = |role| roles.values().filter(|duty| duty.role == role).count();
    assert_eq!(count(ThreadRole::Receive), 1, "{what}: {roles:?}");
    let critical = roles.values().filter(|duty| duty.is_critical).count();
    assert_eq!(critical, 1 + workers(what), "{what}: {roles:?}");
    assert_eq!(count(ThreadRole::Apply), 1 + workers(what), "{what}: {roles:?}");
    if !is_mariadb {
        for role in [ThreadRole::PageCleaner, ThreadRole::Checkpoint, ThreadRole::Purge, ThreadRole::IoWorker]
        {
            assert!(count(role) > 0, "{what}: no {role:?}");
        }
    }
    let findings = engine.check().await;
    assert!(findings.iter().all(|finding| finding.ok), "{what}: {findings:?}");
    let named = keyless(engine, what).await.join(", ");
    let is_told =
        findings.iter().any(|f| f.what.contains("without a primary key") && f.what.ends_with(&named));
    assert!(is_told, "{what}: {findings:?}");
}

/// Tables without a key, as people name them: neither those with a primary key nor with another that serves as one, and of
/// MySQL none with partitions.
async fn keyless(engine: &dyn Engine, what: &str) -> Vec<String> {
    let tables = engine.tables_without_key().await.unwrap();
    let named: Vec<_> = tables.iter().map(|table| format!("{}.{}", table.namespace, table.table)).collect();
    let expected = if what.starts_with("mariadb") { 2 } else { 1 };
    assert_eq!(named, &["shop.order lines", "shop.parts"][..expected], "{what}");
    named
}

/// That pages are named by the number of their index, and large values by their table.
async fn indexes(stage: &Stage, engine: &dyn Engine, catalog: &CatalogReader) {
    let (path, id) = ("data/shop/orders.ibd", stage.note("index"));
    let index = FileKey::Index(id.parse().unwrap());
    let clustered = FileKey::ClusteredIndex("shop/orders".into());
    engine.look_up([index, clustered].map(Wanted::File).into()).await.unwrap();
    for told in [id.as_str(), "blob"] {
        let Resolution::Object(object) = catalog.resolve_pages(path, told) else {
            panic!("{told} has no name")
        };
        let named = (&*object.namespace, &*object.table, object.index.as_deref());
        assert_eq!(named, ("shop", "orders", Some("PRIMARY")), "{told}");
    }
}

/// How many workers apply beside the thread that hands out their work.
fn workers(what: &str) -> usize {
    match what {
        "mysql-8.0 replica" | "mysql-8.4 replica" | "mysql-9.7 replica" | "mariadb-10.11 parallel" => 4,
        // Since 9.x there is always one.
        "mysql-9.7 single" => 1,
        _ => 0,
    }
}

async fn positions(stage: &mut Stage, engine: &dyn Engine, what: &str) {
    stage.enter("stopped").await;
    let stopped = sampled(engine, "it is stopped", |sample| {
        waits_for(WaitKind::Paused)(sample) && sample.replayed < sample.received
    })
    .await;
    assert!(stopped.paused && stopped.streaming && stopped.apply_thread.is_none(), "{what}: {stopped:?}");
    beats::are_refused(engine, NotWritable::Replica, what).await;
    stage.enter("delayed").await;
    let delayed = sampled(engine, "it is delayed", waits_for(WaitKind::Delayed)).await;
    assert!(
        delayed.replayed < delayed.received && delayed.received >= stopped.received,
        "{what}: {delayed:?}"
    );
    assert_eq!(engine.info().await.unwrap().intended_delay.as_secs(), 600, "{what}");
    if what.starts_with("mysql") {
        stage.enter("channels").await;
        let one = sampled(engine, "the channel that lags is looked at", waits_for(WaitKind::Delayed)).await;
        assert!(one.received >= delayed.received && one.timeline == Some(101), "{what}: {one:?}");
    }
    stage.enter("promoted").await;
    let promoted = sampled(engine, "it is no replica any more", |sample| !sample.in_recovery).await;
    assert_eq!((promoted.received, promoted.wait), (None, None), "{what}");
    beats::when_promoted(engine, what).await;
}

async fn unprivileged(stage: &mut Stage, engine: &dyn Engine, what: &str) {
    stage.enter("start").await;
    let error = engine.sample().await.unwrap_err();
    assert!(matches!(&error, DatabaseError::Query { code, .. } if code == "1227"), "{what}: {error}");
    let findings = engine.check().await;
    let remedies: Vec<_> = findings.iter().filter_map(|finding| finding.remedy.clone()).collect();
    let expected: &[&str] = if what.starts_with("mariadb") {
        &["SLAVE MONITOR ON *.*", "PROCESS ON *.*"]
    } else {
        &["REPLICATION CLIENT ON *.*", "PROCESS ON *.*", "SELECT ON performance_schema.*"]
    };
    assert_eq!(remedies.len(), expected.len(), "{what}: {findings:?}");
    for (remedy, expected) in remedies.iter().zip(expected) {
        assert!(remedy.contains(&format!("GRANT {expected} TO 'agent'@'127.0.0.1'")), "{what}: {remedy}");
    }
    assert!(engine.started().await.is_ok() && engine.load_catalog().await.is_ok(), "{what}");
    for error in [engine.flushed().await.unwrap_err(), engine.tables_without_key().await.unwrap_err()] {
        assert!(matches!(&error, DatabaseError::Query { code, .. } if code == "1227"), "{what}: {error}");
    }
}

/// MySQL with `performance_schema = OFF`: lag is still told, threads and holders are not.
async fn blind(stage: &mut Stage, engine: &dyn Engine, what: &str) {
    stage.enter("start").await;
    let caught_up = |sample: &ReplicaSample| {
        waits_for(WaitKind::Starved)(sample)
            && sample.received.is_some()
            && sample.received == sample.replayed
    };
    let idle = sampled(engine, "it has caught up", caught_up).await;
    assert_eq!((idle.apply_thread, engine.roles().await.unwrap().len()), (None, 0), "{what}");
    let findings = engine.check().await;
    let missing: Vec<_> = findings.iter().filter(|finding| !finding.ok).collect();
    assert!(missing.len() == 1 && missing[0].what.contains("performance_schema"), "{what}: {findings:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_all_versions_are_understood() {
    for version in VERSIONS {
        for act in Act::ALL.iter().filter(|act| file(version, act.name()).exists()) {
            let server = Replayer::start(Tape::read(&file(version, act.name()))).await;
            let mut stage = Stage::Recorded(server);
            act.play(&mut stage, version).await;
            let Stage::Recorded(server) = stage else { unreachable!() };
            let what = format!("{version} {}", act.name());
            assert_eq!(server.unknown(), Vec::<String>::new(), "asked of {what}, and not recorded");
            assert_eq!(server.unasked(), Vec::<String>::new(), "recorded of {what}, and not asked");
        }
        assert!(file(version, "primary").exists() || version == "mysql-8.0.21", "no primary of {version}");
    }
}
