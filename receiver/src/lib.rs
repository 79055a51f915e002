//! Receivers that ask servers and peers.
#![forbid(unsafe_code)]

pub mod heartbeat;
pub mod replication;

pub use heartbeat::HEARTBEAT;
pub use replication::REPLICATION;
