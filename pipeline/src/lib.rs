//! Batches, component contracts, the graph and the agent's own telemetry.
//!
//! Nothing here knows a database, a kernel probe or a wire protocol other than OTLP's messages.
#![forbid(unsafe_code)]

pub mod attribute;
pub mod batch;
pub mod component;
pub mod graph;
pub mod health;
pub mod host;
pub mod machine;
pub mod metrics;
pub mod output;
pub mod role;
pub mod schedule;
pub mod server;
pub mod signal;
pub mod state;
pub mod telemetry;

pub use batch::Batch;
pub use component::{
    ComponentError, Components, Context, Control, ExportError, Exporter, Extension, Factory, Processor,
    Receiver, Refusal, Stability,
};
pub use host::Host;
pub use output::Output;
pub use role::ThreadRole;
pub use server::{
    PageFormat, ServerIdentity, ServerPublisher, ServerView, WatchedProcess, WatchedServer, WatchedThread,
};
