//! Processors: files to objects, and lag to seconds owed.
//!
//! Both work only on what arrives over the pipeline and on a catalog that they ask without waiting, so that
//! recorded batches drive them in tests.
#![forbid(unsafe_code)]

pub mod db_resolver;
pub mod lag_attribution;

pub use db_resolver::DB_RESOLVER;
pub use lag_attribution::LAG_ATTRIBUTION;

use blameio_config::{Diagnostics, Path, Pipeline};

/// Warns of an order of processors in which they cannot do their work: attribution needs names.
pub fn check_order(pipeline: &Pipeline, found: &mut Diagnostics) {
    let position = |kind: &str| pipeline.processors.iter().position(|reference| reference.id.kind() == kind);
    let (resolver, attribution) = (position(DB_RESOLVER.kind), position(LAG_ATTRIBUTION.kind));
    let Some(attribution) = attribution else { return };
    if resolver.is_none_or(|resolver| resolver > attribution) {
        let path =
            Path::root().key("service").key("pipelines").key(&pipeline.id.to_string()).key("processors");
        found.warn(
            &pipeline.processors[attribution].position,
            &path,
            "lag_attribution comes before db_resolver has named any file: all reads will be owed to unknown; list \
             db_resolver first",
        );
    }
}
