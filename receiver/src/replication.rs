//! `replication`: lag, positions, waits and status of the declared replicas. What the lag is owed to is not its
//! business.

use std::time::Duration;

use async_trait::async_trait;
use blameio_config::{ComponentId, Decode, Diagnostics, Node, Path, Signal, settings};
use blameio_databases::{Database, database};
use blameio_pipeline::{ComponentError, Context, Control, Factory, Output, Receiver, Stability};
use tokio::task::JoinSet;

mod channel;
mod emit;
mod lag;
mod log;
mod pace;
mod progress;
mod timeline;
mod waits;
mod work;

settings! {
    /// Measures replication.
    pub struct ReplicationSettings {
        /// Replicas to measure; without it, all databases that are declared.
        pub databases: Vec<ComponentId> = (),
        /// How often positions are looked at; that of a replica in step that rests, half as often.
        pub sample_interval: Duration = "20ms",
        /// How often metrics are handed on.
        pub collection_interval: Duration = "1s",
        /// Whether the log that a replica on this host has received is read, from `pg_wal` or its relay logs, to tell
        /// which tables and indexes ask replay for how much work: references to blocks and dropped relations, or bytes
        /// of changed rows, of which no value is looked at. Only the heads of records are read, in files that were just written and are still in the page cache, at most 64 MiB a
        /// second. It costs about a millisecond of processor time for each MiB of log.
        pub read_log: bool = true,
    }
}

/// Factory of `replication`.
pub const REPLICATION: Factory<dyn Receiver> = Factory {
    kind: "replication",
    summary: "Measures replication lag, positions, waits and status",
    module: "blameio-receiver",
    signals: &[Signal::Metrics],
    stability: Stability::Development,
    fields: ReplicationSettings::FIELDS,
    validate,
    create: |node, context: Context| {
        let settings: ReplicationSettings = context.settings(node)?;
        let databases = context
            .host
            .databases(&context.id, &settings.databases)?
            .iter()
            .filter_map(|(_, extension)| database(extension.as_ref()).cloned())
            .collect();
        Ok(Box::new(Replication { databases, settings }))
    },
};

fn validate(node: &Node, path: &Path, found: &mut Diagnostics) {
    let Some(settings) = ReplicationSettings::decode(node, path, found) else { return };
    if settings.sample_interval < Duration::from_millis(5) {
        found.error(
            &node.position,
            &path.key("sample_interval"),
            "must be at least 5ms: each look is a statement",
        );
    }
    if settings.collection_interval < settings.sample_interval {
        found.error(
            &node.position,
            &path.key("collection_interval"),
            "must be greater than or equal to `sample_interval`",
        );
    }
}

/// The receiver.
#[derive(Debug)]
pub struct Replication {
    databases: Vec<Database>,
    settings: ReplicationSettings,
}

#[async_trait]
impl Receiver for Replication {
    async fn run(self: Box<Self>, output: Output, control: Control) -> Result<(), ComponentError> {
        let mut channels = JoinSet::new();
        for database in self.databases {
            channels.spawn(channel::run(database, self.settings.clone(), output.clone(), control.clone()));
        }
        // Channels end when they are drained. One that panics must not end in silence: it stops the heartbeat.
        while let Some(ended) = channels.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a replication channel ended; its server is not measured any more");
                control.heartbeat.failed();
            }
        }
        control.drain.cancelled().await;
        Ok(())
    }
}
