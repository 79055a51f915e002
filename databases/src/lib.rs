//! What both sides of the pipeline need to know of a database server: discovery, connection, catalog
//! (file to object), process roles, replication positions, and the `database` extension.
//!
//! Engines differ in data, not in control flow: everything here drives one trait, in `engine.rs`, and each
//! engine has its own module with the same file names in it. Nothing here reads the kernel's probes or
//! makes telemetry. Nothing ever writes to a server but who was asked to write a heartbeat, in `heartbeat.rs`.
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
pub mod heartbeat;
mod identity;
mod locate;
mod log_files;
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
pub use heartbeat::{Beat, BeatReader, BeatTable, BeatWriter, BeatsSeen, NotWritable, Written};
pub use positions::{
    ApplyWait, PrimaryPosition, PrimarySampler, ReplicaInfo, ReplicaSample, ReplicaSampler, WaitKind,
};
pub use work::{LogError, LogFormat, LogLook, LogPositions, LogReader, Stretch, Work, WorkFile, WorkOn};
