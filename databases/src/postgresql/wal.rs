//! What the write-ahead log asks of replay: which blocks its records refer to and which relations its commits remove.
//!
//! A pure decoder of bytes (`decoder.rs`), and who follows the files of a server with it (`follow.rs`). Nothing here
//! looks at what a record changes: only headers are read, and no data ever leaves this folder.

mod count;
mod decoder;
mod event;
mod follow;
mod lineage;
mod page;
mod record;
mod segments;
#[cfg(test)]
mod tests;

pub use decoder::Decoder;
pub use event::{Events, Lock};
pub(crate) use follow::Follower;
pub use page::Format;
pub use record::{BlockReference, Locator, Record};
