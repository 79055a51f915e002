//! An agent with nothing but databases and a heartbeat, whose newest points are kept.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use blameio_config::{Secret, Signal, Sources, load};
use blameio_databases::DATABASE;
use blameio_pipeline::{
    Batch, Components, ExportError, Exporter, Factory, Stability,
    attribute::{HEARTBEAT_CLOCK, HEARTBEAT_WRITER, LAG_FRESHNESS, SERVICE_NAME},
    graph::{Graph, Running},
    metrics::{attribute, is_ended, number, number_points},
    signal,
    telemetry::Telemetry,
};
use blameio_receiver::HEARTBEAT;

use crate::cluster::until;

/// Server, name of the writer's database, clock, and the freshness where the point has one.
type Key = (String, String, String, String);

#[derive(Default)]
pub(crate) struct Kept {
    points: Mutex<BTreeMap<Key, f64>>,
    batches: AtomicUsize,
}

#[async_trait]
impl Exporter for Kept {
    async fn export(&self, batch: Batch) -> Result<(), ExportError> {
        let request = batch.as_metrics().unwrap();
        let mut kept = self.points.lock().unwrap();
        for resource in &request.resource_metrics {
            let server = attribute(&resource.resource.as_ref().unwrap().attributes, SERVICE_NAME).unwrap();
            for metric in resource.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
                assert!([signal::HEARTBEAT_DELAY.name, signal::HEARTBEAT_INFO.name].contains(&&*metric.name));
                for point in number_points(metric) {
                    let text = |key| attribute(&point.attributes, key).unwrap_or_default().to_owned();
                    let writer = text(HEARTBEAT_WRITER).split('@').next().unwrap().to_owned();
                    let key = (server.to_owned(), writer, text(HEARTBEAT_CLOCK), text(LAG_FRESHNESS));
                    if is_ended(point.flags) {
                        assert!(kept.remove(&key).is_some(), "{key:?} ended and was none");
                    } else {
                        kept.insert(key, number(point).unwrap());
                    }
                }
            }
        }
        drop(kept);
        self.batches.fetch_add(1, Ordering::SeqCst);
        Ok(())
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
    Components { receivers: &[HEARTBEAT], processors: &[], exporters: &[NOWHERE], extensions: &[DATABASE] };

pub(crate) struct Agent {
    running: Running,
    kept: Arc<Kept>,
}

impl Agent {
    /// Starts it with these databases and the settings of the receiver `heartbeat/NAME`.
    pub(crate) async fn start(name: &str, databases: &[(&str, Secret)], settings: &str) -> Self {
        let declared: Vec<_> = databases
            .iter()
            .map(|(name, dsn)| format!("database/{name}: {{dsn: '{}'}}", dsn.expose()))
            .collect();
        let named: Vec<_> = databases.iter().map(|(name, _)| format!("database/{name}")).collect();
        let config = format!(
            "yaml:{{extensions: {{{}}}, receivers: {{heartbeat/{name}: {{collection_interval: 50ms, {settings}}}}}, \
             exporters: {{nowhere: }}, service: {{extensions: [{}], pipelines: {{metrics: \
             {{receivers: [heartbeat/{name}], exporters: [nowhere]}}}}}}}}",
            declared.join(", "),
            named.join(", ")
        );
        let loaded = load(&Sources { configs: &[config], set: &[], env: &|_| None }).unwrap();
        let telemetry = Telemetry::new(&blameio_config::Telemetry::default()).unwrap();
        let mut graph = Graph::build(&loaded.configuration, &COMPONENTS, telemetry.metrics()).unwrap();
        let kept = Arc::new(Kept::default());
        let exporter: Arc<dyn Exporter> = Arc::clone(&kept) as Arc<dyn Exporter>;
        graph.attach(&"kept".parse().unwrap(), &exporter);
        Self { running: graph.start().await.unwrap(), kept }
    }

    pub(crate) async fn end(self) {
        self.running.shutdown(Duration::from_secs(10)).await;
    }

    /// Seconds that a replica is behind a writer, by a clock.
    pub(crate) fn by(&self, server: &str, writer: &str, clock: &str) -> Option<f64> {
        let key = [server, writer, clock, ""].map(str::to_owned).into();
        self.kept.points.lock().unwrap().get(&key).copied()
    }

    pub(crate) fn delay(&self, server: &str, writer: &str) -> Option<f64> {
        self.by(server, writer, "agent")
    }

    /// Whether the delay is measured now, or held.
    pub(crate) fn is_fresh(&self, server: &str, writer: &str) -> bool {
        let key = [server, writer, "agent", "fresh"].map(str::to_owned).into();
        self.kept.points.lock().unwrap().contains_key(&key)
    }

    /// Series that there are of a server.
    pub(crate) fn series(&self, server: &str) -> usize {
        self.kept.points.lock().unwrap().keys().filter(|(of, ..)| of == server).count()
    }

    /// Waits for points of later than now.
    pub(crate) async fn next(&self) {
        let before = self.kept.batches.load(Ordering::SeqCst);
        until("more points", async || (self.kept.batches.load(Ordering::SeqCst) > before + 1).then_some(()))
            .await;
    }

    /// Waits for a delay.
    pub(crate) async fn comes(
        &self,
        what: &str,
        server: &str,
        writer: &str,
        is_it: impl Fn(f64) -> bool,
    ) -> f64 {
        until(what, async || self.delay(server, writer).filter(|delay| is_it(*delay))).await
    }

    /// Waits until a delay is measured, and at rest.
    pub(crate) async fn settles(&self, server: &str, writer: &str) {
        until("it settles", async || {
            let rests = self.delay(server, writer).is_some_and(|delay| delay < 0.1);
            (rests && self.is_fresh(server, writer)).then_some(())
        })
        .await;
    }
}
