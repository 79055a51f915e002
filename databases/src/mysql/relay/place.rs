//! Where the applier stands, as the replica told last: in its relay logs and in the logs of its source. Shared by who asks
//! the replica and who reads the relay logs.

use std::sync::{Mutex, PoisonError};

use crate::mysql::binlogs::Place;

/// One place in both logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::mysql) struct Spot {
    pub(in crate::mysql) relay: Place,
    pub(in crate::mysql) source: Place,
    /// Digits of the number in the name of a relay log.
    pub(in crate::mysql) digits: usize,
    /// Whose logs these are.
    pub(in crate::mysql) server_id: u32,
}

/// The last one.
#[derive(Debug, Default)]
pub(in crate::mysql) struct Spots(Mutex<Option<Spot>>);

impl Spots {
    pub(in crate::mysql) fn set(&self, spot: Option<Spot>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = spot;
    }

    pub(in crate::mysql) fn get(&self) -> Option<Spot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
