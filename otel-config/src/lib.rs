//! Collector-style configuration: YAML with positions, layering, expansion, typed decoding, errors.
//!
//! The road of a configuration: [`Sources`] are read, each document is parsed into [`Node`]s that
//! know their file, line and column, the documents are layered by the `config` crate, `${..}`
//! references are expanded, and the top level becomes a [`Configuration`]. The bodies of components
//! stay [`Node`]s: each component decodes its own with [`settings!`].
//!
//! This crate does not know which component types exist and opens no socket.
#![forbid(unsafe_code)]

mod check;
mod choices;
mod component;
mod configuration;
pub mod decode;
mod diagnostics;
mod duration;
mod endpoint;
mod expand;
mod fields;
mod layers;
mod load;
mod nearest;
mod node;
mod path;
mod position;
mod providers;
mod readers;
mod schema;
mod secret;
mod service;
mod settings;
mod telemetry;
mod yaml;

pub use component::{Component, ComponentId, InvalidId, Reference};
pub use configuration::Configuration;
pub use decode::Decode;
pub use diagnostics::{Diagnostic, Diagnostics, Severity};
pub use duration::{format_duration, parse_duration};
pub use endpoint::Endpoint;
pub use fields::{FieldDoc, Fields, Literal, default_of, key_name};
pub use load::{Loaded, Sources, load, parse};
pub use nearest::suggestion;
pub use node::{Entry, Node, NodeKind, Scalar};
pub use path::Path;
pub use position::Position;
pub use readers::MetricsReader;
pub use secret::Secret;
pub use service::{Pipeline, PipelineId, Service, Signal};
pub use telemetry::{LogLevel, MetricsLevel, Telemetry};
