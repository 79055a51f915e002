//! Receivers that ask servers and peers.
#![forbid(unsafe_code)]

pub mod replication;

pub use replication::REPLICATION;
