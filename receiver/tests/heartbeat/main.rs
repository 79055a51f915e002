//! Delays that a heartbeat tells of real replicas: close to the truth at rest, growing while the link is cut, and right
//! through failovers, hung servers and several agents.

#![expect(
    clippy::duplicate_mod,
    clippy::panic,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking and tells what it measured by printing; both engines' clusters need ports"
)]

mod agent;
#[path = "../../../databases/tests/cluster/mod.rs"]
#[expect(dead_code, reason = "the tests of another crate use more of it")]
mod cluster;
mod mariadb;
#[path = "../../../databases/tests/mariadb_cluster/mod.rs"]
#[expect(dead_code, reason = "the tests of another crate use more of it")]
mod mariadb_cluster;
mod postgresql;
mod stopped;
mod truth;
