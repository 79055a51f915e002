//! What both sides of the pipeline need to know of a database server: discovery, connection, catalog
//! (file to object), process roles, replication positions, and the `database` extension.
//!
//! Engines differ in data, not in control flow: everything here drives one trait, in `engine.rs`, and each
//! engine has its own module with the same file names in it. Nothing here reads the kernel's probes or
//! makes telemetry, and nothing ever writes to a server.
#![forbid(unsafe_code)]

mod backoff;
pub mod catalog;
pub mod check;
pub mod database;
pub mod discover;
mod engine;
mod engines;
pub mod error;
pub mod extension;
mod follow;
mod identity;
mod locate;
pub mod mysql;
mod owned;
pub mod positions;
pub mod postgresql;
mod procfs;
mod url;
mod work;

pub use catalog::{CatalogReader, FileKind, Object, Resolution};
pub use check::Finding;
pub use database::Database;
pub use discover::{DiscoveredServer, discover};
pub use error::DatabaseError;
pub use extension::{DATABASE, DatabaseExtension, DatabaseSettings, database};
pub use positions::{
    ApplyWait, PrimaryPosition, PrimarySampler, ReplicaInfo, ReplicaSample, ReplicaSampler, WaitKind,
};
pub use work::{LogError, LogFormat, LogLook, LogPositions, LogReader, Stretch, Work, WorkFile};
