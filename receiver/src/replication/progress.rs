//! Bytes of log that went by, from looks at a position. Pure. A position is no such count: it begins at whatever there was
//! before, and goes back when a server restarts.

/// The count of one position.
#[derive(Debug, Default)]
pub(super) struct Progress {
    bytes: Option<u64>,
    last: Option<u64>,
}

impl Progress {
    /// Takes a look. What went by until then from a look without a position is not counted.
    pub(super) fn look(&mut self, position: Option<u64>) {
        if let Some(position) = position {
            // A position that went back is gone through again, and what goes by again is counted again.
            let more = self.last.map_or(0, |last| position.saturating_sub(last));
            self.bytes = Some(self.bytes.unwrap_or(0).saturating_add(more));
        }
        self.last = position;
    }

    /// The sum, which never falls; `None` before there was a position.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_begins_at_zero_and_never_falls_though_the_position_goes_back() {
        let mut progress = Progress::default();
        assert_eq!(progress.bytes(), None);
        let sums = [(192_670_864, 0), (192_671_000, 136), (184_549_376, 136), (184_549_476, 236)];
        for (position, bytes) in sums {
            progress.look(Some(position));
            assert_eq!(progress.bytes(), Some(bytes), "at {position}");
        }
    }

    #[test]
    fn what_went_by_while_there_was_no_position_is_not_counted() {
        let mut progress = Progress::default();
        for position in [Some(100), Some(150), None, Some(9000), Some(9001)] {
            progress.look(position);
        }
        assert_eq!(progress.bytes(), Some(51));
    }
}
