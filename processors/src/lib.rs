//! Processors: files to objects, and lag to seconds owed.
//!
//! Both work only on what arrives over the pipeline and on a catalog that they ask without waiting, so that
//! recorded batches drive them in tests.
#![forbid(unsafe_code)]

pub mod db_resolver;
pub mod lag_attribution;

pub use db_resolver::DB_RESOLVER;
pub use lag_attribution::LAG_ATTRIBUTION;
