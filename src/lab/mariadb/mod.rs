//! `MariaDB` servers, and a laboratory of a primary and a replica whose lag has one known cause.

mod interventions;
mod lab;
mod server;
pub mod sql;
mod workload;

pub use interventions::RowLock;
pub use lab::{MariaLab, MariaOptions, visits};
pub use server::{MariaDb, program};
pub use workload::{MariaUpdates, MariaWorkload};
