//! Says what the kernel could not keep, with what to do about it: once when it begins, and again while it goes on.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use blameio_config::ComponentId;

/// Between two warnings about the same loss.
const AGAIN: Duration = Duration::from_mins(10);

#[derive(Debug, Default)]
pub(super) struct Losses {
    told: HashMap<&'static str, (u64, Instant)>,
}

impl Losses {
    /// Takes the cumulative losses by reason.
    pub(super) fn tell(&mut self, receiver: &ComponentId, lost: &[(&'static str, u64)]) {
        for (reason, count) in lost.iter().filter(|(_, count)| *count > 0) {
            let due = self.told.get(reason).is_none_or(|(told, at)| count > told && at.elapsed() >= AGAIN);
            if due {
                self.told.insert(reason, (*count, Instant::now()));
                tracing::warn!(
                    %receiver, reason, count,
                    "file I/O was not counted by file, and enlarges unknown; if a map is full, raise map_size_factor"
                );
            }
        }
    }
}
