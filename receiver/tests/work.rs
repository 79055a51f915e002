//! `blameio.replication.work` of a real replica: what is received and not applied grows while replay is paused, and
//! is gone when it has caught up.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, tells by printing, and shares one costly cluster among its steps"
)]

#[path = "../../databases/tests/cluster/mod.rs"]
#[expect(dead_code, reason = "the tests of another crate use more of it")]
mod cluster;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use blameio_config::{Signal, Sources, load};
use blameio_databases::DATABASE;
use blameio_pipeline::{
    Batch, Components, ExportError, Exporter, Factory, Stability,
    attribute::{FILE_PATH, WORK_KIND, WORK_STAGE},
    graph::Graph,
    metrics::{attribute, is_ended, number, number_points},
    signal,
    telemetry::Telemetry,
};
use blameio_receiver::REPLICATION;
use cluster::{Cluster, until, value};

/// Stage, kind and path.
type Key = (String, String, String);

/// Keeps the last value of every series.
#[derive(Default)]
struct Kept(Mutex<BTreeMap<Key, f64>>);

#[async_trait]
impl Exporter for Kept {
    async fn export(&self, batch: Batch) -> Result<(), ExportError> {
        let request = batch.as_metrics().unwrap();
        let scopes = request.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
        let mut kept = self.0.lock().unwrap();
        for metric in scopes.flat_map(|scope| &scope.metrics) {
            if metric.name != signal::REPLICATION_WORK.name {
                continue;
            }
            for point in number_points(metric) {
                let text = |key| attribute(&point.attributes, key).unwrap_or_default().to_owned();
                let key = (text(WORK_STAGE), text(WORK_KIND), text(FILE_PATH));
                assert!(point.start_time_unix_nano < point.time_unix_nano, "{key:?}");
                if is_ended(point.flags) {
                    kept.remove(&key);
                } else {
                    kept.insert(key, number(point).unwrap());
                }
            }
        }
        Ok(())
    }
}

impl Kept {
    fn get(&self, stage: &str, kind: &str, path: &str) -> f64 {
        let key = (stage.to_owned(), kind.to_owned(), path.to_owned());
        self.0.lock().unwrap().get(&key).copied().unwrap_or(0.0)
    }

    fn pending(&self, kind: &str, path: &str) -> f64 {
        self.get("received", kind, path) - self.get("applied", kind, path)
    }

    fn all_pending(&self) -> f64 {
        let sum = |stage| -> f64 {
            self.0.lock().unwrap().iter().filter(|((of, ..), _)| of == stage).map(|(_, value)| value).sum()
        };
        sum("received") - sum("applied")
    }
}

/// What a configuration has to name; the one that keeps is attached in code.
const NOWHERE: Factory<dyn Exporter> = Factory {
    kind: "nowhere",
    summary: "Keeps what nobody asks for",
    module: "test",
    signals: &[Signal::Metrics],
    stability: Stability::Development,
    fields: &[],
    validate: |_, _, _| {},
    create: |_, _| Ok(Box::new(Kept::default())),
};

const COMPONENTS: Components =
    Components { receivers: &[REPLICATION], processors: &[], exporters: &[NOWHERE], extensions: &[DATABASE] };

#[tokio::test(flavor = "multi_thread")]
async fn work_that_is_not_applied_is_told_by_file_and_is_gone_when_replay_has_caught_up() {
    let Some(cluster) = Cluster::start("work_that_is_not_applied") else { return };
    let primary = cluster.primary.sql("postgres").await;
    let replica = cluster.replica.sql("postgres").await;
    for statement in [
        "CREATE TABLE orders (id int PRIMARY KEY, a int, b int)",
        "CREATE INDEX orders_a ON orders (a)",
        "CREATE INDEX orders_b ON orders (b)",
        "INSERT INTO orders SELECT i, i, i FROM generate_series(1, 1000) i",
        "CREATE TABLE gone (id int)",
    ] {
        primary.batch_execute(statement).await.unwrap();
    }
    let mut paths = Vec::new();
    for relation in ["orders", "orders_pkey", "orders_a", "orders_b", "gone"] {
        paths.push(value::<String>(&primary, &format!("SELECT pg_relation_filepath('{relation}')")).await);
    }
    let [orders, orders_pkey, orders_a, orders_b, gone] = paths.try_into().unwrap();
    cluster.caught_up().await;
    let dsn = format!("postgresql://postgres@127.0.0.1:{}/postgres", cluster.replica.port);
    let config = format!(
        "yaml:{{extensions: {{database: {{dsn: '{dsn}'}}}}, receivers: {{replication: {{collection_interval: 200ms}}}}, \
         exporters: {{nowhere: }}, service: {{extensions: [database], pipelines: {{metrics: {{receivers: [replication], exporters: [nowhere]}}}}}}}}"
    );
    let loaded = load(&Sources { configs: &[config], set: &[], env: &|_| None }).unwrap();
    let telemetry = Telemetry::new(&blameio_config::Telemetry::default()).unwrap();
    let mut graph = Graph::build(&loaded.configuration, &COMPONENTS, telemetry.metrics()).unwrap();
    let kept = Arc::new(Kept::default());
    let exporter: Arc<dyn Exporter> = Arc::clone(&kept) as Arc<dyn Exporter>;
    graph.attach(&"kept".parse().unwrap(), &exporter);
    let running = graph.start().await.unwrap();

    // Until the first work is told, what is done is not read for sure.
    until("work is told", async || {
        primary.batch_execute("UPDATE orders SET a = a WHERE id = 1").await.unwrap();
        (kept.get("applied", "block", &orders) > 0.0).then_some(())
    })
    .await;
    cluster.caught_up().await;
    until("nothing is pending", async || (kept.all_pending() == 0.0).then_some(())).await;
    let before =
        [&orders, &orders_a, &orders_b, &orders_pkey].map(|path| kept.get("received", "block", path));

    replica.batch_execute("SELECT pg_wal_replay_pause()").await.unwrap();
    until("replay is paused", async || {
        let state: String = value(&replica, "SELECT pg_get_wal_replay_pause_state()").await;
        (state == "paused").then_some(())
    })
    .await;
    primary.batch_execute("UPDATE orders SET a = a + 1000 WHERE id > 500").await.unwrap();
    primary.batch_execute("DROP TABLE gone").await.unwrap();
    until("the drop is received", async || (kept.pending("drop", &gone) == 1.0).then_some(())).await;
    // 500 new versions of rows, each with an entry in each of three indexes; more where pages are split, and of the
    // heap up to three: the old row is locked before its new version goes to another page.
    for path in [&orders, &orders_a, &orders_b, &orders_pkey] {
        let pending = kept.pending("block", path);
        assert!((500.0..2000.0).contains(&pending), "{path}: {pending}");
    }
    assert_eq!(kept.get("applied", "drop", &gone), 0.0, "nothing is applied while replay is paused");
    for (key, value) in kept.0.lock().unwrap().iter().filter(|((_, _, path), _)| path.contains("/16")) {
        eprintln!("blameio.replication.work {key:?} {value}");
    }

    replica.batch_execute("SELECT pg_wal_replay_resume()").await.unwrap();
    cluster.caught_up().await;
    until("nothing is pending", async || (kept.all_pending() == 0.0).then_some(())).await;
    assert_eq!(kept.get("applied", "drop", &gone), 1.0);
    let after = [&orders, &orders_a, &orders_b, &orders_pkey].map(|path| kept.get("applied", "block", path));
    assert!(before.iter().zip(after).all(|(before, after)| after >= before + 500.0), "{before:?} {after:?}");

    // A server that is no replica any more has no work.
    replica.batch_execute("SELECT pg_promote()").await.unwrap();
    until("the series have ended", async || kept.0.lock().unwrap().is_empty().then_some(())).await;
    running.shutdown(Duration::from_secs(10)).await;
}
