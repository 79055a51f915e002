//! What the relay log asks of the applier: the tables whose rows its transactions change, and in how many bytes.
//!
//! A decoder of bytes (`decoder.rs`), and who follows the files of a replica with it (`follow.rs`). Only the heads of events
//! are read: which table a number stands for, and how long the row events of it are. No value of a row is looked at.
//!
//! `mysql_common` has a parser of binary logs, which takes whole events into memory, gigabytes of one transaction too, and
//! knows nothing of the events that only MariaDB has; what is needed of both is little.

mod decoder;
mod event;
mod follow;
mod place;
#[cfg(test)]
mod tests;

pub(crate) use follow::Follower;
pub(super) use place::{Spot, Spots};
