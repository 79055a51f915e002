//! Exporters, and the one queue, retry and timeout around each that pushes.
//!
//! An exporter makes one attempt to deliver a batch and says whether another may succeed; everything else is
//! [`sending`]'s. Nothing here knows a database, a receiver or a processor.
#![forbid(unsafe_code)]

pub mod blame_table;
pub mod debug;
pub mod otlp_grpc;
mod plain;
pub mod prometheus;
pub mod sending;
#[cfg(test)]
mod testing;
mod value;

pub use self::{
    blame_table::FACTORY as BLAME_TABLE, debug::FACTORY as DEBUG, otlp_grpc::FACTORY as OTLP_GRPC,
    plain::plain, prometheus::FACTORY as PROMETHEUS,
};

use std::fmt::Display;

use blameio_pipeline::ExportError;

/// What is wrong with a batch stays wrong.
fn permanent(error: impl Display) -> ExportError {
    ExportError::Permanent { reason: error.to_string() }
}
