//! Real answers of PostgreSQL versions that are not installed where the tests run: recorded once from such servers, and
//! given again, over the wire, to the same code that asks them.

mod recorder;
mod replayer;
mod tape;

use std::{path::PathBuf, sync::Arc, time::Duration};

use blameio_config::Secret;

use super::{PostgreSql, directory::PgDirectory, dsn::Dsn, waits};
use crate::{
    catalog::{CatalogReader, FileKind, Object, Resolution},
    engine::Engine,
    locate::Place,
    positions::{ReplicaSample, WaitKind},
};
use replayer::Replayer;
use tape::Tape;

/// Versions of which answers are kept.
const VERSIONS: [u32; 4] = [14, 16, 17, 18];

fn file(version: u32, server: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/recorded/{version}-{server}.txt"))
}

/// An engine that asks the server at this port.
fn engine(port: u16) -> (PostgreSql, CatalogReader) {
    let dsn = Secret::new(format!("postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=disable"));
    let directory = PgDirectory::default();
    let reader = CatalogReader::new(Box::new(directory.clone()));
    let id = "database/recorded".parse().unwrap();
    let dsns = vec![Dsn::parse(&dsn).unwrap()];
    (PostgreSql::new(&id, dsns, Place::default(), directory, reader.clone()), reader)
}

/// Samples until a condition holds.
async fn sampled(
    engine: &PostgreSql,
    what: &str,
    condition: impl Fn(&ReplicaSample) -> bool,
) -> ReplicaSample {
    for _ in 0..400 {
        if let Ok(sample) = engine.sample().await
            && condition(&sample)
        {
            return sample;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not in time: {what}");
}

fn waits_for(kind: WaitKind) -> impl Fn(&ReplicaSample) -> bool {
    move |sample| {
        sample
            .wait
            .as_ref()
            .is_some_and(|wait| wait.kind == kind && (kind != WaitKind::Lock || wait.holder.is_some()))
    }
}

/// Waits until this session, or nobody, is named for a conflict.
async fn is_named(engine: &PostgreSql, startup: u32, expected: Option<u32>) {
    for _ in 0..100 {
        let wait = engine.waits.describe(&engine.link, "IPC", "RecoveryConflictSnapshot", startup).await;
        if wait.holder == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not named in time: {expected:?}");
}

/// The object of a file: read ahead, or looked up.
async fn resolved(engine: &PostgreSql, reader: &CatalogReader, path: &str) -> Arc<Object> {
    for _ in 0..50 {
        match reader.resolve(path) {
            Resolution::Object(object) => return object,
            _ => engine.look_up(reader.take_due().0).await.unwrap(),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{path} has no name");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_versions_that_are_not_installed_are_understood() {
    for version in VERSIONS {
        let tape = Tape::read(&file(version, "replica")).unwrap();
        let notes = tape.notes.clone();
        let path = |name: &str| notes[name].clone();
        let server = Replayer::start(tape).await;
        let (engine, reader) = engine(server.port);

        engine.load_catalog().await.unwrap();
        for (name, table, index, kind) in [
            ("orders", "orders", None, FileKind::Heap),
            ("orders_pkey", "orders", Some("orders_pkey"), FileKind::Index),
            ("toast", "orders", None, FileKind::Toast),
            ("events_1_pkey", "events", Some("events_pkey"), FileKind::Index),
            ("pg_class", "pg_class", None, FileKind::Catalog),
            ("pg_database", "pg_database", None, FileKind::Catalog),
            ("late", "late", None, FileKind::Heap),
        ] {
            let object = resolved(&engine, &reader, &path(name)).await;
            let found = (&*object.table, object.index.as_deref(), object.kind);
            assert_eq!(found, (table, index, kind), "{name} on {version}");
        }

        let first = sampled(&engine, "a first sample", |sample| sample.apply_thread.is_some()).await;
        assert!(
            first.in_recovery && first.streaming && first.received.is_some() && first.replayed.is_some(),
            "{version}: {first:?}"
        );
        let locked = sampled(&engine, "a lock", waits_for(WaitKind::Lock)).await.wait.unwrap();
        let object = locked.object.map(|object| object.table.clone());
        assert_eq!(object.as_deref(), Some("orders"), "{version}");
        // While sessions of two databases may be meant nobody is named; the oldest of each could be what is asked for.
        let conflict = sampled(&engine, "a conflict", waits_for(WaitKind::Conflict)).await;
        assert_eq!(conflict.wait.unwrap().holder, None, "{version}");
        let reader: u32 = notes["reader"].parse().unwrap();
        let mut asked = 0;
        while !waits::is_held_up_by(&engine.link, reader).await {
            asked += 1;
            assert!(asked < 10, "on {version} the session that holds up replay is not told");
        }
        is_named(&engine, conflict.apply_thread.unwrap(), Some(reader)).await;
        assert!(sampled(&engine, "a pause", |sample| sample.paused).await.paused);
        let session = engine.link.session().await.unwrap();
        assert_eq!(session.version / 10_000, version);
        assert!(session.monitors && session.started > 0);
        assert!(!waits::is_held_up_by(&engine.link, session.backend).await);

        let info = engine.info().await.unwrap();
        assert!(
            info.streaming && info.upstream.is_some() && info.slot.as_deref() == Some("seat"),
            "{info:?}"
        );
        assert!(engine.system_identifier().await.unwrap().is_some());
        assert_eq!(engine.started().await.unwrap(), session.started);
        let roles = engine.roles().await.unwrap();
        for role in [
            blameio_pipeline::ThreadRole::Apply,
            blameio_pipeline::ThreadRole::Receive,
            blameio_pipeline::ThreadRole::Checkpoint,
            blameio_pipeline::ThreadRole::Writer,
        ] {
            assert!(roles.values().any(|known| known.role == role), "{role:?} on {version}");
        }
        let workers = roles.values().any(|known| known.role == blameio_pipeline::ThreadRole::IoWorker);
        assert_eq!(workers, version >= 18);
        let findings = engine.check().await;
        assert!(findings.iter().all(|finding| finding.ok), "{version}: {findings:?}");
        assert_eq!(server.unknown(), Vec::<String>::new(), "asked on {version}, and not recorded");
        engine.close(false).await;

        let primary = Replayer::start(Tape::read(&file(version, "primary")).unwrap()).await;
        let (engine, _) = self::engine(primary.port);
        let position = engine.flushed().await.unwrap();
        assert!(position.flushed > 0 && position.timeline == 1);
        assert_eq!(primary.unknown(), Vec::<String>::new(), "asked on {version}, and not recorded");
        engine.close(false).await;
    }
}
