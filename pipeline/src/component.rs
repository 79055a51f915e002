//! The contract of every component, one trait a kind, and the factory that makes it from its settings.
//!
//! `validate` looks at settings alone. `create` builds the component and resolves what it refers to; neither
//! opens a socket, a file or a connection. `start` and `run` do.

use std::{any::Any, sync::Arc, time::Duration};

use async_trait::async_trait;
use blameio_config::{ComponentId, Decode, Diagnostics, FieldDoc, Node, Path, Signal};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::{Batch, Host, Output, WatchedServer, health::Heartbeat, telemetry::AgentMetrics};

/// Why a component cannot be made, started or go on.
#[derive(Debug, Error)]
#[error("{component}: {what}; {remedy}")]
pub struct ComponentError {
    /// Which component.
    pub component: String,
    /// What was tried and what came of it.
    pub what: String,
    /// What the operator can do.
    pub remedy: String,
}

impl ComponentError {
    /// An error of the component `id`.
    pub fn new(id: &ComponentId, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { component: id.to_string(), what: what.into(), remedy: remedy.into() }
    }
}

/// What a component may use of its surroundings; given to it when it is made.
#[derive(Clone, Debug)]
pub struct Context {
    /// Its own id.
    pub id: ComponentId,
    /// The extensions.
    pub host: Arc<Host>,
    /// Instruments for the agent's own metrics.
    pub metrics: AgentMetrics,
}

impl Context {
    /// The component's settings. They were validated before, so an error here is a defect of the component's own.
    pub fn settings<T: Decode>(&self, node: &Node) -> Result<T, ComponentError> {
        let mut found = Diagnostics::default();
        T::decode(node, &Path::root().key(&self.id.to_string()), &mut found)
            .ok_or_else(|| ComponentError::new(&self.id, found.to_string(), "mend the configuration"))
    }
}

/// How the graph speaks to a running receiver.
#[derive(Clone, Debug)]
pub struct Control {
    /// Cancelled when the receiver must take in no more, hand on what it has, and return.
    pub drain: CancellationToken,
    /// To be beaten at least once in its interval.
    pub heartbeat: Heartbeat,
}

/// Brings data in.
#[async_trait]
pub trait Receiver: Send {
    /// The longest silence between two heartbeats of a healthy receiver.
    fn heartbeat_interval(&self) -> Duration {
        Duration::from_secs(30)
    }

    /// Runs until `control.drain` is cancelled. It acknowledges to its source only what `output` has accepted.
    async fn run(self: Box<Self>, output: Output, control: Control) -> Result<(), ComponentError>;
}

/// A processor cannot take a batch.
#[derive(Debug, Error)]
#[error("{reason}")]
pub struct Refusal {
    /// Why.
    pub reason: String,
    /// Whether the same batch would be refused again.
    pub permanent: bool,
}

/// Changes batches. Runs inside its pipeline's task and must not block.
pub trait Processor: Send {
    /// Takes a batch, and returns what goes on: the same, others, or nothing.
    fn process(&mut self, batch: Batch) -> Result<Vec<Batch>, Refusal>;

    /// Called about once a second, and once more before the end; returns what has become due.
    fn tick(&mut self) -> Vec<Batch> {
        Vec::new()
    }
}

/// Why an exporter did not deliver.
#[derive(Clone, Debug, Error)]
pub enum ExportError {
    /// It may work later.
    #[error("{reason}")]
    Retry {
        /// What happened.
        reason: String,
        /// When the destination wants to be asked again.
        after: Option<Duration>,
    },
    /// It will never work.
    #[error("{reason}")]
    Permanent {
        /// What happened.
        reason: String,
    },
}

/// Sends data out. Queue, retries and timeout are put around it, it does one attempt.
#[async_trait]
pub trait Exporter: Send + Sync {
    /// Opens what it needs. It must come back by itself from what can mend itself, such as a port in use.
    async fn start(&self) -> Result<(), ComponentError> {
        Ok(())
    }

    /// Delivers one batch, or, for one that is read from, accepts it.
    async fn export(&self, batch: Batch) -> Result<(), ExportError>;

    /// The end begins: more may come, and is delivered, but nothing waits for a better time any more.
    fn drain(&self) {}

    /// Delivers what is left and closes.
    async fn shutdown(&self) {}
}

/// Serves other components.
#[async_trait]
pub trait Extension: Send + Sync {
    /// Begins to work. It must come back by itself from what can mend itself, such as a server that is down.
    async fn start(&self) -> Result<(), ComponentError>;

    /// Closes what it holds.
    async fn shutdown(&self);

    /// The database server it declares, if it declares one.
    fn server(&self) -> Option<WatchedServer> {
        None
    }

    /// For components that need more of a kind of extension that they know.
    fn as_any(&self) -> &dyn Any;
}

/// How far a component can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stability {
    /// May change without notice.
    Development,
    /// Usable; its settings may change with a notice.
    Alpha,
}

impl Stability {
    /// As the Collector prints it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Development => "Development",
            Self::Alpha => "Alpha",
        }
    }
}

/// Makes components of one type.
pub struct Factory<T: ?Sized> {
    /// The type, as in `type/name`.
    pub kind: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// The package it lives in.
    pub module: &'static str,
    /// Signals it handles; empty for extensions.
    pub signals: &'static [Signal],
    /// How far it can be relied on.
    pub stability: Stability,
    /// Its settings, for the generated docs.
    pub fields: &'static [FieldDoc],
    /// Reports everything that is wrong with the settings.
    pub validate: fn(&Node, &Path, &mut Diagnostics),
    /// Makes one. Called only with settings that `validate` found nothing against.
    pub create: fn(&Node, Context) -> Result<Box<T>, ComponentError>,
}

/// The table of everything that can be configured.
pub struct Components {
    /// Receivers.
    pub receivers: &'static [Factory<dyn Receiver>],
    /// Processors.
    pub processors: &'static [Factory<dyn Processor>],
    /// Exporters.
    pub exporters: &'static [Factory<dyn Exporter>],
    /// Extensions.
    pub extensions: &'static [Factory<dyn Extension>],
}
