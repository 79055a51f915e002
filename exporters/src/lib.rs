//! Exporters, and the one queue, retry and timeout around each that pushes.
//!
//! An exporter makes one attempt to deliver a batch and says whether another may succeed; everything else is
//! [`sending`]'s. Nothing here knows a database, a receiver or a processor.
#![forbid(unsafe_code)]

pub mod blame_table;
pub mod debug;
pub mod prometheus;
pub mod sending;
#[cfg(test)]
mod testing;
mod value;

pub use self::{
    blame_table::FACTORY as BLAME_TABLE, debug::FACTORY as DEBUG, prometheus::FACTORY as PROMETHEUS,
};

use std::fmt::Display;

use blameio_config::{ComponentId, Decode, Diagnostics, Node, Path};
use blameio_pipeline::{ComponentError, ExportError, Exporter, Factory};

/// Every exporter, for the command's table of components.
pub const EXPORTERS: &[Factory<dyn Exporter>] = &[BLAME_TABLE, DEBUG, PROMETHEUS];

/// The settings of a component that is being made; `validate` has found nothing against them.
fn decoded<T: Decode>(node: &Node, id: &ComponentId) -> Result<T, ComponentError> {
    let mut found = Diagnostics::new();
    let settings = T::decode(node, &Path::root().key("exporters").key(&id.to_string()), &mut found);
    settings.ok_or_else(|| ComponentError::new(id, format!("cannot be set up: {found}"), "mend its settings"))
}

/// What is wrong with a batch stays wrong.
fn permanent(error: impl Display) -> ExportError {
    ExportError::Permanent { reason: error.to_string() }
}
