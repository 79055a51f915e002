//! `heartbeat`: writes beats on primaries and looks for them on replicas. How long a beat takes is a replica's delay, the link
//! included, by one clock: this agent's. What the delay is owed to is not its business.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use async_trait::async_trait;
use blameio_config::{ComponentId, Decode, Diagnostics, Node, Path, Signal, settings};
use blameio_databases::{BeatTable, Database, database};
use blameio_pipeline::{
    Batch, ComponentError, Context, Control, Factory, Output, Receiver, Stability, schedule::until_next,
};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use tokio::{task::JoinSet, time::sleep};

mod aim;
mod delay;
mod emit;
mod pace;
mod published;
mod reader;
mod replica;
mod writer;

use published::{Published, Writers};
use replica::Replica;

/// Most characters of a schema's name: what PostgreSQL takes.
const LONGEST_SCHEMA: usize = 63;

settings! {
    /// Measures how long a change takes from its primary to a replica.
    pub struct HeartbeatSettings {
        /// Databases on which beats are written while they are primaries. Servers that may become one after a failover can
        /// be named too: a replica, and a server that is read-only, is not written to.
        pub primaries: Vec<ComponentId> = (),
        /// Databases whose delay is measured, at any depth below a primary. Of one to whose primary another agent writes,
        /// the clocks of both hosts are compared, and the points say so (`blameio.heartbeat.clock`).
        pub replicas: Vec<ComponentId> = (),
        /// How often a beat is written; 10ms or more. It is the resolution of a delay that grows.
        pub interval: Duration = "1s",
        /// Whether schema and table are made on the primary where they are missing.
        pub create: bool = false,
        /// Schema (PostgreSQL, in the database of the connection string) or database (MySQL) of the table `heartbeat`.
        pub schema: String = "blameio",
        /// The most of an interval that writing a beat, or reading it, may take. Above it there is a warning, and beats
        /// become rarer.
        pub max_share: f64 = 0.25,
        /// How often metrics are handed on.
        pub collection_interval: Duration = "1s",
    }
}

/// Factory of `heartbeat`.
pub const HEARTBEAT: Factory<dyn Receiver> = Factory {
    kind: "heartbeat",
    summary: "Writes beats on primaries and measures how long replicas take to show them",
    module: "blameio-receiver",
    signals: &[Signal::Metrics],
    stability: Stability::Development,
    fields: HeartbeatSettings::FIELDS,
    validate,
    create: |node, context: Context| {
        let settings: HeartbeatSettings = context.settings(node)?;
        let primaries = databases(&context, &settings.primaries)?;
        let replicas = databases(&context, &settings.replicas)?;
        Ok(Box::new(Heartbeat { id: context.id, primaries, replicas, settings }))
    },
};

/// The databases of these ids, each once; none where none is named.
fn databases(context: &Context, ids: &[ComponentId]) -> Result<Vec<Database>, ComponentError> {
    let mut once: Vec<ComponentId> = Vec::with_capacity(ids.len());
    for id in ids {
        if !once.contains(id) {
            once.push(id.clone());
        }
    }
    if once.is_empty() {
        return Ok(Vec::new());
    }
    let found = context.host.databases(&context.id, &once)?;
    Ok(found.iter().filter_map(|(_, extension)| database(extension.as_ref()).cloned()).collect())
}

fn validate(node: &Node, path: &Path, found: &mut Diagnostics) {
    let Some(settings) = HeartbeatSettings::decode(node, path, found) else { return };
    let mut wrong = |key: &str, what: &str| {
        let position = node.get(key).map_or(&node.position, |value| &value.position);
        found.error(position, &path.key(key), what);
    };
    if settings.primaries.is_empty() && settings.replicas.is_empty() {
        wrong("replicas", "names no database, and neither does `primaries`: there is nothing to measure");
    }
    if settings.interval < Duration::from_millis(10) {
        wrong("interval", "must be at least 10ms: each beat is a commit on the primary");
    }
    if settings.collection_interval < Duration::from_millis(10) {
        wrong("collection_interval", "must be at least 10ms");
    }
    if !(settings.max_share > 0.0 && settings.max_share <= 1.0) {
        wrong("max_share", "must be above 0 and at most 1");
    }
    if settings.schema.is_empty()
        || settings.schema.len() > LONGEST_SCHEMA
        || settings.schema.chars().any(char::is_control)
    {
        wrong("schema", "must be a name of 1 to 63 bytes");
    }
}

/// The receiver.
#[derive(Debug)]
pub struct Heartbeat {
    id: ComponentId,
    primaries: Vec<Database>,
    replicas: Vec<Database>,
    settings: HeartbeatSettings,
}

#[async_trait]
impl Receiver for Heartbeat {
    async fn run(self: Box<Self>, output: Output, control: Control) -> Result<(), ComponentError> {
        let Self { id, primaries, replicas, settings } = *self;
        // A task for each server: one that hangs delays no other.
        let mut tasks = JoinSet::new();
        let published: Vec<_> =
            primaries.iter().map(|primary| Arc::new(Published::new(&id, primary.id()))).collect();
        let writers = Arc::new(Writers::new(published.clone()));
        for (primary, published) in primaries.iter().zip(published) {
            let table = BeatTable { schema: settings.schema.clone(), create: settings.create };
            let (writer, name) = (primary.beat_writer(table), primary.id().to_string());
            let (writers, settings) = (Arc::clone(&writers), settings.clone());
            tasks.spawn(writer::run(name, writer, published, writers, settings, control.drain.clone()));
        }
        let mut told = Vec::with_capacity(replicas.len());
        for database in replicas {
            let replica = Arc::new(Replica::new(database, Arc::clone(&writers), &settings));
            told.push((Arc::clone(&replica), emit::Told::default()));
            tasks.spawn(reader::run(replica, Arc::clone(&writers), settings.clone(), control.drain.clone()));
        }
        loop {
            tokio::select! {
                biased;
                () = control.drain.cancelled() => break,
                Some(ended) = tasks.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a heartbeat's task ended; its server is not served any more");
                        control.heartbeat.failed();
                    }
                    continue;
                }
                () = sleep(until_next(settings.collection_interval)) => {}
            }
            control.heartbeat.beat();
            let (now, at) = (Instant::now(), SystemTime::now());
            let resource_metrics: Vec<_> =
                told.iter_mut().filter_map(|(replica, told)| emit::report(replica, now, at, told)).collect();
            if resource_metrics.is_empty() {
                continue;
            }
            let batch = Batch::metrics(ExportMetricsServiceRequest { resource_metrics });
            if let Err(refused) = output.send(batch).await {
                tracing::debug!(%refused, "delays were refused; the next ones follow");
            }
        }
        while tasks.join_next().await.is_some() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let findings = |yaml: &str| {
            let mut found = Diagnostics::new();
            validate(&blameio_config::parse(yaml).unwrap(), &Path::root(), &mut found);
            found.to_string()
        };
        assert_eq!(findings("{primaries: [database/a], replicas: [database/b], interval: 10ms}"), "");
        for (yaml, key) in [
            ("{}", "replicas"),
            ("{replicas: [database/b], interval: 9ms}", "interval"),
            ("{replicas: [database/b], max_share: 0}", "max_share"),
            ("{replicas: [database/b], max_share: 1.1}", "max_share"),
            ("{replicas: [database/b], schema: ''}", "schema"),
            ("{replicas: [database/b], collection_interval: 0}", "collection_interval"),
        ] {
            assert!(findings(yaml).contains(key), "{yaml}: {}", findings(yaml));
        }
    }
}
